"""The worker's end of the channel: descriptors stay with their messages, and a supervisor that stops stops nobody."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop

from serverd.generation import Generation, Logging, Server
from serverd.messages import (
    Adopt,
    Beat,
    Cover,
    Drain,
    Message,
    Ready,
    Reopen,
    SocketGrant,
    Sockets,
    Start,
    decode,
    encode,
)
from serverd.worker.channel import Channel, close_all

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
FACTORIES = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
TIMEOUT = 10.0  # s: a bound


class Ends:
    """A channel and the supervisor's end of it."""

    def __init__(self) -> None:
        self.supervisor, worker = socket.socketpair()
        self.supervisor.settimeout(TIMEOUT)
        self.channel = Channel(worker.detach())

    def tell(self, message: Message, fds: list[int] = []) -> None:  # noqa: B006 - nobody changes it
        line = encode(message)
        sent = socket.send_fds(self.supervisor, [line], fds) if fds else 0
        self.supervisor.sendall(line[sent:])

    def close(self) -> None:
        self.supervisor.close()
        self.channel.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


@pytest.fixture
def files() -> Iterator[list[int]]:
    """Return descriptors that can be told apart."""
    fds = [os.memfd_create(f"file {number}") for number in range(4)]
    yield fds
    close_all(fds)


def identities(fds: list[int]) -> list[int]:
    """Return what the descriptors stand for, and close them."""
    found = [os.fstat(fd).st_ino for fd in fds]
    close_all(fds)
    return found


def sockets(count: int) -> Sockets:
    return Sockets(tuple(SocketGrant("web", slot) for slot in range(count)))


def test_a_message_comes_with_its_descriptors_in_their_order(ends: Ends, files: list[int]) -> None:
    ends.tell(sockets(3), files[:3])
    received = ends.channel.receive()
    assert received is not None
    message, fds = received
    assert message == sockets(3)
    assert not any(os.get_inheritable(fd) for fd in fds)
    assert identities(fds) == [os.fstat(fd).st_ino for fd in files[:3]]


def test_messages_that_arrive_together_share_out_what_came_with_them(ends: Ends, files: list[int]) -> None:
    lines = encode(sockets(1)) + encode(Cover((1,))) + encode(Reopen())
    socket.send_fds(ends.supervisor, [lines], files[:3])
    expected = [[os.fstat(files[0]).st_ino], [], [os.fstat(fd).st_ino for fd in files[1:3]]]
    for kind, inodes in zip((Sockets, Cover, Reopen), expected, strict=True):
        received = ends.channel.receive()
        assert received is not None
        assert isinstance(received[0], kind)
        assert identities(received[1]) == inodes


def test_a_line_may_come_in_pieces_each_with_some_of_its_descriptors(ends: Ends, files: list[int]) -> None:
    line = encode(sockets(4))
    socket.send_fds(ends.supervisor, [line[:10]], files[:3])
    socket.send_fds(ends.supervisor, [line[10:11]], files[3:])
    ends.supervisor.sendall(line[11:])
    received = ends.channel.receive()
    assert received is not None
    assert identities(received[1]) == [os.fstat(fd).st_ino for fd in files]


def test_more_descriptors_than_one_call_takes_arrive(ends: Ends, files: list[int]) -> None:
    line = encode(sockets(400))
    socket.send_fds(ends.supervisor, [line[:1]], files[:1] * 250)
    socket.send_fds(ends.supervisor, [line[1:2]], files[1:2] * 150)
    ends.supervisor.sendall(line[2:])
    received = ends.channel.receive()
    assert received is not None
    first, second = (os.fstat(fd).st_ino for fd in files[:2])
    assert identities(received[1]) == [first] * 250 + [second] * 150


def test_a_message_without_its_descriptors_is_refused(ends: Ends, files: list[int]) -> None:
    ends.tell(sockets(2), files[:1])
    with pytest.raises(ValueError, match="Sockets came with 1 of 2 descriptors"):
        ends.channel.receive()


