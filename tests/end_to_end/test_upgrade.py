"""Upgrade: a new supervisor takes the place of the running one, and no client of any kind notices."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Serve
from tests.support import processes
from tests.support.client import Client, get
from tests.support.control import Command, Poll, command, status, wait_until
from tests.support.load import Load
from tests.support.server import Server


def configuration(probe: str, directory: Path, workers: int = 2) -> str:
    """Return that of a server on a TCP and a unix socket, with a pid file."""
    both = f'["127.0.0.1:0", "unix:{directory / "web"}"]'
    server = f'[server]\nworkers = {workers}\npid_file = "{directory / "run" / "pid"}"\n'
    return f"{server}\n{probe}".replace('"127.0.0.1:0"', both)


def pid_in_file(directory: Path) -> int:
    return int((directory / "run" / "pid").read_text())


def workers(pid: int) -> list[int]:
    """Return the workers of a supervisor."""
    return [child for child in processes.children(pid) if "worker" in processes.command_line(child)]


def stop(server: Server) -> None:
    """Stop the supervisor that serves now, and see that nobody is left and nothing lies about."""
    pid = status(server)["pid"]
    assert command(server, "stop").outcome == (0, "stopped\n", "")
    processes.wait_for_end(pid)
    assert not (server.file.parent / "web").exists()
    assert not (server.file.parent / "run" / "pid").exists()


def test_an_upgrade_under_load_fails_no_request(serve: Serve, probe: str, tmp_path: Path) -> None:
    server = serve(configuration(probe, tmp_path))
    tcp, unix = server.addresses()
    with (
        Poll(server) as poll,
        Load(tcp, "/hello", slow=1, http2=1) as over_tcp,
        Load(unix, "/hello", fresh=1, keep_alive=1, slow=1, http2=1) as over_unix,
    ):
        over_tcp.wait_for_answers(50)
        server.send_signal(signal.SIGUSR2)
        server.wait_for(r"^upgraded: supervisor \d+ serves, leaving, draining up to 30 s")
        new = status(server)["pid"]
        assert new not in {server.pid, *workers(server.pid)}
        assert pid_in_file(tmp_path) == new
        assert server.leaves() == 0
        over_tcp.wait_for_answers(50)
        over_unix.wait_for_answers(20)
    assert over_tcp.failures == over_unix.failures == poll.failures == []
    assert poll.pids == [server.pid, new]
    assert over_tcp.announced_closes > 0
    assert [(one["url"]) for one in status(server)["listeners"]] == [f"http://127.0.0.1:{tcp[1]}", f"unix:{unix}"]
    stop(server)


COUNTING = """
[listeners.inside]
bind = "127.0.0.1:0"

[[mounts]]
path = "/metrics"
builtin = "metrics"
listeners = ["inside"]
"""


def counted(server: Server) -> tuple[float, float, float]:
    """Return how many requests of the application, reloads and restarts the server tells of."""
    body = get(server.address("inside"), "/metrics").body.decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }
    requests = found["serverd_requests_total", "probe", "/", "2xx"]
    return requests, found["serverd_reloads_total", "ok"], found["serverd_worker_restarts_total",]


def test_counters_outlive_upgrades(serve: Serve, probe: str, tmp_path: Path) -> None:
    probe = probe.replace("[[mounts]]", '[[mounts]]\nlisteners = ["web"]')
    server = serve(configuration(probe, tmp_path) + COUNTING)
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_until(lambda: sum(slot["restarts"] for slot in status(server)["slots"]) == 1)
    wait_until(lambda: [one["state"] for one in status(server)["workers"]] == ["ready"] * 2)
    server.reload()
    with Load(server.address(), "/hello", fresh=1, keep_alive=1, slow=1) as load:
        pids = [server.pid]
        for _ in range(2):
            load.wait_for_answers(20)
            before = counted(server)[0]
            assert command(server, "upgrade").code == 0
            pids.append(status(server)["pid"])
            assert counted(server)[0] >= before, "a counter has gone down"
            load.wait_for_answers(20)
        for pid in pids[:-1]:
            processes.wait_for_end(pid)
    assert load.failures == []
    assert counted(server) == (load.answered, 1, 1)
    stop(server)


def test_upgrades_follow_one_another(serve: Serve, probe: str, tmp_path: Path) -> None:
    server = serve(configuration(probe, tmp_path, workers=1))
    pids = [server.pid]
    with Poll(server) as poll, Load(server.address(), "/hello", http2=1) as load:
        for _ in range(3):
            done = command(server, "upgrade")
            pids.append(status(server)["pid"])
            assert done.outcome == (0, f"upgraded: supervisor {pids[-1]} serves\n", "")
            load.wait_for_answers(20)
        for pid in pids[:-1]:
            processes.wait_for_end(pid)
    assert load.failures == poll.failures == []
    assert poll.pids == pids
    assert status(server)["generation"] == 4  # no number is given twice
    stop(server)


@pytest.mark.parametrize("what", ["file", "application"])
def test_an_upgrade_that_fails_leaves_the_running_supervisor_serving(
    serve: Serve, probe: str, tmp_path: Path, what: str
) -> None:
    server = serve(configuration(probe, tmp_path, workers=1))
    text, before = server.file.read_text(), server.workers()
    if what == "file":
        server.file.write_text(text.replace("[server]", "[server]\nworkres = 2"))
        reason = 'server.workres: unknown key (did you mean "workers"?)'
    else:
        server.file.write_text(text.replace("probe:app", "probe:nothing"))
        reason = "apps.probe: probe has no attribute 'nothing'"
    with Poll(server) as poll, Load(server.address(), "/hello") as load:
        load.wait_for_answers(20)
        done = command(server, "upgrade")
        load.wait_for_answers(20)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("serverd: upgrade failed, this supervisor goes on serving: ")
    assert reason in done.err
    assert load.failures == poll.failures == []
    assert poll.pids == [server.pid]
    assert server.workers() == before
    assert pid_in_file(tmp_path) == server.pid
    assert processes.zombies(server.pid) == []
    server.file.write_text(text)
    assert command(server, "reload").code == 0
    assert command(server, "upgrade").code == 0
    stop(server)


def test_an_upgrade_of_a_server_that_was_scaled_down_keeps_every_queue(
    serve: Serve, probe: str, tmp_path: Path
) -> None:
    server = serve(configuration(probe, tmp_path))
    with Load(server.address(), "/hello", fresh=4, keep_alive=2) as load:
        assert command(server, "scale", "6").code == 0
        wait_until(lambda: sum(worker["state"] == "ready" for worker in status(server)["workers"]) == 6)
        assert command(server, "scale", "1").code == 0
        wait_until(lambda: len(status(server)["workers"]) == 1)
        assert command(server, "upgrade").code == 0
        load.wait_for_answers(100)
        assert server.leaves() == 0
        assert [worker["covers"] for worker in status(server)["workers"]] == [[2, 3, 4, 5]] * 2
        load.wait_for_answers(100)
    assert load.failures == []
    stop(server)


SLOW_START = """

