"""HTTP/2 against a real server: clients that people use, an operator at work, and clients that mean harm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hpack
import httpx
import pytest
from websockets.frames import Opcode

from serverd.protocol.http2 import ErrorCode
from tests.conftest import APPS, ModuleServe, Serve
from tests.end_to_end.test_hostile import BUSY, MEGABYTE, Patient, Watch, wait_for_descriptors
from tests.protocol.http2_peer import PREFACE, frame, frames_of, reset, window_update
from tests.support import processes
from tests.support.apps.probe import PIECE
from tests.support.client import Client, ConnectionEnded, Response, get
from tests.support.control import wait_until
from tests.support.either import VERSIONS, both, connect
from tests.support.http2 import Answer, Tunnel
from tests.support.http2_client import Http2Client
from tests.support.server import Server
from tests.support.swarm import Slow, Swarm

LONG = bool(os.environ.get("SERVERD_LONG"))
CURL, NGHTTP, H2LOAD = (shutil.which(name) for name in ("curl", "nghttp", "h2load"))
LOOPS = ["uvloop", "asyncio"]
LARGE = 100_000_000  # bytes, of the issue
GREETING = PREFACE + frame(4)
GET = b"\x82\x86\x04\x06/hello\x01\x01a"  # of the host "a", and nothing for the table
POST = b"\x83\x86\x04\x10/hostile/swallow\x01\x01a"

CONFIGURATION = f"""\
[server]
workers = 1
loop = "LOOP"

[listeners.web]
bind = ["127.0.0.1:0", "unix:UNIX"]
trusted_proxies = ["127.0.0.2", "unix"]

[listeners.proxied]
bind = "127.0.0.1:0"
proxy_protocol = true
trusted_proxies = ["127.0.0.1"]

[listeners.old]
bind = "127.0.0.1:0"
protocols = ["http/1.1"]

[listeners.new]
bind = "127.0.0.1:0"
protocols = ["h2"]

[listeners.narrow]
bind = "127.0.0.1:0"

[listeners.narrow.limits]
body_size = "100KB"
request_line = "1KB"
header_size = "4KB"
keep_alive_timeout = "1s"

[listeners.hasty]
bind = "127.0.0.1:0"

[listeners.hasty.limits]
header_timeout = "2s"
body_timeout = "2s"
send_timeout = "2s"
keep_alive_timeout = "2s"
concurrency = 500

[apps.probe]
app = "probe:app"
directory = "{APPS}"

[apps.hostile]
app = "hostile:app"
directory = "{APPS}"
request_timeout = "3s"

[apps.sessions]
app = "sessions:app"
directory = "{APPS}"

[[mounts]]
app = "probe"
path = "/"

[[mounts]]
app = "hostile"
path = "/hostile"
strip_prefix = true

[[mounts]]
app = "sessions"
path = "/sessions"
"""


def configured(loop: str = "uvloop") -> str:
    """Return the configuration; the socket of its unix address is beside it."""
    return CONFIGURATION.replace("LOOP", loop).replace("UNIX", "web.sock")


@pytest.fixture(scope="module", params=LOOPS if LONG else LOOPS[:1])
def server(
    request: pytest.FixtureRequest, serve_module: ModuleServe, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """Return a server for all of the module to ask, one for each event loop."""
    file = tmp_path_factory.mktemp("http2") / "server.toml"
    file.write_text(configured(request.param))
    return serve_module(file)


@pytest.fixture
def fresh(serve: Serve) -> Server:
    """Return a server for one test, which may stop it."""
    return serve(configured())


@pytest.fixture
def client(server: Server) -> Iterator[Http2Client]:
    with Http2Client(server.address()) as client:
        yield client


def run(*command: str | Path | None, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a client, which has to succeed, in bounded time."""
    if command[0] is None:
        pytest.skip("the client is not installed (curl; nghttp and h2load are in nghttp2-client)")
    return subprocess.run([str(word) for word in command], input=data, capture_output=True, check=True, timeout=40)


def curl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Return what curl prints, without the user's settings and proxies."""
    return run(CURL, "-q", "-sS", "--noproxy", "*", "-m", "30", "--http2-prior-knowledge", *arguments, data=data).stdout


