"""Metrics as Prometheus reads them: from the supervisor's report to text, by the library `prometheus_client`.

Names follow its conventions: base units, `_total` for what only grows. What is rendered are the values of the report;
nothing is registered with the library, whose own registry is the applications'. Import it only to render: the library
is 4 MB that a worker which is never scraped does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from serverd.observe import counters
from serverd.observe.counters import BOUNDS, CLASSES, FIRST_REFUSAL, REFUSALS, ended
from serverd.observe.overview import PROTOCOLS

__all__ = ["render"]

Report = dict[str, Any]
Rows = Iterable[tuple[Sequence[str], float]]

# What is told of every mount, be it zero: the others are not what an application answers with.
_EXPECTED = frozenset(CLASSES[2:])
_LIMITS = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]


def render(report: Report, accept: str) -> tuple[str, bytes]:
    """Return media type and text, as OpenMetrics if the Accept field asks for it."""
    encode, media_type = choose_encoder(accept)
    return media_type, encode(_Collector(report))


class _Collector:
    """The report as the library collects it."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from _server(self._report)
        yield from _workers(self._report["workers"])
        yield from _mounts(_all_mounts(self._report))
        yield from _listeners(_all_listeners(self._report))
        yield from _queues(self._report["queues"])


def _counter(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _server(report: Report) -> Iterator[Metric]:
    yield _gauge("serverd_build_info", "The version of serverd.", ["version"], [([report["version"]], 1)])
    yield _gauge("serverd_uptime_seconds", "Since the supervisor started.", [], [([], report["uptime"])])
    yield _gauge("serverd_ready", "1: a load balancer should send requests.", [], [([], report["ready"])])
    yield _gauge("serverd_generation", "The generation that serves.", [], [([], report["generation"] or 0)])
    reloads = report["reloads"].items()
    yield _counter("serverd_reloads", "Reloads, by how they ended.", ["result"], [([how], n) for how, n in reloads])
    yield _counter("serverd_worker_restarts", "Workers that died, or left untold.", [], [([], report["restarts"])])
    yield _gauge(
        "serverd_app_up", "1: the application is up in every worker.", ["app"],
        [([one["name"]], one["state"] == "up") for one in report["apps"]],
    )  # fmt: skip
    yield _gauge(
        "serverd_certificate_expiry_timestamp_seconds",
        "When a certificate, or the first of its chain, is valid no longer.",
        ["tls", "serial", "name"],
        [([one["tls"], one["serial"], (one["names"] or [""])[0]], _end_of(one)) for one in report["certificates"]],
    )
    yield _gauge(
        "serverd_client_authority_expiry_timestamp_seconds",
        "When an authority of clients, or its list of revoked certificates, is good no longer.",
        ["tls", "key", "name"],
        [(list(labels), until) for labels, until in _authorities(report).items()],
    )


def _end_of(certificate: dict[str, Any]) -> float:
    first = certificate["chain_ends"]
    end: float = certificate["not_after"] if first is None else first["until"]
    return end


def _authorities(report: Report) -> dict[tuple[str, str, str], float]:
    """Return what is the first to expire of those that are called alike: no two samples may have the same labels."""
    found: dict[tuple[str, str, str], float] = {}
    for one in report["authorities"]:
        if one["until"] is not None:
            labels = (one["tls"], one["key"], one["name"])
            found[labels] = min(one["until"], found.get(labels, one["until"]))
    return found


def _workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    states: dict[str, int] = {}
    for one in workers:
        states[one["state"]] = states.get(one["state"], 0) + 1
    yield _gauge("serverd_workers", "Workers.", ["state"], [([state], count) for state, count in states.items()])
    # One worker for each slot: those that drain are beside their successors.
    current = {str(one["slot"]): one for one in workers if one["current"]}
    for name, text, key in (
        ("serverd_worker_resident_memory_bytes", "Resident memory.", "rss"),
        ("serverd_worker_event_loop_lag_seconds", "The most that the loop was late, in half a second.", "lag"),
    ):
        yield _gauge(name, text, ["worker"], [([slot], one[key]) for slot, one in current.items()])


def _all_mounts(report: Report) -> list[dict[str, Any]]:
    """Return the mounts that were counted, and those that may be: an increase from nothing is none to Prometheus."""
    counted = report["counted"]["mounts"]
    found = {(one["app"], one["mount"]) for one in counted}
    nothing = [0] * counters.MOUNT_WIDTH
    rest = (key for key in map(tuple, report["known"]) if key not in found)
    return [*counted, *({"app": app, "mount": mount, "row": nothing} for app, mount in rest)]


def _all_listeners(report: Report) -> list[dict[str, Any]]:
    """Return all listeners, also those that nobody has connected to."""
    rows = {one["listener"]: one["row"] for one in report["counted"]["listeners"]}
    names = dict.fromkeys([*rows, *(place["name"] for place in report["listeners"])])
    return [{"listener": name, "row": rows.get(name, [0] * counters.LISTENER_WIDTH)} for name in names]


def _mounts(mounts: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ("app", "mount", "status")
    requests = CounterMetricFamily("serverd_requests", "Requests that have ended.", labels=labels)
    duration = HistogramMetricFamily(
        "serverd_request_duration_seconds", "From the head of a request to the end of its response.", labels=labels
    )
    received = CounterMetricFamily("serverd_request_body_bytes", "Bytes of request bodies.", labels=labels)
    sent = CounterMetricFamily("serverd_response_body_bytes", "Bytes of response bodies.", labels=labels)
    for one in mounts:
        for those in ended(one["row"]):
            values = [one["app"], one["mount"], those.status]
            number = those.number
            if number or those.status in _EXPECTED:
                requests.add_metric(values, number)
            if not number:
                continue  # a histogram of nothing is 18 lines
            buckets = list(zip(_LIMITS, accumulate(those.buckets), strict=True))
            duration.add_metric(values, buckets, those.microseconds / 1e6)
            received.add_metric(values, those.received)
            sent.add_metric(values, those.sent)
    yield from (requests, duration, received, sent)

    def column(index: int) -> Rows:
        return [([one["app"], one["mount"]], one["row"][index]) for one in mounts]

    where = ("app", "mount")
    yield _gauge("serverd_requests_in_flight", "Requests that have not ended.", where, column(counters.IN_FLIGHT))
    yield _gauge("serverd_websocket_sessions_open", "WebSockets that are open.", where, column(counters.SESSIONS_OPEN))
    yield _counter("serverd_websocket_sessions", "WebSockets that were opened.", where, column(counters.SESSIONS))
    yield _counter(
        "serverd_websocket_messages",
        "Messages of WebSockets, by who has received them.",
        (*where, "direction"),
        [
            ([*values, direction], number)
            for direction, index in (("received", counters.MESSAGES_RECEIVED), ("sent", counters.MESSAGES_SENT))
            for values, number in column(index)
        ],
    )


def _listeners(listeners: list[dict[str, Any]]) -> Iterator[Metric]:
    def column(index: int) -> Rows:
        return [([one["listener"]], one["row"][index]) for one in listeners]

    yield _counter(
        "serverd_connections",
        "Connections, by what they spoke first, counted when that was known; of none are those that ended before.",
        ["listener", "protocol"],
        [
            ([*values, protocol], number)
            for protocol, index in PROTOCOLS.items()
            if index != counters.WEBSOCKET  # each has begun as another one
            for values, number in column(counters.SPOKE + index)
        ],
    )
    yield _gauge(
        "serverd_connections_open",
        "Connections that are open; of protocol none are those that have not said it yet.",
        ["listener", "protocol"],
        [([*values, protocol], number) for protocol, index in PROTOCOLS.items() for values, number in column(index)],
    )
    yield _counter(
        "serverd_tls_handshakes",
        "TLS handshakes, by how they ended.",
        ["listener", "result"],
        [
            ([*values, result], number)
            for result, index in (("ok", counters.HANDSHAKES), ("failed", counters.HANDSHAKES_FAILED))
            for values, number in column(index)
        ],
    )
    yield _counter(
        "serverd_refusals",
        "What was refused before it reached a mount, by the status of the answer.",
        ["listener", "status"],
        [
            ([*values, str(status or "other")], number)
            for place, status in enumerate(REFUSALS, FIRST_REFUSAL)
            for values, number in column(place)
        ],
    )


def _queues(queues: list[dict[str, Any]]) -> Iterator[Metric]:
    for name, text, key in (
        ("serverd_accept_queue_connections", "Connections that wait to be accepted.", "waiting"),
        ("serverd_accept_queue_limit", "Connections that may wait in the queue of one worker.", "most"),
    ):
        places: dict[tuple[str, str], int] = {}
        for one in queues:
            place = one["listener"], one["address"]  # port 0 may be written twice
            places[place] = places.get(place, 0) + one[key]
        yield _gauge(name, text, ["listener", "address"], places.items())
