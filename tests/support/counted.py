"""Generations to count for, and reports of what was counted, as a supervisor makes them."""

from __future__ import annotations

import json
from typing import Any

from serverd.generation import App, AppTarget, Generation, Limits, Listener, Logging, Mount, Server
from serverd.messages import Beat, Told, decode, encode
from serverd.net.bindings import Place, Queue
from serverd.observe import counters
from serverd.observe.counters import LISTENER_WIDTH, MOUNT_WIDTH, Key, Tally, class_at
from serverd.supervisor import answers, status
from serverd.supervisor.report import make_report
from tests.supervisor.scene import Scene, make_generation, said

__all__ = ["WALL", "generation", "listener_row", "mount_row", "report_of"]

WALL = 1_700_000_000.0


def generation(*paths: str, listeners: tuple[str, ...] = ("web",)) -> Generation:
    """Return a generation with an app on each of the paths."""
    mounts = tuple(Mount(path, (), listeners, AppTarget("shop", path)) for path in paths)
    plain = tuple(Listener(name, (), 1, Limits()) for name in listeners)
    return Generation("server.toml", Server(), plain, (App("shop", "shop:app", "/"),), mounts, Logging())


def mount_row(requests: dict[int, list[int]], **columns: int) -> list[int]:
    """Return the row of a mount: by class of the status how many took how long, and columns by their names."""
    row = [0] * MOUNT_WIDTH
    for status_class, buckets in requests.items():
        place = class_at(status_class)
        row[place : place + len(buckets)] = buckets
        row[place + counters.MICROSECONDS] = 1_500_000
        row[place + counters.SENT], row[place + counters.RECEIVED] = 2000, 300
    for name, value in columns.items():
        row[getattr(counters, name)] = value
    return row


def listener_row(**columns: int) -> list[int]:
    """Return the row of a listener: columns by their names, refusals as `status_413`, protocols as `SPOKE_HTTP2`."""
    row = [0] * LISTENER_WIDTH
    for name, value in columns.items():
        if name.startswith("status_"):
            row[counters.FIRST_REFUSAL + counters.REFUSALS.index(int(name[7:]))] = value
        elif name.startswith("SPOKE_"):
            row[counters.SPOKE + getattr(counters, name[6:])] = value
        else:
            row[getattr(counters, name)] = value
    return row


def report_of(
    mounts: dict[Key, list[int]] | None = None,
    listeners: dict[str, list[int]] | None = None,
    scene: Scene | None = None,
    beat: Beat | None = None,
) -> dict[str, Any]:
    """Return the report of a server with two workers, after its trip to a worker."""
    if scene is None:
        scene = Scene()
        first, *_ = scene.serves(make_generation(workers=2))
        scene.happens(said(first, beat or Beat(70, 3, 5, 40_000_000, 0.01234, ("GET /?token=hunter2 shop 1 s",))))
    place, queue = Place("web", "http://127.0.0.1:8000"), Queue("web", "127.0.0.1:8000", 2, 128)
    described = {
        **answers.identity("/etc/server.toml", 100.0, [place]),
        **status.describe(scene.fleet, scene.now, WALL),
    }
    tally = Tally(mounts or {}, listeners or {})
    told = decode(encode(Told(1, make_report(scene.fleet, described, [queue, queue], tally))))
    assert isinstance(told, Told)
    json.dumps(told.report, allow_nan=False)
    return told.report
