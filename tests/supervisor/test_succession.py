"""What an old supervisor and the one in its place say to each other, and what either makes of the other's silence."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from serverd.errors import BindError
from serverd.supervisor import events, succession
from serverd.supervisor.spawn import spawn_supervisor
from serverd.supervisor.succession import HandOver, Predecessor, Successor

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")

PATIENCE = 20.0  # seconds for what takes one

# The new supervisor, with its channel; -c PATH --take-over FD are the last of its arguments.
PRELUDE = """
import os, signal, socket, sys
channel = socket.socket(fileno=int(sys.argv[-1]))
line = b""
while not line.endswith(b"\\n"):
    line += channel.recv(2**20)
"""
SERVES = "channel.sendall(b'ready\\n')\n"
WAITS = "signal.pause()\n"
LEFT = HandOver("sockets", [], 7)


class Upgrade:
    """An old supervisor with a program in the place of the new one."""

    def __init__(self, program: str, left: HandOver = LEFT) -> None:
        self.events: list[events.SuccessorReady | events.SuccessorFailed] = []
        self.selector = selectors.DefaultSelector()
        command = (sys.executable, "-c", PRELUDE + program)
        process, channel = spawn_supervisor((*command, "-c", "server.toml"), {}, [])
        self._process = process
        self.successor = Successor(self.selector, self.events.append, process, channel, left)

    def turn(self, seconds: float) -> None:
        for key, mask in self.selector.select(seconds):
            key.data(mask)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, self.events
            self.turn(0.1)

    def close(self) -> None:
        if self._process.exit_descriptor is not None:
            self._process.kill()
            self.until(lambda: self._process.exit_descriptor is None)
        else:  # nobody watches it any more
            self._process.kill()
            self._process.reap_within(PATIENCE)
        assert dict(self.selector.get_map()) == {}
        self.selector.close()


@pytest.fixture
def upgrade() -> Iterator[Callable[..., Upgrade]]:
    before = os.listdir("/proc/self/fd")
    made: list[Upgrade] = []

    def upgrade(*arguments: object) -> Upgrade:
        made.append(Upgrade(*arguments))  # type: ignore[arg-type]
        return made[-1]

    yield upgrade
    for one in made:
        one.close()
    assert os.listdir("/proc/self/fd") == before


Start = Callable[..., Upgrade]


# The old one


def test_what_select_has_seen_of_one_that_is_reaped_meanwhile_is_of_no_interest(upgrade: Start) -> None:
    one = upgrade(WAITS)
    seen = one.selector.select(PATIENCE)
    os.kill(one.successor.pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while not one.events:  # SIGCHLD has come first
        assert time.monotonic() < end
        one.successor.look()
    for key, mask in seen:
        key.data(mask)
    assert [type(event) for event in one.events] == [events.SuccessorFailed]


def test_one_that_serves_is_waited_for_no_longer(upgrade: Start) -> None:
    one = upgrade(SERVES + WAITS)
    one.until(lambda: bool(one.events))
    assert one.events == [events.SuccessorReady(one.successor.pid)]
    assert dict(one.selector.get_map()) == {}
    one.successor.look()
    assert len(one.events) == 1


def test_a_word_that_comes_in_pieces_is_understood(upgrade: Start) -> None:
    one = upgrade("for byte in b'ready\\n':\n    channel.sendall(bytes([byte]))\n" + WAITS)
    one.until(lambda: bool(one.events))
    assert one.events == [events.SuccessorReady(one.successor.pid)]


@pytest.mark.parametrize(
    "says", ["", "channel.sendall(b'no')\n", "channel.close()\n", "channel.sendall(b'x' * 9999)\n"]
)
def test_one_that_ends_without_the_word_has_failed(upgrade: Start, says: str) -> None:
    one = upgrade(f"{says}sys.exit(3)")
    one.until(lambda: bool(one.events))
    reason = f"supervisor {one.successor.pid} exited with status 3, it has told why on standard error"
    assert one.events == [events.SuccessorFailed(reason)]


def test_one_that_is_killed_has_told_nobody_why(upgrade: Start) -> None:
    one = upgrade("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    one.until(lambda: bool(one.events))
    reason = f"supervisor {one.successor.pid} was killed by SIGKILL (out of memory?)"
    assert one.events == [events.SuccessorFailed(reason)]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("channel.sendall(b'\"wrong\\\\nvery\"')", "wrong\nvery"),
        ("channel.sendall(b'\"' + b'x' * 100_000 + b'\"')", "x" * 100_000),
        ("channel.sendall(b'\"cut off')", "supervisor {} exited with status 3, it has told why on standard error"),
        ("channel.sendall(b'3')", "supervisor {} exited with status 3, it has told why on standard error"),
        ("channel.sendall(b'[' * 200_000)", "supervisor {} exited with status 3, it has told why on standard error"),
    ],
    ids=["two lines", "long", "cut off", "a number", "nested"],
)
def test_one_that_says_why_it_cannot_serve_is_quoted(upgrade: Start, says: str, reason: str) -> None:
    new = upgrade(f"{says}\nsys.exit(3)\n")
    new.until(lambda: bool(new.events))
    assert new.events == [events.SuccessorFailed(reason.format(new.successor.pid))]


def test_one_that_ends_after_the_word_has_failed_when_both_are_seen_at_once(upgrade: Start) -> None:
    one = upgrade(SERVES)
    one.turn(0)  # the line is sent
    os.waitid(os.P_PID, one.successor.pid, os.WEXITED | os.WNOWAIT)
    one.successor.look()  # SIGCHLD comes first
    [event] = one.events
    assert isinstance(event, events.SuccessorFailed)
    one.turn(0)
    assert len(one.events) == 1


def test_one_that_was_given_up_is_not_heard_of_again(upgrade: Start) -> None:
    silent, late = upgrade(WAITS), upgrade(SERVES + WAITS)
    for one in (silent, late):
        one.successor.kill()
        one.until(lambda one=one: not one.selector.get_map())  # type: ignore[misc]
        assert one.events == []


def test_a_line_that_is_longer_than_the_channel_takes_arrives_whole(upgrade: Start) -> None:
    program = "import json\nassert len(json.loads(line)['sockets']) == 2**22\n" + SERVES + WAITS
    one = upgrade(program, HandOver("x" * 2**22, [], 1))
    one.until(lambda: bool(one.events))
    assert one.events == [events.SuccessorReady(one.successor.pid)]


def test_one_that_ends_while_the_line_is_sent_has_failed(upgrade: Start) -> None:
    one = upgrade("", HandOver("x" * 2**22, [], 1))
    os.kill(one.successor.pid, signal.SIGKILL)
    one.until(lambda: bool(one.events))
    assert isinstance(one.events[0], events.SuccessorFailed)


# The new one


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, int]]:
    """Return the old supervisor's end of a channel, and the descriptor of the other."""
    before = os.listdir("/proc/self/fd")
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    yield ours, theirs.detach()
    ours.close()
    assert os.listdir("/proc/self/fd") == before


