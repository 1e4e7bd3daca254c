"""Our HTTP/2 against the library `h2`: conversations with its client, and broken frames that its server judges, too.

Three things must hold: what `h2`'s client says arrives and what we answer is accepted by it, byte for byte and however
the bytes are cut; what we accept without a word, `h2`'s server accepts, too, and the other way around; and whatever
comes, nothing but our own errors comes out and what is kept stays within the bounds.
"""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
from hypothesis import given
from hypothesis import strategies as st

from serverd.errors import PeerError
from serverd.protocol.head import RequestHead
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.http2 import ConnectionFault, ErrorCode, Http2Bounds, Http2Core, Http2Stream
from serverd.protocol.http2_states import StreamState
from tests.protocol.http2_peer import (
    CONNECT,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ToldStream,
    feed,
    frame,
    frames_of,
)
from tests.support.fuzzing import examples

CLIENT = h2.config.H2Configuration(client_side=True, header_encoding=None)
SERVER = h2.config.H2Configuration(client_side=False, header_encoding=None)

# Small enough that the windows and the number of streams matter.
BOUNDS = Http2Bounds(concurrent_streams=6, initial_window=300, largest_window=1200, window_growth=2000)


class Application:
    """The StreamSource of a core: keeps requests, and answers when it is told to."""

    def __init__(self) -> None:
        self.core = Http2Core(self, BOUNDS, DefaultFields(b"serverd"))
        self.streams: dict[int, Http2Stream] = {}
        self.heads: dict[int, RequestHead] = {}
        self.bodies: dict[int, bytes] = {}
        self.complete: set[int] = set()
        self.reset: set[int] = set()
        self.refused: dict[int, int] = {}

    def make_stream(self, stream_id: int, state: StreamState, send_window: int, is_tunnel: bool) -> Http2Stream:
        return ToldStream(self, stream_id, state, send_window, is_tunnel)

    def on_request(self, stream: Http2Stream, head: RequestHead, end: bool) -> None:
        assert stream.id not in self.streams
        self.streams[stream.id] = stream
        self.heads[stream.id] = head
        self.bodies[stream.id] = b""
        if end:
            self.complete.add(stream.id)

    def on_refused(self, stream: Http2Stream, error: PeerError) -> None:
        assert 400 <= error.status < 600
        self.streams[stream.id] = stream
        self.bodies.setdefault(stream.id, b"")
        self.refused[stream.id] = error.status

    def on_body(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        assert data or end
        assert stream.id not in self.complete | self.reset | self.refused.keys()
        self.bodies[stream.id] += data
        if end:
            self.complete.add(stream.id)

    def on_reset(self, stream: Http2Stream) -> None:
        assert stream.id in self.streams
        assert stream.id not in self.reset
        self.reset.add(stream.id)
        self.core.release(stream)

    def on_writable(self, stream: Http2Stream) -> None:
        assert not stream.overflows

    def check_bounds(self) -> None:
        """Check that a connection keeps no more than it may."""
        streams = self.core.streams.values()
        assert len(streams) <= BOUNDS.concurrent_streams
        kept = sum(stream.window.unread for stream in streams if stream.window is not None)
        assert kept <= BOUNDS.concurrent_streams * 65_535 + BOUNDS.window_growth
        assert all(len(stream.held or b"") <= 65_535 for stream in streams)
        registry = self.core._streams
        assert len(registry._gone) <= BOUNDS.concurrent_streams
        assert registry.open.keys().isdisjoint(registry.held)


class Conversation:
    """`h2`'s client and our core, with bytes on the way in both directions."""

    def __init__(self) -> None:
        self.client = h2.connection.H2Connection(CLIENT)
        self.client.initiate_connection()
        self.app = Application()
        self.to_server = b""
        self.sent: dict[int, bytes] = {}  # bodies by the client
        self.unsent_end: set[int] = set()  # requests of which the client has not sent the end
        self.answered: dict[int, bytes] = {}  # bodies by us
        self.unanswered: set[int] = set()
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.gone: set[int] = set()  # streams that either has reset
        self.next_id = 1

    # What the client does. `number` chooses the stream, `size` how much.

    def request(self, number: int, size: int) -> None:
        if self.client.open_outbound_streams >= self.client.remote_settings.max_concurrent_streams:
            return
        stream_id = self.next_id
        self.next_id += 2
        fields = [*(POST if number % 2 else GET), (b"x-number", b"%d" % (size % 7)), (b"cookie", b"a" * (size % 50))]
        if number % 10 == 1:
            fields.append((b"content-length", b"%d" % size))
        self.client.send_headers(stream_id, fields, end_stream=number % 2 == 0)
        self.sent[stream_id] = b""
        self.received[stream_id] = b""
        self.unanswered.add(stream_id)
        if number % 2:
            self.unsent_end.add(stream_id)
            if number % 10 == 1:
                self.upload(stream_id, size, known=True)

    def pick(self, numbers: set[int], number: int) -> int | None:
        numbers = numbers - self.gone
        return sorted(numbers)[number % len(numbers)] if numbers else None

    def send(self, number: int, size: int) -> None:
        stream_id = self.pick(self.unsent_end, number)
        if stream_id is not None:
            self.upload(stream_id, size, known=False)

    def upload(self, stream_id: int, size: int, known: bool) -> None:
        while size:
            count = min(size, self.client.local_flow_control_window(stream_id), 100)
            if not count:
                if not known:
                    return
                self.pump()
                self.read(0, 0)
                if stream_id in self.gone:
                    return
                continue
            part = bytes([size % 256]) * count
            self.client.send_data(stream_id, part, pad_length=size % 3 if self.has_room(stream_id, count) else None)
            self.sent[stream_id] += part
            size -= count
        if known:
            self.client.end_stream(stream_id)
            self.unsent_end.discard(stream_id)

    def has_room(self, stream_id: int, count: int) -> bool:
        return self.client.local_flow_control_window(stream_id) > count + 4

    def end(self, number: int, size: int) -> None:
        stream_id = self.pick(self.unsent_end, number)
        if stream_id is not None:
            self.unsent_end.discard(stream_id)
            if size % 2:
                self.client.end_stream(stream_id)
            else:
                self.client.send_headers(stream_id, [(b"x-trailer", b"%d" % size)], end_stream=True)

    def cancel(self, number: int, _size: int) -> None:
        self.pump()  # h2 4.4 takes interim responses behind its own reset for an error
        stream_id = self.pick(self.unsent_end | self.unanswered, number)
        if stream_id is not None:
            self.client.reset_stream(stream_id)
            self.forget(stream_id)

    def forget(self, stream_id: int) -> None:
        self.gone.add(stream_id)
        self.unsent_end.discard(stream_id)
        self.unanswered.discard(stream_id)

    def adjust(self, number: int, size: int) -> None:
        window = size if size > 63 else 0  # one that makes DATA frames tiny is an attack
        if self.client.open_outbound_streams:
            # h2 4.4 takes an empty DATA frame for too much when SETTINGS have made the window negative.
            window = max(window, self.client.local_settings.initial_window_size)
        choices = [
            {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window},
            {h2.settings.SettingCodes.HEADER_TABLE_SIZE: size},
            {h2.settings.SettingCodes.MAX_FRAME_SIZE: 16_384 + size},
        ]
        self.client.update_settings(choices[number % 3])

    def ping(self, _number: int, size: int) -> None:
        self.client.ping(b"%08d" % size)

    # What the server does.

    def read(self, _number: int, _size: int) -> None:
        for stream in list(self.app.core.streams.values()):
            if stream.window is not None:
                self.app.core.consume(stream, stream.window.unread - len(stream.held or b""))
        self.pump()

    def answer(self, number: int, size: int) -> None:
        stream_id = self.pick(self.unanswered & self.app.streams.keys(), number)
        if stream_id is None:
            return
        core, stream = self.app.core, self.app.streams[stream_id]
        if stream_id not in self.answered:
            self.answered[stream_id] = b""
            if number % 3 == 0:
                core.send_informational(stream, 103, [(b"link", b"</a>")])
            core.send_headers(stream, 200, [(b"x-size", b"%d" % (size % 9)), (b"set-cookie", b"a=%d" % size)], False)
        part = bytes([number % 256]) * size
        self.answered[stream_id] += part
        core.send_body(stream, part, number % 2 == 0)
        if number % 2:
            if number % 5:
                return
            core.send_trailers(stream, [(b"x-trailer", b"%d" % size)])
        self.unanswered.discard(stream_id)

    def give_up(self, number: int, _size: int) -> None:
        stream_id = self.pick(self.unanswered & self.app.streams.keys(), number)
        if stream_id is not None:
            self.app.core.reset(self.app.streams[stream_id], ErrorCode.INTERNAL_ERROR)
            self.pump()
            self.forget(stream_id)

    def tick(self, _number: int, _size: int) -> None:
        self.app.core.tick()

    # The wire.

    def pump(self, cut: int = 0) -> None:
        """Let everything arrive, to the server in pieces of `cut` bytes."""
        while True:
            data = self.client.data_to_send()
            for start in range(0, len(data), cut or max(len(data), 1)):
                feed(self.app.core, data[start : start + (cut or len(data))])
                self.app.check_bounds()
            answers = b""
            while self.app.core.is_waiting:
                answers += b"".join(self.app.core.take())
            if not data and not answers:
                return
            for event in self.client.receive_data(answers):
                self.on_event(event)

    def on_event(self, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            self.received[event.stream_id] += event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            # For what is asked to stop, or was given up; never for an error of the client, who makes none.
            assert event.error_code in (0, ErrorCode.INTERNAL_ERROR), event
            self.forget(event.stream_id)
        assert not isinstance(event, h2.events.ConnectionTerminated), event

    def finish(self) -> None:
        """Let everything come to its end, and compare."""
        self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        self.client.increment_flow_control_window(1 << 20)
        self.pump()
        while (stream_id := self.pick(self.unsent_end, 0)) is not None:
            self.client.end_stream(stream_id)
            self.unsent_end.discard(stream_id)
        self.pump()
        self.read(0, 0)
        while (stream_id := self.pick(self.unanswered, 0)) is not None:
            self.answer(0, 5)
        self.pump()
        self.read(0, 0)
        assert not self.app.core.streams
        assert not self.app.refused
        for stream_id, body in self.answered.items():
            if stream_id not in self.gone:
                assert self.received[stream_id] == body
                assert stream_id in self.ended
        for stream_id, body in self.sent.items():
            got = self.app.bodies[stream_id]
            # A body whose response ended first is thrown away from there on.
            assert body.startswith(got)


ACTIONS = [
    Conversation.request,
    Conversation.request,
    Conversation.send,
    Conversation.send,
    Conversation.end,
    Conversation.cancel,
    Conversation.adjust,
    Conversation.ping,
    Conversation.read,
    Conversation.answer,
    Conversation.answer,
    Conversation.answer,
    Conversation.give_up,
    Conversation.tick,
]
actions = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 30), st.integers(0, 700), st.integers(0, 40)), max_size=40
)


