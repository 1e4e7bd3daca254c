"""`serverd run` and `--reload`: an application without a file, and what happens when its author saves."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import APPS
from tests.support import processes
from tests.support.authority import Authority
from tests.support.client import get as request
from tests.support.control import ask_at
from tests.support.server import Server
from tests.support.sessions import end_of, enter

APP = """
async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": {body!r}.encode()}})
"""


def write(path: Path, text: str) -> None:
    """Write as editors do: beside the file, then in its place."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text)
    os.replace(fresh, path)


def serve(path: Path, *arguments: str, target: str = "shop", **env: str) -> Server:
    control = ("--control-socket", str(path / "control.sock"))
    fixed = ("run", target, "--app-dir", str(path), "--port", "0", *control)
    return Server(path / "unused.toml", arguments=(*fixed, *arguments), env=env)


def get(server: Server) -> str:
    host, port = server.address("web")[:2]
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=20) as response:
        return response.read().decode()


def test_an_application_is_served_without_a_file_and_reloaded_by_hup(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    with serve(tmp_path, "--header", "X-Shop: yes") as server:
        assert get(server) == "one"
        write(tmp_path / "shop.py", APP.format(body="second"))
        server.send_signal(signal.SIGHUP)
        server.wait_for("reloaded: generation 2")
        assert get(server) == "second"
        assert server.stop() == 0


def test_a_change_is_served_and_a_syntax_error_is_shown_and_waited_out(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    with serve(tmp_path, "--reload") as server:
        write(tmp_path / "shop.py", "def (\n")
        server.wait_for("reload failed, generation 1 goes on serving")
        assert "SyntaxError" in server.output
        assert get(server) == "one"
        # Of those that go to a whole group, as when a shell ends, none is the watcher's.
        watcher = next(pid for pid in processes.children(server.pid) if "watcher" in processes.command_line(pid))
        os.kill(watcher, signal.SIGTERM)
        write(tmp_path / "shop.py", APP.format(body="mended"))
        server.wait_for("is serving")
        assert get(server) == "mended"
        assert server.stop() == 0


def test_a_folder_whose_names_are_no_text_is_served_and_watched(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"shop-\xff")
    folder.mkdir()
    (folder / os.fsdecode(b"n\xff.py")).write_text("")
    write(folder / "shop.py", APP.format(body="one"))
    configuration = folder / os.fsdecode(b"server-\xff.toml")
    configuration.write_text(
        f'[control]\nsocket = "{tmp_path}/control.sock"\n[listeners.web]\nbind = "127.0.0.1:0"\n'
        '[apps.shop]\napp = "shop:app"\n[[mounts]]\npath = "/"\napp = "shop"\n'
    )
    with Server(configuration, arguments=("-c", os.fspath(configuration), "--reload")) as server:
        assert get(server) == "one"
        write(folder / "shop.py", APP.format(body="second"))
        server.wait_for("reloaded: generation 2")
        assert get(server) == "second"
        assert "Traceback" not in server.output
        assert server.stop() == 0


def test_a_folder_that_has_gone_and_comes_again_is_watched(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    (tmp_path / "watched").mkdir()
    with serve(tmp_path, "--reload", "--reload-dir", str(tmp_path / "watched")) as server:
        (tmp_path / "watched").rmdir()
        (tmp_path / "watched.new").mkdir()
        (tmp_path / "watched.new" / "a.py").write_text("")
        (tmp_path / "watched.new").rename(tmp_path / "watched")
        server.wait_for("reloaded: generation 2")
        assert server.stop() == 0


def test_a_first_start_that_is_broken_waits_for_the_change_that_mends_it(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", "import nothing_of_the_kind\n")
    server = serve(tmp_path, "--reload").start()
    try:
        server.wait_for("start failed, waiting for a change")
        write(tmp_path / "shop.py", APP.format(body="mended"))
        server.wait_for("ready: generation")
        assert get(server) == "mended"
    finally:
        server.kill()


def test_an_address_that_is_taken_is_told_of_the_option_that_names_it(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(
            tmp_path / "unused.toml", arguments=("run", "shop", "--app-dir", str(tmp_path), f"--port={port}")
        )
        server.start()
        try:
            assert server.wait() == 3
            assert f"--port: cannot bind 127.0.0.1:{port}: address already in use" in server.output
        finally:
            server.kill()


def test_a_broken_option_ends_the_start_also_with_reload(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    server = serve(tmp_path, "--reload", "--loop", "fast").start()
    try:
        assert server.wait() == 3
        assert '--loop: "fast" is not one of "auto", "uvloop", "asyncio"' in server.output
    finally:
        server.kill()


def test_a_configuration_that_is_broken_at_first_is_waited_out_and_a_change_of_it_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    file = tmp_path / "server.toml"
    text = '[listeners.web]\nbind = "127.0.0.1:0"\n[apps.shop]\napp = "shop"\n[[mounts]]\napp = "shop"\n'
    write(file, text + "[nonsense\n")
    server = Server(file, arguments=("-c", str(file), "--reload")).start()
    try:
        server.wait_for("start failed, waiting for a change")
        write(file, text)
        server.wait_for("ready: generation")
        write(file, text + '[mounts.headers]\nx-new = "1"\n')
        server.wait_for("reloaded: generation")
        assert get(server) == "one"
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 20
    finally:
        server.kill()


def test_other_files_count_when_they_are_named_and_new_workers_read_them(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    write(tmp_path / "templates" / "page.html", "old")
    program = "import pathlib\nPAGE = pathlib.Path(__file__).with_name('templates').joinpath('page.html').read_text()\n"
    write(tmp_path / "shop.py", program + APP.format(body="{}").replace("'{}'", "PAGE"))
    with serve(tmp_path, "--reload", "--reload-include", "templates/*.html") as server:
        assert get(server) == "old"
        write(tmp_path / "templates" / "page.html", "new")
        server.wait_for("is serving")
        assert get(server) == "new"


@pytest.mark.parametrize("option", ["--access-logs", "--log-config=x", "--ws=auto"])
def test_what_means_nothing_here_is_not_taken(tmp_path: Path, option: str) -> None:
    server = serve(tmp_path, option).start()
    try:
        assert server.wait() == 2
        assert server.output.startswith(f'serverd run: there is no option "{option.partition("=")[0]}"')
    finally:
        server.kill()


# Upgrade


def test_an_upgrade_takes_the_options_along(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="one"))
    with serve(tmp_path, "--header", "X-Shop: a b") as server:
        address = server.address("web")
        write(tmp_path / "shop.py", APP.format(body="second"))
        server.send_signal(signal.SIGUSR2)
        server.wait_for(r"^upgraded: supervisor \d+ serves")
        assert server.leaves() == 0
        answer = request(address, "/")
        assert (answer.body, answer.header("x-shop")) == (b"second", "a b")
        status = ask_at(tmp_path / "control.sock", "status")
        assert status["pid"] != server.pid
        assert status["source"] == "shop (serverd run)"
        os.kill(status["pid"], signal.SIGTERM)
        processes.wait_for_end(status["pid"])


# TLS


def test_the_options_about_tls_are_served_to_a_client_that_looks(tmp_path: Path) -> None:
    write(tmp_path / "shop.py", APP.format(body="sealed"))
    authority = Authority()
    authority.issue("localhost", "127.0.0.1", kind="rsa", password="hunter2").write(tmp_path, "own")
    (tmp_path / "ca.crt").write_text(authority.pem)
    options = {
        "--ssl-certfile": tmp_path / "own.crt",
        "--ssl-keyfile": tmp_path / "own.key",
        "--ssl-keyfile-password": "${PASSWORD}",
        "--ssl-ca-certs": tmp_path / "ca.crt",
        "--ssl-cert-reqs": "2",
        "--ssl-ciphers": "ECDHE-RSA-AES256-GCM-SHA384",
    }
    with serve(tmp_path, *(f"{name}={value}" for name, value in options.items()), PASSWORD="hunter2") as server:
        url = f"https://127.0.0.1:{server.port}/"
        known = authority.client_context(authority.issue("me", client=True), tmp_path)
        known.maximum_version = ssl.TLSVersion.TLSv1_2
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        with sock, known.wrap_socket(sock, server_hostname="localhost") as sealed:
            cipher = sealed.cipher()
            assert cipher is not None
            assert cipher[:2] == (options["--ssl-ciphers"], "TLSv1.2")
        with urllib.request.urlopen(url, timeout=20, context=known) as response:
            assert response.read() == b"sealed"
        stranger = authority.client_context()
        stranger.maximum_version = ssl.TLSVersion.TLSv1_2  # which tells of it in the handshake
        with pytest.raises(OSError, match=r"alert|reset|Broken pipe|EOF"):
            urllib.request.urlopen(url, timeout=20, context=stranger)


# WebSocket


def test_a_websocket_that_is_open_when_a_file_is_saved_is_told_to_come_again(tmp_path: Path) -> None:
    """The page that holds it then comes to the new code by itself, within a second or so."""
    write(tmp_path / "shop.py", (APPS / "sessions.py").read_text())
    with serve(tmp_path, "--reload") as server, enter(server, "/echo") as session:
        session.send("before")
        assert session.recv(20) == "before"
        write(tmp_path / "shop.py", (APPS / "sessions.py").read_text() + "\n# changed\n")
        server.wait_for("reloaded: generation 2 is serving")
        assert end_of(session)[0] == 1012
        with enter(server, "/echo") as again:
            again.send("after")
            assert again.recv(20) == "after"
