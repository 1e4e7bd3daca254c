"""The operator's end of the control socket: asks one running supervisor, and waits for what it says.

It blocks, for as long as its caller allows, and shows nothing: `commands` does. Nothing that the other end
says is trusted further than that it may be shown.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from serverd.control.peer import ROOT, is_trusted, peer_uid
from serverd.control.requests import encode
from serverd.errors import OperatorError, reason_of

__all__ = ["ControlClient", "ControlError", "ServerGone"]

# Seconds for a request to be taken. The kernel takes it for a supervisor that is busy, so that a longer wait tells
# that something is very wrong.
PATIENCE = 5.0
# Seconds between two tries to get into a queue that is full.
CONNECT_INTERVAL = 0.05
# Bytes of one reply; see REPLY_LIMIT of `server`.
REPLY_LIMIT = 16 * 1024 * 1024
READ_SIZE = 64 * 1024


class ControlError(OperatorError):
    """No running server could be asked, or it did not answer."""


class ServerGone(ControlError):
    """The server ended the connection before its last reply."""


class ControlClient:
    """A connection to the control socket at `path`; `served` is what the operator calls the server.

    Raises ControlError when nobody listens there or it is not who it should be.
    """

    def __init__(self, path: str, served: str = "") -> None:
        self._name = f"the server of {served}" if served else f"the server at {path}"
        self._socket = _connect(path, served)
        self._incoming = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what was asked for goes on."""
        self._socket.close()

    def ask(
        self,
        request: Mapping[str, Any],
        timeout: float | None = None,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Return the last reply to `request`, after at most `timeout` seconds; None waits as long as it takes.

        `on_progress` gets the replies before the last one. Raises ServerGone when the connection ended
        before the last reply, ControlError when none came in time or it is none.
        """
        self._send(encode(request))
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            reply = self._understand(self._receive_line(deadline, timeout))
            if reply.get("more") is not True:
                return reply
            on_progress(reply)

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise ControlError(f"{self._name} has not read the request for {PATIENCE:g} s") from None
        except OSError:
            pass  # it has hung up, and may have said why

    def _receive_line(self, deadline: float | None, timeout: float | None) -> bytes:
        while b"\n" not in self._incoming:
            try:
                data = self._receive(deadline)
            except TimeoutError:
                raise ControlError(f"{self._name} has not answered within {timeout:g} s; it goes on") from None
            if not data:
                raise ServerGone(f"{self._name} went away before it had answered")
            if len(self._incoming) + len(data) > REPLY_LIMIT:
                raise ControlError(f"{self._name} answered with more than {REPLY_LIMIT // 1024**2} MiB")
            self._incoming += data
        line, _, self._incoming = self._incoming.partition(b"\n")
        return line

    def _receive(self, deadline: float | None) -> bytes:
        """Return what comes next; nothing is the end. Raises TimeoutError at the deadline."""
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)
        try:
            return self._socket.recv(READ_SIZE)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def _understand(self, line: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
            raise ControlError(f"{self._name} answered with what is no reply: {line[:80]!r}")
        return reply


def _connect(path: str, served: str) -> socket.socket:
    """Return a socket that is connected to whom it should be."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(PATIENCE)
        _queue_up(sock, path)
        uid = peer_uid(sock)
    except OSError as error:
        sock.close()
        raise ControlError(_no_answer(path, served, error)) from error
    # Root has been told the path, on the command line or by the file, and steers servers of any user.
    if not is_trusted(uid) and os.geteuid() != ROOT:
        sock.close()
        raise ControlError(f"the server at {path} runs as user {uid}, expected {os.geteuid()} or root")
    return sock


def _queue_up(sock: socket.socket, path: str) -> None:
    """Connect, waiting while the queue is full; raises OSError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            sock.connect(path)
            return
        except BlockingIOError:  # so Linux says of a full queue, however long the timeout
            if time.monotonic() >= deadline:
                raise
        time.sleep(CONNECT_INTERVAL)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:  # it has gone meanwhile
        return True


def _no_answer(path: str, served: str, error: OSError) -> str:
    """Return the sentence for a connection that could not be made."""
    subject = f"no serverd serves {served}" if served else "no serverd to be asked"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        missing = served and not served.startswith("run:") and not os.path.exists(served)
        remedy = ", and no such file: name that of the server with -c FILE" if missing else ""
        return f"{subject}: no control socket at {path}, expected that of a running server{remedy}"
    if isinstance(error, ConnectionRefusedError) and not _is_socket(path):
        return f"{subject}: {path} is no socket, expected the control socket of a running server"
    if isinstance(error, ConnectionRefusedError):
        return f"{subject}: nobody listens at {path} any more, the server that did has ended suddenly"
    if isinstance(error, PermissionError):
        return f"cannot ask the server at {path}: permission denied (the user it runs as, and root, may)"
    if isinstance(error, BlockingIOError | TimeoutError):  # Linux says EAGAIN of a full queue
        return f"cannot ask the server at {path}: it is not taking connections"
    if not error.errno:  # Python's own check, before the kernel's
        return f"cannot ask a server at {path}: the path is too long for a unix socket"
    return f"cannot ask the server at {path}: {reason_of(error)}"
