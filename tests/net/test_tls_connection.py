"""A TLS connection from accept to end, in memory and in virtual time: handshake, requests, and every way to end it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import ssl
import sys
import time
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from serverd import der
from serverd.connection import tls, tls_extension
from serverd.connection.handshake import Handshake
from serverd.connection.negotiation import Negotiation
from serverd.connection.subject import distinguished_name, subject_name
from serverd.der import Element
from serverd.generation import Certificate, Limits, Listener, Tls
from serverd.net.tls import LONGEST_HELLO, Contexts
from tests.asgi.test_observer import Notes
from tests.support.applications import Manual, Recorder, Script, echo, hello
from tests.support.authority import DAY, Authority, Issued
from tests.support.wire import TCP_ENDS, MemoryTransport, Wire

AUTHORITY = Authority()
ISSUED = AUTHORITY.issue("a.example", "127.0.0.1")
PAIR = Certificate(ISSUED.cert, ISSUED.key, names=("a.example",), key_type="ec")
CONTEXTS = Contexts(Tls("main", (PAIR,)))
SEVERAL = Contexts(
    Tls("main", (PAIR, Certificate(ISSUED.cert, ISSUED.key, names=("b.example",), key_type="ec"))), ("h2", "http/1.1")
)

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
PROXY = b"PROXY TCP4 203.0.113.9 198.51.100.1 41234 443\r\n"


class Transport(MemoryTransport):
    """One that can be handed on."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._connection = protocol


