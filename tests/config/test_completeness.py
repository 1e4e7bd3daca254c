"""All problems at once, and no other: one faulty value hides nothing and accuses nothing that is sound."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest

from serverd.config.load import load
from serverd.config.locate import Path
from serverd.errors import ConfigError
from tests.support.every import every

from .conftest import Load, Report, Write

FILES = {
    "more.toml": '[apps.blog]\napp = "blog"\ndirectory = "lib"\nenv = { B = "1", SAME = "x" }\n'
    '[[mounts]]\npath = "/more"\napp = "blog"\n',
    "lib/blog.py": "",
    "src/shop.py": "",
    "shop.env": "A=1\nSAME=other\n",
}

WEBSOCKET = {
    "message_size": "1MiB",
    "frame_size": 70000,
    "queue": 8,
    "ping_interval": "5s",
    "ping_timeout": 7,
    "compression": False,
}

SOUND: dict[str, Any] = {
    "include": ["more.toml"],
    "server": {
        "workers": 2,
        "loop": "auto",
        "graceful_timeout": "5s",
        "server_header": False,
        "user": os.geteuid(),
        "group": os.getegid(),
        "umask": "0027",
        "pid_file": "serverd.pid",
        "hang_timeout": "5s",
        "lag_threshold": "2s",
        "preload": True,
        "recycle": {"requests": 100, "jitter": 10, "lifetime": "1h", "memory": "1GiB"},
    },
    "limits": {
        "header_count": 10,
        "body_size": "1MiB",
        "connections_beyond": "wait",
        "concurrency": 50,
        "websocket": WEBSOCKET,
    },
    "logging": {"level": "debug", "file": "serverd.log"},
    "control": {"socket": "control.sock"},
    "listeners": {
        "web": {
            "bind": ["127.0.0.1:8000", "unix:web.sock"],
            "socket_mode": "0660",
            "socket_user": "root",
            "trusted_proxies": ["10.0.0.0/8", "unix"],
            "forwarded_headers": ["Forwarded", "x-forwarded-prefix"],
            "proxy_protocol": True,
            "ambiguous_headers": "refuse",
            "limits": {
                "body_size": 1,
                "header_timeout": 1.5,
                "connections": 5,
                "connections_beyond": "wait",
                "websocket": {"queue": 2},
            },
        },
        "api": {"bind": ":8001", "backlog": 5},
    },
    "apps": {
        "shop": {
            "app": "shop:app",
            "factory": True,
            "directory": "src",
            "env_file": "shop.env",
            "env": {"SAME": "x", "OWN": "y"},
            "lifespan": "off",
            "on_failure": "unavailable",
            "request_timeout": "1m",
        }
    },
    "mounts": [
        {
            "path": "/shop",
            "app": "shop",
            "root_path": "/x",
            "strip_prefix": True,
            "trace": True,
            "headers": {"X-A": "1"},
        },
        {"path": "/shop", "app": "shop", "hosts": ["a.example", "*.b.example"], "listeners": ["web", "api"]},
        {"path": "/old", "redirect": "https://{host}{uri}", "listeners": ["api"]},
        {"path": "/old", "listeners": ["web"], "respond": {"status": 404, "body": "x", "headers": {"x-a": "1"}}},
        {"hosts": ["c.example"], "respond": {"status": 204}},
    ],
}

DATE = object()  # stands for a date, which no key takes


def toml(value: Any) -> str:
    """Return `value` as TOML writes it within a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return "1979-05-27" if value is DATE else json.dumps(value)


def document(values: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in values.items())


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield every key path within `value`."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in pairs:
        yield (*path, step)
        yield from paths(item, (*path, step))


def changed(value: Any, path: Path, rename: str | None, to: Any) -> Any:
    """Return a copy of `value` with what is at `path` replaced, or its key renamed."""
    if isinstance(value, list):
        return (
            [changed(item, path[1:], rename, to) if path[0] == n else item for n, item in enumerate(value)]
            if path
            else to
        )
    if not path:
        return to
    step, *rest = path
    if not rest and rename is not None:
        return {rename if key == step else key: item for key, item in value.items()}
    return {key: changed(item, tuple(rest), rename, to) if key == step else item for key, item in value.items()}


