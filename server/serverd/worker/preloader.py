"""Entry point of a preloader: `python -m serverd.worker.preloader --channel FD`; only `supervisor.spawn` calls it.

It imports the applications of a generation once and forks a worker whenever the supervisor asks for one
([server] preload), so that the workers share the memory of what was imported. It runs no event loop and serves
nothing. A worker is forked twice: when the process in between has ended, the supervisor, which takes in orphans,
is its parent, and it lives and ends like any other worker.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import warnings

from setproctitle import setproctitle

from serverd.errors import AppError, reason_of
from serverd.generation import Generation
from serverd.messages import Failed, Fork, Forked, Preload, Preloaded
from serverd.observe import logs
from serverd.parent import die_with_parent
from serverd.worker.applications import Imported, told
from serverd.worker.apps import explain, load_app
from serverd.worker.channel import Channel
from serverd.worker.entry import leave_group_signals, run_worker
from serverd.worker.sources import Sources
from serverd.worker.start_up import stack_shown

log = logging.getLogger("serverd.worker")

# Bytes that the process in between writes at most to tell a pid.
_PID_SIZE = 32
_STANDARD_ERROR = 2


def main() -> int:
    """Import the applications and fork workers until the supervisor has gone; return the exit code."""
    parser = argparse.ArgumentParser(prog="serverd.worker.preloader")
    parser.add_argument("--channel", type=int, required=True, help="stream socket to the supervisor")
    channel = Channel(parser.parse_args().channel)
    die_with_parent(signal.SIGKILL)  # it serves nothing
    leave_group_signals()
    received = channel.receive()
    if received is None or channel.has_ended:
        return 0
    preload, _ = received
    assert isinstance(preload, Preload)  # the first message, always
    generation = preload.generation
    logs.configure(generation.logging, sys.stderr)
    setproctitle(f"serverd: preloader (generation {generation.number})")
    imported = _import(generation, channel)
    if imported is None:
        return AppError.exit_code
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        log.warning("importing started threads, which no worker will have (preload): %s", ", ".join(others))
    # What is here now is shared as long as nobody writes to it, and the collector would (gc.freeze).
    gc.collect()
    gc.freeze()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what an application has printed would be in every worker's buffer
    channel.send(Preloaded())
    return _serve(channel, imported)


def _import(generation: Generation, channel: Channel) -> Imported | None:
    """Import every application; tell the supervisor and return None when one fails that must not."""
    sources = Sources(app.directory for app in generation.apps)
    imported = Imported({}, sources)
    with stack_shown(generation.server.start_timeout):
        for app in generation.apps:
            try:
                imported.applications[app.name] = load_app(app)
            except AppError as error:
                if app.on_failure != "unavailable":  # those are imported again by the worker, which tells
                    channel.send(Failed(*told(*explain(app, error))))
                    return None
            finally:
                sources.remember()
    return imported


def _serve(channel: Channel, imported: Imported) -> int:
    """Fork a worker for each request; in a worker, return its exit code, and here when the supervisor has gone."""
    while (received := channel.receive()) is not None:
        fork, descriptors = received
        assert isinstance(fork, Fork)
        for_channel, stacks, stderr = descriptors
        try:
            pid = _fork_twice()
        except OSError as error:
            channel.send(Forked(0, reason_of(error)))
        else:
            if not pid:
                channel.close()
                os.dup2(stderr, _STANDARD_ERROR)  # ours leads to the log file as it was when we began
                os.close(stderr)
                setproctitle(fork.title)
                return run_worker(for_channel, stacks, imported)
            channel.send(Forked(pid))
        for fd in descriptors:
            os.close(fd)
    return 0


def _fork() -> int:
    """Fork, as `os.fork` does, without what Python 3.12 and later warn of: threads.

    Of those `main` tells, once and by their names. And Python takes the niceness in /proc/self/stat for their number in
    a process whose name holds a space, as ours does: with `Nice=` in a unit it warned twice for each worker.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _fork_twice() -> int:
    """Return the pid of a grandchild that is an orphan already, and 0 in the grandchild; raises OSError."""
    readable, writable = os.pipe()
    try:
        try:
            between = _fork()
            if not between and not _fork_and_tell(writable):
                return 0
        finally:
            os.close(writable)
        with contextlib.suppress(ChildProcessError):  # it has ended, but an application ignores SIGCHLD or waits itself
            os.waitpid(between, 0)
        told = os.read(readable, _PID_SIZE)
    finally:
        os.close(readable)
    if not told:
        raise OSError("the machine refused a second process")
    return int(told)


def _fork_and_tell(writable: int) -> int:
    """Fork, write the pid of the child and end; return, with 0, in the child only."""
    try:
        pid = _fork()
    except OSError:
        os._exit(1)
    if pid:
        os.write(writable, b"%d" % pid)
        os._exit(0)
    return pid


if __name__ == "__main__":
    sys.exit(main())
