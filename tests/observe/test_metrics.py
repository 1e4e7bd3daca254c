"""Metrics as Prometheus reads them: what the library's own parsers make of the text."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from serverd.generation import AppTarget, Mount, Tls, Validity
from serverd.messages import Beat
from serverd.observe.counters import BOUNDS
from serverd.observe.metrics import render
from tests.supervisor.scene import Scene, make_generation
from tests.support.counted import listener_row, mount_row, report_of

NASTY = 'a"b\\c\nd{x="y"}'
FAST = [6] + [0] * len(BOUNDS)
SLOW = [0] * len(BOUNDS) + [1]
MOUNTS = {
    ("shop", "/"): mount_row({2: FAST, 5: SLOW}, IN_FLIGHT=3, SESSIONS=4, SESSIONS_OPEN=1, MESSAGES_SENT=9),
    ("", "/health"): mount_row({2: [1, 2, 3] + [0] * (len(BOUNDS) - 2)}),
    ("shop", NASTY): mount_row({0: FAST}),
}
LISTENERS = {
    "web": listener_row(
        HTTP2=7, ACCEPTED=70, SPOKE_NOTHING_YET=4, SPOKE_HTTP2=60, HANDSHAKES=5, HANDSHAKES_FAILED=2, status_413=3
    )
}


def samples(text: bytes, parse: Any = parse_text) -> dict[tuple[Any, ...], float]:
    """Return the values by name and labels; each is there once."""
    found: dict[tuple[Any, ...], float] = {}
    for family in parse(text.decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(found: dict[tuple[Any, ...], float], name: str, **labels: str) -> float:
    return found[name, *sorted(labels.items())]


def mounted(*paths: str) -> Scene:
    """Return a server with the shop on these paths."""
    scene = Scene()
    mounts = tuple(Mount(path, (), ("web",), AppTarget("shop", "")) for path in paths)
    scene.serves(replace(make_generation(), mounts=mounts))
    return scene


def test_authorities_of_clients_that_are_called_alike_are_one_sample() -> None:
    scene = mounted("/")
    known = (Validity("root", 0, 2000), Validity("root", 0, 1000), Validity("other", 0, 3000))
    tls = Tls("main", (), client_authorities=known, client_lists=(Validity("root", 0, 500), Validity("other", 0, 0)))
    committed = scene.fleet.committed
    assert committed is not None
    scene.fleet.committed = replace(committed, listeners=tuple(replace(one, tls=tls) for one in committed.listeners))
    report = report_of(MOUNTS, LISTENERS, scene)
    name = "serverd_client_authority_expiry_timestamp_seconds"
    shown = {key[1:]: number for key, number in samples(render(report, "")[1]).items() if key[0] == name}
    assert shown == {
        (("key", key), ("name", whose), ("tls", "main")): number
        for key, whose, number in (
            ("client_ca", "root", 1000),
            ("client_ca", "other", 3000),
            ("client_crl", "root", 500),
        )
    }


@pytest.fixture
def found() -> dict[tuple[Any, ...], float]:
    return samples(render(report_of(MOUNTS, LISTENERS), "")[1])


def test_requests_are_told_by_app_mount_and_class_of_the_status(found: dict[tuple[Any, ...], float]) -> None:
    name = "serverd_requests_total"
    assert value(found, name, app="shop", mount="/", status="2xx") == 6
    assert value(found, name, app="shop", mount="/", status="5xx") == 1
    assert value(found, name, app="", mount="/health", status="2xx") == 6
    assert value(found, "serverd_response_body_bytes_total", app="shop", mount="/", status="2xx") == 2000
    assert value(found, "serverd_request_body_bytes_total", app="shop", mount="/", status="2xx") == 300


def test_what_nobody_has_asked_for_yet_is_told_as_nothing() -> None:
    fresh = samples(render(report_of(scene=mounted("/")), "")[1])
    classes = ("2xx", "3xx", "4xx", "5xx")
    for status in classes:
        assert value(fresh, "serverd_requests_total", app="shop", mount="/", status=status) == 0
        assert value(fresh, "serverd_requests_total", app="", mount="", status=status) == 0
    assert value(fresh, "serverd_refusals_total", listener="web", status="400") == 0
    assert value(fresh, "serverd_connections_total", listener="web", protocol="h2") == 0
    assert value(fresh, "serverd_connections_open", listener="web", protocol="none") == 0
    assert value(fresh, "serverd_tls_handshakes_total", listener="web", result="failed") == 0
    assert value(fresh, "serverd_requests_in_flight", app="shop", mount="/") == 0
    assert not any(name.startswith("serverd_request_duration") for name, *_ in fresh)
    found = samples(render(report_of({("shop", "/"): mount_row({2: FAST})}, scene=mounted("/")), "")[1])
    assert [value(found, "serverd_requests_total", app="shop", mount="/", status=one) for one in classes] == [
        6,
        0,
        0,
        0,
    ]


def test_of_very_many_mounts_those_only_are_told_that_somebody_has_asked_for() -> None:
    scene = mounted(*(f"/{number}" for number in range(300)))
    found = samples(render(report_of({("shop", "/7"): mount_row({2: FAST})}, scene=scene), "")[1])
    assert {dict(key[1:])["mount"] for key in found if key[0] == "serverd_requests_total"} == {"/7"}


def test_the_histogram_is_cumulative_and_its_count_is_that_of_the_requests(found: dict[tuple[Any, ...], float]) -> None:
    name, labels = "serverd_request_duration_seconds", {"app": "", "mount": "/health", "status": "2xx"}
    assert [value(found, f"{name}_bucket", le=le, **labels) for le in ("0.00025", "0.0005", "0.001", "30", "+Inf")] == [
        *(1, 3, 6, 6, 6)
    ]
    assert value(found, f"{name}_count", **labels) == 6
    assert value(found, f"{name}_sum", **labels) == 1.5


def test_what_is_open_and_what_was_refused_is_told(found: dict[tuple[Any, ...], float]) -> None:
    assert value(found, "serverd_requests_in_flight", app="shop", mount="/") == 3
    assert value(found, "serverd_websocket_sessions_open", app="shop", mount="/") == 1
    assert value(found, "serverd_websocket_sessions_total", app="shop", mount="/") == 4
    assert value(found, "serverd_websocket_messages_total", app="shop", mount="/", direction="sent") == 9
    assert value(found, "serverd_connections_open", listener="web", protocol="h2") == 7
    by_protocol = {"http/1.1": 0, "h2": 60, "none": 4}
    labels = [{"listener": "web", "protocol": protocol} for protocol in by_protocol]
    assert [value(found, "serverd_connections_total", **one) for one in labels] == [*by_protocol.values()]
    assert value(found, "serverd_tls_handshakes_total", listener="web", result="failed") == 2
    assert value(found, "serverd_refusals_total", listener="web", status="413") == 3
    assert value(found, "serverd_accept_queue_connections", listener="web", address="127.0.0.1:8000") == 4


def test_workers_and_reloads_are_told(found: dict[tuple[Any, ...], float]) -> None:
    assert value(found, "serverd_workers", state="ready") == 2
    assert value(found, "serverd_worker_resident_memory_bytes", worker="0") == 40_000_000
    assert value(found, "serverd_worker_event_loop_lag_seconds", worker="0") == 0.012
    assert value(found, "serverd_worker_restarts_total") == 0
    assert value(found, "serverd_reloads_total", result="rolled_back") == 0
    assert value(found, "serverd_generation") == value(found, "serverd_ready") == 1
    assert value(found, "serverd_app_up", app="shop") == 1


def test_whatever_is_in_a_label_cannot_forge_a_line(found: dict[tuple[Any, ...], float]) -> None:
    assert value(found, "serverd_requests_total", app="shop", mount=NASTY, status="none") == 6


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    ],
)
def test_openmetrics_is_spoken_to_whoever_asks_for_it(accept: str) -> None:
    media_type, text = render(report_of(MOUNTS, LISTENERS), accept)
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert samples(text, parse_openmetrics) == samples(render(report_of(MOUNTS, LISTENERS), "*/*")[1])


def test_names_end_in_their_unit_and_say_what_they_are() -> None:
    text = render(report_of(MOUNTS, LISTENERS), "")[1].decode()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        assert name.startswith("serverd_")
        assert name.endswith("_total") is (kind == "counter")
        assert f"# HELP {name} " in text
    assert not re.search(r"_(ms|milliseconds|microseconds|kib|megabytes)\b", text)


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**64], ids=["huge", "minus", "above 64 bits"])
def test_a_worker_that_lies_about_itself_breaks_no_page(number: int) -> None:
    found = samples(render(report_of(beat=Beat(number, number, number, number, math.inf)), "")[1])
    assert 0 <= value(found, "serverd_worker_resident_memory_bytes", worker="0") <= 2**63
    assert 0 <= value(found, "serverd_worker_event_loop_lag_seconds", worker="0") <= 2**63
