"""What a peer, or an application, that sends without end costs the server: bounded memory, and the others go on."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.client import Client
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, RSV1, TEXT, frame, header
from tests.support.server import Server
from tests.support.sessions import CONFIGURATION, TIMEOUT, enter, enter_by_hand, read_frame

PROTOCOL_ERROR, TOO_BIG = 1002, 1009  # RFC 6455 §7.4.1
KIB, MIB = 1024, 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server for all tests."""
    file = tmp_path_factory.mktemp("floods") / "server.toml"
    file.write_text(CONFIGURATION)
    with Server(file) as started:
        yield started


class Growth:
    """How much larger the worker has become since its first session."""

    def __init__(self, server: Server) -> None:
        self._server = server
        assert_serves(server)
        (self._worker,) = server.workers()
        self._before = processes.resident_bytes(self._worker)

    @property
    def bytes(self) -> int:
        """What it is now; the worker has answered somebody else meanwhile."""
        assert_serves(self._server)
        return processes.resident_bytes(self._worker) - self._before


def assert_serves(server: Server) -> None:
    with enter(server, "/echo") as session:
        session.send("still there?")
        assert session.recv(TIMEOUT) == "still there?"


def assert_refused(client: Client, code: int) -> None:
    first, payload = read_frame(client)
    assert (first, int.from_bytes(payload[:2], "big")) == (0x80 | CLOSE, code)


def send_until_blocked(client: Client, data: bytes) -> int:
    """Send until the server has taken nothing for a second; return how many bytes it has taken."""
    client.socket.settimeout(1)
    sent = 0
    view = memoryview(data)
    try:
        while sent < len(data):
            sent += client.socket.send(view[sent : sent + MIB])
    except TimeoutError:
        pass
    return sent


class TestOfPeers:
    """limits.websocket."""

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(header(0x80 | BINARY, 1 << 63), PROTOCOL_ERROR, id="a length of 2^63"),
            pytest.param(header(0x80 | BINARY, (1 << 63) - 1), TOO_BIG, id="a length of 2^63 - 1"),
            pytest.param(header(0x80 | TEXT, MIB + 1), TOO_BIG, id="one byte too much"),
            pytest.param(b"\x82\x05Hello", PROTOCOL_ERROR, id="a frame without mask"),
            pytest.param(header(0x80 | PING, 126), PROTOCOL_ERROR, id="a long ping"),
        ],
    )
    def test_what_no_client_may_send_is_refused_at_once(self, server: Server, data: bytes, code: int) -> None:
        with enter_by_hand(server.address(), "/echo") as client:
            client.send(data)
            assert_refused(client, code)

    def test_a_compressed_bomb_is_refused_in_bounded_memory(self, server: Server) -> None:
        growth = Growth(server)
        compressor = zlib.compressobj(wbits=-12)
        bomb = compressor.compress(bytes(64 * MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
        with enter_by_hand(server.address(), "/echo", offer) as client:
            client.send(frame(BINARY, bomb[:-4], rsv=RSV1))
            assert_refused(client, TOO_BIG)
        assert growth.bytes < 8 * MIB

    def test_a_flood_of_fragments_is_refused_at_the_size_of_a_message(self, server: Server) -> None:
        growth = Growth(server)
        with enter_by_hand(server.address(), "/echo") as client:
            client.send(frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 100_000)
            client.send(frame(CONTINUATION, bytes(100), fin=False) * (MIB // 100 + 1))
            assert_refused(client, TOO_BIG)
        assert growth.bytes < 8 * MIB

    def test_pings_of_who_does_not_read_the_pongs_cost_nothing(self, server: Server) -> None:
        growth = Growth(server)
        with enter_by_hand(server.address(), "/echo") as client:
            send_until_blocked(client, frame(PING, bytes(125)) * (64 * MIB // 131))
            assert growth.bytes < 8 * MIB

    def test_an_application_that_does_not_read_stops_its_peer_and_loses_nothing(
        self, server: Server, tmp_path: Path
    ) -> None:
        growth = Growth(server)
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        data = frame(BINARY, bytes(64 * KIB), mask=bytes(4)) * 1024
        mark = server.mark()
        with enter_by_hand(server.address(), f"/late?gate={gate}") as client:
            server.wait_for("reads nothing", since=mark)
            sent = send_until_blocked(client, data)
            assert sent < 24 * MIB  # buffers of the kernel, for the most part
            assert growth.bytes < 8 * MIB
            with gate.open("w"):  # the application goes on
                client.send(data[sent:] + frame(TEXT, b"end"))
            assert read_frame(client) == (0x80 | TEXT, str(64 * MIB).encode())


def test_an_application_that_sends_without_end_waits_for_its_peer(server: Server) -> None:
    """`limits.send_timeout`, of a second here, ends the session of who reads nothing."""
    growth = Growth(server)
    mark = server.mark()
    with enter_by_hand(server.address("hasty"), "/pour"):
        gone = server.wait_for("gone after", since=mark)
        assert growth.bytes < 8 * MIB
    count = re.search(r"gone after (\d+): ClientDisconnected", gone.message)
    assert count is not None
    assert int(count[1]) * 64 * KIB < 24 * MIB
