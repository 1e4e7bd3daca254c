"""An HTTP/2 client in memory, on the `h2` library, for whole connections; for single frames see tests/protocol.

`Http2Wire` is a `Wire` whose peer speaks HTTP/2 by prior knowledge (RFC 9113 §3.3). What the client and the server have
to say to each other is exchanged until both are silent, after everything that a test does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes, Settings
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from serverd.asgi.scope import Endpoint
from serverd.connection.http2 import Http2Connection
from serverd.generation import Limits
from tests.support.applications import Call, Manual
from tests.support.wire import Wire

__all__ = ["Answer", "Http2Peer", "Http2Wire", "ManualWire", "Tunnel", "TunnelWire", "with_http2"]

Fields = list[tuple[bytes, bytes]]

# The library takes the first GOAWAY for the end of everything (its issue 1181); a client goes on with what is open (RFC
# 9113 §6.8).
_STATES = ConnectionState.IDLE, ConnectionState.CLIENT_OPEN
_TRANSITIONS = H2ConnectionStateMachine._transitions | {
    (state, ConnectionInputs.RECV_GOAWAY): (None, state) for state in _STATES
}


@dataclass
class Answer:
    """What the client has received on one stream."""

    id: int
    status: int = 0  # 0: no head of a response yet
    fields: Fields = field(default_factory=list)
    informational: list[tuple[int, Fields]] = field(default_factory=list)
    body: bytes = b""
    parts: int = 0  # DATA frames
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None  # the code of RST_STREAM
    granted: int = 0  # by how much the server has opened the stream's window

    @property
    def header(self) -> dict[bytes, bytes]:
        """The fields by name."""
        return dict(self.fields)

    @property
    def outcome(self) -> tuple[int, bytes, bool]:
        """Status, body, and whether the response is complete."""
        return self.status, self.body, self.ended

    def take(self) -> bytes:
        """Return the body received since the last call."""
        body, self.body = self.body, b""
        return body


class Http2Peer:
    """A client on the `h2` library, and what it has received; how its bytes are carried is another's business."""

    client: H2Connection
    answers: dict[int, Answer]
    reads = True  # give windows back

    def begin(self, settings: dict[int, int] | None = None) -> None:
        """Begin another connection; `settings` are the client's."""
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        values = {SettingCodes.ENABLE_PUSH: 0, **(settings or {})}
        self.client.local_settings = Settings(client=True, initial_values=values)
        self.client.state_machine._transitions = _TRANSITIONS
        self.client.initiate_connection()
        self.answers = {}
        self.events: list[Event] = []
        self.goaways: list[tuple[int, int]] = []  # the last stream and the code of each
        self.pongs: list[bytes] = []
        self.raw = b""  # all that the server has sent

    def open(
        self, method: str = "GET", path: str = "/", fields: Iterable[tuple[bytes, bytes]] = (), *, end: bool = True
    ) -> Answer:
        """Begin a request, which is sent with what else there is."""
        answer = Answer(self.client.get_next_available_stream_id())
        self.answers[answer.id] = answer
        pseudo = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", b"a"),
            (b":path", path.encode()),
        ]
        self.client.send_headers(answer.id, [*pseudo, *fields], end_stream=end)
        return answer

    def allowed(self, answer: Answer, body: bytes) -> int:
        """Return how many bytes of a body may be sent in one frame."""
        window = self.client.local_flow_control_window(answer.id)
        return min(window, self.client.max_outbound_frame_size, len(body))

    def hear(self, sent: bytes) -> list[Event]:
        """Let the client read what the server has sent."""
        self.raw += sent
        events: list[Event] = self.client.receive_data(sent)
        for event in events:
            self._on_event(event)
        self.events += events
        return events

    def _on_event(self, event: Event) -> None:
        if isinstance(event, PingAckReceived):
            self.pongs.append(event.ping_data)
        elif isinstance(event, ConnectionTerminated):
            assert event.last_stream_id is not None
            self.goaways.append((event.last_stream_id, int(event.error_code or 0)))
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, InformationalResponseReceived):
            status, *fields = _fields(event.headers)
            answer.informational.append((int(status[1]), fields))
        elif isinstance(event, ResponseReceived):
            status, *answer.fields = _fields(event.headers)
            answer.status = int(status[1])
        elif isinstance(event, TrailersReceived):
            answer.trailers = _fields(event.headers)
        elif isinstance(event, DataReceived):
            answer.body += event.data or b""
            answer.parts += 1
            if self.reads and event.flow_controlled_length:
                self.client.acknowledge_received_data(event.flow_controlled_length, answer.id)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code or 0)
        elif isinstance(event, WindowUpdated):
            answer.granted += event.delta or 0