class TlsWire(Wire):
    """A connection on a listener that speaks TLS, with a client in memory at its other end."""

    def __init__(
        self,
        application: Any,
        *,
        identity: Contexts = CONTEXTS,
        context: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        proxy: bool = False,
        name: str = "a.example",
    ) -> None:
        self.identity, self.proxy, self.name = identity, proxy, name
        self.context = context or AUTHORITY.client_context()
        super().__init__(application, limits=limits)

    def connect(self) -> None:
        service = self.service
        if self.proxy:
            listener = Listener("web", (), 1, service.limits, trusted_proxies=("127.0.0.1",), proxy_protocol=True)
            service.adopt(service.router, listener, service.parser)
        service.identity = self.identity
        first = Negotiation(service) if self.proxy else Handshake(service, self.identity)
        self.transport = Transport(first, self.loop, self.ends)
        self.back, self.there = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = self.context.wrap_bio(self.back, self.there, server_hostname=self.name)
        first.connection_made(self.transport)

    # The client's side.

    def exchange(self) -> None:
        """Let everything that each side has said reach the other."""
        for _ in range(4):
            self.deliver()
            self.back.write(self.received())

    def deliver(self) -> None:
        """Let what the client has said reach the server."""
        if data := self.there.read():
            self.transport.deliver(data)
        self.settle()

    def write_bytewise(self, data: bytes) -> None:
        """Let the client say something in records of a byte each."""
        for octet in data:
            self.client.write(bytes([octet]))

    def turn(self) -> None:
        """Let one turn of the loop pass."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def shake(self) -> TlsWire:
        """Complete the handshake."""
        for _ in range(4):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                self.exchange()
                return self
        raise AssertionError("the handshake does not end")

    def ask(self, data: bytes) -> bytes:
        """Send `data` over TLS and return what comes back."""
        self.client.write(data)
        return self.answer()

    def answer(self) -> bytes:
        """Return what has come back, up to a close_notify."""
        self.exchange()
        found = b""
        while True:
            try:
                data = self.client.read(65536)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return found
            if not data:
                return found
            found += data


def key_updates(keys: Path, count: int) -> bytes:
    """Return the records of a client that has sent nothing yet, and changes its key again and again (RFC 8446 §7.2)."""

    def expand(label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(hashes.SHA384(), size, info).derive(secret)

    lines = (line.split() for line in keys.read_text().splitlines())
    [secret] = [bytes.fromhex(words[2]) for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0"]
    message = bytes([24, 0, 0, 1, 0, 22])  # ours need not change; and it is a handshake message
    head = b"\x17\x03\x03" + (len(message) + 16).to_bytes(2, "big")
    records = []
    for _ in range(count):
        records.append(head + AESGCM(expand(b"key", 32)).encrypt(expand(b"iv", 12), message, head))
        secret = expand(b"traffic upd", 48)
    return b"".join(records)


class TestHandshake:
    def test_a_request_is_answered_and_the_scope_says_how_it_came(self) -> None:
        recorder = Recorder()
        with TlsWire(recorder) as wire:
            assert wire.shake().ask(GET).startswith(b"HTTP/1.1 200 OK\r\n")
            assert len(wire.service.connections) == 1
        [scope] = recorder.scopes
        assert scope["scheme"] == "https"
        assert scope["client"] == TCP_ENDS["peername"]
        assert scope["extensions"]["tls"] == {
            "server_cert": ISSUED.cert,
            "client_cert_chain": (),
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": 0x1302,
        }

    def test_the_observer_of_a_refused_request_is_told_how_it_came(self) -> None:
        notes = Notes()
        with TlsWire(hello) as wire:
            wire.service.observer = notes
            assert wire.shake().ask(b"GET /x HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        (refusal,) = notes.refusals
        assert refusal.tls is not None
        assert refusal.tls["tls_version"] == 0x0304

    def test_tls_1_2_is_told_as_well(self) -> None:
        recorder = Recorder()
        context = AUTHORITY.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with TlsWire(recorder, context=context) as wire:
            wire.shake().ask(GET)
        extension = recorder.scopes[0]["extensions"]["tls"]
        assert (extension["tls_version"], extension["cipher_suite"]) == (0x0303, 0xC02B)

    def test_an_application_changes_its_own_extension_only(self) -> None:
        recorder = Recorder()
        with TlsWire(recorder) as wire:
            wire.shake().ask(GET)
            recorder.scopes[0]["extensions"]["tls"].clear()
            wire.ask(GET)
        assert recorder.scopes[1]["extensions"]["tls"]["tls_version"] == 0x0304

    @pytest.mark.parametrize("size", [1, 7, 300])
    def test_it_may_come_in_pieces(self, size: int) -> None:
        with TlsWire(hello) as wire:
            deliver = wire.transport.deliver
            wire.transport.deliver = (
                lambda data: [  # type: ignore[method-assign]
                    deliver(data[at : at + size]) for at in range(0, len(data), size)
                ]
            )
            assert wire.shake().ask(GET).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_request_may_come_with_the_end_of_the_handshake(self) -> None:
        with TlsWire(hello) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            wire.exchange()
            wire.client.do_handshake()
            assert wire.ask(GET).startswith(b"HTTP/1.1 200 OK\r\n")  # one delivery holds Finished and request

    def test_http_2_is_spoken_where_both_offer_it(self) -> None:
        context = AUTHORITY.client_context()
        context.set_alpn_protocols(["http/1.1", "h2"])
        with TlsWire(hello, identity=SEVERAL, context=context) as wire:
            answer = wire.shake().ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\0" + bytes(4))
            assert wire.client.selected_alpn_protocol() == "h2"
            assert answer[3] == 4, "the first frame is SETTINGS (RFC 9113 §3.4)"

    def test_who_wants_another_protocol_is_told_and_the_log_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        context = AUTHORITY.client_context()
        context.set_alpn_protocols(["imap"])
        with TlsWire(hello, identity=SEVERAL, context=context) as wire:
            with pytest.raises(ssl.SSLError, match="alert no application protocol"):
                wire.shake()
            wire.advance(6)
            assert wire.closed
        assert "the TLS handshake failed: the client offers no protocol of ours by ALPN\n" in caplog.text

    def test_one_deadline_is_for_handshake_and_head(self) -> None:
        with TlsWire(hello, limits=Limits(header_timeout=10.0)) as wire:
            wire.advance(8)
            wire.shake()
            wire.client.write(b"GET / HT")
            wire.exchange()
            assert not wire.closed
            wire.advance(1)
            assert not wire.closed
            wire.back.write(wire.advance(2))
            assert b" 408 " in wire.answer()


class TestHandshakesThatFail:
    """Each is closed, told in one quiet line, and leaves nothing behind."""

    @staticmethod
    def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
        assert all(record.levelno == logging.DEBUG for record in caplog.records)
        assert not any(record.exc_info for record in caplog.records)
        return [record.getMessage() for record in caplog.records if record.name == "serverd.connection"]

    @pytest.fixture(autouse=True)
    def log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

    @pytest.mark.parametrize(
        "garbage",
        [b"\0" * 50, b"\xff" * 5000, b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff" * 9],
        ids=["zeros", "ones", "ssh", "records"],
    )
    def test_garbage_gets_an_alert_at_most(self, caplog: pytest.LogCaptureFixture, garbage: bytes) -> None:
        with TlsWire(hello) as wire:
            answer = wire.send(garbage)
            assert wire.closed
            assert answer[:1] in (b"", b"\x15"), "an alert (RFC 8446 §5.1)"
            wire.send(b"more" * 100)
            wire.advance(3)
            assert wire.transport.closed, "it does not linger for ever"
        [line] = self.lines(caplog)
        assert line.startswith("closed a connection of 127.0.0.1:54321: the TLS handshake failed: ")

    @pytest.mark.parametrize("first", [0, 1, 2, 4])
    def test_plain_http_is_told_in_its_own_words(self, caplog: pytest.LogCaptureFixture, first: int) -> None:
        notes = Notes()
        with TlsWire(hello) as wire:
            wire.service.observer = notes
            assert not first or wire.send(GET[:first]) == b""
            answer = wire.send(GET[first:])
            assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
            body = answer.partition(b"\r\n\r\n")[2]
            assert (*notes.refused, notes.refusals[0].sent) == (400, "GET", b"/x", "1.1", len(body))
            assert notes.refusals[0].client == ("127.0.0.1", 54321)
            assert answer.endswith(b"this port speaks HTTPS\n")
            assert wire.closed
            wire.send_eof()
        [line] = self.lines(caplog)
        assert line.endswith("the TLS handshake failed: http request")

    @pytest.mark.parametrize("method", [b"OPTIONS", b"PATCH", b"DELETE", b"PROPFIND", b"CONNECT", b"PUT", b"HEAD"])
    def test_whatever_its_method(self, method: bytes) -> None:
        with TlsWire(hello) as wire:
            assert wire.send(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.0 400 Bad Request\r\n")
            assert wire.closed
            wire.send_eof()

    @pytest.mark.parametrize(
        "other",
        [b"EHLO a.example\r\n", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"\x00\x01 / HTTP/1.1\r\n", b"HELP\n"],
    )
    def test_who_speaks_something_else_is_not_answered_by_http(self, other: bytes) -> None:
        with TlsWire(hello) as wire:
            assert wire.send(other)[:1] in (b"", b"\x15")
            assert wire.closed
            wire.send_eof()

    @pytest.mark.parametrize("begun", [0, 1, 100])
    def test_one_that_is_not_completed_is_closed_in_time(self, caplog: pytest.LogCaptureFixture, begun: int) -> None:
        with TlsWire(hello, limits=Limits(header_timeout=5.0)) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            wire.send(wire.there.read()[:begun])
            wire.advance(4)
            assert not wire.closed
            wire.advance(1)
            assert wire.closed
        [line] = self.lines(caplog)
        assert line.endswith("its TLS handshake was not complete in time")

    def test_dribbling_makes_no_difference(self) -> None:
        with TlsWire(hello, limits=Limits(header_timeout=5.0)) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            for byte in wire.there.read()[:5]:
                wire.send(bytes([byte]))
                wire.advance(1)
            assert wire.closed

    def test_a_hello_without_end_is_not_waited_for(self, caplog: pytest.LogCaptureFixture) -> None:
        message = b"\1\2\0\0" + bytes(128 * 1024)
        records = b"".join(b"\x16\x03\x01\0\1" + bytes([one]) for one in message)
        with TlsWire(hello) as wire:
            for at in range(0, LONGEST_HELLO, 1024):
                wire.send(records[at : at + 1024])
                assert not wire.transport.closed
            wire.send(records[LONGEST_HELLO : LONGEST_HELLO + 1024])
            assert wire.transport.closed
        [line] = self.lines(caplog)
        assert line.endswith("its ClientHello is longer than 64 KiB")

    def test_who_leaves_is_not_waited_for(self, caplog: pytest.LogCaptureFixture) -> None:
        with TlsWire(hello) as wire:
            wire.send_eof()
            assert wire.transport.closed
        assert self.lines(caplog)[0].endswith("it has left during the TLS handshake")

    @pytest.mark.parametrize("identity", [CONTEXTS, SEVERAL], ids=["one certificate", "several"])
    def test_a_name_that_is_not_ascii_writes_no_traceback(
        self, identity: Contexts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        raised: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", raised.append)
        with TlsWire(hello, identity=identity) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            hello_with_name = wire.there.read()
            assert b"a.example" in hello_with_name
            wire.send(hello_with_name.replace(b"a.example", b"\xff\xfe\xfd\xfcample"))
            wire.send_eof()
        assert raised == []
        assert sys.unraisablehook == raised.append
        [line] = self.lines(caplog)
        assert line.endswith("the TLS handshake failed: the client asks for a name that is not ASCII")

    def test_a_bad_client_certificate_is_told_in_words(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        foreign = Authority("stranger").issue("eve", client=True)
        contexts = Contexts(Tls("main", (PAIR,), client_auth="required", client_ca=AUTHORITY.pem))
        context = AUTHORITY.client_context(foreign, tmp_path)
        with TlsWire(hello, identity=contexts, context=context) as wire:
            wire.shake()
            with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
                wire.ask(GET)
            assert wire.transport.eof, "our end is closed, theirs is read until they have seen why"
            wire.advance(3)
            assert wire.transport.closed
        [line] = self.lines(caplog)
        assert line.endswith("the TLS handshake failed: unable to get local issuer certificate")


class TestBounds:
    def test_a_handshake_counts_as_a_connection(self) -> None:
        with TlsWire(hello, limits=Limits(connections=1)) as wire:
            first = wire.transport
            assert len(wire.service.connections) == 1
            wire.connect()
            assert wire.transport.closed
            assert wire.received() == b"", "to say more would take a handshake"
            assert not first.closed
            assert wire.service.turned_away == 0
            first.abort()
            wire.connect()
            assert wire.shake().ask(GET).startswith(b"HTTP/1.1 200 OK")

    def test_a_drain_leaves_a_handshake_its_time_and_asks_for_no_second_request(self) -> None:
        with TlsWire(hello) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            wire.exchange()
            wire.drain()
            wire.advance(2)
            assert not wire.closed
            assert b"connection: close\r\n" in wire.shake().ask(GET)
            assert wire.closed

    def test_a_drain_does_not_wait_for_one_that_has_not_begun(self) -> None:
        with TlsWire(hello) as wire:
            wire.drain()
            wire.advance(2)
            assert wire.closed

    def test_a_peer_that_wants_replies_and_reads_none_is_cut(self) -> None:
        # A KeyUpdate that asks for another one (RFC 8446 §4.6.3) is answered by OpenSSL without our being asked;
        # what is tested is the transport's part, because Python's clients cannot send one.
        with TlsWire(hello) as wire:
            wire.shake()
            layer = wire.transport._connection
            wire.transport.room = 0
            layer.pause_writing()
            for _ in range(200):
                layer._object.write(b"x" * 100)
                layer._reply()
            assert wire.closed


class TestTraffic:
    def test_large_bodies_go_both_ways(self) -> None:
        body = os.urandom(3_000_000)
        with TlsWire(echo) as wire:
            wire.shake()
            wire.client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            sent = 0
            while sent < len(body):
                sent += wire.client.write(body[sent : sent + 500_000])
            answer = wire.answer()
            assert answer.endswith(body)

    def test_nothing_is_handed_on_while_reading_is_paused(self) -> None:
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake()
            body = os.urandom(2_000_000)
            wire.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            sent = 0
            while sent < len(body):
                sent += wire.client.write(body[sent : sent + 100_000])
                wire.exchange()
            assert not wire.transport.reading
            received = b""
            while len(received) < len(body):
                task = wire.run(manual.call.receive())
                received += task.result()["body"]
            assert received == body

    def test_the_socket_is_not_read_while_some_of_the_last_read_waits(self) -> None:
        """Else each part that a slow application takes would let in a whole read, and a large body all of itself."""
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake()
            body = os.urandom(400_000)
            wire.client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            for half in (body[:200_000], body[200_000:]):
                while half:
                    half = half[wire.client.write(half[:16_384]) :]
                wire.transport.deliver(wire.there.read())
                wire.settle()
                assert not wire.transport.reading
            waiting, received, parts = len(wire.transport.waiting), b"", 0
            assert waiting > len(body) // 3
            while len(wire.transport.waiting) == waiting:
                received += wire.run(manual.call.receive()).result()["body"]
                parts += 1
            assert parts > 1
            while len(received) < len(body):
                received += wire.run(manual.call.receive()).result()["body"]
            assert received == body
            assert wire.transport.reading

    def test_many_small_records_give_others_their_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "perf_counter", count().__next__)  # whatever is done takes a second
        body = os.urandom(1000)
        with TlsWire(echo) as wire:
            wire.shake()
            wire.write_bytewise(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            with_turns = 0
            wire.transport.deliver(wire.there.read())
            while not wire.transport.reading:
                with_turns += 1
                wire.turn()
            assert with_turns >= 1000 // tls.RECORDS_AT_ONCE
            assert wire.answer().endswith(body)

    def test_their_end_is_told_behind_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "perf_counter", count().__next__)  # whatever is done takes a second
        recorder = Recorder()
        with TlsWire(recorder) as wire:
            wire.shake()
            wire.write_bytewise(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n" + b"x" * 500)
            wire.transport.deliver(wire.there.read())
            assert wire.transport._connection.eof_received()
            wire.settle()
            assert recorder.bodies == [b"x" * 500]
            assert wire.answer().startswith(b"HTTP/1.1 200 ")

    def test_one_that_is_ended_amid_them_is_heard_until_it_leaves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "perf_counter", count().__next__)  # whatever is done takes a second
        with TlsWire(hello) as wire:
            wire.shake()
            wire.write_bytewise(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + b"x" * 300)
            wire.transport.deliver(wire.there.read())
            wire.settle()
            assert wire.answer().startswith(b"HTTP/1.1 400 ")
            assert wire.transport.reading

    def test_nothing_of_them_is_handed_on_while_reading_is_paused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "perf_counter", count().__next__)  # whatever is done takes a second
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake()
            wire.write_bytewise(GET * 20)
            wire.transport.deliver(wire.there.read())
            for number in range(20):
                wire.settle()
                assert len(manual.calls) == number + 1
                call = manual.calls[number]
                wire.run(call.respond())
                call.finish()
            assert wire.transport.reading
            assert wire.answer().count(b"HTTP/1.1 200 ") == 20

    def test_of_a_flood_of_key_updates_less_is_taken_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tls, "perf_counter", count().__next__)  # whatever is done takes a second
        context = AUTHORITY.client_context()
        context.keylog_filename = str(tmp_path / "keys")
        with TlsWire(hello, context=context) as wire:
            wire.shake()
            flood = key_updates(tmp_path / "keys", 2500)
            wire.transport.deliver(flood)
            turns = 0
            while not wire.transport.reading:
                turns += 1
                wire.turn()
            assert turns > (len(flood) - tls.READ_PIECE) / (2 * tls.SMALLEST_PIECE)
            assert not wire.transport.closed

    def test_an_end_is_told_after_what_came_before_it(self) -> None:
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake()
            body = os.urandom(2_000_000)
            wire.client.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            sent = 0
            while sent < len(body):
                sent += wire.client.write(body[sent:])
            wire.deliver()  # all at once: most of it waits undecrypted, because nobody has asked for it
            assert not wire.transport.reading
            assert wire.transport._connection.eof_received()  # as a loop may that had read it already
            received = b""
            while len(received) < len(body):
                message = wire.run(manual.call.receive()).result()
                assert message["type"] == "http.request"
                received += message["body"]
            assert received == body

    def test_the_end_of_a_handshake_leaves_with_the_first_answer(self) -> None:
        with TlsWire(hello) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            wire.exchange()
            wire.client.do_handshake()
            wire.client.write(GET)
            written = wire.transport.writes
            wire.deliver()
            assert wire.transport.writes == written + 1
            assert wire.answer().endswith(b"ok")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_nobody_needs_to_ask_for_the_end_of_a_handshake(self, version: ssl.TLSVersion) -> None:
        context = AUTHORITY.client_context()
        context.maximum_version = version
        with TlsWire(hello, context=context) as wire:
            wire.shake()
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.read(1)
            assert wire.client.session is not None
            assert wire.client.session.has_ticket

    def test_a_large_answer_leaves_in_batches_of_records(self) -> None:
        body = os.urandom(2_500_000)
        with TlsWire(Script({"type": "http.response.start", "status": 200, "headers": []},
                            {"type": "http.response.body", "body": body})) as wire:  # fmt: skip
            wire.shake()
            written = wire.transport.writes
            assert body in wire.ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            assert wire.transport.writes <= written + 23, "one for seven of its 154 records, and one for close_notify"

    def test_pipelined_requests_in_one_record_are_answered_in_order(self) -> None:
        with TlsWire(echo) as wire:
            answer = wire.shake().ask(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
            assert [answer.count(b"\r\n\r\n/%d" % n) for n in range(5)] == [1] * 5

    def test_a_file_is_never_sent_in_the_clear(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(os.urandom(300_000))

        async def application(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"300000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.pathsend", "path": str(file)})

        with TlsWire(application) as wire:
            assert wire.shake().ask(GET).endswith(file.read_bytes())


class TestEnds:
    def test_ours_says_so_and_lingers(self) -> None:
        with TlsWire(hello) as wire:
            answer = wire.shake().ask(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert wire.client.read(1) == b"", "close_notify has come (RFC 8446 §6.1)"
            assert wire.transport.eof
            assert not wire.transport.closed
            wire.transport.deliver(b"anything at all")
            wire.advance(3)
            assert wire.transport.closed

    @pytest.mark.parametrize("politely", [True, False])
    def test_theirs_ends_an_idle_connection(self, politely: bool) -> None:
        with TlsWire(hello) as wire:
            wire.shake().ask(GET)
            if politely:
                with pytest.raises(ssl.SSLWantReadError):
                    wire.client.unwrap()
                wire.exchange()
                assert wire.transport.closed
            else:
                wire.send_eof()
                assert wire.transport.closed

    @pytest.mark.parametrize("politely", [True, False])
    def test_after_their_half_what_was_asked_for_is_still_answered(self, politely: bool) -> None:
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake().ask(GET)
            if politely:
                with pytest.raises(ssl.SSLWantReadError):
                    wire.client.unwrap()
                wire.exchange()
            wire.send_eof()
            headers = [(b"content-length", b"2")]
            wire.run(manual.call.send({"type": "http.response.start", "status": 200, "headers": headers}))
            wire.run(manual.call.send({"type": "http.response.body", "body": b"ok"}))
            wire.back.write(wire.received())
            if not politely:  # OpenSSL reads nothing more after it has said goodbye
                assert wire.answer().endswith(b"\r\n\r\nok")
            assert wire.closed

    @pytest.mark.parametrize("together", [True, False])
    def test_what_comes_behind_their_goodbye_is_not_kept(self, together: bool) -> None:
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake().ask(GET)
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.unwrap()
            goodbye, junk = wire.there.read(), bytes(100_000)
            for piece in [goodbye + junk] if together else [goodbye, junk[:10_000], junk]:
                wire.transport.deliver(piece)
            wire.settle()
            connection = wire.transport._connection
            assert isinstance(connection, tls.TlsTransport)
            assert wire.transport.reading
            assert not connection._waits()
            wire.run(manual.call.respond())
            assert wire.transport.eof or wire.transport.closed

    def test_a_broken_record_ends_it_with_an_alert(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        with TlsWire(hello) as wire:
            wire.shake().ask(GET)
            wire.client.write(GET)
            record = bytearray(wire.there.read())
            record[-1] ^= 1
            wire.back.write(wire.send(bytes(record)))
            assert wire.transport.closed
            with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
                wire.client.read(1)
        assert [one.getMessage() for one in caplog.records][-1].startswith("cut a connection: what came over TLS is")

    def test_plain_bytes_behind_a_handshake_are_no_request(self) -> None:
        recorder = Recorder()
        with TlsWire(recorder) as wire:
            wire.shake()
            wire.send(GET)
            assert wire.transport.closed
        assert recorder.scopes == []

    def test_a_lost_connection_is_told(self) -> None:
        manual = Manual()
        with TlsWire(manual) as wire:
            wire.shake().ask(GET)
            wire.lose()
            assert wire.run(manual.call.receive()).result()["type"] in ("http.request", "http.disconnect")

    @pytest.mark.parametrize("end", [TlsWire.lose, TlsWire.send_eof, lambda wire: wire.ask(LAST)])
    def test_what_openssl_holds_is_gone_with_the_connection(self, end: Callable[[TlsWire], object]) -> None:
        with TlsWire(hello) as wire:
            wire.shake().ask(GET)
            held = weakref.ref(wire.transport._connection._object)
            gc.collect()
            gc.disable()  # in a circle it would wait for the collector
            try:
                end(wire)
                assert held() is None
            finally:
                gc.enable()


class TestBehindAProxyHeader:
    def test_the_header_comes_first_and_tls_after_it(self) -> None:
        recorder = Recorder()
        with TlsWire(recorder, proxy=True) as wire:
            wire.send(PROXY)
            wire.shake().ask(GET)
        [scope] = recorder.scopes
        assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 41234), "https")
        assert scope["extensions"]["tls"]["tls_version"] == 0x0304

    def test_both_may_come_in_one_piece(self) -> None:
        recorder = Recorder()
        with TlsWire(recorder, proxy=True) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            wire.back.write(wire.send(PROXY + wire.there.read()))
            wire.shake().ask(GET)
        assert len(recorder.scopes) == 1

    def test_without_a_header_there_is_no_handshake(self) -> None:
        with TlsWire(hello, proxy=True) as wire:
            with pytest.raises(ssl.SSLWantReadError):
                wire.client.do_handshake()
            assert wire.send(wire.there.read()) == b""
            assert wire.closed

    def test_all_of_it_has_one_deadline(self) -> None:
        with TlsWire(hello, proxy=True, limits=Limits(header_timeout=5.0)) as wire:
            wire.advance(3)
            wire.send(PROXY)
            wire.advance(2)
            assert wire.closed


class TestTheClientsCertificate:
    def scope(self, certificate: Issued, folder: Path, version: ssl.TLSVersion) -> Any:
        recorder = Recorder()
        contexts = Contexts(Tls("main", (PAIR,), client_auth="required", client_ca=AUTHORITY.pem))
        context = AUTHORITY.client_context(certificate, folder)
        context.maximum_version = version
        with TlsWire(recorder, identity=contexts, context=context) as wire:
            wire.shake().ask(GET)
        return recorder.scopes[0]["extensions"]["tls"]

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_is_in_the_scope(self, tmp_path: Path, version: ssl.TLSVersion) -> None:
        alice = AUTHORITY.issue("alice", client=True)
        extension = self.scope(alice, tmp_path, version)
        assert extension["client_cert_name"] == "CN=alice"
        assert next(iter(extension["client_cert_chain"])) == alice.cert
        assert extension["client_cert_error"] is None

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_comes_with_the_chain_that_was_sent(self, tmp_path: Path, version: ssl.TLSVersion) -> None:
        bob = Authority(deep=True).issue("bob", client=True)
        end = "-----END CERTIFICATE-----\n"
        chain = [f"{pem}{end}" for pem in bob.cert.split(end)[:-1]]
        assert len(chain) == 2
        extension = self.scope(bob, tmp_path, version)
        assert list(extension["client_cert_chain"]) == chain

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("how", ["optional", "required"])
    def test_that_has_expired_ends_a_session_that_is_resumed(
        self,
        how: str,
        version: ssl.TLSVersion,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        contexts = Contexts(Tls("main", (PAIR,), client_auth=how, client_ca=AUTHORITY.pem))
        context = AUTHORITY.client_context(AUTHORITY.issue("alice", client=True, ends=2 * DAY), tmp_path)
        context.maximum_version = version
        with TlsWire(hello, identity=contexts, context=context) as wire:
            assert wire.shake().ask(GET).startswith(b"HTTP/1.1 200 ")
            session = wire.client.session
        for days, answers in ((1, True), (3, False)):
            now = time.time() + days * 86400
            monkeypatch.setattr(tls_extension, "time", lambda now=now: now)
            with caplog.at_level(logging.DEBUG), TlsWire(hello, identity=contexts, context=context) as wire:
                wire.client = context.wrap_bio(wire.back, wire.there, server_hostname="a.example", session=session)
                with contextlib.suppress(AssertionError):
                    wire.shake()
                if answers:
                    assert wire.ask(GET).startswith(b"HTTP/1.1 200 ")
                    assert wire.client.session_reused
                else:
                    assert wire.transport.closed
                    assert not wire.answer()
        assert "the certificate of the client has expired since the session began that is resumed" in caplog.text

    def test_a_session_that_is_resumed_has_the_chain_that_it_began_with(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tls_extension, "_MOST_CHAINS", 1)
        monkeypatch.setattr(tls_extension, "_CHAINS", {})
        recorder = Recorder()
        contexts = Contexts(Tls("main", (PAIR,), client_auth="required", client_ca=AUTHORITY.pem))
        deep = Authority(deep=True)

        def chain_of(context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[Any, Any]:
            with TlsWire(recorder, identity=contexts, context=context) as wire:
                if session is not None:
                    wire.client = context.wrap_bio(wire.back, wire.there, server_hostname="a.example", session=session)
                wire.shake().ask(GET)
                assert wire.client.session_reused is (session is not None)
                extension = recorder.scopes[-1]["extensions"]["tls"]
                return list(extension["client_cert_chain"]), wire.client.session

        bob, eve = deep.issue("bob", client=True), deep.issue("eve", client=True)
        context, other = deep.client_context(bob, tmp_path), deep.client_context(eve, tmp_path)
        whole, session = chain_of(context)
        assert len(whole) == 2
        assert chain_of(context, session)[0] == whole
        assert len(chain_of(other)[0]) == 2
        assert chain_of(context, session)[0] == whole[:1], "of the many chains the last ones are kept"

    def test_whatever_stands_beside_the_subject(self, tmp_path: Path) -> None:
        # A mail address in Latin-1, which OpenSSL takes and Python's ssl cannot decode.
        names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x06\x81\x04\xfc@ab")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "zoe")])
        zoe = AUTHORITY.issue(subject=subject, more=[names], client=True)
        assert self.scope(zoe, tmp_path, ssl.TLSVersion.TLSv1_3)["client_cert_name"] == "CN=zoe"

    def test_one_that_cannot_be_read_is_no_reason_for_a_traceback(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(data: bytes, tag: int) -> Element:
            raise ValueError("lacks a part")

        caplog.set_level(logging.DEBUG)
        contexts = Contexts(Tls("main", (PAIR,), client_auth="required", client_ca=AUTHORITY.pem))
        context = AUTHORITY.client_context(AUTHORITY.issue("alice", client=True), tmp_path)
        monkeypatch.setattr(der, "only_element", fail)
        with TlsWire(hello, identity=contexts, context=context) as wire:
            wire.shake()
            assert wire.transport.closed
            assert not wire.service.connections
        [told] = [record.getMessage() for record in caplog.records if record.name == "serverd.connection"]
        assert told.endswith("the certificate of the client lacks a part")


ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "serial": NameOID.SERIAL_NUMBER,
    "email": NameOID.EMAIL_ADDRESS,
    "own": x509.ObjectIdentifier("1.3.6.1.4.1.1466.0"),
    "large": x509.ObjectIdentifier("2.999.16384"),
}


class TestDistinguishedNames:
    """RFC 4514 §2 and §4."""

    @pytest.mark.parametrize(
        ("subject", "expected"),
        [
            ([["DC=net"], ["DC=example"], ["UID=jsmith"]], "UID=jsmith,DC=example,DC=net"),
            ([["CN=first"], ["CN=second"]], "CN=second,CN=first"),
            ([['CN=James "Jim" Smith, III']], 'CN=James \\"Jim\\" Smith\\, III'),
            ([["CN=#a <b>;c\\ "]], "CN=\\#a \\<b\\>\\;c\\\\\\ "),
            ([["CN= "]], "CN=\\ "),
            ([["CN=Lučić"]], "CN=Lučić"),
            ([["CN=a\0b"]], "CN=a\\00b"),
            ([["own=Hi"]], "1.3.6.1.4.1.1466.0=#0c024869"),
            ([["large=Hi"]], "2.999.16384=#0c024869"),
            ([["serial=7"], ["email=a@b.example"]], "emailAddress=a@b.example,serialNumber=7"),
            ([], ""),
        ],
    )
    def test_are_written_as_ldap_writes_them(self, subject: list[list[str]], expected: str) -> None:
        name = x509.Name([x509.RelativeDistinguishedName([attribute(one) for one in part]) for part in subject])
        assert distinguished_name(der.only_element(name.public_bytes(), der.SEQUENCE)) == expected

    def test_parts_with_several_attributes_keep_them_together(self) -> None:
        part = x509.RelativeDistinguishedName([attribute("OU=Sales"), attribute("CN=J.  Smith")])
        name = x509.Name([x509.RelativeDistinguishedName([attribute("DC=net")]), part])
        written = distinguished_name(der.only_element(name.public_bytes(), der.SEQUENCE))
        # DER sorts the members of a set by their encoding (X.690 §11.6).
        assert written in ("CN=J.  Smith+OU=Sales,DC=net", "OU=Sales+CN=J.  Smith,DC=net")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"\x1e\x04\0Z\x01\x0d", "CN=Zč"),
            (b"\x1c\x08\0\0\0Z\0\0\x01\x0d", "CN=Zč"),
            (b"\x14\x02Z\xe9", "CN=Zé"),
            (b"\x13\x02Zo", "CN=Zo"),
            (b"\x0c\x02Z\xe9", "CN=#0c025ae9"),  # no UTF-8
            (b"\x1e\x03\0Zo", "CN=#1e03005a6f"),  # half a character
            (b"\x03\x02\0\xff", "CN=#030200ff"),  # a bit string
        ],
    )
    def test_texts_of_every_kind(self, value: bytes, expected: str) -> None:
        attribute = b"\x06\x03\x55\x04\x03" + value
        inner = b"\x30" + bytes([len(attribute)]) + attribute
        name = b"\x31" + bytes([len(inner)]) + inner
        assert distinguished_name(der.Element(der.SEQUENCE, name, name)) == expected

    @settings(max_examples=300, deadline=None)
    @given(data=st.data())
    def test_damage_is_an_error_and_nothing_worse(self, data: st.DataObject) -> None:
        damaged = bytearray(ISSUED.certificate.public_bytes(serialization.Encoding.DER))
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(ValueError):
            subject_name(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def attribute(text: str) -> x509.NameAttribute:
    kind, _, value = text.partition("=")
    return x509.NameAttribute(ATTRIBUTES[kind], value)
