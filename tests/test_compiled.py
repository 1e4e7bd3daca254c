"""What mypyc would make of the modules that tools/backend.py has it compile, where it says nothing."""

from __future__ import annotations

import ast
import asyncio
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.asgi.exchange import State
from serverd.asgi.fields import check_fields
from serverd.errors import ResponseError
from serverd.protocol.partial_head import NOTHING_READ
from tests.support.applications import Manual
from tests.support.wire import Wire
from tools import backend


def attributes(definition: ast.ClassDef, kinds: type[ast.stmt] | tuple[type[ast.stmt], ...]) -> set[str]:
    """Return the attributes that statements of these kinds give to a class, or to `self`."""
    found = set()
    for statement in ast.walk(definition):
        if isinstance(statement, kinds):
            assert isinstance(statement, ast.Assign | ast.AnnAssign)
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    found.add(target.attr)
                elif isinstance(target, ast.Name) and statement in definition.body:
                    found.add(target.id)
    return found


def classes() -> Iterator[ast.ClassDef]:
    for name in backend.sources():
        tree = ast.parse((backend.ROOT / name).read_text())
        yield from (one for one in ast.walk(tree) if isinstance(one, ast.ClassDef))


def test_no_class_declares_an_attribute_again_that_its_base_has() -> None:
    """It would be counted twice by the garbage collector, which then frees no circle that leads through it."""
    known = {one.name: one for one in classes()}
    assert "Exchange" in known
    found = []
    for name, definition in known.items():
        bases = [base.id for base in definition.bases if isinstance(base, ast.Name)]
        while bases:
            base = known.get(bases.pop())
            if base is not None:
                again = attributes(definition, ast.AnnAssign) & attributes(base, (ast.Assign, ast.AnnAssign))
                found += [f"{name}.{attribute}" for attribute in again]
                bases += [one.id for one in base.bases if isinstance(one, ast.Name)]
    assert not found


def test_no_setter_declares_what_mypyc_would_take_apart() -> None:
    """A tuple, or a number, of which it makes a value of C that it then never frees, as often as Python sets one."""
    found = []
    for definition in classes():
        for method in definition.body:
            if isinstance(method, ast.FunctionDef) and any(map(is_setter, method.decorator_list)):
                given = method.args.args[1].annotation
                found.append(f"{definition.name}.{method.name}: {ast.unparse(given) if given else 'Any'}")
    assert found == ["PartialHead.shown: object"]


def is_setter(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Attribute) and decorator.attr == "setter"


def test_what_is_set_and_not_kept_is_freed() -> None:
    text = "".join(["of", "a", "line"])
    before = sys.getrefcount(text)
    for _ in range(10):
        NOTHING_READ.shown = ((), text, text)
    assert sys.getrefcount(text) == before


class Awaited:
    """Keeps its awaiter waiting, and what that hands on to it."""

    thrown: tuple[Any, ...] = ()

    def __await__(self) -> Awaited:
        return self

    def __iter__(self) -> Awaited:
        return self

    def __next__(self) -> None:
        pass

    def throw(self, *given: Any) -> None:
        self.thrown = given
        raise given[0]


def test_what_is_thrown_at_a_wait_is_handed_on_as_one_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as its type, itself and its traceback: from 3.12 on, a future warns of that instead of being cancelled."""
    awaited, application = Awaited(), Manual()
    monkeypatch.setitem(State.START.actions, "wait", lambda cycle, message: awaited)
    with Wire(application) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        sending = application.call.send({"type": "wait"})
        sending.send(None)
        error = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            sending.throw(error)
        assert awaited.thrown == (error,)


def test_what_an_error_of_an_application_was_raised_amid_is_hidden_by_more_than_from_none() -> None:
    """Which mypyc leaves out; the others are not logged with a traceback."""
    found = []
    for name in backend.sources():
        for statement in ast.walk(ast.parse((backend.ROOT / name).read_text())):
            if isinstance(statement, ast.Raise) and statement.cause is not None:
                assert statement.exc is not None
                error = ast.unparse(statement.exc)
                if error.startswith("ResponseError"):
                    found.append(f"{name}:{statement.lineno}: {error}")
    assert not found


def test_a_header_that_is_no_pair_is_logged_without_how_that_was_noticed() -> None:
    with pytest.raises(ResponseError) as caught:
        check_fields([(b"x",)])
    assert "During handling" not in "".join(traceback.format_exception(caught.value))


def test_the_runtime_of_mypyc_is_the_one_that_is_mended() -> None:
    assert backend.MENDED_THROW in backend._mended_runtime()


def test_another_runtime_is_not_compiled_unmended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "THROW", "another call")
    with pytest.raises(SystemExit, match=r"misc_ops\.c of this mypy does not hand on exceptions as .* expects"):
        backend._mended_runtime()
