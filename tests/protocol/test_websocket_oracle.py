"""Our WebSocket frames against the sans-IO core of the `websockets` library: both must come to the same result.

What is compared: the messages and control frames, in order, and the close code of the refusal. Where the two differ on
purpose: we refuse a payload length in more digits than it needs (RFC 6455 §5.2), which is not drawn here; the library
refuses a Close among the fragments of a message, where control frames may stand (RFC 6455 §5.4).
"""

from __future__ import annotations

import codecs
import os
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from hypothesis import assume, example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from serverd.protocol.websocket import MessageBounds
from serverd.protocol.websocket_deflate import Deflater, DeflateTerms
from serverd.protocol.websocket_frames import COMPRESSED, FIN, encode_close, encode_control, frame_header, is_sendable
from tests.support import fuzzing
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, Event, cut, decode, frame

TERMS = DeflateTerms(server_bits=15, client_bits=15, server_takeover=True, client_takeover=True)
ROOMY = MessageBounds(1 << 20, 1 << 20)

CLOSE_AMONG_FRAGMENTS = "incomplete fragmented message"  # what the library says then

LONG = bool(os.environ.get("SERVERD_LONG"))
examples = fuzzing.examples(2000 if LONG else 400)


def extensions(terms: DeflateTerms | None) -> list[PerMessageDeflate] | None:
    """Return the library's side of what was agreed on."""
    if terms is None:
        return None
    return [
        PerMessageDeflate(
            remote_no_context_takeover=not terms.client_takeover,
            local_no_context_takeover=not terms.server_takeover,
            remote_max_window_bits=terms.client_bits,
            local_max_window_bits=terms.server_bits,
        )
    ]


class Assembler:
    """Makes messages of the library's frames, as its connections do: the sans-IO core leaves that to them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._opcode = BINARY
        self._message = b""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def add(self, received: TheirFrame) -> None:
        """Take a frame; raises UnicodeDecodeError."""
        data = bytes(received.data)
        if received.opcode is Opcode.CLOSE:
            code = int.from_bytes(data[:2], "big") if data else 1005
            self.events.append(("close", code, data[2:].decode()))
        elif received.opcode in (Opcode.PING, Opcode.PONG):
            self.events.append((received.opcode.name.lower(), data))
        else:
            self._add_data(received.opcode, data, received.fin)

    def _add_data(self, opcode: Opcode, data: bytes, fin: bool) -> None:
        if opcode is not Opcode.CONT:
            self._opcode, self._message = opcode, b""
        self._message += data
        if self._opcode == TEXT:
            self._utf8.decode(data, fin)
        if fin:
            self.events.append(("message", self._message.decode() if self._opcode == TEXT else self._message))


def decode_theirs(pieces: Iterable[bytes], terms: DeflateTerms | None) -> tuple[list[Event], int | None]:
    """Return what the library makes of it, in the form of `decode`."""
    protocol = Protocol(SERVER, state=OPEN, max_size=None)
    protocol.extensions = extensions(terms) or []
    assembler = Assembler()
    for piece in pieces:
        protocol.receive_data(piece)
        # It takes nothing more from a stream that has ended, which RFC 7692 §7.2.3.4 allows to go on.
        assume(not any(extension.decoder.eof for extension in protocol.extensions))
        try:
            for received in protocol.events_received():
                assert isinstance(received, TheirFrame)
                assembler.add(received)
        except UnicodeDecodeError:
            return assembler.events, 1007
        if protocol.parser_exc is not None and str(protocol.parser_exc) == CLOSE_AMONG_FRAGMENTS:
            assert protocol.close_rcvd is not None
            return [*assembler.events, ("close", protocol.close_rcvd.code, protocol.close_rcvd.reason)], None
        if protocol.parser_exc is not None:
            assert protocol.close_sent is not None
            return assembler.events, protocol.close_sent.code
    return assembler.events, None


class Piece(NamedTuple):
    """One frame before it is written."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    mask: bytes = b"\x37\xfa\x21\x3d"
    masked: bool = True

    def wire(self) -> bytes:
        """Return its bytes."""
        if not self.masked:
            return frame_header(self.fin << 7 | self.rsv | self.opcode, len(self.payload)) + self.payload
        return frame(self.opcode, self.payload, fin=self.fin, rsv=self.rsv, mask=self.mask)


