"""The command of the tests: a real supervisor whose workers and loader are stand-ins.

stand_in_command.py FILE [without-pidfd] [without-worker] [without-successor]
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from serverd.supervisor.source import Source
from serverd.supervisor.supervisor import Commands, Supervisor

HERE = Path(__file__).parent


def main(path: str, *options: str) -> int:
    if "without-pidfd" in options and hasattr(os, "pidfd_open"):
        del os.pidfd_open
    worker = (sys.executable, str(HERE / "stand_in_worker.py"))
    if "without-worker" in options:
        worker = ("/nonexistent/python",)
    commands = Commands(worker=worker, loader=(sys.executable, str(HERE / "stand_in_loader.py")))
    if "without-successor" in options:
        commands = replace(commands, supervisor=("/nonexistent/python",))
    return Supervisor(Source.of_file(path), commands).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
