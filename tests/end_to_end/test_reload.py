"""Reload is a transaction: under load nobody notices one, and one that fails leaves the old generation serving."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import status, wait_until
from tests.support.either import both
from tests.support.load import Load
from tests.support.server import Server

APP = """\
import asyncio


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/slow":
        await asyncio.sleep(SECONDS)
    length = str(len(BODY)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": BODY})


"""

# Five hundred mounts make a generation weigh several hundred KiB in the supervisor: one that were kept would show.
MOUNTS = "".join(
    f"""
[[mounts]]
path = "/fixed/{number}"
respond = {{ status = 200, body = "{"x" * 200}" }}
"""
    for number in range(500)
)

CONFIGURATION = f"""\
[logging]
level = "debug"  # tells when a retired worker is gone

[server]
workers = WORKERS

[listeners.web]
bind = "127.0.0.1:0"

[apps.versioned]
app = "versioned:app"

[[mounts]]
app = "versioned"
path = "/"
{MOUNTS}"""

LONG = bool(os.environ.get("SERVERD_LONG"))
# Every reload that brings new workers waits for the slow requests of the last one: a hundred take three minutes.
RELOADS = 100 if LONG else 10
SLOW = 2 if LONG else 1  # seconds
# What is reloaded, again and again: new code, settings that the running workers adopt, something that cannot work.
CHANGES = ("code", "live", "file broken", "live", "code", "live", "app broken", "code", "live", "code")
FIRST = 5  # reloads until what is held has settled
CLIENTS = 7

KIB = 1024
# What the supervisor may hold more after the last reload than after the fifth. On an idle machine it is
# none. A generation of this file weighs about 300 KiB: not even one that were kept would fit in. Where old workers take
# longer to leave, its heap is a generation larger at times; five that were kept would still show.
GROWTH = (256 if LONG else 640) * KIB
# Of a worker: the event loop's and the watchdog's.
THREADS = 2


@dataclass(frozen=True)
class Usage:
    """What a process holds."""

    descriptors: int
    resident: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Look at a process."""
        return cls(len(processes.descriptors(pid)), processes.resident_bytes(pid))


class Site:
    """The directory of a server under test: its file and its application, each of which can be broken."""

    def __init__(self, directory: Path, workers: int = 2) -> None:
        self.file = directory / "server.toml"
        self.module = directory / "versioned.py"
        self.configuration = CONFIGURATION.replace("WORKERS", str(workers))
        self.file.write_text(self.configuration)
        self.write_version(0)

    def write_version(self, number: int) -> None:
        """Change the application's code, as a deployment does."""
        self._write_module(f'SECONDS = {SLOW}\n{APP}BODY = b"version {number}"\n')

    def break_app(self) -> None:
        """Write an application that cannot be imported."""
        self._write_module(f'SECONDS = {SLOW}\n{APP}BODY = open("/nonexistent/body").read()\n')

    def break_file(self) -> None:
        """Write a configuration that cannot be loaded."""
        self.file.write_text(self.configuration.replace("[server]\n", "[server]\nworkres = 2\n"))

    def change_setting(self, number: int) -> None:
        """Write the configuration with something in it that no application can see."""
        self.file.write_text(self.configuration + f'\n[limits]\nkeep_alive_timeout = "{number + 60}s"\n')

    def mend(self) -> None:
        """Write the valid configuration again."""
        self.file.write_text(self.configuration)

    def _write_module(self, text: str) -> None:
        # By rename: a load must never see half a module.
        draft = self.module.with_suffix(".draft")
        draft.write_text(text)
        os.replace(draft, self.module)


@pytest.mark.timeout(60 + 4 * RELOADS)
def test_many_reloads_under_load_fail_no_request_and_leak_nothing(serve: Serve, tmp_path: Path) -> None:
    site = Site(tmp_path)
    server = serve(site.file)
    usage = {}
    with Load(server.address(), fresh=2, keep_alive=2, slow=2, http2=1) as load:
        for number in range(1, RELOADS + 1):
            change = CHANGES[(number - 1) % len(CHANGES)]
            load.wait_for_answers(20)
            assert_reloaded(server, site, number, change)
            if number in (FIRST, RELOADS):
                wait_until_two_are_left(server)
                assert processes.threads(server.pid) == 1
                for worker in server.workers():
                    wait_until_threads_are_the_usual(worker)
                usage[number] = Usage.of(server.pid), [Usage.of(pid) for pid in server.workers()]
        load.wait_for_answers(50)
    assert load.failures == []
    assert load.announced_closes > 0
    assert_flat(usage[FIRST], usage[RELOADS])
    assert processes.zombies(server.pid) == []
    assert server.stop() == 0


def assert_reloaded(server: Server, site: Site, number: int, change: str) -> None:
    """Change something and reload; see that it is served, or, when it cannot be, that all is as before."""
    before = server.workers()
    if change == "code":
        site.write_version(number)
        assert re.fullmatch(r"reloaded: generation \d+ is serving", server.reload().message)
        assert get(server.address()).body == b"version %d" % number
    elif change == "live":
        site.change_setting(number)
        assert "adopted by the running workers: limits of listener web" in server.reload().message
        assert set(server.workers()) <= set(before)  # some of them may still have drained
        site.mend()
    else:
        (site.break_app if change == "app broken" else site.break_file)()
        assert re.match(r"reload failed, generation \d+ goes on serving: ", server.reload().message)
        site.mend()
        assert set(server.workers()) >= set(before[-2:])


def wait_until_two_are_left(server: Server) -> None:
    """Wait until the workers of all other generations have ended, and the supervisor has done with them."""
    # Not by the status: the connection that asks for it would be counted.
    wait_until(lambda: list(processes.descriptors(server.pid).values()).count("anon_inode:[pidfd]") == 2)
    assert len(server.workers()) == 2


def wait_until_threads_are_the_usual(worker: int) -> None:
    """Wait until a worker has the threads that every worker has."""
    wait_until(lambda: processes.threads(worker) == THREADS)


def assert_flat(before: tuple[Usage, list[Usage]], after: tuple[Usage, list[Usage]]) -> None:
    """Compare what supervisor and workers hold after the fifth and after the last reload."""
    (supervisor, workers), (supervisor_after, workers_after) = before, after
    assert supervisor_after.descriptors == supervisor.descriptors
    assert supervisor_after.resident - supervisor.resident < GROWTH
    assert len(workers_after) == len(workers)
    for worker, worker_after in zip(workers, workers_after, strict=True):
        # Workers are new processes: measured, they differ by 200 KiB, most of it pages of shared libraries. Less is no
        # leak: one that happened to have more in flight when it was looked at first keeps what it had to take. The
        # counters of this file's mounts, which are no part of it until they count, are another 500 KiB.
        assert worker_after.resident - worker.resident < 512 * KIB
        assert abs(worker_after.descriptors - worker.descriptors) <= CLIENTS


def test_the_load_would_notice_a_lost_request(serve: Serve, probe: str) -> None:
    server = serve(probe)
    with Load(server.address(), "/hello", fresh=0, keep_alive=2) as load:
        load.wait_for_answers(10)
        os.kill(server.workers()[0], signal.SIGKILL)
        load.wait_for_answers(10)
    assert len(load.failures) == 2


def test_with_one_worker_a_request_in_flight_survives_the_reload(serve: Serve, probe: str) -> None:
    server = serve(f"[server]\nworkers = 1\n\n{probe}")
    [old] = server.workers()
    with both(server.address()) as clients:
        for client in clients:
            client.begin()
        assert server.reload().message == "reloaded: generation 2 is serving"
        assert int(get(server.address(), "/pid").body) != old
        for client in clients:
            client.more(b"and behind")
            client.end()
    processes.wait_for_end(old)


def test_an_idle_keep_alive_connection_is_told_before_it_is_closed(serve: Serve, probe: str) -> None:
    server = serve(probe)
    with Client(server.address()) as client:
        assert not client.request("GET", "/hello").closes
        server.reload()
        response = client.request("GET", "/hello")
        assert (response.status, response.closes) == (200, True)
        assert client.ended()


def test_a_reload_takes_over_a_changed_number_of_workers_and_addresses(serve: Serve, probe: str) -> None:
    server = serve(f"[server]\nworkers = 1\n\n{probe}")
    text = server.file.read_text()
    first = server.address()
    server.file.write_text(
        text.replace("workers = 1", "workers = 3").replace('"127.0.0.1:0"', '["127.0.0.1:0", "127.0.0.1:0"]')
    )
    mark = server.mark()
    [old] = server.workers()
    adopted = "adopted by the running workers: server.workers: 1 -> 3, listener web: bind"
    assert server.reload().message == f"reloaded: generation 2 is serving, {adopted}"
    wait_until(lambda: sum(worker["state"] == "ready" for worker in status(server)["workers"]) == 3)
    assert server.workers()[0] == old
    server.wait_for("listener web: listening on", since=mark)
    assert get(first, "/hello").body == b"hello"
    server.file.write_text(text)
    server.reload()
    wait_until(lambda: server.workers() == [old])
    assert get(first, "/hello").body == b"hello"


def test_a_failed_reload_says_why(serve: Serve, tmp_path: Path) -> None:
    site = Site(tmp_path, workers=1)
    server = serve(site.file)
    mark = server.mark()
    site.break_file()
    server.reload()
    assert 'server.workres: unknown key (did you mean "workers"?)' in server.text(mark)
    site.mend()
    mark = server.mark()
    site.break_app()
    server.reload()
    assert "FileNotFoundError" in server.text(mark)
    assert f'File "{site.module}"' in server.text(mark)
    assert get(server.address()).body == b"version 0"
