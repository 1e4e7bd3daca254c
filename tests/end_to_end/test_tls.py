"""TLS with real clients: who is shown which certificate, who is believed, and renewal while requests come in."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.end_to_end import test_service
from tests.support.authority import DAY, Authority, Issued
from tests.support.client import Client
from tests.support.control import command, status, wait_until
from tests.support.server import Server

# An interpreter for somebody else, and a folder that all may enter.
open_directory, python_of_nobody = test_service.open_directory, test_service.python_of_nobody

AUTHORITY = Authority()
TIMEOUT = 20.0  # seconds for one client
PAUSE = 0.03  # seconds between two requests of a client: what is renewed meanwhile needs the processor, too

# Who a certificate is for.
LOCAL = ("localhost", "127.0.0.1")
CERTIFICATES = {
    "local": AUTHORITY.issue(*LOCAL, "*.example"),
    "local-rsa": AUTHORITY.issue(*LOCAL, "*.example", kind="rsa"),
    "shop": AUTHORITY.issue("shop.example"),
}
REVOKED = AUTHORITY.issue("mallory", client=True)
CLIENTS = {
    "good": AUTHORITY.issue("alice", client=True),
    "expired": AUTHORITY.issue("bob", client=True, begins=-9 * DAY, ends=-DAY),
    "foreign": Authority("stranger").issue("eve", client=True),
    "revoked": REVOKED,
}

APPLICATION = """\
import json

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    tls = scope["extensions"].get("tls")
    body = json.dumps({"scheme": scope["scheme"], "version": scope["http_version"], "tls": tls}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

CONFIGURATION = """\
[server]
workers = 2
loop = "LOOP"

[listeners.web]
bind = "127.0.0.1:0"
tls = "public"

[listeners.partners]
bind = "127.0.0.1:0"
tls = "partners"
limits = { header_timeout = "1s" }

[tls.public]
certificates = [
    { cert = "local.crt", key = "local.key" },
    { cert = "local-rsa.crt", key = "local-rsa.key" },
    { cert = "shop.crt", key = "shop.key" },
]

[tls.partners]
certificates = [{ cert = "local.crt", key = "local.key" }]
client_auth = "required"
client_ca = "ca.crt"
client_crl = "ca.crl"

[apps.tell]
app = "tell:app"

[[mounts]]
app = "tell"

[logging]
level = "debug"
"""


def prepare(folder: Path, loop: str = "uvloop") -> Path:
    """Write all that the configuration names into `folder`, and return its path."""
    for name, issued in CERTIFICATES.items():
        issued.write(folder, name)
    (folder / "ca.crt").write_text(AUTHORITY.pem)
    (folder / "ca.crl").write_text(AUTHORITY.revocations([REVOKED]))
    (folder / "tell.py").write_text(APPLICATION)
    file = folder / "server.toml"
    file.write_text(CONFIGURATION.replace("LOOP", loop))
    return file


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it is."""
    with Server(prepare(tmp_path_factory.mktemp("tls"), request.param)) as running:
        yield running


def port(server: Server, listener: str = "web") -> int:
    return int(server.address(listener)[1])


def serial(port: int, name: str = "localhost") -> str:
    """Return the serial number of what a client is shown that asks for `name`."""
    context = AUTHORITY.client_context()
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=name) as client,
    ):
        certificate = client.getpeercert()
        assert certificate
        return str(certificate["serialNumber"])


class TlsClient(Client):
    """A raw HTTP/1.1 client over TLS."""

    socket: ssl.SSLSocket

    def __init__(self, port: int, context: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None) -> None:
        super().__init__(("127.0.0.1", port))
        context = context or AUTHORITY.client_context()
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost", session=session)
        except BaseException:
            self.socket.close()
            raise


def test_the_log_tells_where_it_is_reached(server: Server) -> None:
    assert re.search(r"listener web: listening on https://127\.0\.0\.1:\d+", server.output)


class TestClients:
    @pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
    def test_curl(self, server: Server, option: str, version: str) -> None:
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("curl is not installed")
        ca = server.file.parent / "ca.crt"
        done = subprocess.run(
            [curl, "-sS", option, "--cacert", ca, f"https://localhost:{port(server)}/"],
            capture_output=True, timeout=TIMEOUT, text=True,
        )  # fmt: skip
        assert done.stderr == ""
        answer = json.loads(done.stdout)
        assert (answer["scheme"], answer["version"]) == ("https", version)
        assert answer["tls"]["tls_version"] == 0x0304

    @pytest.mark.parametrize(
        ("name", "arguments", "expected"),
        [
            ("localhost", ["-tls1_3"], "local"),
            ("localhost", ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "local-rsa"),
            ("localhost", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "local"),
            ("any.example", ["-sigalgs", "rsa_pss_rsae_sha256"], "local-rsa"),
            ("any.example", [], "local"),
            ("shop.example", [], "shop"),
            ("SHOP.example", [], "shop"),
            ("nobody.test", [], "local"),
            (None, [], "local"),
        ],
    )
    def test_openssl_with_each_name(
        self, server: Server, name: str | None, arguments: list[str], expected: str
    ) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("openssl is not installed")
        asked = ["-noservername"] if name is None else ["-servername", name]
        ca = server.file.parent / "ca.crt"
        done = subprocess.run(
            [openssl, "s_client", "-connect", f"127.0.0.1:{port(server)}", "-CAfile", ca, *asked, *arguments],
            input="", capture_output=True, timeout=TIMEOUT, text=True,
        )  # fmt: skip
        assert "Verify return code: 0 (ok)" in done.stdout
        pem = done.stdout[done.stdout.index("-----BEGIN") : done.stdout.index("-----END CERTIFICATE-----")]
        assert pem in CERTIFICATES[expected].cert

    def test_httpx_over_one_connection(self, server: Server) -> None:
        with httpx.Client(verify=AUTHORITY.client_context(), trust_env=False) as client:
            for _ in range(3):
                answer = client.get(f"https://localhost:{port(server)}/").json()
                assert answer["tls"]["server_cert"] is None  # ECDSA or RSA, which TLS 1.3 keeps to itself


class TestClientCertificates:
    def ask(self, server: Server, certificate: Issued | None, folder: Path) -> httpx.Response:
        context = AUTHORITY.client_context(certificate, folder)
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.get(f"https://localhost:{port(server, 'partners')}/")

    def test_a_good_one_is_in_the_scope(self, server: Server, tmp_path: Path) -> None:
        answer = self.ask(server, CLIENTS["good"], tmp_path).json()["tls"]
        assert answer["client_cert_name"] == "CN=alice"
        assert answer["client_cert_chain"][0] == CLIENTS["good"].cert
        assert answer["server_cert"] == CERTIFICATES["local"].cert

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_resumed_session_is_still_its_owners_and_another_worker_shakes_hands_anew(
        self, server: Server, tmp_path: Path, version: ssl.TLSVersion
    ) -> None:
        context = AUTHORITY.client_context(CLIENTS["good"], tmp_path)
        context.minimum_version = context.maximum_version = version
        session = None
        resumed = set()
        for _ in range(50):  # each of two workers has about half of them
            with TlsClient(port(server, "partners"), context, session) as client:
                answer = json.loads(client.request("GET", "/").body)["tls"]
                assert answer["client_cert_name"] == "CN=alice"
                assert answer["client_cert_chain"][0] == CLIENTS["good"].cert
                if session is not None:
                    resumed.add(client.socket.session_reused)
                session = client.socket.session
            if len(resumed) == 2:
                break
        assert resumed == {True, False}

    @pytest.mark.parametrize(
        ("who", "alert", "reason"),
        [
            ("expired", "CERTIFICATE_EXPIRED|certificate expired", "certificate has expired"),
            ("foreign", "UNKNOWN_CA|unknown ca", "unable to get local issuer certificate"),
            ("revoked", "CERTIFICATE_REVOKED|certificate revoked", "certificate revoked"),
            (None, "CERTIFICATE_REQUIRED|certificate required", "peer did not return a certificate"),
        ],
    )
    def test_others_are_told_why_not(
        self, server: Server, tmp_path: Path, who: str | None, alert: str, reason: str
    ) -> None:
        mark = server.mark()
        with pytest.raises((httpx.ReadError, httpx.ConnectError), match=alert):
            self.ask(server, CLIENTS.get(who or ""), tmp_path)
        line = server.wait_for(f"the TLS handshake failed: {reason}", since=mark)
        assert (line.level, line.exception) == ("debug", "")


class TestStrangers:
    """What is no handshake is closed in time, told in one quiet line, and writes no traceback."""

    @pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a byte", "a part"])
    def test_half_a_handshake(self, server: Server, sent: bytes) -> None:
        mark = server.mark()
        with Client(("127.0.0.1", port(server, "partners"))) as client:
            client.send(sent)
            assert client.ended()
        line = server.wait_for("its TLS handshake was not complete in time", since=mark)
        assert line.level == "debug"

    @pytest.mark.parametrize("sent", [b"\0" * 100, os.urandom(5000), b"SSH-2.0-x\r\n"], ids=["zeros", "noise", "ssh"])
    def test_garbage(self, server: Server, sent: bytes) -> None:
        mark = server.mark()
        with Client(("127.0.0.1", port(server))) as client:
            client.send(sent)
            while not client.ended():
                client._buffer.clear()
        assert server.wait_for("the TLS handshake failed", since=mark).level == "debug"

    def test_plain_http(self, server: Server) -> None:
        with Client(("127.0.0.1", port(server))) as client:
            response = client.request("GET", "/")
            assert (response.status, response.body) == (400, b"Bad Request: this port speaks HTTPS\n")
            assert client.ended()

    def test_nothing_of_it_is_an_error(self, server: Server) -> None:
        assert not [line for line in server.lines if line.level not in ("debug", "info", "") or line.exception]
        assert "Traceback" not in server.output


class Requests:
    """Clients that ask all the time, some over one connection, some over a new one each; all that fails is kept."""

    def __init__(self, port: int) -> None:
        self.failures: list[str] = []
        self.answers = {"1.1": 0, "2": 0}
        self._port = port
        self._context, self._context_of_http2 = AUTHORITY.client_context(), AUTHORITY.client_context()
        self._stopped = threading.Event()
        clients = (self._fresh, self._kept, self._fresh_http2, self._kept_http2)
        self._threads = [threading.Thread(target=run) for run in clients]

    def __enter__(self) -> Requests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _check(self, status: int, body: bytes) -> None:
        if status != 200:
            self.failures.append(f"status {status}")
        self.answers[json.loads(body)["version"]] += 1

    def _fresh(self) -> None:
        while not self._stopped.wait(PAUSE):
            try:
                with TlsClient(self._port, self._context) as client:
                    response = client.request("GET", "/", [("Connection", "close")])
                    self._check(response.status, response.body)
            except Exception as error:
                self.failures.append(repr(error))

    def _kept(self) -> None:
        try:
            with TlsClient(self._port, self._context) as client:
                while not self._stopped.wait(PAUSE):
                    response = client.request("GET", "/")
                    self._check(response.status, response.body)
        except Exception as error:
            self.failures.append(repr(error))

    def _http2(self) -> httpx.Client:
        return httpx.Client(http1=False, http2=True, verify=self._context_of_http2, trust_env=False, timeout=TIMEOUT)

    def _fresh_http2(self) -> None:
        while not self._stopped.wait(PAUSE):
            with self._http2() as client:
                self._ask(client)

    def _kept_http2(self) -> None:
        with self._http2() as client:
            while not self._stopped.wait(PAUSE):
                self._ask(client)

    def _ask(self, client: httpx.Client) -> None:
        try:
            response = client.get(f"https://localhost:{self._port}/")
            self._check(response.status_code, response.content)
        except Exception as error:
            self.failures.append(repr(error))


def point(folder: Path, name: str, number: int) -> None:
    """Have the link `name` lead to the file of that number, as certbot does in live/: for a moment it is not there."""
    (folder / name).unlink()
    (folder / name).symlink_to(f"{name}.{number}")


def put(folder: Path, name: str, text: str) -> None:
    """Write a file beside it, and rename it over."""
    (folder / f"{name}.new").write_text(text)
    os.replace(folder / f"{name}.new", folder / name)


class TestRenewal:
    def test_under_load_no_request_fails_and_a_broken_pair_keeps_the_old_one(self, tmp_path: Path) -> None:
        fresh = AUTHORITY.issue(*LOCAL, "*.example", key_number=1, ends=10 * DAY)
        file = prepare(tmp_path)
        for number, issued in enumerate((CERTIFICATES["local"], fresh)):
            (tmp_path / f"local.crt.{number}").write_text(issued.cert)
            (tmp_path / f"local.key.{number}").write_text(issued.key)
        for name in ("local.crt", "local.key"):
            point(tmp_path, name, 0)
        with Server(file) as server, Requests(port(server)) as requests:
            workers = server.workers()
            assert serial(port(server)) == CERTIFICATES["local"].serial
            mark = server.mark()
            (tmp_path / "tell.py").write_text(f"raise SystemExit  # half deployed\n{APPLICATION}")
            point(tmp_path, "local.key", 1)
            point(tmp_path, "local.crt", 1)
            server.wait_for("^reloaded: generation 2 is serving, adopted by the running workers: ", since=mark)
            assert serial(port(server)) == fresh.serial
            assert serial(port(server), "shop.example") == CERTIFICATES["shop"].serial
            warnings = [line.message for line in server.lines if line.level == "warning"]
            assert len(warnings) == 2, "one for each table that has it"
            assert warnings[0].endswith("local.crt expires in 9 days (expected it to be renewed by now)")

            mark = server.mark()
            put(tmp_path, "local.key", CERTIFICATES["local"].key)  # and the certificate is late
            line = server.wait_for("^reload failed, generation 2 goes on serving: ", since=mark)
            misfit = f"certificate of tls.public ({tmp_path}/local.crt): the key does not belong to the certificate"
            assert line.message.endswith(misfit)
            assert serial(port(server)) == fresh.serial
            shown = command(server, "status").out
            assert "last reload FAILED" in shown
            assert misfit in shown
            assert re.search(rf"public +\d{{4}}-\d\d-\d\d +{fresh.serial} +localhost, 127\.0\.0\.1, \*\.example", shown)
            (tmp_path / "tell.py").write_text(APPLICATION)
            checked = command(server, "check")
            assert checked.code == 3
            assert misfit in checked.out

            mark = server.mark()
            put(tmp_path, "local.crt", CERTIFICATES["local"].cert)
            server.wait_for("^reloaded: ", since=mark)
            assert serial(port(server)) == CERTIFICATES["local"].serial
            told = [line.message for line in server.lines if line.message.startswith("reload failed")]
            assert len(told) == 1, "it is not told again and again"
            assert server.workers() == workers, "nobody was replaced"
            wait_until(lambda: min(requests.answers.values()) > 50)
        assert requests.failures == []

    def test_a_pair_that_does_not_fit_holds_up_no_other(self, tmp_path: Path) -> None:
        shop = AUTHORITY.issue("shop.example", key_number=1)
        with Server(prepare(tmp_path)) as server:
            mark = server.mark()
            put(tmp_path, "local.key", shop.key)
            shop.write(tmp_path, "shop")
            server.wait_for("^reloaded: generation 2 is serving, adopted by the running workers: ", since=mark)
            assert serial(port(server), "shop.example") == shop.serial
            assert serial(port(server)) == CERTIFICATES["local"].serial
            misfit = f"certificate of tls.public ({tmp_path}/local.crt): the key does not belong to the certificate"
            warnings = [line.message for line in server.lines if line.level == "warning"]
            assert any(f"{misfit} (what it held before stays in use)" in warning for warning in warnings)
            assert re.search(
                rf"{CERTIFICATES['local'].serial} .*not renewed: .*the key does not", command(server, "status").out
            )

    def test_a_worker_that_is_replaced_later_has_what_is_current(self, tmp_path: Path) -> None:
        fresh = AUTHORITY.issue(*LOCAL, key_number=1)
        with Server(prepare(tmp_path)) as server:
            fresh.write(tmp_path, "local")
            server.wait_for("^reloaded: generation 2")
            before = set(server.workers())
            for pid in before:
                os.kill(pid, signal.SIGKILL)

            def ready() -> set[int]:
                return {one["pid"] for one in status(server)["workers"] if one["state"] == "ready"}

            wait_until(lambda: len(ready() - before) == 2)
            assert serial(port(server)) == fresh.serial

    def test_who_was_revoked_meanwhile_is_out(self, tmp_path: Path) -> None:
        file = prepare(tmp_path)
        context = AUTHORITY.client_context(CLIENTS["good"], tmp_path)
        with Server(file) as server:
            with TlsClient(port(server, "partners"), context) as client:
                assert client.request("GET", "/").status == 200
            (tmp_path / "ca.crl").write_text(AUTHORITY.revocations([CLIENTS["good"]]))
            server.wait_for("^reloaded: generation 2")
            with (
                pytest.raises((ssl.SSLError, ConnectionError)),
                TlsClient(port(server, "partners"), context) as client,
            ):
                client.request("GET", "/")


class TestStart:
    def test_with_a_key_of_another_certificate_it_ends_with_the_line(self, tmp_path: Path) -> None:
        file = prepare(tmp_path)
        (tmp_path / "shop.key").write_text(AUTHORITY.issue("x", key_number=1).key)
        server = Server(file).start()
        try:
            assert server.wait() == 3
            misfit = "the key does not belong to the certificate"
            expected = f"server.toml:18: certificate of tls.public ({tmp_path}/shop.crt): {misfit}"
            assert expected in server.output
            assert "Traceback" not in server.output
            assert "PRIVATE KEY" not in server.output
        finally:
            server.kill()

    def test_a_reload_with_one_is_rolled_back(self, tmp_path: Path) -> None:
        file = prepare(tmp_path)
        with Server(file) as server:
            other = AUTHORITY.issue("other.example")
            (tmp_path / "other.crt").write_text(other.cert)
            (tmp_path / "other.key").write_text(AUTHORITY.issue("x", key_number=1).key)
            before = file.read_text()
            file.write_text(
                before.replace('cert = "shop.crt", key = "shop.key"', 'cert = "other.crt", key = "other.key"')
            )
            done = command(server, "reload")
            assert done.code != 0
            assert "the key does not belong to the certificate" in done.err
            assert serial(port(server), "shop.example") == CERTIFICATES["shop"].serial

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    @pytest.mark.parametrize("preload", ["true", "false"])
    def test_workers_need_not_be_able_to_read_the_key(
        self, open_directory: Path, python_of_nobody: tuple[str, dict[str, str]], preload: str
    ) -> None:
        python, env = python_of_nobody
        private = open_directory / "private"
        private.mkdir(mode=0o700)
        CERTIFICATES["local"].write(private, "local")
        file = open_directory / "server.toml"
        file.write_text(f"""\
[server]
user = "nobody"
preload = {preload}
[control]
socket = "{private}/control"
[listeners.web]
bind = "127.0.0.1:0"
tls = "main"
[tls.main]
certificates = [{{ cert = "private/local.crt", key = "private/local.key" }}]
[[mounts]]
respond = {{ body = "hello" }}
""")
        fresh = AUTHORITY.issue(*LOCAL, key_number=1)
        with Server(file, python=python, env=env) as server:
            assert os.stat(f"/proc/{server.workers()[0]}").st_uid == pwd.getpwnam("nobody").pw_uid
            with TlsClient(port(server)) as client:
                assert client.request("GET", "/").body == b"hello"
            fresh.write(private, "local")
            server.wait_for("^reloaded: generation 2")
            assert serial(port(server)) == fresh.serial


def test_files_are_sent_encrypted(serve: Serve, tmp_path: Path) -> None:
    CERTIFICATES["local"].write(tmp_path, "local")
    file = tmp_path / "file"
    file.write_bytes(os.urandom(2_000_000))
    (tmp_path / "files.py").write_text(f"""\
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2000000")]}})
    await send({{"type": "http.response.pathsend", "path": "{file}"}})
""")
    server = serve("""\
[listeners.web]
bind = "127.0.0.1:0"
tls = "main"
[tls.main]
certificates = [{ cert = "local.crt", key = "local.key" }]
[apps.files]
app = "files:app"
[[mounts]]
app = "files"
""")
    with TlsClient(port(server)) as client:
        for _ in range(2):
            assert client.request("GET", "/").body == file.read_bytes()
