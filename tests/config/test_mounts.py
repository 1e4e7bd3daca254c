"""Mounts: targets, root paths and equality."""

from __future__ import annotations

import pytest

from serverd.generation import AppTarget, Generation, RedirectTarget, RespondTarget

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
