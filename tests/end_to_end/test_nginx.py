"""A real nginx in front of serverd: with the configuration that the example shows, and as one that passes bytes."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import APPS, Serve
from tests.support.client import Client
from tests.support.nginx import NGINX, running, stream_module

EXAMPLE = Path(__file__).parents[2] / "examples" / "unix-nginx"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """Run nginx with the example's file and yield its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        text = (EXAMPLE / "nginx.conf").read_text()
        for written, here in (
            ("/tmp/serverd-example.sock", str(tmp_path / "serverd.sock")),
            ("listen 127.0.0.1:8080;", f"listen 127.0.0.1:{port};"),
        ):
            assert text.count(written) == 1
            text = text.replace(written, here)
        with running(tmp_path, text, [listening]):
            yield f"http://127.0.0.1:{port}"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return the file of a copy of the example: several runs of the tests do not meet at its control socket."""
    return shutil.copytree(EXAMPLE, tmp_path / "example") / "server.toml"


def test_nginx_passes_requests_and_uploads_over_kept_connections(
    serve: Serve, nginx: str, example: Path, tmp_path: Path
) -> None:
    server = serve(example, env={"SOCKET": str(tmp_path / "serverd.sock")})
    assert server.address("nginx") == str(tmp_path / "serverd.sock")
    with httpx.Client(base_url=nginx, trust_env=False, timeout=20) as client:
        for _ in range(20):
            seen = client.get("/").json()
            assert seen["client"] == "127.0.0.1"
            assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
            assert seen["headers"]["host"] == nginx.removeprefix("http://")
        assert client.post("/length", content=bytes(5_000_000)).text == "5000000"
        assert client.post("/length", content=iter([b"a" * 1000] * 50)).text == "50000"


def test_nginx_sees_no_failure_while_serverd_reloads(serve: Serve, nginx: str, example: Path, tmp_path: Path) -> None:
    server = serve(example, env={"SOCKET": str(tmp_path / "serverd.sock")})
    with httpx.Client(base_url=nginx, trust_env=False, timeout=20) as client:
        for _ in range(3):
            assert client.get("/").status_code == 200
            assert server.reload().message.startswith("reloaded:")
            assert client.get("/").status_code == 200


PASSING = """\
{module}
pid nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 64; }}
stream {{
    server {{
        listen 127.0.0.1:{first};
        listen [::1]:{second};
        proxy_pass unix:{upstream};
        proxy_protocol on;
    }}
}}
"""

BEHIND = """\
[server]
workers = 1

[listeners.web]
bind = "unix:{upstream}"
trusted_proxies = ["unix"]
proxy_protocol = true

[apps.hostile]
app = "hostile:app"
directory = "{apps}"

[[mounts]]
app = "hostile"
path = "/"
"""


def test_a_client_of_an_nginx_that_passes_bytes_is_known_by_the_proxy_header(serve: Serve, tmp_path: Path) -> None:
    module = stream_module()
    if module is None:
        pytest.skip("nginx has no stream module (Debian: libnginx-mod-stream)")
    upstream = tmp_path / "serverd.sock"
    serve(BEHIND.format(upstream=upstream, apps=APPS))
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        ends = first.getsockname()[:2], six.getsockname()[:2]
        text = PASSING.format(module=module, first=ends[0][1], second=ends[1][1], upstream=upstream)
        with running(tmp_path, text, [first, six]):
            for end in ends:
                with Client(end) as client:
                    for path in ("/who", "/again"):
                        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n".encode())
                        seen = json.loads(client.response().body)
                        assert seen["client"] == list(client.socket.getsockname()[:2])
                        assert seen["server"] == list(end)
                        assert seen["path"] == path
                        assert seen["headers"] == [["host", "a"]], "what the client says of itself is not removed"
                    body = bytes(3_000_000)
                    client.send(b"POST /swallow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    assert client.response().body == b"3000000"
                # A PROXY header of the client's own comes after nginx's: it is the broken request of somebody known.
                with Client(end) as client:
                    client.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 1 2\r\nGET /who HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert client.response().status == 400