class TestCurl:
    """curl --http2-prior-knowledge."""

    # curl 7.88 fails as soon as it uses a connection again that it has begun with prior knowledge, whoever serves it.

    def test_it_speaks_http_2(self, server: Server) -> None:
        url = server.url("/hello")
        assert curl("-w", " %{http_version}", url) == b"hello 2"
        assert curl("-I", url).lower().startswith(b"http/2 200")

    def test_it_uploads_and_downloads_100_megabytes(self, server: Server, tmp_path: Path) -> None:
        file = tmp_path / "large"
        with file.open("wb") as large:
            large.truncate(LARGE)
        pieces = LARGE // len(PIECE)
        with Watch(server.workers()[0]) as watch:
            assert curl("-T", file, server.url("/length")) == str(LARGE).encode()
            shown = "%{size_download} %{http_code}"
            told = curl("-o", "/dev/null", "-w", shown, server.url(f"/download?pieces={pieces}"))
        assert told == b"%d 200" % (pieces * len(PIECE))
        assert watch.growth < 20 * MEGABYTE

    def test_what_it_sends_comes_back_as_it_was(self, server: Server) -> None:
        data = os.urandom(3_000_000)
        assert curl("--data-binary", "@-", server.url("/echo"), data=data) == data

    def test_it_waits_for_100_and_does_not_send_what_is_refused(self, server: Server) -> None:
        arguments = ["-H", "Expect: 100-continue", "--expect100-timeout", "60", "--data-binary", "@-"]
        body = bytes(2_000_000)
        assert curl(*arguments, server.url("/length"), data=body) == b"2000000"
        assert curl(*arguments, "-w", " %{size_upload}", server.url("/refuse"), data=body) == b"too much 0"

    def test_it_reaches_a_unix_socket(self, server: Server) -> None:
        path = next(place for place in server.addresses() if isinstance(place, str))
        assert curl("--unix-socket", path, "http://localhost/hello") == b"hello"

    def test_an_upgrade_that_it_offers_is_ignored(self, server: Server) -> None:
        assert (
            CURL is None
            or run(CURL, "-q", "-sS", "--noproxy", "*", "--http2", "-w", "%{http_version}", server.url("/hello")).stdout
            == b"hello1.1"
        )


class TestNghttp:
    """nghttp and h2load, on the library that most servers and clients have."""

    def test_it_uploads_and_downloads_with_small_windows(self, server: Server, tmp_path: Path) -> None:
        pieces = 50
        out = run(NGHTTP, "-w10", "-W10", server.url(f"/download?pieces={pieces}")).stdout
        assert out == PIECE * pieces
        file = tmp_path / "body"
        file.write_bytes(PIECE * 20)
        assert run(NGHTTP, "-d", file, server.url("/echo")).stdout == PIECE * 20

    def test_100_megabytes_pass_small_windows(self, server: Server, tmp_path: Path) -> None:
        """A download through windows of 16 KiB; an upload through those of the server."""
        pieces = LARGE // len(PIECE)
        out = run(H2LOAD, "-n1", "-c1", "-w14", "-W14", server.url(f"/download?pieces={pieces}")).stdout.decode()
        assert "1 succeeded" in out
        assert f"({pieces * len(PIECE)}) data" in out
        file = tmp_path / "large"
        with file.open("wb") as large:
            large.truncate(LARGE)
        assert run(NGHTTP, "-d", file, server.url("/length")).stdout == str(LARGE).encode()

    def test_padding_trailers_and_table_sizes_do_no_harm(self, server: Server, tmp_path: Path) -> None:
        file = tmp_path / "body"
        file.write_bytes(b"body")
        url = server.url("/echo")
        assert run(NGHTTP, "-b", "200", "-d", file, "--trailer", "x-sum: 1", url).stdout == b"body"
        assert run(NGHTTP, "-c", "0", "-m", "20", server.url("/hello")).stdout == b"hello" * 20
        assert (
            run(NGHTTP, "-c", "100", "-c", "50", "-c", "4096", "-m", "20", server.url("/hello")).stdout == b"hello" * 20
        )
        assert run(NGHTTP, "--encoder-header-table-size=0", "-m", "5", server.url("/hello")).stdout == b"hello" * 5

    @pytest.mark.parametrize("more", [(), ("-w10", "-W12"), ("-w30", "-W30")], ids=["", "small windows", "large ones"])
    def test_h2load_has_every_answer(self, server: Server, more: tuple[str, ...]) -> None:
        out = run(H2LOAD, "-n3000", "-c6", "-m50", *more, server.url("/hello")).stdout.decode()
        assert "3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout" in out
        assert "status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx" in out
        out = run(H2LOAD, "-n40", "-c2", "-m10", *more, server.url("/download?pieces=4")).stdout.decode()
        assert "40 succeeded" in out
        assert f"{40 * 4 * len(PIECE)}) data" in out


