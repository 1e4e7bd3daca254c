"""What the service manager is told: the protocol of sd_notify(3), without its library.

One datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names. Without that variable
nothing is sent; nothing here blocks or raises, because a service that cannot be reported still
serves. Which event is worth a word is not decided here. `supervisor` calls it.

Only the main process is listened to (NotifyAccess=main in config/serverd.service), so an application
cannot speak for the service, and in an upgrade the order decides: the old supervisor sends
`main_pid` of the new one as its last word; what it sends after that is ignored, as is what the
new one sends before.
"""

from __future__ import annotations

import logging
import os
import socket
import time

from serverd.errors import reason_of
from serverd.observe.logs import escape

__all__ = ["Notifier"]

log = logging.getLogger("serverd.supervisor")

# Bytes of a status. systemd throws a datagram above PIPE_BUF (4096) away as a whole (manager.c,
# NOTIFY_BUFFER_MAX), and `systemctl status` shows one line.
_STATUS_SIZE = 1024
# Seconds until what a full queue did not take is sent once more: nothing tells when there is room.
_RETRY_INTERVAL = 1.0


class Notifier:
    """The service manager that started this process, or nobody."""

    def __init__(self, address: str = "", watchdog_usec: int = 0) -> None:
        """Speak to the datagram socket at `address` (path, or @name in the abstract namespace); "" is nobody."""
        self._address = address
        self._watchdog_usec = watchdog_usec if address else 0
        # Seconds between two words to the watchdog: half of what is allowed, as sd_watchdog_enabled(3)
        # recommends; None: nobody watches.
        self.watchdog_interval: float | None = self._watchdog_usec / 2_000_000 or None
        self._watchdog_due = None if self.watchdog_interval is None else 0.0  # at once; of the monotonic clock
        self._retry_due: float | None = None
        self._unsent: dict[str, str] = {}  # by name of the first field, in order; only the latest of each counts

    @classmethod
    def from_environment(cls) -> Notifier:
        """Return the notifier for the manager that the environment names, and remove it from there.

        No child is to speak for the service, or to believe that it is watched.
        """
        address = os.environ.pop("NOTIFY_SOCKET", "")
        usec = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        if address[:1] not in {"", "/", "@"}:
            # vsock:CID:PORT is how a virtual machine talks to its host, about the machine and not about a service.
            log.debug("the service manager is not told anything: no unix socket: NOTIFY_SOCKET=%s", address)
            address = ""
        watched = usec.isascii() and usec.isdigit() and pid in {"", str(os.getpid())}
        return cls(address, int(usec[:20]) if watched else 0)

    def environment(self) -> dict[str, str]:
        """Return what lets a successor's `from_environment` speak to the same manager.

        Without WATCHDOG_PID, which would be ours: that stands for whoever gets the variables.
        """
        variables = {"NOTIFY_SOCKET": self._address} if self._address else {}
        return variables | ({"WATCHDOG_USEC": str(self._watchdog_usec)} if self._watchdog_usec else {})

    def ready(self) -> None:
        """Tell that the start, or the reload that `reloading` announced, has ended; also one that was rolled back."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun.

        With the time, by which Type=notify-reload tells the answer to its signal from an earlier reload.
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Tell that the service is about to end."""
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """Tell in one line what the service does, for `systemctl status`; cut to 1 KiB."""
        line = escape(text).encode()[:_STATUS_SIZE].decode(errors="ignore")
        self._notify(f"STATUS={line}")

    def main_pid(self, pid: int) -> None:
        """Tell that `pid` is the main process from now on; the last word of an old supervisor."""
        self.watchdog_interval = self._watchdog_due = None
        self._notify(f"MAINPID={pid}")

    @property
    def due(self) -> float | None:
        """When `attend` has something to do, in seconds of the monotonic clock; None: never."""
        return min((due for due in (self._watchdog_due, self._retry_due) if due is not None), default=None)

    def attend(self, now: float) -> None:
        """Tell that the supervisor is alive, if that is due, and what a full queue did not take before."""
        if self._retry_due is not None and now >= self._retry_due:
            self._flush()
        if self.watchdog_interval is not None and self._watchdog_due is not None and now >= self._watchdog_due:
            self._notify("WATCHDOG=1")
            self._watchdog_due = now + self.watchdog_interval

    def _notify(self, message: str) -> None:
        """Send what is left and `message`; what a full queue does not take is left for the next call, or `attend`."""
        if not self._address:
            return
        name = message.partition("=")[0]
        self._unsent.pop(name, None)
        self._unsent[name] = message
        self._flush()

    def _flush(self) -> None:
        self._retry_due = None
        try:
            self._send()
        except BlockingIOError:
            self._retry_due = time.monotonic() + _RETRY_INTERVAL
            log.debug("the service manager does not read: %s has to wait", ", ".join(self._unsent))
        except OSError as error:
            log.debug("the service manager was not told %s: %s", ", ".join(self._unsent), reason_of(error))
            self._unsent.clear()

    def _send(self) -> None:
        """Send the unsent messages in their order; raises OSError, with those that were not sent still there."""
        address = os.fsencode(self._address)
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            for name, message in list(self._unsent.items()):
                sock.sendto(message.encode(), address)
                del self._unsent[name]
