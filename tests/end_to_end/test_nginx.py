"""A real nginx in front of serverd on a unix socket, with the configuration that the example shows."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve

EXAMPLE = Path(__file__).parents[2] / "examples" / "unix-nginx"

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")  # Debian keeps it off the path of users

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """Run nginx with the example's file and yield its URL.

    The listening socket is made here and inherited (the variable NGINX, as in nginx's own upgrade without downtime):
    the port is the kernel's choice, and connections queue from the start, so nothing has to wait for nginx.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        text = (EXAMPLE / "nginx.conf").read_text()
        for written, here in (
            ("/tmp/serverd-example.sock", str(tmp_path / "serverd.sock")),
            ("listen 127.0.0.1:8080;", f"listen 127.0.0.1:{port};"),
        ):
            assert text.count(written) == 1
            text = text.replace(written, here)
        (tmp_path / "nginx.conf").write_text(text)
        # A worker of nginx gives up root, and then could not pass the private directory of the test.
        user = "user root;" if os.geteuid() == 0 else ""
        assert NGINX is not None
        process = subprocess.Popen(
            [NGINX, "-p", tmp_path, "-c", "nginx.conf", "-g", f"daemon off; {user}"],
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(10)


def test_nginx_passes_requests_and_uploads_over_kept_connections(serve: Serve, nginx: str, tmp_path: Path) -> None:
    server = serve(EXAMPLE / "server.toml", env={"SOCKET": str(tmp_path / "serverd.sock")})
    assert server.address("nginx") == str(tmp_path / "serverd.sock")
    with httpx.Client(base_url=nginx, trust_env=False, timeout=20) as client:
        for _ in range(20):
            seen = client.get("/").json()
            assert seen["client"] == "127.0.0.1"
            assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
            assert seen["headers"]["host"] == nginx.removeprefix("http://")
        assert client.post("/length", content=bytes(5_000_000)).text == "5000000"
        assert client.post("/length", content=iter([b"a" * 1000] * 50)).text == "50000"


def test_nginx_sees_no_failure_while_serverd_reloads(serve: Serve, nginx: str, tmp_path: Path) -> None:
    server = serve(EXAMPLE / "server.toml", env={"SOCKET": str(tmp_path / "serverd.sock")})
    with httpx.Client(base_url=nginx, trust_env=False, timeout=20) as client:
        for _ in range(3):
            assert client.get("/").status_code == 200
            assert server.reload().message.startswith("reloaded:")
            assert client.get("/").status_code == 200