@examples(300)
@given(actions)
def test_conversations_with_the_client_of_the_library_end_well(steps: list[tuple[Any, int, int, int]]) -> None:
    conversation = Conversation()
    conversation.pump()
    for act, number, size, cut in steps:
        act(conversation, number, size)
        if cut:  # else it stays on the way, and crosses what the server says
            conversation.pump(cut)
    conversation.finish()


# Frames that may be anything.

_BLOCKS = [bytes(hpack.Encoder().encode(fields)) for fields in (GET, POST, CONNECT, [(b"x-trailer", b"1")])]
# Literals only, so that the order of the blocks does not matter.
_LITERAL = b"".join(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in GET)
_TRAILERS = b"\x00\x01x\x011"

ids = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 2, 2**31 - 1])
open_ids = st.sampled_from([1, 1, 1, 3, 3, 5])
flags = st.sampled_from([0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, PADDED, 0x20, 0xFF]) | st.integers(
    0, 255
)
ends = st.sampled_from([0, END_STREAM])
payloads = (
    st.sampled_from([b"", bytes(4), bytes(5), bytes(8), b"\x00\x00\x00\x01", b"\x00\x04\x00\x00\x00\x09", _LITERAL])
    | st.sampled_from(_BLOCKS)
    | st.binary(max_size=30)
)
numbers = st.sampled_from([0, 1, 2, 100, 16_384, 2**24 - 1, 2**24, 2**31 - 1, 2**31])


