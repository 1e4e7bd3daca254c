"""Whether requests should come here: what the builtin mount `health` answers, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

__all__ = ["Standing"]


class Standing:
    """How one worker stands."""

    def __init__(self, down: Callable[[], Iterable[str]]) -> None:
        """Begin; `down` returns the names of the applications that are not up."""
        self._down = down
        self._leaving: list[asyncio.Event] = []
        self.is_draining = False
        self.reason = ""  # why others should be asked, apart from applications that are down

    def why_not(self) -> str:
        """Return why requests should go elsewhere, or ""."""
        down = sorted(self._down())
        apps = f"app{'s' if len(down) > 1 else ''} {', '.join(down)} {'are' if len(down) > 1 else 'is'} down"
        return self.reason or (apps if down else "")

    def stop_soon(self) -> None:
        """Take note that the server stops after shutdown_delay."""
        self.reason = self.reason or "the server is about to stop"

    def drain(self) -> None:
        """Take note that this worker drains, and wake whoever watches it."""
        self.reason, self.is_draining = "this worker is draining", True
        for event in self._leaving:
            event.set()

    async def rest(self, seconds: float) -> bool:
        """Wait; return at once, with True, when this worker drains."""
        event = asyncio.Event()
        if self.is_draining:
            return True
        self._leaving.append(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._leaving.remove(event)
        return True
