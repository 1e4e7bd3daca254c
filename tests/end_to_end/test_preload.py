"""[server] preload on a running server: imported once, shared by forks that live and end like any other worker."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import wait_until
from tests.support.server import Server

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="preload needs Linux, and the tests look into /proc"
)

MIB = 1024 * 1024
TABLE = 100 * MIB
# Tells in files of its own directory who has imported and started it, and answers with what must differ between forks.
APP = """\
import asyncio, json, os, random, ssl, sys, time, uuid
HERE = os.path.dirname(os.path.abspath(__file__))
def tell(file):
    with open(os.path.join(HERE, file), "a") as told:
        told.write(f"{os.getpid()}\\n")
tell("imports")
sys.stdout.write("imported, and printed\\n")  # in one piece: print writes the end of the line by itself
VERSION = 1
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        tell("startups")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/block":
        time.sleep(60)
    numbers = [random.random(), ssl.RAND_bytes(8).hex(), os.urandom(8).hex(), str(uuid.uuid4()), str(uuid.uuid1())]
    loop = type(asyncio.get_running_loop()).__module__
    found = {"pid": os.getpid(), "numbers": numbers, "version": VERSION, "loop": loop}
    body = json.dumps(found).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
CONFIGURATION = """\
[server]
preload = true
workers = 2

[listeners.web]
bind = "127.0.0.1:0"

[apps.shop]
app = "shop:app"

[[mounts]]
app = "shop"
path = "/"
"""


class Site:
    """A directory with an application, and a server for it."""

    def __init__(self, directory: Path, serve: Serve) -> None:
        self._directory = directory
        self._serve = serve
        self.write(APP)

    def write(self, text: str) -> None:
        """Change the application, as a deployment does."""
        draft = self._directory / "shop.draft"
        draft.write_text(text)
        os.replace(draft, self._directory / "shop.py")

    def start(self, configuration: str = CONFIGURATION) -> Server:
        return self._serve(configuration)

    def told(self, file: str) -> list[int]:
        """Return the processes that have imported the application, or started it."""
        path = self._directory / file
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def site(tmp_path: Path, serve: Serve) -> Site:
    return Site(tmp_path, serve)


def preloaders(server: Server) -> list[int]:
    titled = {pid: processes.command_line(pid) for pid in processes.children(server.pid)}
    return [pid for pid, title in titled.items() if "preloader" in title]


def workers(server: Server) -> list[int]:
    return [pid for pid in processes.children(server.pid) if processes.command_line(pid).startswith("serverd: worker")]


def ask(server: Server, path: str = "/") -> Any:
    return json.loads(get(server.address(), path).body)


def asked(server: Server, count: int) -> dict[int, Any]:
    """Ask until `count` workers have answered; return an answer of each."""
    found: dict[int, Any] = {}
    for _ in range(500):
        answer = ask(server)
        found[answer["pid"]] = answer
        if len(found) == count:
            return found
    raise AssertionError(f"{count} workers were to answer, but only {sorted(found)} did")


def kill(server: Server, pid: int, replaced: bool = True) -> None:
    mark = server.mark()
    os.kill(pid, signal.SIGKILL)
    if replaced:
        server.wait_for(r"^worker \d+ \(pid \d+\) is ready", since=mark)


def differs_from(text: str, **changes: str) -> str:
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    return text


# Forks


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_workers_share_one_import_and_nothing_that_must_be_their_own(site: Site, loop: str) -> None:
    server = site.start(f'[server]\nloop = "{loop}"\n' + CONFIGURATION.removeprefix("[server]\n"))
    [preloader] = preloaders(server)
    assert site.told("imports") == [preloader]
    answers = asked(server, 2)
    assert set(answers) == set(workers(server)) == set(site.told("startups"))
    assert preloader not in answers
    [first, second] = (set(answer["numbers"]) for answer in answers.values())
    assert not first & second
    assert {answer["loop"].partition(".")[0] for answer in answers.values()} == {loop}
    titles = [f"serverd: worker {slot} (generation 1) (ready)" for slot in range(2)]
    wait_until(lambda: sorted(map(processes.command_line, workers(server))) == titles)
    assert server.stop() == 0
    assert server.output.count("imported, and printed") == 1


def test_what_was_imported_is_in_memory_once(site: Site) -> None:
    site.write(f'{APP}TABLE = b"x" * {TABLE}\n')
    held = {}
    for preload in ("true", "false"):
        server = site.start(differs_from(CONFIGURATION, workers="3", preload=preload))
        pids = [*workers(server), *preloaders(server)]
        held[preload] = sum(map(processes.proportional_bytes, pids))
        assert server.stop() == 0
    print({key: f"{value / MIB:.0f} MiB" for key, value in held.items()})
    assert TABLE < held["true"] < TABLE * 1.7
    assert held["false"] > TABLE * 3


