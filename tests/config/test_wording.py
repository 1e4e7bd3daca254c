"""Pydantic's errors as sentences."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serverd.config.document import Document
from serverd.config.foreign import FOREIGN
from serverd.config.models import App, File, Fragment, Listener, Mount, Section, Server
from serverd.config.wording import explain, listed, nearest


def document_of(text: str) -> Document:
    document = Document("/etc/server.toml", "server.toml", 0)
    document.parse(text)
    document.expand({})
    return document


def error(kind: str, loc: tuple[str | int, ...], **ctx: Any) -> Any:
    return {"type": kind, "loc": loc, "msg": "Input Should be other", "ctx": ctx, "input": None}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("shpo", ' (did you mean "shop"?)'), ("blgo", ' (did you mean "blog"?)'), ("zzz", ""), ("", "")],
)
def test_the_nearest_name_is_suggested(name: str, hint: str) -> None:
    assert nearest(name, {"shop", "blog"}) == hint


@pytest.mark.parametrize(
    ("text", "loc", "message"),
    [
        ("[server]\nlop = 1", ("server", "lop"), 'unknown key (did you mean "loop"?)'),
        ("[apps.limits]\nap = 1", ("apps", "limits", "ap"), 'unknown key (did you mean "app"?)'),
        ("[listeners.limits]\nbnd = 1", ("listeners", "limits", "bnd"), 'unknown key (did you mean "bind"?)'),
        ("[[mounts]]\nrespond = {bdy = 1}", ("mounts", 0, "respond", "bdy"), 'unknown key (did you mean "body"?)'),
        (
            "[listeners.a.limits]\nbody_siz = 1",
            ("listeners", "a", "limits", "body_siz"),
            'unknown key (did you mean "body_size"?)',
        ),
    ],
)
def test_the_known_keys_are_those_of_the_same_table(text: str, loc: tuple[str | int, ...], message: str) -> None:
    assert explain(error("extra_forbidden", loc), document_of(text), File).message == message


@pytest.mark.parametrize(
    ("text", "loc", "hint"),
    [
        ("[apps.blog]\nworkres = 2", ("apps", "blog", "workres"), '"workers" in [server]'),
        ("workers = 2", ("workers",), '"workers" in [server]'),
        ("[apps.blog]\nbind = 2", ("apps", "blog", "bind"), '"bind" in [listeners.NAME]'),
        ("[apps.blog]\npath = 2", ("apps", "blog", "path"), '"path" in [[mounts]]'),
        ("[[mounts]]\nstatus = 2", ("mounts", 0, "status"), '"status" in [mounts.respond]'),
        ("[apps.blog]\ninclud = 2", ("apps", "blog", "includ"), '"include" at the top level'),
        ("[server]\nbody_siz = 2", ("server", "body_siz"), '"body_size" in [limits]'),
        ("[listeners.a]\nbody_siz = 2", ("listeners", "a", "body_siz"), '"body_size" in [listeners.NAME.limits]'),
    ],
)
def test_a_key_of_another_table_is_suggested_when_none_is_near(
    text: str, loc: tuple[str | int, ...], hint: str
) -> None:
    message = explain(error("extra_forbidden", loc), document_of(text), File).message
    assert message == f"unknown key (did you mean {hint}?)"


@pytest.mark.parametrize(
    ("text", "loc", "remedy"),
    [
        ("[[mounts]]\nstatic = 1", ("mounts", 0, "static"), "serverd has no static files yet: "),
        ("[[mounts]]\nroot = 1", ("mounts", 0, "root"), "serverd has no static files yet: "),
        ("[static]", ("static",), "serverd has no static files yet: "),
        ("[[mounts]]\nproxy-pass = 1", ("mounts", 0, "proxy-pass"), "serverd is no proxy: "),
        ("[apps.a]\nthreads = 2", ("apps", "a", "threads"), "a worker is an event loop in one thread; [server] has"),
        ("[server]\nport = 2", ("server", "port"), 'expected in [listeners.NAME], as bind = "127.0.0.1:8000"'),
        ("[server]\nreload = true", ("server", "reload"), "expected on the command line, as serverd --reload"),
        ("[listeners.a]\nssl_keyfile = 1", ("listeners", "a", "ssl_keyfile"), 'expected tls = "NAME", with'),
        ("ssl_keyfile = 1", ("ssl_keyfile",), 'expected tls = "NAME" in [listeners.NAME], with'),
        ("[[mounts]]\ndirectory = 1", ("mounts", 0, "directory"), "of an app, expected in [apps.NAME]; serverd has"),
        ("[listeners.a]\nport = 2", ("listeners", "a", "port"), 'expected bind = "127.0.0.1:8000"'),
    ],
)
def test_a_key_of_another_server_is_told_what_is_done_instead(
    text: str, loc: tuple[str | int, ...], remedy: str
) -> None:
    assert explain(error("extra_forbidden", loc), document_of(text), File).message.startswith(f"unknown key ({remedy}")


@pytest.mark.parametrize(
    ("text", "loc"),
    [
        ("[listeners.a.limits]\nport = 1", ("listeners", "a", "limits", "port")),
        ("[[mounts]]\nrespond = {static = 1}", ("mounts", 0, "respond", "static")),
    ],
)
def test_a_key_further_inside_is_none_of_another_server(text: str, loc: tuple[str | int, ...]) -> None:
    message = explain(error("extra_forbidden", loc), document_of(text), File).message
    assert "serverd has no" not in message
    assert "expected bind" not in message


def test_no_key_of_another_server_is_one_of_ours() -> None:
    tables: dict[str, type[Section]] = {"": File, "apps": App, "listeners": Listener, "mounts": Mount, "server": Server}
    assert not [(table, key) for table, key in FOREIGN if key in tables[table].model_fields]


@pytest.mark.parametrize(
    ("loc", "hint"),
    [
        (("apps", "a", "workers"), '"workers" in [server] of the main file'),
        (("apps", "a", "include"), '"include" at the top level of the main file'),
        (("apps", "a", "bind"), '"bind" in [listeners.NAME]'),
        (("apps", "a", "mounts"), '"mounts" at the top level'),
    ],
)
def test_an_included_file_is_told_what_belongs_in_the_main_file(loc: tuple[str | int, ...], hint: str) -> None:
    message = explain(error("extra_forbidden", loc), document_of(f"[apps.a]\n{loc[-1]} = 1"), Fragment).message
    assert message == f"unknown key (did you mean {hint}?)"


@pytest.mark.parametrize("key", ["prot", "ssl", "pythom", "zzz", "w" * 1000, "workers" * 20])
def test_a_key_that_is_like_none_gets_the_list_of_its_table(key: str) -> None:
    message = explain(error("extra_forbidden", ("apps", "a", key)), document_of(f"[apps.a]\n{key} = 1"), File).message
    assert message.startswith("unknown key (expected one of app, factory, ")


def test_a_long_list_of_names_is_cut() -> None:
    assert listed(map(str, range(20))).endswith("18, 19")
    assert listed(map(str, range(21))).endswith("18, 19, ...")


def test_a_table_of_the_main_file_is_sent_there() -> None:
    problem = explain(error("extra_forbidden", ("server",)), document_of("[server]"), Fragment)
    assert "belongs in the main file" in problem.message


def test_a_missing_key_is_reported_at_its_table() -> None:
    problem = explain(error("missing", ("apps", "x", "app")), document_of("\n[apps.x]\nfactory = true"), File)
    assert (problem.line, problem.subject) == (2, "apps.x.app")
    assert problem.message == 'is missing (expected "package.module:attribute")'


def test_an_error_that_nobody_has_thought_of_is_told_in_pydantics_words() -> None:
    problem = explain(error("brand_new", ("server", "loop")), document_of('server.loop = "x"'), File)
    assert problem.message == '"x" is not valid (input Should be other)'


def test_no_section_has_an_error_without_our_words() -> None:
    """Every constraint and type that the models use is in the table, so that the words above stay unused."""
    wrong: list[Any] = [None, True, 1, -1, 10**30, 1.5, "", "x", [], [1], {}, {"x": 1}, {"x": "y"}]
    for section in Section.__subclasses__():
        for name in section.model_fields:
            for value in wrong:
                document = document_of("")
                document.values = {name: value}
                document.written = {name: value}
                for problem in _problems(document, section):
                    assert "is not valid" not in problem, (section, name, value, problem)


def _problems(document: Document, section: type[Section]) -> list[str]:
    try:
        section.model_validate(document.values)
    except ValidationError as caught:
        return [explain(detail, document, section).message for detail in caught.errors()]
    return []
