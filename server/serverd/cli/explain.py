"""Who would answer a request, and why: what `serverd explain` finds out.

It asks the code that serves: the decoder reads the request, `connection.intake` finds the endpoint and makes the scope,
and where the server answers by itself, that answer is made. Only the applications are others: they are never called.
What a mount has won against is found out by asking a router that has nothing but the other mount.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from serverd.asgi.cycle import Cycle
from serverd.asgi.router import Route, normalise_path
from serverd.asgi.scope import Endpoint, Peer
from serverd.asgi.stream import Stream
from serverd.asgi.types import Message, Receive, Scope, Send
from serverd.cli.question import Question
from serverd.cli.reach import Reached, reached
from serverd.cli.shown import Passed, Shown, shown_certificates
from serverd.connection.intake import begin
from serverd.connection.service import Service
from serverd.errors import PeerError
from serverd.generation import Address, AddressKind, BuiltinTarget, Generation, Listener, Mount
from serverd.protocol.forwarded import OriginReader
from serverd.protocol.head import RequestHead, normalise_host
from serverd.protocol.http1 import Http1Decoder
from serverd.protocol.http1_h11 import H11Parser
from serverd.protocol.http1_response import DefaultFields
from serverd.protocol.http2_head import TunnelHead
from serverd.protocol.websocket_handshake import offers_websocket
from serverd.worker.inside import Inside
from serverd.worker.routes import build_router, make_routes

__all__ = ["Answer", "Candidate", "explain"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mount that does not answer, and why."""

    mount: Mount
    why: str


@dataclass(slots=True)
class Answer:
    """What becomes of the request at one address of a listener."""

    listener: Listener
    address: Address
    is_assumed: bool = False  # the port is not known, and taken to be that of the URL
    certificates: list[Shown] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)  # certificates that are for the host, too
    mount: Mount | None = None
    beaten: list[Candidate] = field(default_factory=list)
    nearest: Candidate | None = None  # when no mount answers
    scope: Scope = field(default_factory=dict)
    status: int | None = None  # None: it is the application's to say
    location: str = ""
    reason: str = ""  # why it is refused

    @property
    def is_served(self) -> bool:
        """Whether a mount answers."""
        return self.mount is not None and not self.reason


