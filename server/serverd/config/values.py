"""Scalars of the configuration language: durations, sizes, names, targets, permission bits.

Pure functions from what TOML holds to what a generation holds; not the models and not the wording of
reports. Called by `kinds`. Each raises ValueError with a predicate ("is not a duration ...") that never
repeats the value: the report puts the value in front, as the operator wrote it, so that a secret which
came from the environment is never shown.
"""

from __future__ import annotations

import keyword
import math
import os
import re

__all__ = [
    "MOST_WORKERS",
    "Substituted",
    "parse_app_target",
    "parse_cipher_list",
    "parse_duration",
    "parse_file_path",
    "parse_maybe_path",
    "parse_name",
    "parse_size",
    "parse_socket_mode",
    "parse_umask",
    "parse_variable_name",
    "parse_variable_value",
    "parse_workers",
    "read_number_or_flag",
]

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS: dict[str, int] = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
}
LONGEST = 365 * 86400.0  # far below what event loop timers take; anything longer is a mistake in the unit
LARGEST = 2**63 - 1  # TOML's own integer range

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,19}) ?([KMGT]?i?B)")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODE = re.compile(r"(?:0o|0)?([0-7]{3})")
_CIPHERS = re.compile(r"[A-Za-z0-9_+:!@=., -]{1,10000}")
_NUMBER = re.compile(r"-?[0-9]{1,18}")


class Substituted(str):
    """A string that `${NAME}` took part in; only such a one may stand for a number or a truth value."""


def read_number_or_flag(value: object) -> object:
    """Return the number or truth value that a substituted string spells, any other value as it is."""
    if not isinstance(value, Substituted):
        return value
    if _NUMBER.fullmatch(value):
        return int(value)
    return {"true": True, "false": False}.get(value, value)