texts = st.text(max_size=40).map(str.encode)
sizes = st.sampled_from([0, 1, 3, 125, 126, 127, 300, 65535, 65536])
binaries = st.binary(max_size=40) | sizes.map(bytes)
masks = st.binary(min_size=4, max_size=4)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125), masks).map(
    lambda drawn: Piece(drawn[0], drawn[1], mask=drawn[2])
)
codes = st.sampled_from([1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
closes = st.builds(
    lambda code, reason: Piece(CLOSE, code.to_bytes(2, "big") + reason.encode()), codes, st.text(max_size=30)
) | st.just(Piece(CLOSE, b""))


@st.composite
def sessions(draw: Any, compresses: bool) -> list[Piece]:
    """Draw the frames of a session without a fault, control frames among the fragments."""
    compressor = zlib.compressobj(wbits=-15)
    pieces = []
    for opcode in draw(st.lists(st.sampled_from([TEXT, BINARY]), max_size=5)):
        payload = draw(texts if opcode == TEXT else binaries)
        rsv = 0
        if compresses and draw(st.booleans()):
            payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
            rsv = RSV1
        places = draw(st.lists(st.integers(0, len(payload)), max_size=3))
        ends = [*sorted(places), len(payload)]
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            kind, bits = (CONTINUATION, 0) if number else (opcode, rsv)
            mask = draw(masks)
            pieces.append(Piece(kind, payload[start:end], number == len(ends) - 1, bits, mask))
            pieces.extend(draw(st.lists(controls, max_size=1)))
    if draw(st.booleans()):
        pieces.append(draw(closes))
    return pieces


DAMAGES = {
    "reserved bit": lambda piece, byte: piece._replace(rsv=piece.rsv | (0x10, 0x20, 0x30)[byte % 3]),
    "compressed": lambda piece, byte: piece._replace(rsv=RSV1),
    "opcode": lambda piece, byte: piece._replace(opcode=byte % 16),
    "not masked": lambda piece, byte: piece._replace(masked=False),
    "not final": lambda piece, byte: piece._replace(fin=False),
    "final": lambda piece, byte: piece._replace(fin=True),
    "payload": lambda piece, byte: piece._replace(payload=bytes((byte,)) + piece.payload[1:]),
    "end of payload": lambda piece, byte: piece._replace(payload=piece.payload[:-1] + bytes((byte,))),
    "longer": lambda piece, byte: piece._replace(payload=piece.payload + bytes(byte)),
}


@st.composite
def damaged(draw: Any, compresses: bool) -> list[Piece]:
    """Draw the frames of a session, some of them with a fault, missing, twice, or in the wrong place."""
    pieces = draw(sessions(compresses).filter(bool))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(pieces) - 1))
        how = draw(st.sampled_from([*DAMAGES, "missing", "twice", "swapped"]))
        if how == "missing" and len(pieces) > 1:
            del pieces[place]
        elif how == "twice":
            pieces.insert(place, pieces[place])
        elif how == "swapped":
            pieces[place], pieces[-1] = pieces[-1], pieces[place]
        elif how in DAMAGES:
            pieces[place] = DAMAGES[how](pieces[place], draw(st.integers(0, 255)))
    return pieces


places = st.lists(st.integers(0, 1 << 18), max_size=8)


def has_two_faults(piece: Piece) -> bool:
    """Return whether code and reason of a Close are both wrong: which of them is told the RFC does not say."""
    if piece.opcode != CLOSE or len(piece.payload) < 2 or is_sendable(int.from_bytes(piece.payload[:2], "big")):
        return False
    try:
        piece.payload[2:].decode()
    except UnicodeDecodeError:
        return True
    return False


def assert_same(pieces: list[Piece], places: list[int], terms: DeflateTerms | None) -> None:
    assume(not any(has_two_faults(piece) for piece in pieces))
    data = b"".join(piece.wire() for piece in pieces)
    theirs = decode_theirs([piece.wire() for piece in pieces], terms)
    assert decode([data], ROOMY, terms) == theirs
    assert decode(cut(data, [place % (len(data) + 1) for place in places]), ROOMY, terms) == theirs


@examples
@given(sessions(compresses=False), places)
def test_both_read_the_same_messages(pieces: list[Piece], places: list[int]) -> None:
    assert_same(pieces, places, None)


@examples
@given(sessions(compresses=True), places)
def test_both_read_the_same_compressed_messages(pieces: list[Piece], places: list[int]) -> None:
    assert_same(pieces, places, TERMS)


@examples
@given(damaged(compresses=False), places)
@example([Piece(TEXT, b"\xc3", fin=False), Piece(CONTINUATION, b"(")], [])
@example([Piece(PING, b"x", fin=False)], [])
@example([Piece(CLOSE, b"\x03")], [1])
def test_both_refuse_the_same_faults_with_the_same_code(pieces: list[Piece], places: list[int]) -> None:
    assert_same(pieces, places, None)


@examples
@given(damaged(compresses=True), places)
def test_both_refuse_the_same_faults_in_compressed_sessions(pieces: list[Piece], places: list[int]) -> None:
    assert_same(pieces, places, TERMS)


@examples
@given(st.binary(max_size=200), places)
def test_any_bytes_are_read_or_refused_and_the_cut_means_nothing(data: bytes, places: list[int]) -> None:
    whole = decode([data], ROOMY, TERMS)
    assert decode(cut(data, [place % (len(data) + 1) for place in places]), ROOMY, TERMS) == whole
    assert whole[1] in (None, 1002, 1007, 1009)


@examples
@given(
    st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.booleans(), texts | sizes.map(lambda size: b"a" * size))),
    st.booleans(),
    st.integers(9, 15),
)
def test_their_client_reads_what_we_send(messages: list[tuple[int, bool, bytes]], takeover: bool, bits: int) -> None:
    terms = TERMS._replace(server_takeover=takeover, server_bits=bits)
    deflater = Deflater(terms)
    client = Protocol(CLIENT, state=OPEN, max_size=None)
    client.extensions = [PerMessageDeflate(not takeover, False, bits, 15)]
    for opcode, compresses, data in messages:
        payload = deflater.deflate(data) if compresses else data
        client.receive_data(frame_header(FIN | opcode | (COMPRESSED if compresses else 0), len(payload)) + payload)
    client.receive_data(encode_control(PING, b"?"))
    client.receive_data(encode_close(1012, "bye"))
    assert client.parser_exc is None
    received = [(int(event.opcode), bytes(event.data)) for event in client.events_received()]
    *sent, ping, _ = received
    assert sent == [(opcode, data) for opcode, _, data in messages]
    assert ping == (PING, b"?")
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (1012, "bye")
