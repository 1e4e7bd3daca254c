"""docs/json.md describes what programs are told: every key, with its type, is held against the code that tells it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serverd.cli import check, explain_text
from serverd.cli.explain import explain
from serverd.cli.mount_table import table
from serverd.cli.question import read_question
from serverd.config.load import load
from serverd.control.commands import read_status
from serverd.generation import Certificate, Generation, Tls, Validity
from serverd.messages import AppDown
from serverd.net.bindings import Place, Queue
from serverd.observe.counters import Tally
from serverd.observe.overview import make_overview
from serverd.supervisor.actions import ReplyStatus, Tell
from serverd.supervisor.desk import Desk
from serverd.supervisor.fleet import Fleet, Outcome, Slot
from serverd.supervisor.rehearsal import Finding, Report
from serverd.supervisor.states import Phase, PhaseEvent, Step, WorkerState
from serverd.supervisor.worker import Worker
from tests.supervisor.scene import make_generation
from tests.support.authority import Authority
from tests.support.counted import listener_row, mount_row

PAGE = (Path(__file__).parents[1] / "docs" / "json.md").read_text("utf-8")
SECTIONS = {title: body for title, _, body in (one.partition("\n") for one in PAGE.split("\n## ")[1:])}

ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|(.*)\|$", re.MULTILINE)
CHOICE = re.compile(r"one of ((?:(?:, )?`[\w]+`(?: \([^)]*\))?)+)")
NAMED = re.compile(r"`([\w.]+)`")

Shapes = dict[str, set[str]]
"""What is found at each path."""

# Objects whose keys are no words of ours, or which another test looks at.
OPAQUE = re.compile(r"headers$|target$|scope$|mounts\[\]\.requests$|refusals$")

CONFIG = """
[listeners.web]
bind = [":8000", ":0"]
[listeners.safe]
bind = ":8443"
tls = "main"
[tls.main]
certificates = [
  { cert = "ec.crt", key = "ec.key" },
  { cert = "rsa.crt", key = "rsa.key" },
  { cert = "wild.crt", key = "wild.key" },
]
[apps.shop]
app = "shop"
[[mounts]]
path = "/"
hosts = ["a.example"]
app = "shop"
[[mounts]]
path = "/api"
hosts = ["a.example"]
app = "shop"
headers = { x-from = "here" }
[[mounts]]
path = "/old"
redirect = "https://{host}/new{uri}"
[[mounts]]
path = "/ping"
respond = { body = "ok", headers = { x-from = "there" } }
[[mounts]]
path = "/health"
builtin = "health"
"""


def described(title: str) -> Shapes:
    """Return what the page says of one document, in rows and in sentences: paths and types."""
    body, _, parts = SECTIONS[title].partition("Each element of ")
    status = {path: kind for path, kind, _ in ROW.findall(SECTIONS["serverd status --json"])}
    rows = {path: kind for path, kind, _ in ROW.findall(body)}
    for line in body.splitlines():
        if line.endswith(" are as above."):
            rows |= {path: kind for path, kind in status.items() if re.split(r"[.[]", path)[0] in NAMED.findall(line)}
    for path, kind, told in ROW.findall(body):
        element = path + "[]" * kind.startswith("list")
        if like := re.search(r"with the keys of `(\w+)`(?: and `(\w+)`)?", told):
            model = f"{path.rpartition('.')[0]}.{like[1]}."
            rows |= {
                f"{element}.{other.removeprefix(model)}": rows[other] for other in list(rows) if other.startswith(model)
            }
            rows |= {f"{element}.{like[2]}": "text"} if like[2] else {}
        elif told.startswith(" with ") and told.endswith(" as above "):
            rows |= {name: status[name] for name in (f"{element}.{key}" for key in NAMED.findall(told))}
    for above in ("apps[]", "apps[].mounts[]"):
        rows |= {f"{above}.{path}": kind for path, kind, _ in ROW.findall(parts)}
    return {path: set(kind.split(" or ")) for path, kind in rows.items()}


def found(documents: Iterable[Any]) -> Shapes:
    """Return what stands in documents that are examples of the same."""
    shapes: Shapes = defaultdict(set)
    for document in documents:
        _note(shapes, "", json.loads(json.dumps(document, allow_nan=False)))
    del shapes[""]
    for kinds in shapes.values():
        if len(kinds) > 1:
            kinds.discard("list of what nobody knows")
    return dict(shapes)


def _note(shapes: Shapes, path: str, value: Any) -> None:
    match value:
        case dict():
            shapes[path].add("object")
            if not OPAQUE.search(path):
                for key, inner in value.items():
                    _note(shapes, f"{path}.{key}".removeprefix("."), inner)
        case []:
            shapes[path].add("list of what nobody knows")
        case [dict(), *_]:
            shapes[path].add("list")
            for inner in value:
                _note(shapes, f"{path}[]", inner)
                shapes.pop(f"{path}[]")
        case list():
            shapes[path] |= {f"list of {_scalar(inner)}s" for inner in value}
        case _:
            shapes[path].add(_scalar(value))


def _scalar(value: object) -> str:
    return {bool: "boolean", int: "number", float: "number", str: "text", type(None): "null"}[type(value)]


# Examples


@pytest.fixture(scope="module")
def generation(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    folder = tmp_path_factory.mktemp("json")
    authority = Authority()
    authority.issue("a.example").write(folder, "ec")
    authority.issue("a.example", kind="rsa").write(folder, "rsa")
    authority.issue("*.example", "a.example", key_number=1).write(folder, "wild")
    (folder / "shop.py").touch()
    (folder / "server.toml").write_text(CONFIG)
    return load(str(folder / "server.toml"), {})


def full_fleet() -> Fleet:
    """Return a fleet of which there is something to say in every respect."""
    plain = make_generation()
    pairs = (
        Certificate("cert", "key", names=("a.example",), not_after=4 * 10**9, issuers=(Validity("R3", 0, 3 * 10**9),)),
        Certificate("cert", "key", names=("b.example",), not_after=9, kept="b.key does not fit"),
    )
    validities = (Validity("root", 0, 0), Validity("other", 0, 9))
    tls = Tls("main", pairs, client_ca="ca", client_authorities=validities, client_lists=validities)
    apps = (*plain.apps, replace(plain.apps[0], name="blog"))
    listener = replace(plain.listeners[0], tls=tls)
    served = replace(plain, listeners=(listener,), apps=apps, number=3)
    fleet = Fleet(committed=served, slots={0: Slot(), 1: Slot(due=15.0, restarts=2, last_exit="it died")})
    fleet.move(PhaseEvent.COMMIT)
    fleet.outcome = Outcome(True, 5.0, "generation 3 is serving")
    down = AppDown("blog", "no module", "Traceback", 1.0)
    fleet.workers = {
        1: Worker(1, 0, served, 0.0, None, WorkerState.READY, pid=101, covers=(1,), recycle="it is old"),
        2: Worker(2, 1, served, 0.0, None, pid=102, down={"blog": down}),
    }
    return fleet


def answers(fleet: Fleet) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a supervisor with this fleet answers: a client that asks for the status, and a worker."""
    told: list[Any] = []
    tally = Tally(
        {("shop", "/"): mount_row({2: [1] * 17}), ("", ""): mount_row({})},
        {"web": listener_row(status_400=1)},
    )
    bindings = SimpleNamespace(
        places=lambda: [Place("web", "http://127.0.0.1:80"), Place("inner", "unix:/x")],
        queues=lambda: [Queue("web", "127.0.0.1:80", 1, 128)],
    )
    holdings: Any = SimpleNamespace(control=SimpleNamespace(reply=lambda _, said: told.append(said)), bindings=bindings)
    children: Any = SimpleNamespace(
        ledger=SimpleNamespace(total=lambda: tally), send=lambda _, said: told.append(said.report)
    )
    desk = Desk(fleet, holdings, children, SimpleNamespace(source=SimpleNamespace(title="server.toml")))  # type: ignore[arg-type]
    desk.reply_status(ReplyStatus(1))
    desk.tell(Tell(1, 1))
    status, report = told
    return status, report


