"""The keys of [access_log]; as in `settings`, of which `models` makes the whole."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serverd.config.kinds import AccessFormat, Duration, ExcludedPath, Flag, MaybePath, Share
from serverd.config.settings import Section, as_written
from serverd.generation import ACCESS_FIELDS

__all__ = ["AccessLog"]


class AccessLog(Section):
    """A line for each request, and for each WebSocket at its end."""

    enabled: Flag = Field(
        default=True, description="Whether there is one; a mount can have its own access_log = false."
    )
    format: AccessFormat = Field(
        default="auto",
        description="auto (text on a terminal, json otherwise), text, json, combined (as nginx and Apache write it), or"
        f" a template of {', '.join(f'{{{name}}}' for name in ACCESS_FIELDS)}.",
        examples=["{client} {method} {path} {status} {duration_ms}"],
    )
    file: MaybePath = Field(
        default="",
        description='Where the lines are appended, relative to this file; "" is the standard output.',
    )
    exclude: Annotated[tuple[ExcludedPath, ...], Field(strict=False)] = Field(
        default=(),
        description="Paths of which nothing is logged when all is well (2xx), such as those of probes; one that ends"
        " in * stands for all that begin so.",
        examples=[["/healthz", "/static/*"]],
    )
    exclude_failures: Flag = Field(
        default=False, description="Whether the other statuses of what is excluded are left out, too."
    )
    sample: Share = Field(
        default=1.0,
        description="Of the responses below 400, how many have a line: 0.1 is one in ten; the others always have.",
    )
    min_duration: Duration = Field(
        default=as_written("0s"), description="Responses below 400 that took less have no line."
    )
