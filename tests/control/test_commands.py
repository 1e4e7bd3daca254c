"""What the commands ask and what they make of the answers, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from serverd.control import commands
from serverd.control.client import ControlClient, ControlError, ServerGone
from serverd.control.commands import Outcome
from serverd.control.requests import Request
from serverd.control.server import ControlServer
from tests.control.desk import Service
from tests.control.documents import status

Ask = Callable[..., Outcome]


def serve(tmp_path: Path, *replies: dict[str, Any], ends: bool = True) -> Service:
    """Return a service that answers every request with these replies; with `ends` false it then goes away."""

    def answer(server: ControlServer, number: int, request: Request) -> None:
        for reply in replies[:-1] if ends else replies:
            server.reply(number, reply, end=False)
        if ends:
            server.reply(number, replies[-1])
        else:
            server.close()

    return Service(tmp_path / "x.sock", answer)


def reload(client: ControlClient) -> Outcome:
    return commands.order(client, "reload")


def run(service: Service, command: Ask, *arguments: Any, **options: Any) -> Outcome:
    with service, ControlClient(service.path, "server.toml") as client:
        return command(client, *arguments, **options)


@pytest.mark.parametrize(
    ("command", "arguments", "options", "request_"),
    [
        (commands.order, ("reload",), {}, Request("reload")),
        (commands.order, ("reload",), {"dry_run": True}, Request("reload", dry_run=True)),
        (commands.order, ("scale",), {"workers": 3}, Request("scale", workers=3)),
        (commands.order, ("upgrade",), {}, Request("upgrade")),
        (commands.stop, (), {}, Request("stop")),
    ],
)
def test_a_command_asks_for_its_own_and_shows_the_answer(
    tmp_path: Path, command: Ask, arguments: tuple[Any, ...], options: dict[str, Any], request_: Request
) -> None:
    service = serve(tmp_path, {"ok": True, "text": "one\ntwo"})
    assert run(service, command, *arguments, timeout=10, **options) == Outcome(0, "one\ntwo\n")
    assert [request for _, request in service.desk.asked] == [request_]


@pytest.mark.parametrize("command", [reload, commands.stop])
def test_a_refusal_is_three_with_error_and_detail(tmp_path: Path, command: Ask) -> None:
    detail = 'Traceback (most recent call last):\n  File "shop.py", line 3\nSyntaxError: \x1b[31mno\n'
    service = serve(tmp_path, {"ok": False, "error": "reload failed: apps.shop\x07", "detail": detail})
    assert run(service, command) == Outcome(
        3,
        err="serverd: reload failed: apps.shop\\x07\n"
        'Traceback (most recent call last):\n  File "shop.py", line 3\nSyntaxError: \\x1b[31mno\n',
    )


@pytest.mark.parametrize(
    "reply", [{"ok": False}, {"ok": False, "error": ""}, {"ok": False, "error": 7, "detail": ["x"]}]
)
def test_a_refusal_without_words_still_says_something(tmp_path: Path, reply: dict[str, Any]) -> None:
    assert run(serve(tmp_path, reply), reload) == Outcome(3, err="serverd: the server refused without a reason\n")


def test_success_without_words_is_silent(tmp_path: Path) -> None:
    assert run(serve(tmp_path, {"ok": True}), reload) == Outcome(0)


# stop


def test_stop_waits_for_the_end_of_the_server(tmp_path: Path) -> None:
    service = serve(tmp_path, {"ok": True, "text": "stopping"}, ends=False)
    assert run(service, commands.stop, timeout=10) == Outcome(0, "stopped\n")


@pytest.mark.parametrize("command", [commands.stop, reload])
def test_a_server_that_goes_without_a_promise_has_failed(tmp_path: Path, command: Ask) -> None:
    with pytest.raises(ServerGone):
        run(serve(tmp_path, ends=False), command)


def test_a_reload_whose_server_goes_away_has_failed_whatever_it_promised(tmp_path: Path) -> None:
    with pytest.raises(ServerGone):
        run(serve(tmp_path, {"ok": True, "text": "loading"}, ends=False), reload)


def test_a_stop_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    service = Service(tmp_path / "x.sock", lambda server, number, _: server.reply(number, {"ok": True}, end=False))
    with pytest.raises(ControlError, match=r"has not answered within 0\.05 s; it goes on"):
        run(service, commands.stop, timeout=0.05)


# status


def test_status_is_text(tmp_path: Path) -> None:
    outcome = run(serve(tmp_path, {"ok": True} | status(last_reload=None)), commands.read_status)
    assert outcome.code == 0
    assert outcome.out.startswith(
        "serverd 0.1.0 serves /srv/shop/server.toml\npid 4711, up 2 d 4 h, generation 7, ready"
    )


def test_status_as_json_is_the_document(tmp_path: Path) -> None:
    document = status() | {"of a later version": "\x1b"}
    outcome = run(serve(tmp_path, {"ok": True, **document}), commands.read_status, as_json=True)
    assert json.loads(outcome.out) == document
    assert "\x1b" not in outcome.out


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in status().items() if name != key}


@pytest.mark.parametrize(
    "document",
    [
        {}, *(without(key) for key in status()),
        status(uptime=None), status(uptime=float("inf")), status(pid="1"), status(workers=[{}]), status(apps=[None]),
        status(apps=7), status(version=1),
    ],
)  # fmt: skip
def test_a_status_of_another_version_is_an_error_and_no_crash(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ControlError, match="is not what this version of serverd shows, expected a server of the same"):
        run(serve(tmp_path, {"ok": True, **document}), commands.read_status)


def test_a_status_that_is_refused(tmp_path: Path) -> None:
    outcome = run(serve(tmp_path, {"ok": False, "error": "not now"}), commands.read_status)
    assert outcome == Outcome(3, err="serverd: not now\n")


def test_watching_looks_again_and_survives_the_end_and_the_return_of_the_server(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    slept: list[float] = []
    looks = commands.watch_status(lambda: ControlClient(path), as_json=True, sleep=slept.append)
    with serve(tmp_path, {"ok": True, "pid": 1}):
        assert list(islice(looks, 2)) == [Outcome(0, '{"pid": 1}\n')] * 2
    gone = next(looks)
    assert gone.code == 3
    assert gone.err.startswith("serverd: no serverd to be asked: no control socket at")
    with serve(tmp_path, {"ok": True, "pid": 2}):
        assert next(looks) == Outcome(0, '{"pid": 2}\n')
    assert slept == [commands.WATCH_INTERVAL] * 3
