"""The status page: from an overview to HTML, and to the events that keep the page up to date.

One file, `status.html`, has the layout, the style and the script; its moving part is made here, so that the page can
be read without the script and everything that is shown is escaped in one place. Nothing comes from elsewhere, which
the policy enforces: style and script run because they are these.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import time
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from serverd.observe.bundle import chosen
from serverd.observe.counters import BOUNDS

__all__ = ["POLICY", "make_event", "render"]

Overview = dict[str, Any]

# Of a status; what has none, because the client had left, is in the metrics.
_KINDS = ("2xx", "3xx", "4xx", "5xx")

_PAGE = (
    resources.files(__package__).joinpath("status.html").read_text("utf-8").replace("{{bounds}}", json.dumps(BOUNDS))
)


def _hash(tag: str) -> str:
    """Return the source expression of what is between the tags (CSP level 3, §2.3.1)."""
    found = re.search(f"<{tag}>(.*?)</{tag}>", _PAGE, re.DOTALL)
    assert found is not None  # it is ours
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_hash('style')}; script-src {_hash('script')}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page."""


def render(overview: Overview, events: str) -> str:
    """Return the page; `events` is the path of its events."""
    # In one pass: what is put in is not looked at again.
    parts = {"{{events}}": html.escape(events), "{{main}}": _main(overview)}
    return re.sub(r"\{\{\w+\}\}", lambda found: parts[found[0]], _PAGE)


def make_event(overview: Overview) -> dict[str, Any]:
    """Return what the page is told: its moving part, and the numbers that it keeps to draw how they went."""
    apps = {one["name"]: {"requests": one["requests"], "buckets": one["buckets"]} for one in overview["apps"]}
    return {"html": _main(overview), "sample": {"uptime": overview["uptime"], "apps": apps}}


def _main(overview: Overview) -> str:
    parts = [
        _header(overview),
        _figures(overview),
        "<h2>Applications</h2>",
        f'<div class="apps">{"".join(_app(one, overview["uptime"]) for one in overview["apps"] if one["name"])}</div>',
        *(part for one in overview["apps"] if not one["name"] for part in _answers(one["mounts"])),
        "<h2>Workers</h2>",
        _workers(overview["workers"]),
        "<h2>Listeners</h2>",
        _listeners(overview["listeners"]),
    ]
    if overview["certificates"]:
        parts += ["<h2>Certificates</h2>", _certificates(overview["certificates"])]
    if overview["authorities"]:
        parts += ["<h2>Authorities of clients</h2>", _authorities(overview["authorities"])]
    return "\n".join(parts)


def _header(overview: Overview) -> str:
    ready = overview["ready"]
    mark = _pill("ready" if ready else f"not ready: {overview['phase']}", "good" if ready else "warn")
    last = overview["last_reload"]
    if last is not None and not last["ok"]:
        mark += _pill(f"the last reload was rolled back ({_moment(last['at'])})", "bad")
    about = f"version {overview['version']}, up {_duration(overview['uptime'])}"
    return f'<header><h1>serverd</h1>{mark}<span class="about">{_text(about)}</span></header>'


def _figures(overview: Overview) -> str:
    apps, reloads = overview["apps"], overview["reloads"]
    requests, errors = (sum(one[key] for one in apps) for key in ("requests", "errors"))
    open_ones = sum(sum(one["open"].values()) for one in overview["listeners"])
    serving = sum(one["state"] == "ready" and one["current"] for one in overview["workers"])
    average = requests / max(overview["uptime"], 1.0)
    rolled_back = f", {reloads['rolled_back']} rolled back" if reloads["rolled_back"] else ""
    figures = [
        ("rate", "Requests a second", f"{average:.1f}", f"{_count(requests)} in all"),
        ("flight", "In flight", _count(sum(one["in_flight"] for one in apps)), "requests"),
        ("errors", "Server errors", _count(errors), f"{100 * errors / max(requests, 1):.2g} % of the requests"),
        ("open", "Connections", _count(open_ones), "open"),
        ("serving", "Workers serving", _count(serving), f"{_count(overview['restarts'])} restarted"),
        (
            "generation",
            "Generation",
            _count(overview["generation"] or 0),
            f"{reloads['ok']} {'reload' if reloads['ok'] == 1 else 'reloads'}{rolled_back}",
        ),
    ]
    cells = (
        f'<div><dt>{name}</dt><dd><span id="{key}">{value}</span> <small>{_text(note)}</small></dd></div>'
        for key, name, value, note in figures
    )
    return f'<dl class="panel figures">{"".join(cells)}</dl>'


