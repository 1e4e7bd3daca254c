"""Responses in HTTP/2 (RFC 9113 §8.1, §8.2, §8.3.2): heads, bodies, trailers, and that they leave together."""

from __future__ import annotations

import pytest

from serverd.protocol.head import Fields
from tests.protocol.http2_peer import DATA, DATE, END_HEADERS, END_STREAM, GET, HEADERS, POST, Frame, Peer, settings

DEFAULTS: Fields = [(b"date", DATE), (b"server", b"serverd")]


def head_for(status: int, fields: Fields, end: bool = True) -> Fields:
    """Return the fields of the response head that is sent."""
    peer = Peer()
    peer.core.send_headers(peer.open(1), status, fields, end)
    [answer] = peer.take()
    assert answer.flags == END_HEADERS | (END_STREAM if end else 0)
    return peer.fields(answer)


class TestHeads:
    """RFC 9113 §8.3.2, §8.2.2; RFC 9110 §8.6."""

    def test_date_and_server_are_added(self) -> None:
        fields = [(b"content-type", b"text/plain"), (b"x-app", b"1")]
        assert head_for(200, fields) == [(b":status", b"200"), *fields, *DEFAULTS]

    def test_those_of_the_application_stay(self) -> None:
        assert head_for(404, [(b"server", b"mine")]) == [(b":status", b"404"), (b"server", b"mine"), DEFAULTS[0]]
        assert head_for(200, [(b"date", b"now")]) == [(b":status", b"200"), (b"date", b"now"), DEFAULTS[1]]

    def test_a_new_second_brings_a_new_date(self) -> None:
        peer = Peer()
        for number, date in [(1, b"one"), (3, b"one"), (5, b"two"), (7, b"two")]:
            peer.core._responses._defaults.set_date(date)
            peer.core.send_headers(peer.open(number), 200, [], True)
            assert (b"date", date) in peer.fields(peer.take()[0])

    def test_it_does_so_behind_a_head_that_is_too_large_to_be_kept(self) -> None:
        """For a client without a table, whose blocks leave no trace in it."""
        peer = Peer()
        peer.send(settings((1, 0)))
        peer.decoder.max_allowed_table_size = 0

        def date_of(number: int, fields: Fields) -> bytes:
            peer.core.send_headers(peer.open(number), 200, fields, True)
            return dict(peer.fields(peer.take()[0]))[b"date"]

        assert date_of(1, []) == date_of(3, []) == DATE
        peer.defaults.set_date(b"now")
        assert date_of(5, [(b"x-large", b"x" * 600)]) == b"now"
        assert date_of(7, []) == b"now"

    @pytest.mark.parametrize("name", [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"])
    def test_what_belongs_to_http1_is_left_out(self, name: bytes) -> None:
        assert head_for(200, [(name, b"close"), (b"upgrade", b"h2c")]) == [(b":status", b"200"), *DEFAULTS]

    def test_a_204_has_no_content_length(self) -> None:
        assert head_for(204, [(b"content-length", b"0")]) == [(b":status", b"204"), *DEFAULTS]
        assert (b"content-length", b"5") in head_for(304, [(b"content-length", b"5")])

    def test_every_status_can_be_sent(self) -> None:
        for status in (200, 201, 299, 418, 500, 599):
            assert head_for(status, [])[0] == (b":status", b"%d" % status)

    def test_a_head_that_comes_again_is_short(self) -> None:
        peer = Peer()
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"13"), (b"x-app", b"shop")]
        sizes = []
        for number in range(1, 11, 2):
            peer.core.send_headers(peer.open(number), 200, fields, True)
            [answer] = peer.take()
            assert peer.fields(answer) == [(b":status", b"200"), *fields, *DEFAULTS]
            sizes.append(len(answer.payload))
        assert sizes[-1] == 10  # of which the length, which is not indexed, takes five


