"""[limits.websocket]: defaults, bounds, what a listener overrides, and what a reload changes without new workers."""

from __future__ import annotations

from dataclasses import fields

import pytest

from serverd.config.changes import compare
from serverd.config.models import WebSocketLimits
from serverd.generation import Limits as PlainLimits
from serverd.generation import WebSocketLimits as PlainWebSocketLimits
from serverd.messages import Loaded, decode, encode

from .conftest import Load, Report

MIB = 2**20
PONG = '\n[[mounts]]\nrespond = { body = "pong" }\n'
WEB = '[listeners.web]\nbind = ":1"\n'


def websocket_of(load_text: Load, text: str) -> list[PlainWebSocketLimits]:
    """Return the limits of the listeners."""
    return [listener.limits.websocket for listener in load_text(text + PONG).listeners]


class TestDefaults:
    def test_those_of_the_models_are_those_of_the_generation(self, load_text: Load) -> None:
        assert websocket_of(load_text, WEB) == [PlainWebSocketLimits()]
        assert WebSocketLimits().model_dump() == {
            field.name: getattr(PlainWebSocketLimits(), field.name) for field in fields(PlainWebSocketLimits)
        }


class TestMerge:
    """A listener overrides single keys; all others are those of [limits.websocket], and of [limits]."""

    def test_the_table_of_the_file_is_for_every_listener(self, load_text: Load) -> None:
        text = f'{WEB}[listeners.api]\nbind = ":2"\n[limits.websocket]\nqueue = 3\nping_interval = 0\n'
        assert websocket_of(load_text, text) == [PlainWebSocketLimits(queue=3, ping_interval=0.0)] * 2

    def test_a_listener_overrides_key_by_key(self, load_text: Load) -> None:
        first, second = websocket_of(
            load_text,
            '[limits.websocket]\nmessage_size = "1MiB"\nqueue = 3\n'
            '[listeners.plain]\nbind = ":1"\n'
            '[listeners.own]\nbind = ":2"\n[listeners.own.limits.websocket]\nqueue = 5\ncompression = false\n',
        )
        assert first == PlainWebSocketLimits(message_size=MIB, queue=3)
        assert second == PlainWebSocketLimits(message_size=MIB, queue=5, compression=False)

    def test_a_key_that_is_set_to_its_default_is_set(self, load_text: Load) -> None:
        [own] = websocket_of(
            load_text, f"[limits.websocket]\nqueue = 3\n{WEB}[listeners.web.limits.websocket]\nqueue = 16\n"
        )
        assert own.queue == 16

    def test_one_table_does_not_take_the_others_keys_away(self, load_text: Load) -> None:
        generation = load_text(
            '[limits]\nheader_count = 50\n[limits.websocket]\nframe_size = "2MiB"\n'
            '[listeners.a]\nbind = ":1"\nlimits = { body_size = "1MiB" }\n'
            '[listeners.b]\nbind = ":2"\nlimits = { websocket = { queue = 2 } }\n'
            '[listeners.c]\nbind = ":3"\nlimits = { body_size = "3MiB", websocket = { queue = 4 } }\n' + PONG
        )
        assert [listener.limits for listener in generation.listeners] == [
            PlainLimits(header_count=50, body_size=MIB, websocket=PlainWebSocketLimits(frame_size=2 * MIB)),
            PlainLimits(header_count=50, websocket=PlainWebSocketLimits(frame_size=2 * MIB, queue=2)),
            PlainLimits(
                header_count=50, body_size=3 * MIB, websocket=PlainWebSocketLimits(frame_size=2 * MIB, queue=4)
            ),
        ]

    def test_it_survives_the_way_to_the_workers(self, load_text: Load) -> None:
        generation = load_text(f"{WEB}[listeners.web.limits.websocket]\nping_timeout = 1.5\n" + PONG)
        assert generation.listeners[0].limits.websocket.ping_timeout == 1.5
        assert decode(encode(Loaded(generation)).rstrip(b"\n")) == Loaded(generation)


class TestBounds:
    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("message_size = 125", 125),
            ('message_size = "1GiB"', 2**30),
            ("frame_size = 125", 125),
            ("frame_size = 2147483647", 2**31 - 1),
            ("queue = 1", 1),
            ("queue = 65536", 65536),
            ('ping_interval = "1h"', 3600.0),
            ("ping_interval = 0", 0.0),
            ("ping_timeout = 0", 0.0),
            ("ping_timeout = 0.5", 0.5),
            ("compression = false", False),
        ],
    )
    def test_what_is_within_them_is_taken(self, load_text: Load, line: str, value: object) -> None:
        [limits] = websocket_of(load_text, f"{WEB}[limits.websocket]\n{line}\n")
        assert getattr(limits, line.partition(" ")[0]) == value

    @pytest.mark.parametrize("table", ["limits.websocket", "listeners.web.limits.websocket"])
    @pytest.mark.parametrize(
        "line",
        [
            "message_size = 0",
            "message_size = 124",
            'message_size = "2GiB"',
            "frame_size = 124",
            "frame_size = 2147483648",
            "queue = 0",
            "queue = 65537",
            "queue = -1",
            "queue = 1.5",
            "ping_interval = -1",
            'ping_interval = "soon"',
            "ping_timeout = -0.1",
            "compression = 1",
            'compression = "yes"',
        ],
    )
    def test_what_is_not_is_refused_with_its_line(self, report_of: Report, table: str, line: str) -> None:
        report = report_of(f"{WEB}[{table}]\n{line}\n" + PONG)
        assert "server.toml:4: " in report
        assert f"{table}.{line.partition(' ')[0]}" in report

    def test_a_key_that_there_is_not_is_refused_with_the_nearest_one(self, report_of: Report) -> None:
        report = report_of(f"{WEB}[limits.websocket]\nping_intervall = 5\n" + PONG)
        assert "server.toml:4: " in report
        assert "ping_interval" in report

    def test_what_is_no_table_is_refused(self, report_of: Report) -> None:
        assert "limits.websocket" in report_of(f"limits = {{ websocket = 5 }}\n{WEB}{PONG}")


class TestReload:
    @pytest.mark.parametrize("table", ["limits.websocket", "listeners.web.limits.websocket"])
    @pytest.mark.parametrize(
        "line",
        [
            "message_size = 1000",
            "frame_size = 1000",
            "queue = 1",
            "ping_interval = 1",
            "ping_timeout = 1",
            "compression = false",
        ],
    )
    def test_they_change_without_new_workers(self, load_text: Load, table: str, line: str) -> None:
        before = load_text(WEB + PONG)
        after = load_text(f"{WEB}[{table}]\n{line}\n" + PONG)
        changes = compare(before, after)
        assert changes.is_live
        [told] = changes.live
        assert told.startswith("limits of listener web: websocket")