ALL = list(paths(SOUND))
NAMES = {("listeners", "web"), ("listeners", "api"), ("apps", "shop")}
FREE = {"OWN", "SAME", "x-a", "X-A"}
KEYS = [path for path in ALL if isinstance(path[-1], str) and path not in NAMES and path[-1] not in FREE]


def spelled(path: Path) -> str:
    return ".".join(map(str, path))


def test_the_sound_configuration_is_sound(load_text: Load) -> None:
    assert load_text(document(SOUND), FILES).warnings == ()


@every("path", ALL, ids=spelled)
def test_a_value_of_a_wrong_type_is_the_only_problem(report_of: Report, path: Path) -> None:
    report = report_of(document(changed(SOUND, path, None, DATE)), FILES)
    assert report.endswith("\n1 problem in server.toml"), report
    assert "a date or time" in report


@every("path", KEYS, ids=spelled)
def test_a_misspelt_key_is_the_only_problem(report_of: Report, path: Path) -> None:
    report = report_of(document(changed(SOUND, path, f"{path[-1]}x", None)), FILES)
    assert report.endswith("\n1 problem in server.toml"), report
    assert f'unknown key (did you mean "{path[-1]}"?)' in report


@every("path", ALL, ids=spelled)
def test_a_missing_variable_is_the_only_problem(report_of: Report, path: Path) -> None:
    report = report_of(document(changed(SOUND, path, None, "${MISSING}")), FILES)
    assert report.endswith("\n1 problem in server.toml"), report
    assert "MISSING" in report


PROBLEMS = """\
[listeners.web]
bind = [":8000", "127.0.0.1:8000"]
socket_mode = "0660"
[listeners.unix]
bind = "unix:x"
socket_user = "nobody-of-that-name"
[apps.shop]
app = "shpo"
env_file = "nothing.env"
[apps.blog]
app = "json"
directory = "nowhere"
env = { A = "1" }
[apps.other]
app = "json"
env = { A = "2" }
[[mounts]]
path = "/a"
app = "shopp"
listeners = ["wbe", "web"]
[[mounts]]
path = "/a"
respond = { status = 204, body = "x" }
strip_prefix = true
[[mounts]]
app = "shop"
redirect = "/x"
[[mounts]]
path = "/b"
root_path = "/c"
"""


FURTHER = {"[listeners.": "backlog = -1", "[apps.": "factory = 0", "[[mounts]]": "zzz = 1"}


def test_a_further_mistake_in_every_entry_hides_nothing(report_of: Report) -> None:
    alone = messages(report_of(PROBLEMS))
    assert len(alone) == 15
    lines = []
    for line in PROBLEMS.splitlines():
        lines += [line, *(mistake for header, mistake in FURTHER.items() if line.startswith(header))]
    together = messages(report_of("\n".join(lines)))
    assert together >= alone
    assert len(together) == 15 + 9


def messages(report: str) -> set[str]:
    """Return the problems of a report without the numbers of lines."""
    heads = [line for line in report.splitlines()[:-1] if line.startswith("server.toml")]
    return {re.sub(r"server.toml:[0-9]+", "server.toml", line) for line in heads}


STRANGE: list[Any] = [
    *(DATE, True, 0, 1, -1, 1.5, "", "x", "web", "shop", "a/b", "${MISSING}"),
    *([], [1], ["x"], [[1]], [{}], {}, {"x": 1}, {"x": {}}, {"path": "/"}, {"a/b": 1}),
]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_values_are_there_is_a_generation_or_a_report(write: Write, tmp_path: FilePath, seed: int) -> None:
    chance = random.Random(seed)
    write(FILES)
    for _ in range(100):
        values = SOUND
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            path = chance.choice(list(paths(values)) or [("x",)])
            rename = f"{path[-1]}{chance.choice(('x', ' ', '[key]'))}" if isinstance(path[-1], str) else None
            values = changed(values, path, chance.choice((rename, None)), chance.choice(STRANGE))
        (tmp_path / "server.toml").write_text(document(values))
        with contextlib.suppress(ConfigError):
            load(str(tmp_path / "server.toml"), {})
