"""Lists every option of the servers that docs/coming-from.md compares with, from what is installed beside it.

    python -m venv peers && peers/bin/pip install uvicorn gunicorn hypercorn granian daphne
    peers/bin/python tools/peer_options.py > tests/cli/peer_options.json

Run by hand, when one of them has a new version; tests/cli/test_coming_from.py then says what the page lacks. Nothing of
serverd is imported, and nothing of it imports this.
"""

import argparse
import importlib
import importlib.metadata
import inspect
import json
from typing import Any
from unittest import mock


def main() -> None:
    """Write the list to standard output."""
    found = {
        "uvicorn": of_click(importlib.import_module("uvicorn.main").main),
        "gunicorn": of_gunicorn(),
        "hypercorn": of_hypercorn(),
        "granian": of_click(importlib.import_module("granian.cli").cli),
        "daphne": of_argparse("daphne.cli", "CommandLineInterface"),
    }
    listed = {
        name: {"version": importlib.metadata.version(name), "options": options} for name, options in found.items()
    }
    print(json.dumps(listed, indent=1))


def of_click(command: Any) -> list[str]:
    """Return the options of a command of click's, without those that only switch another one off, and its arguments."""
    names = set()
    for param in command.params:
        if param.param_type_name == "argument":
            names.add(param.name.upper())
        else:
            names.update(name for name in param.opts if name.startswith("--"))
    return sorted(names - {"--help"})


def of_argparse(module: str, entry: str) -> list[str]:
    """Return the options and arguments that a command makes its parser of."""
    parsers = []

    def note(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parsers.append(parser)
        raise SystemExit

    called = getattr(importlib.import_module(module), entry)
    with mock.patch.object(argparse.ArgumentParser, "parse_args", note):
        try:
            made = called()
            parsers.append(made.parser)
        except SystemExit:
            pass
    names = set()
    for action in parsers[0]._actions:
        names.update([name for name in action.option_strings if name.startswith("--")] or [action.dest])
    return sorted(names - {"--help"})


def of_hypercorn() -> list[str]:
    """Return the options, and what only a file can have: the others are there by their name with underscores."""
    options = of_argparse("hypercorn.__main__", "main")
    return sorted({*options, *(name for name in of_hypercorn_file() if f"--{name.replace('_', '-')}" not in options)})


def of_gunicorn() -> list[str]:
    """Return every setting: by its long options, or by its name when only a file can have it."""
    settings = importlib.import_module("gunicorn.config").KNOWN_SETTINGS
    names = set()
    for setting in settings:
        names.update([name for name in setting.cli or () if name.startswith("--")] or [setting.name])
    return sorted(names)


def of_hypercorn_file() -> list[str]:
    """Return what can be set in a file of hypercorn."""
    config = importlib.import_module("hypercorn.config").Config
    names = set()
    for name in {*vars(config), *inspect.get_annotations(config)}:
        value = vars(config).get(name)
        is_value = not inspect.isroutine(value) and not isinstance(value, (property, classmethod, staticmethod))
        if not name.startswith("_") and (is_value or (isinstance(value, property) and value.fset)):
            names.add(name)
    return sorted(names)


if __name__ == "__main__":
    main()
