"""The status page without a browser: what it shows, what it must not, and what its policy lets run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from serverd.messages import Beat
from serverd.observe import page
from serverd.observe.counters import BOUNDS
from serverd.observe.overview import make_overview, quantile
from serverd.supervisor import events
from tests.supervisor.scene import HUP, Scene, make_generation
from tests.support.counted import listener_row, mount_row, report_of

EVIL = "<script>alert(1)</script>\"'&{{events}}"
REST = [0] * len(BOUNDS)
MOUNTS = {
    ("shop", "/"): mount_row({2: [900, 90, *REST[1:]], 5: [0, 0, 10, *REST[2:]]}, IN_FLIGHT=3, SESSIONS=4),
    ("shop", f"/{EVIL}"): mount_row({4: [5, *REST]}),
    ("", ""): mount_row({4: [7, *REST]}),
}
LISTENERS = {"web": listener_row(HTTP1=12, status_400=8)}


class Outline(HTMLParser):
    """What stands in a page, and with which attributes; every element has to be closed in its order."""

    VOID = ("meta", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] not in (["script"], ["style"]):
            self.text += data


def shown(report: dict[str, Any] | None = None) -> str:
    return page.render(make_overview(report or report_of(MOUNTS, LISTENERS)), "/status/events")


def test_it_can_be_read_without_its_script() -> None:
    text = Outline(shown()).text
    for part in ("serverd", "ready", "shop", "generation", "38.1 MiB", "http://127.0.0.1:8000", "400: 8", "12 ms"):
        assert part in text, part


def test_whatever_is_shown_is_escaped() -> None:
    outline = Outline(shown())
    assert EVIL in outline.text
    assert sum(tag == "script" for tag, _ in outline.elements) == 1


def test_authorities_of_clients_stand_there_escaped() -> None:
    report = report_of(MOUNTS, LISTENERS)
    one = {"tls": "main", "key": "client_ca", "name": EVIL, "since": 0, "until": 1_900_000_000, "age": "expires soon"}
    before = Outline(shown(report)).text.count(EVIL)
    text = Outline(shown({**report, "authorities": [one, {**one, "key": "client_crl", "until": None}]})).text
    assert text.count(EVIL) == before + 2
    assert "expires soon" in text


def test_of_a_bundle_of_authorities_one_row_says_how_many_there_are() -> None:
    one = {"tls": "main", "key": "client_ca", "name": "root", "since": 0, "until": 1_900_000_000, "age": None}
    text = Outline(shown({**report_of(MOUNTS, LISTENERS), "authorities": [one] * 130})).text
    assert text.count("root") == 1
    assert "and 129 more that end no earlier" in text


def test_what_it_is_told_later_is_escaped_too() -> None:
    event = page.make_event(make_overview(report_of(MOUNTS, LISTENERS)))
    outline = Outline(event["html"])
    assert EVIL in outline.text
    assert not [tag for tag, _ in outline.elements if tag == "script"]
    assert "\n" not in json.dumps(event), "an event is one line"
    assert event["sample"]["apps"]["shop"]["requests"] == 1005


def test_nothing_comes_from_elsewhere_and_only_what_is_ours_runs() -> None:
    text = shown()
    for tag, attributes in Outline(text).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not {"src", "style", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert not str(attributes.get("href", "")).startswith(("http", "//", "javascript"))
    for tag in ("style", "script"):
        found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.POLICY
    assert "unsafe" not in page.POLICY
    assert "default-src 'none'" in page.POLICY


def test_the_path_of_its_events_cannot_break_out() -> None:
    outline = Outline(page.render(make_overview(report_of()), f"/{EVIL}/events"))
    (body,) = [attributes for tag, attributes in outline.elements if tag == "body"]
    assert body["data-events"] == f"/{EVIL}/events"


def test_a_reload_that_was_rolled_back_is_shown_without_its_words() -> None:
    scene = Scene()
    scene.serves(make_generation())
    scene.happens(HUP)
    scene.happens(events.LoadFailed("server.toml:3: password hunter2 is wrong"))
    report = report_of(scene=scene)
    assert "the last reload was rolled back" in Outline(shown(report)).text
    assert report["reloads"] == {"ok": 0, "rolled_back": 1}
    assert "hunter2" not in json.dumps(report)


def test_no_request_in_flight_and_no_failure_of_an_application_is_told() -> None:
    assert "hunter2" not in json.dumps(report_of())  # the beat names a request with it


@pytest.mark.parametrize("number", [10**400, -5, 2**70], ids=["huge", "minus", "above 64 bits"])
def test_a_worker_that_lies_about_itself_breaks_no_page(number: int) -> None:
    Outline(shown(report_of(beat=Beat(number, number, number, number, float("nan")))))


def test_quantiles_lie_within_their_buckets() -> None:
    assert quantile([0, *REST], 0.5) is None
    assert quantile([4, *REST], 0.5) == BOUNDS[0] / 2
    assert quantile([0, 10, *REST[1:]], 1.0) == BOUNDS[1]
    assert quantile([*REST, 3], 0.5) == BOUNDS[-1], "beyond the last bound nothing is known"
    assert quantile([90, 10, *REST[1:]], 0.95) == pytest.approx((BOUNDS[0] + BOUNDS[1]) / 2)
