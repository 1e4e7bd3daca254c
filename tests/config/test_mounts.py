"""Mounts: targets, root paths and equality."""

from __future__ import annotations

import pytest

from serverd.generation import AppTarget, BuiltinTarget, Generation, RedirectTarget, RespondTarget

from .conftest import Load, Report

WEB = '[listeners.web]\nbind = ":0"\n[listeners.api]\nbind = ":0"\n[apps.shop]\napp = "json"\n'


def mounted(generation: Generation) -> AppTarget:
    target = generation.mounts[0].target
    assert isinstance(target, AppTarget)
    return target


@pytest.mark.parametrize(
    ("keys", "root_path"),
    [
        ("", ""),
        ('path = "/"', ""),
        ('path = "/shop/"', "/shop"),
        ('path = "/shop"\nstrip_prefix = true', ""),
        ('path = "/shop"\nstrip_prefix = true\nroot_path = "/a/"', "/a"),
        ('path = "/shop"\nroot_path = ""', ""),
        ('path = "/shop"\nroot_path = "/"', ""),
    ],
)
def test_the_root_path_follows_the_path(load_text: Load, keys: str, root_path: str) -> None:
    generation = load_text(f'{WEB}[[mounts]]\napp = "shop"\n{keys}\n')
    assert mounted(generation).root_path == root_path


def test_a_mount_without_listeners_is_on_all_of_them(load_text: Load) -> None:
    generation = load_text(
        f'{WEB}[[mounts]]\napp = "shop"\n[[mounts]]\npath = "/x"\nlisteners = ["api"]\napp = "shop"\n'
    )
    assert [mount.listeners for mount in generation.mounts] == [("web", "api"), ("api",)]


def test_trace_reaches_an_app_only_where_its_mount_says_so(load_text: Load) -> None:
    generation = load_text(
        f'{WEB}[[mounts]]\napp = "shop"\n[[mounts]]\npath = "/x"\napp = "shop"\ntrace = true\n'
        '[[mounts]]\npath = "/y"\napp = "shop"\ntrace = "${TRACE}"\n',
        TRACE="true",
    )
    assert [mount.trace for mount in generation.mounts] == [False, True, True]


def test_the_other_targets_are_plain_values(load_text: Load) -> None:
    generation = load_text(
        WEB + '[[mounts]]\nhosts = ["A.example"]\nredirect = "https://{host}{uri}"\n'
        '[[mounts]]\napp = "shop"\n'
        '[[mounts]]\npath = "/r"\nrespond = { status = 404, body = "gone", headers = { X-A = "1" } }\n'
    )
    assert generation.mounts[0].hosts == ("a.example",)
    assert generation.mounts[0].target == RedirectTarget("https://{host}{uri}")
    assert generation.mounts[2].target == RespondTarget(404, "gone", (("x-a", "1"),))


def test_the_source_is_the_line_of_the_path_or_of_the_target(load_text: Load) -> None:
    generation = load_text(f'{WEB}[[mounts]]\napp = "shop"\n[[mounts]]\napp = "shop"\npath = "/x"\n')
    assert [mount.source for mount in generation.mounts] == ["server.toml:8", "server.toml:11"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('listeners = ["web"]', 'listeners = ["api"]'),
        ('hosts = ["a.example"]', ""),
        ('hosts = ["a.example"]', 'hosts = ["*.a.example"]'),
        ('path = "/a"', 'path = "/a/b"'),
    ],
)
def test_mounts_that_differ_are_both_served(load_text: Load, one: str, other: str) -> None:
    generation = load_text(f'{WEB}[[mounts]]\napp = "shop"\n{one}\n[[mounts]]\napp = "shop"\n{other}\n')
    assert len(generation.mounts) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", ""),
        ("", 'listeners = ["api"]'),
        ('hosts = ["a.example", "b.example"]', 'hosts = ["B.example"]'),
        ('path = "/a"', 'path = "/a/"'),
        ('hosts = ["::1"]', 'hosts = ["[0::1]"]'),
    ],
)
def test_equal_mounts_are_refused_and_both_places_shown(report_of: Report, one: str, other: str) -> None:
    report = report_of(f'{WEB}[[mounts]]\napp = "shop"\n{one}\n[[mounts]]\nredirect = "/y"\n{other}\n')
    assert report.startswith("server.toml:10: mounts[1]: is the same as the mount at server.toml:7: ")
    assert report.endswith("1 problem in server.toml")


def test_the_same_host_twice_in_one_mount_is_harmless(load_text: Load) -> None:
    text = f'{WEB}[[mounts]]\napp = "shop"\nhosts = ["a", "A"]\nlisteners = ["web", "web"]\n'
    assert load_text(text).mounts[0].listeners == ("web",)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("respond = { status = 99 }", "redirect = 1", True),
        ('redirect = "/x"\nzzz = 1', "zzz = 1", True),
        ('app = "nobody"', 'app = "json"\nredirect = "/x"', True),
        ('hosts = [1, "a"]', 'hosts = ["b:1", "A"]', True),
        ('hosts = ["a"]', 'hosts = ["a:1"]', False),
        ("", 'hosts = ["a:1"]', False),
        ("", "hosts = 1", False),
        ("", 'hots = ["a"]', False),
        ('listeners = [1, "api"]', 'listeners = ["api", 2]', True),
        ('listeners = ["web"]', 'listeners = [1, "api"]', False),
        ("", "listeners = [1]", False),
        ('listeners = ["nobody"]', 'listeners = ["nobody"]', True),
        ("", 'listeners = ["nobody"]', False),
        ("", 'path = "x"', False),
        ("", 'pth = "/x"', False),
        ('path = "${MISSING}"', 'path = "${MISSING}"', False),
    ],
)
def test_faulty_mounts_are_compared_by_what_is_sound_of_them(
    report_of: Report, one: str, other: str, equal: bool
) -> None:
    for first, second in ((one, other), (other, one)):
        report = report_of(f"{WEB}[[mounts]]\n{first}\n[[mounts]]\n{second}\n")
        assert ("is the same as the mount at server.toml:7" in report) is equal


