"""Importing applications: what is accepted, and how a broken one is explained (ASGI "Legacy Applications")."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serverd.errors import AppLoadError
from serverd.generation import App
from serverd.worker.apps import explain, load_app

SOURCE = """
import sys
async def app(scope, receive, send): await send({"called": "asgi3"})
class inner:
    async def deep(scope, receive, send): await send({"called": "deep"})
def factory():
    return app
def broken_factory():
    raise ValueError("no settings")
class Legacy:
    def __init__(self, scope): self.version = scope["asgi"]["version"]
    async def __call__(self, receive, send): await send({"called": "asgi" + self.version})
class Wrapped(Legacy):
    async def __call__(self, *arguments): await super().__call__(*arguments)
def legacy(scope):
    async def instance(receive, send): await send({"called": "asgi2"})
    return instance
class Endpoint:
    def __init__(self, scope, receive, send): self.send = send
    def __await__(self): return self.send({"called": "endpoint"}).__await__()
class Instance:
    async def __call__(self, scope, receive, send): await send({"called": "instance"})
instance = Instance()
class Both(Endpoint, Instance): pass
class Configured(Instance):
    def __init__(self, debug=False, routes=None, middleware=None): pass
class Derived(Configured):
    def __init__(self, scope_like): pass
def wsgi(environ, start_response): return []
def one_two_three_four(a, b, c, d): pass
number = 5
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory for modules; what is imported from it is forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    (tmp_path / "good_app.py").write_text(SOURCE)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def app(directory: Path, target: str, **more: Any) -> App:
    return App("shop", target, str(directory), source="server.toml:7", **more)