def test_descriptors_that_the_process_has_no_room_for_are_missed(
    ends: Ends, files: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serverd.worker.channel._DESCRIPTORS_AT_ONCE", 1)  # as the kernel cuts them off at the limit
    ends.tell(sockets(4), files)
    with pytest.raises(ValueError, match="descriptors were lost"):
        ends.channel.receive()


def test_the_end_is_told_and_can_be_asked_for(ends: Ends) -> None:
    assert not ends.channel.has_ended
    ends.supervisor.close()
    assert ends.channel.has_ended
    assert ends.channel.receive() is None
    ends.channel.send(Ready(1))  # to nobody
    ends.channel.close()
    assert ends.channel.has_ended


def watch(ends: Ends, loop_factory: LoopFactory, act: Callable[[], None]) -> list[Message | None]:
    """Return what the channel tells until it has told the end."""
    heard: list[Message | None] = []

    async def run() -> None:
        end = asyncio.get_running_loop().create_future()

        def on_message(message: Message | None, fds: list[int]) -> None:
            heard.append(message)
            close_all(fds)
            if message is None:
                end.set_result(None)

        ends.channel.watch(asyncio.get_running_loop(), on_message)
        act()
        await asyncio.wait_for(end, TIMEOUT)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
    return heard


@FACTORIES
def test_what_came_with_the_first_message_is_told_by_the_loop(
    ends: Ends, files: list[int], loop_factory: LoopFactory
) -> None:
    start = Start(Generation("server.toml", Server(), (), (), (), Logging()), 0, ())
    lines = encode(start) + encode(Adopt(1))
    ends.supervisor.sendall(lines)
    received = ends.channel.receive()
    assert received is not None
    assert received[0] == start

    def act() -> None:
        ends.tell(sockets(2), files[:2])
        ends.tell(Drain(1.0))
        ends.supervisor.close()

    assert watch(ends, loop_factory, act) == [Adopt(1), sockets(2), Drain(1.0), None]


@FACTORIES
def test_a_supervisor_that_cannot_be_understood_is_as_good_as_gone(
    ends: Ends, loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    def act() -> None:
        ends.tell(Drain(1.0))
        ends.supervisor.sendall(b"what?\n" + encode(Drain(2.0)))

    assert watch(ends, loop_factory, act) == [Drain(1.0), None]
    assert "cannot be understood" in caplog.text


@FACTORIES
def test_who_has_no_room_for_descriptors_says_so_and_leaves(
    ends: Ends,
    files: list[int],
    loop_factory: LoopFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serverd.worker.channel._DESCRIPTORS_AT_ONCE", 1)  # as the kernel cuts them off at the limit
    assert watch(ends, loop_factory, lambda: ends.tell(sockets(4), files)) == [None]
    [record] = caplog.records
    assert record.getMessage().startswith("leaving: descriptors were lost, too many files are open (expected a higher")
    assert record.exc_info is None


BEAT = Beat(1, 2, 3, 4, 0.5, ("GET / (app shop, 0.1 s)",) * 20)


def test_beats_that_nobody_reads_are_dropped_and_what_was_begun_stays_whole(ends: Ends) -> None:
    sent = 0
    while ends.channel.offer(BEAT):
        sent += 1
        assert sent < 100_000
    assert not ends.channel.offer(BEAT)
    lines = ends.supervisor.makefile("rb")
    assert [decode(lines.readline()) for _ in range(sent - 1)] == [BEAT] * (sent - 1)
    ends.channel.send(Ready(7))  # sends the rest of the last beat first
    assert decode(lines.readline()) == BEAT
    assert decode(lines.readline()) == Ready(7)
    lines.close()


def test_what_must_arrive_waits_for_a_slow_supervisor(ends: Ends) -> None:
    while ends.channel.offer(BEAT):
        pass
    heard: list[Message] = []

    def read() -> None:
        with ends.supervisor.makefile("rb") as lines:
            while not heard or not isinstance(heard[-1], Ready):
                heard.append(decode(lines.readline()))

    reader = threading.Thread(target=read)
    reader.start()
    ends.channel.send(Ready(7))
    reader.join(TIMEOUT)
    assert heard[-1] == Ready(7)
    assert set(heard[:-1]) == {BEAT}


def test_a_supervisor_that_never_reads_is_waited_for_only_so_long(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serverd.worker.channel._SEND_TIMEOUT", 0.05)
    while ends.channel.offer(BEAT):
        pass
    ends.channel.send(Ready(7))
    assert not ends.channel.offer(BEAT)
