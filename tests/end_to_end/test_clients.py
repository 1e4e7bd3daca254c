"""Clients that people use, against a real server: curl, httpx, and a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import ModuleServe, Serve
from tests.support.apps.probe import PIECE
from tests.support.server import Server

UPLOAD = 5_000_000  # bytes

Curl = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def server(serve_module: ModuleServe, probe: str, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Return a server with the application `probe`, which all of the module may ask."""
    file = tmp_path_factory.mktemp("probe") / "server.toml"
    file.write_text(probe)
    return serve_module(file)


@pytest.fixture
def curl() -> Curl:
    """Run curl with arguments, without the user's settings and proxies, in bounded time."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def run(*arguments: str | Path, body: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["curl", "--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *arguments]
        return subprocess.run(command, input=body, capture_output=True, check=True, timeout=30)

    return run


def test_curl_reuses_its_connection(server: Server, curl: Curl) -> None:
    url = server.url("/hello")
    result = curl("--write-out", "%{num_connects} ", url, url, url)
    assert result.stdout == b"hello1 hello0 hello0 "


def test_curl_head_gets_the_length_and_no_body(server: Server, curl: Curl) -> None:
    result = curl("--head", server.url("/hello"))
    head = result.stdout.decode().lower()
    assert head.startswith("http/1.1 200")
    assert "content-length: 5\r\n" in head
    assert head.endswith("\r\n\r\n")


def test_curl_uploads_after_100_continue(server: Server, curl: Curl) -> None:
    # Without the interim response curl would wait for its own time limit, set here beyond the test's.
    arguments = ["--verbose", "--expect100-timeout", "60", "--header", "Expect: 100-continue", "--data-binary", "@-"]
    result = curl(*arguments, server.url("/length"), body=bytes(UPLOAD))
    assert result.stdout == str(UPLOAD).encode()
    assert b"< HTTP/1.1 100" in result.stderr


def test_curl_does_not_upload_what_the_application_refuses(server: Server, curl: Curl) -> None:
    arguments = ["--verbose", "--expect100-timeout", "60", "--header", "Expect: 100-continue", "--data-binary", "@-"]
    result = curl(*arguments, "--write-out", " %{size_upload}", server.url("/refuse"), body=bytes(UPLOAD))
    assert result.stdout == b"too much 0"
    assert b"< HTTP/1.1 100" not in result.stderr


def test_curl_uploads_with_chunked_coding(server: Server, curl: Curl) -> None:
    arguments = ["--header", "Transfer-Encoding: chunked", "--header", "Expect:", "--upload-file", "-"]
    result = curl(*arguments, server.url("/echo"), body=PIECE * 4)
    assert result.stdout == PIECE * 4


def test_curl_speaks_http_1_0(server: Server, curl: Curl) -> None:
    result = curl("--http1.0", "--request", "POST", "--data-binary", "abc", server.url("/echo"))
    assert result.stdout == b"abc"


def test_curl_reaches_a_unix_socket(serve: Serve, probe: str, curl: Curl, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    server = serve(probe.replace('"127.0.0.1:0"', '"unix:web.sock"\nsocket_mode = "0600"'))
    assert server.address() == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert curl("--unix-socket", path, "http://localhost/hello").stdout == b"hello"
    assert server.stop() == 0
    assert not path.exists()


def test_one_listener_serves_several_addresses(serve: Serve, probe: str, curl: Curl, tmp_path: Path) -> None:
    server = serve(probe.replace('"127.0.0.1:0"', '["127.0.0.1:0", "unix:web.sock"]'))
    assert curl(server.url("/hello")).stdout == b"hello"
    assert curl("--unix-socket", tmp_path / "web.sock", "http://localhost/hello").stdout == b"hello"


def test_httpx_keeps_its_connection_over_all_kinds_of_requests(server: Server) -> None:
    data = os.urandom(UPLOAD)
    with httpx.Client(base_url=server.url(""), trust_env=False, timeout=20) as client:
        streams = set()
        for response, body in (
            (client.get("/hello"), b"hello"),
            (client.head("/hello"), b""),
            (client.post("/length", content=data), str(UPLOAD).encode()),
            (client.post("/length", content=iter([data[:70_000], data[70_000:]])), str(UPLOAD).encode()),
            (client.get("/download?pieces=80"), PIECE * 80),
            (client.get("/hello"), b"hello"),
        ):
            assert (response.status_code, response.content) == (200, body)
            assert response.headers["date"]
            streams.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(streams) == 1, "a connection was not kept"


@pytest.mark.parametrize("parser", ["httptools", "h11"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_uploads_and_downloads_are_whole_with_every_parser_and_loop(
    serve: Serve, probe: str, parser: str, loop: str
) -> None:
    server = serve(f'[server]\nhttp1_parser = "{parser}"\nloop = "{loop}"\n\n{probe}')
    data = os.urandom(UPLOAD)
    with httpx.Client(base_url=server.url(""), trust_env=False, timeout=20) as client:
        assert client.post("/echo", content=data).content == data
        assert client.get("/download?pieces=80").content == PIECE * 80
