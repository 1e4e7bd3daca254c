"""Where a request comes from: Forwarded (RFC 7239) and X-Forwarded-*, believed from trusted proxies only.

`OriginReader` is what a connection uses: one per connection, asked with the fields of every request. The rules,
each against a client that sends the same fields through or past the proxies:

- From an untrusted peer nothing is believed, and whatever an application could believe is removed: Forwarded, all of
  X-Forwarded-*, and the names in `ALIASES`, with "_" and "." for "-", too (CGI-style adapters see no difference).
- From a trusted peer only the fields in `Trust.believed` are, which are those that the operator knows his proxies to
  write. A proxy lets the others through as the client sent them. So there is no rule by which one kind wins over the
  other when both are there: whichever won, a client behind proxies that write only the other could choose its
  address. nginx (real_ip_header), Caddy (client_ip_headers) and Apache (RemoteIPHeader) have the operator name the
  field for the same reason. `BELIEVABLE` fields that are not believed are removed, so that an application does not
  believe what the server does not; the believed ones stay as they are, as does everything else that the proxy sends.
- The client is the right-most address that is not a trusted proxy. The walk goes on to the left only past an address
  that is one, because only that one wrote what stands there.
- Where the walk meets `unknown`, an obfuscated identifier (RFC 7239 §6.3) or garbage, the hop before it is the
  client: it is the furthest that is known. nginx does the same; Caddy looks further left, where the client may have
  written. When all are trusted, it is the left-most, as in nginx: a proxy's own request.
- X-Forwarded-Proto, -Host, -Port and -Prefix are taken from the right end of their lists, which the nearest proxy
  wrote, never by their position beside X-Forwarded-For: a client could shift it where not every proxy appends.
  In Forwarded each hop's parameters stand together, so those of the hop that saw the client count.
- A value outside its grammar counts as absent, as a whole.

A believed host replaces Host (with the believed port, if that is not the scheme's own), so that routing and
application see the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from serverd.errors import PeerError
from serverd.protocol.forwarded_field import parse_element, split_elements
from serverd.protocol.head import Fields, normalise_host
from serverd.protocol.trust import BELIEVABLE, Trust

__all__ = ["ALIASES", "Client", "Origin", "OriginReader", "replace_host", "resolve", "strip", "tells_origin"]

Client = tuple[str, int] | None  # ASGI's: host and port, 0 where it is not known; None: a unix socket

# The fields beside X-Forwarded-* that proxies set and applications believe, in lower case.
ALIASES: Final = (
    # The client's address: what python-ipware looks through by default, and the fields of the large proxies.
    b"cf-connecting-ip",
    b"cf-connecting-ipv6",
    b"cf-pseudo-ipv4",
    b"client-ip",
    b"do-connecting-ip",
    b"fastly-client-ip",
    b"fly-client-ip",
    b"forwarded",
    b"forwarded-for",
    b"proxy-client-ip",
    b"remote-addr",
    b"true-client-ip",
    b"wl-proxy-client-ip",
    b"x-appengine-user-ip",
    b"x-azure-clientip",
    b"x-azure-socketip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-envoy-external-address",
    b"x-forwarded",
    b"x-original-forwarded-for",
    b"x-originating-ip",
    b"x-proxyuser-ip",
    b"x-real-ip",
    b"x-remote-addr",
    b"x-remote-ip",
    # Scheme, host and prefix: what recipes for Django's SECURE_PROXY_SSL_HEADER, Tornado and Flask read.
    b"cf-visitor",
    b"cloudfront-forwarded-proto",
    b"front-end-https",
    b"x-host",
    b"x-original-host",
    b"x-original-proto",
    b"x-scheme",
    b"x-script-name",
    b"x-url-scheme",
)
# Scheme of a request by what a proxy calls it; WebSocket's own are those of the handshake (RFC 6455 §3).
_SCHEMES: Final = {b"http": "http", b"ws": "http", b"https": "https", b"wss": "https"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}")
_LARGEST_PORT: Final = 65535
# An absolute path of plain segments: no "//", no dot segments, no escapes that would be decoded into them.
_PREFIX: Final = re.compile(rb"(?:/(?!\.{1,2}(?:/|$))[0-9A-Za-z._~!$&'()*+;=:@-]+)*/?")
# Fields of a head whose origin is remembered, and their bytes, which are those of a head that `http1_head` hands out
# again; what more says is read anew, so that idle connections keep little.
_REMEMBERED_FIELDS: Final = 32
_REMEMBERED_SIZE: Final = 4 * 1024
_LONGEST_PREFIX: Final = 256  # bytes; a prefix is something that an operator types


def _spellings(name: bytes) -> Iterator[bytes]:
    """Return the name with each of its "-" written as any of what adapters take for it."""
    first, dash, rest = name.partition(b"-")
    if not dash:
        yield name
        return
    for spelling in _spellings(rest):
        for sign in (b"-", b"_", b"."):
            yield first + sign + spelling


_REMOVED: Final = frozenset(spelling for name in ALIASES for spelling in _spellings(name))
_FAMILY: Final = frozenset(_spellings(b"x-forwarded-"))  # how every name of X-Forwarded-* begins
_FAMILY_SIZE: Final = len(b"x-forwarded-")
_READ: Final = frozenset(spelling for name in BELIEVABLE for spelling in _spellings(name))


class Origin(NamedTuple):
    """Where a request comes from, and the fields that the application gets."""

    client: Client
    scheme: str  # "http" or "https"
    fields: Fields  # the list that came in when nothing had to change, which is nobody's to change
    authority: bytes | None = None  # the Host that `fields` have instead of the one that came; None: that one
    prefix: str = ""  # what a proxy took off the path, without trailing slash; belongs before `root_path` and `path`


class OriginReader:
    """Tells the origin of each request of one connection."""

    __slots__ = ("_client", "_fields", "_origin", "_scheme", "_trust", "is_trusted")

    def __init__(self, trust: Trust, client: Client, scheme: str, trusted: bool | None = None) -> None:
        """Read what this peer says; `trusted` is False for a peer who speaks for somebody it does not name."""
        if trusted is None:
            trusted = trust.is_trusted(None if client is None else client[0])
        self._trust = trust if trusted else None
        self.is_trusted = trusted  # what the peer says is believed
        self._client = client
        self._scheme = scheme
        self._fields: Fields | None = None
        self._origin: Origin | None = None

    def read(self, fields: Fields) -> Origin:
        """Return the origin of the request with these fields."""
        # Hot path: a decoder hands the same list out again when the same fields came again; the reference that is
        # kept makes sure that it is no other list at the same place. benchmarks/ "GET with 11 browser headers".
        if fields is self._fields:
            assert self._origin is not None  # set beside it
            return self._origin
        if self._trust is None:
            origin = Origin(self._client, self._scheme, strip(fields))
        else:
            origin = resolve(fields, self._client, self._scheme, self._trust)
        if len(fields) <= _REMEMBERED_FIELDS and sum([len(n) + len(v) for n, v in fields]) <= _REMEMBERED_SIZE:
            self._fields = fields
            self._origin = origin
        return origin


def strip(fields: Fields) -> Fields:
    """Return the fields without those that tell where a request comes from; the same list if there is none."""
    kept = [field for field in fields if not tells_origin(field[0])]
    return fields if len(kept) == len(fields) else kept


def tells_origin(name: bytes) -> bool:
    """Return whether applications learn from the field of this name, in lower case, where a request comes from."""
    return name in _REMOVED or name[:_FAMILY_SIZE] in _FAMILY


def resolve(fields: Fields, peer: Client, scheme: str, trust: Trust) -> Origin:
    """Return what a trusted peer says; `scheme` is that of the connection."""
    said: dict[bytes, bytes] = {}
    removed = False
    host = b""
    believed = trust.believed
    for name, value in fields:
        if name not in _READ:
            if name == b"host":
                host = value
        elif name not in believed:
            removed = True
        else:
            # Several lines are one list (RFC 9110 §5.3).
            said[name] = said[name] + b"," + value if name in said else value
    if removed:
        fields = [field for field in fields if field[0] not in _READ or field[0] in believed]
    if not said:
        return Origin(peer, scheme, fields)
    client = peer
    chain = said.get(b"x-forwarded-for")
    proto = _last(said, b"x-forwarded-proto")
    name_said = _last(said, b"x-forwarded-host")
    if chain is not None:
        client = _walk(chain, peer, trust)
    elif b"forwarded" in said:
        client, proto, name_said = _walk_forwarded(said[b"forwarded"], peer, trust)
    if proto:
        scheme = _SCHEMES.get(proto.lower(), scheme)
    authority = _authority(host, name_said, _last(said, b"x-forwarded-port"), scheme)
    if authority is not None:
        fields = replace_host(fields, authority)
    return Origin(client, scheme, fields, authority, _prefix(_last(said, b"x-forwarded-prefix")))


def replace_host(fields: Fields, authority: bytes) -> Fields:
    """Return the fields with this Host, in the first place (RFC 9110 §7.2)."""
    return [(b"host", authority), *(field for field in fields if field[0] != b"host")]


def _last(said: dict[bytes, bytes], name: bytes) -> bytes:
    """Return the right-most value of a list, b"" where there is none."""
    value = said.get(name)
    return b"" if value is None else value[value.rfind(b",") + 1 :].strip(b" \t")


def _walk(chain: bytes, peer: Client, trust: Trust) -> Client:
    """Return the right-most address of X-Forwarded-For that is not a trusted proxy."""
    client = peer
    end = len(chain)
    while end >= 0:
        start = chain.rfind(b",", 0, end)
        text = chain[start + 1 : end].strip(b" \t")
        end = start
        if not text:
            continue  # RFC 9110 §5.6.1.2: empty elements do not count
        node = trust.read_node(text)
        if node is None:
            break
        client = (node.host, node.port) if node.host else None
        if not node.trusted:
            break
    return client


def _walk_forwarded(value: bytes, peer: Client, trust: Trust) -> tuple[Client, bytes, bytes]:
    """Return the client by Forwarded, with scheme and host as the proxy that saw it says; b"": it does not."""
    client = peer
    proto = host = b""
    for element in split_elements(value):
        pairs = parse_element(element)
        if pairs is None:
            break
        # A proxy further out has seen more of the client's own request; one that is silent overrides nothing.
        proto = pairs.get(b"proto", proto)
        host = pairs.get(b"host", host)
        node = trust.read_node(pairs.get(b"for", b""))
        if node is None:
            break
        client = (node.host, node.port) if node.host else None
        if not node.trusted:
            break
    return client, proto, host


def _authority(own: bytes, said: bytes, port: bytes, scheme: str) -> bytes | None:
    """Return the Host value that the client used, as far as it is said; None: that which came."""
    changed = _is_authority(said)
    authority = said if changed else own
    if _PORT.fullmatch(port) and int(port) <= _LARGEST_PORT and authority:
        name = authority[: authority.rfind(b"]") + 1] or authority.partition(b":")[0]
        authority = name if int(port) == _DEFAULT_PORTS[scheme] else name + b":" + port
        changed = True
    return authority if changed else None


def _is_authority(value: bytes) -> bool:
    """Return whether this can stand in Host and names one, with a port that exists or none."""
    try:
        if not normalise_host(value):
            return False
    except PeerError:
        return False
    port = value[value.rfind(b"]") + 1 :].partition(b":")
    return not port[1] or (_PORT.fullmatch(port[2]) is not None and int(port[2]) <= _LARGEST_PORT)


def _prefix(value: bytes) -> str:
    """Return the path that a proxy took off, without trailing slash; "" for none and for what is no clean path."""
    if not value or len(value) > _LONGEST_PREFIX or not _PREFIX.fullmatch(value):
        return ""
    return value.decode("ascii").rstrip("/")
