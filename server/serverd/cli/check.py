"""What `serverd check` finds out, as text and as a document: the rehearsal of a start, told finding by finding."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from serverd.config.certificates import called, read_certificates
from serverd.console import output_reserved
from serverd.errors import ConfigError
from serverd.generation import Certificate, Generation, Tls
from serverd.net.chains import broken_link
from serverd.net.suites import unserved
from serverd.observe.logs import escape
from serverd.supervisor.rehearsal import Finding, Rehearsal, Report
from serverd.worker.identities import make_identities

__all__ = ["describe", "document", "rehearse"]

# How every message begins that has a place: "server.toml:17: ", "/etc/serverd/apps.d/shop.toml:3: ".
_PLACE = re.compile(r"(?P<file>[^\s:][^:\n]*):(?P<line>\d+): (?P<message>.*)")
_INDENT = "    "


def rehearse(path: str, *, lifespan: bool = True) -> Report:
    """Return what a start with the configuration at `path` would meet; what applications print goes to stderr."""
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")  # of the applications: a check leaves nothing behind
    with output_reserved():
        return Rehearsal(os.path.abspath(path), _examine_tls, lifespan=lifespan).run()


def _examine_tls(generation: Generation) -> tuple[Iterable[str], Iterable[str]]:
    try:
        make_identities(generation)
    except ConfigError as error:
        return str(error).split("\n"), ()
    tables = dict.fromkeys(one.tls for one in generation.listeners if one.tls is not None)
    doubts = [_doubt_of_suites(tls, pair) for tls in tables for pair in unserved(tls)]
    pairs = [(tls, pair) for tls in tables for pair in tls.certificates]
    doubts += [_doubt_of_signatures(tls, pair) for tls, pair in pairs]
    doubts += [_doubt_of_authority(tls, pair) for tls, pair in pairs]
    return (), filter(None, doubts)


def _doubt_of_suites(tls: Tls, pair: Certificate) -> str:
    """Return that no client of TLS 1.2 can be served a certificate."""
    place = tls.source_of("ciphers")
    return (
        f'{place}: ciphers of tls.{tls.name}: none of "{tls.ciphers}" can be used with {pair.files[0]}, whose key'
        f" is of the kind {pair.key_type}: clients that speak TLS 1.2 at most are refused (expected other suites, or"
        ' min_version = "1.3" and none)'
    )


def _doubt_of_signatures(tls: Tls, pair: Certificate) -> str:
    """Return that a certificate has not been signed by the one behind it; "" if each has, or if the loader has said so.

    The loader sees it by their names.
    """
    number = broken_link(pair)
    if not number:
        return ""
    one, other = read_certificates(pair.cert)[1][number - 1 : number + 1]
    if one.issuer != other.subject:
        return ""
    return (
        f"{pair.source}: certificate of tls.{tls.name}: {pair.files[0]} has as certificate {number + 1}"
        f' "{other.called}", which has not signed certificate {number} "{one.called}", although it has the name of its'
        " issuer: clients refuse it (expected the authority's present certificate)"
    )


def _doubt_of_authority(tls: Tls, pair: Certificate) -> str:
    """Return that no authority stands for a certificate, or that the way to it seems to be missing; "" if neither.

    No start warns of it: behind a proxy, or to clients that know it, it may be meant.
    """
    first, *others = read_certificates(pair.cert)[1]
    if first.issuer == first.subject:
        told = (
            "is signed by itself: clients refuse it unless they have been told to trust it (expected one that an"
            " authority has signed, as by `serverd dev-cert`)"
        )
    elif first.tells_issuer and not others:
        # What a public authority issues says where its issuer's is, which is not the one that clients have.
        told = (
            f'holds no certificate of "{called(first.issuer) or "nameless"}", who has signed it: clients refuse it'
            " unless they have that (expected the whole chain, which certbot calls fullchain.pem)"
        )
    else:
        return ""
    return f"{pair.source}: certificate of tls.{tls.name}: {pair.files[0]} {told}"


def describe(report: Report, name: str) -> str:
    """Return the report for people; `name` is what they call the configuration."""
    lines = report.invalid.split("\n") if report.invalid else []
    lines += _lines(report.problems, "")
    lines += _lines(report.warnings, "warning: ")
    lines += _lines(report.notes, "note: ")
    if not report.invalid:
        lines.append(f"{name}: {_verdict(report)}")
    return "".join(f"{escape(line)}\n" for line in lines)


def _lines(findings: Iterable[Finding], severity: str) -> Iterator[str]:
    for finding in findings:
        placed = _PLACE.fullmatch(finding.text)
        if placed is None:
            yield severity + finding.text
        else:
            yield f"{placed['file']}:{placed['line']}: {severity}{placed['message']}"
        yield from (_INDENT + line for line in finding.detail.split("\n") if finding.detail)


def _verdict(report: Report) -> str:
    counted = [_count(len(report.problems), "problem")] if report.problems else []
    counted += [_count(len(report.warnings), "warning")] if report.warnings else []
    if report.problems:
        return f"{', '.join(counted)}: a server would not start with it"
    assert report.generation is not None  # else it is not valid
    what = ", ".join(_count(number, noun) for noun, number in _sizes(report.generation).items())
    return f"good: {', '.join([what, *counted])}"


def _sizes(generation: Generation) -> dict[str, int]:
    return {"listener": len(generation.listeners), "app": len(generation.apps), "mount": len(generation.mounts)}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def document(report: Report, path: str) -> dict[str, Any]:
    """Return the report for programs, as JSON takes it."""
    findings = [
        *(_item("problem", finding) for finding in [*_parse(report.invalid), *report.problems]),
        *(_item("warning", finding) for finding in report.warnings),
        *(_item("note", finding) for finding in report.notes),
    ]
    return {"ok": report.is_good, "source": os.path.abspath(path), "findings": findings}


def _item(severity: str, finding: Finding) -> dict[str, Any]:
    placed = _PLACE.fullmatch(finding.text)
    return {
        "severity": severity,
        "file": placed["file"] if placed else None,
        "line": int(placed["line"]) if placed else None,
        "message": placed["message"] if placed else finding.text,
        "detail": finding.detail or None,
    }


def _parse(report: str) -> Iterator[Finding]:
    """Yield the findings of a loader's report, without the lines that it quotes and without its last one, the count."""
    lines = report.split("\n")
    for line in lines[: -1 if len(lines) > 1 else None]:
        if line and not line.startswith(" "):
            yield Finding(line)
