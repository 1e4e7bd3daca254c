"""Included files: which, in which order, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverd.config.load import load

from .conftest import Load, Report

WEB = '[listeners.web]\nbind = ":0"\n'


def mount(path: str) -> str:
    return f'[[mounts]]\npath = "{path}"\nredirect = "/x"\n'


def test_files_are_read_in_the_order_of_patterns_and_names_and_each_once(load_text: Load) -> None:
    files = {"d/b.toml": mount("/b"), "d/a.toml": mount("/a"), "z.toml": mount("/z"), "d/.hidden.toml": "?"}
    generation = load_text(f'include = ["z.toml", "d/*.toml", "./d/a.toml"]\n{WEB}{mount("/main")}', files)
    assert [item.path for item in generation.mounts] == ["/main", "/z", "/a", "/b"]
    assert generation.mounts[1].source == "z.toml:2"


def test_a_pattern_may_match_nothing_and_passes_over_the_main_file(load_text: Load) -> None:
    assert len(load_text(f'include = ["nothing.d/*.toml", "*.toml"]\n{WEB}{mount("/")}').mounts) == 1


def test_a_pattern_may_hold_variables(load_text: Load) -> None:
    generation = load_text(f'include = ["${{SITE}}.toml"]\n{WEB}', {"one.toml": mount("/one")}, SITE="one")
    assert generation.mounts[0].path == "/one"


def test_wildcards_in_the_name_of_the_folder_itself_mean_nothing(tmp_path: Path, load_text: Load) -> None:
    (tmp_path / "[x]*").mkdir()
    files = {"[x]*/server.toml": f'include = ["a*.toml"]\n{WEB}', "[x]*/ab.toml": mount("/ab")}
    load_text(WEB + mount("/"), files)
    assert load(str(tmp_path / "[x]*" / "server.toml"), {}).mounts[0].path == "/ab"


def test_an_absolute_pattern_outside_is_shown_absolutely(tmp_path: Path, load_text: Load, report_of: Report) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.toml"
    outside.write_text("zzz = 1\n")
    assert report_of(f'include = ["{outside}"]\n{WEB}{mount("/")}').startswith(f"{outside}:1: zzz: unknown key")


def test_a_faulty_pattern_keeps_no_other_from_being_read(report_of: Report) -> None:
    report = report_of(f'include = [1, "a.toml", "b.toml"]\n{WEB}{mount("/")}', {"a.toml": "zzz = 1\n"})
    assert report.splitlines()[::2][:3] == [
        "server.toml:1: include[0]: 1 is not a string (expected a path)",
        'server.toml:1: include[2]: "b.toml" does not exist (expected a file, or a pattern with *)',
        "a.toml:1: zzz: unknown key (expected one of listeners, tls, apps, mounts)",
    ]


@pytest.mark.parametrize("wrong", ["[app.shop]", 'apps = "none"', "[app]"])
@pytest.mark.parametrize("where", ["server.toml", "a.toml"])
def test_nothing_is_said_about_names_of_a_table_that_is_wrong(report_of: Report, wrong: str, where: str) -> None:
    mounts = f'{WEB}[[mounts]]\napp = "shop"\n'
    if where == "server.toml":
        report = report_of(f'include = ["a.toml"]\n{wrong}\n{mounts}', {"a.toml": ""})
    else:
        report = report_of(f'include = ["a.toml"]\n{mounts}', {"a.toml": wrong})
    assert report.splitlines()[-1] == f"1 problem in {where}"


def test_what_needs_no_name_is_told_of_a_mount_although_a_file_is_broken(report_of: Report) -> None:
    report = report_of(f'include = ["a.toml"]\n{WEB}[[mounts]]\napp = "shop"\nredirect = "/"\n', {"a.toml": "["})
    assert "second target beside app" in report
    assert report.endswith("2 problems in server.toml, a.toml")


def test_nothing_is_said_about_names_that_a_broken_file_might_define(report_of: Report) -> None:
    report = report_of(f'include = ["a.toml"]\n{WEB}[[mounts]]\napp = "shop"\n', {"a.toml": "[apps.shop"})
    assert report.splitlines()[-1] == "1 problem in a.toml"


@pytest.mark.parametrize("include", ['["a.toml"]', "1", '["${MISSING}"]', '[""]'])
def test_nothing_is_said_about_names_when_include_itself_is_wrong(report_of: Report, include: str) -> None:
    report = report_of(f'include = {include}\n{WEB}[[mounts]]\napp = "shop"\n')
    assert report.splitlines()[-1] == "1 problem in server.toml"
