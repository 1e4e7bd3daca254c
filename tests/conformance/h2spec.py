"""What the cases of h2spec need: frames, an HTTP/2 server in memory that answers, and what may come of a case.

`Cases` is the list of a test module, by h2spec's own names ("http2/6.5.2/1"), and knows which of them are missing.
Their wording and their bytes are ours. h2spec takes the end of a connection for any error; here the frame that says
which it was has to have come, with its code, and the end of the connection after it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import hpack
import pytest
from hpack.hpack import encode_integer

from serverd.protocol.http2 import ErrorCode
from tests.protocol.http2_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    Frame,
    frame,
    frames_of,
    settings,
)
from tests.support.applications import read_body, respond
from tests.support.wire import Wire

__all__ = [
    "BODY",
    "PSEUDO",
    "Cases",
    "Conversation",
    "Fields",
    "Sent",
    "block",
    "continuation",
    "headers",
    "priority",
    "request",
]

Fields = list[tuple[bytes, bytes]]
Sent = bytes | tuple[bytes, ...]
"""What a client sends: all at once, or in parts, each after the server has done what there was to do."""

BODY = b"hello, world"
PSEUDO: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]


def block(fields: Fields) -> bytes:
    """Return a header block of literals that changes no table."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    return bytes(encode_integer(len(text), 7)) + text


def headers(stream_id: int, fragment: bytes, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """Return a HEADERS frame."""
    return frame(HEADERS, flags, stream_id, fragment)


def continuation(stream_id: int, fragment: bytes, flags: int = END_HEADERS) -> bytes:
    """Return a CONTINUATION frame."""
    return frame(CONTINUATION, flags, stream_id, fragment)


def priority(stream_id: int, depends_on: int = 0, weight: int = 255, exclusive: bool = False) -> bytes:
    """Return a PRIORITY frame."""
    return frame(PRIORITY, 0, stream_id, (depends_on | exclusive << 31).to_bytes(4, "big") + bytes([weight]))


def request(
    stream_id: int = 1,
    method: bytes = b"GET",
    more: Fields | None = None,
    *,
    end: bool | None = None,
    without: bytes = b"",
) -> bytes:
    """Return the HEADERS frame of a request with `more` fields; it is the `end` unless a POST says otherwise."""
    end = method != b"POST" if end is None else end
    fields = [(name, method if name == b":method" else value) for name, value in PSEUDO if name != without]
    return headers(stream_id, block([*fields, *(more or [])]), END_HEADERS | (END_STREAM if end else 0))


class Cases:
    """The cases of h2spec that a module shows, each in the class of its section: `TestSection6_5_2...`."""

    def __init__(self, sections: Mapping[str, tuple[int, str]]) -> None:
        """Begin with none; `sections`: those of h2spec, each with the number of its cases and the RFC's section."""
        self.sections = sections

    def __call__(self, cases: Mapping[str, Sent]) -> pytest.MarkDecorator:
        """Have a test show these cases, each with what its client sends."""
        return pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in cases.items()])

    def check(self, module: Mapping[str, Any]) -> None:
        """Raise AssertionError unless the classes of the module show every case once, where it belongs."""
        shown = {name: list(_cases_of(value)) for name, value in module.items() if name.startswith("TestSection")}
        known = [f"{name}/{number + 1}" for name, (count, _) in self.sections.items() for number in range(count)]
        assert Counter(case for cases in shown.values() for case in cases) == Counter(known)
        for name, cases in shown.items():
            section = re.sub(r"TestSection([\d_]*\d).*", r"\1", name).replace("_", ".")
            for case in cases:
                assert f"{section}.".startswith(f"{self.sections[case.rpartition('/')[0]][1]}."), (name, case)


def _cases_of(group: type) -> Iterator[str]:
    for test in vars(group).values():
        for mark in getattr(test, "pytestmark", ()):
            if mark.args[0] == "sent":
                yield from (case.id for case in mark.args[1])


async def answering(scope: object, receive: object, send: object) -> None:
    """Answer a request when it is complete, as h2spec wants it from a server."""
    if await read_body(receive) is not None:
        await respond(send, BODY)


class Conversation(Wire):
    """One HTTP/2 connection to a server that answers every request."""

    def __init__(self, greet: bool = True) -> None:
        super().__init__(answering)
        self.decoder = hpack.Decoder()
        self.first: list[Frame] = self.say(PREFACE + settings(), frame(SETTINGS, ACK)) if greet else []

    def say(self, *sent: bytes) -> list[Frame]:
        """Let the client send; return what the server has sent since."""
        return frames_of(b"".join(self.send(part) for part in sent))

    def hear(self, sent: Sent) -> list[Frame]:
        """Let the client send what a case sends."""
        return self.say(*((sent,) if isinstance(sent, bytes) else sent))

    # What may come of a case.

    def ends_with(self, sent: Sent, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        """An error of the connection: the last frame is GOAWAY with this code, and then it ends."""
        last = self.hear(sent)[-1]
        assert (last.kind, last.stream_id) == (GOAWAY, 0)
        assert ErrorCode(last.code) is code
        assert self.closed

    def resets_with(self, sent: Sent, code: ErrorCode = ErrorCode.PROTOCOL_ERROR, stream_id: int = 1) -> None:
        """An error of the stream: RST_STREAM with this code, nothing else of the stream, and the connection goes on."""
        answers = self.hear(sent)
        [reset] = [answer for answer in answers if answer.stream_id]
        assert (reset.kind, reset.stream_id) == (RST_STREAM, stream_id)
        assert ErrorCode(reset.code) is code
        self.goes_on()

    def answers(self, sent: Sent, stream_id: int = 1) -> None:
        """The request of the stream is answered in full."""
        [head, body] = [answer for answer in self.hear(sent) if answer.stream_id]
        assert (head.kind, head.flags, head.stream_id) == (HEADERS, END_HEADERS, stream_id)
        assert (":status", "200") in self.decoder.decode(head.payload)
        assert body == Frame(DATA, END_STREAM, stream_id, BODY)
        self.goes_on()

    def says_nothing_to(self, sent: Sent) -> None:
        """What is sent has no consequence."""
        assert self.hear(sent) == []
        self.goes_on()

    def goes_on(self) -> None:
        """A PING is answered."""
        assert self.say(frame(PING, payload=b"h2spec\0\0")) == [Frame(PING, ACK, 0, b"h2spec\0\0")]
        assert not self.closed
