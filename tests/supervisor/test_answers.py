"""What clients of the control socket are answered, as documents for JSON."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from serverd.messages import Loaded, LoadFailed
from serverd.net.plan import Place
from serverd.supervisor import answers
from serverd.supervisor.actions import Reply
from tests.supervisor.scene import make_generation

GENERATION = replace(make_generation(), number=1)


def test_success_has_a_text_and_failure_an_error_with_its_detail() -> None:
    assert answers.outcome(Reply(1, True, "stopped", "unseen")) == {"ok": True, "text": "stopped"}
    assert answers.outcome(Reply(1, False, "no", "Traceback")) == {"ok": False, "error": "no", "detail": "Traceback"}


def test_a_plan_says_what_is_in_its_way() -> None:
    failed = answers.plan(GENERATION, LoadFailed("server.toml:2: unknown key"))
    assert failed == {"ok": False, "error": "a reload would fail", "detail": "server.toml:2: unknown key"}
    assert answers.plan(None, Loaded(GENERATION)) == {"ok": False, "error": "nothing is served yet", "detail": ""}


def test_a_plan_tells_what_changes_and_that_code_has() -> None:
    live = Loaded(replace(GENERATION, server=replace(GENERATION.server, date_header=False)))
    same, outdated = answers.plan(GENERATION, live), answers.plan(GENERATION, live, "shop.py has changed")
    assert same["ok"]
    assert "shop.py" not in same["text"]
    assert "shop.py has changed" in outdated["text"]


def test_the_identity_tells_who_serves_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "RELEASE", "1.2.3")
    assert answers.identity("/etc/server.toml", 12.345, [Place("web", "http://127.0.0.1:80")]) == {
        "ok": True,
        "version": "1.2.3",
        "pid": os.getpid(),
        "source": "/etc/server.toml",
        "uptime": 12.3,
        "listeners": [{"name": "web", "url": "http://127.0.0.1:80"}],
    }
