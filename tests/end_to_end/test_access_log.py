"""The access log of a running server: where it goes, that no line is lost or mixed, and what a reload changes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.client import get
from tests.support.control import command, wait_until
from tests.support.server import Server

QUIET = """\
[logging]
file = "log"
"""


def entries(text: str) -> list[dict[str, Any]]:
    """Return the lines of an access log in JSON, each of which has to be whole."""
    return [json.loads(line) for line in text.splitlines()]


def port_of(directory: Path) -> int:
    """Return the port of a server that logs to a file."""
    log = directory / "log"
    wait_until(lambda: log.exists() and "ready: generation 1" in log.read_text())
    found = re.search(r"listening on http://127.0.0.1:(\d+)", log.read_text())
    assert found is not None
    return int(found[1])


@pytest.fixture
def quiet(tmp_path: Path, probe: str) -> str:
    return f"[server]\nworkers = 2\n{QUIET}\n{probe}"


def test_it_goes_to_the_standard_output_whole_and_complete(tmp_path: Path, quiet: str) -> None:
    """Log lines go elsewhere; all that two workers write to one pipe is there when they have ended."""
    file = tmp_path / "server.toml"
    file.write_text(quiet)
    server = Server(file).start()
    try:
        port = port_of(tmp_path)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: get(("127.0.0.1", port), f"/hello?{number}&{'x' * 1000}"), range(400)))
        assert server.stop() == 0
    finally:
        server.kill()
    lines = entries(server.output)
    assert Counter(int(line["target"][7:].partition("&")[0]) for line in lines) == Counter(range(400))
    assert {line["worker"] for line in lines} == {0, 1}
    assert {(line["client"], line["status"], line["app"], line["listener"]) for line in lines} == {
        ("127.0.0.1", 200, "probe", "web")
    }


def test_a_reader_that_hangs_stops_nobody(tmp_path: Path, quiet: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(quiet)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, "-m", "serverd", "-c", str(file)], stdout=writer, start_new_session=True
    )
    try:
        port = port_of(tmp_path)
        for number in range(100):
            assert get(("127.0.0.1", port), f"/hello?{number}&{'x' * 500}").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait(30)
        os.close(writer)
    with open(reader) as pipe:
        lines = entries(pipe.read())
    assert 0 < len(lines) < 100


def test_a_reload_changes_it_without_new_workers(serve: Serve, tmp_path: Path, probe: str) -> None:
    server = serve(f'{probe}\n[access_log]\nfile = "one"\nformat = "text"\n')
    workers = server.workers()
    get(server.address(), "/hello?1")
    wait_until(lambda: '"GET /hello?1 HTTP/1.1" 200' in (tmp_path / "one").read_text())
    settings = 'file = "two"\nformat = "{method} {path} {status}"\nexclude = ["/pid"]'
    server.file.write_text(f"{probe}\n[access_log]\n{settings}\n")
    done = command(server, "reload")
    assert done.code == 0, done.err
    assert "adopted by the running workers" in server.output
    get(server.address(), "/pid")
    get(server.address(), "/hello?2")
    wait_until(lambda: (tmp_path / "two").read_text() == "GET /hello 200\n")
    server.file.write_text(f"{probe}\n[access_log]\nenabled = false\n")
    assert command(server, "reload").code == 0
    get(server.address(), "/hello?3")
    assert server.workers() == workers
    assert server.stop() == 0
    assert (tmp_path / "two").read_text() == "GET /hello 200\n"
    assert (tmp_path / "one").read_text().count("\n") == 1
    assert "hello?3" not in server.output


def test_a_mount_can_be_without(serve: Serve, probe: str) -> None:
    more = '[[mounts]]\npath = "/silent"\naccess_log = false\nrespond = { body = "x" }\n'
    server = serve(f'{probe}\n{more}\n[access_log]\nformat = "seen {{target}} {{status}}"\n')
    get(server.address(), "/silent/a")
    get(server.address(), "/hello")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert server.stop() == 0
    assert re.findall("(?m)^seen .*$", server.output) == ["seen /hello 200", "seen - 400"]
