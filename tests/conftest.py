"""Fixtures for every test: a server from a few lines of configuration, stopped when the test ends."""

from __future__ import annotations

import compileall
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

import serverd
from tests.support.server import Server

APPS = Path(__file__).parent / "support" / "apps"

# A shell starts what it puts into the background with SIGINT ignored, and processes inherit that; the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


ModuleServe = Callable[[Path], Server]
"""The type of the fixture `serve_module`: start a server from a file and wait until it is ready."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return 0, which is no distribution, unless it is the whole suite of every day: one more than there are cores.

    Named files are soon done, and shown as they are with `-s`; the long suite asserts what is promised in seconds. Half
    of the time of the whole suite is waiting for processes, so that one more fills the cores.
    """
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    if named or os.environ.get("SERVERD_LONG") or config.getoption("capture") == "no":
        return 0
    return len(os.sched_getaffinity(0)) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Compile what processes begin with that tests start: later nobody writes it down, and each would do it again."""
    if not hasattr(config, "workerinput"):  # a process of xdist's; the one that started it has compiled everything
        for place in (Path(serverd.__file__).parent, APPS, Path(__file__).parents[1] / "examples"):
            compileall.compile_dir(place, quiet=2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import every third file of tests first, as one of three processes that run the suite: each of them another third.

    In a fresh checkout most of the time until the first test goes into pytest's rewriting of assertions, which writes
    down what it has made: so that each process does a part of it, and not all of them all.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is not None and session.config.args == session.config.getini("testpaths"):
        first, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        for file in sorted(Path(__file__).parent.rglob("test_*.py"))[first::count]:
            name = ".".join(file.with_suffix("").relative_to(session.config.rootpath).parts)
            with contextlib.suppress(Exception, pytest.skip.Exception):  # told when it is collected
                importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Prepare the process that has collected tests, and will run them.

    Nothing that collecting has made goes: the garbage collector need not look at it. And from now on nobody writes
    compiled code: Python takes a module for unchanged whose file has the same size and was written in the same second,
    as tests do that change an application.
    """
    gc.collect()
    gc.freeze()
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have every report fit through the pipe between the processes of a distributed run, which is UTF-8.

    Some tests log half a surrogate pair, and what was logged is part of the report.
    """
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="module", autouse=True)
def _no_garbage() -> Iterator[None]:
    """Leave no garbage to other modules, and have the collector look no more at what stays, such as pytest's reports.

    Some tests need a full collection: 0.3 s each after 10,000 others, and a millisecond so.
    """
    yield
    gc.collect()
    gc.freeze()


class Serve(Protocol):
    """The type of the fixture `serve`."""

    def __call__(self, configuration: str | Path, *, env: Mapping[str, str] | None = None) -> Server:
        """Start a server and wait until it is ready."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers that live as long as the test, each from a file or from the text of one, written to `tmp_path`."""
    with ExitStack() as stack:

        def start(configuration: str | Path, *, env: Mapping[str, str] | None = None) -> Server:
            if isinstance(configuration, str):
                file = tmp_path / "server.toml"
                file.write_text(configuration)
            else:
                file = configuration
            return stack.enter_context(Server(file, env=env))

        yield start


@pytest.fixture(scope="module")
def serve_module() -> Iterator[ModuleServe]:
    """Start servers that live as long as the module, for tests that only ask them something."""
    with ExitStack() as stack:
        yield lambda file: stack.enter_context(Server(file))


@pytest.fixture(scope="session")
def probe() -> str:
    """Return the configuration of one listener, `web`, with the application `probe` at its root."""
    return f"""\
[listeners.web]
bind = "127.0.0.1:0"

[apps.probe]
app = "probe:app"
directory = "{APPS}"

[[mounts]]
app = "probe"
path = "/"
"""