def line(**changes: object) -> bytes:
    return json.dumps({"sockets": "sockets", "descriptors": [], "generation": 7, **changes}).encode() + b"\n"


def test_it_understands_what_is_left_to_it_and_tells_that_it_serves(channel: tuple[socket.socket, int]) -> None:
    ours, theirs = channel
    predecessor = Predecessor(theirs)
    with socket.socket() as sock:
        os.set_inheritable(sock.fileno(), True)
        for piece in (line(descriptors=[sock.fileno()])[:10], line(descriptors=[sock.fileno()])[10:]):
            ours.sendall(piece)
        assert predecessor.receive() == HandOver("sockets", [sock.fileno()], 7)
        assert not os.get_inheritable(sock.fileno())
    assert not os.get_inheritable(theirs)
    predecessor.tell_ready()
    assert ours.recv(100) == b"ready\n"
    assert ours.recv(100) == b""


def test_what_was_counted_comes_along_if_the_other_one_has_it(channel: tuple[socket.socket, int]) -> None:
    ours, theirs = channel
    with socket.socket() as file:
        os.set_inheritable(file.fileno(), True)
        more = {"counters": "{}", "counter_files": [file.fileno()], "happened": {"reloads": 2}, "of a later version": 1}
        ours.sendall(line(**more))
        left = (predecessor := Predecessor(theirs)).receive()
        assert (left.counters, left.counter_files, left.happened) == ("{}", [file.fileno()], {"reloads": 2})
        assert not os.get_inheritable(file.fileno())
    predecessor.tell_ready()


def test_it_tells_why_it_cannot_serve(channel: tuple[socket.socket, int]) -> None:
    ours, theirs = channel
    predecessor = Predecessor(theirs)
    predecessor.tell_failed("server.toml:1: wr\xf6ng\n   1 | x")
    assert json.loads(ours.recv(1000)) == "server.toml:1: wr\xf6ng\n   1 | x"
    predecessor.tell_failed("first\n" + 10**6 * "x" + "\nlast")
    told = json.loads(ours.recv(10**6))
    assert told.startswith("first\nxxx")
    assert told.endswith("xxx\nlast")
    assert len(told) < 20_000
    ours.close()
    predecessor.tell_failed("to nobody")
    predecessor.tell_ready()


def test_it_goes_on_without_one_that_has_died_meanwhile(channel: tuple[socket.socket, int]) -> None:
    ours, theirs = channel
    predecessor = Predecessor(theirs)
    ours.sendall(line())
    ours.close()
    predecessor.receive()
    predecessor.tell_ready()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        line()[:-1][:20],
        b"[]\n",
        b"{}\n",
        b"nonsense\n",
        line(descriptors=[10**6]),
        line(descriptors=["3"]),
        b"\xff\n",
    ],
    ids=["nothing", "cut off", "a list", "empty", "nonsense", "no descriptor", "no number", "no text"],
)
def test_what_cannot_be_understood_ends_the_upgrade(channel: tuple[socket.socket, int], said: bytes) -> None:
    ours, theirs = channel
    predecessor = Predecessor(theirs)
    ours.sendall(said)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(BindError, match=r"sockets cannot be taken over .* stop it and start anew"):
        predecessor.receive()


def test_one_that_says_nothing_is_not_waited_for_longer(
    channel: tuple[socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "LINE_PATIENCE", 0.05)
    predecessor = Predecessor(channel[1])
    with pytest.raises(BindError, match="timed out"):
        predecessor.receive()


def test_a_descriptor_that_is_no_channel_is_refused() -> None:
    with open(os.devnull) as file, pytest.raises(BindError, match="there is no supervisor to take over from"):
        Predecessor(file.fileno())
