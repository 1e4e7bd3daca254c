"""The models: closed, strict, frozen, described, and in step with the generation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from serverd import generation
from serverd.config import models
from serverd.config.models import Section
from tests.support.every import every

SECTIONS = [models.Server, models.Limits, models.Listener, models.App, models.Mount, models.Respond, models.Logging]
SECTIONS += [models.Recycle, models.Control, models.Fragment, models.File]
NEEDED: dict[type[Section], dict[str, Any]] = {models.Listener: {"bind": ":1"}, models.App: {"app": "x"}}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_is_described(section: type[Section]) -> None:
    assert section.__doc__
    for name, field in section.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_an_unknown_key_is_refused(section: type[Section]) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        section.model_validate({**NEEDED.get(section, {}), "unknown": 1})


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_a_section_is_frozen(section: type[Section]) -> None:
    made = section.model_validate(NEEDED.get(section, {}))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, next(iter(section.model_fields)), None)


@pytest.mark.parametrize(
    ("model", "plain"),
    [(models.Recycle, generation.Recycle), (models.Limits, generation.Limits), (models.Logging, generation.Logging)],
    ids=["recycle", "limits", "logging"],
)
def test_defaults_are_those_of_the_generation(model: type[Section], plain: type[Any]) -> None:
    assert model().model_dump() == dataclasses.asdict(plain())


def test_defaults_of_the_process_are_those_of_the_generation() -> None:
    written, plain = models.Server().model_dump(), dataclasses.asdict(generation.Server())
    assert written.pop("user") is written.pop("group") is None
    assert set(plain.pop("account").values()) == {None, ()}
    assert written == plain


def test_defaults_of_apps_and_mounts_are_those_of_the_generation() -> None:
    app = models.App(app="x").model_dump()  # type: ignore[call-arg]
    plain = dataclasses.asdict(generation.App(name="x", target="x:app", directory="/"))
    for key in ("factory", "interface", "lifespan", "on_failure", "request_timeout", "env"):
        assert app[key] == plain[key]
    target = generation.AppTarget("x", "")
    assert models.Mount().strip_prefix is target.strip_prefix
    assert models.Mount().trace is generation.Mount("/", (), (), target).trace


def test_defaults_of_listeners_are_those_of_the_generation() -> None:
    listener = models.Listener.model_validate({"bind": ":1"}).model_dump(exclude={"bind"})
    plain = dataclasses.asdict(generation.Listener("x", (), 0, generation.Limits()))
    for key in ("limits", "trusted_proxies", "forwarded_headers", "proxy_protocol", "ambiguous_headers"):
        assert listener[key] == plain[key]


@every(
    ("section", "name", "example"),
    [
        (section, name, example)
        for section in SECTIONS
        for name, field in section.model_fields.items()
        for example in field.examples or []
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_example_is_valid(section: type[Section], name: str, example: Any) -> None:
    section.model_validate({**NEEDED.get(section, {}), name: example})


def test_a_listener_overrides_only_the_limits_it_names() -> None:
    listener = models.Listener.model_validate({"bind": ":1", "limits": {"body_size": "1KiB"}})
    assert listener.limits.model_fields_set == {"body_size"}
