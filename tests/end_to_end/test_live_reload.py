"""A reload that no application can notice touches no connection; what is more than that gets new workers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.conftest import APPS, Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import command, status, wait_until
from tests.support.either import both
from tests.support.load import Load
from tests.support.server import Server

ADOPTED = "adopted by the running workers: "

CONFIGURATION = """\
[server]
workers = 2

[listeners.web]
bind = "127.0.0.1:0"

[apps.probe]
app = "probe:app"
directory = "DIRECTORY"

[[mounts]]
app = "probe"
path = "/"
"""

NEW_MOUNT = """
[[mounts]]
path = "/new"
respond = { status = 200, body = "new" }
"""


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    """Return that of a server with an application of its own, whose file is below `tmp_path`."""
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "probe.py").write_text((APPS / "probe.py").read_text())
    return CONFIGURATION.replace("DIRECTORY", str(directory))


@pytest.fixture
def one_worker(configuration: str) -> str:
    """Return that of a server with one worker, where there is nothing to see of a second."""
    return configuration.replace("workers = 2", "workers = 1")


def reload(server: Server) -> str:
    """Run `serverd reload`, which has to succeed, and return what it says."""
    done = command(server, "reload")
    assert (done.code, done.err) == (0, "")
    return done.out


def plan(server: Server) -> list[str]:
    """Run `serverd reload --dry-run`, which must change nothing, and return its lines."""
    before = status(server)
    done = command(server, "reload", "--dry-run")
    after = status(server)
    for changing in ("uptime", "workers"):
        del before[changing], after[changing]
    for app in (*before["apps"], *after["apps"]):
        del app["requests"]  # of those that were counted a moment later
    if before["last_reload"]:  # told by two clocks, which do not run quite alike, and rounded
        assert after["last_reload"]["at"] == pytest.approx(before["last_reload"].pop("at"), abs=0.11)
        del after["last_reload"]["at"]
    assert before == after
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def test_an_open_stream_and_an_idle_connection_do_not_notice_a_live_reload(serve: Serve, configuration: str) -> None:
    server = serve(configuration)
    pids = server.workers()
    with both(server.address()) as streams, Client(server.address()) as idle:
        for stream in streams:
            stream.begin()
        assert idle.request("GET", "/new/").status == 500  # of the application, which does not know it
        changed = configuration.replace("workers = 2", "workers = 2\nserver_header = false") + NEW_MOUNT
        limits = '\n[limits]\nkeep_alive_timeout = "33s"\n\n[logging]\nlevel = "debug"\n'
        server.file.write_text(changed + limits)
        expected = [
            "live: server.server_header: true -> false",
            "live: logging.level: info -> debug",
            "live: limits of listener web: keep_alive_timeout",
            "live: mounts: 1 new (server.toml:N)",
        ]
        planned = plan(server)
        assert sorted(re.sub(r"toml:\d+", "toml:N", line) for line in planned) == sorted(expected)
        what = ", ".join(line.removeprefix("live: ") for line in planned)
        assert reload(server) == f"generation 2 is serving, {ADOPTED}{what}\n"
        response = idle.request("GET", "/new")
        assert (response.status, response.body, response.header("server")) == (200, b"new", None)
        assert not response.closes
        for stream in streams:
            stream.more(b"it goes on")
        for number in range(3, 6):  # any number of times
            server.file.write_text(configuration if number % 2 else changed + limits)
            assert ADOPTED in reload(server)
            assert idle.request("GET", "/new").status == (500 if number % 2 else 200)
            for stream in streams:
                stream.more(b"and on")
        for stream in streams:
            stream.end()
    assert server.workers() == pids
    assert [worker["generation"] for worker in status(server)["workers"]] == [5, 5]
    assert server.stop() == 0


def test_listeners_come_and_go_without_a_new_worker(serve: Serve, configuration: str, tmp_path: Path) -> None:
    server = serve(configuration)
    pids, unix = server.workers(), str(tmp_path / "s")
    more = f'\n[listeners.more]\nbind = ["127.0.0.1:0", "unix:{unix}"]\n'
    with Load(server.address(), "/hello", slow=1, http2=1) as load, Client(server.address()) as idle:
        assert idle.request("GET", "/hello").status == 200
        for number in range(2):  # what has gone may come again
            mark = server.mark()
            server.file.write_text(configuration + more)
            if number == 0:
                assert plan(server) == [
                    "live: listener more is new",
                    "bind: 127.0.0.1:0 (listener more)",
                    f"bind: unix:{unix} (listener more)",
                ]
            assert "listener more is new" in reload(server)
            added = server.addresses("more")[2 * number]
            with both(added) as streams, Client(unix) as leaving:
                for stream in streams:
                    stream.begin()
                assert get(unix, "/hello").body == b"hello"
                assert leaving.request("GET", "/hello").body == b"hello"
                server.file.write_text(configuration)
                if number == 0:
                    assert "close: 127.0.0.1:0 (listener more)" in plan(server)
                assert "listener more is gone" in reload(server)
                server.wait_for("listener more: closed", since=mark)
                assert not os.path.exists(unix)
                with pytest.raises(ConnectionRefusedError):
                    Client(added)
                for stream in streams:
                    stream.more(b"it goes on")
                response = leaving.request("GET", "/hello")
                assert (response.body, response.closes) == (b"hello", True)
                for stream in streams:
                    stream.end()
                    if stream.version == "2":
                        assert stream.ended()
        assert idle.request("GET", "/hello").closes is False
    assert load.failures == []
    assert server.workers() == pids
    assert server.stop() == 0


def test_the_number_of_workers_is_changed_beside_those_that_run(serve: Serve, configuration: str) -> None:
    server = serve(configuration)
    first, second = server.workers()
    with Load(server.address(), "/hello", fresh=3, keep_alive=3, slow=1, http2=1) as load:
        server.file.write_text(configuration.replace("workers = 2", "workers = 3"))
        assert plan(server) == ["live: server.workers: 2 -> 3"]
        assert ADOPTED in reload(server)
        wait_until(lambda: sum(worker["state"] == "ready" for worker in status(server)["workers"]) == 3)
        assert server.workers()[:2] == [first, second]
        load.wait_for_answers(50)
        server.file.write_text(configuration.replace("workers = 2", "workers = 1"))
        assert ADOPTED in reload(server)
        wait_until(lambda: server.workers() == [first])
        load.wait_for_answers(50)
        # The supervisor hears of the end of a process a moment later than who looks for it.
        wait_until(lambda: [worker["covers"] for worker in status(server)["workers"]] == [[1, 2]])
    assert load.failures == []
    assert server.stop() == 0


def test_changed_code_gets_new_workers_and_the_plan_says_so(serve: Serve, one_worker: str, tmp_path: Path) -> None:
    server = serve(one_worker)
    before = server.workers()
    module = tmp_path / "app" / "probe.py"
    module.write_text(module.read_text().replace('b"hello"', 'b"hello again"'))
    server.file.write_text(one_worker + NEW_MOUNT)
    assert "new workers: because probe.py has changed since it was imported" in plan(server)
    assert reload(server) == "generation 2 is serving\n"
    for pid in before:
        processes.wait_for_end(pid)  # they take no connection any more, and may have a moment to end
    assert get(server.address(), "/hello").body == b"hello again"
    assert get(server.address(), "/new").body == b"new"
    assert "starting new workers: probe.py has changed since it was imported" in server.text()


# What is changed, one after the other, and why that needs new workers; "" where it does not.
PLANNED = [
    (("", ""), "the configuration is unchanged, so the code may have changed"),
    (('path = "/"', 'path = "/probe"\nroot_path = "/"'), ""),
    (("[[mounts]]", 'env = { A = "secret" }\n\n[[mounts]]'), "app probe: env (A)"),
    (("[server]", '[server]\nloop = "asyncio"'), "server.loop"),
]


def test_a_plan_comes_true(serve: Serve, one_worker: str) -> None:
    server, text = serve(one_worker), one_worker
    for change, reason in PLANNED:
        [before] = server.workers()
        text = text.replace(*change) if change[0] else text
        server.file.write_text(text)
        planned = plan(server)
        assert any(line.startswith("new workers: because ") for line in planned) is bool(reason)
        assert reason in "".join(planned)
        assert "secret" not in "".join(planned)
        assert (ADOPTED in reload(server)) is not bool(reason)
        if reason:
            processes.wait_for_end(before)
        assert (server.workers() == [before]) is not bool(reason)


def test_a_plan_of_a_broken_file_is_its_report(serve: Serve, one_worker: str) -> None:
    server = serve(one_worker)
    server.file.write_text(one_worker.replace("[server]", "[server]\nworkres = 2"))
    done = command(server, "reload", "--dry-run")
    assert (done.code, done.out) == (3, "")
    assert 'unknown key (did you mean "workers"?)' in done.err
    assert status(server)["generation"] == 1


def test_a_release_directory_that_is_switched_serves_its_code(serve: Serve, tmp_path: Path) -> None:
    for name in ("1", "2"):
        release = tmp_path / "releases" / name
        release.mkdir(parents=True)
        code = (APPS / "probe.py").read_text().replace('b"hello"', f'b"release {name}"')
        (release / "probe.py").write_text(code)
        os.utime(release / "probe.py", (1e9, 1e9))  # as an archive unpacks them: of one size, and of one time
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    text = CONFIGURATION.replace("DIRECTORY", str(current)).replace("workers = 2", "workers = 1")
    server = serve(text)
    with Load(server.address(), "/hello") as load:
        # Forth and back, first with nothing else, then with a change that running workers could adopt.
        for number, name in enumerate("2121", 2):
            load.wait_for_answers(20)
            draft = tmp_path / "draft"
            draft.symlink_to(f"releases/{name}")
            os.replace(draft, current)
            if number > 3:
                server.file.write_text(
                    text + NEW_MOUNT if number % 2 else text.replace("[server]", "[server]\ndate_header = false")
                )
            assert reload(server) == f"generation {number} is serving\n"
            assert get(server.address(), "/hello").body == b"release " + name.encode()
    assert load.failures == []
