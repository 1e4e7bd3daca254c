"""`serverd init`: applications found by reading, a configuration that the loader takes; and `completion`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner, Result

from serverd import cli
from serverd.cli import discovery
from serverd.cli.discovery import discover
from serverd.cli.syntax import Definition, read_source
from serverd.config.load import load
from tests.cli.test_command import run as run_process
from tests.support.every import every

CALLABLE = "class A:\n    async def __call__(self, scope, receive, send): raise NotImplementedError\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def make(folder: Path, **files: str) -> None:
    """Write Python files; two underscores in a name are a slash."""
    for name, code in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)


def found(folder: Path) -> dict[str, tuple[str, str]]:
    """Return directory and kind of what is discovered, by target."""
    return {one.target: (one.directory, one.kind) for one in discover(str(folder)).applications}


# What one file defines


@every(
    ("code", "definitions"),
    [
        ("from fastapi import FastAPI\napp = FastAPI()", [Definition("app", "FastAPI", 2)]),
        ("import fastapi as f\nsite: f.FastAPI = f.FastAPI()", [Definition("site", "FastAPI", 2)]),
        ("from starlette.applications import Starlette as S\napp = S()", [Definition("app", "Starlette", 2)]),
        ("from quart import Quart\napp = Quart(__name__)", [Definition("app", "Quart", 2)]),
        ("from litestar import Litestar\napp = Litestar([])", [Definition("app", "Litestar", 2)]),
        (
            "import os\nfrom django.core.asgi import get_asgi_application\nos.environ['A'] = 'b'\n"
            "application = get_asgi_application()",
            [Definition("application", "Django", 4)],
        ),
        ("from a2wsgi import WSGIMiddleware\napp = WSGIMiddleware(x)", [Definition("app", "WSGI by a2wsgi", 2)]),
        ("import falcon.asgi\napp = falcon.asgi.App()", [Definition("app", "Falcon", 2)]),
        ("import falcon\napp = falcon.App()", []),  # WSGI
        ("async def app(scope, receive, send): ...", [Definition("app", "ASGI", 1)]),
        ("async def only(scope, receive, send): ...", [Definition("only", "ASGI", 1)]),
        ("async def one(scope, receive, send): ...\nasync def two(scope, receive, send): ...", []),
        ("def app(scope, receive, send): ...", []),
        ("async def app(request): ...", []),
        (f"{CALLABLE}it = A()", [Definition("it", "ASGI", 3)]),
        (f"{CALLABLE}it = A(x)", []),
        (
            "from fastapi import FastAPI\ndef create_app(debug=True):\n    return FastAPI()",
            [Definition("create_app", "FastAPI", 2, is_factory=True)],
        ),
        ("from fastapi import FastAPI\ndef create_app(settings):\n    return FastAPI()", []),
        ("from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\napi = create_app()",
         [Definition("api", "FastAPI", 4)]),
        ("def create_app():\n    return Flask(__name__)", []),
        ("try:\n    from fastapi import FastAPI\n    app = FastAPI()\nexcept ImportError:\n    app = None",
         [Definition("app", "FastAPI", 3)]),
        ("from fastapi import FastAPI\nif __name__ == '__main__':\n    app = FastAPI()", []),
        ("from flask import Flask\napp = Flask(__name__)", []),
    ],
)  # fmt: skip
def test_what_a_file_defines_is_told_by_its_syntax(code: str, definitions: list[Definition]) -> None:
    assert read_source(code.encode()).definitions == definitions


# What a directory holds


def test_modules_are_named_as_they_are_imported(tmp_path: Path) -> None:
    make(
        tmp_path,
        top=FASTAPI,
        src__pkg____init__="", src__pkg__web=FASTAPI,
        api__main=f"from api.data import x\n{FASTAPI}", api__data="x = 1",
        rel__main=f"from . import other\n{FASTAPI}", rel__other="",
        quart__notes="from quart import Quart\napp = Quart(__name__)",
    )  # fmt: skip
    (tmp_path / "src" / "pkg" / "__init__.py").touch()
    assert found(tmp_path) == {
        "top:app": (".", "FastAPI"),
        "pkg.web:app": ("src", "FastAPI"),
        "api.main:app": (".", "FastAPI"),
        "rel.main:app": (".", "FastAPI"),
        "notes:app": ("quart", "Quart"),
    }


def test_what_is_in_another_application_is_none_of_its_own(tmp_path: Path) -> None:
    make(
        tmp_path,
        main="from fastapi import FastAPI\nfrom admin import panel\nfrom made import create_app\napp = FastAPI()\n"
        "inner = FastAPI()\napp.mount('/inner', inner)\napp.mount('/admin', app=panel)\nwhole = create_app()\n",
        admin="from starlette.applications import Starlette\npanel = Starlette()\n",
        made="from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\n",
    )
    assert found(tmp_path).keys() == {"main:app", "main:whole"}


def test_environments_tests_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    folders = dict.fromkeys(("tests__x", "venv__x", "node_modules__x", "mine__lib__x", "test_x", "conftest"), FASTAPI)
    make(tmp_path, **folders, good__x=FASTAPI)
    (tmp_path / "mine" / "pyvenv.cfg").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.py").write_text(FASTAPI)
    assert found(tmp_path).keys() == {"x:app"}


def test_what_is_no_python_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, good=FASTAPI, syntax="x = (", nul="x = '\0'", nested="x = " + "(" * 5000, minus="x = " + "-" * 99999)
    (tmp_path / "bytes.py").write_bytes(bytes(range(256)))
    (tmp_path / "large.py").write_text(FASTAPI + "#" * discovery.LARGEST_FILE)
    (tmp_path / "my-app.py").write_text(FASTAPI)
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    (tmp_path / "none.py").symlink_to("nowhere")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "up").symlink_to("..")
    (tmp_path / os.fsdecode(b"bad\xff.py")).write_text(FASTAPI)
    assert found(tmp_path).keys() == {"good:app"}


def test_the_search_is_bounded_in_files_and_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, **{f"m{number}": "" for number in range(5)}, **{"d__" * discovery.DEEPEST + "in": FASTAPI})
    make(tmp_path, **{"d__" * (discovery.DEEPEST + 1) + "out": FASTAPI})
    assert found(tmp_path).keys() == {"in:app"}
    monkeypatch.setattr(discovery, "MOST_FILES", 3)
    assert discover(str(tmp_path)) == discovery.Discovery((), 3, is_complete=False)


# What is written


def test_one_application_is_served_at_the_root(tmp_path: Path) -> None:
    make(tmp_path, shop__main=f"from shop.data import x\n{FASTAPI}", shop__data="x = 1")
    result = run("init", str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    file = tmp_path / "server.toml"
    assert result.stdout.splitlines() == [
        f"wrote {file}",
        "  shop  http://127.0.0.1:8000/  FastAPI, shop.main:app",
        "next:",
        f"  serverd check -c {file}",
        f"  serverd -c {file}",
    ]
    document = tomli.loads(file.read_text())
    assert document["apps"] == {"shop": {"app": "shop.main:app"}}
    assert document["mounts"] == [{"app": "shop", "path": "/"}]
    assert "# FastAPI, found in shop/main.py, line 3.\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) & 0o111 == 0
    assert load(str(file), {}).warnings == ()


def test_several_applications_get_paths_and_names_of_their_own(tmp_path: Path) -> None:
    factory = "from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\n"
    make(
        tmp_path,
        main=FASTAPI,
        blog__site=FASTAPI,
        shop__asgi=factory,
        two="import fastapi\na=fastapi.FastAPI()\nb=fastapi.FastAPI()",
    )
    assert run("init", str(tmp_path)).exit_code == 0
    generation = load(str(tmp_path / "server.toml"), {})
    assert {app.name: (app.target, app.factory) for app in generation.apps} == {
        tmp_path.name[:48].strip("-"): ("main:app", False),
        "two": ("two:a", False),
        "two-b": ("two:b", False),
        "site": ("site:app", False),
        "shop": ("asgi:create_app", True),
    }
    assert sorted(mount.path for mount in generation.mounts) == sorted(
        [f"/{tmp_path.name[:48].strip('-')}", "/two", "/two-b", "/site", "/shop"]
    )


def test_the_only_one_at_the_top_is_the_site(tmp_path: Path) -> None:
    make(tmp_path, app=FASTAPI, blog__site=FASTAPI)
    assert run("init", str(tmp_path)).exit_code == 0
    generation = load(str(tmp_path / "server.toml"), {})
    assert {mount.path: mount.target.app == "site" for mount in generation.mounts} == {"/": False, "/site": True}


def test_what_the_loader_does_not_take_is_left_out_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path, a__main=FASTAPI, b__main=FASTAPI)
    result = run("init", str(tmp_path))
    assert result.exit_code == 0
    assert 'b  left out: "main:app" has a top-level module of the same name as app "a", in another' in result.stdout
    text = (tmp_path / "server.toml").read_text()
    assert '# [apps.b]\n# app = "main:app"\n# directory = "b"' in text
    assert [app.name for app in load(str(tmp_path / "server.toml"), {}).apps] == ["a"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "server.toml"]


def test_strange_names_are_written_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / 'we"ird ${HOME} é'
    make(folder, thing=FASTAPI)
    assert run("init", str(tmp_path)).exit_code == 0
    (app,) = load(str(tmp_path / "server.toml"), {"HOME": "/x"}).apps
    assert app.directory == str(folder)


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    make(tmp_path, main=FASTAPI)
    file = tmp_path / "server.toml"
    file.symlink_to("nowhere")
    result = run("init", str(tmp_path))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"serverd: {file} is there already (expected none, or --force to replace it)\n"
    assert run("init", str(tmp_path), "--force").exit_code == 0
    assert not file.is_symlink()
    assert len(load(str(file), {}).apps) == 1


@pytest.mark.parametrize("name", ["none", "file"])
def test_a_directory_that_is_none_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    result = run("init", str(tmp_path / name))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"serverd: cannot look into {tmp_path / name}: no")


def test_without_an_application_nothing_is_written(tmp_path: Path) -> None:
    make(tmp_path, main="print('no application')")
    result = run("init", str(tmp_path))
    assert result.exit_code == 3
    assert result.stderr.startswith(f"serverd: no ASGI application was found in {tmp_path}, in 1 Python file (")
    assert os.listdir(tmp_path) == ["main.py"]


def test_what_others_have_put_into_the_directory_is_not_written_to(tmp_path: Path) -> None:
    make(tmp_path, main=FASTAPI)
    mine = tmp_path / "mine"
    mine.write_text("kept")
    os.link(mine, tmp_path / f".server.toml.{os.getpid()}")  # a name that can be guessed
    assert run("init", str(tmp_path)).exit_code == 0
    assert mine.read_text() == "kept"
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        f".server.toml.{os.getpid()}",
        "main.py",
        "mine",
        "server.toml",
    ]


def test_what_is_written_passes_the_check(tmp_path: Path) -> None:
    plain = "async def app(scope, receive, send):\n    raise NotImplementedError\n"
    make(tmp_path, hello=plain, more__other=f"{CALLABLE}it = A()\n")
    assert run("init", str(tmp_path)).exit_code == 0
    text = (tmp_path / "server.toml").read_text()
    (tmp_path / "server.toml").write_text(text.replace("127.0.0.1:8000", "127.0.0.1:0"))
    done = run_process("check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "server.toml: good: 1 listener, 2 apps, 2 mounts\n")


# Completion


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete "), ("zsh", "#compdef serverd"), ("fish", "complete ")])
def test_each_shell_gets_its_script(shell: str, word: str) -> None:
    result = run("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert word in result.stdout
    assert "_SERVERD_COMPLETE" in result.stdout


@pytest.mark.parametrize("words", ["serverd -c ", "serverd check -c ", "serverd status --config "])
def test_files_are_completed_after_c(words: str) -> None:
    environment = {"_SERVERD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
    result = CliRunner().invoke(cli.main, [], prog_name="serverd", env=environment)
    assert result.stdout.splitlines() == ["file,"]


def test_files_that_are_no_python_are_told_of_in_case_they_hold_what_is_missed(tmp_path: Path) -> None:
    make(tmp_path, shop="app = FastAPI(\n")
    told = "shop.py, line 1: '(' was never closed"
    assert f"; {told} (mend it, and try again)" in run("init", str(tmp_path)).stderr
    make(tmp_path, blog=FASTAPI)
    assert f"  passed over: {told}\n" in run("init", str(tmp_path)).stdout
