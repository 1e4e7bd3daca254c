"""What goes to a worker and what comes from it, over a channel in memory: messages, descriptors, stacks."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.generation import Generation, Logging, Server
from serverd.messages import (
    FROM_WORKER,
    Accepted,
    Adopted,
    AppDown,
    AppUp,
    Ask,
    Beat,
    Blocked,
    Cover,
    Declined,
    Drain,
    Draining,
    Failed,
    LoadFailed,
    Ready,
    SocketGrant,
    Sockets,
    Start,
    Starting,
    decode,
    descriptors,
    encode,
)
from serverd.supervisor import handle as handle_module
from serverd.supervisor.handle import Garbage, LoaderHandle, WorkerHandle
from serverd.supervisor.spawn import Process, Surroundings, _open_nameless_file, spawn_worker

GENERATION = Generation("/etc/server.toml", Server(), (), (), (), Logging())

SAYINGS = (
    Starting("app shop"),
    Ready(12),
    Beat(1, 2, 3, 4, 0.5, ("GET / shop 0.1 s",)),
    Blocked(1.5, ("GET / shop 0.1 s",)),
    AppDown("shop", "boom", "Traceback", 2.0),
    AppUp("shop"),
    Accepted(3),
    Declined(3, "shop/main.py has changed since it was imported"),
    Adopted(3),
    Draining(),
    Failed("boom", "Traceback"),
    Ask(1),
)


# Says a byte when it is busy, and one after each time that it has written its stacks.
BUSY = """
import faulthandler, signal, socket, sys
from serverd.parent import leave_group_signals
leave_group_signals()
channel = socket.socket(fileno=int(sys.argv[2]))
signal.signal(signal.SIGUSR2, lambda *_: channel.sendall(b"."))
faulthandler.register(signal.SIGUSR2, file=int(sys.argv[4]), all_threads=True, chain=True)
def busy():
    channel.sendall(b".")
    while True:
        pass
