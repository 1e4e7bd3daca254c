"""What mounts are written with: paths, hosts, redirects, and the headers of fixed responses.

Pure functions from text to normalised text; matching a request against them is `asgi/router`. Called by
`kinds`. Errors are predicates without the value, as in `values`.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = [
    "parse_header_name",
    "parse_header_value",
    "parse_host",
    "parse_mount_path",
    "parse_redirect",
    "parse_status",
]

# Framing and hop-by-hop fields belong to the server (RFC 9110 §7.6.1, RFC 9112 §6).
FRAMING_HEADERS = frozenset(
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
)
PLACEHOLDERS = ("{host}", "{uri}")
_END_OF_AUTHORITY = re.compile(r"[/?#]|\{uri\}")  # RFC 3986 §3.2; a {uri} begins with "/"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_FIELD_VALUE = re.compile(r"([\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")  # RFC 9110 §5.5
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_HOST_EXPECTED = '(expected like "example.com" or "*.example.com")'


def parse_mount_path(value: object) -> str:
    """Return a mount path without trailing slash; the root is "/".

    Raises ValueError when no normalised, decoded request path can begin with it.
    """
    if not isinstance(value, str):
        raise ValueError('is not a string (expected a path like "/shop")')
    if not value.startswith("/"):
        raise ValueError('does not start with a slash (expected like "/shop")')
    if "?" in value or "#" in value:
        raise ValueError('holds a query or a fragment (expected only a path like "/shop")')
    if "%" in value:
        raise ValueError("holds a percent escape (write the character itself; paths are matched decoded)")
    if "//" in value:
        raise ValueError('holds an empty segment "//", which no normalised path has')
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("holds a control character")
    if any(segment in (".", "..") for segment in value.split("/")):
        raise ValueError('holds a dot segment ("." or ".."), which no normalised path has')
    return value.rstrip("/") or "/"


def parse_host(value: object) -> str:
    """Return a host in lower case: a name, "*." and a name, an IPv4 address, or an IPv6 address in brackets.

    Raises ValueError when no Host header can match it.
    """
    if not isinstance(value, str):
        raise ValueError(f"is not a string {_HOST_EXPECTED}")
    host = value.lower()
    literal = _ipv6(host)
    if literal:
        return literal
    if "/" in host:
        raise ValueError(f"is a URL or holds a path {_HOST_EXPECTED}")
    if ":" in host:
        raise ValueError("holds a port (write the host alone; the listener decides the port)")
    if host.endswith("."):
        raise ValueError("ends with a dot (write it without; requests match either way)")
    if host == "*":
        raise ValueError("is a bare wildcard (leave `hosts` out to match any host)")
    if not host.isascii():
        raise ValueError('holds characters beyond ASCII (write the host in its "xn--" form)')
    if "*" in host[1:] or (host.startswith("*") and not host.startswith("*.")):
        raise ValueError('holds a wildcard within a name (only a leading "*." is one)')
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError(f"is not a host {_HOST_EXPECTED}")
    return host


def _ipv6(host: str) -> str | None:
    """Return an IPv6 address, with or without brackets, as the Host header writes it (RFC 3986 §3.2.2)."""
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return f"[{ipaddress.IPv6Address(inner)}]" if "%" not in inner else None
    except ValueError:
        return None


def parse_redirect(value: object) -> str:
    """Return the location of a redirect: an http(s) URL or a path, with the placeholders {host} and {uri}.

    Raises ValueError when it could not stand in a Location header, or would leave the site unasked.
    """
    if not isinstance(value, str):
        raise ValueError('is not a string (expected like "https://{host}{uri}")')
    if not all("\x21" <= character <= "\x7e" for character in value):
        raise ValueError("holds spaces, control characters or characters beyond ASCII (percent-encode them)")
    bare = value
    for placeholder in PLACEHOLDERS:
        bare = bare.replace(placeholder, "")
    if "{" in bare or "}" in bare:
        raise ValueError("holds an unknown placeholder or a stray brace (only {host} and {uri} are known)")
    if value.startswith(("//", "/{")):
        # "//name" is a network-path reference (RFC 3986 §4.2): "/{uri}" would send "//evil.example" there.
        raise ValueError('would redirect to another site through "//" (expected a path, or a URL with its scheme)')
    if not value.startswith(("/", "http://", "https://")):
        raise ValueError('is neither a URL nor a path (expected like "https://{host}{uri}" or "/new")')
    if "\\" in value:
        raise ValueError('holds "\\", which browsers take for "/" (expected "/", or "%5C" in its place)')
    host = _END_OF_AUTHORITY.split(value.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    if not value.startswith("/") and (not host or host.startswith(":")):
        # Browsers take the first name of the path for the host that is missing (URL Standard, "special authority
        # ignore slashes"): "https://{uri}" would send "/evil.example" there.
        raise ValueError('names no host behind "://" (expected like "https://{host}{uri}")')
    return str(value)


def parse_status(value: object) -> int:
    """Return a final status from 200 to 599.

    Raises ValueError when it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 200 <= value <= 599:
        raise ValueError("is not a final status (expected 200 to 599)")
    return value


def parse_header_name(value: object) -> str:
    """Return a field name in lower case.

    Raises ValueError when it is no token (RFC 9110 §5.6.2) or belongs to the server.
    """
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError('is not a header name (expected a token like "x-served-by")')
    if value.lower() in FRAMING_HEADERS:
        raise ValueError("is a header that the server sets itself")
    return value.lower()


def parse_header_value(value: object) -> str:
    """Return a field value.

    Raises ValueError when it could break out of its line or cannot be written as Latin-1 (RFC 9110 §5.5).
    """
    if not isinstance(value, str):
        raise ValueError("is not a string (header values are strings: write it in quotes)")
    if any(character in value for character in "\r\n\0"):
        raise ValueError("holds CR, LF or NUL, which would break out of the header")
    if not _FIELD_VALUE.fullmatch(value):
        raise ValueError("is not a header value (expected visible Latin-1 text without spaces at its ends)")
    return str(value)
