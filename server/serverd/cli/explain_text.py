"""The answers of `explain` as text and as a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from serverd.cli.explain import Answer, Candidate
from serverd.cli.question import Question
from serverd.generation import Address, AddressKind, AppTarget, Generation, Listener, Mount
from serverd.observe.logs import escape
from serverd.supervisor.wording import describe_target, target_of

__all__ = ["describe_answers", "describe_unreached", "document", "scope_of"]

_SCOPE = ("type", "method", "scheme", "root_path", "path", "raw_path", "query_string", "client")
_LABEL_WIDTH = 13


def describe_answers(answers: Iterable[Answer], generation: Generation) -> str:
    """Return the answers for people, with an empty line between two."""
    return "\n".join("".join(f"{escape(line)}\n" for line in _lines(answer, generation)) for answer in answers)


def _lines(answer: Answer, generation: Generation) -> Iterator[str]:
    listener = answer.listener
    yield _line("listener", f"{listener.name} ({listener.source}), {_place(listener, answer.address)}")
    if answer.is_assumed:
        yield _line("", f"its port is known to a running server only, and taken to be {answer.address.port}")
    if listener.proxy_protocol:
        yield _line("", "every connection has to begin with a PROXY header")
    if listener.tls is not None:
        yield from _certificates(answer)
    if answer.reason:
        yield _line("answer", f"{_status(answer.status)}: {answer.reason}")
        return
    if answer.mount is None:
        yield _line("mount", "none")
        if answer.nearest is not None:
            yield _line("nearest", _candidate(answer.nearest))
    else:
        yield _line("mount", _mount(answer.mount))
        for candidate in answer.beaten:
            yield _line("before", _candidate(candidate))
    if answer.status is not None:
        yield _line("answer", _status(answer.status) + (f", location {answer.location}" if answer.location else ""))
    elif answer.mount is not None and isinstance(answer.mount.target, AppTarget):
        yield from _of_app(answer, generation)


def _of_app(answer: Answer, generation: Generation) -> Iterator[str]:
    assert answer.mount is not None  # an application answers
    assert isinstance(answer.mount.target, AppTarget)
    name = answer.mount.target.app
    app = next(one for one in generation.apps if one.name == name)
    yield _line("app", f"{app.name} ({app.source}), {app.target} in {app.directory}")
    scope = scope_of(answer)
    for key in _SCOPE:
        if key in scope:
            yield _line("scope" if key == _SCOPE[0] else "", f"{key:<12} {_value(scope[key])}")


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL_WIDTH}}{text}"


def _place(listener: Listener, address: Address) -> str:
    return address.text + (" with TLS" if listener.tls is not None else "")


def _certificates(answer: Answer) -> Iterator[str]:
    label = "certificate"
    if not answer.certificates:
        yield _line(label, "none that can be told")
    for shown in answer.certificates:
        misfit = "" if shown.fits else "; not for this host: clients refuse it"
        whom = f", to {shown.whom}" if len(answer.certificates) > 1 else ""
        yield _line(label, f"{shown.source}, for {_names(shown.names)}{whom}{misfit}")
        label = ""
    if answer.listener.tls is not None and len(answer.listener.tls.certificates) > 1 and answer.certificates:
        yield _line("", f"because {answer.certificates[0].why}")
    for passed in answer.passed:
        yield _line("", f"not {passed.source}, for {_names(passed.names)}: {passed.why}")


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"


def _mount(mount: Mount) -> str:
    hosts = ", ".join(mount.hosts) or "any host"
    return f"{mount.path} for {hosts} ({mount.source}): {describe_target(mount)}"


def _candidate(candidate: Candidate) -> str:
    return f"{_mount(candidate.mount)}; {candidate.why}"


def _status(status: int | None) -> str:
    assert status is not None  # the server answers
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _value(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return "unknown" if value is None else str(value)


def describe_unreached(question: Question, generation: Generation) -> str:
    """Return that no listener is where the URL leads, and where they are."""
    lines = [f'no listener is where "{question.url}" leads, there are:']
    for listener in generation.listeners:
        for address in listener.addresses:
            is_chosen = address.kind is AddressKind.TCP and not address.port
            port = ", whose port is chosen at the start" if is_chosen else ""
            lines.append(f"  {listener.name} ({listener.source}), {_place(listener, address)}{port}")
    lines.append("behind a proxy, name the one that it asks: --listener NAME")
    return "".join(f"{escape(line)}\n" for line in lines)


def document(question: Question, answers: Iterable[Answer]) -> dict[str, Any]:
    """Return everything for programs, as JSON takes it."""
    return {"url": question.url, "answers": [_document(answer) for answer in answers]}


def _document(answer: Answer) -> dict[str, Any]:
    shown = [
        {"source": one.source, "names": list(one.names), "fits": one.fits, "whom": one.whom, "why": one.why}
        for one in answer.certificates
    ]
    return {
        "served": answer.is_served,
        "listener": answer.listener.name,
        "address": answer.address.text,
        "assumed": answer.is_assumed,
        "certificate": shown[0] if shown else None,
        "more_certificates": shown[1:],
        "passed_certificates": [
            {"source": one.source, "names": list(one.names), "why": one.why} for one in answer.passed
        ],
        "mount": None if answer.mount is None else _mount_document(answer.mount),
        "before": [_mount_document(one.mount) | {"why": one.why} for one in answer.beaten],
        "nearest": None
        if answer.nearest is None
        else _mount_document(answer.nearest.mount) | {"why": answer.nearest.why},
        "scope": scope_of(answer) or None,
        "status": answer.status,
        "location": answer.location or None,
        "reason": answer.reason or None,
    }


def _mount_document(mount: Mount) -> dict[str, Any]:
    return {"path": mount.path, "hosts": list(mount.hosts), "target": target_of(mount), "source": mount.source}


def scope_of(answer: Answer) -> dict[str, Any]:
    """Return what of the scope depends on listener, mount and URL, as text."""
    found: dict[str, Any] = {}
    for key in _SCOPE:
        if key in answer.scope:
            value = answer.scope[key]
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            found[key] = value[0] if key == "client" and value is not None else value
    return found
