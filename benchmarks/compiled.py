"""serverd as a compiled wheel has it, unpacked into a scratch directory: `make bench ARGS=--compiled`.

`python benchmarks/compiled.py` builds the wheel, unless it has been built of this source, and prints the directory, for
PYTHONPATH. How it is built, and of what, is for tools/backend.py to know.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

__all__ = ["build"]

ROOT = Path(__file__).parent.parent
SCRATCH = Path(__file__).parent / ".scratch" / "compiled"


def _inputs() -> list[Path]:
    """Return every file that a wheel is made of."""
    package = [path for path in (ROOT / "server" / "serverd").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return [*package, ROOT / "tools" / "backend.py", ROOT / "setup.py", ROOT / "pyproject.toml"]


def build() -> Path:
    """Build the wheel, unless that of this source is there already; return the directory that holds the package."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(_inputs()):
        digest.update(path.read_bytes())
    target, stamp = SCRATCH / "server", SCRATCH / "digest"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return target
    print("building a compiled wheel: some minutes", file=sys.stderr)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(SCRATCH), str(ROOT)]
    done = subprocess.run(
        command, env={**os.environ, "SERVERD_COMPILE": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"the wheel cannot be built:\n{done.stdout[-3000:]}")
    [wheel] = SCRATCH.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    compileall.compile_dir(target, quiet=1)  # as pip does
    stamp.write_text(digest.hexdigest())
    return target


if __name__ == "__main__":
    print(build())