def test_httpx_keeps_its_connection_over_all_kinds_of_requests(server: Server) -> None:
    data = os.urandom(2_000_000)
    with httpx.Client(base_url=server.url(""), http1=False, http2=True, trust_env=False, timeout=20) as client:
        streams = set()
        for response, body in (
            (client.get("/hello"), b"hello"),
            (client.head("/hello"), b""),
            (client.post("/echo", content=data), data),
            (client.post("/length", content=iter([data[:70_000], data[70_000:]])), str(len(data)).encode()),
            (client.post("/refuse", content=data), b"too much"),
            (client.get("/download?pieces=30"), PIECE * 30),
            (client.get("/hello"), b"hello"),
        ):
            assert response.http_version == "HTTP/2"
            assert (response.status_code, response.content) == (413 if body == b"too much" else 200, body)
            streams.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(streams) == 1, "a connection was not kept"


class TestListener:
    """What a listener says holds for both protocols."""

    def test_one_that_does_not_speak_http_2_says_so(self, server: Server) -> None:
        with Client(server.address("old")) as client:
            client.send(GREETING)
            assert client.response().status == 505
            assert client.ended()
        assert get(server.address("old"), "/hello").status == 200

    def test_one_that_speaks_nothing_else_says_so(self, server: Server) -> None:
        assert get(server.address("new"), "/hello").status == 505
        with Http2Client(server.address("new")) as client:
            assert client.request(path="/hello").body == b"hello"

    def test_proxies_are_believed_and_others_are_not(self, server: Server) -> None:
        says = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.com"}
        for versions in ({"http1": True}, {"http1": False, "http2": True}):
            for address, seen in (("127.0.0.2", ["203.0.113.9", 0, "https"]), ("127.0.0.1", ["127.0.0.1", "http"])):
                transport = httpx.HTTPTransport(local_address=address, **versions)
                with httpx.Client(transport=transport, trust_env=False, timeout=20) as client:
                    told = client.get(server.url("/hostile/who"), headers=says).json()
                    assert [told["client"][0], told["scheme"]] == [seen[0], seen[-1]]
                    assert not any(name.startswith("x-forwarded") for name, _ in told["headers"]) or "https" in seen

    def test_a_proxy_header_comes_before_the_preface(self, server: Server) -> None:
        header = b"PROXY TCP4 203.0.113.9 198.51.100.1 41234 443\r\n"
        with Http2Client(server.address("proxied"), prefix=header) as client:
            for _ in range(2):
                told = json.loads(client.request(path="/hostile/who").body)
                assert (told["client"], told["server"]) == (["203.0.113.9", 41234], ["198.51.100.1", 443])
        with Client(server.address("proxied")) as client:
            client.send(GREETING)
            assert client.ended()

    @pytest.mark.parametrize("version", VERSIONS)
    def test_its_limits_hold(self, server: Server, version: str) -> None:
        address = server.address("narrow")

        def ask(method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None) -> Response:
            with connect(version, address) as client:
                return client.request(method, path, headers, body)

        assert ask("POST", "/length", body=bytes(100_000)).body == b"100000"
        assert ask("POST", "/length", body=bytes(100_001)).status == 413
        assert ask("GET", "/hello?" + "x" * 900).status == 200
        assert ask("GET", "/hello?" + "x" * 1100).status == 414
        assert ask("GET", "/hello", [("X-Long", "x" * 3000)]).status == 200
        assert ask("GET", "/hello", [("X-Long", "x" * 4200)]).status == 431
        with connect(version, address) as client:  # what is too large in the end is cut visibly, here and there
            client.begin()
            for _ in range(9):
                client.more(bytes(10_000))
            with pytest.raises((AssertionError, ConnectionError, ConnectionEnded)):
                client.more(bytes(10_000))

    def test_an_idle_connection_ends_after_keep_alive(self, server: Server) -> None:
        with both(server.address("narrow")) as clients:
            begin = time.monotonic()
            for client in clients:
                assert client.request("GET", "/hello").status == 200
            assert all(client.ended() for client in clients)
            assert 0.9 < time.monotonic() - begin < 1 + 2 + BUSY

    def test_a_request_that_takes_too_long_is_answered_504_and_the_others_go_on(self, client: Http2Client) -> None:
        late = client.open(path="/hostile/slow?seconds=60")
        assert client.request(path="/hello").body == b"hello"
        assert client.finish(late).status == 504
        assert client.request(path="/hello").body == b"hello"