def test_a_worker_that_is_killed_is_forked_anew(site: Site) -> None:
    server = site.start()
    [preloader] = preloaders(server)
    for _ in range(3):
        [old, other] = workers(server)
        kill(server, old)
        assert other in workers(server)
        assert len(workers(server)) == 2
    assert site.told("imports") == [preloader]
    assert len(set(site.told("startups"))) == 5
    assert processes.zombies(server.pid) == []


def test_scaling_forks_too(site: Site) -> None:
    server = site.start()
    [preloader] = preloaders(server)
    server.send_signal(signal.SIGTTIN)
    server.wait_for(r"^worker 2 \(pid \d+\) is ready")
    assert len(asked(server, 3)) == 3
    old = workers(server)[-1]
    server.send_signal(signal.SIGTTOU)
    processes.wait_for_end(old)
    assert site.told("imports") == [preloader]


def test_a_hung_worker_shows_its_stack(site: Site) -> None:
    server = site.start(CONFIGURATION.replace("[server]\n", '[server]\nhang_timeout = "2s"\n'))
    [preloader] = preloaders(server)
    with Client(server.address()) as client:
        client.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        line = server.wait_for("hangs: its event loop has not turned")
    assert "GET /block (app shop" in line.exception
    assert "shop.py" in line.exception
    server.wait_for(r"^worker \d+ \(pid \d+\) is ready", since=server.lines.index(line))
    assert site.told("imports") == [preloader]


# Reload


def test_a_reload_imports_once_more_and_ends_the_preloader_before(site: Site) -> None:
    server = site.start()
    [old] = preloaders(server)
    site.write(APP.replace("VERSION = 1", "VERSION = 2"))
    assert server.reload().message.startswith("reloaded: generation 2")
    processes.wait_for_end(old)
    [new] = preloaders(server)
    assert site.told("imports") == [old, new]
    assert {answer["version"] for answer in asked(server, 2).values()} == {2}


def test_one_that_cannot_be_imported_is_rolled_back_with_its_traceback(site: Site) -> None:
    server = site.start()
    [old] = preloaders(server)
    before = workers(server)
    site.write(APP + "raise RuntimeError('not today')\n")
    line = server.reload()
    assert line.message.startswith("reload failed, generation 1 goes on serving: ")
    assert "apps.shop: importing 'shop' failed: RuntimeError: not today" in line.message
    assert "Traceback" in line.exception
    assert "shop.py" in line.exception
    wait_until(lambda: preloaders(server) == [old])
    assert workers(server) == before
    kill(server, before[0])
    assert asked(server, 2).keys() == set(workers(server))
    assert site.told("startups")[-1] in workers(server)
    assert {answer["version"] for answer in asked(server, 2).values()} == {1}
    assert len(site.told("imports")) == 2


@pytest.mark.parametrize("end", ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "import sys; sys.exit()"])
def test_one_that_ends_its_process_is_rolled_back(site: Site, end: str) -> None:
    server = site.start()
    before = workers(server)
    site.write(f"{APP}{end}\n")
    line = server.reload()
    assert line.message.startswith("reload failed, generation 1 goes on serving: ")
    assert workers(server) == before
    wait_until(lambda: processes.zombies(server.pid) == [])


def test_an_import_that_hangs_is_given_up_and_explained(site: Site) -> None:
    # The stack is shown two seconds before: until then the preloader has to begin, on busy cores.
    server = site.start(CONFIGURATION.replace("[server]\n", '[server]\nstart_timeout = "8s"\n'))
    [old] = preloaders(server)
    site.write(f"{APP}time.sleep(60)\n")
    mark = server.mark()
    line = server.reload()
    assert "the applications were not imported within 8 s (start_timeout)" in line.message
    assert re.search(r'shop.py", line \d+ in <module>', server.text(mark))
    wait_until(lambda: preloaders(server) == [old])


def test_a_failure_at_the_start_ends_it(site: Site, tmp_path: Path) -> None:
    site.write(APP + "raise RuntimeError('not today')\n")
    (tmp_path / "server.toml").write_text(CONFIGURATION)
    server = Server(tmp_path / "server.toml").start()
    try:
        assert server.wait() == 3
        assert "RuntimeError: not today" in server.output
        assert "Traceback" in server.output
    finally:
        server.kill()


def test_a_live_reload_touches_neither_workers_nor_preloader_which_forks_on(site: Site) -> None:
    server = site.start()
    [preloader] = preloaders(server)
    before = workers(server)
    server.file.write_text(CONFIGURATION.replace('path = "/"', 'path = "/new"'))
    assert "adopted by the running workers" in server.reload().message
    assert workers(server) == before
    assert preloaders(server) == [preloader]
    assert get(server.address(), "/").status == 404
    kill(server, before[0])
    assert get(server.address(), "/new").status == 200
    assert site.told("imports") == [preloader]
    site.write(APP.replace("VERSION = 1", "VERSION = 2"))
    assert server.reload().message.startswith("reloaded: generation 3")
    processes.wait_for_end(preloader)
    [new] = preloaders(server)
    assert site.told("imports") == [preloader, new]


