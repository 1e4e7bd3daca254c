"""The watcher as the supervisor holds it: which one is heard."""

from __future__ import annotations

import logging
import selectors
import sys
import time
from collections.abc import Iterator

import pytest

from serverd.generation import Generation, Logging, Server
from serverd.supervisor import changes, events
from serverd.supervisor.changes import ChangeWatch
from serverd.supervisor.source import Watched

PATIENCE = 30.0
SAYS = (sys.executable, "-c", "print('\"a.py changed\"', flush=True); import time; time.sleep(60)")


def made_of(*files: str) -> Generation:
    return Generation("server.toml", Server(), (), (), (), Logging(), files=files)


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector
        assert dict(selector.get_map()) == {}


def test_what_it_says_is_an_event(selector: selectors.BaseSelector) -> None:
    heard: list[events.Event] = []
    watch = ChangeWatch(selector, heard.append, SAYS, "server.toml", Watched((), (), ()))
    watch.follow(made_of("server.toml"))
    end = time.monotonic() + PATIENCE
    while not heard and time.monotonic() < end:  # an unbuffered Python writes the line and its end one after the other
        for key, mask in selector.select(PATIENCE):
            key.data(mask)
    watch.close()
    assert heard == [events.FilesChanged("a.py changed")]


def test_what_select_has_seen_of_one_that_is_closed_meanwhile_is_of_no_interest(
    selector: selectors.BaseSelector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[events.Event] = []
    watch = ChangeWatch(selector, heard.append, SAYS, "server.toml", Watched((), (), ()))
    watch.follow(made_of("server.toml"))
    seen = selector.select(PATIENCE)

    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(changes, "spawn_program", refuse)
    watch.follow(made_of("server.toml", "more.toml"))
    for key, mask in seen:
        key.data(mask)
    assert heard == []
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "changes are not seen, HUP reloads: no process for the watcher: too many open files"
    ]