def explain(generation: Generation, question: Question, listener: str | None = None) -> list[Answer]:
    """Return the answer at each address that the question leads to, or at the first one of `listener`.

    Raises OperatorError when there is no such listener or nobody can know which one it is, ConfigError when one cannot
    speak TLS.
    """
    return [asyncio.run(_answer(generation, one, question)) for one in reached(generation, question, listener)]


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand in the place of an application, which is not to be called."""
    raise AssertionError("an application is explained, not asked")


async def _answer(generation: Generation, place: Reached, question: Question) -> Answer:
    listener, address = place.listener, place.address
    question = question.at(address)
    answer = Answer(listener, address, is_assumed=place.is_assumed)
    if listener.tls is not None:
        answer.certificates, answer.passed = shown_certificates(listener, question.host)
    stand_ins = {app.name: Endpoint(_application, app.name) for app in generation.apps}
    routes = make_routes(generation, listener, stand_ins, Inside(generation))
    service = Service(
        asyncio.get_running_loop(),
        build_router(route for _, route in routes),
        listener.limits,
        DefaultFields(),
        H11Parser(),
    )
    service.adopt(service.router, listener, service.parser)
    try:
        cycle, path = _begin(service, _peer(listener, address, question.client), question)
    except PeerError as error:
        answer.status, answer.reason = error.status, error.reason
        return answer
    answer.scope = cycle.scope
    host = _host_of(cycle.scope)
    found = service.router.find(host, path)
    answer.mount = next((mount for mount, route in routes if route.endpoint is found), None)
    if answer.mount is not None and cycle.endpoint is not found:
        answer.reason = "TRACE is not passed on (unless the mount has trace = true)"
    if answer.mount is not None:
        answer.beaten = list(_beaten(routes, answer.mount, host, path))
    else:
        answer.nearest = _nearest(routes, host, path)
    # What a builtin mount answers is for a running server to say.
    is_builtin = answer.mount is not None and isinstance(answer.mount.target, BuiltinTarget)
    if cycle.endpoint.is_ours and not is_builtin:
        await _ask(cycle, answer)
    return answer


def _peer(listener: Listener, address: Address, client: str) -> Peer:
    scheme = "http" if listener.tls is None else "https"
    if address.kind is AddressKind.UNIX:
        return Peer(None, (address.path, None), scheme)
    return Peer((client, 50000), (address.host or "0.0.0.0", address.port), scheme)  # noqa: S104 - nothing is bound


class _Sink:
    """Takes the head from the decoder."""

    head: RequestHead

    def on_head(self, head: RequestHead) -> None:
        self.head = head

    def on_body(self, data: bytes, end: bool) -> None:
        """Nothing: the request has no body."""


def _begin(service: Service, peer: Peer, question: Question) -> tuple[Cycle, str]:
    """Return the cycle of the request, which is never started, and the path that was looked for; raises PeerError."""
    sink = _Sink()
    Http1Decoder(service.parser, sink, service.bounds).feed(question.request())
    head = sink.head
    if not service.speaks_http1:
        head = _as_http2(head)
    origins = OriginReader(service.trust, peer.client, peer.scheme)
    return begin(cast(Stream, None), head, peer, origins, service), normalise_path(head.path)


def _as_http2(head: RequestHead) -> RequestHead:
    """Return the head of the same request by a client that speaks HTTP/2."""
    target = (None, head.path, head.raw_path, head.query)
    framing = head.host, head.length, True, head.expects_continue
    if offers_websocket(head):
        other: RequestHead = TunnelHead(b"websocket", target, head.fields, framing)
    else:
        other = RequestHead(head.method, "2", target, head.fields, framing)
    other.notable = head.notable
    return other


def _host_of(scope: Scope) -> str | None:
    """Return the host that was looked for: that of the request, or what a trusted proxy said."""
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    return None if host is None else normalise_host(host)


def _beaten(routes: list[tuple[Mount, Route]], winner: Mount, host: str | None, path: str) -> Iterator[Candidate]:
    """Yield the mounts that would have answered if the winner were not there."""
    for mount, route in routes:
        if mount is not winner and _is_found(route, host, path):
            why = _less_specific(mount, winner, host)
            yield Candidate(mount, why or f"its path is shorter than {winner.path}")


def _is_found(route: Route, host: str | None, path: str) -> bool:
    return build_router([route]).find(host, path) is route.endpoint


def _less_specific(mount: Mount, winner: Mount, host: str | None) -> str:
    """Return why the host of a mount is less specific than that of the winner; "" when it is not."""
    own, other = _best(mount, host), _best(winner, host)
    if own == other:
        return ""
    return "it is for any host" if not own else f"{own} is less specific than {other}"


def _best(mount: Mount, host: str | None) -> str:
    """Return the most specific of the mount's hosts that the request's host is; "" is any."""
    fitting = [one for one in mount.hosts if one == host or (one.startswith("*.") and (host or "").endswith(one[1:]))]
    return max(fitting, key=lambda one: (one == host, len(one)), default="")


def _nearest(routes: list[tuple[Mount, Route]], host: str | None, path: str) -> Candidate | None:
    """Return the mount that is most like what was asked for, and what it lacks."""
    best = max((mount for mount, _ in routes), key=lambda mount: _likeness(mount, host, path), default=None)
    if best is None:
        return None
    if _lies_below(path, best):
        return Candidate(best, f"{host or 'a request without Host'} is none of its hosts")
    return Candidate(best, f"{path} does not lie below {best.path}")


def _likeness(mount: Mount, host: str | None, path: str) -> float:
    """Return how much like a request a mount is; what everything fits says less than what hardly anything fits."""
    if not mount.hosts:
        of_host = 0.5
    elif _best(mount, host):
        of_host = 1.0
    else:
        of_host = max(_ratio(one, host or "") for one in mount.hosts)
    if _lies_below(path, mount):
        return of_host + (0.5 if mount.path == "/" != path else 1.0)
    return of_host + _ratio(mount.path, path[: len(mount.path) + 1])


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _lies_below(path: str, mount: Mount) -> bool:
    return _is_found(Route((), mount.path, _ANY), None, path)


_ANY = Endpoint(_application, "any")


async def _ask(cycle: Cycle, answer: Answer) -> None:
    """Note what the server answers by itself."""

    async def receive() -> Message:
        raise AssertionError("nothing of ours reads a body")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Mapping[bytes, bytes] = dict(message["headers"])
            answer.status = message["status"]
            answer.location = headers.get(b"location", b"").decode("latin-1")

    await cycle.endpoint.application(cycle.scope, receive, send)
