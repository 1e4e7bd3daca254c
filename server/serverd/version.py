"""Which version of serverd this is: the one place that says so, from which the distribution takes it (pyproject.toml).

A constant, and not looked up in what is installed: that would cost each start the import of `importlib.metadata`,
which brings a parser of e-mail and one of zip files, and would tell what is on disk, not what runs.
"""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
