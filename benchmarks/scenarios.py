"""What is compared: how each load is made, the setting it asks of a server, and the application that answers.

A table and nothing else; `loads` makes the loads, `servers` says who can be in which setting. To add a scenario, add a
row.
"""

from __future__ import annotations

from dataclasses import dataclass

from loads import Echoes, Handshakes, Idle, Load, Reload, Requests, StartUp, Streams

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """One row of the results."""

    key: str  # for the command line
    name: str
    load: Load
    setting: str = "plain"
    app: str = "hello:app"
    beside: str = ""  # the scenario of which this one is a variant, and with which serverd is compared to itself


# The fields of wrk_browser.lua, as far as they are the same for every page.
BROWSER = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "accept-language: en-GB,en;q=0.7,de;q=0.3",
    "accept-encoding: gzip, deflate, br, zstd",
    "cookie: session=0f8fad5bd9cb469fa16570867728950e; theme=dark; consent=1",
    "upgrade-insecure-requests: 1",
    "sec-fetch-dest: document",
    "sec-fetch-mode: navigate",
    "sec-fetch-site: same-origin",
    "priority: u=0, i",
)

SCENARIOS = (
    Scenario("get", "plain GET", Requests("wrk_plain.lua")),
    Scenario("browser", "GET with 11 browser headers", Requests("wrk_browser.lua")),
    Scenario("varied", "the same, no two requests alike", Requests("wrk_varied.lua")),
    Scenario("fastapi", "FastAPI, JSON", Requests("wrk_browser.lua"), app="api:app"),
    Scenario("large", "1 MB response", Requests("wrk_plain.lua", connections=8), app="hello:large"),
    Scenario("stream", "50 parts of 1 KB, streamed", Requests("wrk_plain.lua"), app="hello:stream"),
    Scenario("upload", "64 KB upload", Requests("wrk_upload.lua", connections=16), app="hello:upload"),
    Scenario("pipeline", "16 pipelined GETs", Requests("wrk_pipeline.lua")),
    Scenario("close", "a connection per request", Requests("wrk_close.lua")),
    Scenario("access-log", "GET, access log on", Requests("wrk_browser.lua"), "access log", beside="browser"),
    Scenario("tls", "TLS, kept connections", Requests("wrk_browser.lua", tls=True), "tls", beside="browser"),
    Scenario("tls-large", "TLS, 1 MB response", Requests("wrk_plain.lua", 8, tls=True), "tls", "hello:large"),
    Scenario("handshakes", "TLS, a full handshake per request", Handshakes(), "tls"),
    Scenario("resumed", "TLS, a resumed handshake per request", Handshakes(resume=True), "tls"),
    Scenario("h2c", "HTTP/2 in the clear, 32 at a time", Streams(), "h2c"),
    Scenario("h2c-varied", "the same, browser headers, 500 paths", Streams(500, BROWSER), "h2c"),
    Scenario("h2", "HTTP/2 over TLS, 32 at a time", Streams(tls=True), "h2"),
    Scenario("websocket", "WebSocket echo, 64 B", Echoes(64), "websocket"),
    Scenario("websocket-64k", "WebSocket echo, 64 KB", Echoes(65536), "websocket"),
    Scenario("deflate", "WebSocket echo, 64 B, compressed", Echoes(64, deflate=True), "deflate"),
    Scenario("deflate-64k", "WebSocket echo, 64 KB, compressed", Echoes(65536, deflate=True), "deflate"),
    Scenario("mounts-50", "50 mounts", Requests("wrk_browser.lua"), "50 mounts", beside="browser"),
    Scenario("mounts-1000", "1,000 mounts", Requests("wrk_browser.lua"), "1000 mounts", beside="browser"),
    Scenario("workers", "2 workers", Requests("wrk_browser.lua"), "2 workers", beside="browser"),
    Scenario("idle", "memory of an idle connection, of 10,000", Idle(10_000), "idle"),
    Scenario("start-up", "time to the first answer", StartUp()),
    Scenario("reload", "time to the new code after a reload", Reload(), "reload", app="versioned:app"),
)
