"""The generated files: valid, complete, and up to date."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import tomli

from serverd.config import models
from serverd.config.load import load
from serverd.config.reference import reference, schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_a_file_that_loads_and_says_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").touch()
    shutil.copy(ROOT / "config" / "reference.toml", tmp_path / "server.toml")
    generation = load(str(tmp_path / "server.toml"), {})
    assert generation.server == type(generation.server)()
    assert generation.logging == type(generation.logging)()
    assert generation.listeners[0].limits == type(generation.listeners[0].limits)()
    assert generation.warnings == ()


def test_the_reference_has_every_key() -> None:
    text = reference()
    for section in models.Section.__subclasses__():
        for name in section.model_fields:
            assert f"{name} = " in text or f"[{name}" in text or f"[[{name}" in text or f".{name}]" in text, name


def test_the_commented_keys_are_valid_toml() -> None:
    commented = [
        line[2:] for line in reference().splitlines() if line.startswith("# ") and line[2:].split(" ")[1:2] == ["="]
    ]
    assert {line.split(" ")[0] for line in commented} >= {
        "socket_mode",
        "directory",
        "env_file",
        "redirect",
        "root_path",
    }
    for line in commented:
        assert tomli.loads(line)


def test_the_schema_is_about_the_same_keys() -> None:
    document = json.loads(schema())
    assert document["$schema"]
    assert set(document["properties"]) == set(models.File.model_fields)
    for section in (
        models.Server,
        models.Listener,
        models.App,
        models.Mount,
        models.Respond,
        models.Limits,
        models.Logging,
        models.Recycle,
        models.Control,
    ):
        described = document["$defs"][section.__name__]
        assert described["additionalProperties"] is False
        assert set(described["properties"]) == set(section.model_fields)
        assert all(item.get("description") for item in described["properties"].values())
    assert '"null"' not in schema()


def test_the_files_in_the_repository_are_up_to_date(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0


def test_stale_files_are_named_and_written(
    generate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"], tmp_path) == 1
    assert "config/reference.toml is stale" in capsys.readouterr().err
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    (tmp_path / "config" / "server.schema.json").write_text("{}")
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err == "config/server.schema.json is stale: run python tools/generate.py\n"


def test_other_arguments_are_wrong_usage(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--what"]) == 2
    assert "usage" in capsys.readouterr().err