def test_a_large_download_does_not_starve_the_small_answers_of_its_connection(server: Server) -> None:
    received = 0

    def count() -> None:
        nonlocal received
        received += len(large.take())

    with Http2Client(server.address(), settings={4: 2**22}) as client:
        client.client.increment_flow_control_window(2**22)
        large = client.open(path="/download?pieces=2000")
        client.wait(lambda: count() or received > MEGABYTE)
        for _ in range(8):
            before = received
            small = client.open(path="/hello")
            client.wait(lambda: count() or small.ended)  # noqa: B023
            assert small.body == b"hello"
            # What was on its way already: the kernel has some megabytes of it, the server 64 KiB.
            assert received - before < 12 * MEGABYTE
        assert not large.ended


class TestOperator:
    """Reload, stop, upgrade with streams open."""

    def begin(self, client: Http2Client) -> Answer:
        """Begin an exchange that ends when we want it to."""
        answer = client.open("POST", "/echo", end=False)
        client.upload(answer, b"before ", end=False)
        client.wait(lambda: answer.body == b"before ")
        return answer

    def end(self, client: Http2Client, answer: Answer) -> None:
        client.upload(answer, b"and behind")
        client.finish(answer)
        assert answer.outcome == (200, b"before and behind", True)

    @pytest.mark.parametrize("what", ["reload", "stop", "upgrade"])
    def test_what_is_open_is_completed_and_idle_connections_end(self, fresh: Server, what: str) -> None:
        address = fresh.address()
        with Http2Client(address) as busy, Http2Client(address) as idle, Http2Client(address) as silent:
            assert idle.request(path="/hello").status == 200
            answer = self.begin(busy)
            if what == "reload":
                fresh.file.write_text(configured("asyncio"))
                fresh.send_signal(signal.SIGHUP)
            else:
                fresh.send_signal(signal.SIGTERM if what == "stop" else signal.SIGUSR2)
            for client in (idle, silent, busy):
                client.wait(lambda: len(client.goaways) == 2)  # noqa: B023
                assert [code for _, code in client.goaways] == [ErrorCode.NO_ERROR] * 2
                assert client.goaways[0][0] == 2**31 - 1
            assert [client.goaways[1][0] for client in (idle, silent, busy)] == [1, 0, 1]
            idle.wait_for_end()
            silent.wait_for_end()
            self.end(busy, answer)
            busy.wait_for_end()
        if what == "reload":
            fresh.wait_for("^reloaded: ")
            assert get(address, "/hello").status == 200
        elif what == "stop":
            assert fresh.wait() == 0
            assert "cut after draining" not in fresh.output
        else:
            successor = int(fresh.wait_for(r"^upgraded: supervisor (\d+) serves").message.split()[2])
            assert fresh.leaves() == 0
            assert get(address, "/hello").status == 200
            os.kill(successor, signal.SIGTERM)
            processes.wait_for_end(successor)

    def test_a_live_reload_touches_no_connection(self, fresh: Server) -> None:
        with Http2Client(fresh.address()) as client:
            answer = self.begin(client)
            fresh.file.write_text(
                f'{configured()}\n[[mounts]]\npath = "/new"\nrespond = {{ status = 200, body = "new" }}\n'
            )
            assert fresh.reload().message.startswith("reloaded: ")
            self.end(client, answer)
            assert client.request(path="/new").body == b"new"
            assert client.goaways == []

    def test_no_request_of_a_busy_client_is_lost_by_reloads(self, fresh: Server) -> None:
        """A client that follows GOAWAY never hears of them."""
        failures: list[str] = []
        done: list[int] = [0]
        stopped = False

        def ask() -> None:
            while not stopped:
                with Http2Client(fresh.address()) as client:
                    while not stopped and not client.goaways:
                        answer = client.request(path="/hello")
                        if answer.outcome != (200, b"hello", True):
                            failures.append(str(answer))
                        done[0] += 1
                        time.sleep(0.002 if LONG else 0.02)

        with ThreadPoolExecutor(3) as pool:
            runs = [pool.submit(ask) for _ in range(3)]
            try:
                for number in range(6 if LONG else 3):
                    fresh.file.write_text(configured(LOOPS[(number + 1) % 2]))
                    assert fresh.reload().message.startswith("reloaded: ")
                    before = done[0]
                    wait_until(lambda: done[0] > before + 20)  # noqa: B023
            finally:
                stopped = True
            for one in runs:
                one.result()
        assert failures == []


