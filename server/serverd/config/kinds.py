"""The types of configuration values: a parser from `values`, `addresses` or `routes`, and how it is described.

A `Kind` carries the sentence that the reference file and reports show and the JSON Schema that editors
use, so that both come from the one place that has the parser. Called by `models`, read by `wording` and
`reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, PlainValidator
from pydantic_core import CoreSchema

from serverd.config.access_format import parse_access_format, parse_excluded_path, parse_share
from serverd.config.addresses import parse_address, parse_proxy
from serverd.config.routes import (
    parse_header_name,
    parse_header_value,
    parse_host,
    parse_mount_path,
    parse_redirect,
    parse_status,
)
from serverd.config.values import (
    MOST_WORKERS,
    parse_app_target,
    parse_cipher_list,
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
from serverd.generation import Address

__all__ = [
    "AccessFormat",
    "Account",
    "AppReference",
    "BindAddresses",
    "CipherList",
    "Count",
    "Duration",
    "ExcludedPath",
    "FilePath",
    "Flag",
    "ForwardedHeader",
    "HangTimeout",
    "HeaderName",
    "HeaderValue",
    "Host",
    "Kind",
    "LagThreshold",
    "Lifetime",
    "ListenerReference",
    "MaybePath",
    "Memory",
    "MountPath",
    "Name",
    "Protocol",
    "Proxy",
    "PythonTarget",
    "Redirect",
    "RootPath",
    "Share",
    "Size",
    "SocketMode",
    "Status",
    "Text",
    "TlsReference",
    "Umask",
    "VariableName",
    "VariableValue",
    "Whole",
    "Workers",
]

Amount = TypeVar("Amount", int, float)

VARIABLE = r"\$\{"  # schema pattern: any string may be, or hold, a reference to the environment


@dataclass(frozen=True, eq=False)  # hashed by identity: typing hashes what annotations carry
class Kind:
    """What a value is, for people (`text`) and for editors (`schema`, None: as pydantic has it)."""

    text: str
    schema: dict[str, Any] | None = None

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema) if self.schema is not None else handler(core)


def _string(pattern: str | None = None) -> dict[str, Any]:
    return {"type": "string"} if pattern is None else {"type": "string", "pattern": f"{pattern}|{VARIABLE}"}


def _or_variable(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*schemas, {"type": "string", "pattern": VARIABLE}]}


def _one_or_more(value: object) -> object:
    """Let a single entry stand for a list of one, and refuse an empty list."""
    if value == []:
        raise ValueError("is empty (expected at least one address)")
    return value if isinstance(value, list) else [value]


def _or_never(parse: Callable[[object], Amount], least: str) -> Callable[[object], Amount]:
    """Return `parse` that refuses what is less than `least` and yet not 0."""
    bound = parse(least)

    def parse_or_never(value: object) -> Amount:
        amount = parse(value)
        if 0 < amount < bound:
            raise ValueError(f"is too small (expected at least {least}, or 0 for never)")
        return amount

    return parse_or_never


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _in_any_case(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of names in any case; editors offer them in lower case."""
    spelled = ("".join(f"[{sign.upper()}{sign}]" if sign.isalpha() else sign for sign in name) for name in names)
    return {"anyOf": [{"enum": list(names)}, _string(f"^({'|'.join(spelled)})$")]}


def parse_account(value: object) -> int | str:
    """Return a user or group as a number, or as a name that is still to be resolved.

    Raises ValueError when it is neither.
    """
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 11 else value
    if isinstance(number, int) and not isinstance(number, bool):
        if not 0 <= number < 2**32 - 1:  # (uid_t)-1 means "leave as it is" (chown(2))
            raise ValueError("is out of range (expected 0 to 4294967294, or a name)")
        return number
    if not isinstance(number, str) or not number or "\0" in number:
        raise ValueError("is neither a name nor a number")
    return str(number)


def parse_root_path(value: object) -> str:
    """Return a root_path without trailing slash, "" at the root.

    Raises ValueError when it is no path.
    """
    if value == "":
        return ""
    path = parse_mount_path(value)
    return "" if path == "/" else path


