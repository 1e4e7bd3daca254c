"""What one request costs, counted and not timed: calls and memory on the path through a connection in memory.

    python -m tests.support.counting           # print the figures of this interpreter
    python -m tests.support.counting --renew   # and write them to tests/counts.json (make count)

`tests/test_counts.py` holds them against that file. Counted are the calls into and out of serverd's code (`python`: of
functions written in Python; `c`: of those in C, as far as the interpreter tells), and the bytes that are held at the
most while a request is answered, the client's in memory included. All are the same in every run of one version of
Python. A process of its own counts: what others have left in caches would count, too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any

import serverd
from serverd.asgi import builtin
from serverd.asgi.router import Route, Router
from serverd.asgi.scope import Endpoint
from serverd.connection import burst, http1_stream, http2
from serverd.generation import AccessLog as Settings
from serverd.observe.access import AccessLog, AccessObserver
from serverd.observe.access_fields import Place
from tests.support.frames import TEXT, frame
from tests.support.http2 import Http2Wire
from tests.support.wire import Wire, handshake

__all__ = ["FIGURES", "VERSION", "Figures", "deviations"]

FIGURES = Path(__file__).parents[1] / "counts.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

CODE = str(Path(str(serverd.__file__)).parent)
# By what a figure may differ from the one in the file. Calls are exact, so less than one. So are bytes with the same
# libraries; the smallest list, tuple or object with an attribute has more than these.
CALLS_TOLERANCE = 0.9
BYTES_TOLERANCE = 32

ROUNDS = 20
WARM_UP = 5  # requests after which every cache has what it will have

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}
PART = {"type": "http.response.body", "body": b"x" * 1024, "more_body": True}

# A body in small chunks, as of who writes one line after the other.
CHUNKS = b"a\r\n0123456789\r\n" * 100 + b"0\r\n\r\n"

# The fields of a browser's request for a page, as in benchmarks/wrk_browser.lua.
BROWSER = [
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.7,de;q=0.3"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"upgrade-insecure-requests", b"1"),
    (b"sec-fetch-dest", b"document"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-site", b"same-origin"),
    (b"priority", b"u=0, i"),
]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once, in parts, or behind the body; or echo."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["path"] == "/parts":
        await send({**START, "headers": []})
        for _ in range(50):
            await send(PART)
        await send({**BODY, "body": b""})
        return
    if scope["method"] == "POST":
        while (await receive())["more_body"]:
            pass
    await send(START)
    await send(BODY)


def _differing(number: int) -> list[tuple[bytes, bytes]]:
    """Return the fields of a browser that walks through a site."""
    page = b"http://localhost/shop/items?page=%05d" % number
    return [*BROWSER, (b"referer", page), (b"cookie", b"session=0f8fad5bd9cb469f%05d; theme=dark" % number)]


def _head(path: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b: %b\r\n" % (name.title(), value) for name, value in fields]
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path, b"".join(lines))


def _post(framing: bytes, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n%b" % (framing, body)


Figures = dict[str, dict[str, float]]
"""Of each kind of request: what is counted, and how much of it there is."""

# Each takes the number of a request, and is asked for one after the other.
Perform = Callable[[int], None]


def _mounted(count: int) -> Router:
    """Return the routes of a listener with so many mounts."""
    ours = Endpoint(builtin.not_found, "serverd")
    paths = ["/", *(f"/services/service-{number}" for number in range(1, count))]
    return Router([Route((), path, Endpoint(application, "test")) for path in paths], ours, ours, ours)


def _http1(make: Callable[[int], bytes], mounts: int = 1, end: bytes = b"\r\n\r\nok") -> tuple[Wire, Perform]:
    wire = Wire(_mounted(mounts))
    blocks = [make(number) for number in range(WARM_UP + 2 * ROUNDS)]

    def perform(number: int) -> None:
        assert wire.send(blocks[number]).endswith(end)

    return wire, perform


def _connecting() -> tuple[Wire, Perform]:
    """Return a connection for each request, which asks for no more."""
    wire = Wire(_mounted(1))
    block = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    def perform(_: int) -> None:
        wire.connect()
        assert wire.send(block).endswith(b"\r\n\r\nok")
        assert wire.transport.closed

    return wire, perform


def _logged(kind: str) -> tuple[Wire, Perform]:
    """Return a browser's request that comes again, of which a line is written to nowhere."""
    log = AccessLog(Settings(format=kind), lambda function: None)
    log.reopen(os.open(os.devnull, os.O_WRONLY | os.O_APPEND))
    log._clock.iso(perf_counter())
    log._clock.end = float("inf")  # else each millisecond would have its calls
    wire = Wire(Endpoint(application, "test", observer=AccessObserver(log, Place("web", "/", "test", 0))))
    block = _head(b"/shop", _differing(0))

    def perform(_: int) -> None:
        assert wire.send(block).endswith(b"\r\n\r\nok")
        log.make_lines()  # of a busy worker, for many requests at once

    return wire, perform


def _http2(make: Callable[[int], tuple[str, list[tuple[bytes, bytes]]]]) -> tuple[Wire, Perform]:
    wire = Http2Wire(application)

    def perform(number: int) -> None:
        path, fields = make(number)
        assert wire.request("GET", path, fields).body == b"ok"

    return wire, perform


