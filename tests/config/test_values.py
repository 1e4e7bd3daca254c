"""Scalars: what they mean, and the predicate for what they cannot mean."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from serverd.config.values import (
    Substituted,
    parse_app_target,
    parse_duration,
    parse_file_path,
    parse_maybe_path,
    parse_name,
    parse_size,
    parse_socket_mode,
    parse_umask,
    parse_variable_name,
    parse_variable_value,
    parse_workers,
    read_number_or_flag,
)
from tests.support.every import every


@every(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("10s", 10),
        ("1.5s", 1.5),
        ("5m", 300),
        ("6h", 21600),
        ("1d", 86400),
        ("10 s", 10),
        (10, 10),
        (0.5, 0.5),
        (0, 0),
        (Substituted("10"), 10),
        (Substituted("10s"), 10),
    ],
)
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["10", "ten", "", "10 weeks", "-1s", "1e3s", "٣s", "10s\n", True, None, []])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(written)


@pytest.mark.parametrize("written", [-1, math.inf, math.nan, "366d", 10**400, -(10**400), 1e308])
def test_a_duration_out_of_range_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="0 to 365 days"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("16KiB", 16384),
        ("512MiB", 512 * 2**20),
        ("10MB", 10**7),
        ("1GiB", 2**30),
        ("2TB", 2 * 10**12),
        ("5B", 5),
        (8192, 8192),
        (0, 0),
        (Substituted("8192"), 8192),
    ],
)
def test_a_size_is_bytes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["16kb", "16 kib", "1.5MiB", "10", "iB", "10iB", True, 1.0, None])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(written)


@pytest.mark.parametrize("written", [-1, 2**63, "9999999999999TiB"])
def test_a_size_out_of_range_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_size(written)


@pytest.mark.parametrize(("written", "workers"), [(1, 1), (16, 16), ("auto", "auto"), (Substituted("4"), 4)])
def test_workers_are_a_number_or_auto(written: object, workers: object) -> None:
    assert parse_workers(written) == workers


@pytest.mark.parametrize("written", ["4", True, 1.5, None, 0, -2])
def test_other_workers_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match='"auto"'):
        parse_workers(written)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (Substituted("12"), 12),
        (Substituted("-3"), -3),
        (Substituted("true"), True),
        (Substituted("false"), False),
        (Substituted("x"), "x"),
        ("12", "12"),
        ("true", "true"),
        (7, 7),
    ],
)
def test_only_substituted_text_may_stand_for_a_number_or_a_flag(value: object, meant: object) -> None:
    read = read_number_or_flag(value)
    assert read == meant
    assert isinstance(read, str) == isinstance(meant, str)


@pytest.mark.parametrize("name", ["web", "a-b_C9", "x" * 64])
def test_names_are_plain(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "x" * 65, "a\n", 1])
def test_other_names_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        parse_name(name)


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("main", "main:app"),
        ("shop.main", "shop.main:app"),
        ("shop.main:create", "shop.main:create"),
        ("a:b.c", "a:b.c"),
    ],
)
def test_an_app_target_has_a_module_and_an_attribute(written: str, target: str) -> None:
    assert parse_app_target(written) == target


@every("written", ["", ":", ":app", "a:", "a:b:c", "a..b", ".a", "a b", "class:app", "../main.py", "/a/b.py", 1])
def test_other_app_targets_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"package\.module:attribute"):
        parse_app_target(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("main.py", "main:app"), ("./a/b.py:x", "a.b:x"), ("a/b", "a.b:app"), ("main.py:app.inner", "main:app.inner")],
)
def test_who_names_a_file_is_told_the_module(written: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"is a file path .did you mean {meant!r}".replace("'", '"')):
        parse_app_target(written)


@pytest.mark.parametrize(("written", "mode"), [("0660", 0o660), ("660", 0o660), ("0o777", 0o777), ("0000", 0)])
def test_a_socket_mode_is_octal_text(written: str, mode: int) -> None:
    assert parse_socket_mode(written) == mode


@pytest.mark.parametrize("written", [0o660, "0860", "01777", "rw-rw----", "", None, True])
def test_other_socket_modes_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a file mode"):
        parse_socket_mode(written)


@pytest.mark.parametrize(("path", "wrong"), [("", "empty"), ("a\0b", "control"), ("a\x7f", "control"), (1, "string")])
def test_what_is_no_path_is_refused(path: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_file_path(path)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "Ä", 1])
def test_what_is_no_variable_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="is not a variable name"):
        parse_variable_name(name)


@pytest.mark.parametrize(("value", "wrong"), [(1, "write it in quotes"), ("a\0", "NUL")])
def test_what_is_no_variable_value_is_refused(value: object, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_variable_value(value)


@pytest.mark.parametrize(
    "parse",
    [parse_app_target, parse_duration, parse_name, parse_size, parse_socket_mode, parse_variable_name, parse_workers],
)
def test_no_predicate_repeats_the_value(parse: object) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the point is what it does not say)
        parse("hunter2 \0")  # type: ignore[operator]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("written", "bits"), [("0027", 0o27), ("022", 0o22), ("0o077", 0o77), ("0777", 0o777)])
def test_a_umask_is_octal(written: str, bits: int) -> None:
    assert parse_umask(written) == bits


@pytest.mark.parametrize("written", [22, 0o22, "22", "1777", "0028", "", None, "0027\n"])
def test_what_is_no_umask_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a umask"):
        parse_umask(written)


def test_a_path_that_may_be_missing_is_empty_or_a_path() -> None:
    assert parse_maybe_path("") == ""
    assert parse_maybe_path("a/b") == "a/b"
    for wrong in (0, None, False, "a\0"):
        with pytest.raises(ValueError, match="path"):
            parse_maybe_path(wrong)


def test_a_path_that_the_locale_cannot_write_is_no_path() -> None:
    program = "from serverd.config.values import parse_file_path; parse_file_path('/srv/caf\\xe9')"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == (
        "ValueError: holds \\xe9, which the encoding of file names, ascii, does not have (expected UTF-8: "
        "LC_ALL=C.UTF-8, or PYTHONUTF8=1)"
    )