class Http2Wire(Http2Peer, Wire):
    """One HTTP/2 connection to an application, in memory."""

    def __init__(
        self,
        application: Any,
        limits: Limits | None = None,
        ends: dict[str, Any] | None = None,
        settings: dict[int, int] | None = None,
        reads: bool = True,
    ) -> None:
        """Connect; `settings` are the client's, and only a client that `reads` gives its windows back."""
        self.settings = settings
        self.reads = reads
        super().__init__(application, limits=limits, ends=ends)

    def connect(self) -> None:
        """Open another connection and greet; the one before is left to itself."""
        super().connect()
        self.begin(self.settings)
        self.greet()

    def greet(self) -> None:
        """Send the preface and SETTINGS, and hear the server's."""
        self.exchange()

    # The client's side.

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        fields: Iterable[tuple[bytes, bytes]] = (),
        body: bytes | None = None,
        *,
        end: bool = True,
    ) -> Answer:
        """Send a request, with as much of its body as the windows allow, and return what has come of it so far."""
        answer = self.open(method, path, fields, end=end and body is None)
        if body is not None:
            self.upload(answer, body, end)
        self.exchange()
        return answer

    def upload(self, answer: Answer, body: bytes, end: bool = True) -> bytes:
        """Send a part of a body as far as the windows allow; return the rest."""
        while True:
            size = self.allowed(answer, body)
            is_last = size == len(body)
            if not size and not is_last:
                return body
            self.client.send_data(answer.id, body[:size], end_stream=end and is_last)
            body = body[size:]
            self.exchange()
            if is_last or answer.reset is not None or answer.ended:
                return body

    def reset(self, answer: Answer, code: int = 8) -> None:
        """Give a request up."""
        self.client.reset_stream(answer.id, code)
        self.exchange()

    def ping(self) -> bool:
        """Return whether the server answers a PING at once."""
        before = len(self.pongs)
        self.client.ping(b"12345678")
        self.exchange()
        return len(self.pongs) > before

    def send_raw(self, data: bytes) -> bytes:
        """Let the peer send bytes that the `h2` library would not; return what the server has sent, unread."""
        self.loop.call_soon(self.transport.deliver, data)
        self.settle()
        return self.received()

    def exchange(self) -> list[Event]:
        """Carry what both have to say until they are silent; return what has happened to the client."""
        happened: list[Event] = []
        while True:
            data = self.client.data_to_send()
            if data:
                # A session asks for the loop that runs.
                self.loop.call_soon(self.transport.deliver, data)
            self.settle()
            sent = self.received()
            if not sent and not data:
                return happened
            happened += self.hear(sent)

    def read(self, answer: Answer, count: int) -> None:
        """Give back `count` bytes of the windows of a client that does not do so by itself."""
        self.client.increment_flow_control_window(count, answer.id)
        self.client.increment_flow_control_window(count)
        self.exchange()

    # The server's side.

    @property
    def server(self) -> Http2Connection:
        """The server's end of the connection."""
        connection = self.transport.get_protocol()
        assert isinstance(connection, Http2Connection)
        return connection

    @property
    def streams(self) -> list[int]:
        """The streams that the server has open."""
        return list(self.server.core.streams)

    def advance(self, seconds: float) -> bytes:
        """Let time pass, a sweep a second, and exchange what comes of it."""
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.hear(super().advance(min(1.0, end - self.loop.now)))
            self.exchange()
        return b""

    def drain(self) -> bytes:
        self.hear(super().drain())
        self.exchange()
        return b""

    def send_eof(self) -> bytes:
        self.hear(super().send_eof())
        self.exchange()
        return b""

    def take(self, count: float = float("inf")) -> bytes:
        self.hear(super().take(count))
        self.exchange()
        return b""

    def run(self, coroutine: Any) -> Any:
        task = super().run(coroutine)
        self.exchange()
        return task