def test_mounts_are_equal_whatever_the_listeners_are(report_of: Report) -> None:
    report = report_of('[[mounts]]\nredirect = "/x"\n[[mounts]]\nredirect = "/y"\n')
    assert 'is the same as the mount at server.toml:1: every listener, any host, path "/"' in report


def test_a_mount_equals_several_earlier_ones(report_of: Report) -> None:
    report = report_of(
        f'{WEB}[[mounts]]\nlisteners = ["web"]\nredirect = "/"\n[[mounts]]\nlisteners = ["api"]\nredirect = "/"\n'
        '[[mounts]]\nredirect = "/"\n'
    )
    assert 'mounts[2]: is the same as the mount at server.toml:7: listener "web"' in report
    assert 'mounts[2]: is the same as the mount at server.toml:10: listener "api"' in report


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("redirect = 1\nrespond = 2", ["second target beside redirect"]),
        ('app = "${MISSING}"\nredirect = "/x"', ["second target beside app"]),
        ("root_path = 1", ["has no target", "root_path: has no effect without"]),
        ("root_path = 1\nredirect = 2", ["root_path: has no effect without"]),
        ("root_path = 1\napp = 2", []),
        ('root_path = "/x"\nap = "shop"', []),
        ('trace = true\nredirect = "/x"', ["trace: has no effect without"]),
        ("trace = true\napp = 2", []),
        ("redirct = 1", []),
        ('static = "."', ["has no target"]),
        ('respond = { body = "x", status = 204, headers = 1 }', ["has a body"]),
        ('respond = { body = "x", status = 99 }', []),
        ("respond = { body = 1, status = 204 }", []),
    ],
)
def test_what_follows_from_the_sound_keys_is_told_and_nothing_else(
    report_of: Report, keys: str, words: list[str]
) -> None:
    report = report_of(f"{WEB}[[mounts]]\n{keys}\n")
    every = ["second target", "has no target", "has no effect", "has a body", "is not an app"]
    assert [word for word in every if word in report] == [word for word in every if any(word in item for item in words)]
    assert all(item in report for item in words)


@pytest.mark.parametrize("kind", ["health", "metrics", "status"])
def test_a_builtin_target_is_what_the_server_knows_of_itself(load_text: Load, kind: str) -> None:
    generation = load_text(f'{WEB}[[mounts]]\napp = "shop"\n[[mounts]]\npath = "/x"\nbuiltin = "{kind}"\n')
    assert generation.mounts[1].target == BuiltinTarget(kind)


PLACES = """\
[listeners.web]
bind = [{bind}]
[listeners.inside]
bind = "127.0.0.1:9100"
[[mounts]]
path = "/x"
builtin = "{kind}"
listeners = [{listeners}]
[[mounts]]
respond = {{ status = 404 }}
"""


def places(kind: str, bind: str, listeners: str = '"web"') -> str:
    return PLACES.format(kind=kind, bind=bind, listeners=listeners)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("health", "tells which apps are down and when it drains"),
        ("metrics", "shows the inside of the server"),
        ("status", "shows the inside of the server"),
    ],
)
@pytest.mark.parametrize("listeners", ['"web"', '"inside", "web"', ""])
@pytest.mark.parametrize("bind", [":8000", "0.0.0.0:8000", "[::]:8000", "[::0]:8000"])
def test_what_shows_the_inside_to_everybody_is_worth_a_warning(
    load_text: Load, kind: str, told: str, listeners: str, bind: str
) -> None:
    (warning,) = load_text(places(kind, f'"127.0.0.1:1", "{bind}"', listeners)).warnings
    assert warning.startswith("server.toml:7: mounts[0].builtin: ")
    assert f'is reachable from everywhere on listener "web" ({bind}) and {told} (expected `listeners`' in warning


@pytest.mark.parametrize(
    ("kind", "bind", "listeners"),
    [
        ("health", "127.0.0.1:8000", ""),
        ("health", ":8000", '"inside"'),
        ("metrics", ":8000", '"inside"'),
        ("status", "127.0.0.1:8000", '"web"'),
        ("status", "[::1]:8000", '"web"'),
        ("status", "192.0.2.1:8000", '"web"'),
        ("status", "localhost:8000", '"web"'),
        ("metrics", "unix:x", '"web"'),
    ],
)
def test_what_is_not_for_everybody_is_no_warning(load_text: Load, kind: str, bind: str, listeners: str) -> None:
    assert load_text(places(kind, f'"{bind}"', listeners)).warnings == ()


def test_what_is_no_builtin_is_refused(report_of: Report) -> None:
    report = report_of(f'{WEB}[[mounts]]\nbuiltin = "metric"\n')
    assert '"metric" is not one of "health", "metrics", "status" (did you mean "metrics"?)' in report
