"""Whatever the files hold, and whatever they lead to: a report, soon, and never a traceback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serverd.config import load as load_module
from serverd.config import locate
from serverd.config.files import LARGEST_FILE
from serverd.config.load import load
from serverd.errors import ConfigError

from .conftest import Load, Report, Write

SOON = 10.0  # seconds of the processor: each takes a second or two, one five, and what others want counts for nobody


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    begin = time.process_time()
    yield
    assert time.process_time() - begin < SOON


WEB = '[listeners.web]\nbind = ":0"\n'
MOUNT = '[[mounts]]\nredirect = "/x"\n'


def filled(head: str, item: Callable[[int], str], tail: str = "") -> str:
    """Return a text that is large enough for anything but linear time to hurt."""
    text = "".join(item(number) for number in range(LARGEST_FILE // 20))
    return head + text[: text.rindex("\n", 0, LARGEST_FILE // 4) + 1] + tail


# As functions: there is much of it, and every process that runs tests imports this.
MASSES: dict[str, Callable[[], str]] = {
    "unknown keys": lambda: filled("", lambda n: f"key{n} = 1\n"),
    "unknown keys of an app": lambda: filled("[apps.x]\n", lambda n: f"key{n} = 1\n"),
    "listeners": lambda: filled("", lambda n: f'[listeners.a{n}]\nbind = ":0"\n'),
    "apps": lambda: filled(WEB, lambda n: f'[apps.a{n}]\napp = "json"\n\n'),
    "addresses": lambda: filled("[listeners.a]\nbind = [\n", lambda n: f'"127.0.{n // 250}.{n % 250}:80",\n', "]\n"),
    "unknown apps": lambda: filled(WEB, lambda n: f'[[mounts]]\napp = "a{n}"\n'),
    "equal mounts": lambda: filled(WEB, lambda n: MOUNT),
    "faulty hosts": lambda: filled(WEB + MOUNT + "hosts = [\n", lambda n: f'"a{n}:",\n', "]\n"),
    "faulty mounts in one array": lambda: filled("mounts = [\n", lambda n: f'{{ path = "{n}" }},\n', "]\n"),
    "missing variables": lambda: filled("[apps.x.env]\n", lambda n: f'A{n} = "${{MISSING}}"\n'),
    "a line of missing variables": lambda: filled("[apps.x]\nenv = [", lambda n: '"${MISSING}", ' * 100 + "\n").replace(
        "\n", " "
    ),
    "missing includes": lambda: filled("include = [\n", lambda n: f'"{n}",\n', "]\n"),
    "matching includes": lambda: filled("include = [\n", lambda n: '"*/*",\n', "]\n"),
    "brackets in a text": lambda: filled(
        WEB + MOUNT + 'path = "x"\nlast = """\n', lambda n: "[a b c d e f]\n", '"""\n'
    ),
    "arrays in an array": lambda: filled("x = [\n", lambda n: "[1, 2, 3],\n", "]\n"),
    "deep arrays in an array": lambda: filled("x = [\n", lambda n: "[[[[[[[[[\n1]]]]]]]]],\n", "]\n"),
}


def test_a_file_of_beginnings_that_should_be_a_certificate(report_of: Report) -> None:
    beginnings = "-----BEGIN CERTIFICATE-----\n" * (LARGEST_FILE // 28)
    table = '[tls.main]\ncertificates = [{ cert = "a.crt", key = "a.crt" }]\n'
    report = report_of(WEB + table + MOUNT, {"a.crt": beginnings})
    assert '"a.crt" holds no certificate: it is cut off or damaged' in report


@pytest.mark.parametrize("what", MASSES)
def test_masses_are_reported_soon_and_briefly(monkeypatch: pytest.MonkeyPatch, report_of: Report, what: str) -> None:
    monkeypatch.setattr(locate, "BUDGET", 1024 * 1024)
    report = report_of(MASSES[what]())
    assert len(report) < 300_000
    assert report.count("\n") <= 400


LONG = LARGEST_FILE // 2 - 100

STRANGE = {
    "arrays": "a = " + "[" * 10_000 + "]" * 10_000,
    "very many arrays": "a = " + "[" * LONG + "]" * LONG,
    "tables": "a = " + "{ a = " * 10_000 + "1" + "}" * 10_000,
    "dotted keys": "a." * 10_000 + "a = 1",
    "headers": "[" + "a." * 10_000 + "a]",
    "arrays of tables": "".join(f"[[{'.'.join('a' * depth)}]]\n" for depth in range(1, 500)),
    "a number of many digits": "server.workers = " + "9" * LONG,
    "a hexadecimal number": f"server.workers = 0x{'f' * LONG}\nserver.start_timeout = 0x{'f' * 5000}",
    "a number beyond floats": f"server.start_timeout = 1e{'9' * LONG}\nlimits.body_size = 1e999",
    "a long key": "k" * LONG + " = 1",
    "a long name": f"[apps.{'k' * LONG}]\n" + "".join(f"k{number} = 1\n" for number in range(10_000)),
    "a long choice": f'server.loop = "{"a" * LONG}"',
    "a long address": f'[listeners.web]\nbind = "{"a-" * LONG}"',
    "a long host": f'{WEB}{MOUNT}hosts = ["{"a-" * (LONG - 100)}"]',
    "a long header": f'{WEB}[[mounts]]\nrespond.headers.a = "{"  " * (LONG - 100)}"',
    "a long module": f'{WEB}{MOUNT}[apps.x]\napp = "{"a" * LONG}"',
    "a long include": f'include = ["{"a/" * LONG}"]',
    "a long way up": f'include = ["{"../" * 100_000}x"]',
    "wildcards": f'include = ["{"*a" * 300}b"]',
    "open references": f'{WEB}[[mounts]]\nrespond.body = "{"${A:-" * (LONG // 3)}"',
    "nothing but newlines": "\n" * LARGEST_FILE,
    "nothing but zeros": "\0" * LARGEST_FILE,
}


@pytest.mark.parametrize("what", STRANGE)
def test_strange_values_are_reported_soon_and_briefly(report_of: Report, what: str) -> None:
    assert len(report_of(STRANGE[what])) < 5000


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_refused(load_text: Load, report_of: Report) -> None:
    text = f"{WEB}{MOUNT}#"
    load_text(text + "x" * (LARGEST_FILE - len(text)))
    assert "server.toml: is larger than" in report_of(text + "x" * (LARGEST_FILE + 1 - len(text)))


def test_many_variables_of_many_characters_fill_no_memory(report_of: Report) -> None:
    report = report_of(f'{WEB}[[mounts]]\nrespond.body = "{"${BIG}" * 100_000}"', BIG="x" * 100_000)
    assert "makes the values of this file longer than" in report
    report = report_of(WEB + MOUNT + "".join(f'[apps.x{n}]\nenv.A = "${{BIG}}"\n' for n in range(900)), BIG="x" * 10**6)
    assert "makes the values of this file longer than" in report


def test_many_mounts_on_many_listeners_are_compared_soon(load_text: Load) -> None:
    listeners = "".join(f'[listeners.a{number}]\nbind = "fd:{number}"\n' for number in range(900))
    hosts = ", ".join(f'"h{number}"' for number in range(60_000))
    assert len(load_text(f"{listeners}{MOUNT}hosts = [{hosts}]\n{MOUNT}").mounts) == 2


# What files lead to other files.


@pytest.mark.parametrize("name", ["./server.toml", "link.toml", "../{folder}/server.toml", "{path}"])
def test_the_main_file_includes_not_itself(tmp_path: Path, report_of: Report, name: str) -> None:
    (tmp_path / "link.toml").symlink_to("server.toml")
    name = name.format(folder=tmp_path.name, path=tmp_path / "server.toml")
    report = report_of(f'include = ["{name}"]\n{WEB}{MOUNT}')
    assert "is this file itself" in report
    assert report.endswith("1 problem in server.toml")


def test_a_pattern_passes_over_the_main_file_and_links_to_it(tmp_path: Path, load_text: Load) -> None:
    (tmp_path / "link.toml").symlink_to("server.toml")
    assert len(load_text(f'include = ["*.toml"]\n{WEB}{MOUNT}').mounts) == 1


def test_included_files_cannot_include_so_there_are_no_cycles(report_of: Report) -> None:
    files = {"a.toml": 'include = ["b.toml"]\n', "b.toml": 'include = ["a.toml", "server.toml"]\n'}
    report = report_of(f'include = ["a.toml", "b.toml"]\n{WEB}{MOUNT}', files)
    assert report.count("include: belongs in the main file") == 2
    assert report.endswith("2 problems in a.toml, b.toml")


def test_a_link_to_itself_is_no_file(tmp_path: Path, report_of: Report) -> None:
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    assert "loop.toml: cannot be read: too many levels" in report_of(f'include = ["*.toml"]\n{WEB}{MOUNT}')


def test_a_pattern_that_matches_thousands_of_files_is_refused(report_of: Report, write: Write) -> None:
    write({f"d/{number}.toml": "" for number in range(1001)})
    report = report_of(f'include = ["d/*.toml", "d/*"]\n{WEB}{MOUNT}')
    assert 'include[0]: "d/*.toml" leads to more than 1000 files or folders' in report
    assert report.endswith("1 problem in server.toml")


def test_a_thousand_files_are_read(load_text: Load, write: Write) -> None:
    write({f"d/{number}.toml": f'[[mounts]]\npath = "/{number}"\nredirect = "/"\n' for number in range(1000)})
    assert len(load_text(f'include = ["d/*.toml"]\n{WEB}').mounts) == 1000


@pytest.mark.parametrize("pattern", ["/*/*/*/*/*/*/*/*.toml", "/**/**/**/**/**/*.toml", "/proc/*/*/*/*"])
def test_a_pattern_that_leads_all_over_the_machine_is_given_up(report_of: Report, pattern: str) -> None:
    assert "leads to more than 1000 files or folders" in report_of(f'include = ["{pattern}"]\n{WEB}{MOUNT}')


def test_large_files_are_refused_together(monkeypatch: pytest.MonkeyPatch, report_of: Report, write: Write) -> None:
    monkeypatch.setattr(load_module, "MOST_BYTES", 1000)
    write({f"d/{number}.toml": "#" * 300 for number in range(10)})
    report = report_of(f'include = ["d/*.toml"]\n{WEB}[[mounts]]\napp = "perhaps-in-a-later-file"\n')
    assert report == "d/3.toml: makes the configuration larger than 1000 bytes\n1 problem in d/3.toml"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/proc/self/mem", "/proc/self/pagemap", "/proc/kmsg"])
def test_what_is_no_ordinary_file_is_not_waited_for(path: str) -> None:
    if not os.path.lexists(path):
        pytest.skip("not on this machine")
    with pytest.raises(ConfigError):
        load(path, {})


def test_a_pipe_as_env_file_is_not_waited_for(tmp_path: Path, report_of: Report) -> None:
    os.mkfifo(tmp_path / "pipe")
    report = report_of(f'{WEB}[apps.x]\napp = "json"\nenv_file = "pipe"\n[[mounts]]\napp = "x"\n')
    assert 'apps.x.env_file: "pipe" is not a regular file' in report