def _app(app: dict[str, Any], uptime: float) -> str:
    state = app["state"]
    mark = _pill(state, "good" if state == "up" else "bad") if state else ""
    title = f"<h3>{_text(app['name'])}</h3>"
    data = _text(app["name"])
    latency = app["latency"]
    rate = app["requests"] / max(uptime, 1.0)
    charts = (
        f'<figure data-app="{data}" data-kind="rate"><figcaption><b>{rate:.1f}/s</b> <span>requests on average</span>'
        f"</figcaption><svg></svg></figure>"
        f'<figure data-app="{data}" data-kind="latency"><figcaption><b>{_seconds(latency["p95"])}</b> '
        f"<span>95 % within, overall</span></figcaption>{_histogram(app['buckets'])}</figure>"
    )
    facts = [("median", _seconds(latency["p50"])), ("99 %", _seconds(latency["p99"])), ("sent", _size(app["sent"]))]
    facts += [("received", _size(app["received"]))] if app["received"] else []
    facts += [("in flight", _count(app["in_flight"]))] if app["in_flight"] else []
    if app["sessions"]:
        facts += [("WebSockets", f"{_count(app['sessions_open'])} of {_count(app['sessions'])} open")]
        facts += [("messages", f"{_count(app['messages_received'])} in, {_count(app['messages_sent'])} out")]
    told = "".join(f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    return (
        f'<section class="panel app"><div class="title">{title}{mark}</div><div class="charts">{charts}</div>'
        f'<dl class="facts">{told}</dl>{_mounts(app["mounts"])}</section>'
    )


def _mounts(mounts: Sequence[dict[str, Any]]) -> str:
    kinds = ("2xx", "3xx", "4xx", "5xx")
    rows = [
        [
            f"<code>{_text(one['mount'] or 'no mount')}</code>",
            *(_amount(one["requests"].get(kind, 0)) for kind in kinds),
        ]
        for one in mounts
    ]
    if not rows:
        return '<div class="none">no request yet</div>'
    return f'<table class="mounts">{_rows(("mount", *_KINDS), rows, range(1, 5))}</table>'


def _answers(mounts: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield the part about what the server answers by itself."""
    yield "<h2>Answered by the server itself</h2>"
    rows = [
        [
            f"<code>{_text(one['mount'])}</code>" if one["mount"] else "no mount",
            *(_amount(one["requests"].get(kind, 0)) for kind in _KINDS),
            _amount(one["in_flight"]),
            _size(one["sent"]),
        ]
        for one in mounts
    ]
    yield _panel(("mount", *_KINDS, "in flight", "sent"), rows, range(1, 7))


def _workers(workers: Iterable[dict[str, Any]]) -> str:
    names = ("slot", "pid", "generation", "state", "age", "requests", "in flight", "connections", "memory", "loop lag")
    every = list(workers)
    most = max((one["rss"] for one in every), default=0)
    rows = [
        [
            *(_count(one[key]) for key in ("slot",)),
            f"<code>{_text(one['pid'])}</code>",
            _count(one["generation"]),
            _pill(one["state"], "good" if one["state"] == "ready" else "warn"),
            _duration(one["age"]),
            *(_count(one[key]) for key in ("requests", "in_flight", "connections")),
            _size(one["rss"]) + _meter(one["rss"], most),
            _seconds(one["lag"]),
        ]
        for one in every
    ]
    return _panel(names, rows, (*range(5, 10),))


def _listeners(listeners: Iterable[dict[str, Any]]) -> str:
    names = (
        "listener",
        "reached at",
        "HTTP/1.1",
        "HTTP/2",
        "WebSocket",
        "accepted",
        "queue",
        "TLS handshakes",
        "refused",
    )
    rows = []
    for one in listeners:
        opened = one["open"]
        tls = f"{_count(one['handshakes'])} <small>{_count(one['handshakes_failed'])} failed</small>"
        refused = ", ".join(f"{status}: {_count(number)}" for status, number in one["refusals"].items())
        rows.append(
            [
                f"<b>{_text(one['name'])}</b>",
                "<br>".join(f"<code>{_text(url)}</code>" for url in one["urls"]),
                *(_amount(opened[protocol]) for protocol in ("http/1.1", "h2", "websocket")),
                _amount(one["connections"]),
                _NONE if one["waiting"] is None else _amount(one["waiting"]),
                tls if any(url.startswith("https:") for url in one["urls"]) else _NONE,
                _text(refused) or _NONE,
            ]
        )
    return _panel(names, rows, range(2, 9))


def _certificates(certificates: Iterable[dict[str, Any]]) -> str:
    rows = [
        [
            _text(one["tls"]),
            _text(", ".join(one["names"]) or "-"),
            f"<code>{_text(one['serial'])}</code>",
            _text(_moment(one["not_after"])) + _end_of_chain(one.get("chain_ends")),
            _pill(one["age"], "warn") if one["age"] else _pill("valid", "good"),
            _pill("not renewed", "warn") if one.get("kept") else "",
        ]
        for one in certificates
    ]
    return _panel(("table", "names", "serial", "valid until", "", ""), rows, ())


def _end_of_chain(first: dict[str, Any] | None) -> str:
    """Return what is behind the date of a certificate whose chain ends before it."""
    if first is None:
        return ""
    return f"<br><small>{_text(first['name'])} in its chain: {_text(_moment(first['until']))}</small>"


def _authorities(authorities: Iterable[dict[str, Any]]) -> str:
    rows = [
        [
            _text(one["tls"]),
            _text(one["name"]),
            _text("revoked certificates" if one["key"] == "client_crl" else "certificate"),
            _text(_moment(one["since"])),
            _text(_moment(one["until"])) if one["until"] else _NONE,
            _pill(note, "warn") if one["age"] else f"{_pill('valid', 'good')} {_text(note)}",
        ]
        for one, note in chosen(authorities)
    ]
    return _panel(("table", "authority", "what", "issued", "valid until", ""), rows, ())


# Pieces.

_NONE = '<span class="none">–</span>'  # noqa: RUF001 - a dash


def _text(value: object) -> str:
    return html.escape(str(value))


def _pill(text: str, kind: str) -> str:
    return f'<span class="pill {kind}">{_text(text)}</span>'


def _panel(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int]) -> str:
    return f'<div class="panel tables"><table>{_rows(names, rows, numbers)}</table></div>'


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int]) -> str:
    """Return head and body of a table whose cells are HTML; the columns `numbers` stand to the right."""
    right = set(numbers)

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = (' class="number"' if place in right else "" for place in range(len(cells)))
        return (
            "<tr>" + "".join(f"<{tag}{mark}>{cell}</{tag}>" for mark, cell in zip(marks, cells, strict=True)) + "</tr>"
        )

    return line("th", names) + "".join(line("td", cells) for cells in rows)


def _histogram(buckets: Sequence[int]) -> str:
    """Return how many requests took how long, a bar for each bound; drawn by attributes, as the policy wants it."""
    most = max(buckets) or 1
    width = 120 / len(buckets)
    bars = (
        f'<rect{"" if count else " class=rest"} x="{number * width:.1f}" width="{width - 1:.1f}"'
        f' y="{42 - max(40 * count / most, 1):.1f}" height="{max(40 * count / most, 1):.1f}"/>'
        for number, count in enumerate(buckets)
    )
    return f'<svg viewBox="0 0 120 44" preserveAspectRatio="none">{"".join(bars)}</svg>'


def _meter(value: float, most: float) -> str:
    share = 100 * value / most if most else 0
    return (
        '<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none"><rect class="rest" width="100" height="6"/>'
        f'<rect width="{share:.0f}" height="6"/></svg>'
    )


def _count(number: float) -> str:
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _amount(number: float) -> str:
    return _count(number) if number else _NONE


def _size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:,.0f} TiB"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _moment(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return "-"