busy()
"""


class Silent(Process):
    """A process that does nothing and gets no signal."""

    def __init__(self) -> None:
        self.pid = 0
        self.exit_descriptor = None
        self.signals: list[int] = []

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)


class Worker:
    """The other end of a handle's channel, which reads as a worker does."""

    def __init__(self) -> None:
        ours, self.channel = socket.socketpair()
        ours.setblocking(False)
        self.channel.settimeout(10)
        self.process = Silent()
        self.stacks = _open_nameless_file()
        self.handle = WorkerHandle(1, self.process, ours, self.stacks)
        self.arrived: list[int] = []
        self.buffer = b""

    def read(self) -> None:
        """Read once, descriptors included."""
        size = socket.CMSG_SPACE(253 * struct.calcsize("i"))
        data, control, flags, _ = self.channel.recvmsg(65536, size)
        assert not flags & socket.MSG_CTRUNC
        self.buffer += data
        for _, _, rights in control:
            self.arrived += array.array("i", rights)

    def receive(self) -> tuple[Any, list[int]]:
        """Return the next message and the inodes of its descriptors, which have to be here as soon as its line is."""
        while b"\n" not in self.buffer:
            self.read()
            self.handle.flush()
        line, _, self.buffer = self.buffer.partition(b"\n")
        message = decode(line)
        count = descriptors(message)
        taken, self.arrived = self.arrived[:count], self.arrived[count:]
        assert len(taken) == count
        found = [os.fstat(fd).st_ino for fd in taken]
        for fd in taken:
            os.close(fd)
        return message, found

    def close(self) -> None:
        for fd in self.arrived:
            os.close(fd)
        self.channel.close()
        self.handle.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    before = open_descriptors()
    with contextlib.closing(Worker()) as made:
        yield made
    assert open_descriptors() == before


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Yield descriptors that can be told from one another; a test may close them."""
    ends = [end for _ in range(4) for end in os.pipe()]
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def sockets_message(count: int) -> Sockets:
    return Sockets(tuple(SocketGrant("web", slot) for slot in range(count)))


class TestSend:
    def test_messages_arrive_in_order_with_their_own_descriptors(self, worker: Worker, pipes: list[int]) -> None:
        inodes = [os.fstat(fd).st_ino for fd in pipes]
        start = Start(GENERATION, 0, sockets_message(3).sockets)
        worker.handle.send(start, pipes[:3])
        worker.handle.send(Cover((1,)))
        worker.handle.send(sockets_message(2), pipes[3:5])
        assert worker.receive() == (start, inodes[:3])
        assert worker.receive() == (Cover((1,)), [])
        assert worker.receive() == (sockets_message(2), inodes[3:5])

    @pytest.mark.parametrize("count", [249, 250, 251, 500, 777])
    def test_more_descriptors_than_fit_at_once_have_arrived_with_the_line(
        self, worker: Worker, pipes: list[int], count: int
    ) -> None:
        many = [pipes[number % len(pipes)] for number in range(count)]
        worker.handle.send(sockets_message(count), many)
        worker.handle.send(Cover(()))
        assert worker.receive() == (sockets_message(count), [os.fstat(fd).st_ino for fd in many])
        assert worker.receive() == (Cover(()), [])

    def test_the_worker_may_take_its_time_and_the_caller_may_close_at_once(
        self, worker: Worker, pipes: list[int]
    ) -> None:
        inodes = [os.fstat(fd).st_ino for fd in pipes]
        worker.handle.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        long = Start(Generation("/" + "x" * 500_000, Server(), (), (), (), Logging()), 0, sockets_message(2).sockets)
        worker.handle.send(long, pipes[:2])
        assert worker.handle.wants_write
        worker.handle.send(sockets_message(3), pipes[2:5])
        for fd in pipes:
            os.close(fd)
        assert worker.receive() == (long, inodes[:2])
        assert worker.receive() == (sockets_message(3), inodes[2:5])
        assert not worker.handle.wants_write

    def test_what_was_never_sent_is_closed_with_the_handle(self, worker: Worker, pipes: list[int]) -> None:
        self.block(worker)
        worker.handle.send(sockets_message(3), pipes[:3])  # the fixture counts

    def test_a_worker_that_has_gone_takes_nothing_and_keeps_no_descriptor_open(
        self, worker: Worker, pipes: list[int]
    ) -> None:
        self.block(worker)
        worker.handle.send(sockets_message(3), pipes[:3])
        before = open_descriptors()
        worker.channel.close()
        worker.handle.flush()
        assert not worker.handle.wants_write
        assert len(before - open_descriptors()) == 4  # the worker's end of the channel is the fourth
        worker.handle.send(Drain(1.0))
        assert not worker.handle.wants_write

    def test_its_last_words_are_heard_after_a_message_did_not_reach_it(self, worker: Worker) -> None:
        worker.channel.sendall(encode(Failed("boom")))
        worker.channel.close()
        worker.handle.send(Drain(1.0))
        assert worker.handle.receive() == [Failed("boom")]
        assert not worker.handle.is_open

    def test_a_worker_that_lets_too_much_wait_is_hung_up_on(self, worker: Worker) -> None:
        self.block(worker)
        for _ in range(handle_module.WAITING_LIMIT):
            worker.handle.send(Cover(()))
        assert not worker.handle.wants_write
        assert worker.handle.receive() == []
        assert not worker.handle.is_open

    def test_a_worker_is_hung_up_on_when_descriptors_cannot_be_kept_for_it(
        self, worker: Worker, pipes: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.block(worker)
        dup, kept = os.dup, []

        def refuse(fd: int) -> int:
            if len(kept) == 2:
                raise OSError(errno.EMFILE, "Too many open files")
            kept.append(dup(fd))
            return kept[-1]

        monkeypatch.setattr(os, "dup", refuse)
        worker.handle.send(sockets_message(3), pipes[:3])
        assert len(kept) == 2  # the fixture sees whether they have been closed
        worker.handle.receive()
        assert not worker.handle.is_open

    def test_too_many_descriptors_on_their_way_are_waited_for(
        self, worker: Worker, pipes: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Busy:
            """A channel whose kernel has too much to carry."""

            def sendmsg(self, *_: object) -> int:
                raise OSError(errno.ETOOMANYREFS, "Too many references")

        real = worker.handle.channel
        waits: list[float] = []
        monkeypatch.setattr(handle_module.time, "sleep", waits.append)
        worker.handle.channel = Busy()  # type: ignore[assignment]
        worker.handle.send(sockets_message(2), pipes[:2])
        worker.handle.channel = real
        assert worker.handle.wants_write
        assert waits == [handle_module.DESCRIPTORS_WAIT]
        worker.handle.flush()
        assert worker.receive() == (sockets_message(2), [os.fstat(fd).st_ino for fd in pipes[:2]])

    def block(self, worker: Worker) -> None:
        """Fill the channel, so that whatever is sent next waits."""
        long = Start(Generation("/" + "x" * 1_000_000, Server(), (), (), (), Logging()), 0, ())
        worker.handle.send(long)
        assert worker.handle.wants_write


class TestReceive:
    def test_everything_a_worker_may_say_is_understood(self, worker: Worker) -> None:
        assert {type(one) for one in SAYINGS} == set(FROM_WORKER)
        worker.channel.sendall(b"".join(map(encode, SAYINGS)))
        assert worker.handle.receive() == list(SAYINGS)
        assert worker.handle.is_open

    def test_a_message_may_come_in_pieces(self, worker: Worker) -> None:
        line = encode(Ready(12))
        for byte in line[:-1]:
            worker.channel.sendall(bytes([byte]))
            assert worker.handle.receive() == []
        worker.channel.sendall(line[-1:])
        assert worker.handle.receive() == [Ready(12)]

    @pytest.mark.parametrize(
        "line",
        [b"hello\n", b"[" * 100_000 + b"\n", encode(Drain(1.0)), encode(Cover(())), b'{"":"Ready"}\n', b"\xff\n"],
        ids=["no JSON", "nested", "what only we say", "what only we say, too", "incomplete", "not text"],
    )
    def test_anything_else_is_garbage_and_the_last_that_is_heard(self, worker: Worker, line: bytes) -> None:
        worker.channel.sendall(encode(Ready(12)) + line)
        ready, garbage = worker.handle.receive()
        assert ready == Ready(12)
        assert isinstance(garbage, Garbage)
        assert not worker.handle.is_open

    def test_a_line_without_end_is_garbage(self, worker: Worker) -> None:
        worker.channel.setblocking(False)
        said: list[Any] = []
        for _ in range(1000):
            with contextlib.suppress(BlockingIOError):
                worker.channel.send(b"x" * 65536)
            said += worker.handle.receive()
            if said:
                break
        assert said == [Garbage("sent a message above 1024 KiB")]
        assert not worker.handle.is_open

    def test_descriptors_from_a_worker_are_not_taken(self, worker: Worker, pipes: list[int]) -> None:
        before = open_descriptors()
        socket.send_fds(worker.channel, [encode(Ready(12))], pipes)
        assert worker.handle.receive() == [Ready(12)]
        assert open_descriptors() == before

    def test_one_that_never_stops_talking_is_left_for_the_next_turn(self, worker: Worker) -> None:
        class Endless:
            """A channel with more to say than anybody can listen to."""

            def recv(self, _: int) -> bytes:
                return encode(Draining())

        real = worker.handle.channel
        worker.handle.channel = Endless()  # type: ignore[assignment]
        assert len(worker.handle.receive()) == handle_module.READS_AT_ONCE
        worker.handle.channel = real
        assert worker.handle.is_open


class TestLoader:
    def test_one_that_is_killed_is_not_blamed(self) -> None:
        outcome = LoaderHandle(Silent(), -1).outcome(-signal.SIGKILL)
        assert isinstance(outcome, LoadFailed)
        assert outcome.report == (
            "the configuration could not be read: the loader was killed by SIGKILL (out of memory?) before it was done"
        )


class TestStacks:
    def write(self, worker: Worker, data: bytes) -> None:
        os.write(worker.stacks, data)

    def test_a_request_empties_the_file_and_sends_the_signal(self, worker: Worker) -> None:
        self.write(worker, b"from the last time")
        worker.handle.request_stacks()
        assert worker.process.signals == [signal.SIGUSR2]
        assert worker.handle.take_stacks() == ""

    def test_what_is_written_is_text_of_lines(self, worker: Worker) -> None:
        self.write(worker, b'Current thread 0x1 (most recent call first):\n  File "a.py", line 1 in f\n')
        assert worker.handle.take_stacks() == (
            'Current thread 0x1 (most recent call first):\n  File "a.py", line 1 in f'
        )

    def test_bytes_that_are_no_text_are_spelled_out(self, worker: Worker) -> None:
        self.write(worker, b"file\r\xff\xe2\x80\xae\tend\n\0")
        assert worker.handle.take_stacks() == "file\n\\xff\u202e\tend\n\0"

    def test_of_too_much_the_end_is_kept(self, worker: Worker) -> None:
        line = b"x" * 99 + b"\n"
        self.write(worker, b"first\n" + line * 10_000 + b"last\n")
        lines = worker.handle.take_stacks().split("\n")
        assert (lines[0], lines[-1]) == ("...", "last")
        assert set(lines[1:-1]) == {"x" * 99}
        assert sum(map(len, lines)) <= handle_module.STACKS_LIMIT

    def test_a_worker_that_does_nothing_but_compute_writes_its_stacks(self) -> None:
        process, channel, stacks = spawn_worker((sys.executable, "-c", BUSY), "", Surroundings())
        handle = WorkerHandle(1, process, channel, stacks)
        try:
            channel.settimeout(10)
            assert channel.recv(1) == b"."
            for _ in range(2):  # the second time as the first, because the file is emptied
                handle.request_stacks()
                assert channel.recv(1) == b"."
                assert handle.take_stacks().count("in busy") == 1
        finally:
            process.kill()
            assert process.reap_within(10)
            handle.close()