class ManualWire(Http2Wire):
    """One HTTP/2 connection to an application in whose place the test acts (see `Manual`)."""

    def __init__(self, limits: Limits | None = None, *, endpoint: dict[str, Any] | None = None, **more: Any) -> None:
        """Connect; `endpoint`: more of what the mount leads to."""
        self.manual = Manual()
        super().__init__(Endpoint(self.manual, "test", **(endpoint or {})), limits, **more)

    @property
    def call(self) -> Call:
        """The last call of the application."""
        return self.manual.call

    def call_of(self, answer: Answer) -> Call:
        """Return the call that answers this request; every request has to have had one."""
        return self.manual.calls[(answer.id - 1) // 2]

    def finish(self, call: Call | None = None, error: BaseException | None = None) -> None:
        """Let the application return, or raise `error`."""
        (call or self.call).finish(error)
        self.exchange()


def _fields(headers: Any) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in headers or ()]


def with_http2(limits: Limits | None = None, **values: Any) -> Limits:
    """Return limits with these of HTTP/2."""
    limits = limits or Limits()
    return replace(limits, http2=replace(limits.http2, **values))


class Tunnel:
    """A WebSocket client on one stream (RFC 8441): the `websockets` library's frames in DATA frames."""

    def __init__(self, wire: Any, answer: Answer, deflate: bool = False) -> None:
        """Begin on a stream that is open, of an `Http2Wire` or `Http2Client`."""
        self.wire = wire
        self.answer = answer
        extensions = [ClientPerMessageDeflateFactory().process_response_params([], [])] if deflate else []
        self.protocol = Protocol(Side.CLIENT, state=OPEN, max_size=None)
        self.protocol.extensions = extensions
        self.received: list[Frame] = []

    def exchange(self) -> list[Frame]:
        """Send what there is, answers included, and return the frames that the server has sent since the last call."""
        heard = self.hear()
        for data in self.protocol.data_to_send():
            if data:
                self.wire.upload(self.answer, data, end=False)
        self.wire.exchange()
        return heard + self.hear()

    def hear(self) -> list[Frame]:
        """Return the frames that the server has sent since the last call."""
        data = self.answer.take()
        if data:
            self.protocol.receive_data(data)
        frames = [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        assert self.protocol.parser_exc is None or isinstance(self.protocol.parser_exc, EOFError)
        self.received += frames
        return frames

    def say(self, data: bytes | str) -> list[Frame]:
        """Send a message; return what the server has sent."""
        if isinstance(data, str):
            self.protocol.send_text(data.encode())
        else:
            self.protocol.send_binary(data)
        return self.exchange()

    def ping(self, payload: bytes = b"ping") -> bool:
        """Return whether a Ping is answered at once."""
        self.protocol.send_ping(payload)
        return any(frame.opcode is Opcode.PONG and frame.data == payload for frame in self.exchange())

    def close(self, code: int = 1000, reason: str = "") -> list[Frame]:
        """Send a Close; return what the server has sent."""
        self.protocol.send_close(code, reason)
        return self.exchange()

    def end(self) -> None:
        """End our half of the stream."""
        self.wire.upload(self.answer, b"", end=True)
        self.hear()

    @property
    def close_code(self) -> int | None:
        """The code of the server's Close."""
        self.hear()
        return None if self.protocol.close_rcvd is None else int(self.protocol.close_rcvd.code)


class TunnelWire(ManualWire):
    """One HTTP/2 connection to an application that takes WebSockets, and in whose place the test acts."""

    def ask(self, *fields: tuple[bytes, bytes], path: str = "/chat", protocol: bytes | None = b"websocket") -> Answer:
        """Ask for a tunnel, by an extended CONNECT when there is a `protocol`."""
        more = [(b"sec-websocket-version", b"13"), *fields]
        if protocol is not None:
            more = [(b":protocol", protocol), *more]
        return self.request("CONNECT", path, more, end=False)

    def accept(self, *fields: tuple[bytes, bytes], deflate: bool = False, **message: Any) -> Tunnel:
        """Open a session; `message`: more of `websocket.accept`."""
        if deflate:
            fields = (*fields, (b"sec-websocket-extensions", b"permessage-deflate"))
        answer = self.ask(*fields)
        assert self.receive() == {"type": "websocket.connect"}
        self.tell("accept", **message)
        assert answer.status == 200
        return Tunnel(self, answer, deflate)

    def receive(self, call: Call | None = None) -> dict[str, Any]:
        """Return what the application receives next, which has to be there."""
        task = self.run((call or self.call).receive())
        assert task.done(), "nothing to receive"
        message: dict[str, Any] = task.result()
        return message

    def tell(self, kind: str, call: Call | None = None, **message: Any) -> None:
        """Let the application send `websocket.{kind}`."""
        task = self.run((call or self.call).send({"type": f"websocket.{kind}", **message}))
        assert task.done(), "send waits"
        task.result()