def _websocket() -> tuple[Wire, Perform]:
    wire = Wire(application)
    message = frame(TEXT, b"x" * 64)
    wire.loop.call_soon(wire.transport.deliver, handshake())  # a session asks for the loop that runs
    wire.settle()
    assert wire.received().startswith(b"HTTP/1.1 101 ")

    def perform(_: int) -> None:
        wire.loop.call_soon(wire.transport.deliver, message)
        wire.settle()
        assert wire.received() == b"\x81\x40" + b"x" * 64

    return wire, perform


KINDS: dict[str, Callable[[], tuple[Wire, Perform]]] = {
    "HTTP/1 GET": lambda: _http1(lambda _: _head(b"/", [])),
    "HTTP/1 GET, browser fields, repeated": lambda: _http1(lambda _: _head(b"/shop", _differing(0))),
    "HTTP/1 GET, browser fields, another path": lambda: _http1(lambda n: _head(b"/shop/%05d" % n, _differing(0))),
    "HTTP/1 GET, browser fields, all differing": lambda: _http1(lambda n: _head(b"/shop/%05d" % n, _differing(n))),
    "HTTP/1 GET, 1,000 mounts": lambda: _http1(lambda _: _head(b"/", []), mounts=1000),
    "HTTP/1 GET, browser fields, repeated, a line in JSON": lambda: _logged("json"),
    "HTTP/1 GET, browser fields, repeated, a line as nginx has it": lambda: _logged("combined"),
    "HTTP/1 GET, 1,000 mounts in turn": lambda: _http1(
        lambda n: _head(b"/services/service-%d/x" % (1 + n * 19), []), mounts=1000
    ),
    "HTTP/1 GET, 16 pipelined": lambda: _http1(lambda _: _head(b"/", []) * 16),
    "HTTP/1 GET, a connection of its own": _connecting,
    "HTTP/1 GET, 50 parts": lambda: _http1(lambda _: _head(b"/parts", []), end=b"\r\n0\r\n\r\n"),
    "HTTP/1 POST, 64 KB": lambda: _http1(lambda _: _post(b"Content-Length: 65536", bytes(65536))),
    "HTTP/1 POST, 100 chunks": lambda: _http1(lambda _: _post(b"Transfer-Encoding: chunked", CHUNKS)),
    "HTTP/2 GET, browser fields, repeated": lambda: _http2(lambda _: ("/shop", _differing(0))),
    "HTTP/2 GET, browser fields, all differing": lambda: _http2(lambda n: (f"/shop/{n:05d}", _differing(n))),
    "WebSocket echo, 64 B": _websocket,
}


class Counter:
    """Counts calls into and out of serverd's code, as the interpreter's profiler."""

    def __init__(self) -> None:
        self.python = 0
        self.c = 0
        self._ours: dict[str, bool] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Take an event of `sys.setprofile`."""
        if event == "call":
            caller = frame.f_back
            self.python += self._is_ours(frame) or (caller is not None and self._is_ours(caller))
        elif event == "c_call":
            self.c += self._is_ours(frame)

    def _is_ours(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        known = self._ours.get(name)
        if known is None:
            known = self._ours[name] = name.startswith(CODE)
        return known


def count(kind: str) -> dict[str, float]:
    """Return the figures of one request of this kind."""
    http2.TURN = burst.GAP = http1_stream.ANSWER_GAP = float("inf")  # else the clock would decide of some calls
    wire, perform = KINDS[kind]()
    with wire:
        for number in range(WARM_UP):
            perform(number)
        gc.collect()
        gc.freeze()
        gc.disable()
        counter = Counter()
        sys.setprofile(counter)
        for number in range(WARM_UP, WARM_UP + ROUNDS):
            perform(number)
        sys.setprofile(None)
        peaks = [_peak(perform, number) for number in range(WARM_UP + ROUNDS, WARM_UP + 2 * ROUNDS)]
        gc.enable()
    return {
        "python": round(counter.python / ROUNDS, 2),
        "c": round(counter.c / ROUNDS, 2),
        "bytes": sorted(peaks)[ROUNDS // 2],
    }


def _peak(perform: Perform, number: int) -> int:
    """Return how many bytes the request has held at the most."""
    gc.collect()  # and with it the interpreter's lists of freed tuples and the like, of which no memory would be taken
    tracemalloc.start()
    perform(number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def count_all() -> Figures:
    """Return the figures of this interpreter."""
    return {kind: count(kind) for kind in KINDS}


def deviations(found: Figures, expected: Figures) -> list[str]:
    """Return a sentence for each figure that is not as expected, be it worse or better."""
    sentences = []
    for kind in sorted(found.keys() | expected.keys()):
        ours, theirs = found.get(kind, {}), expected.get(kind, {})
        for name in sorted(ours.keys() | theirs.keys()):
            now, before = ours.get(name), theirs.get(name)
            if now is None or before is None:
                sentences.append(f"{kind}: {name} is {now}, and {before} in the file")
            elif abs(now - before) > (BYTES_TOLERANCE if name == "bytes" else CALLS_TOLERANCE):
                change = "more" if now > before else "less"
                what = "bytes held" if name == "bytes" else f"{name} calls"
                sentences.append(
                    f"{kind}: {now:g} {what}, {abs(now - before):g} {change} than the {before:g} in the file"
                )
    return sentences


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Count what a request costs.")
    parser.add_argument("--renew", action="store_true", help=f"write the figures of this interpreter to {FIGURES.name}")
    options = parser.parse_args()
    figures = count_all()
    if options.renew:
        known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        known[VERSION] = figures
        FIGURES.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    print(json.dumps(figures, indent=2))
