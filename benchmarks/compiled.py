"""serverd with its hot modules compiled by mypyc, in a scratch directory: `make bench ARGS=--compiled`.

Nothing else uses what is built here, and no release contains it; it keeps the code within what compiles, and tells what
that would be worth. `python benchmarks/compiled.py` builds and prints the directory, for PYTHONPATH: the tests of
protocol, asgi and connection pass with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["MODULES", "build"]

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "server"
SCRATCH = Path(__file__).parent / ".scratch" / "compiled"

# What every request goes through: all of it compiles. Left out: `worker` and `supervisor`, which are not on the path;
# `net`, `config`, `control`, `observe`, for the same reason.
MODULES = (
    "protocol/*.py",
    "asgi/cycle.py",
    "asgi/exchange.py",
    "asgi/fields.py",
    "asgi/observer.py",
    "asgi/progress.py",
    "asgi/router.py",
    "asgi/scope.py",
    "asgi/session.py",
    "asgi/turn.py",
    "asgi/websocket.py",
    "connection/*.py",
)

# gcc has a macro of the name that mypyc gives to the attribute `Trust._unix`.
FLAGS = "-U__unix"


def build() -> Path:
    """Compile, unless this source is compiled already; return the directory that holds the package."""
    files = sorted(path for pattern in MODULES for path in (SOURCE / "serverd").glob(pattern))
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(path.read_bytes())
    target, stamp = SCRATCH / "server", SCRATCH / "digest"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return target
    compiler = ROOT / ".venv" / "bin" / "mypyc"
    if not compiler.exists() or shutil.which("gcc") is None:
        sys.exit("mypyc and gcc are needed to compile: `make check` installs mypyc, `apt-get install gcc` the other")
    print(f"compiling {len(files)} modules: some minutes", file=sys.stderr)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "build"))
    settings = SCRATCH / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\n")
    names = [str(path.relative_to(SOURCE)) for path in files]
    done = subprocess.run(
        [compiler, "--config-file", settings, *names],
        cwd=target,
        env={**os.environ, "CFLAGS": FLAGS},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"mypyc has failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    shutil.rmtree(target / "build")
    stamp.write_text(digest.hexdigest())
    return target


if __name__ == "__main__":
    print(build())
