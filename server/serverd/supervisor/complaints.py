"""What has been said of certificates that cannot be used: once for what their files hold, until that is something else.

Pure, a part of the fleet; `transaction` asks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serverd.config.expiry import KEPT
from serverd.generation import Generation
from serverd.supervisor.certificates import certificates

__all__ = ["Complaints"]


@dataclass(slots=True)
class Complaints:
    """What was said last."""

    _complaint: str = ""  # why the last renewal has failed; "": it has not
    _refused: frozenset[str] = frozenset()  # the digests of what cannot be used and has been told of

    def hear_loaded(self, generation: Generation, *, is_renewal: bool) -> list[str]:
        """Return the warnings of a generation that was read, but those that were said before.

        Of a pair that is kept although another is renewed, why it cannot be used may have been said when it was alone.
        """
        refused = _refused(generation)
        is_said = is_renewal and refused <= self._refused
        said = {f"{line}{KEPT}" for line in self._complaint.splitlines() if is_said}
        self._complaint = ""
        if is_renewal:
            self._refused = refused
        return [warning for warning in generation.warnings if warning not in said]

    def hear_failed(self, reason: str, refused: Sequence[str], *, is_renewal: bool) -> bool:
        """Take note of why something could not be read; return whether that was said before, of the same files."""
        is_known = is_renewal and bool(refused) and self._refused.issuperset(refused)
        self._refused = frozenset(refused) or self._refused
        self._complaint = reason if is_renewal else ""
        return is_known

    def hear_committed(self, generation: Generation) -> None:
        """Take note of what serves."""
        self._refused = _refused(generation)


def _refused(generation: Generation) -> frozenset[str]:
    return frozenset(one.refused for _, one in certificates(generation) if one.refused)
