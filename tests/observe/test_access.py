"""Lines of the access log: what each format says of a request, which requests have one, and that none can be forged."""

from __future__ import annotations

import json
import os
import re
import select
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serverd.asgi.refusal import Refusal
from serverd.asgi.scope import Endpoint
from serverd.generation import ACCESS_FIELDS, Limits, Listener
from serverd.generation import AccessLog as Settings
from serverd.observe.access import BATCH, AccessLog, AccessObserver
from serverd.observe.access_fields import FIELDS, Clock, Entry, Head, Place
from serverd.observe.access_formats import make_format
from serverd.protocol.head import UNSHOWN
from serverd.protocol.partial_head import NOTHING_READ
from tests.support.applications import Manual, echo, hello, respond
from tests.support.compiled import skip_if_compiled
from tests.support.every import every
from tests.support.frames import TEXT, close, frame
from tests.support.http2 import Http2Wire
from tests.support.wire import Wire, handshake

GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8\r\nReferer: http://r/\r\n\r\n"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
ID = "[0-9a-f]{12}-[0-9a-f]+"


@dataclass
class Logged:
    """An access log in a file."""

    path: Path
    log: AccessLog
    settings: Settings = field(default_factory=Settings)

    def use(self, **changes: Any) -> Logged:
        self.settings = replace(self.settings, **changes)
        self.log.adopt(self.settings)
        return self

    def wire(self, application: Any, limits: Limits | None = None) -> Wire:
        observer = AccessObserver(self.log, Place("web", "/m", "shop", 3))
        wire = Wire(Endpoint(application, "shop", observer=observer), limits=limits)
        wire.service.observer = observer
        return wire

    def lines(self) -> list[str]:
        self.log.write_down()
        return self.path.read_text().splitlines()

    def line(self) -> str:
        (line,) = self.lines()
        return line


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    log = AccessLog(Settings(format="text"), lambda function: None)
    path = tmp_path / "access"
    log.reopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    yield Logged(path, log, Settings(format="text"))
    log.close()


class TestFormats:
    def test_text(self, logged: Logged) -> None:
        with logged.wire(hello) as wire:
            wire.send(GET)
        assert re.fullmatch(
            rf'{TIME} 127\.0\.0\.1 "GET /a%20b\?c=d HTTP/1\.1" 200 2 \d+\.\d\dms shop {ID}', logged.line()
        )

    def test_json(self, logged: Logged) -> None:
        logged.use(format="json")
        with logged.wire(echo) as wire:
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        line = json.loads(logged.line())
        assert re.fullmatch(TIME, line.pop("time"))
        assert re.fullmatch(ID, line.pop("request_id"))
        assert 0 <= line.pop("first_byte") == line.pop("duration") < 10
        assert line == {
            "client": "127.0.0.1",
            "method": "POST",
            "host": "a",
            "target": "/",
            "protocol": "HTTP/1.1",
            "status": 200,
            "bytes": 2,
            "bytes_received": 2,
            "app": "shop",
            "mount": "/m",
            "listener": "web",
            "worker": 3,
        }

    def test_combined(self, logged: Logged) -> None:
        logged.use(format="combined")
        with logged.wire(hello) as wire:
            wire.send(GET)
        assert re.fullmatch(
            r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a%20b\?c=d HTTP/1\.1" 200 2 '
            r'"http://r/" "curl/8"',
            logged.line(),
        )

    def test_a_template_fills_its_fields_and_keeps_braces_and_signs(self, logged: Logged) -> None:
        logged.use(format="{{{method}}} 100% {path}|{query}|{mount} {worker} {pid}")
        with logged.wire(hello) as wire:
            wire.send(GET)
        assert logged.line() == f"{{GET}} 100% /a%20b|c=d|/m 3 {os.getpid()}"

    def test_a_mount_is_told_in_printable_ascii_as_well(self, logged: Logged) -> None:
        logged.use(format="{mount}")
        observer = AccessObserver(logged.log, Place("web", "/caf\u00e9\u2028\u009b", "shop", 0))
        with Wire(Endpoint(hello, "shop", observer=observer)) as wire:
            wire.send(GET)
        assert logged.line() == r"/caf\xC3\xA9\xE2\x80\xA8\xC2\x9B"

    @pytest.mark.parametrize("name", ACCESS_FIELDS)
    def test_every_field_has_a_value_for_every_kind_of_entry(self, logged: Logged, name: str) -> None:
        logged.use(format=f"<{{{name}}}>")
        with logged.wire(hello) as wire:
            wire.send(GET)
            wire.connect()
            wire.send(b"nonsense\r\n\r\n")
        assert len(logged.lines()) == 2
        assert all(re.fullmatch("<[^<>]*>", line) for line in logged.lines())

    def test_what_a_template_may_name_is_what_there_is(self) -> None:
        assert tuple(FIELDS) == ACCESS_FIELDS

    @pytest.mark.parametrize(("is_terminal", "start"), [(True, "20"), (False, "{")])
    def test_auto_is_for_people_on_a_terminal(self, logged: Logged, is_terminal: bool, start: str) -> None:
        logged.log._format = make_format("auto", is_terminal=is_terminal)
        with logged.wire(hello) as wire:
            wire.send(GET)
        assert logged.line().startswith(start)

    def test_over_http_2_the_protocol_is_told(self, logged: Logged) -> None:
        observer = AccessObserver(logged.log, Place("web", "/", "shop", 0))
        with Http2Wire(Endpoint(hello, "shop", observer=observer)) as wire:
            wire.request(path="/x")
        assert '"GET /x HTTP/2" 200 2' in logged.line()


