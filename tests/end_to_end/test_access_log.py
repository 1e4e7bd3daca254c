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
from tests.support.control import command, wait_until
from tests.support.either import VERSIONS, ask
from tests.support.server import Server

QUIET = """\
[logging]
file = "log"
"""


def entries(text: str) -> list[dict[str, Any]]:
    """Return the lines of an access log in JSON, each of which has to be whole."""
    return [json.loads(line) for line in text.splitlines()]


def get(port: int, target: str, number: int) -> None:
    """Ask for what is there, by both protocols in turn."""
    assert ask(VERSIONS[number % 2], ("127.0.0.1", port), target).status == 200


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
            list(pool.map(lambda number: get(port, f"/hello?{number}&{'x' * 1000}", number), range(400)))
        assert server.stop() == 0
    finally:
        server.kill()
    lines = entries(server.output)
    assert Counter(int(line["target"][7:].partition("&")[0]) for line in lines) == Counter(range(400))
    assert {line["worker"] for line in lines} == {0, 1}
    assert Counter(
        tuple(line[key] for key in ("client", "status", "app", "listener", "protocol")) for line in lines
    ) == {("127.0.0.1", 200, "probe", "web", f"HTTP/{version}"): 200 for version in VERSIONS}


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
            get(port, f"/hello?{number}&{'x' * 500}", number)
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
    get(server.port, "/hello?1", 0)
    get(server.port, "/hello?1", 1)
    wait_until(lambda: '"GET /hello?1 HTTP/1.1" 200' in (tmp_path / "one").read_text())
    wait_until(lambda: '"GET /hello?1 HTTP/2" 200' in (tmp_path / "one").read_text())
    settings = 'file = "two"\nformat = "{method} {path} {status} {protocol}"\nexclude = ["/pid"]'
    server.file.write_text(f"{probe}\n[access_log]\n{settings}\n")
    done = command(server, "reload")
    assert done.code == 0, done.err
    assert "adopted by the running workers" in server.output
    for number in range(2):
        get(server.port, "/pid", number)
        get(server.port, "/hello?2", number)
    seen = "GET /hello 200 HTTP/1.1\nGET /hello 200 HTTP/2\n"
    wait_until(lambda: (tmp_path / "two").read_text() == seen)
    server.file.write_text(f"{probe}\n[access_log]\nenabled = false\n")
    assert command(server, "reload").code == 0
    get(server.port, "/hello?3", 0)
    get(server.port, "/hello?3", 1)
    assert server.workers() == workers
    assert server.stop() == 0
    assert (tmp_path / "two").read_text() == seen
    assert (tmp_path / "one").read_text().count("\n") == 2
    assert "hello?3" not in server.output


def test_a_mount_can_be_without(serve: Serve, probe: str) -> None:
    more = '[[mounts]]\npath = "/silent"\naccess_log = false\nrespond = { body = "x" }\n'
    server = serve(f'{probe}\n{more}\n[access_log]\nformat = "seen {{target}} {{status}}"\n')
    for number in range(2):
        get(server.port, "/silent/a", number)
        get(server.port, "/hello", number)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert server.stop() == 0
    assert re.findall("(?m)^seen .*$", server.output) == ["seen /hello 200"] * 2 + ["seen - 400"]
