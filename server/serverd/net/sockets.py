"""Binding, adopting and describing single listening sockets: the only place of serverd that binds those of listeners.

It knows no generations and no workers (`bindings` does), accepts nothing and needs no event loop.
`binding`, `bindings`, `inheritance` and `plan` call it, in the supervisor. Functions raise OSError as
the kernel said it, or BindError with the bare reason; `refusal` turns either into the sentence for the operator.

Two servers must not share a port unnoticed, although SO_REUSEPORT lets any process of the same
user join in. So each TCP endpoint is first probed by a socket without SO_REUSEPORT, which fails
beside anybody's listening socket, and then held by a guard: bound, never listening, and with
SO_REUSEADDR taken away again, so that other servers fail beside it even before we listen. Several
serverds that start at the same instant take turns.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator

from serverd.errors import BindError, reason_of
from serverd.generation import Address
from serverd.net.endpoints import EVERYWHERE_4, EVERYWHERE_6, Access, Endpoint
from serverd.net.socket_files import Identity, change_access, new_identity, unix_identity

__all__ = [
    "SPREADS",
    "adopt",
    "describe",
    "examine_unix",
    "is_listening",
    "open_guard",
    "open_tcp",
    "open_unix",
    "refusal",
    "resolve",
]

# Only Linux spreads connections over the listening sockets that share a TCP port by SO_REUSEPORT
# (socket(7)); elsewhere the option exists but the newest socket may get everything.
SPREADS = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")

# What a kernel or machine without IPv6, or without that one address, answers.
UNAVAILABLE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})

# Seconds between two tries to be the only one who opens a port, and how many: a turn takes a tenth of the wait.
TURN_WAIT = 0.002
TURN_TRIES = 100

REMEDIES = {
    errno.EADDRINUSE: "another process holds it",
    errno.EADDRNOTAVAIL: "no interface of this machine has it",
}


def resolve(address: Address) -> tuple[Endpoint, ...]:
    """Return the endpoints that a TCP address stands for; a host name may have several.

    Raises BindError when a host name does not resolve.
    """
    if not address.host:
        if _has_ipv6():
            return (Endpoint(socket.AF_INET6, EVERYWHERE_6, address.port, dual=True),)
        return (Endpoint(socket.AF_INET, EVERYWHERE_4, address.port),)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise BindError(f"the name {address.host} does not resolve ({reason_of(error)})") from error
    endpoints: dict[Endpoint, None] = {}  # a dict keeps the resolver's order and drops its repetitions
    for family, _, _, _, sockaddr in found:
        scope = int(sockaddr[3]) if len(sockaddr) == 4 else 0
        endpoints[Endpoint(family, str(sockaddr[0]), int(sockaddr[1]), scope)] = None
    return tuple(endpoints)


def open_guard(endpoint: Endpoint, *, beside_own: bool) -> socket.socket:
    """Return a bound socket that keeps the endpoint from other servers and, for port 0, has chosen the port.

    `beside_own`: an overlapping socket of ours is open, so that a probe could not tell who is there.
    Raises OSError when the endpoint is taken or not allowed.
    """
    with _turn(endpoint.port):
        if endpoint.port and not beside_own:
            with _tcp(endpoint) as probe:
                probe.bind(endpoint.sockaddr)
                probe.listen(1)  # the kernel looks closer here than in bind: it also sees a guard
        return _guard(endpoint)


def _guard(endpoint: Endpoint) -> socket.socket:
    guard = _tcp(endpoint)
    try:
        if SPREADS:
            guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        guard.bind(endpoint.sockaddr)
        if SPREADS:
            # SO_REUSEADDR was needed to bind beside connections in TIME_WAIT; from here on it would
            # let another server bind beside the guard.
            guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        guard.close()
        raise
    return guard


def open_tcp(endpoint: Endpoint) -> socket.socket:
    """Return a socket bound beside the endpoint's guard; the worker that takes it lets it listen.

    Raises OSError as the kernel says it.
    """
    sock = _tcp(endpoint)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(endpoint.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def open_unix(path: str, access: Access, backlog: int) -> tuple[socket.socket, Identity]:
    """Return a listening unix socket at `path`, and its file, with its permissions in place before it listens.

    It listens at once, unlike TCP: that is the only sign by which another server sees it is no
    stale file. Raises OSError, or BindError when something that is not ours to replace is in the way.
    """
    _clear_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    # bind creates the file with 0777 less the umask; the process is single-threaded here, so a
    # changed umask harms nobody.
    umask = None if access.mode is None else os.umask(0o777 & ~access.mode)
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    finally:
        if umask is not None:
            os.umask(umask)
    identity = None
    try:
        identity = new_identity(path)
        change_access(path, access, identity)
        sock.listen(backlog)
    except BaseException:
        if identity is not None and unix_identity(path) == identity:  # what took its place is not ours to remove
            os.unlink(path)
        sock.close()
        raise
    return sock, identity


def examine_unix(path: str) -> None:
    """Raise OSError or BindError when `open_unix` would, as far as is seen without changing anything."""
    _find_stale(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BindError("nothing can be put into its directory: permission denied")


def adopt(fd: int) -> socket.socket:
    """Return a socket of our own for the listening descriptor `fd` that the supervisor inherited.

    `fd` itself stays open for good: its number is the operator's word for it and must never come
    to mean a file of ours. Raises BindError when it is no listening stream socket.
    """
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise BindError("no such descriptor was inherited") from error
    if not is_socket:
        raise BindError("it is not a socket, expected a listening stream socket")
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=os.dup(fd))
    if sock.type != socket.SOCK_STREAM or not is_listening(sock):
        sock.close()
        raise BindError("it is not a listening stream socket")
    sock.setblocking(False)
    return sock


def is_listening(sock: socket.socket) -> bool:
    """Return whether `listen` has been called on the socket, by whichever process."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def describe(sock: socket.socket) -> str:
    """Return where a bound socket is reached, such as `http://127.0.0.1:8000` or `unix:/run/shop.sock`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    if sock.family == socket.AF_INET6:
        return f"http://[{name[0]}]:{name[1]}"
    return f"http://{name[0]}:{name[1]}"


def refusal(address: Address, error: OSError | BindError) -> str:
    """Return the sentence that tells the operator why `address` cannot be bound."""
    remedy = REMEDIES.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    if isinstance(error, PermissionError) and 0 < address.port < 1024:
        remedy = "ports below 1024 need CAP_NET_BIND_SERVICE"
    elif isinstance(error, FileNotFoundError):
        remedy = "the directory of the socket must exist"
    return f"cannot bind {address.text}: {reason_of(error)}" + (f" ({remedy})" if remedy else "")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind((EVERYWHERE_6, 0))
    except OSError:
        return False
    return True


def _tcp(endpoint: Endpoint) -> socket.socket:
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if endpoint.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if endpoint.dual else 1)
    return sock


@contextlib.contextmanager
def _turn(port: int) -> Iterator[None]:
    """Wait until no other serverd of this machine is between probe and guard: each would miss the other."""
    if not SPREADS:  # then a guard alone excludes others
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as turn:
        for tries_left in reversed(range(TURN_TRIES)):
            try:
                # An abstract name (unix(7)) is known just where the port is, in the network namespace, and
                # is free again however its holder ends.
                turn.bind(f"\0serverd/port/{port}")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                # Whoever holds it for longer is no serverd, and must not keep us from starting.
                time.sleep(TURN_WAIT if tries_left else 0)
        yield


def _clear_way(path: str) -> None:
    """Remove a stale socket file; BindError when what is at `path` is somebody's."""
    if _find_stale(path):
        os.unlink(path)


def _find_stale(path: str) -> bool:
    """Return whether a socket file is left at `path` that nobody serves; BindError when it is somebody's."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise BindError("a file that is not a socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except FileNotFoundError:
            return False
        except ConnectionRefusedError:
            return True
        except BlockingIOError:  # its queue is full: somebody does listen
            pass
    raise BindError("address already in use (another process listens on it)")
