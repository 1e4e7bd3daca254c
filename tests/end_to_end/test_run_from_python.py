"""`serverd.run(...)`: a program that serves as the last thing it does, by name in workers, or an object by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.server import Server

PROGRAM = """
import os
import serverd

async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": f"{{__name__}} {{os.getpid()}}".encode()}})

if __name__ == "__main__":
    serverd.run({call})
    print("after", flush=True)
"""


def program(folder: Path, call: str) -> Path:
    (folder / "shop.py").write_text(PROGRAM.format(call=call))
    return folder / "shop.py"


def told(url: str) -> tuple[str, int]:
    """Return in which module and process the application runs."""
    with urllib.request.urlopen(url, timeout=20) as response:
        name, pid = response.read().decode().split()
    return name, int(pid)


def test_by_name_it_is_served_by_a_supervisor_and_workers(tmp_path: Path) -> None:
    options = f'port=0, workers=2, app_dir="{tmp_path}", control_socket="{tmp_path}/c.sock"'
    file = program(tmp_path, f'"shop:app", {options}')
    with Server(tmp_path / "unused.toml", program=file) as server:
        name, pid = told(server.url())
        assert (name, pid in server.workers(), len(server.workers())) == ("shop", True, 2)
        file.write_text(file.read_text().replace("{__name__}", "reloaded"))
        assert server.reload().message.startswith("reloaded: generation 2")
        assert told(server.url())[0] == "reloaded"
        assert server.stop(signal.SIGINT) == 0
        assert "after\n" in server.output


def test_an_object_is_served_in_the_process_itself(tmp_path: Path) -> None:
    server = Server(tmp_path / "unused.toml", program=program(tmp_path, "app, port=0")).start()
    try:
        url = server.wait_for("^serverd: listening on http://").message.rpartition(" ")[2]
        assert told(url) == ("__main__", server.pid)
        assert server.stop() == 0
        assert server.output.endswith("after\n")
    finally:
        server.kill()


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "shop.py").write_text(code)
    command = [sys.executable, "shop.py"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, check=False)


def test_what_is_wrong_is_a_sentence_and_ends_the_program(tmp_path: Path) -> None:
    done = run(tmp_path, PROGRAM.format(call="app, port=0, workers=2"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[0].startswith("serverd: workers: needs workers, which need the application as text")
    done = run(tmp_path, PROGRAM.format(call='"shop:ap", port=0'))
    assert (done.returncode, done.stdout) == (3, "")
    assert "has no attribute 'ap' (did you mean 'app'?)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("7, port=0", 'app: int is no application (expected one, or "package.module:attribute")'),
        ('"shop:app", port=0, reload=True, reload_dir="nowhere"', "reload_dir nowhere: is not a folder"),
        ('"shop:app", prot=0', 'prot: unknown option (did you mean "port"?)'),
        ('"shop:app", ssl_keyfile="x"', "ssl_keyfile: needs a certificate (expected ssl_certfile beside it)"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, call: str, said: str) -> None:
    done = run(tmp_path, PROGRAM.format(call=call))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.removeprefix("serverd: ").splitlines()[0] == said


def test_a_program_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    done = run(tmp_path, 'import serverd\nserverd.run("shop:app", port=0)\n')
    assert done.returncode == 3
    assert 'serverd.run() is called while the module is imported (expected if __name__ == "__main__")' in done.stderr
