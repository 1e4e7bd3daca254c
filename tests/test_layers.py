"""The layer table of ARCHITECTURE.md, the single owners and the size limits, enforced from the source itself.

Nothing is imported: every statement counts, also those inside a function or under TYPE_CHECKING, because a layer is
about what a module knows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from tests.support.every import every

SOURCE = Path(__file__).parents[1] / "server" / "serverd"
ARCHITECTURE = Path(__file__).parents[1] / "ARCHITECTURE.md"

LAYER_0 = ("errors", "generation")

ALLOWED: dict[str, tuple[str, ...]] = {
    # What each package may import from serverd, beside itself. `generation` is plain data for everyone.
    "errors": (),
    "generation": ("records",),
    "codec": (),
    "der": (),
    "messages": (*LAYER_0, "codec", "records"),
    "parent": (),
    "records": (),
    "version": (),
    "config": (*LAYER_0, "messages", "parent", "der"),
    "protocol": LAYER_0,
    "net": LAYER_0,
    "asgi": (
        *LAYER_0,
        "protocol.head",
        "protocol.partial_head",
        "protocol.forwarded",
        "protocol.websocket",
        "protocol.websocket_deflate",
        "protocol.websocket_frames",
        "protocol.websocket_handshake",
    ),
    "observe": LAYER_0,
    "connection": (*LAYER_0, "der", "protocol", "asgi", "observe"),
    "control": (*LAYER_0, "observe.bundle", "observe.columns", "observe.logs"),
    "worker": (*LAYER_0, "messages", "parent", "protocol", "net", "asgi", "observe", "connection"),
    # Of config only what compares generations and files, and tells the age of certificates: it needs no pydantic.
    "supervisor": (
        *LAYER_0,
        "messages",
        "records",
        "parent",
        "config.changes",
        "config.expiry",
        "config.stamps",
        "net.bindings",
        "net.trial",
        "control",
        "observe",
        "version",
    ),
}

PROCESSES: dict[str, tuple[str, ...]] = {
    # What the module that a process begins with may import beside: the loader asks OpenSSL, which `config` cannot.
    "config.__main__": ("net.tls",),
}

TOP = ("cli", "console", "dev", "embed", "__main__", "__init__")
"""May import anything and are imported by nobody; but that `serverd/__init__` names what is public, lazily."""

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "config": ("asyncio", "socket", "ssl", "subprocess"),
    "protocol": ("asyncio", "socket", "ssl", "time", "logging"),
    "net": ("asyncio",),
    "asgi": ("socket", "ssl"),
    "observe": ("asyncio",),
    "supervisor": ("uvloop",),
}

OWNED_IMPORTS: dict[str, tuple[str, ...]] = {
    # Who may import what is heavy, foreign or powerful.
    "click": ("cli", "console"),
    "h11": ("protocol.http1_h11",),
    "prometheus_client": ("observe.metrics",),
    "httptools": ("protocol.http1_httptools",),
    "pydantic": ("config",),
    "subprocess": ("supervisor.spawn",),
    "multiprocessing": (),
    "tomli": ("config",),
    "trustme": ("dev",),
    "tomllib": (),  # tomli knows TOML 1.1
    "uvloop": ("worker",),
    "watchfiles": ("dev",),
    "websockets": ("protocol.masking",),
}

OWNED_CALLS: dict[str, tuple[str, ...]] = {
    # Who may call what; a name that ends in a star stands for all that begin so.
    "importlib.import_module": ("worker.apps",),
    "import_module": ("worker.apps",),
    "__import__": (),
    "exec": (),
    "eval": (),
    "os.fork*": ("supervisor.spawn", "worker.preloader"),
    "os.posix_spawn*": ("supervisor.spawn",),
    "os.spawn*": ("supervisor.spawn",),
    "os.exec*": ("supervisor.spawn",),
    "os.system": (),
    "os.popen": (),
    "asyncio.create_subprocess*": (),
    "os._exit": ("cli", "config.__main__", "worker.__main__", "worker.preloader", "__main__"),
    "sys.exit": ("cli", "embed", "config.__main__", "worker.__main__", "worker.preloader", "__main__"),
    "exit": (),
    "SystemExit": ("cli", "dev.watcher", "config.__main__", "worker.__main__", "worker.preloader", "__main__"),
    "os.abort": (),
}

BINDERS = ("net.sockets", "control.socket_file")

MODULE_LINES = 349
FUNCTION_LINES = 60
PARAMETERS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file; `name` is its dotted name below serverd."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All of the tree: to walk through it takes longer than what any test looks for."""
        return list(ast.walk(self.tree))

    @property
    def package(self) -> str:
        """The part of the layer table that the module belongs to."""
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and dotted name of everything imported; `from a import b` yields a.b, b a module or not."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = ["serverd", *self.name.split(".")][: -node.level]
                    base = ".".join([*above, *filter(None, [node.module])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def calls(self) -> Iterator[tuple[int, str]]:
        """Yield line and dotted name of every call, as it is written; `raise Name` calls Name."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                yield node.lineno, ast.unparse(node.func)
            elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
                yield node.lineno, node.exc.id

    def functions(self) -> Iterator[Function]:
        """Yield every function and method."""
        for node in self.nodes:
            if isinstance(node, Function):
                yield node


def read(path: Path) -> Module:
    """Return the module in the file `path`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return Module(name, path.read_text())


MODULES = [read(path) for path in sorted(SOURCE.rglob("*.py"))]

each_module = every("module", [pytest.param(module, id=module.name) for module in MODULES])


def within(name: str, owners: tuple[str, ...]) -> bool:
    """Tell whether the dotted `name` is one of `owners` or lies below one."""
    return any(f"{name}.".startswith(f"{owner}.") for owner in owners)


def foreign_layers(module: Module) -> list[str]:
    """Return the imports from serverd that the layer table does not allow."""
    if module.package in TOP:
        return []
    allowed = (module.package, *ALLOWED[module.package], *PROCESSES.get(module.name, ()))
    return [
        f"line {line}: {name}"
        for line, name in module.imports()
        if name.partition(".")[0] == "serverd" and not within(name.removeprefix("serverd."), allowed)
    ]


def forbidden_imports(module: Module) -> list[str]:
    """Return the imports from outside that the module's layer, or an owner, forbids."""
    wrong = []
    for line, name in module.imports():
        owners = OWNED_IMPORTS.get(name.partition(".")[0])
        if within(name, FORBIDDEN.get(module.package, ())) or not (owners is None or within(module.name, owners)):
            wrong.append(f"line {line}: {name}")
    return wrong


def forbidden_calls(module: Module) -> list[str]:
    """Return the calls that belong to another module."""
    wrong = []
    for line, name in module.calls():
        for pattern, owners in OWNED_CALLS.items():
            same = name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
            if same and not within(module.name, owners):
                wrong.append(f"line {line}: {name}")
    return wrong


def bindings(module: Module) -> list[str]:
    """Return the calls that bind sockets.

    `inspect.Signature.bind` is another word, so only a module that knows sockets counts; and a server that asyncio
    makes from an open socket (`sock=`) binds nothing.
    """
    if not any(within(name, ("socket", "asyncio")) for _, name in module.imports()):
        return []
    wrong = []
    for node in module.nodes:
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            adopts = any(keyword.arg == "sock" for keyword in node.keywords)
            if name.endswith(".bind") or (name.endswith(("create_server", "create_unix_server")) and not adopts):
                wrong.append(f"line {node.lineno}: {name}")
    return wrong


def oversized(module: Module) -> list[str]:
    """Return what is larger than a reader can hold."""
    wrong = []
    lines = len(module.text.splitlines())
    if lines > MODULE_LINES:
        wrong.append(f"{lines} lines")
    for function in module.functions():
        size = (function.end_lineno or function.lineno) - function.lineno + 1
        arguments = function.args
        names = [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if size > FUNCTION_LINES:
            wrong.append(f"line {function.lineno}: {function.name} has {size} lines")
        if count > PARAMETERS:
            wrong.append(f"line {function.lineno}: {function.name} takes {count} parameters")
    return wrong


def documented_layers() -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield each package of the table in ARCHITECTURE.md, what it may import, and what never."""
    text = ARCHITECTURE.read_text()
    for line in text[text.index("| layer | package |") :].splitlines()[2:]:
        if not line.startswith("|"):
            return
        _, packages, allowed, never = (
            {item.strip() for item in cell.split(",")} - {"", "-"} for cell in line.strip("|").split("|")
        )
        if packages <= ALLOWED.keys():
            yield from ((package, allowed, never) for package in packages)


def test_the_table_of_the_documentation_is_the_one_that_is_enforced() -> None:
    documented = {package: (allowed, never) for package, allowed, never in documented_layers()}
    enforced = {name: (set(allowed), set(FORBIDDEN.get(name, ()))) for name, allowed in ALLOWED.items()}
    assert documented == enforced


@each_module
def test_imports_point_down(module: Module) -> None:
    assert module.package in (*TOP, *ALLOWED), "a package that the layer table does not know"
    assert foreign_layers(module) == []


@each_module
def test_a_layer_imports_nothing_that_is_forbidden_to_it(module: Module) -> None:
    assert forbidden_imports(module) == []


@each_module
def test_what_has_one_owner_is_called_by_nobody_else(module: Module) -> None:
    assert forbidden_calls(module) == []
    assert bindings(module) == [] or within(module.name, BINDERS)


@each_module
def test_modules_and_functions_stay_small(module: Module) -> None:
    assert oversized(module) == []


@each_module
def test_a_module_says_what_it_is(module: Module) -> None:
    assert ast.get_docstring(module.tree) or not module.text.strip()


# The rules themselves: each finds what it is there for.


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("protocol.http1", "from serverd.asgi import scope"),
        ("protocol.http1", "import serverd.config.models"),
        ("asgi.scope", "from serverd.protocol.http1 import Http1"),
        ("asgi.scope", "from serverd.protocol import http1"),
        ("asgi.scope", "from ..protocol import http1"),
        ("connection.http1", "def late():\n    from serverd.worker import process"),
        ("supervisor.loop", "if TYPE_CHECKING:\n    from serverd.config.models import Root"),
        ("supervisor.loop", "from serverd.net import tls"),
        ("worker.process", "from serverd import cli"),
    ],
)
def test_an_import_that_points_up_is_found(name: str, statement: str) -> None:
    assert foreign_layers(Module(name, statement)) != []


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("asgi.scope", "from serverd.protocol.head import RequestHead"),
        ("asgi.scope", "from . import types"),
        ("connection.http1", "from serverd.generation import Limits"),
        ("supervisor.loop", "from serverd.net.bindings import Bindings"),
        ("cli", "from serverd.supervisor.supervisor import run"),
    ],
)
def test_an_import_that_points_down_is_allowed(name: str, statement: str) -> None:
    assert foreign_layers(Module(name, statement)) == []


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("protocol.http1", "import time"),
        ("protocol.http1", "from asyncio import Transport"),
        ("config.load", "import socket"),
        ("net.sockets", "import asyncio.sslproto"),
        ("supervisor.loop", "import pydantic"),
        ("worker.apps", "from subprocess import run"),
    ],
)
def test_a_forbidden_import_is_found(name: str, statement: str) -> None:
    assert forbidden_imports(Module(name, statement)) != []


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("worker.process", "importlib.import_module('x')"),
        ("supervisor.loop", "os.fork()"),
        ("worker.process", "os.posix_spawnp('x', [], {})"),
        ("worker.process", "raise SystemExit(1)"),
        ("worker.process", "raise SystemExit"),
        ("supervisor.loop", "sys.exit(3)"),
    ],
)
def test_a_call_that_belongs_elsewhere_is_found(name: str, statement: str) -> None:
    assert forbidden_calls(Module(name, statement)) != []


def test_binding_a_socket_is_found_and_binding_arguments_is_not() -> None:
    assert bindings(Module("worker.process", "import socket\nsocket.socket().bind(('', 80))")) != []
    assert bindings(Module("worker.process", "import asyncio\nloop.create_server(f, '::', 80)")) != []
    assert bindings(Module("worker.process", "import asyncio\nloop.create_server(f, sock=s)")) == []
    assert bindings(Module("worker.apps", "import inspect\ninspect.signature(f).bind(1)")) == []


def test_what_is_too_large_is_found() -> None:
    assert oversized(Module("net.sockets", "x = 1\n" * 350)) == ["350 lines"]
    assert oversized(Module("net.sockets", "def f():\n" + "    x = 1\n" * 60)) == ["line 1: f has 61 lines"]
    assert oversized(Module("net.sockets", "def f(a, b, c, d, e, *, f, g, h): ...")) == ["line 1: f takes 8 parameters"]
    assert oversized(Module("net.sockets", "def f(self, a, b, c, d, e, f, g): ...")) == []
