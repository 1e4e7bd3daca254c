"""A worker whose start-up does not go the usual way: it hangs, exits, fails late, or nobody wants it any more."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serverd.errors import AppLoadError
from serverd.generation import App
from serverd.messages import Drain, Failed, Ready, Starting
from serverd.worker.apps import explain, load_app, own_traceback
from serverd.worker.start_up import stack_shown
from tests.support import processes
from tests.worker.test_process import Worker

Spawn = Callable[..., Worker]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start a worker for an application with this source."""
    workers: list[Worker] = []

    def start(source: str, loop: str = "auto", start_timeout: float = 60.0) -> Worker:
        (tmp_path / "own_app.py").write_text(source)
        workers.append(Worker(tmp_path, "own_app:app", loop, "auto", start_timeout=start_timeout))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


HANGS = """
import asyncio
async def app(scope, receive, send):
    await receive()
    print("hanging", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("ended", flush=True)
"""


def drain(worker: Worker) -> None:
    worker.tell(Drain(5.0))


def end_channel(worker: Worker) -> None:
    worker.channel.shutdown(socket.SHUT_RDWR)


def term(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("ask", [drain, end_channel, term])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_start_up_that_hangs_is_given_up_when_nobody_wants_it_any_more(
    spawn: Spawn, ask: Callable[[Worker], None], loop: str
) -> None:
    worker = spawn(HANGS, loop)
    assert worker.process.stdout is not None
    assert worker.process.stdout.readline() == "hanging\n"
    ask(worker)
    code, out, err = worker.wait()
    assert (code, out, err) == (0, "ended\n", "")


STARTS = """
import os
open(os.path.join(os.path.dirname(__file__), "go")).close()  # waits for a writer; the drain comes meanwhile
async def app(scope, receive, send):
    await receive()
    print("up", flush=True)
    try:
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("down", flush=True)
    except BaseException as error:
        await send({"type": "lifespan.shutdown.failed", "message": repr(error)})
        raise
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_application_that_starts_when_nobody_wants_it_any_more_is_shut_down(
    spawn: Spawn, loop: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    worker = spawn(STARTS, loop)
    assert isinstance(worker.hear_any(), Starting)
    drain(worker)
    (tmp_path / "go").write_text("")
    code, out, err = worker.wait()
    assert (code, err) == (0, "")
    assert out in ("", "up\ndown\n")


@pytest.mark.parametrize(
    ("statement", "brief"),
    [
        ("sys.exit(0)", "SystemExit: 0"),
        ("sys.exit('no database')", "SystemExit: no database"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
    ],
)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_start_up_that_ends_early_is_reported_with_its_own_traceback(
    spawn: Spawn, statement: str, brief: str, loop: str
) -> None:
    worker = spawn(f"import sys\nasync def app(scope, receive, send):\n    await receive()\n    {statement}\n", loop)
    failed = worker.hear()
    assert isinstance(failed, Failed)
    assert failed.summary == "server.toml:7: apps.shop: ended before its start-up was complete"
    assert 'own_app.py", line 4, in app' in failed.detail
    assert brief in failed.detail
    assert "serverd" not in failed.detail.replace(str(Path(__file__).parents[2]), "")
    code, _, err = worker.wait()
    assert (code, err) == (3, "")


def test_a_module_that_fails_when_its_attribute_is_read_is_reported(spawn: Spawn) -> None:
    worker = spawn("def __getattr__(name):\n    raise ImportError('needs the extra')\n")
    failed = worker.hear()
    assert isinstance(failed, Failed)
    assert "ImportError: needs the extra" in failed.summary
    assert 'own_app.py", line 2' in failed.detail
    assert worker.wait()[0] == 3


def test_an_import_that_blocks_is_named_and_shows_where_before_the_time_is_over(spawn: Spawn) -> None:
    begin = time.monotonic()
    worker = spawn("import time\ndef connect():\n    time.sleep(60)\nconnect()\n", start_timeout=1.0)
    assert worker.hear_any() == Starting("server.toml:7: apps.shop")
    stack = ""
    assert worker.process.stderr is not None
    while 'own_app.py", line 4 in <module>' not in stack:
        line = worker.process.stderr.readline()
        assert line, stack
        stack += line
    assert 'own_app.py", line 3 in connect' in stack
    assert time.monotonic() - begin > 0.5
    assert worker.process.poll() is None


class Timer:
    """Stands in for the timer of faulthandler: keeps what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[float | None] = []  # after how many seconds; None: not any more
        monkeypatch.setattr(faulthandler, "dump_traceback_later", self.told.append)
        monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: self.told.append(None))