def shown(status: dict[str, Any]) -> Any:
    """Return what `serverd status --json` shows of an answer."""
    client: Any = SimpleNamespace(ask=lambda *_: status)
    return json.loads(read_status(client, as_json=True).out)


def explained(generation: Generation) -> list[Any]:
    questions = [
        read_question("http://a.example:8000/api/x"),
        read_question("http://nobody.example:8000/x"),
        read_question("http://nobody.example:8000/old"),
        read_question("http://a.example:8000/", "TRACE"),
        read_question("http://a.example:8000/%zz"),
        read_question("http://a.example:7000/"),
        read_question("https://a.example:8443/"),
    ]
    return [explain_text.document(one, explain(generation, one)) for one in questions]


# Tests


def test_the_status_is_as_described() -> None:
    documents = [shown(answers(fleet)[0]) for fleet in (Fleet(), full_fleet())]
    assert found(documents) == described("serverd status --json")


def test_the_findings_of_a_check_are_as_described() -> None:
    problems = [Finding("server.toml:3: wrong", "Traceback"), Finding("no place")]
    assert found([check.document(Report(problems=problems), "server.toml")]) == described("serverd check --json")


def test_routes_are_as_described(generation: Generation) -> None:
    assert found([table(generation)]) == described("serverd routes --json")