def called(application: Any) -> str:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["called"])

    async def run() -> None:
        await application({"type": "http", "asgi": {"version": "3.0"}}, None, send)

    coroutine = run()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return str(sent[0])


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("good_app", {}, "asgi3"),
        ("good_app:app", {}, "asgi3"),
        ("good_app:inner.deep", {}, "deep"),
        ("good_app:factory", {"factory": True}, "asgi3"),
        ("good_app:Legacy", {}, "asgi2.0"),
        ("good_app:Wrapped", {}, "asgi2.0"),
        ("good_app:legacy", {}, "asgi2"),
        ("good_app:legacy", {"interface": "asgi2"}, "asgi2"),
        ("good_app:Endpoint", {}, "endpoint"),
        ("good_app:Both", {}, "endpoint"),
        ("good_app:instance", {}, "instance"),
    ],
)
def test_it_finds_and_calls(directory: Path, target: str, options: Any, expected: str) -> None:
    assert called(load_app(app(directory, target, **options))) == expected


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nowhere:app", {}, "there is no module 'nowhere' in "),
        ("god_app:app", {}, "or among the installed packages (did you mean 'good_app'?)"),
        ("good_app.sub:app", {}, "there is no module 'good_app.sub'"),
        ("json.decodr:app", {}, "(did you mean 'json.decoder'?)"),
        ("good_app:application", {}, "good_app has no attribute 'application' (did you mean 'app'?)"),
        ("good_app:factry", {}, "good_app has no attribute 'factry' (did you mean 'factory'?)"),
        ("good_app:inner.no", {}, "good_app.inner has no attribute 'no'"),
        ("good_app:number", {}, "is int, which cannot be called"),
        ("good_app:factory", {}, "a factory needs factory = true"),
        (
            "good_app:broken_factory",
            {"factory": True},
            "factory 'good_app:broken_factory' failed: ValueError: no settings",
        ),
        ("good_app:number.no", {}, "good_app.number has no attribute 'no': expected the name of the application there"),
        ("good_app:wsgi", {}, "takes two arguments as a WSGI application does"),
        ("good_app:wsgi", {}, "(a2wsgi.WSGIMiddleware makes one of it)"),
        (
            "good_app:Instance",
            {},
            "'good_app:Instance' is the class Instance: expected an instance of it, as Instance()",
        ),
        ("good_app:Configured", {}, "is the class Configured: expected an instance of it"),
        ("good_app:Derived", {}, "is the class Derived: expected an instance of it"),
        ("good_app:one_two_three_four", {}, "expected (scope, receive, send)"),
    ],
)
def test_it_says_what_is_wrong(directory: Path, target: str, options: Any, message: str) -> None:
    with pytest.raises(AppLoadError) as raised:
        load_app(app(directory, target, **options))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("source", "brief"),
    [
        ("import nonexistent_thing", "ModuleNotFoundError: No module named 'nonexistent_thing'"),
        ("def app(:", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(9)", "SystemExit: 9"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
    ids=["missing module", "syntax", "exception", "sys.exit", "interrupt"],
)
def test_a_module_that_fails_is_shown_with_its_own_traceback_and_none_of_ours(
    directory: Path, source: str, brief: str
) -> None:
    (directory / "bad_app.py").write_text(f"# first line\n{source}\n")
    broken = app(directory, "bad_app:app")
    with pytest.raises(AppLoadError) as raised:
        load_app(broken)
    summary, detail = explain(broken, raised.value)
    assert summary.startswith("server.toml:7: apps.shop: importing 'bad_app' failed: ")
    assert brief in summary
    assert 'bad_app.py", line 2' in detail
    assert "importlib" not in detail
    assert "serverd/worker" not in detail


def test_a_missing_module_needs_no_traceback(directory: Path) -> None:
    with pytest.raises(AppLoadError) as raised:
        load_app(app(directory, "nowhere:app"))
    assert explain(app(directory, "nowhere:app"), raised.value)[1] == ""


def test_the_directory_of_the_application_comes_first(directory: Path) -> None:
    other = directory / "other"
    other.mkdir()
    (other / "good_app.py").write_text("raise RuntimeError('the wrong one')")
    sys.path.insert(0, str(other))
    load_app(app(directory, "good_app:app"))
    assert sys.path[0] == str(directory)
    load_app(app(directory, "good_app:instance"))
    assert sys.path.count(str(directory)) == 1


@pytest.mark.parametrize("name", ["helper_of_a", "json"])
def test_a_module_that_is_taken_by_another_one_is_refused(directory: Path, name: str) -> None:
    a, b = directory / "a", directory / "b"
    for folder in (a, b):
        folder.mkdir()
        (folder / "helper_of_a.py").write_text("async def app(scope, receive, send): pass\n")
    (b / "json.py").write_text("async def app(scope, receive, send): pass\n")
    (a / "first_app.py").write_text("import json, helper_of_a\nasync def app(scope, receive, send): pass\n")
    load_app(app(a, "first_app:app"))
    with pytest.raises(AppLoadError, match=f"module '{name}' is taken by .*, imported before: rename .*/b/{name}.py"):
        load_app(app(b, f"{name}:app"))


def test_an_application_may_be_mounted_from_a_module_that_is_imported_already(directory: Path) -> None:
    (directory / "second_app.py").write_text("import good_app\nasync def app(scope, receive, send): pass\n")
    load_app(app(directory, "second_app:app"))
    assert called(load_app(app(directory, "good_app:app"))) == "asgi3"


def test_the_environment_is_set_before_the_import(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SETTING", "old")
    (directory / "env_app.py").write_text(
        "import os\nseen = os.environ['SHOP_SETTING']\nasync def app(s, r, t): pass\n"
    )
    load_app(app(directory, "env_app:app", env={"SHOP_SETTING": "new"}))
    assert sys.modules["env_app"].seen == "new"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("server.toml:7", "server.toml:7: apps.shop: it has failed"),
        ("APP", "APP shop.main:app: it has failed"),  # `serverd run shop.main:app`
        ("app", "app shop.main:app: it has failed"),  # `serverd.run("shop.main:app")`
    ],
)
def test_it_is_called_as_whoever_wrote_it_knows_it(source: str, expected: str) -> None:
    assert explain(App("shop", "shop.main:app", "/", source=source), AppLoadError("it has failed")) == (expected, "")