@pytest.mark.parametrize(
    ("start_timeout", "lead", "seconds"),
    [(60.0, 1.0, 59.0), (60.0, 2.0, 58.0), (2.0, 1.0, 1.5), (2.0, 2.0, 1.0), (0.4, 1.0, 0.3)],
)
def test_the_stack_is_shown_before_the_time_is_over_and_not_when_it_was_enough(
    monkeypatch: pytest.MonkeyPatch, start_timeout: float, lead: float, seconds: float
) -> None:
    timer = Timer(monkeypatch)
    with stack_shown(start_timeout, lead):
        assert timer.told == [seconds]
    assert timer.told == [seconds, None]
    with pytest.raises(RuntimeError), stack_shown(start_timeout, lead):
        raise RuntimeError
    assert timer.told == [seconds, None] * 2


def test_no_stack_is_shown_when_the_time_is_too_short_for_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch)
    with stack_shown(1e-9):
        pass
    assert timer.told == [None]


@pytest.mark.parametrize("start_timeout", [1e-9, 365 * 86400.0])
def test_any_start_timeout_that_a_configuration_may_hold_can_be_used(spawn: Spawn, start_timeout: float) -> None:
    worker = spawn(
        "async def app(scope, receive, send):\n    assert scope['type'] == 'http'\n", start_timeout=start_timeout
    )
    assert worker.hear() == Ready(worker.process.pid)


def test_an_asyncio_worker_has_one_event_loop(spawn: Spawn) -> None:
    worker = spawn("async def app(scope, receive, send):\n    raise NotImplementedError\n", "asyncio")
    assert worker.hear() == Ready(worker.process.pid)
    kinds = list(processes.descriptors(worker.process.pid).values())
    assert kinds.count("anon_inode:[eventpoll]") == 1, kinds


def test_a_request_that_exits_ends_the_request_and_not_the_worker(spawn: Spawn) -> None:
    worker = spawn(
        "import sys\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n    sys.exit(7)\n"
    )
    assert worker.hear() == Ready(worker.process.pid)
    for _ in range(2):
        assert worker.get().startswith(b"HTTP/1.1 500 ")
    drain(worker)
    code, _, err = worker.wait()
    assert code == 0
    assert err.count("app shop failed on GET /") == 2


def test_a_directory_that_is_named_like_ours_is_the_application_s(tmp_path: Path) -> None:
    import serverd

    ours = Path(str(serverd.__file__)).parent
    frames: list[str] = []
    code = compile("raise RuntimeError('no database')", f"{ours}_shop/main.py", "exec")
    try:
        exec(code, {})
    except RuntimeError as error:
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
        frames.append(own_traceback(error))
    assert f'{ours}_shop/main.py", line 1' in frames[0]


def test_a_chain_of_errors_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "chained_app.py").write_text(
        "def read():\n    return {}['dsn']\ntry:\n    read()\nexcept KeyError as error:\n"
        "    raise RuntimeError('no settings') from error\n"
    )
    app = App("shop", "chained_app", str(tmp_path), source="server.toml:7")
    with pytest.raises(AppLoadError) as raised:
        load_app(app)
    detail = explain(app, raised.value)[1]
    assert "KeyError: 'dsn'" in detail
    assert "RuntimeError: no settings" in detail
    assert 'chained_app.py", line 2, in read' in detail
    assert "importlib" not in detail
