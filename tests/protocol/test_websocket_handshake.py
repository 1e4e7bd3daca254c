"""The opening handshake (RFC 6455 §4, RFC 7692 §7.1), sans-IO: who wants a session, and what is agreed on with him.

What a connection makes of it is shown in tests/connection/test_websocket_handshake.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from serverd.errors import PeerError
from serverd.protocol.head import RequestHead
from serverd.protocol.websocket_deflate import DeflateTerms
from serverd.protocol.websocket_handshake import Handshake, offers_websocket, read_handshake
from tests.support.every import every
from tests.support.wire import ACCEPT, KEY, PARSERS, decode

EVERY_PARSER = pytest.mark.parametrize("parser", sorted(PARSERS))

# The field lines of a handshake that nothing is wrong with.
FIELDS = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
}


def head_of(
    parser: str = "httptools",
    *more: tuple[str, str],
    method: str = "GET",
    version: str = "1.1",
    **changes: str | None,
) -> RequestHead:
    """Return the head of a handshake with fields changed, left out (None), and added."""
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in [*fields.items(), *more] if value is not None]
    data = "\r\n".join([f"{method} /chat HTTP/{version}", *lines, "", ""]).encode("latin-1")
    [request] = decode(data, parser).requests
    return request.head


def agreed(parser: str = "httptools", *more: tuple[str, str], **changes: Any) -> Handshake:
    return read_handshake(head_of(parser, *more, **changes), True)


def refused(parser: str = "httptools", *more: tuple[str, str], **changes: Any) -> int:
    """Return the status that refuses the handshake."""
    head = head_of(parser, *more, **changes)
    assert offers_websocket(head), "it is an ordinary request"
    with pytest.raises(PeerError) as caught:
        read_handshake(head, True)
    assert type(caught.value) is PeerError
    return caught.value.status


@EVERY_PARSER
class TestOffers:
    """RFC 9110 §7.8, RFC 6455 §4.2.1: what asks for a session, and what is an ordinary request."""

    @every("upgrade", ["websocket", "WebSocket", "WEBSOCKET", "h2c, websocket", "\twebsocket ,x"])
    @every("connection", ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,close", ", ,\tupgrade ,"])
    def test_upgrade_and_connection_are_lists_in_any_case(self, parser: str, upgrade: str, connection: str) -> None:
        assert offers_websocket(head_of(parser, Upgrade=upgrade, Connection=connection))

    def test_a_list_may_come_in_several_fields(self, parser: str) -> None:
        more = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        assert offers_websocket(head_of(parser, *more, Connection="keep-alive", Upgrade="h2c"))

    @every("connection", [None, "", "keep-alive", "close", "Upgraded", "Up grade", "Upgrade;q=1"])
    def test_without_upgrade_among_the_options_it_is_ordinary(self, parser: str, connection: str | None) -> None:
        assert not offers_websocket(head_of(parser, Connection=connection))

    @every(
        "upgrade",
        [None, "", "h2c", "websockets", "web socket", "websocket/13", '"websocket"', "TLS/1.0", "\xffwebsocket"],
    )
    def test_with_another_protocol_it_is_ordinary(self, parser: str, upgrade: str | None) -> None:
        assert not offers_websocket(head_of(parser, Upgrade=upgrade))

    def test_in_http_1_0_it_is_ordinary(self, parser: str) -> None:
        assert not offers_websocket(head_of(parser, version="1.0"))  # RFC 9110 §7.8


@EVERY_PARSER
class TestRequirements:
    """RFC 6455 §4.2.1: what a request for a session has to have."""

    @pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS"])
    def test_only_get_opens_a_session(self, parser: str, method: str) -> None:
        assert refused(parser, method=method) == 400

    @pytest.mark.parametrize("body", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
    def test_a_body_is_refused(self, parser: str, body: tuple[str, str]) -> None:
        # Where it ends and the frames begin would be two readers' guess.
        assert refused(parser, body) == 400

    def test_a_body_of_no_bytes_is_none(self, parser: str) -> None:
        assert agreed(parser, ("Content-Length", "0")).subprotocols == []

    def test_the_version_is_missed(self, parser: str) -> None:
        assert refused(parser, Sec_WebSocket_Version=None) == 400

    def test_two_versions_are_refused(self, parser: str) -> None:
        assert refused(parser, ("Sec-WebSocket-Version", "13")) == 400

    @every("version", ["", "8", "0", "12", "14", "013", "13, 8", "13.0", "x", "\xb3"])
    def test_another_version_is_told_which_one_is_spoken(self, parser: str, version: str) -> None:
        assert refused(parser, Sec_WebSocket_Version=version) == 426  # RFC 6455 §4.4

    def test_the_key_is_missed(self, parser: str) -> None:
        assert refused(parser, Sec_WebSocket_Key=None) == 400

    def test_two_keys_are_refused(self, parser: str) -> None:
        assert refused(parser, ("Sec-WebSocket-Key", KEY.decode())) == 400

    @every(
        "key",
        [
            pytest.param("", id="empty"),
            pytest.param("dGhlIHNhbXBsZSBub25jZQ", id="without padding"),
            pytest.param("dGhlIHNhbXBsZSBub25jZQ===", id="too much padding"),
            pytest.param("dGhlIHNhbXBsZSBub25j", id="15 bytes"),
            pytest.param("dGhlIHNhbXBsZSBub25jZWQ=", id="17 bytes"),
            pytest.param("dGhlIHNhbXBs ZSBub25jZQ==", id="white space inside"),
            pytest.param("dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", id="two in a list"),
            pytest.param("dGhlIHNhbXBsZSBub25j*Q==", id="no base64 digit"),
            pytest.param("__hlIHNhbXBsZSBub25jZQ==", id="base64 for URLs"),
            pytest.param("\xe4GhlIHNhbXBsZSBub25jZQ==", id="not ASCII"),
        ],
    )
    def test_a_key_that_is_not_16_bytes_in_base64_is_refused(self, parser: str, key: str) -> None:
        assert refused(parser, Sec_WebSocket_Key=key) == 400


class TestAnswer:
    """RFC 6455 §4.2.2."""

    @pytest.mark.parametrize(
        ("key", "accept"),
        [
            (KEY.decode(), ACCEPT.decode()),
            ("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
            ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),  # of a widespread example
        ],
    )
    def test_the_key_is_answered(self, key: str, accept: str) -> None:
        assert agreed(Sec_WebSocket_Key=key).fields == [
            (b"upgrade", b"websocket"),
            (b"sec-websocket-accept", accept.encode()),
        ]

    def test_nothing_is_agreed_on_that_was_not_asked_for(self) -> None:
        handshake = agreed()
        assert (list(handshake.subprotocols), handshake.terms) == ([], None)


@EVERY_PARSER
class TestSubprotocols:
    """RFC 6455 §4.1, §11.3.4."""

    def test_they_come_in_the_order_of_preference(self, parser: str) -> None:
        handshake = agreed(parser, ("Sec-WebSocket-Protocol", "v2.soap ,\tchat"), ("Sec-WebSocket-Protocol", "a,B,b"))
        assert list(handshake.subprotocols) == ["v2.soap", "chat", "a", "B", "b"]

    @pytest.mark.parametrize("offered", ["", " , ", ","])
    def test_an_empty_list_offers_none(self, parser: str, offered: str) -> None:
        assert list(agreed(parser, ("Sec-WebSocket-Protocol", offered)).subprotocols) == []

    @every("offered", ["chat, chat", "a b", "a/b", '"chat"', "a;b=1", "ch\xe4t", "(a)", "a=b", "chat\t2"])
    def test_duplicates_and_what_is_no_token_are_refused(self, parser: str, offered: str) -> None:
        assert refused(parser, ("Sec-WebSocket-Protocol", offered)) == 400

    def test_a_duplicate_in_another_field_is_refused(self, parser: str) -> None:
        assert refused(parser, ("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b, a")) == 400


def extension(*offers: str, compresses: bool = True) -> tuple[DeflateTerms | None, list[str]]:
    """Return what is agreed on for these fields, and what the answer says of it."""
    head = head_of("httptools", *(("Sec-WebSocket-Extensions", offer) for offer in offers))
    handshake = read_handshake(head, compresses)
    answers = [value for name, value in handshake.fields if name == b"sec-websocket-extensions"]
    assert len(answers) == (handshake.terms is not None)
    return handshake.terms, [part.strip() for answer in answers for part in answer.decode().split(";")]


class TestExtensions:
    """RFC 6455 §9.1, RFC 7692 §5 and §7.1; the parameters one by one: test_websocket_deflate.py."""

    @every("bits", range(8, 16))
    @every("value", [" = {}", '="{}"'])
    def test_the_client_may_bound_its_own_window(self, bits: int, value: str) -> None:
        terms, answer = extension("permessage-deflate; client_max_window_bits" + value.format(bits))
        assert terms is not None
        assert 8 <= terms.client_bits <= bits
        assert f"client_max_window_bits={terms.client_bits}" in answer

    @pytest.mark.parametrize("bits", range(9, 16))
    def test_the_client_may_bound_our_window(self, bits: int) -> None:
        terms, answer = extension(f"permessage-deflate; server_max_window_bits={bits}")
        assert terms is not None
        assert 9 <= terms.server_bits <= bits
        # RFC 7692 §7.1.2.1: who accepts the parameter says so, with a value no larger than what was asked.
        assert f"server_max_window_bits={terms.server_bits}" in answer

    @pytest.mark.parametrize("server", [True, False])
    @pytest.mark.parametrize("client", [True, False])
    def test_the_answer_says_what_the_terms_are(self, server: bool, client: bool) -> None:
        offer = "permessage-deflate" + "; server_no_context_takeover" * (not server)
        terms, answer = extension(offer + "; client_no_context_takeover" * (not client))
        assert terms is not None
        assert (terms.server_takeover, terms.client_takeover) == (server, client)
        assert answer[0] == "permessage-deflate"
        assert ("server_no_context_takeover" in answer) is not server
        assert ("client_no_context_takeover" in answer) is not client

    def test_the_first_offer_that_can_be_taken_is(self) -> None:
        terms, answer = extension(
            "x-webkit-deflate-frame; no_context_takeover, permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; client_no_context_takeover, permessage-deflate",
        )
        assert terms is not None
        assert not terms.client_takeover
        assert answer.count("permessage-deflate") == 1

    @pytest.mark.parametrize("offer", ["bbf-usp-protocol", "permessage-bzip2", "", ", ,"])
    def test_what_nobody_here_knows_is_declined(self, offer: str) -> None:
        assert extension(offer) == (None, [])

    def test_nothing_is_compressed_where_that_is_switched_off(self) -> None:
        assert extension("permessage-deflate; client_max_window_bits", compresses=False) == (None, [])

    @every("compresses", [True, False])
    @every(
        "offer",
        [
            "permessage-deflate;",
            "; client_max_window_bits",
            "permessage-deflate; ; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; =10",
            "permessage-deflate; client_max_window_bits=10=10",
            'permessage-deflate; client_max_window_bits="10',
            'permessage-deflate; client_max_window_bits="1 0"',
            'permessage-deflate; client_max_window_bits=""',
            "permessage-deflate=1",
            "permessage deflate",
            "permessage-deflate; a b",
            "permessage-d\xe9flate",
            "ok, (not)",
            'x; a="b,c"',  # RFC 6455 §9.1: without the quotes it has to be a token
        ],
    )
    def test_a_malformed_field_is_refused_whatever_is_wanted(self, offer: str, compresses: bool) -> None:
        head = head_of("httptools", ("Sec-WebSocket-Extensions", offer))
        with pytest.raises(PeerError) as caught:
            read_handshake(head, compresses)
        assert caught.value.status == 400