[apps.slow]
app = "slow_start:app"

[[mounts]]
app = "slow"
path = "/start"
"""


def write_slow_start(directory: Path) -> Path:
    """Write an application that cannot be imported before a file is there; return the file."""
    gate = directory / "gate"
    (directory / "slow_start.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nfrom probe import app\n"
    )
    return gate


def begin_to_upgrade(serve: Serve, probe: str, tmp_path: Path) -> tuple[Server, Path, int]:
    """Return a server, the file that the other supervisor's worker waits for, and the other supervisor."""
    server = serve(configuration(probe, tmp_path, workers=1))
    gate = write_slow_start(tmp_path)
    server.file.write_text(server.file.read_text() + SLOW_START)
    server.send_signal(signal.SIGUSR2)
    return server, gate, other_supervisor(server)


def other_supervisor(server: Server) -> int:
    """Return the process that is about to take over, as soon as it has a worker."""
    wait_until(lambda: any(map(workers, processes.children(server.pid))))
    [new] = [child for child in processes.children(server.pid) if workers(child)]
    return new


def test_a_stop_during_an_upgrade_stops_both(serve: Serve, probe: str, tmp_path: Path) -> None:
    server = serve(configuration(probe, tmp_path, workers=1))
    write_slow_start(tmp_path)
    server.file.write_text(server.file.read_text() + SLOW_START)
    asking = Command(server, "upgrade")
    server.wait_for("upgrading: starting another supervisor")
    new = other_supervisor(server)
    theirs = workers(new)
    with Client(server.address()) as client:
        client.send(b"GET /slow?seconds=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: sum(worker["in_flight"] for worker in status(server)["workers"]) == 1)
        server.send_signal(signal.SIGTERM)
        assert client.response().body == b"slow"
    assert asking.wait().outcome == (3, "", "serverd: the server stops\n")
    assert server.wait() == 0  # with it the output ends: the workers of the other one are gone, too
    for pid in [new, *theirs]:
        processes.wait_for_end(pid)
    assert not (tmp_path / "web").exists()
    assert not (tmp_path / "run" / "pid").exists()


def test_a_stop_that_is_heard_together_with_the_word_of_the_new_supervisor_stops_both(
    serve: Serve, probe: str, tmp_path: Path
) -> None:
    server, gate, new = begin_to_upgrade(serve, probe, tmp_path)
    processes.stop(server.pid)
    gate.touch()
    server.wait_for("ready: generation 2")  # the other one has been told before
    server.send_signal(signal.SIGTERM)
    server.send_signal(signal.SIGCONT)
    assert server.wait() == 0
    processes.wait_for_end(new)
    assert "upgraded: " not in server.output
    assert not (tmp_path / "web").exists()


def test_meanwhile_a_second_upgrade_is_refused_and_a_reload_waits(serve: Serve, probe: str, tmp_path: Path) -> None:
    server = serve(configuration(probe, tmp_path, workers=1))
    gate = write_slow_start(tmp_path)
    server.file.write_text(server.file.read_text() + SLOW_START)
    first = Command(server, "upgrade")
    server.wait_for("upgrading: starting another supervisor")
    assert command(server, "upgrade").outcome == (3, "", "serverd: an upgrade is under way\n")
    assert command(server, "scale", "3").outcome == (3, "", "serverd: an upgrade is under way\n")
    reload = Command(server, "reload")
    server.wait_for("reload queued: asked for on the control socket before the upgrade has been decided on")
    gate.touch()
    assert first.wait().code == 0
    assert reload.wait().code == 3
    assert "another supervisor has taken over" in reload.err
    assert server.leaves() == 0
    assert get(server.address(), "/start/hello").body == b"hello"
    stop(server)


def test_the_new_supervisor_goes_on_when_the_old_one_is_killed_meanwhile(
    serve: Serve, probe: str, tmp_path: Path
) -> None:
    server, gate, new = begin_to_upgrade(serve, probe, tmp_path)
    with Load(server.address(), "/hello", fresh=2, keep_alive=0) as load:
        load.wait_for_answers(10)
        os.kill(server.pid, signal.SIGKILL)
        gate.touch()
        wait_until(lambda: pid_in_file(tmp_path) == new)
        load.wait_for_answers(20)
    assert load.failures == []
    assert status(server)["pid"] == new
    stop(server)