def fields_frame(stream_id: int, end: int, block: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS | end, stream_id, block)


def number_frame(kind: int, stream_id: int, number: int) -> bytes:
    return frame(kind, 0, stream_id, number.to_bytes(4, "big"))


def cut_block(stream_id: int, end: int, cut: int) -> bytes:
    return frame(HEADERS, end, stream_id, _LITERAL[:cut]) + frame(CONTINUATION, END_HEADERS, stream_id, _LITERAL[cut:])


def setting(key: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, key.to_bytes(2, "big") + value.to_bytes(4, "big"))


# Frame type 10 is ALTSVC, setting 9 a rule of RFC 9218: the library knows the one and not the other.
anything = st.builds(frame, st.integers(0, 9) | st.just(0x42), flags, ids, payloads)
plausible = st.one_of(
    st.builds(fields_frame, open_ids, ends, st.just(_LITERAL)),
    st.builds(fields_frame, open_ids, st.just(END_STREAM), st.just(_TRAILERS)),
    st.builds(cut_block, open_ids, ends, st.integers(0, len(_LITERAL))),
    st.builds(frame, st.just(DATA), ends, open_ids, st.binary(max_size=20)),
    st.builds(frame, st.just(DATA), st.just(PADDED), open_ids, st.sampled_from([b"\x00a", b"\x01a\x00", b"\x02a"])),
    st.builds(number_frame, st.just(RST_STREAM), open_ids, st.integers(0, 13)),
    st.builds(
        number_frame, st.just(WINDOW_UPDATE), open_ids | st.just(0), numbers.filter(lambda number: number < 2**31)
    ),
    st.builds(setting, st.integers(0, 8), numbers),
    st.builds(frame, st.just(PING), st.just(0), st.just(0), st.binary(min_size=8, max_size=8)),
    st.builds(frame, st.just(PRIORITY), st.just(0), open_ids, st.just(b"\x00\x00\x00\x07\x01")),
)
opening = st.lists(ends, max_size=3).map(
    lambda choices: [fields_frame(2 * number + 1, end, _LITERAL) for number, end in enumerate(choices)]
)
sequences = st.tuples(opening, st.lists(plausible | plausible | plausible | anything, max_size=10)).map(
    lambda parts: parts[0] + parts[1]
)


