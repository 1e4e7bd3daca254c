"""The servers of the comparison: what to install for each, how it is started, and in which settings it can be.

A table and nothing else. A *setting* is what a scenario asks of a server (`scenarios`); for each that it can be in, a
server has what its command, or its file, needs for it. One that lacks the setting cannot do the scenario, and
its results say "-". To add a server, add a row.

In commands, files and values `{port}`, `{here}` (this directory), `{scratch}` (the directory of this run), `{app}`,
`{cert}` and `{key}` are filled in, and what `default` and the setting add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["NAMES", "SERVERS", "Server"]

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Server:
    """A server, one worker and no access log unless a setting says otherwise."""

    name: str
    requirements: tuple[str, ...]
    command: str
    settings: Mapping[str, Mapping[str, str]]  # setting -> what it fills into command and file
    default: Mapping[str, str] = field(default_factory=dict)
    file: str = ""  # the text of the configuration file {scratch}/configuration
    is_extra: bool = False  # only where it is asked for
    variant_of: str = ""  # another way to start the same program

    @property
    def program(self) -> str:
        """The command that the requirements install."""
        return self.command.split()[0]


# serverd, as a user would write it. {listener}, {process} and {more} are lines of the setting.
SERVERD_FILE = """
[server]
{process}

[listeners.web]
bind = "127.0.0.1:{port}"
{listener}

[apps.main]
app = "{app}"
directory = "{directory}"

[[mounts]]
path = "/"
app = "main"

[logging]
level = "warning"

[access_log]
{access}

