"""The conversation between a supervisor and the one that takes its place: the sockets, then "ready".

The old one starts the new one with its descriptors inherited, and sends one line that says what they are. The
new one answers "ready" when it serves, or why it cannot; its end without that word means that it has failed. If
the old one dies meanwhile, the new one goes on: it has all that it needs. `supervisor` holds both ends, `upgrade`
decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from serverd.errors import BindError
from serverd.supervisor import events
from serverd.supervisor.spawn import Process
from serverd.supervisor.wording import explain_exit

__all__ = ["HandOver", "Predecessor", "Successor"]

READY = b"ready\n"
READ_SIZE = 64 * 1024
# Characters of a failure that are told: the first, with the report, and the last, with the end of a traceback.
FAILURE_SIZE = 16 * 1024
# Bytes of what the new one says that are kept: a failure as JSON, which takes up to six for a character, and more.
MOST_INCOMING = 256 * 1024
# Seconds for the line, which is sent as soon as the new supervisor is started.
LINE_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a supervisor leaves to the one that takes its place."""

    sockets: str  # as `net.handover` writes them down
    descriptors: list[int]  # that the text refers to
    generation: int  # the last number that was given to one
    counters: str = ""  # as `ledger` writes them down; "": none
    counter_files: list[int] = field(default_factory=list)  # that it refers to
    happened: dict[str, int] = field(default_factory=dict)  # how often what has, as `Fleet.counts` has it


class Successor:
    """The new supervisor as the old one holds it; brings SuccessorReady or SuccessorFailed."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        emit: Callable[[events.SuccessorReady | events.SuccessorFailed], None],
        process: Process,
        channel: socket.socket,
        hand_over: HandOver,
    ) -> None:
        self._selector = selector
        self._emit = emit
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._is_open = True  # it may say something
        self._is_watched = True  # it may become ready, or end
        self._incoming = b""
        self._outgoing = json.dumps(asdict(hand_over)).encode() + b"\n"
        selector.register(channel, selectors.EVENT_READ | selectors.EVENT_WRITE, self._on_channel)
        if process.exit_descriptor is not None:
            selector.register(process.exit_descriptor, selectors.EVENT_READ, self.look)

    def kill(self) -> None:
        """End it; it does not serve yet, or nobody has taken note that it does."""
        self._emit = _ignore  # there may be another one by the time it has ended
        self._process.kill()

    def look(self, _: int = 0) -> None:
        """See whether it has ended; also at SIGCHLD, where the kernel has no other way to tell."""
        status = self._process.reap() if self._is_watched else None
        if status is None:
            return
        while self._is_open and self._read():
            pass
        self._leave()  # also if it has said that it is ready: it serves no more
        told = "" if status < 0 else ", it has told why on standard error"
        how = f"supervisor {self._process.pid} {explain_exit(status)}{told}"
        self._emit(events.SuccessorFailed(_read_failure(self._incoming) or how))

    def _on_channel(self, mask: int) -> None:
        if self._is_open and mask & selectors.EVENT_WRITE:  # it may have been reaped since select returned
            self._send()
        if self._is_open and mask & selectors.EVENT_READ:
            self._receive()

    def _send(self) -> None:
        try:
            self._outgoing = self._outgoing[self._channel.send(self._outgoing) :]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing = b""  # it has ended, which is seen elsewhere
        if not self._outgoing:
            self._selector.modify(self._channel, selectors.EVENT_READ, self._on_channel)

    def _receive(self) -> None:
        data = self._read()
        if self._incoming == READY:
            self._leave()
            self._emit(events.SuccessorReady(self._process.pid))
        elif data == b"":
            self._hang_up()

    def _read(self) -> bytes | None:
        """Take what has come, and return it; b"" is the end, None nothing."""
        try:
            data = self._channel.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self._incoming = (self._incoming + data)[:MOST_INCOMING]
        return data

    def _hang_up(self) -> None:
        if self._is_open:
            self._is_open = False
            self._selector.unregister(self._channel)
            self._channel.close()

    def _leave(self) -> None:
        """Wait for nothing more of it."""
        self._is_watched = False
        self._hang_up()
        if self._process.exit_descriptor is not None:
            self._selector.unregister(self._process.exit_descriptor)
            self._process.close()


class Predecessor:
    """The old supervisor as the new one holds it."""

    def __init__(self, descriptor: int) -> None:
        """Take the channel that was inherited; raises BindError when it is none."""
        try:
            self._channel = socket.socket(fileno=descriptor)
        except OSError as error:
            raise BindError(f"--take-over {descriptor}: there is no supervisor to take over from") from error
        self._channel.set_inheritable(False)
        self._channel.settimeout(LINE_PATIENCE)

    def receive(self) -> HandOver:
        """Wait for what it leaves; raises BindError when that cannot be understood."""
        line = b""
        try:
            while not line.endswith(b"\n"):
                data = self._channel.recv(READ_SIZE)
                if not data:
                    break
                line += data
            document = json.loads(line)
            hand_over = HandOver(document["sockets"], document["descriptors"], document["generation"])
            # Absent when the other one is of a version without them.
            counted = {key: document[key] for key in ("counters", "counter_files", "happened") if key in document}
            hand_over = replace(hand_over, **counted)
            for fd in (*hand_over.descriptors, *hand_over.counter_files):
                os.set_inheritable(fd, False)
        except (OSError, ValueError, LookupError, TypeError) as error:
            self._channel.close()
            raise BindError(
                f"the running server's sockets cannot be taken over ({error!r}): stop it and start anew"
            ) from error
        return hand_over

    def tell_failed(self, why: str) -> None:
        """Tell it why we cannot serve; our end comes next."""
        half = FAILURE_SIZE // 2
        told = why if len(why) <= FAILURE_SIZE else f"{why[:half]}\n...\n{why[-half:]}"
        with contextlib.suppress(OSError):  # it has died, or does not listen
            self._channel.sendall(json.dumps(told).encode())

    def tell_ready(self) -> None:
        """Tell it that we serve, for it to leave."""
        with contextlib.suppress(OSError):  # it has died: all the better that we are here
            self._channel.sendall(READY)
        self._channel.close()


def _ignore(_: events.SuccessorReady | events.SuccessorFailed) -> None:
    """Take what is heard of a successor that nobody waits for any more."""


def _read_failure(said: bytes) -> str:
    """Return why a supervisor cannot serve, or "" when it has not said so."""
    try:
        told = json.loads(said)
    except (ValueError, RecursionError):
        return ""
    return told if isinstance(told, str) else ""