class TestWebSocket:
    """RFC 8441."""

    def enter(self, client: Http2Client, path: str) -> Tunnel:
        answer = client.open(
            "CONNECT", path, [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")], end=False
        )
        client.wait(lambda: bool(answer.status))
        assert answer.status == 200
        return Tunnel(client, answer)

    def test_sessions_share_a_connection_with_requests(self, client: Http2Client) -> None:
        client.wait(lambda: client.client.remote_settings.enable_connect_protocol == 1)
        tunnels = [self.enter(client, "/sessions/echo") for _ in range(3)]
        data = os.urandom(1_000_000)
        for tunnel in tunnels:
            tunnel.say(data)
        assert client.request(path="/hello").body == b"hello"
        for tunnel in tunnels:
            client.wait(lambda: bool(tunnel.hear()) or bool(tunnel.received))  # noqa: B023
            assert [(one.opcode, one.data) for one in tunnel.received] == [(Opcode.BINARY, data)]
            tunnel.close(4000, "bye")
            client.wait(lambda: tunnel.close_code == 4000)  # noqa: B023
            client.finish(tunnel.answer)
        assert client.request(path="/hello").body == b"hello"

    def test_an_application_sees_http_2_and_may_refuse(self, client: Http2Client) -> None:
        tunnel = self.enter(client, "/sessions/describe")
        client.wait(lambda: bool(tunnel.hear()) or bool(tunnel.received))
        seen = json.loads(tunnel.received[0].data)
        assert (seen["type"], seen["scheme"], seen["http_version"]) == ("websocket", "ws", "2")
        for path, status in (("/sessions/forbid", 403), ("/sessions/deny", 401)):
            fields = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]
            answer = client.open("CONNECT", path, fields, end=False)
            assert client.finish(answer).status == status

    @pytest.mark.parametrize(("what", "code"), [("stop", 1001), ("reload", 1012)])
    def test_sessions_are_closed_with_the_reason(self, serve: Serve, what: str, code: int) -> None:
        text = '\n[server]\ngraceful_timeout = "1s"'.join(["", configured().replace("[server]", "", 1)])
        server = serve(text)
        with Http2Client(server.address()) as client:
            tunnel = self.enter(client, "/sessions/echo")
            if what == "stop":
                server.send_signal(signal.SIGTERM)
            else:
                server.file.write_text(text.replace('"uvloop"', '"asyncio"'))
                server.send_signal(signal.SIGHUP)
            client.wait(lambda: tunnel.close_code == code)
            tunnel.exchange()
            client.finish(tunnel.answer)
            tunnel.end()
            client.wait_for_end()
        server.wait_for(f"closing 1 WebSocket with {code}")


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset (CVE-2023-44487)": lambda n: frame(1, 5, 2 * n + 1, GET) + reset(2 * n + 1),
    "made you reset (CVE-2025-8671)": lambda n: frame(1, 5, 2 * n + 1, GET) + window_update(2 * n + 1, 0),
    "CONTINUATION (CVE-2024-27316)": lambda n: frame(9 if n else 1, 0, 1, b""),
    "SETTINGS (CVE-2019-9515)": lambda n: frame(4),
    "PING (CVE-2019-9512)": lambda n: frame(6, payload=bytes(8)),
    "empty DATA (CVE-2019-9518)": lambda n: frame(0, 0, 1) if n else frame(1, 4, 1, POST),
    "WINDOW_UPDATE": lambda n: window_update(0, 1),
    "header bomb (CVE-2016-6581)": lambda n: frame(
        1, 5, 2 * n + 1, GET + (b"\xbe" * 16_000 if n else b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000)
    ),
}


