"""The keys of [limits], [limits.http2] and [limits.websocket], which every listener may override; see `models`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serverd.config.kinds import Count, Duration, Flag, Size, Whole
from serverd.config.settings import Section, as_written

__all__ = ["Http2Limits", "Limits", "WebSocketLimits"]


class WebSocketLimits(Section):
    """Bounds on a WebSocket session."""

    message_size: Size = Field(
        default=as_written("16MiB"), ge=125, le=2**31 - 1, description="The largest message, after decompression."
    )
    frame_size: Size = Field(
        default=as_written("16MiB"),
        ge=125,
        le=2**31 - 1,
        description="The largest frame, as it is on the wire; a message may have several.",
    )
    queue: Whole = Field(
        default=16,
        ge=1,
        le=65536,
        description="How many messages wait for the application before no more are read from the peer.",
    )
    ping_interval: Duration = Field(
        default=as_written("20s"),
        description="After so long without a byte from the peer it is asked whether it is there; 0 is never.",
    )
    ping_timeout: Duration = Field(
        default=as_written("20s"), description="How long it has to answer before the session is closed; 0 is no bound."
    )
    compression: Flag = Field(
        default=True, description="Whether messages are compressed (permessage-deflate) for clients that offer it."
    )


class Http2Limits(Section):
    """Bounds on an HTTP/2 connection."""

    concurrent_streams: Whole = Field(
        default=128, ge=1, le=2**31 - 1, description="The most requests that a client may have open at a time."
    )
    initial_window: Size = Field(
        default=65_535,
        ge=1,
        le=2**31 - 1,
        description="What a client may send of a request body before the application has read it; the window of an"
        " application that reads fast grows.",
    )
    max_frame_size: Size = Field(
        default=as_written("16KiB"), ge=2**14, le=2**24 - 1, description="The largest frame that a client may send."
    )
    resets: Whole = Field(
        default=500,
        ge=1,
        le=2**31 - 1,
        description="How many streams a client may reset at once, or make the server reset (33 a second are"
        " forgotten); then the connection ends.",
    )
    continuations: Count = Field(
        default=8, ge=0, le=2**16, description="The most CONTINUATION frames of one header block."
    )


class Limits(Section):
    """Bounds on what a peer may make a connection hold or wait for; defaults for every listener."""

    header_timeout: Duration = Field(
        default=as_written("10s"),
        gt=0,
        description="From accept, or the first byte of a later request, to the end of the request's head.",
    )
    body_timeout: Duration = Field(
        default=as_written("30s"),
        gt=0,
        description="Between two reads of a request body that is waited for.",
    )
    send_timeout: Duration = Field(
        default=as_written("30s"), gt=0, description="How long a blocked response waits for the peer to take any byte."
    )
    keep_alive_timeout: Duration = Field(
        default=as_written("75s"), gt=0, description="How long a connection may idle between two requests."
    )
    request_line: Size = Field(
        default=as_written("8KiB"), ge=64, le=2**24, description="The longest request line: method, target and version."
    )
    header_size: Size = Field(
        default=as_written("64KiB"),
        ge=256,
        le=2**28,
        description="The largest header section; trailers alike.",
    )
    header_count: Whole = Field(default=100, ge=1, le=100_000, description="The most header fields of a request.")
    body_size: Size = Field(default=0, description="The largest request body; 0 is unlimited.")
    connections: Count = Field(
        default=0, ge=0, description="The most open connections, per worker and listener; 0 is unlimited."
    )
    connections_beyond: Literal["refuse", "wait"] = Field(
        default="refuse",
        description="What happens to connections beyond that: refuse answers 503 with Retry-After and closes them; wait"
        " leaves them in the queue of the kernel until another one ends.",
    )
    concurrency: Count = Field(
        default=0,
        ge=0,
        description="The most requests in flight, per worker and listener, whatever idles; those beyond are answered"
        " 503 with Retry-After; 0 is unlimited.",
    )
    websocket: WebSocketLimits = Field(
        default_factory=WebSocketLimits,
        description="Bounds on WebSocket sessions.",
        examples=[{"message_size": "1MiB"}],
    )
    http2: Http2Limits = Field(
        default_factory=Http2Limits,
        description="Bounds on HTTP/2 connections.",
        examples=[{"concurrent_streams": 100}],
    )
