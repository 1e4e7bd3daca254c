"""The supervisor's end of the control socket: reads requests, hands them on, writes replies.

It decides nothing about what is asked: a `Request` goes to the callback, and whoever has an answer calls `reply`
with the number that came along, at once or much later. It needs no loop of its own: its sockets are registered in
the supervisor's selector, with the function to call as their data. Nothing here blocks, raises for what a client
does, or holds more than a bounded amount for it.

A client is asked for one request at a time: while one is open, or a reply has not been taken, what the client
sends waits. `supervisor` owns it.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from serverd.control.peer import is_trusted, peer_uid
from serverd.control.requests import LINE_LIMIT, Request, RequestError, encode, parse_request
from serverd.control.socket_file import SocketFile

__all__ = ["ControlServer"]

log = logging.getLogger("serverd.control")

# Connections at a time. One operator needs one, a monitor another; more idle ones make way for new ones.
MOST_CLIENTS = 32
# Bytes that may wait for a client that does not read: the status of a thousand workers has some 300 KiB.
REPLY_LIMIT = 4 * 1024 * 1024
READ_SIZE = 16 * 1024
# Connections taken at a time, so that the supervisor gets to its work: as many as there can be.
ACCEPTS_AT_ONCE = MOST_CLIENTS

# What accept says when no descriptor is left (accept(2)).
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


class _Client:
    """One connection of an operator's command."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.socket = sock
        self.incoming = b""
        self.outgoing = b""
        self.is_heard = False  # its requests are being handed on just now
        self.is_waiting = False  # for the reply to its request
        self.is_leaving = False  # it has sent its last: what waits for it is still sent
        self.watched = 0  # what the selector waits for

    @property
    def is_idle(self) -> bool:
        """Whether it is owed nothing."""
        return not self.is_waiting and not self.outgoing

    @property
    def wanted(self) -> int:
        """What there is to wait for."""
        if self.outgoing:
            return selectors.EVENT_WRITE
        # Also while it waits for a reply: that is how its going away is noticed.
        return 0 if self.is_leaving or len(self.incoming) > LINE_LIMIT else selectors.EVENT_READ


