"""What mypyc would make of the modules that benchmarks/compiled.py has it compile, where it says nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "server" / "serverd"


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
    for package in ("protocol", "asgi", "connection"):
        for file in sorted((PACKAGES / package).glob("*.py")):
            tree = ast.parse(file.read_text())
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