Text = Annotated[str, Kind("text")]
Flag = Annotated[bool, BeforeValidator(read_number_or_flag), Kind("true or false", _or_variable({"type": "boolean"}))]
Whole = Annotated[
    int, BeforeValidator(read_number_or_flag), Kind("whole number", _or_variable({"type": "integer", "minimum": 1}))
]
Workers = Annotated[
    int | Literal["auto"],
    PlainValidator(parse_workers),
    Kind(
        'whole number, or "auto"',
        _or_variable({"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}, {"enum": ["auto"]}),
    ),
]
Count = Annotated[
    int, BeforeValidator(read_number_or_flag), Kind("whole number", _or_variable({"type": "integer", "minimum": 0}))
]
_DURATION = {"anyOf": [{"type": "number", "minimum": 0}, _string(r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$")]}
_SIZE = {"anyOf": [{"type": "integer", "minimum": 0}, _string(r"^[0-9]+ ?([KMGT]i?)?B$")]}
Duration = Annotated[float, BeforeValidator(parse_duration), Kind("duration", _DURATION)]
Size = Annotated[int, BeforeValidator(parse_size), Kind("size", _SIZE)]
# A worker beats every 0.5 s and is late without a beat for 1.5 s: whoever is to be killed has been late before.
HangTimeout = Annotated[
    float, BeforeValidator(_or_never(parse_duration, "2s")), Kind("duration of at least 2s, or 0", _DURATION)
]
# Twice the interval at which CPython's threads take turns (sys.getswitchinterval): below, that is all one would see.
LagThreshold = Annotated[
    float, BeforeValidator(_or_never(parse_duration, "10ms")), Kind("duration of at least 10ms, or 0", _DURATION)
]
# A shorter one is less than most applications take to start: a server would do nothing else.
Lifetime = Annotated[
    float, BeforeValidator(_or_never(parse_duration, "1s")), Kind("duration of at least 1s, or 0", _DURATION)
]
# An interpreter with an event loop and nothing else is larger: no successor would ever be small enough.
Memory = Annotated[int, BeforeValidator(_or_never(parse_size, "16MiB")), Kind("size of at least 16MiB, or 0", _SIZE)]
Name = Annotated[str, PlainValidator(parse_name), Kind("name", {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})]
ListenerReference = Annotated[str, Kind("name of a listener", _string())]
AppReference = Annotated[str, Kind("name of an app", _string())]
TlsReference = Annotated[str, Kind("name of a tls table", _string())]
CipherList = Annotated[
    str,
    PlainValidator(parse_cipher_list),
    Kind("cipher suites as OpenSSL lists them", _string("^[A-Za-z0-9_+:!@=., -]+$")),
]
BindAddresses = Annotated[
    tuple[Annotated[Address, PlainValidator(parse_address)], ...],
    Field(strict=False),
    BeforeValidator(_one_or_more),
    Kind(
        'address like "127.0.0.1:8000", "[::1]:8000", ":8000", "unix:/run/app.sock", "fd:3", "systemd:web",'
        " or a list of them",
        {"anyOf": [_string("^.*:.+$"), {"type": "array", "items": _string("^.*:.+$"), "minItems": 1}]},
    ),
]
Proxy = Annotated[
    str,
    PlainValidator(parse_proxy),
    Kind(
        'address like "10.0.0.7", network like "10.0.0.0/8", or "unix"',
        _string(r"^(unix|[0-9.]+(/[0-9]{1,2})?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?)$"),
    ),
]
_ForwardedName = Literal[
    "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"
]
ForwardedHeader = Annotated[
    _ForwardedName,
    BeforeValidator(_lowered),
    Kind(
        "one of " + ", ".join(f'"{name}"' for name in get_args(_ForwardedName)), _in_any_case(get_args(_ForwardedName))
    ),
]
Protocol = Annotated[
    Literal["http/1.1", "h2"], Kind('"http/1.1" or "h2"', {"anyOf": [{"enum": ["http/1.1", "h2"]}, _string(VARIABLE)]})
]
SocketMode = Annotated[
    int, PlainValidator(parse_socket_mode), Kind('octal string like "0660"', _string("^(0o|0)?[0-7]{3}$"))
]
Umask = Annotated[int, PlainValidator(parse_umask), Kind('octal string like "0027"', _string("^(0o|0)?[0-7]{3}$"))]
Account = Annotated[
    int | str,
    PlainValidator(parse_account),
    Kind("name or number", {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}]}),
]
PythonTarget = Annotated[
    str,
    PlainValidator(parse_app_target),
    Kind('"package.module:attribute"', _string(r"^[^\s:/]+(:[^\s:/]+)?$")),
]
FilePath = Annotated[str, PlainValidator(parse_file_path), Kind("path", {"type": "string", "minLength": 1})]
MaybePath = Annotated[str, PlainValidator(parse_maybe_path), Kind('path, or ""', _string())]
VariableName = Annotated[
    str,
    PlainValidator(parse_variable_name),
    Kind("variable name", {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}),
]
VariableValue = Annotated[str, PlainValidator(parse_variable_value), Kind("text", _string())]
MountPath = Annotated[str, PlainValidator(parse_mount_path), Kind('path like "/shop"', _string("^/[^?#%]*$"))]
RootPath = Annotated[str, PlainValidator(parse_root_path), Kind('path like "/shop", or ""', _string("^(/[^?#%]*)?$"))]
Host = Annotated[
    str,
    PlainValidator(parse_host),
    Kind('host like "example.com" or "*.example.com"', {"type": "string", "minLength": 1}),
]
Redirect = Annotated[
    str, PlainValidator(parse_redirect), Kind('location like "https://{host}{uri}"', _string("^(/|https?://)"))
]
Status = Annotated[
    int,
    BeforeValidator(parse_status),
    BeforeValidator(read_number_or_flag),
    Kind("status from 200 to 599", _or_variable({"type": "integer", "minimum": 200, "maximum": 599})),
]
AccessFormat = Annotated[
    str,
    PlainValidator(parse_access_format),
    Kind(
        '"auto", "text", "json", "combined", or a template like "{client} {path} {status}"',
        {"anyOf": [{"enum": ["auto", "text", "json", "combined"]}, _string(r"\{")]},
    ),
]
ExcludedPath = Annotated[
    str, PlainValidator(parse_excluded_path), Kind('path like "/healthz" or "/static/*"', _string("^/"))
]
Share = Annotated[
    float, BeforeValidator(parse_share), Kind("number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1})
]
HeaderName = Annotated[str, PlainValidator(parse_header_name), Kind("header name", {"type": "string", "minLength": 1})]
HeaderValue = Annotated[str, PlainValidator(parse_header_value), Kind("header value", _string())]
