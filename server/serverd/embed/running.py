"""`serverd.run`: serve one application until told to stop, as the last thing that a program does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Unpack, cast

from serverd.asgi.types import Application
from serverd.config.options import call, pack, title, words
from serverd.embed.configuration import configure, refuse
from serverd.embed.keywords import OF_PROCESSES, Options, RunOptions
from serverd.errors import AppLoadError, ConfigError, ServerdError
from serverd.observe.logs import escape
from serverd.supervisor.source import Source, Watched

__all__ = ["run"]

_OF_THE_PROCESS = {"loop", "log_level", "log_format"}  # this one, also when it is the only one
_WATCHED = ("reload_dir", "reload_include", "reload_exclude")
# Programs of serverd that import an application, in which it must not start a server.
_IMPORTERS = ("serverd.worker.__main__", "serverd.worker.preloader")


def run(app: str | Application, **options: Unpack[RunOptions]) -> None:
    """Serve `app` until SIGINT or SIGTERM.

    "module:attribute" is served by a supervisor, which this process becomes, and workers; an application object in
    this process alone. Ends the process when that fails, after having said why, with exit code 3. Raises AppLoadError
    in a worker: a module that is served calls it under `if __name__ == "__main__"`.
    """
    if getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "") in _IMPORTERS:
        raise AppLoadError('serverd.run() is called while the module is imported (expected if __name__ == "__main__")')
    given = {name: value for name, value in cast("dict[str, Any]", options).items() if value is not None}
    try:
        code = _supervise(app, given) if isinstance(app, str) else _serve_here(app, given)
    except ConfigError as error:
        code = error.exit_code
        print("\n".join(map(escape, str(error).split("\n"))), file=sys.stderr, flush=True)
    if code:
        sys.exit(code)


def _supervise(app: str, given: dict[str, Any]) -> int:
    from serverd.supervisor.supervisor import Supervisor

    lists = {name: _many(given.pop(name, ())) for name in _WATCHED}
    refuse([f"reload_dir {folder}" for folder in lists["reload_dir"] if not os.path.isdir(folder)], "is not a folder")
    watched = None
    arguments: tuple[str, ...] = ()
    if given.pop("reload", False):
        watched = Watched(tuple(map(os.path.realpath, lists["reload_dir"])), *list(lists.values())[1:])
        arguments = ("--reload", *words(lists))
    line = ("run", app, *words(given), *arguments)
    source = Source(
        os.path.abspath(call(app, given)), line, pack(app, given, are_flags=False), watched, title(app, False)
    )
    return Supervisor(source).run()


def _many(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a list, or the one that stands in the place of a list."""
    return (value,) if isinstance(value, str) else tuple(value)


def _serve_here(app: Application, given: dict[str, Any]) -> int:
    from serverd.embed.server import Server
    from serverd.observe import logs
    from serverd.worker.apps import own_traceback
    from serverd.worker.loop import run_on_loop

    try:
        refuse(
            sorted(OF_PROCESSES & given.keys() - _OF_THE_PROCESS),
            'needs workers, which need the application as text (expected "module:attribute")',
        )
        generation = configure(None, app, given).generation
        logs.configure(generation.logging, sys.stderr)
        own = {name: value for name, value in given.items() if name not in _OF_THE_PROCESS}
        server = Server(app=app, handle_signals=True, **cast("Options", own))

        async def serve() -> int:
            await server.startup()
            for url in server.urls:
                print(f"serverd: listening on {url}", file=sys.stderr, flush=True)
            await server.serve()
            return 0

        return run_on_loop(generation.server.loop, serve)
    except ServerdError as error:
        detail = own_traceback(error.__cause__) if error.__cause__ else ""
        lines = f"serverd: {error}\n{detail}".rstrip().split("\n")
        print("\n".join(map(escape, lines)), file=sys.stderr, flush=True)
        return 3
