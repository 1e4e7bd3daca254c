"""The models as documentation: `reference.toml`, a valid file that shows every key, and the JSON Schema.

Text only; `tools/generate.py` writes both into `config/`. Nothing is described here: descriptions,
defaults, kinds and bounds are read off the models.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serverd.config.kinds import VARIABLE
from serverd.config.models import (
    AccessLog,
    App,
    Certificate,
    Control,
    File,
    Http2Limits,
    Limits,
    Listener,
    Logging,
    Mount,
    Recycle,
    Respond,
    Server,
    Tls,
    WebSocketLimits,
)
from serverd.config.wording import kind_of

__all__ = ["reference", "schema"]

WIDTH = 100  # of comments
SCHEMA_DIALECT = "http://json-schema.org/draft-07/schema#"  # what TOML editors understand

NULL = {"type": "null"}

TABLES: tuple[tuple[str, type[BaseModel], tuple[str, ...]], ...] = (
    ("", File, ("include",)),
    ("[server]", Server, tuple(name for name in Server.model_fields if name != "recycle")),
    ("[server.recycle]", Recycle, ()),
    ("[listeners.web]", Listener, ()),
    ("[tls.main]", Tls, tuple(name for name in Tls.model_fields if name != "certificates")),
    ("[[tls.main.certificates]]", Certificate, ()),
    ("[apps.shop]", App, ()),
    ("[[mounts]]", Mount, ()),
    ("[mounts.respond]", Respond, ()),
    ("[limits]", Limits, tuple(name for name in Limits.model_fields if name not in ("http2", "websocket"))),
    ("[limits.http2]", Http2Limits, ()),
    ("[limits.websocket]", WebSocketLimits, ()),
    ("[control]", Control, ()),
    ("[logging]", Logging, ()),
    ("[access_log]", AccessLog, ()),
)
"""Header, model, and the keys to show where that is not all of them."""

DORMANT = (Tls, Certificate)
"""Tables that stand in the file as comments, because they name files that must be there."""

LIVE: Mapping[str, Any] = {"bind": "127.0.0.1:8000", "app": "shop.main:app"}
"""Keys without default that the file sets, so that it is a valid one."""

REFUSED_ALONE = ("forwarded_headers",)
"""Keys that are refused beside the defaults of the others, so that the file shows theirs as a comment."""

_HEAD = """\
Every key of a configuration file of serverd, with its default. Generated from the models by
tools/generate.py: do not edit.

Durations are "250ms", "10s", "5m", "6h", "1d" or a number of seconds; sizes are "16KiB", "512MiB",
"10MB" or a number of bytes. Relative paths are relative to the file they stand in. "${NAME}" and
"${NAME:-default}" in any string take an environment variable, "$${" is a plain "${".
"""


def reference() -> str:
    """Return reference.toml."""
    lines = [*_comment(_HEAD.splitlines())]
    for header, model, only in TABLES:
        lines += [""] if header else []
        if header == "[mounts.respond]":
            lines += ["# A mount with a target of another kind.", "[[mounts]]", 'path = "/ping"', ""]
        if header:
            lines += [*_comment(_wrapped(model.__doc__ or "")), f"# {header}" if model in DORMANT else header]
        fields = {name: field for name, field in model.model_fields.items() if not only or name in only}
        for name, field in fields.items():
            lines += ["", *_key(name, field, header, dormant=model in DORMANT)]
    return "\n".join(lines) + "\n"


def schema() -> str:
    """Return the JSON Schema of the main file as text."""
    document = File.model_json_schema(mode="validation")
    _simplify(document)
    return json.dumps({"$schema": SCHEMA_DIALECT} | document, indent=2) + "\n"


def _key(name: str, field: FieldInfo, header: str, dormant: bool) -> Iterator[str]:
    """Yield one key: description, kind, and the assignment; as a comment where it has no default, or is `dormant`."""
    yield from _comment(_wrapped(field.description or ""))
    yield from _comment(_wrapped(f"({'; '.join(_facts(field))})"))
    default = None if field.default_factory else field.default
    if header == "[[mounts]]" and name == "app":
        yield 'app = "shop"'
    elif field.is_required() and not dormant:
        yield f"{name} = {_toml(LIVE[name])}"
    elif default is None or field.is_required():
        yield f"# {name} = {_toml(field.examples[0])}" if field.examples else f"# {name} ="
    else:
        yield f"{'# ' if dormant or name in REFUSED_ALONE else ''}{name} = {_toml(default)}"


def _facts(field: FieldInfo) -> Iterator[str]:
    """Yield what the value is, its bounds, and whether it must be there."""
    yield kind_of(field)
    for item in field.metadata:
        for attribute, words in (("gt", "more than"), ("ge", "at least"), ("le", "at most")):
            bound = getattr(item, attribute, None)
            if bound is not None:
                yield f"{words} {bound}"
    if field.is_required():
        yield "required"


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)  # text, numbers and truth values are the same in JSON


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)


def _comment(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield f"# {line}".rstrip()


def _simplify(node: Any) -> None:
    """Adapt pydantic's schema to TOML: no null, and a string that holds `${` may stand for any choice."""
    if isinstance(node, list):
        for item in node:
            _simplify(item)
    elif isinstance(node, dict):
        if NULL in node.get("anyOf", ()):
            node["anyOf"].remove(NULL)
            del node["default"]
            if len(node["anyOf"]) == 1:
                node.update(node.pop("anyOf")[0])
        if "enum" in node and "type" in node:
            node["anyOf"] = [{"enum": node.pop("enum")}, {"type": node.pop("type"), "pattern": VARIABLE}]
        for item in node.values():
            _simplify(item)
