"""Whether a server already serves a configuration, by its control socket; for commands that must not disturb it."""

from __future__ import annotations

from dataclasses import dataclass

from serverd.control.client import ControlClient, ControlError

__all__ = ["Running", "find_running"]

# Seconds for its answer: the supervisor tells its status at once unless something is very wrong.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    pid: int
    places: tuple[tuple[str, str], ...]  # where it is reached: listener and URL

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is reached."""
        return tuple(url for _, url in self.places)


def find_running(source: str, control_socket: str) -> Running | None:
    """Return the server of the configuration at `source`, an absolute path; None when there is none we may ask."""
    if not control_socket:
        return None
    try:
        with ControlClient(control_socket) as client:
            status = client.ask({"command": "status"}, PATIENCE)
        if status["source"] != source:
            return None
        places = ((str(one["name"]), str(one["url"])) for one in status["listeners"])
        return Running(int(status["pid"]), tuple(places))
    except (ControlError, LookupError, TypeError, ValueError):  # or what is no status of this version
        return None