def ours(data: bytes, cut: int = 0) -> tuple[str, Application]:
    """Return what we make of the bytes of a connection: why it ended, "reset", "refused", or ""."""
    app = Application()
    sent = b""
    result = ""
    try:
        for start in range(0, len(data), cut or len(data)):
            feed(app.core, data[start : start + (cut or len(data))])
            app.check_bounds()
            while app.core.is_waiting:
                sent += b"".join(app.core.take())
    except ConnectionFault as error:
        code, result = error.code, error.reason
        assert not app.core.streams
    while app.core.is_waiting:
        sent += b"".join(app.core.take())
    frames = frames_of(sent)
    if result:
        assert (frames[-1].kind, frames[-1].code) == (GOAWAY, code)
    elif any(answer.kind == RST_STREAM for answer in frames):
        result = "reset"
    elif app.refused:
        result = "refused"
    return result, app


@examples(300)
@given(st.binary(max_size=300) | sequences.map(b"".join), st.integers(0, 30), st.booleans())
def test_nothing_but_our_errors_comes_of_any_bytes(data: bytes, cut: int, greet: bool) -> None:
    start = PREFACE + frame(4) if greet else b""
    if not start + data:
        return
    whole, one = ours(start + data)
    pieces, other = ours(start + data, cut)
    assert whole == pieces
    assert one.bodies.keys() == other.bodies.keys()
    assert one.complete == other.complete
    assert one.reset == other.reset


def theirs(frames: list[bytes]) -> tuple[str, str]:
    """Return what the server of the library makes of them: the error it raises, "reset", or ""; and in which words."""
    server = h2.connection.H2Connection(SERVER)
    server.initiate_connection()
    server.update_settings(
        {
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: BOUNDS.concurrent_streams,
            h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        }
    )
    server.increment_flow_control_window(1 << 20)
    server.data_to_send()
    try:
        server.receive_data(PREFACE + b"".join(frames))
    except h2.exceptions.ProtocolError as error:
        return type(error).__name__, str(error)
    if any(answer.kind == RST_STREAM for answer in frames_of(server.data_to_send())):
        return "reset", ""
    return "", ""


@examples(300)
@given(sequences)
def test_what_one_accepts_the_other_accepts(sequence: list[bytes]) -> None:
    frames = [frame(SETTINGS), *sequence]
    we, _ = ours(PREFACE + b"".join(frames))
    they, words = theirs(frames)
    if we == "RST_STREAM on a stream that was never opened":
        return  # RFC 9113 §6.4 makes it an error; the library lets it pass
    if not we and "non-compliant" in words:
        return  # WINDOW_UPDATE by 0 on a stream that has ended: there is nothing left to reset
    assert bool(we) is bool(they), (we, they, words)