def parse_duration(value: object) -> float:
    """Return seconds from "250ms", "10s", "5m", "6h", "1d" or a number of seconds, at most 365 days.

    Raises ValueError when it is none of these.
    """
    value = read_number_or_flag(value)
    seconds = math.nan
    if isinstance(value, str):
        found = _DURATION.fullmatch(value)
        if found:
            seconds = float(found[1]) * DURATION_UNITS[found[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= LARGEST else math.inf
    if math.isnan(seconds):
        raise ValueError('is not a duration (expected like "250ms", "10s", "5m", "6h", "1d", or a number of seconds)')
    if not 0 <= seconds <= LONGEST:
        raise ValueError("is out of range (a duration is 0 to 365 days)")
    return seconds


def parse_size(value: object) -> int:
    """Return bytes from "16KiB", "512MiB", "10MB" or a whole number of bytes, below 2**63.

    Raises ValueError when it is none of these.
    """
    value = read_number_or_flag(value)
    size: int | None = None
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if found and found[2] in SIZE_UNITS:
            size = int(found[1]) * SIZE_UNITS[found[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if size is None:
        raise ValueError('is not a size (expected like "16KiB", "512MiB", "10MB", or a whole number of bytes)')
    if not 0 <= size <= LARGEST:
        raise ValueError("is out of range (a size is 0 to 2**63-1 bytes)")
    return size


# Each is a process with a socket per address: more than any machine has processors, and few enough for a mistake in
# the file to cost nothing but a line.
MOST_WORKERS = 1024


def parse_workers(value: object) -> int | str:
    """Return a number of workers of 1 to 1024, or "auto".

    Raises ValueError when it is neither.
    """
    value = read_number_or_flag(value)
    if value == "auto":
        return "auto"
    if not isinstance(value, int) or isinstance(value, bool):
        hint = " (write it without quotes)" if isinstance(value, str) and value.isdecimal() else ""
        raise ValueError(f'is not a whole number or "auto"{hint}')
    if value < 1:
        raise ValueError('is too few (expected at least 1, or "auto")')
    if value > MOST_WORKERS:
        raise ValueError(f'is too many (expected at most {MOST_WORKERS}, or "auto")')
    return value


def parse_name(value: object) -> str:
    """Return the name of a listener or an app: 1 to 64 letters, digits, underscores and hyphens.

    Raises ValueError when it is not such a name.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("is not a name (expected 1 to 64 ASCII letters, digits, underscores and hyphens)")
    return str(value)


_APP_TARGET = 'expected like "package.module:attribute"'


def _module_of(path: str) -> str:
    """Return the application that somebody means who names a file; "" when it cannot be told."""
    file, colon, attribute = path.removeprefix("./").partition(":")
    target = f"{file.removesuffix('.py').replace('/', '.')}:{attribute if colon else 'app'}"
    parts = target.replace(":", ".").split(".")
    return target if all(part.isidentifier() for part in parts) else ""


def parse_app_target(value: object) -> str:
    """Return "package.module:attribute.path"; the attribute defaults to "app".

    Raises ValueError when the value cannot name a Python object.
    """
    if not isinstance(value, str):
        raise ValueError(f"is not a string ({_APP_TARGET})")
    if "/" in value or value.partition(":")[0].endswith(".py"):
        meant = _module_of(value)
        hint = f'did you mean "{meant}"?' if meant else f"{_APP_TARGET}, with `directory` naming its folder"
        raise ValueError(f"is a file path ({hint})")
    module, colon, attribute = value.partition(":")
    attribute = attribute if colon else "app"
    parts = [*module.split("."), *attribute.split(".")]
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        raise ValueError(f"is not an application ({_APP_TARGET})")
    return f"{module}:{attribute}"


def parse_socket_mode(value: object) -> int:
    """Return permission bits from an octal string such as "0660", at most 0o777.

    Raises ValueError when it is no such string.
    """
    return _parse_bits(value, 'is not a file mode (expected an octal string like "0660")')


def parse_umask(value: object) -> int:
    """Return the permission bits to take away, from an octal string such as "0027", at most 0o777.

    Raises ValueError when it is no such string.
    """
    return _parse_bits(value, 'is not a umask (expected an octal string like "0027")')


def _parse_bits(value: object, otherwise: str) -> int:
    """Return what an octal string spells; a ValueError says `otherwise`.

    Numbers are refused: 0o660 and a mistaken 432 or 660 cannot be told apart once TOML has read them.
    """
    found = _MODE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(otherwise)
    bits: str = found[1]
    return int(bits, 8)


def parse_file_path(value: object) -> str:
    """Return a path that the operating system can take.

    Raises ValueError when it is no string, empty or holds characters that no path here can have.
    """
    if not isinstance(value, str):
        raise ValueError("is not a string (expected a path)")
    if not value:
        raise ValueError("is empty (expected a path)")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("holds a control character, which no path here may")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        character, encoding = value[error.start].encode("unicode_escape").decode(), error.encoding
        raise ValueError(
            f"holds {character}, which the encoding of file names, {encoding}, does not have (expected UTF-8: "
            "LC_ALL=C.UTF-8, or PYTHONUTF8=1)"
        ) from None
    return str(value)


def parse_maybe_path(value: object) -> str:
    """Return a path that the operating system can take, or "".

    Raises ValueError when it is neither.
    """
    return "" if value == "" else parse_file_path(value)


def parse_variable_name(value: object) -> str:
    """Return the name of an environment variable.

    Raises ValueError when it is not such a name.
    """
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError(
            "is not a variable name (expected ASCII letters, digits and underscores, not starting with a digit)"
        )
    return str(value)


def parse_variable_value(value: object) -> str:
    """Return the value of an environment variable.

    Raises ValueError when it is no string or holds NUL.
    """
    if not isinstance(value, str):
        raise ValueError("is not a string (environment variables are strings: write it in quotes)")
    if "\0" in value:
        raise ValueError("holds NUL, which no environment variable can")
    return str(value)


def parse_cipher_list(value: object) -> str:
    """Return a list of cipher suites in the signs that OpenSSL's have; which there are, only OpenSSL knows.

    Raises ValueError when it is no such text.
    """
    if not isinstance(value, str) or not _CIPHERS.fullmatch(value):
        raise ValueError('is not a list of cipher suites (expected like "ECDHE+AESGCM:ECDHE+CHACHA20")')
    return str(value)
