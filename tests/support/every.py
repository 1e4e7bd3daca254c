"""Many cases in one test: `every` in the place of `pytest.mark.parametrize` for a dozen or more, of a moment each.

What pytest does for a test, collects it in each process and tells of it, takes longer than to try a byte. All cases
are tried, and those that fail are named, as parametrized ones would be; but they share the fixtures of one test. It
skips if one of them does and none fails, and what `pytest.fail` ends, as `pytest.raises` and a time limit do, ends the
rest, too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

__all__ = ["every"]

SHOWN = 20  # failing cases that are named


def every(
    names: str | tuple[str, ...], cases: Iterable[Any], ids: Callable[[Any], object] | Sequence[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a test try all `cases`, values for its arguments `names`, in one go.

    A `pytest.param` may give a case its name, and `ids` all of them theirs, as in pytest. At the end it fails as the
    first that failed did, with the names of all that have.
    """
    single = isinstance(names, str)
    wanted = (names,) if single else names
    tried = [_case(case, single) for case in cases]
    if callable(ids):
        tried = [("-".join(str(ids(value)) for value in values), values) for _, values in tried]
    elif ids is not None:
        tried = [(name, values) for name, (_, values) in zip(ids, tried, strict=True)]
    assert tried, "nothing is tried"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*arguments: Any, **others: Any) -> None:
            failed: list[tuple[str, BaseException]] = []
            skipped: list[BaseException] = []
            for name, values in tried:
                try:
                    test(*arguments, **others, **dict(zip(wanted, values, strict=True)))
                except pytest.skip.Exception as error:
                    skipped.append(error)
                except pytest.fail.Exception as error:  # no Exception: `pytest.raises`, or the time is up
                    failed.append((name, error))
                    break
                except Exception as error:
                    failed.append((name, error))
            if failed:
                shown = ", ".join(name for name, _ in failed[:SHOWN]) + (" ..." if len(failed) > SHOWN else "")
                failed[0][1].add_note(f"this is {failed[0][0]}; {len(failed)} of {len(tried)} fail: {shown}")
                raise failed[0][1]
            if skipped:
                pytest.skip(f"{len(skipped)} of {len(tried)} cases: {skipped[0]}")

        signature = inspect.signature(test)
        left = [one for name, one in signature.parameters.items() if name not in wanted]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run

    return decorate


def _case(case: Any, single: bool) -> tuple[str, tuple[Any, ...]]:
    """Return the name of a case and its values."""
    if hasattr(case, "values") and hasattr(case, "marks"):  # of `pytest.param`
        assert not case.marks, "a case has no marks"
        return case.id or repr(case.values), case.values
    return repr(case), (case,) if single else tuple(case)