def _break(entry: Any) -> None:
    """Have no line be made of an entry, as if there were a bug."""
    skip_if_compiled("it does not let itself be broken")
    entry.head = SimpleNamespace(raw_path=b"/2", query=None, shown=UNSHOWN)
    del entry.request_id


def _copied(whole: Any, kind: type) -> Any:
    """Return what a line is made of; what is compiled lets nobody copy it."""
    return SimpleNamespace(**{name: getattr(whole, name) for name in kind.__annotations__})


class TestRemembered:
    """What lines say of a head that comes again on a connection is kept with it."""

    @pytest.mark.parametrize("name", ["text", "json", "combined"])
    def test_a_head_that_comes_again_has_the_same_line_again(self, logged: Logged, name: str) -> None:
        logged.use(format=name)
        with logged.wire(hello) as wire:
            for _ in range(3):
                wire.send(GET)
            wire.send(GET.replace(b"c=d", b"c=e"))
            wire.send(GET.replace(b"curl/8", b"wget/1"))
        varying = re.compile(rf"{TIME}|{ID}|\d+\.\d+(?=ms|,)|\[.*?\]")
        lines = [varying.sub("*", line) for line in logged.lines()]
        assert lines[0] == lines[1] == lines[2]
        assert lines[3] == lines[0].replace("c=d", "c=e") != lines[0]
        assert lines[4] == lines[0].replace("curl/8", "wget/1")

    @pytest.mark.parametrize("name", ["text", "json", "combined"])
    def test_what_differs_of_a_head_that_comes_again_is_told_anew(self, logged: Logged, name: str) -> None:
        logged.use(format=name)
        with logged.wire(hello) as wire:
            wire.send(GET)
            ((entry, place),) = logged.log.noted
        logged.lines()  # which keeps what it has said with the head
        changes: list[tuple[str, Any]] = [
            ("client", ("192.0.2.1", 1)),
            ("host", "other"),
            ("status", 404),
            ("status", 101),
            ("sent", 3),
            ("received", 4),
            ("given_up", True),
            ("request_id", "another"),
            ("trace_id", "f" * 32),
            ("ended", entry.ended + 2),
        ]
        for attribute, value in changes:
            assert entry.head.shown != UNSHOWN
            changed = _copied(entry, Entry)
            setattr(changed, attribute, value)
            logged.log.noted += [(changed, place), (entry, place)]
            made_of_what_is_kept, _ = logged.lines()[-2:]
            changed.head = _copied(entry.head, Head)
            changed.head.shown = UNSHOWN
            logged.log.noted.append((changed, place))
            assert logged.lines()[-1] == made_of_what_is_kept, attribute

    def test_another_format_makes_lines_of_its_own(self, logged: Logged) -> None:
        with logged.wire(hello) as wire:
            for name in ("text", "json", "combined", "text"):
                logged.use(format=name)
                wire.send(GET)
        first, second, third, last = logged.lines()
        assert '127.0.0.1 "GET /a%20b?c=d HTTP/1.1" 200 2 ' in first
        assert json.loads(second)["target"] == "/a%20b?c=d"
        assert third.endswith('"GET /a%20b?c=d HTTP/1.1" 200 2 "http://r/" "curl/8"')
        assert '127.0.0.1 "GET /a%20b?c=d HTTP/1.1" 200 2 ' in last

    @pytest.mark.parametrize("name", ["text", "json", "combined"])
    def test_whom_a_proxy_names_is_told_anew_each_time(self, logged: Logged, name: str) -> None:
        logged.use(format=name)
        fields = ("x-forwarded-for", "x-forwarded-host")
        with logged.wire(hello) as wire:
            listener = Listener("web", (), 1, Limits(), trusted_proxies=("127.0.0.1",), forwarded_headers=fields)
            wire.service.adopt(wire.service.router, listener, wire.service.parser)
            wire.lose()
            wire.connect()
            request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.%d\r\nX-Forwarded-Host: h%d\r\n\r\n"
            for number in (1, 1, 2, 1):
                wire.send(request % (number, number))
        lines = logged.lines()
        assert [re.search(r"192\.0\.2\.\d", line)[0] for line in lines] == [  # type: ignore[index]
            f"192.0.2.{number}" for number in (1, 1, 2, 1)
        ]
        if name == "json":
            assert [json.loads(line)["host"] for line in lines] == ["h1", "h1", "h2", "h1"]

    def test_a_long_text_is_not_kept(self, logged: Logged) -> None:
        entries: list[Any] = []
        logged.use(format="json")
        with logged.wire(hello) as wire:
            note = logged.log.noted
            wire.send(GET)
            wire.send(GET.replace(b"c=d", b"c" * 2000))
            entries += [entry for entry, _ in note]
        assert "c" * 2000 in logged.lines()[1]
        assert [entry.head.shown == UNSHOWN for entry in entries] == [False, True]

    def test_one_request_of_which_no_line_can_be_made_costs_no_other_its_line(
        self, logged: Logged, caplog: pytest.LogCaptureFixture
    ) -> None:
        logged.use(format="{target} {request_id}")
        with logged.wire(hello) as wire:
            for number in (1, 2, 3):
                wire.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            _break(logged.log.noted[1][0])
            said = [line.partition(" ")[0] for line in logged.lines()]
        assert said == ["/1", "/3"]
        assert "no line in the access log for b'/2'" in caplog.text

    @pytest.mark.parametrize("extensions", [5, {}, {"tls": {}}, {"tls": {"tls_version": []}}])
    @pytest.mark.parametrize("name", ["json", "{tls}"])
    def test_what_an_application_does_to_its_scope_changes_no_line(
        self, logged: Logged, name: str, extensions: object
    ) -> None:
        """Neither its own nor, of the same head, the next one."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            scope.clear()
            scope["extensions"] = extensions
            await respond(send)

        observer = AccessObserver(logged.log, Place("web", "/", "site", 0, speaks_tls=True))
        logged.use(format=name)
        with Wire(Endpoint(application, "site", observer=observer)) as wire:
            wire.connection.peer = wire.connection.peer._replace(tls={"tls_version": 0x0304})
            for _ in range(2):
                assert wire.send(GET).startswith(b"HTTP/1.1 200")
        lines = logged.lines()
        assert [json.loads(line)["tls"] if name == "json" else line for line in lines] == ["TLSv1.3", "TLSv1.3"]

    def test_one_long_line_among_others_is_the_only_one_that_is_cut(self, logged: Logged) -> None:
        logged.use(format="{target}")
        targets = [b"/a" * 100, b"/b" * 3000, b"/c" * 2000]
        with logged.wire(hello) as wire:
            for target in targets:
                wire.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert logged.lines() == ["/a" * 100, "/b" * 48, "/c" * 2000]


class TestEscapes:
    def test_a_value_does_not_end_its_quotes(self, logged: Logged) -> None:
        logged.use(format="combined")
        with logged.wire(hello) as wire:
            wire.send(b'GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a"b\r\nReferer: c\\\r\n\r\n')
        assert logged.line().endswith(r'"c\x5C" "a\x22b"')

    @pytest.mark.parametrize("format", ["text", "json", "combined", "{target} {user_agent}"])
    def test_a_line_is_never_longer_than_what_a_pipe_keeps_together(self, logged: Logged, format: str) -> None:
        logged.use(format=format)
        long = b"\xe4" * 7000
        with logged.wire(hello) as wire:
            wire.send(b"GET /%s HTTP/1.1\r\nHost: a\r\nUser-Agent: %s\r\n\r\n" % (b"x" * 7000, long))
        line = logged.line()
        assert "/xxx" in line
        assert len(line.encode()) < select.PIPE_BUF
        if format == "json":
            assert json.loads(line)["status"] == 200

    @pytest.mark.parametrize("path", ["/" + "x" * 5000, "/" + "\u00e9" * 700, "/" + "\U0001f600" * 400, '/"' * 2000])
    def test_nor_is_one_of_a_mount_with_a_long_path_and_it_stays_an_object(self, logged: Logged, path: str) -> None:
        logged.use(format="json")
        observer = AccessObserver(logged.log, Place("l" * 64, path, "a" * 64, 0, speaks_tls=True))
        with Wire(Endpoint(hello, "shop", observer=observer)) as wire:
            wire.service.observer = observer
            wire.send(b"GET /%b?%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"x" * 3000, b"y" * 3000, b"h" * 250))
            wire.connect()
            wire.send(b"GET /" + b"\xff" * 7000 + b" HTTP/1.1\r\n\r\n")
        lines = logged.lines()
        assert len(lines) == 2
        assert all(len(line) < select.PIPE_BUF and path.startswith(json.loads(line)["mount"]) for line in lines)

    @pytest.mark.parametrize("template", ["{target}" * 100, "\u2192{host}" * 140, "\u2192" * 993 + "{path}"])
    def test_nor_is_one_of_a_template(self, logged: Logged, template: str) -> None:
        logged.use(format=template)
        with logged.wire(hello) as wire:
            wire.send(b"GET /" + b'"' * 7000 + b" HTTP/1.1\r\nHost: " + b"a" * 200 + b"\r\n\r\n")
        assert len(f"{logged.line()}\n".encode()) <= select.PIPE_BUF

    def test_the_host_is_the_one_that_a_trusted_proxy_tells(self, logged: Logged) -> None:
        logged.use(format="{host} {client}")
        fields = ("x-forwarded-for", "x-forwarded-host")
        with logged.wire(hello) as wire:
            listener = Listener("web", (), 1, Limits(), trusted_proxies=("127.0.0.1",), forwarded_headers=fields)
            wire.service.adopt(wire.service.router, listener, wire.service.parser)
            wire.lose()
            wire.connect()
            told = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: shop.example\r\n"
            wire.send(b"GET / HTTP/1.1\r\nHost: inside\r\n" + told + b"\r\n")
        assert logged.line() == "shop.example 192.0.2.1"


class TestEnds:
    def test_a_session_is_told_at_its_end(self, logged: Logged) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": "hey"})

        with logged.wire(application) as wire:
            wire.send(handshake())
            wire.loop.call_soon(wire.transport.deliver, frame(TEXT, b"a") + close(1001, b""))
            wire.settle()
        assert re.search(r'" 101 3 \S+ms shop \S+ websocket 1001 in 1/1 out 1$', logged.line())

    def test_a_session_is_told_in_json(self, logged: Logged) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})

        logged.use(format="json")
        with logged.wire(application) as wire:
            wire.send(handshake())
        line = json.loads(logged.line())
        assert (line["status"], line["messages_received"], line["messages_sent"]) == (101, 0, 0)
        assert line["close_code"] == 1000

    def test_a_client_that_leaves_is_a_499(self, logged: Logged) -> None:
        manual = Manual()
        with logged.wire(manual) as wire:
            wire.send(GET)
            wire.lose()
            manual.call.finish()
            wire.settle()
        assert '" 499 0 ' in logged.line()
        assert logged.line().endswith(" incomplete")

    def test_what_is_no_request_is_told(self, logged: Logged) -> None:
        with logged.wire(hello) as wire:
            wire.send(b"nonsense\r\n\r\n")
        assert re.search(r'127\.0\.0\.1 "- - HTTP/1\.1" 400 36 \d+\.\d\dms shop [0-9a-f]{12}-r1$', logged.line())

    @pytest.mark.parametrize(
        ("format", "expected"),
        [
            ("text", '"GET /a?b HTTP/1.1" 400 27 '),
            ("combined", '"GET /a?b HTTP/1.1" 400 27 "-" "-"'),
            ("{method}|{path}|{query}|{protocol}|{host}|{tls}", "GET|/a|b|HTTP/1.1|-|-"),
        ],
    )
    def test_what_was_read_of_its_request_line_is_told(self, logged: Logged, format: str, expected: str) -> None:
        logged.use(format=format)
        with logged.wire(hello) as wire:
            wire.send(b"GET /a?b HTTP/1.1\r\nFoo: a\r\n\r\n")
        assert expected in logged.line()

    def test_a_request_that_its_connection_refuses_is_told_with_its_request_line(self, logged: Logged) -> None:
        logged.use(format="json")
        with logged.wire(hello) as wire:
            wire.send(handshake(target=b"/chat?a").replace(b"Version: 13", b"Version: 12"))
        line = json.loads(logged.line())
        assert (line["method"], line["target"], line["host"], line["status"]) == ("GET", "/chat?a", "a", 426)

    def test_its_line_is_never_longer_than_what_a_pipe_keeps_together(self, logged: Logged) -> None:
        with logged.wire(hello) as wire:
            wire.send(handshake(target=b"/" + b"x" * 7000).replace(b"Version: 13", b"Version: 12"))
        assert "/xxx" in logged.line()
        assert len(logged.line().encode()) < select.PIPE_BUF


class TestWhich:
    @pytest.mark.parametrize(
        ("settings", "path", "status", "expected"),
        [
            ({"exclude": ("/healthz",)}, b"/healthz", 200, False),
            ({"exclude": ("/healthz",)}, b"/healthz", 503, True),
            ({"exclude": ("/healthz",), "exclude_failures": True}, b"/healthz", 503, False),
            ({"exclude": ("/healthz",)}, b"/healthz/x", 200, True),
            ({"exclude": ("/static/*",)}, b"/static/x", 200, False),
            ({"exclude": ("/static/*",)}, b"/staticx", 200, True),
            ({"sample": 0.0}, b"/", 200, False),
            ({"sample": 0.0}, b"/", 404, True),
            ({"min_duration": 60.0}, b"/", 200, False),
            ({"min_duration": 60.0}, b"/", 500, True),
            ({}, b"/", 200, True),
        ],
    )
    def test_only_what_is_wanted_has_a_line(
        self, logged: Logged, settings: dict[str, Any], path: bytes, status: int, expected: bool
    ) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await respond(send, status=status)

        logged.use(**settings)
        with logged.wire(application) as wire:
            wire.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        assert bool(logged.lines()) is expected


class TestForgery:
    """CVE-2020-7694 was a line of uvicorn's that a path forged."""

    @pytest.mark.parametrize("format", ["text", "json", "combined", "{method} {target} {user_agent} {host} {protocol}"])
    def test_nor_does_what_http_2_can_carry_and_what_is_refused(self, logged: Logged, format: str) -> None:
        logged.use(format=format)
        signs = [bytes([byte]) for byte in (0, 9, 10, 13, 27, 31, 34, 92, 127, 128, 133, 155, 255)]
        count = 0
        for sign in signs:
            observer = AccessObserver(logged.log, Place("web", "/", "shop", 0))
            with Http2Wire(Endpoint(hello, "shop", observer=observer)) as wire:
                wire.service.observer = observer
                wire.client.config.validate_outbound_headers = False
                wire.client.config.normalize_outbound_headers = False
                value = b"x%sy" % sign
                version = (b"sec-websocket-version", b"12")
                answers = [
                    wire.request(fields=[(b"user-agent", value)]),
                    wire.request(path=f"/x{sign.decode('latin-1')}y"),
                    wire.request("CONNECT", f"/{sign.decode('latin-1')}", [(b":protocol", b"websocket"), version]),
                    wire.request("CONNECT", "/", [(b":protocol", value), version]),
                    wire.request(f"G{sign.decode('latin-1')}"),
                ]
            count += sum(answer.status > 0 for answer in answers)
        lines = logged.lines()
        assert len(lines) == count > 2 * len(signs)
        assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for line in lines for sign in line)
        if format == "json":
            assert all(json.loads(line) for line in lines)

    @pytest.mark.parametrize("format", ["text", "json", "combined", "{target}"])
    def test_a_refused_line_is_never_longer_than_what_a_pipe_keeps_together(self, logged: Logged, format: str) -> None:
        logged.use(format=format)
        with logged.wire(hello) as wire:
            wire.send(b"GET /" + b"\xff" * 8000 + b" HTTP/1.1\r\n\r\n")
        assert r"\xFF" in logged.line() or r"\xff" in logged.line()
        assert len(f"{logged.line()}\n") <= select.PIPE_BUF

    @pytest.mark.parametrize("format", ["text", "json", "combined", "{target} {user_agent} {referer} {host} {method}"])
    @every("byte", [*range(1, 9), *range(11, 13), *range(14, 32), 34, 92, 127, *range(128, 256)])
    def test_no_byte_ends_a_line_or_passes_for_a_control(self, logged: Logged, format: str, byte: int) -> None:
        sign = bytes([byte])
        logged.use(format=format)
        before = len(logged.lines())
        with logged.wire(hello) as wire:
            wire.send(b"GET /%s HTTP/1.1\r\nHost: a\r\nUser-Agent: x%sy\r\n\r\n" % (sign, sign))
            wire.connect()
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x%sy\r\nReferer: %s\r\n\r\n" % (sign, sign))
        lines = logged.lines()[before:]
        assert len(lines) == 2
        assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for line in lines for sign in line)
        if format == "json":
            assert all(json.loads(line) for line in lines)