class TestAttacks:
    """Each ends its own connection, with ENHANCE_YOUR_CALM; others are not harmed, and memory stays."""

    def test_floods_end_their_connection_and_harm_no_other(self, server: Server) -> None:
        address = server.address()
        assert not isinstance(address, str)
        [worker] = server.workers()
        get(address, "/hello")
        with Watch(worker) as watch, Patient(address) as patient:
            for name, make in FLOODS.items():
                data = b"".join(make(number) for number in range(3000))
                for _ in range(3):
                    assert self.flood(address, data) in (ErrorCode.ENHANCE_YOUR_CALM, None), name
        assert patient.failures == []
        assert max(patient.seconds) < 1.0
        assert watch.growth < 20 * MEGABYTE
        assert "Traceback" not in server.text()

    def flood(self, address: tuple[str, int], data: bytes) -> int | None:
        """Send all of it and return the code of the last GOAWAY; None if a reset came before it could be read."""
        received = b""
        with socket.create_connection(address, timeout=15) as client:
            try:
                client.sendall(GREETING + data)
                while part := client.recv(65536):
                    received += part
            except ConnectionError:
                pass
        whole = received
        while whole:
            try:
                last = frames_of(whole)[-1]
            except AssertionError:  # a frame that was cut off
                return None
            return last.code if last.kind == 7 else None
        return None

    def test_resets_at_a_rate_that_is_allowed_leave_nothing_behind(self, server: Server) -> None:
        """An application that takes its time keeps the place of the stream that was reset."""
        with Http2Client(server.address()) as client:
            for _ in range(300):
                answer = client.open(path="/slow?seconds=0.05")
                client.client.reset_stream(answer.id)
                client.exchange()
            answer = client.request(path="/hello")
            while answer.reset == ErrorCode.REFUSED_STREAM:  # until the first of them are done
                time.sleep(0.01)
                answer = client.request(path="/hello")
            assert answer.body == b"hello"

    def test_windows_that_stay_shut_end_their_streams_in_time(self, server: Server) -> None:
        [worker] = server.workers()
        with Watch(worker) as watch, Http2Client(server.address("hasty"), settings={4: 0}) as client:
            answers = [client.open(path="/download?pieces=1000") for _ in range(100)]
            begin = time.monotonic()
            client.wait(lambda: all(answer.reset is not None for answer in answers))
            assert time.monotonic() - begin < 2 + 2 + 3
            assert {answer.reset for answer in answers} == {ErrorCode.CANCEL}
        assert watch.growth < 60 * MEGABYTE

    def test_slow_clients_are_gone_after_their_limit(self, server: Server) -> None:
        address = server.address("hasty")
        assert not isinstance(address, str)
        [worker] = server.workers()
        path = b"/download?pieces=10000"
        download = frame(1, 5, 1, b"\x82\x86\x04" + bytes([len(path)]) + path + b"\x01\x01a")
        windows = window_update(0, 2**30) + frame(4, payload=b"\0\4\x7f\xff\xff\xff")
        kinds: dict[str, Callable[[], Slow]] = {
            "silent": lambda: Slow("silent", b""),
            "half a preface": lambda: Slow("half a preface", PREFACE[:10]),
            "greeted": lambda: Slow("greeted", GREETING),
            "dribbled header": lambda: Slow("dribbled header", GREETING + frame(1, 5, 1, bytes(1000))[:20], b"\x82"),
            "stalled body": lambda: Slow("stalled body", GREETING + frame(1, 4, 1, POST)),
            "dribbled body": lambda: Slow("dribbled body", GREETING + frame(1, 4, 1, POST), frame(0, 0, 1, b"x")),
            "never reading": lambda: Slow("never reading", GREETING + windows + download, reads=False),
        }
        statuses = {"stalled body": "408", "dribbled body": "504"}
        clients = [make() for _ in range(20) for make in kinds.values()]
        descriptors = len(processes.descriptors(worker))
        with Patient(server.address()) as patient, Swarm(address, clients) as swarm:
            wait_for_descriptors(worker, lambda count: count >= len(clients) + descriptors)
            swarm.begin()
            swarm.wait_until_gone(20)
        assert patient.failures == []
        for slow in clients:
            assert slow.lasted < 2 + 2 + 2 + 1 + 3, slow.kind  # its limit, the linger, the sweep, and busy cores
            if slow.kind in statuses:
                [head] = [one for one in frames_of(slow.answer) if one.kind == 1]
                assert hpack.Decoder().decode(head.payload)[0] == (":status", statuses[slow.kind])
