"""Who is told of the requests of each mount: the counters, and the access log where there is one.

`process` gives it the access log, `serving` and `routes` ask it whenever routes are built.
"""

from __future__ import annotations

from serverd.asgi.observer import UNOBSERVED, MountObserver, RefusalObserver
from serverd.generation import AppTarget, Listener, Mount
from serverd.observe.access import AccessLog, AccessObserver
from serverd.observe.access_fields import Place
from serverd.observe.counters import ELSEWHERE, key_of
from serverd.worker.counting import Counters, ListenerCounts, MountCounts

__all__ = ["Observers"]


class Observers:
    """The observers of one worker."""

    def __init__(self, counters: Counters, access_log: AccessLog | None = None, slot: int = 0) -> None:
        """Have requests counted by `counters`, and logged by `access_log`."""
        self.access_log = access_log
        self._counters = counters
        self._slot = slot

    def of_mount(self, listener: Listener, mount: Mount | None) -> MountCounts:
        """Return the observer of a mount on a listener; None: of what the listener answers without one."""
        return self._counters.mount(ELSEWHERE if mount is None else key_of(mount), self._logger(listener, mount))

    def of_listener(self, listener: Listener) -> RefusalObserver:
        """Return the observer of what a listener refuses."""
        return ListenerCounts(self._counters.row_of(listener.name), self._logger(listener, None))

    def _logger(self, listener: Listener, mount: Mount | None) -> MountObserver:
        access_log = self.access_log
        if access_log is None or not access_log.is_enabled or (mount is not None and not mount.access_log):
            return UNOBSERVED
        app = mount.target.app if mount is not None and isinstance(mount.target, AppTarget) else "serverd"
        path = "" if mount is None else mount.path
        return AccessObserver(
            access_log, Place(listener.name, path, app, self._slot, speaks_tls=listener.tls is not None)
        )
