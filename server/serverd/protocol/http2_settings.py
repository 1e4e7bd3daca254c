"""SETTINGS in both directions (RFC 9113 §6.5): what the server says of itself, and what it makes of the peer's."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from serverd.protocol.hpack import DEFAULT_TABLE_SIZE
from serverd.protocol.http2_bounds import Http2Bounds
from serverd.protocol.http2_frames import (
    DEFAULT_FRAME_SIZE,
    LARGEST_FRAME_SIZE,
    LARGEST_WINDOW,
    ConnectionFault,
    ErrorCode,
)

__all__ = ["DEFAULT_WINDOW", "Setting", "check_settings", "server_settings"]

DEFAULT_WINDOW: Final = 65_535  # RFC 9113 §6.9.2, of a stream and of the connection


class Setting(IntEnum):
    """RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8
    NO_RFC7540_PRIORITIES = 9


def server_settings(bounds: Http2Bounds) -> dict[int, int]:
    """Return what the server announces: its limits, extended CONNECT, and that it ignores priorities."""
    settings = {
        Setting.MAX_CONCURRENT_STREAMS: bounds.concurrent_streams,
        Setting.INITIAL_WINDOW_SIZE: bounds.initial_window,
        Setting.MAX_FRAME_SIZE: bounds.max_frame_size,
        Setting.MAX_HEADER_LIST_SIZE: bounds.header_list_size,
        Setting.ENABLE_CONNECT_PROTOCOL: 1,
        Setting.NO_RFC7540_PRIORITIES: 1,
    }
    if bounds.table_size != DEFAULT_TABLE_SIZE:
        settings[Setting.HEADER_TABLE_SIZE] = bounds.table_size
    return {int(key): value for key, value in settings.items()}


def _is_flag(value: int) -> bool:
    return value <= 1


def _is_window(value: int) -> bool:
    return value <= LARGEST_WINDOW


def _is_frame_size(value: int) -> bool:
    return DEFAULT_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE


# What a value must be, and the error otherwise; other settings may have any.
_RULES: Final[dict[int, tuple[Callable[[int], bool], ErrorCode]]] = {
    Setting.ENABLE_PUSH: (_is_flag, ErrorCode.PROTOCOL_ERROR),
    Setting.INITIAL_WINDOW_SIZE: (_is_window, ErrorCode.FLOW_CONTROL_ERROR),
    Setting.MAX_FRAME_SIZE: (_is_frame_size, ErrorCode.PROTOCOL_ERROR),
    Setting.ENABLE_CONNECT_PROTOCOL: (_is_flag, ErrorCode.PROTOCOL_ERROR),
    Setting.NO_RFC7540_PRIORITIES: (_is_flag, ErrorCode.PROTOCOL_ERROR),
}


def check_settings(entries: list[tuple[int, int]]) -> dict[int, int]:
    """Return the settings that the entries come to, in which the last of several counts; raises ConnectionFault."""
    for key, value in entries:
        rule = _RULES.get(key)
        if rule is not None and not rule[0](value):
            raise ConnectionFault(rule[1], f"{Setting(key).name} is {value}")
    return dict(entries)
