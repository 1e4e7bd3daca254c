"""What `serverd --version` shows: serverd, and the versions of the parts that its behaviour depends on."""

from __future__ import annotations

import importlib.metadata
import platform
import ssl
from collections.abc import Iterator

from serverd.version import RELEASE

__all__ = ["describe_versions"]

# Those that read what clients and operators write, and run it; the rest is told by `pip list`.
_PARTS = ("httptools", "h11", "uvloop", "pydantic", "tomli", "click")


def describe_versions() -> str:
    """Return name and version of every part, one to a line, serverd first."""
    parts = dict(_versions())
    width = max(map(len, parts))
    return "".join(f"{name:{width}} {version}\n" for name, version in parts.items())


def _versions() -> Iterator[tuple[str, str]]:
    yield "serverd", RELEASE
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield from ((name, _installed(name)) for name in _PARTS)
    # The one that Python was built with or finds, which need not be the machine's.
    yield "OpenSSL", ssl.OPENSSL_VERSION.removeprefix("OpenSSL ")


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
