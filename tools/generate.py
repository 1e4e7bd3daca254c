"""Writes config/reference.toml and config/server.schema.json from the models; `--check` only compares.

What they hold is decided in `serverd.config.reference`. Run by hand after a change of the models, and with
`--check` in CI: it names the stale files and exits with 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from serverd.config.reference import reference, schema

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write the files below `root`, or compare them with `--check`; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python tools/generate.py [--check]", file=sys.stderr)
        return 2
    code = 0
    for name, text in (("config/reference.toml", reference()), ("config/server.schema.json", schema())):
        path = root / name
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        if arguments:
            print(f"{name} is stale: run python tools/generate.py", file=sys.stderr)
            code = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"wrote {name}")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