{more}
"""

SERVERD_TLS = {
    "listener": 'tls = "main"',
    "more": '[[tls.main.certificates]]\ncert = "{cert}"\nkey = "{key}"\n',
}


def _mounts(count: int) -> str:
    """Return the tables of further mounts: the requests go to the one at the root."""
    return "\n".join(f'[[mounts]]\npath = "/services/service-{number}"\napp = "main"' for number in range(1, count))


# What every server that takes a command line can be in without a word.
EVERYWHERE: dict[str, dict[str, str]] = {"plain": {}, "reload": {"directory": "{scratch}"}}

# Servers without mounts have them made by Starlette.
STARLETTE = {"50 mounts": {"app": "mounted:fifty"}, "1000 mounts": {"app": "mounted:thousand"}}

UVICORN = (
    "uvicorn --app-dir {directory} --port {port} --loop uvloop --http httptools --log-level {level} {options} {app}"
)
UVICORN_DEFAULT = {"directory": "{here}", "level": "warning", "options": "--ws none --no-access-log"}
UVICORN_TLS = "--ws none --no-access-log --ssl-certfile {cert} --ssl-keyfile {key}"
GRANIAN_TLS = "--no-access-log --ssl-certificate {cert} --ssl-keyfile {key}"
GUNICORN_TLS = "--workers 1 --certfile {cert} --keyfile {key}"


def _serverd(name: str, *, is_extra: bool = False) -> Server:
    return Server(
        name,
        (f"-e{ROOT}",),
        "serverd -c {scratch}/configuration",
        {
            **EVERYWHERE,
            "websocket": {},
            "deflate": {},
            "h2c": {},
            "idle": {},
            "access log": {"access": 'file = "{scratch}/access.log"'},
            "tls": SERVERD_TLS,
            "h2": SERVERD_TLS,
            "2 workers": {"process": "workers = 2"},
            "50 mounts": {"more": _mounts(50)},
            "1000 mounts": {"more": _mounts(1000)},
        },
        default={"directory": "{here}", "listener": "", "process": "", "access": "enabled = false", "more": ""},
        file=SERVERD_FILE,
        is_extra=is_extra,
    )


def _uvicorn_websocket(implementation: str, requirement: str) -> Server:
    options = f"--ws {implementation} --no-access-log"
    return Server(
        f"uvicorn {implementation}",
        ("uvicorn[standard]", requirement),
        UVICORN,
        {"websocket": {"options": options}, "deflate": {"options": options}},
        default=UVICORN_DEFAULT,
        variant_of="uvicorn",
    )


def _uvicorn_http2() -> Server:
    """Return uvicorn with the only parser of its that speaks HTTP/2, which it calls experimental."""
    options = "--http zttp --http2 --ws none --no-access-log"
    return Server(
        "uvicorn zttp",
        ("uvicorn[standard]", "zttp"),
        UVICORN,
        {"h2c": {"options": options}, "h2": {"options": f"{options} --ssl-certfile {{cert}} --ssl-keyfile {{key}}"}},
        default=UVICORN_DEFAULT,
        variant_of="uvicorn",
    )


SERVERS = (
    _serverd("serverd"),
    _serverd("serverd compiled", is_extra=True),
    Server(
        "uvicorn",
        ("uvicorn[standard]",),
        UVICORN,
        {
            **EVERYWHERE,
            **STARLETTE,
            "idle": {"options": "--ws none --no-access-log --timeout-keep-alive 75"},
            "access log": {"level": "info", "options": "--ws none --access-log"},
            "tls": {"options": UVICORN_TLS},
            "2 workers": {"options": "--ws none --no-access-log --workers 2"},
            "reload": {"directory": "{scratch}", "options": "--ws none --no-access-log --workers 2"},
        },
        default=UVICORN_DEFAULT,
    ),
    _uvicorn_websocket("websockets-sansio", "websockets"),
    _uvicorn_websocket("websockets", "websockets"),
    _uvicorn_websocket("wsproto", "wsproto"),
    _uvicorn_http2(),
    Server(
        "granian",
        ("granian[uvloop]",),
        "granian --interface asgi --port {port} --loop uvloop --working-dir {directory}"
        " --log-level {level} --workers {workers} {options} {app}",
        {
            **EVERYWHERE,
            **STARLETTE,
            "websocket": {},  # it does not compress messages
            "h2c": {},
            "idle": {"options": "--no-access-log --backlog 16384"},
            "access log": {"level": "info", "options": "--access-log"},
            "tls": {"options": GRANIAN_TLS},
            "h2": {"options": GRANIAN_TLS},
            "2 workers": {"workers": "2"},
        },
        default={"directory": "{here}", "level": "warning", "options": "--no-access-log", "workers": "1"},
    ),
    Server(
        "hypercorn",
        ("hypercorn[uvloop]",),
        "hypercorn --config {here}/hypercorn.toml --bind 127.0.0.1:{port} --worker-class uvloop --log-level WARNING"
        " {options} {directory}/{app}",
        {
            "plain": {},
            **STARLETTE,
            "websocket": {},
            "deflate": {},
            "h2c": {},
            "idle": {"options": "--keep-alive 75"},
            "access log": {"options": "--log-level INFO --access-logfile {scratch}/access.log"},
            "tls": {"options": "--certfile {cert} --keyfile {key}"},
            "h2": {"options": "--certfile {cert} --keyfile {key}"},
            "2 workers": {"options": "--workers 2"},
        },
        default={"directory": "{here}", "options": ""},
    ),
    Server(
        "gunicorn",
        ("gunicorn[fast,http2]", "uvloop"),
        "gunicorn --worker-class asgi --bind 127.0.0.1:{port} --chdir {directory} --asgi-loop uvloop"
        " --log-level warning --worker-connections 20000 --no-control-socket {options} {app}",
        {
            **EVERYWHERE,
            **STARLETTE,
            "websocket": {},
            "idle": {"options": "--workers 1 --keep-alive 75"},
            "access log": {"options": "--workers 1 --access-logfile {scratch}/access.log"},
            "tls": {"options": GUNICORN_TLS},
            "h2": {"options": GUNICORN_TLS + " --http-protocols h2,h1"},
            "2 workers": {"options": "--workers 2"},
        },
        default={"directory": "{here}", "options": "--workers 1"},
    ),
    Server(
        "daphne",
        ("daphne", "twisted[tls,http2]"),
        "daphne --verbosity 0 --application-close-timeout 2 {bind} {options} {app}",
        {
            "plain": {},
            **STARLETTE,
            "websocket": {},
            "idle": {},
            "access log": {"options": "--access-log {scratch}/access.log"},
            "tls": {"bind": "--endpoint ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={cert}"},
            "h2": {"bind": "--endpoint ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={cert}"},
        },
        default={"bind": "--port {port} --bind 127.0.0.1", "options": ""},
    ),
)

NAMES = sorted({name for server in SERVERS for name in (server.program, server.name)})