def test_the_time_is_that_of_the_day() -> None:
    import datetime
    import time

    clock = Clock()
    shown = datetime.datetime.fromisoformat(clock.iso(time.perf_counter()))
    assert abs(shown.timestamp() - time.time()) < 60


class TestBatches:
    """Requests are noted at their end, and their lines made together."""

    def test_lines_are_made_a_moment_after_the_first_request(self, tmp_path: Path) -> None:
        due: list[Any] = []
        log = AccessLog(Settings(format="{target}"), due.append)
        path = tmp_path / "access"
        log.reopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        logged = Logged(path, log)
        with logged.wire(hello) as wire:
            wire.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n")
            wire.send(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
            [make_lines] = due
            assert path.read_text() == ""
            make_lines()
            assert path.read_text() == "/1\n/2\n"
            wire.send(b"GET /3 HTTP/1.1\r\nhost: a\r\n\r\n")
            log.close()
        assert path.read_text() == "/1\n/2\n/3\n"

    def test_many_requests_do_not_wait_for_that_moment(self, logged: Logged) -> None:
        logged.use(format="{method}" + "-" * 3000)
        with logged.wire(hello) as wire:
            for _ in range(BATCH - 1):
                wire.send(GET)
            assert len(logged.log.noted) == BATCH - 1
            assert logged.path.read_text() == ""
            wire.send(GET)
            assert not logged.log.noted
            assert len(logged.path.read_text().splitlines()) == BATCH

    def test_lines_that_are_made_and_few_wait_with_what_is_noted(self, tmp_path: Path) -> None:
        due: list[Any] = []
        log = AccessLog(Settings(format="{method}"), due.append)
        path = tmp_path / "access"
        log.reopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        with Logged(path, log).wire(hello) as wire:
            for _ in range(BATCH + 1):
                wire.send(GET)
            assert len(log.noted) == 1
            assert path.read_text() == ""
            due[0]()
            assert path.read_text() == "GET\n" * (BATCH + 1)
        log.close()

    @pytest.mark.parametrize("count", [1, BATCH, BATCH + 1])
    def test_a_request_has_the_format_and_the_file_of_the_time_at_which_it_ended(
        self, logged: Logged, count: int
    ) -> None:
        """Whether it is noted only, or has a line that is not written yet."""
        other = logged.path.with_name("other")
        with logged.use(format="old {status}").wire(hello) as wire:

            def send() -> None:
                for _ in range(count):
                    wire.send(GET)

            send()
            logged.use(format="new {status}")
            send()
            logged.log.reopen(os.open(other, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
            send()
            logged.log.close()
        assert logged.path.read_text() == "old 200\n" * count + "new 200\n" * count
        assert other.read_text() == "new 200\n" * count


def test_what_is_told_of_nothing_is_told_of_each_connection_anew(logged: Logged) -> None:
    """Requests of which nothing could be read have one head, whoever sent them, and over whatever."""
    logged.use(format="json")
    for version in (0x0304, 0x0303, None):
        place = Place("web", "", "serverd", 0, speaks_tls=version is not None)
        refusal = Refusal(400, NOTHING_READ, None)
        if version is not None:
            refusal.tls = {"tls_version": version}
        AccessObserver(logged.log, place).on_refusal(refusal)
    assert [json.loads(line).get("tls") for line in logged.lines()] == ["TLSv1.3", "TLSv1.2", None]
