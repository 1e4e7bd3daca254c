"""Options in the place of a file: what `serverd run`, `serverd.run` and `serverd.Server` take, as a configuration.

Every option stands for a key of the configuration, so that it is judged by the models as a file is; a problem names
the option where a file has a line. The names are uvicorn's where it has them. Without pydantic: the command line is
made from OPTIONS, and the loader calls `compose`.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serverd.config.document import Document
from serverd.config.locate import Path
from serverd.config.report import Problem, render
from serverd.errors import ConfigError

__all__ = ["OPTIONS", "Option", "OptionDocument", "call", "compose", "flag", "pack", "title", "unpack", "words"]

APP, LISTENER, TABLE = "app", "web", "main"  # the names of what there is one of

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
# What uvicorn's --proxy-headers believes without --forwarded-allow-ips.
_THIS_MACHINE = ("127.0.0.1", "::1")
_EVERYBODY = ("0.0.0.0/0", "::/0")
# The numbers of ssl.CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED, as uvicorn takes them.
_CLIENT_AUTH = ("none", "optional", "required")


@dataclass(frozen=True, slots=True)
class Option:
    """One option; `path` is the key that it stands for, () if it stands for none by itself."""

    name: str  # as a keyword of Python
    kind: Literal["text", "whole", "seconds", "switch", "both", "texts"]  # switch: on only; both: also --no-NAME
    path: Path
    about: str
    metavar: str = ""


_APP = ("apps", APP)
_LISTENER = ("listeners", LISTENER)
_TLS = ("tls", TABLE)
_PAIR = (*_TLS, "certificates", 0)
_SOCKET = ("limits", "websocket")

OPTIONS = (
    Option("host", "text", (), f"The address to listen on.  [default: {DEFAULT_HOST}]", "ADDRESS"),
    Option("port", "whole", (), f"The port; 0 lets the kernel choose.  [default: {DEFAULT_PORT}]"),
    Option("uds", "text", (), "Listen on this unix socket instead.", "PATH"),
    Option("fd", "whole", (), "Listen on this inherited descriptor instead."),
    Option("backlog", "whole", (*_LISTENER, "backlog"), "Connections that the kernel queues."),
    Option("workers", "text", ("server", "workers"), 'Worker processes, or "auto": one per CPU.', "NUMBER"),
    Option("factory", "switch", (*_APP, "factory"), "APP is a function that returns the application."),
    Option("app_dir", "text", (*_APP, "directory"), "First on the import path.  [default: this folder]", "FOLDER"),
    Option("interface", "text", (*_APP, "interface"), "auto, asgi3 or asgi2."),
    Option("lifespan", "text", (*_APP, "lifespan"), "auto, on or off."),
    Option("env_file", "text", (*_APP, "env_file"), "A file of NAME=value lines.", "FILE"),
    Option("root_path", "text", ("mounts", 0, "root_path"), "The root_path of the application.", "PATH"),
    Option("header", "texts", ("mounts", 0, "headers"), "A field of every response, as Name:value.", "LINE"),
    Option("server_header", "both", ("server", "server_header"), "Whether responses have a Server field."),
    Option("date_header", "both", ("server", "date_header"), "Whether responses have a Date field."),
    Option("loop", "text", ("server", "loop"), "auto, uvloop or asyncio."),
    Option("http", "text", ("server", "http1_parser"), "The HTTP/1 parser: auto, httptools or h11."),
    Option("log_level", "text", ("logging", "level"), "debug, info, warning or error."),
    Option("access_log", "both", ("access_log", "enabled"), "Whether requests are logged."),
    Option("log_format", "text", ("logging", "format"), "auto, text or json."),
    Option("control_socket", "text", ("control", "socket"), "Where commands reach the server.", "PATH"),
    Option("proxy_headers", "both", (), "Whether proxies are believed; on this machine, unless told which."),
    Option(
        "forwarded_allow_ips",
        "text",
        (*_LISTENER, "trusted_proxies"),
        'Whose X-Forwarded-* are believed: addresses and networks with commas, "unix", or "*".',
    ),
    Option("limit_concurrency", "whole", ("limits", "concurrency"), "Most requests in flight per worker."),
    Option("limit_max_requests", "whole", ("server", "recycle", "requests"), "Replace a worker after so many."),
    Option("limit_max_requests_jitter", "whole", ("server", "recycle", "jitter"), "Up to so many more."),
    Option("timeout_keep_alive", "seconds", ("limits", "keep_alive_timeout"), "For an idle connection."),
    Option("timeout_graceful_shutdown", "seconds", ("server", "graceful_timeout"), "For what is in flight."),
    Option("timeout_worker_healthcheck", "seconds", ("server", "hang_timeout"), "Until a worker is hung."),
    Option("ws_max_size", "whole", (*_SOCKET, "message_size"), "Most bytes of a WebSocket message."),
    Option("ws_max_queue", "whole", (*_SOCKET, "queue"), "Most messages that wait for the application."),
    Option("ws_ping_interval", "seconds", (*_SOCKET, "ping_interval"), "Silence before a ping; 0: never."),
    Option("ws_ping_timeout", "seconds", (*_SOCKET, "ping_timeout"), "For its answer; 0: no bound."),
    Option("ws_per_message_deflate", "both", (*_SOCKET, "compression"), "Whether messages are compressed."),
    Option("h11_max_incomplete_event_size", "whole", ("limits", "header_size"), "Most bytes of header fields."),
    Option("ssl_certfile", "text", (*_PAIR, "cert"), "The certificate and its chain; speaks TLS.", "FILE"),
    Option("ssl_keyfile", "text", (*_PAIR, "key"), "Its key.  [default: in the certificate's file]", "FILE"),
    Option(
        "ssl_keyfile_password",
        "text",
        (*_PAIR, "key_password"),
        "What the key is encrypted with; '${NAME}' takes it from the environment, where ps does not show it.",
    ),
    Option("ssl_ca_certs", "text", (*_TLS, "client_ca"), "Authorities of client certificates.", "FILE"),
    Option("ssl_cert_reqs", "whole", (*_TLS, "client_auth"), "Client certificates: 0 none, 1 optional, 2 required."),
    Option("ssl_ciphers", "text", (*_TLS, "ciphers"), "The cipher suites of TLS 1.2."),
)
"""Every option that stands for something in the configuration, in the order in which help shows them."""

_BY_NAME = {option.name: option for option in OPTIONS}


def flag(name: str) -> str:
    """Return how the option `name` is written on a command line."""
    return f"--{name.replace('_', '-')}"


class OptionDocument(Document):
    """A document that nobody has written down: values, and which option each of them comes from."""

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any],
        names: Mapping[Path, str] | None = None,
        spell: Callable[[str], str] | None = None,
        said: str = "",
        title: str = "",
    ) -> None:
        """Take over `values`; `names` tells whence they come, and relative paths start in the current directory.

        `spell` returns what an option is called; without, there are none. The control socket is found by `name`; people
        are told that something stands in what is `said`, and that `title` is served: the name unless they are given.
        """
        super().__init__(os.path.abspath(name), said or name, 0)
        self.home = "the current directory"
        self.written = dict(values)
        self._names = names or {}
        self._spell = spell
        self._title = title or name

    @property
    def title(self) -> str:
        """What the whole is called where somebody is told what a server serves."""
        return self._title

    def term(self, path: Path) -> str:
        """Return what the value at `path` is called, or would be."""
        option = next((option for option in OPTIONS if option.path == path), None)
        return super().term(path) if self._spell is None or option is None else self._spell(option.name)

    def place(self, path: Path) -> str:
        """Return the option that the value at `path` comes from, or the first that a table has a value from.

        What comes from none stands in what is said.
        """
        within = (name for other, name in self._names.items() if other[: len(path)] == path)
        return self._option(path) or next(within, self.display)

    def problem(self, path: Path, message: str, line: int | None = None) -> Problem:
        """Return a problem of the option that the value at `path` comes from."""
        name = self._option(path)
        if not name:
            return super().problem(path, message, line)
        return Problem(0, "", None, None, name, message)

    def _option(self, path: Path) -> str:
        inner = (path[:length] for length in range(len(path), 0, -1))
        return next((self._names[part] for part in inner if part in self._names), "")


def call(target: str, options: Mapping[str, Any]) -> str:
    """Return what a server of these options is called: by it `serverd -c` finds the control socket, from this folder.

    Two servers of an application differ in where they listen; port 0 may need a control socket of its own.
    """
    where = _bind({name: value for name, value in options.items() if value is not None})
    place = "" if where == f"{DEFAULT_HOST}:{DEFAULT_PORT}" else f"@{where}"
    return f"run:{target}{place}".replace("/", "_")


def title(target: str, are_flags: bool) -> str:
    """Return what people are told that a server of options serves; `are_flags`: they stand on a command line."""
    return f"{target} ({'serverd run' if are_flags else 'serverd.run'})"


def compose(target: str, options: Mapping[str, Any], *, are_flags: bool) -> OptionDocument:
    """Return the document in which one application, `target`, is served as `options` say, by their names.

    `are_flags`: they stand on a command line, where problems find them. Raises ConfigError when options contradict each
    other.
    """
    spell = flag if are_flags else str
    given = {name: value for name, value in options.items() if value is not None}
    _refuse(_contradictions(given, spell), spell)
    tables: dict[str, Any] = {
        "listeners": {LISTENER: {"bind": _bind(given)}},
        "apps": {APP: {"app": target}},
        "mounts": [{"app": APP}],
    }
    names: dict[Path, str] = {(*_APP, "app"): "APP" if are_flags else "app"}
    binding = [name for name in ("host", "port", "uds", "fd") if name in given]
    names[*_LISTENER, "bind"] = "/".join(map(spell, binding or ["host", "port"]))
    if given.pop("proxy_headers", False):
        given.setdefault("forwarded_allow_ips", ",".join(_THIS_MACHINE) if "uds" not in given else "unix")
    if "uds" in given and given.get("forwarded_allow_ips") == "*":
        given["forwarded_allow_ips"] = "unix"
    if "ssl_certfile" in given:
        tables["listeners"][LISTENER]["tls"] = TABLE
        tables["tls"] = {TABLE: {"certificates": [{}]}}
        if "ssl_keyfile" not in given:
            _put(tables, (*_PAIR, "key"), given["ssl_certfile"])
            names[*_PAIR, "key"] = spell("ssl_certfile")
    for name, value in given.items():
        option = _BY_NAME[name]
        if option.path:
            _put(tables, option.path, _CONVERT[name](value) if name in _CONVERT else value)
            names[option.path] = spell(name)
    if "ws_max_size" in given:  # a message of one frame must not meet another bound
        _put(tables, (*_SOCKET, "frame_size"), given["ws_max_size"])
        names[*_SOCKET, "frame_size"] = spell("ws_max_size")
    said = "the command line" if are_flags else "the arguments"
    return OptionDocument(call(target, options), tables, names, spell, said, title(target, are_flags))


def _refuse(problems: Iterable[tuple[str, str]], spell: Callable[[str], str]) -> None:
    found = [Problem(0, "", None, None, spell(name), message) for name, message in problems]
    if found:
        raise ConfigError(render(found))


def _contradictions(given: Mapping[str, Any], spell: Callable[[str], str]) -> Iterable[tuple[str, str]]:
    """Yield the options that cannot be what they are, before there is a document to judge."""
    for name in given.keys() - _BY_NAME.keys():
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        yield name, "unknown option" + (f' (did you mean "{near[0]}"?)' if near else "")
    places = [name for name in ("uds", "fd") if name in given]
    if len(places) > 1 or (places and given.keys() & {"host", "port"}):
        yield places[0], "names another place to listen on than the other options do (expected one of them)"
    port = given.get("port", DEFAULT_PORT)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        yield "port", f"{port!r} is not a port (expected a whole number from 0 to 65535)"
    for name in ("host", "uds"):
        if not isinstance(given.get(name, "x"), str) or not given.get(name, "x"):
            yield name, "expected text that is not empty"
    if given.get("proxy_headers") is False and "forwarded_allow_ips" in given:
        yield "forwarded_allow_ips", "says whom to believe, and proxy headers are switched off"
    if given.get("ssl_cert_reqs", 0) not in range(len(_CLIENT_AUTH)):
        yield "ssl_cert_reqs", "expected 0 (none), 1 (optional) or 2 (required)"
    lines = given.get("header", ())
    if isinstance(lines, str) or not all(isinstance(line, str) and ":" in line for line in lines):
        yield "header", 'expected "Name: value"'
    if "ssl_certfile" not in given:
        needed = f"needs a certificate (expected {spell('ssl_certfile')} beside it)"
        yield from ((name, needed) for name in sorted(given) if name.startswith("ssl_"))


def _bind(given: Mapping[str, Any]) -> str:
    if "uds" in given:
        return f"unix:{given['uds']}"
    if "fd" in given:
        return f"fd:{given['fd']}"
    host = str(given.get("host", DEFAULT_HOST))
    return f"{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{given.get('port', DEFAULT_PORT)}"


def _workers(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9 else value


def _proxies(value: object) -> object:
    if not isinstance(value, str):
        return list(value) if isinstance(value, Sequence) else value
    parts = [part.strip() for part in value.split(",")]
    return [one for part in parts if part for one in (_EVERYBODY if part == "*" else (part,))]


def _fields(lines: Iterable[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


_CONVERT: dict[str, Callable[[Any], object]] = {
    "workers": _workers,
    "forwarded_allow_ips": _proxies,
    "header": _fields,
    "ssl_cert_reqs": _CLIENT_AUTH.__getitem__,
}


def _put(tables: dict[str, Any], path: Path, value: object) -> None:
    *above, last = path
    table: Any = tables
    for step in above:
        table = table[step] if isinstance(step, int) else table.setdefault(step, {})
    table[last] = value


def words(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options as they are written on a command line."""
    return tuple(word for name, value in options.items() for word in _words(name, value))


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name) if value else flag(f"no_{name}")]
    return [f"{flag(name)}={one}" for one in (value if isinstance(value, list | tuple) else [value])]


def pack(target: str, options: Mapping[str, Any], *, are_flags: bool) -> bytes:
    """Return what the loader makes the document from; `are_flags`: they were given on a command line."""
    return json.dumps([target, {**options}, are_flags]).encode()


def unpack(data: bytes) -> OptionDocument:
    """Return the document of options that `pack` has packed; raises ConfigError as `compose` does."""
    target, options, are_flags = json.loads(data)
    return compose(target, options, are_flags=are_flags)