class TestBodies:
    """RFC 9113 §8.1."""

    def test_head_and_body_leave_in_one_write(self) -> None:
        peer = Peer()
        peer.open(1)
        peer.respond(1, b"hello")
        frames = peer.core.take()
        assert not peer.core.is_waiting
        assert b"".join(frames).endswith(b"hello")

    def test_the_answers_of_one_turn_leave_in_one_write(self) -> None:
        peer = Peer()
        peer.send(*(peer.headers(number) for number in range(1, 65, 2)))
        for number in range(1, 65, 2):
            peer.respond(number, b"hello")
        peer.core.take()
        assert not peer.core.is_waiting
        assert not peer.core.streams

    def test_parts_are_sent_as_they_come(self) -> None:
        peer = Peer()
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        assert [answer.kind for answer in peer.take()] == [HEADERS]
        peer.core.send_body(stream, b"one", False)
        assert peer.take() == [Frame(DATA, 0, 1, b"one")]
        peer.core.send_body(stream, b"", False)
        assert peer.take() == []
        peer.core.send_body(stream, b"two", True)
        assert peer.take() == [Frame(DATA, END_STREAM, 1, b"two")]
        peer.core.send_body(stream, b"more", True)
        peer.core.send_headers(stream, 200, [], True)
        peer.core.send_trailers(stream, [])
        peer.core.send_informational(stream, 103, [])
        assert peer.take() == []

    def test_an_application_may_answer_from_within(self) -> None:
        peer = Peer()
        on_request = peer.sink.on_request

        def answer(stream: object, head: object, end: bool) -> None:
            on_request(stream, head, end)  # type: ignore[arg-type]
            peer.respond(stream.id, b"at once")  # type: ignore[attr-defined]

        peer.sink.on_request = answer  # type: ignore[method-assign,assignment]
        assert [item.kind for item in peer.send(peer.headers(1), peer.headers(3))] == [HEADERS, DATA] * 2
        answers = peer.send(peer.headers(5, POST, end=False))
        assert [item.kind for item in answers] == [HEADERS, DATA]

    def test_a_refusal_is_answered_like_a_request(self) -> None:
        peer = Peer()
        stream = peer.open(1, [(b":method", b"BREW"), *GET[1:]])
        peer.core.send_headers(stream, 501, [], True)
        [answer] = peer.take()
        assert peer.fields(answer)[0] == (b":status", b"501")
        assert not peer.core.streams

    def test_the_rest_of_a_refused_request_is_not_waited_for_long(self) -> None:
        peer = Peer()
        stream = peer.open(1, [(b":method", b"BREW"), *GET[1:]], end=False)
        peer.core.send_headers(stream, 501, [], True)
        assert [(item.kind, item.flags) for item in peer.take()] == [(HEADERS, END_STREAM | END_HEADERS)]
        for _ in range(3):
            peer.core.tick()
        assert [(item.kind, item.flags) for item in peer.take()] == [(3, 0)]