def test_explanations_are_as_described(generation: Generation) -> None:
    assert found(explained(generation)) == described("serverd explain --json")


def test_the_status_page_is_as_described() -> None:
    fleets = (Fleet(), full_fleet())
    documents = [make_overview(answers(fleet)[1]) for fleet in fleets]
    assert found(documents) == described("The status page, ?format=json")


def test_targets_are_as_described(generation: Generation) -> None:
    kinds = re.findall(r"^\| `(\w+)` \| (`.*) \|$", SECTIONS["serverd routes --json"], re.MULTILINE)
    targets: dict[str, Mapping[str, Any]] = {row["target"]["kind"]: row["target"] for row in table(generation)}
    assert {kind: {"kind", *NAMED.findall(keys)} for kind, keys in kinds} == {
        kind: set(target) for kind, target in targets.items()
    }
    assert targets["respond"]["headers"] == {"x-from": "there"}


def test_a_scope_is_as_described(generation: Generation) -> None:
    told = next(told for path, _, told in ROW.findall(PAGE) if path == "answers[].scope")
    asked = explain(generation, read_question("http://a.example:8000/"))
    assert explain_text.scope_of(asked[0]).keys() == set(NAMED.findall(told))


def test_every_choice_is_as_described() -> None:
    choices = {
        (title, path): set(NAMED.findall(choice[1]))
        for title, body in SECTIONS.items()
        for path, _, told in ROW.findall(body)
        if (choice := CHOICE.search(told))
    }
    status, page = "serverd status --json", "The status page, ?format=json"
    assert choices == {
        (status, "phase"): {one.value for one in Phase},
        (status, "step"): {one.value for one in Step},
        (status, "workers[].state"): {one.value for one in WorkerState} - {WorkerState.GONE.value},
        (status, "authorities[].key"): {one["key"] for one in answers(full_fleet())[0]["authorities"]},
        (status, "apps[].state"): {one["state"] for one in answers(full_fleet())[0]["apps"]},
        (page, "apps[].state"): {one["state"] for one in answers(full_fleet())[0]["apps"]},
        ("serverd check --json", "findings[].severity"): {"problem", "warning", "note"},
    }