class ControlServer:
    """The control socket and its clients; without `open` it is none and has none."""

    def __init__(self, selector: selectors.BaseSelector, on_request: Callable[[int, Request], None]) -> None:
        self._selector = selector
        self._on_request = on_request
        self._file: SocketFile | None = None
        self._clients: dict[int, _Client] = {}  # the oldest first
        self._numbers = itertools.count(1)  # never used again: a late reply must not reach another client
        self._spare: int | None = None

    @property
    def path(self) -> str:
        """Where it listens; empty when it does not."""
        return self._file.path if self._file else ""

    def open(self, path: str, *, replace: bool = False) -> None:
        """Listen at `path`, and no longer where it did before; nothing happens when it does so already.

        `replace` takes the path from the server that listens there. Raises BindError, and then all is as before.
        """
        if self._file is not None and self._file.path == path and self._file.is_ours:
            return
        file = SocketFile.open(path, replace=replace)
        self.withdraw()
        self._file = file
        self._spare = _spare_descriptor()
        self._selector.register(file.socket, selectors.EVENT_READ, partial(self._on_connection, file))

    def withdraw(self, *, keep: bool = False) -> None:
        """Stop listening; whoever has asked still gets its answer. `keep` leaves the file where it is."""
        if self._file is not None:
            self._selector.unregister(self._file.socket)
            self._file.close(keep=keep)
            self._file = None
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def close(self, *, keep: bool = False) -> None:
        """Stop listening and leave every client, which is what tells one that waits for the end."""
        self.withdraw(keep=keep)
        for client in list(self._clients.values()):
            self._leave(client)

    def reply(self, number: int, document: Mapping[str, Any], end: bool = True) -> None:
        """Answer the request that came with `number`; `end` false says that more will come, or the end of us.

        A client that has gone meanwhile gets nothing, and that is no error.
        """
        client = self._clients.get(number)
        if client is None or not client.is_waiting:
            return
        client.is_waiting = not end
        self._send(client, document if end else {**document, "more": True})
        self._proceed(client)

    # What the selector calls; a client may have gone since it looked.

    def _on_connection(self, file: SocketFile, _: int) -> None:
        if file is not self._file:
            return
        for _attempt in range(ACCEPTS_AT_ONCE):
            try:
                sock, _address = file.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Without a free descriptor the queue would stay readable and keep the supervisor spinning.
                if error.errno not in _NO_DESCRIPTOR or not self._turn_away(file):
                    return
            else:
                self._welcome(sock)

    def _on_client(self, number: int, mask: int) -> None:
        client = self._clients.get(number)
        if client is None:
            return
        if mask & selectors.EVENT_WRITE:
            self._flush(client)
        elif mask & selectors.EVENT_READ:
            self._receive(client)
        self._proceed(client)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            uid = peer_uid(sock)
        except OSError:
            sock.close()
            return
        if not is_trusted(uid):
            log.warning("control socket: refused a connection of user %s", uid)
            sock.close()
            return
        client = _Client(next(self._numbers), sock)
        has_room = self._make_room()
        self._clients[client.number] = client
        if has_room:
            self._watch(client)
        else:
            self._refuse(client, f"{MOST_CLIENTS} clients wait for an answer already: try again later")

    def _make_room(self) -> bool:
        """Leave the one that has been there for longest and can be spared, if need be; return whether there is room."""
        if len(self._clients) < MOST_CLIENTS:
            return True
        clients = self._clients.values()
        for candidates in ((one for one in clients if one.is_idle), (one for one in clients if one.is_leaving)):
            if client := next(candidates, None):
                self._leave(client)
                return True
        return False

    def _turn_away(self, file: SocketFile) -> bool:
        """Take a connection with the descriptor kept for that, and end it; return whether that was possible."""
        if self._spare is None:
            return False
        os.close(self._spare)
        try:
            file.socket.accept()[0].close()
        except OSError:
            return False
        finally:
            self._spare = _spare_descriptor()
        log.warning("control socket: refused a connection: too many open files")
        return True

    # One client

    def _receive(self, client: _Client) -> None:
        try:
            data = client.socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self._leave(client)
            return
        client.incoming += data
        client.is_leaving = not data

    def _proceed(self, client: _Client) -> None:
        """Go on with what the client has sent, and wait for what it wants next, or leave it."""
        if client.is_heard:  # a reply at once, while the loop below runs
            return
        client.is_heard = True
        while client.is_idle and client.number in self._clients and self._hear(client):
            pass
        client.is_heard = False
        if client.is_idle and client.is_leaving:
            self._leave(client)
        self._watch(client)

    def _hear(self, client: _Client) -> bool:
        """Hand on the next request, or refuse it; return whether there was one."""
        line, newline, rest = client.incoming.partition(b"\n")
        if len(line) > LINE_LIMIT:
            self._refuse(client, f"a request has at most {LINE_LIMIT // 1024} KiB")
            return False
        if not newline:
            return False
        client.incoming = rest
        try:
            request = parse_request(line)
        except RequestError as error:
            self._refuse(client, str(error))
            return False
        client.is_waiting = True
        self._on_request(client.number, request)
        return True

    def _send(self, client: _Client, document: Mapping[str, Any]) -> None:
        data = encode(document)
        if client.outgoing and len(client.outgoing) + len(data) > REPLY_LIMIT:
            self._leave(client)
            return
        client.outgoing += data
        self._flush(client)
        self._watch(client)

    def _flush(self, client: _Client) -> None:
        try:
            while client.outgoing:
                client.outgoing = client.outgoing[client.socket.send(client.outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self._leave(client)

    def _refuse(self, client: _Client, error: str) -> None:
        """Say why, and end the connection: what follows has no meaning any more."""
        client.incoming = b""
        client.is_leaving = True
        self._send(client, {"ok": False, "error": error})
        self._proceed(client)

    def _watch(self, client: _Client) -> None:
        """Let the selector wait for what is wanted of the client."""
        if client.number not in self._clients:
            return
        wanted = client.wanted
        if wanted == client.watched:
            return
        if not client.watched:
            self._selector.register(client.socket, wanted, partial(self._on_client, client.number))
        elif not wanted:
            self._selector.unregister(client.socket)
        else:
            self._selector.modify(client.socket, wanted, partial(self._on_client, client.number))
        client.watched = wanted

    def _leave(self, client: _Client) -> None:
        if self._clients.pop(client.number, None) is None:
            return
        if client.watched:
            self._selector.unregister(client.socket)
        client.socket.close()


def _spare_descriptor() -> int | None:
    """Return a descriptor that is there to be closed when there is none left; None when there is none even now."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
