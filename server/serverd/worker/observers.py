"""Who is told of the requests of each mount: the access log, where there is one.

`process` makes it once for a worker, `serving` asks it whenever it builds routes.
"""

from __future__ import annotations

from serverd.asgi.observer import UNOBSERVED, MountObserver
from serverd.generation import AppTarget, Mount
from serverd.observe.access import AccessLog, AccessObserver
from serverd.observe.access_fields import Place

__all__ = ["Observers"]


class Observers:
    """The observers of one worker."""

    def __init__(self, access_log: AccessLog | None = None, slot: int = 0) -> None:
        """Have requests logged by `access_log`."""
        self.access_log = access_log
        self._slot = slot

    def of_mount(self, listener: str, mount: Mount | None) -> MountObserver:
        """Return the observer of a mount on a listener; None: of what the listener answers without one."""
        access_log = self.access_log
        if access_log is None or not access_log.is_enabled or (mount is not None and not mount.access_log):
            return UNOBSERVED
        app = mount.target.app if mount is not None and isinstance(mount.target, AppTarget) else "serverd"
        return AccessObserver(access_log, Place(listener, "" if mount is None else mount.path, app, self._slot))
