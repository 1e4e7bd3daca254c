"""Validation: every problem at once, and the rest kept."""

from __future__ import annotations

from serverd.config.document import Document
from serverd.config.models import File
from serverd.config.report import Problem
from serverd.config.validation import Validated, validate

TEXT = """
[server]
workers = 0

[limits]
body_size = 1

[listeners.good]
bind = ":1"

[listeners.bad]
bind = "${MISSING}"

[apps.good]
app = "x"

[apps.bad]

[[mounts]]
path = "bad"

[[mounts]]
path = "/good"
redirect = "/x"
"""


def validated(text: str) -> tuple[Validated[File], list[Problem]]:
    document = Document("/etc/server.toml", "server.toml", 0)
    assert document.parse(text) == []
    problems: list[Problem] = []
    return validate(document, File, document.expand({}), problems), problems


def test_every_problem_is_found_and_a_missing_variable_only_once() -> None:
    _, problems = validated(TEXT)
    assert sorted(problem.subject for problem in problems) == [
        "apps.bad.app",
        "listeners.bad.bind",
        "mounts[0].path",
        "server.workers",
    ]


def test_other_tables_are_kept_and_faulty_keys_of_theirs_have_the_default() -> None:
    found, _ = validated(TEXT)
    assert found.root.model.limits.body_size == 1
    assert found.root.model.server.workers == 1


def test_every_entry_is_there_and_knows_what_it_does_not_know() -> None:
    found, _ = validated(TEXT)
    assert [(entry.name, entry.knows("bind")) for entry in found.listeners()] == [("good", True), ("bad", False)]
    assert [(entry.name, entry.knows("app")) for entry in found.apps()] == [("good", True), ("bad", False)]
    assert [(entry.path, entry.knows("path")) for entry in found.mounts()] == [
        (("mounts", 0), False),
        (("mounts", 1), True),
    ]


def test_a_faulty_element_leaves_the_others_with_their_own_numbers() -> None:
    found, _ = validated('[[mounts]]\nhosts = [1, "a", "b:1", "c"]\n[listeners.web]\nbind = ["x", ":1"]\n')
    [mount], [listener] = found.mounts(), found.listeners()
    assert mount.elements("hosts", mount.model.hosts) == [(1, "a"), (3, "c")]
    assert [number for number, _ in listener.elements("bind", listener.model.bind)] == [1]
    assert not mount.knows("hosts")
    assert mount.knows("hosts", 1)
    assert not mount.knows("hosts", 2)
    assert mount.knows("path")


def test_a_required_key_that_is_not_known_is_none() -> None:
    found, _ = validated('[listeners.web]\nbind = ["x"]\n[apps.x]\n')
    [listener], [app] = found.listeners(), found.apps()
    assert (listener.model.bind, listener.elements("bind", listener.model.bind)) == (None, [])
    assert app.model.app is None


def test_a_table_within_keeps_its_sound_keys() -> None:
    [mount] = validated('[[mounts]]\nrespond = { status = 99, body = "x", headers = { a = 1, b = "2" } }\n')[0].mounts()
    assert mount.model.respond is not None
    assert (mount.model.respond.body, mount.model.respond.headers) == ("x", {"b": "2"})
    assert not mount.knows("respond")
    assert mount.knows("respond", "body")


def test_a_misspelt_key_leaves_the_one_it_is_like_unknown_unless_that_is_written() -> None:
    found, problems = validated('[apps.one]\nap = "x"\n[apps.two]\nap = "x"\napp = "y"\n')
    one, two = found.apps()
    assert (one.knows("app"), one.has("app")) == (False, False)
    assert (two.knows("app"), two.model.app) == (True, "y:app")
    assert [problem.subject for problem in problems] == ["apps.one.ap", "apps.two.ap"]  # and no "is missing"


def test_an_unknown_key_is_told_also_when_its_variable_is_missing() -> None:
    _, problems = validated('[server]\nlop = "${MISSING}"\n')
    assert len(problems) == 2


def test_an_entry_that_is_no_table_is_all_unknown() -> None:
    [app] = validated("apps.x = 1\n")[0].apps()
    assert not app.knows("directory")


def test_an_entry_with_a_bad_name_is_sound_otherwise() -> None:
    [app] = validated('[apps."a/b"]\napp = "x"\n')[0].apps()
    assert (app.model.app, app.knows("app")) == ("x:app", True)


def test_tables_that_are_none_leave_nothing() -> None:
    found, problems = validated('listeners = 1\napps = "x"\nmounts = {}\nzzz = 1\n')
    assert (found.listeners(), found.apps(), found.mounts()) == ([], [], [])
    assert not any(map(found.root.knows, ("listeners", "apps", "mounts")))
    assert len(problems) == 4


def test_a_sound_file_has_no_problems() -> None:
    found, problems = validated('[listeners.web]\nbind = ":1"\n')
    assert problems == []
    assert found.root.unknown == frozenset()
