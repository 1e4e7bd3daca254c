"""Whatever happens while a response leaves, and whenever: it is whole or reset, and the connection counts right.

The client is the `h2` library, which takes no frame that may not come. A response is a script of messages; between any
two of them something happens to its stream or its connection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from serverd.generation import Limits
from tests.support.fuzzing import examples
from tests.support.http2 import ManualWire

SMALL, LARGE = b"s" * 100, b"l" * 200_000
TRAILER = (b"x-check", b"1")


class Script(NamedTuple):
    """What an application sends."""

    messages: list[dict[str, Any]]
    method: str = "POST"

    @property
    def body(self) -> bytes:
        return b"" if self.method == "HEAD" else b"".join(message.get("body", b"") for message in self.messages)

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        return [TRAILER] if self.messages[0].get("trailers") else []


def start(length: int | None = None, **more: Any) -> dict[str, Any]:
    fields = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": fields, **more}


def part(data: bytes = b"", more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


TRAILERS = {"type": "http.response.trailers", "headers": [TRAILER]}

SCRIPTS = {
    "whole": Script([start(len(SMALL)), part(SMALL, False)]),
    "whole, of no length": Script([start(0), part(b"", False)]),
    "whole, for HEAD": Script([start(len(SMALL)), part(SMALL, False)], "HEAD"),
    "whole, larger than the window": Script([start(len(LARGE)), part(LARGE, False)]),
    "in parts": Script([start(), part(SMALL), part(SMALL), part(SMALL, False)]),
    "in parts, for HEAD": Script([start(), part(SMALL), part(b"", False)], "HEAD"),
    "in parts, larger than the window": Script([start(), part(LARGE), part(SMALL), part(LARGE, False)]),
    "with trailers": Script([start(trailers=True), part(SMALL), part(b"", False), TRAILERS]),
    "with trailers behind what waits": Script([start(trailers=True), part(LARGE, False), TRAILERS]),
}


class Scene:
    """One response, and the client that waits for it."""

    def __init__(self, script: Script, upload: bool, reads: bool) -> None:
        """Ask; with `upload` the request goes on, and only a client that `reads` opens its windows."""
        self.script = script
        self.wire = ManualWire(Limits(body_size=1000))
        self.wire.reads = reads
        self.answer = self.wire.request(script.method, end=not upload)
        self.call = self.wire.call
        self.sending = self.wire.loop.create_task(self._respond())
        self.steps: list[Any] = []
        self.spoiled = False  # the response need not be whole
        self.lost = False  # the connection is gone
        self.given_up = False  # the client has reset the stream
        self.uploads = upload

    async def _respond(self) -> None:
        for message in self.script.messages:
            step = self.wire.loop.create_future()
            self.steps.append(step)
            await step
            await self.call.send(message)

    def advance(self) -> None:
        """Let the application send its next message, if it does not wait for the client."""
        self.wire.settle()
        if self.steps and not self.steps[-1].done():
            self.steps[-1].set_result(None)
        self.tell()

    def tell(self) -> None:
        """Carry what both have to say."""
        if self.lost:
            self.wire.settle()
        else:
            self.wire.exchange()

    # What may happen.

    def upload(self) -> None:
        if self.uploads and self.is_open:
            self.wire.upload(self.answer, b"u" * 10, end=False)

    def end_upload(self) -> None:
        if self.uploads and self.is_open:
            self.uploads = False
            self.wire.upload(self.answer, b"u" * 10)

    def upload_too_much(self) -> None:
        """Send more than limits.body_size: answered 413, or reset when the response has begun and is not complete."""
        if self.uploads and self.is_open:
            self.spoiled = self.spoiled or not self.is_complete
            self.wire.upload(self.answer, b"u" * 1001, end=False)

    def end_with_bad_trailers(self) -> None:
        """Send more trailers than limits.header_count: answered 431, unless the response has begun."""
        if self.uploads and self.is_open:
            self.spoiled = self.spoiled or not self.is_complete
            self.uploads = False
            self.wire.client.send_headers(self.answer.id, [(b"x-%d" % number, b"") for number in range(200)], True)
            self.tell()

    def reset(self) -> None:
        if self.is_open:
            self.spoiled = self.given_up = True
            self.wire.reset(self.answer)

    def break_a_rule(self) -> None:
        """Be reset by the server."""
        if self.is_awaited:
            self.spoiled = True
            number = self.answer.id.to_bytes(4, "big")
            self.wire.hear(self.wire.send_raw(b"\x00\x00\x04\x08\x00" + number + bytes(4)))
            self.tell()

    def fail(self) -> None:
        """Let the application raise."""
        if not self.call.end.done():
            self.spoiled = self.spoiled or not self.is_complete
            self.wire.finish(self.call, RuntimeError("as planned"))

    def lose(self) -> None:
        self.spoiled = self.lost = True
        self.wire.lose()

    def send_eof(self) -> None:
        """Send nothing more; what is not sent by then is as good as reset."""
        if not self.lost:
            self.wire.send_eof()
            self.spoiled = self.lost = True

    def read(self) -> None:
        """Open the windows by what has come."""
        if not self.lost and not self.wire.reads:
            self.wire.reads = True
            client = self.wire.client
            received = len(self.answer.body)
            if received:
                client.acknowledge_received_data(received, self.answer.id)
            self.tell()

    def shrink(self) -> None:
        """Have less than nothing allowed for a while (RFC 9113 §6.9.2); the library allows no more by itself."""
        self._settle_on(1000)
        if self.is_awaited:
            self.wire.client.increment_flow_control_window(65_535, self.answer.id)
            self.tell()

    def grow(self) -> None:
        self._settle_on(2**30)

    def _settle_on(self, window: int) -> None:
        if not self.lost:
            self.wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
            self.tell()

    def wait(self) -> None:
        """Let as much time pass as a client has that does not end its upload."""
        if not self.lost and self.answer.ended:
            self.wire.advance(5)
            assert not self.uploads or self.given_up or self.answer.reset == 0, "not asked to stop"

    def ask_more(self) -> None:
        """Have another answer on the connection."""
        if not self.lost:
            self.check_another()

    # What has to be.

    @property
    def is_open(self) -> bool:
        """Whether the client may send on its stream."""
        alive = not self.lost and not self.given_up and self.answer.reset is None
        return alive and (self.uploads or not self.answer.ended)

    @property
    def is_awaited(self) -> bool:
        """Whether more of the response is to come."""
        return self.is_open and not self.answer.ended

    @property
    def is_complete(self) -> bool:
        """Whether the application has sent all."""
        return self.sending.done()

    def check_another(self) -> None:
        other = self.wire.request("GET")
        self.wire.run(self.wire.call.respond(b"other"))
        self.tell()
        self.wire.finish(self.wire.call)
        assert other.status == 200

    def check(self) -> None:
        """Come to the end, and look at what is left."""
        self.read()
        for _ in range(len(self.script.messages) + 1):
            self.advance()
        answer, wire = self.answer, self.wire
        self.sending.cancel()
        if not self.call.end.done():
            self.call.finish()
        self.tell()
        if not self.spoiled:
            assert answer.ended, "the response has no end"
        if answer.ended and answer.status == 200:
            assert answer.body == self.script.body
            assert answer.trailers == self.script.trailers
        elif answer.status == 200:
            assert self.script.body.startswith(answer.body)
        assert not wire.loop.failures, wire.loop.failures
        if self.lost:
            return
        if self.uploads and self.is_open:
            wire.upload(answer, b"", end=True)
        assert wire.streams == []
        core = wire.server.core
        assert not core._streams.held, "the place of a stream is not free"
        assert not core._output._round
        assert core._output.window == wire.client._inbound_flow_control_window_manager.current_window_size
        window = core._intake._window
        assert window._left + window._owed == window.size, "the window of the connection leaks"
        assert window._left == wire.client.outbound_flow_control_window
        self.check_another()


EVENTS = [
    Scene.upload,
    Scene.end_upload,
    Scene.upload_too_much,
    Scene.end_with_bad_trailers,
    Scene.reset,
    Scene.break_a_rule,
    Scene.fail,
    Scene.lose,
    Scene.send_eof,
    Scene.read,
    Scene.shrink,
    Scene.grow,
    Scene.wait,
    Scene.ask_more,
]


def play(script: Script, upload: bool, reads: bool, events: list[tuple[int, Any]]) -> None:
    """Play a response in which each event happens behind so many messages."""
    scene = Scene(script, upload, reads)
    with scene.wire:
        for position in range(len(script.messages) + 1):
            for when, event in events:
                if when == position:
                    event(scene)
            scene.advance()
        scene.check()


@examples(150)
@given(
    st.sampled_from(sorted(SCRIPTS)),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(EVENTS)), max_size=4),
)
def test_every_response_is_whole_or_reset(
    script: str, upload: bool, reads: bool, events: list[tuple[int, Any]]
) -> None:
    play(SCRIPTS[script], upload, reads, events)


@pytest.mark.parametrize("script", ["whole", "whole, larger than the window"])
@pytest.mark.parametrize("event", [Scene.upload_too_much, Scene.end_with_bad_trailers])
def test_what_is_wrong_with_a_request_does_not_cut_a_response_that_is_complete(script: str, event: Any) -> None:
    """The client may have yet to read the response, and goes on to send more than is allowed."""
    scene = Scene(SCRIPTS[script], upload=True, reads=False)
    with scene.wire:
        scene.advance()
        scene.advance()
        assert scene.is_complete
        event(scene)
        scene.check()
        assert scene.answer.outcome == (200, scene.script.body, True)
        assert scene.answer.reset is None
