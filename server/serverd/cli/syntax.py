"""The ASGI applications that one Python file defines, by its syntax: nothing is imported or run.

What can be told with certainty is told, and no more: objects that a known framework makes, functions and classes with
the signature of ASGI 3, and factories that make one of the former. `discovery` decides what becomes of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Definition", "Source", "read_source"]

# What makes an application, by the package that it is imported from, wherever within.
_FRAMEWORKS = {
    ("a2wsgi", "WSGIMiddleware"): "WSGI by a2wsgi",
    ("asgiref", "WsgiToAsgi"): "WSGI by asgiref",
    ("blacksheep", "Application"): "BlackSheep",
    ("channels", "ProtocolTypeRouter"): "Django Channels",
    ("connexion", "AsyncApp"): "Connexion",
    ("django", "get_asgi_application"): "Django",
    ("falcon", "App"): "Falcon",  # falcon.asgi.App; that of WSGI is falcon.App
    ("fastapi", "FastAPI"): "FastAPI",
    ("litestar", "Litestar"): "Litestar",
    ("quart", "Quart"): "Quart",
    ("sanic", "Sanic"): "Sanic",
    ("socketio", "ASGIApp"): "Socket.IO",
    ("starlette", "Starlette"): "Starlette",
}
_FALCON = "falcon.asgi."
_PLAIN = "ASGI"
_PARAMETERS = ("scope", "receive", "send")
_FACTORIES = ("create_app", "make_app", "get_app", "build_app", "create_application", "app_factory")
# Of several functions with the right signature, the one that is meant to be found.
_USUAL = ("app", "application")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Definition:
    """One application."""

    attribute: str
    kind: str  # the framework
    line: int
    is_factory: bool = False


@dataclass(slots=True)
class Source:
    """What a file says."""

    definitions: list[Definition] = field(default_factory=list)
    mounted: set[str] = field(default_factory=set)  # dotted names of what is in another application, or makes one
    imports: set[str] = field(default_factory=set)  # dotted names of all that it imports absolutely
    is_in_package: bool = False  # it imports relatively


def read_source(code: bytes, package: str = "") -> Source:
    """Return what the file with this content says; `package` is the dotted name of the one that it is in.

    Raises SyntaxError, ValueError, RecursionError or MemoryError for what Python cannot read.
    """
    tree = ast.parse(code)
    reader = _Reader(tree, package)
    return Source(reader.definitions(), reader.mounted(), reader.imports, reader.is_in_package)


class _Reader:
    """Looks through one syntax tree."""

    def __init__(self, tree: ast.Module, package: str) -> None:
        self._tree = tree
        self._names: dict[str, str] = {}  # what is imported, by the name that it has here
        self.imports: set[str] = set()
        self.is_in_package = False
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._note_import(node)
            elif isinstance(node, ast.ImportFrom):
                self._note_import_from(node, package)
        self._functions = {node.name: node for node in _top_level(tree.body) if isinstance(node, Function)}
        self._classes = {node.name: node for node in _top_level(tree.body) if isinstance(node, ast.ClassDef)}

    def _note_import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports.add(alias.name)
            name = alias.asname or alias.name.partition(".")[0]
            self._names[name] = alias.name if alias.asname else name

    def _note_import_from(self, node: ast.ImportFrom, package: str) -> None:
        base = node.module or ""
        if node.level:
            self.is_in_package = True
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
            base = ".".join([*above, *filter(None, [node.module])])
        else:
            self.imports.update(f"{base}.{alias.name}" for alias in node.names)
        for alias in node.names:
            self._names[alias.asname or alias.name] = f"{base}.{alias.name}"

    # What is defined

    def definitions(self) -> list[Definition]:
        """Return the applications: objects, else functions, else factories."""
        return list(self._objects()) or list(self._plain_functions()) or list(self._factories())

    def _objects(self) -> Iterator[Definition]:
        found: dict[str, Definition] = {}
        for node in _top_level(self._tree.body):
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            kind = self._kind_of(value)
            for target in targets:
                if kind and isinstance(target, ast.Name):
                    found.setdefault(target.id, Definition(target.id, kind, node.lineno))
        yield from found.values()

    def _kind_of(self, value: ast.expr | None) -> str:
        """Return which framework's application the value is; "" for any other value."""
        if not isinstance(value, ast.Call):
            return ""
        framework = self._framework(value.func)
        if not framework and self._dotted(value.func).rpartition(".")[2] in _FACTORIES:
            return _PLAIN  # by a factory of another file
        if framework or not isinstance(value.func, ast.Name):
            return framework
        made = self._functions.get(value.func.id)
        if made is not None and not isinstance(made, ast.AsyncFunctionDef):
            return self._made_by(made)
        called = self._classes.get(value.func.id)
        methods = () if called is None else called.body
        is_plain = any(isinstance(one, Function) and one.name == "__call__" and _is_asgi(one) for one in methods)
        return _PLAIN if is_plain and not value.args and not value.keywords else ""

    def _framework(self, func: ast.expr) -> str:
        dotted = self._dotted(func)
        if dotted.startswith("falcon.") and not dotted.startswith(_FALCON):
            return ""
        return _FRAMEWORKS.get((dotted.partition(".")[0], dotted.rpartition(".")[2]), "")

    def _dotted(self, node: ast.expr) -> str:
        """Return the dotted name of what a name or an attribute leads to; "" for any other expression."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def _plain_functions(self) -> Iterator[Definition]:
        fitting = [node for node in self._functions.values() if _is_asgi(node)]
        chosen = [node for node in fitting if node.name in _USUAL] or (fitting if len(fitting) == 1 else [])
        yield from (Definition(node.name, _PLAIN, node.lineno) for node in chosen)

    def _factories(self) -> Iterator[Definition]:
        for node in self._functions.values():
            kind = self._made_by(node) if isinstance(node, ast.FunctionDef) and node.name in _FACTORIES else ""
            if kind and not _is_in_need(node):
                yield Definition(node.name, kind, node.lineno, is_factory=True)

    def _made_by(self, function: Function) -> str:
        """Return which framework's application a function makes, by what it calls."""
        calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
        return next(filter(None, map(self._framework, calls)), "")

    # What is in another

    def mounted(self) -> set[str]:
        """Return the dotted names of what `mount(...)` or `Mount(...)` is given, and of factories that are called.

        Those of this file are without dots.
        """
        found: set[str] = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and _last_name(node.func) in ("mount", "Mount", "ProtocolTypeRouter"):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                for part in (part for value in given for part in ast.walk(value)):
                    if isinstance(part, ast.Name):
                        found.add(self._names.get(part.id, part.id))
                    elif isinstance(part, ast.Attribute):
                        found.add(self._dotted(part))
            elif isinstance(node, ast.Call) and self._dotted(node.func).rpartition(".")[2] in _FACTORIES:
                found.add(self._dotted(node.func))  # its product is what is served
        return found - {""}


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, without those of functions and classes."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            if not _is_main_guard(node.test):
                yield from _top_level(node.body)
            yield from _top_level(node.orelse)
        elif isinstance(node, ast.Try):
            yield from _top_level([*node.body, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With):
            yield from _top_level(node.body)


def _is_main_guard(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def _is_asgi(node: Function) -> bool:
    """Return whether a function has the signature of an ASGI 3 application."""
    names = [item.arg for item in (*node.args.posonlyargs, *node.args.args)]
    return isinstance(node, ast.AsyncFunctionDef) and tuple(names[-len(_PARAMETERS) :]) == _PARAMETERS


def _is_in_need(node: Function) -> bool:
    """Return whether a function cannot be called without arguments."""
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    return positional > len(arguments.defaults) or None in arguments.kw_defaults


def _last_name(func: ast.expr) -> str:
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