# Ends


def test_without_its_preloader_a_server_goes_on(site: Site) -> None:
    server = site.start()
    [preloader] = preloaders(server)
    before = workers(server)
    kill(server, preloader, replaced=False)
    server.wait_for("the preloader was killed by SIGKILL, new workers import the applications themselves")
    assert workers(server) == before
    for old in before:
        kill(server, old)
    assert asked(server, 2).keys() == set(workers(server))
    assert site.told("imports") == [preloader, *workers(server)]
    assert server.reload().message.startswith("reloaded: ")
    assert len(preloaders(server)) == 1


def test_preloader_and_worker_that_are_killed_at_once_are_survived(site: Site) -> None:
    server = site.start()
    [preloader], [first, second] = preloaders(server), workers(server)
    mark = server.mark()
    for pid in (first, preloader, second):
        os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        line = server.wait_for(r"^worker \d+ \(pid \d+\) is ready", since=mark)
        mark = server.lines.index(line, mark) + 1
    assert server.reload().message.startswith("reloaded: ")
    assert len(preloaders(server)) == 1
    wait_until(lambda: processes.zombies(server.pid) == [])
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_it(site: Site, number: signal.Signals) -> None:
    server = site.start()
    [preloader] = preloaders(server)
    if number is signal.SIGINT:
        os.killpg(server.pid, number)  # as Ctrl-C does
        assert server.wait() == 0
        assert "KeyboardInterrupt" not in server.output
    else:
        assert server.stop(number) == 0
    assert processes.has_ended(preloader)


def test_nothing_outlives_a_supervisor_that_is_killed(site: Site) -> None:
    server = site.start()
    all_of_them = [*preloaders(server), *workers(server)]
    assert len(all_of_them) == 3
    os.kill(server.pid, signal.SIGKILL)
    for pid in all_of_them:
        processes.wait_for_end(pid)


def test_a_forked_worker_dies_with_the_supervisor_while_its_application_blocks(site: Site, tmp_path: Path) -> None:
    # It sees neither the end of its channel nor a signal that Python has to handle.
    site.write(APP.replace('tell("startups")', 'tell("startups"); time.sleep(60)'))
    (tmp_path / "server.toml").write_text(CONFIGURATION)
    server = Server(tmp_path / "server.toml").start()
    try:
        wait_until(lambda: len(site.told("startups")) == 2)
        pids = site.told("startups")
        os.kill(server.pid, signal.SIGKILL)
        for pid in pids:
            processes.wait_for_end(pid)
    finally:
        server.kill()


# What applications do at import


def test_one_that_may_be_down_is_retried_by_each_worker(site: Site) -> None:
    site.write(APP + "raise RuntimeError('not today')\n")
    server = site.start(CONFIGURATION.replace("[apps.shop]\n", '[apps.shop]\non_failure = "unavailable"\n'))
    assert get(server.address()).status == 503
    line = server.wait_for("RuntimeError: not today")
    assert "Traceback" in line.exception
    site.write(APP)
    server.wait_for("app shop is up again")
    assert asked(server, 2).keys() == set(workers(server))
    assert server.stop() == 0


# Orphans

DAEMON = """
def daemonize():
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            tell("orphans")
            os.execvp("sleep", ["sleep", "0.2"])
        os._exit(0)
    os.wait()
"""


@pytest.fixture
def orphans(site: Site) -> Site:
    site.write(APP.replace('tell("startups")', 'tell("startups"); daemonize()') + DAEMON)
    return site


def test_daemons_that_applications_leave_are_reaped(orphans: Site) -> None:
    server = orphans.start()
    wait_until(lambda: len(orphans.told("orphans")) == 2)
    for pid in orphans.told("orphans"):
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    assert len(workers(server)) == 2
    assert server.stop() == 0


def test_the_first_process_of_a_container_reaps_them_too(orphans: Site, tmp_path: Path) -> None:
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no pid namespace can be had")
    (tmp_path / "server.toml").write_text(differs_from(CONFIGURATION, preload="false"))
    server = Server(tmp_path / "server.toml")
    server._command = [*unshare, *server._command]
    with server:
        [first] = processes.children(server.pid)
        wait_until(lambda: len(orphans.told("orphans")) == 2)
        wait_until(lambda: not any("sleep" in processes.command_line(pid) for pid in processes.children(first)))
        wait_until(lambda: processes.zombies(first) == [])
        os.kill(first, signal.SIGUSR2)
        server.wait_for("upgrade failed, .* process 1 cannot be replaced: start the container anew")
        os.kill(first, signal.SIGTERM)
        assert server.wait() == 0
