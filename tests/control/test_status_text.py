"""The status for people: one server in good order, one in trouble, and nothing that reaches the terminal unescaped."""

from __future__ import annotations

from typing import Any

import pytest

from serverd.control.status_text import PHASES, STEPS, describe_duration, describe_size, describe_status
from serverd.supervisor.events import Begin
from serverd.supervisor.states import Phase, Step
from serverd.supervisor.status import describe
from tests.control.documents import NOW, status, worker
from tests.supervisor.scene import Scene
from tests.support.every import every

IN_ORDER = """\
serverd 0.1.0 serves /srv/shop/server.toml
pid 4711, up 2 d 4 h, generation 7, ready
last reload 12 min 34 s ago: generation 7 is serving

SLOT   PID  GEN  STATE      AGE  REQUESTS  IN FLIGHT  CONNECTIONS    MEMORY   LAG  NOTES
   0  4712    7  ready  2 d 4 h    120433          3           17  48.2 MiB  1 ms
   1  4713    7  ready  2 d 4 h         9          3           17  48.2 MiB  0 ms

APP   STATE  REQUESTS  5XX  TARGET
shop  up         1204   17  shop.main:app
blog  up            0    0  blog:create_app

LISTENER  ADDRESS
web       http://127.0.0.1:8000
"""

IN_TROUBLE = """\
serverd 0.1.0 serves /srv/shop/server.toml
pid 4711, up 59 s, generation 7, not ready: no worker answers
under way: starting workers
last reload FAILED 0 s ago: apps.shop: ModuleNotFoundError: no module named 'shpo'

SLOT   PID  GEN  STATE         AGE  REQUESTS  IN FLIGHT  CONNECTIONS    MEMORY      LAG  NOTES
   0  4712    7  hung      2 d 4 h    120433          3           17  48.2 MiB  2500 ms  late; covers 1, 2
   1     -    8  starting      1 s         -          -            -         -        -

slot 0: 1 restart; last exit: was killed by SIGKILL: out of memory? (it had 512 MiB)
slot 1: 12 restarts; next start in 4.5 s
slot 2: next start in 0.0 s

APP   STATE        REQUESTS  5XX  TARGET
shop  up                  -    -  shop.main:app
blog  unavailable         -    -  blog:create_app
    apps.blog (server.toml:7): ImportError: no
    | Traceback (most recent call last):
    |   File "blog.py", line 1, in <module>
    | ImportError: no
"""


def in_trouble() -> dict[str, Any]:
    nothing = dict.fromkeys(("pid", "requests", "in_flight", "connections", "lag"))
    detail = 'Traceback (most recent call last):\n  File "blog.py", line 1, in <module>\nImportError: no\n'
    failure = {"summary": "apps.blog (server.toml:7): ImportError: no", "detail": detail}
    message = "apps.shop: ModuleNotFoundError: no module named 'shpo'"
    killed = "was killed by SIGKILL: out of memory? (it had 512 MiB)"
    return status(
        uptime=59.9,
        ready=False,
        step="preparing",
        last_reload={"ok": False, "at": NOW + 3, "message": message},  # a clock that was set back
        workers=[
            worker(0, state="hung", late=True, covers=[1, 2], lag=2.5),
            worker(1, generation=8, state="starting", age=1.0, rss=0) | nothing,
        ],
        slots=[
            {"slot": 0, "restarts": 1, "last_exit": killed, "waits": None},
            {"slot": 1, "restarts": 12, "last_exit": None, "waits": 4.5},
            {"slot": 2, "restarts": 0, "last_exit": None, "waits": 0.0},
        ],
        apps=[
            {"name": "shop", "target": "shop.main:app", "state": "up", "failure": None},
            {"name": "blog", "target": "blog:create_app", "state": "unavailable", "failure": failure},
        ],
        listeners=[],
    )


def test_a_server_in_good_order() -> None:
    assert describe_status(status(), NOW) == IN_ORDER


def test_a_server_in_trouble() -> None:
    assert describe_status(in_trouble(), NOW) == IN_TROUBLE


def test_a_server_that_has_only_begun() -> None:
    begun = status(
        phase="starting", ready=False, generation=0, step="loading", last_reload=None, uptime=0.2,
        workers=[], slots=[], apps=[], listeners=[],
    )  # fmt: skip
    assert describe_status(begun, NOW) == (
        "serverd 0.1.0 serves /srv/shop/server.toml\n"
        "pid 4711, up 0 s, not ready: no generation has been ready yet\n"
        "under way: reading the configuration\n"
    )


def test_a_worker_that_is_to_be_recycled_says_why() -> None:
    text = describe_status(status(workers=[worker(0, recycle="it has had 50 requests")]), NOW)
    assert text.splitlines()[5].endswith("1 ms  recycled: it has had 50 requests")


def test_what_the_supervisor_makes_is_what_is_shown() -> None:
    scene = Scene()
    alone = {"version": "1", "pid": 1, "source": "/etc/server.toml", "uptime": 1.0, "listeners": []}

    def text() -> str:
        return describe_status(alone | describe(scene.fleet, scene.now, NOW), NOW)

    assert "not ready: no generation has been ready yet\n" in text()
    scene.happens(Begin())
    assert "under way: reading the configuration\n" in text()
    first, second = scene.is_prepared()
    assert "under way: starting workers\n" in text()
    assert [line.split()[:4] for line in text().splitlines() if "starting" in line][1:] == [
        ["0", "101", "1", "starting"],
        ["1", "102", "1", "starting"],
    ]
    scene.are_ready(first, second)
    assert "generation 1, ready\n" in text()


def test_phases_and_steps_of_a_later_version_are_shown_as_they_are() -> None:
    text = describe_status(status(ready=False, phase="dreaming", step="napping"), NOW)
    assert "not ready: dreaming\n" in text
    assert "under way: napping\n" in text


def test_every_phase_and_step_of_this_version_has_words() -> None:
    assert set(PHASES) == {phase.value for phase in Phase}
    assert set(STEPS) == {step.value for step in Step} - {"idle"}


def test_a_long_traceback_is_shown_from_its_end() -> None:
    failing = in_trouble()
    failing["apps"][1]["failure"]["detail"] = "".join(f"line {number}\n" for number in range(100))
    text = describe_status(failing, NOW)
    shown = [line for line in text.splitlines() if line.startswith("    | ")]
    assert shown == ["    | ...", *(f"    | line {number}" for number in range(88, 100))]


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the strings in a document are."""
    if isinstance(value, str):
        return [above]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in paths(item, (*above, key))]


@every("path", paths(in_trouble()), ids=lambda path: ".".join(map(str, path)))
def test_no_text_reaches_the_terminal_unescaped(path: tuple[Any, ...]) -> None:
    forged = in_trouble()
    place = forged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "\x1b[2Jforged\u202e\r\x9b"
    text = describe_status(forged, NOW)
    assert "forged" in text
    assert all(line.isprintable() for line in text.splitlines())


@every(
    ("seconds", "text"),
    [
        (-3, "0 s"), (0, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3599, "59 min 59 s"),
        (3600, "1 h"), (3660, "1 h 1 min"), (86399, "23 h 59 min"), (86400, "1 d"), (90000, "1 d 1 h"),
        (400 * 86400, "400 d"),
    ],
)  # fmt: skip
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert describe_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (50_541_363, "48.2 MiB"), (9 << 50, "9216.0 TiB")],
)  # fmt: skip
def test_sizes_have_a_unit(size: int, text: str) -> None:
    assert describe_size(size) == text