class TestRepetition:
    """A head that was sent before is not encoded again; what the client reads is the same."""

    def test_whatever_comes_between_the_client_reads_what_was_said(self) -> None:
        peer = Peer()
        heads = [
            (200, [(b"content-type", b"text/plain"), (b"content-length", b"13")]),
            (200, [(b"content-type", b"text/plain"), (b"content-length", b"14")]),
            (404, [(b"content-type", b"text/plain"), (b"content-length", b"13")]),
            (200, [(b"set-cookie", b"a=b"), (b"content-length", b"0")]),
            (200, [(b"x-long", b"y" * 1000)]),
            (200, []),
        ]
        # Each several times, and behind each other; the table is filled, emptied and made smaller.
        order = [
            number for first in range(len(heads)) for second in range(len(heads)) for number in (first, first, second)
        ]
        for turn, number in enumerate(order * 3):
            stream_id = 2 * turn + 1
            if turn % 50 == 40:
                size = (0, 4096, 100, 4096)[turn // 50 % 4]
                peer.decoder.max_allowed_table_size = size
                peer.send(settings((1, size)))
            if turn % 13 == 0:
                peer.defaults.set_date(b"Thu, 01 Jan 1970 00:00:%02d GMT" % (turn % 60))
            peer.open(stream_id)
            stream = peer.request(stream_id).stream
            status, fields = heads[number]
            if turn % 7 == 0:
                peer.core.send_informational(stream, 103, [(b"link", b"</%d>" % (turn % 3))])
            peer.core.send_headers(stream, status, list(fields), False)
            peer.core.send_body(stream, b"x", False)
            peer.core.send_trailers(stream, [(b"x-sum", b"%d" % (turn % 4))])
            read = [peer.fields(item) for item in peer.take() if item.kind == HEADERS]
            assert read[-1] == [(b"x-sum", b"%d" % (turn % 4))]
            assert read[-2][:1] == [(b":status", b"%d" % status)]
            assert read[-2][1:-2] == fields
            assert read[-2][-2][1] == peer.defaults.date[6:-2]

    @pytest.mark.parametrize(("size", "announced"), [(100, b"\x3f\x45"), (4000, b"\x3f\x81\x1f")])
    def test_the_size_of_the_table_is_announced_once(self, size: int, announced: bytes) -> None:
        peer = Peer()
        blocks = []
        for number in range(8):
            if number == 5:
                peer.decoder.max_allowed_table_size = size
                peer.send(settings((1, size)))
            peer.open(2 * number + 1)
            peer.respond(2 * number + 1)
            blocks.append(peer.take()[0].payload)
        assert blocks[3] == blocks[4]
        assert [block.startswith(announced) for block in blocks] == [False] * 5 + [True, False, False]


class TestInformational:
    """RFC 9113 §8.1, RFC 8297."""

    def test_interim_responses_come_before_the_final_one(self) -> None:
        peer = Peer()
        stream = peer.open(1, POST, end=False)
        peer.core.send_informational(stream, 100, [])
        peer.core.send_informational(stream, 103, [(b"link", b"</a>; rel=preload"), (b"connection", b"close")])
        peer.core.send_headers(stream, 200, [], False)
        first, second, last = peer.take()
        assert {first.flags, second.flags, last.flags} == {END_HEADERS}
        assert peer.fields(first) == [(b":status", b"100")]
        assert peer.fields(second) == [(b":status", b"103"), (b"link", b"</a>; rel=preload")]
        assert peer.fields(last)[0] == (b":status", b"200")


class TestTrailers:
    """RFC 9113 §8.1."""

    def test_trailers_end_the_response(self) -> None:
        peer = Peer()
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, b"hello", False)
        peer.core.send_trailers(stream, [(b"x-checksum", b"1"), (b"connection", b"close")])
        head, body, trailers = peer.take()
        assert body == Frame(DATA, 0, 1, b"hello")
        assert trailers.flags == END_STREAM | END_HEADERS
        peer.fields(head)
        assert peer.fields(trailers) == [(b"x-checksum", b"1")]
        assert not peer.core.streams

    def test_no_trailers_end_it_as_well(self) -> None:
        peer = Peer()
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_trailers(stream, [(b"connection", b"close")])
        assert peer.take()[1:] == [Frame(DATA, END_STREAM, 1, b"")]

    def test_trailers_wait_for_the_body(self) -> None:
        peer = Peer()
        peer.send(settings((4, 2)))
        stream = peer.open(1)
        peer.core.send_headers(stream, 200, [], False)
        peer.core.send_body(stream, b"hello", False)
        peer.core.send_trailers(stream, [(b"x-checksum", b"1"), (b"connection", b"close")])
        head, part = peer.take()
        assert part == Frame(DATA, 0, 1, b"he")
        peer.open(3)  # its head comes in between, and changes the table
        peer.respond(3, b"")
        [other, _] = peer.take()
        rest, trailers = peer.send(settings((4, 100)))[1:]
        assert trailers.flags == END_STREAM | END_HEADERS
        assert rest == Frame(DATA, 0, 1, b"llo")
        for answer in (head, other):
            peer.fields(answer)
        assert peer.fields(trailers) == [(b"x-checksum", b"1")]
        assert not peer.core.streams
