"""docs/coming-from.md names keys and options that there are, and everything that the other servers have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import tomli

from serverd.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "coming-from.md").read_text()
# Made by tools/peer_options.py from what was installed.
PEERS: dict[str, Any] = json.loads(Path(__file__).with_name("peer_options.json").read_text())

# What a configuration of NGINX Unit 1.34 may hold, by the tables of its src/nxt_conf_validation.c; of the applications
# what those of Python have.
UNIT = {
    "listeners": "pass application forwarded client_ip protocol source recursive header backlog tls certificate"
    " conf_commands session cache_size timeout tickets",
    "routes": "match method scheme host source destination uri query arguments headers cookies if action pass return"
    " location share index types fallback chroot follow_symlinks traverse_mounts proxy rewrite response_headers",
    "upstreams": "servers weight",
    "applications": "type limits timeout requests shm processes spare max idle_timeout user group working_directory"
    " environment isolation namespaces uidmap gidmap rootfs automount new_privs cgroup stdout stderr home path protocol"
    " threads thread_stack_size module callable factory prefix targets",
    "settings": "listen_threads http header_read_timeout body_read_timeout send_timeout idle_timeout"
    " large_header_buffer_size large_header_buffers body_buffer_size max_body_size body_temp_path discard_unsafe_fields"
    " websocket read_timeout keepalive_interval max_frame_size static mime_types log_route server_version"
    " chunked_transform telemetry js_module",
    "access_log": "path format if",
}


def keys(table: Any, above: str = "") -> set[str]:
    """Return every key path of a table; of arrays of tables that of their elements."""
    if isinstance(table, list):
        return set().union(*(keys(item, above) for item in table if isinstance(item, dict)))
    found = set()
    for key, value in table.items():
        path = f"{above}.{key}" if above else key
        found |= {path} | (keys(value, path) if isinstance(value, dict | list) else set())
    return found


def reference() -> set[str]:
    """Return the keys of config/reference.toml, also those that are commented out, with NAME for names."""
    text = (ROOT / "config" / "reference.toml").read_text()
    text = re.sub(r"(?m)^# (\[|[a-z_]+ = )", r"\1", text)
    found = keys(tomli.loads(text))
    return {re.sub(r"^(listeners|apps|tls)\.\w+", r"\1.NAME", key) for key in found}


def options() -> set[str]:
    run = main.commands["run"]
    params = [*main.params, *run.get_params(click.Context(run))]
    return {name for param in params if isinstance(param, click.Option) for name in param.opts}


def test_every_key_and_option_that_the_page_names_exists() -> None:
    known = reference() | options()
    rows = [line.split("|") for line in PAGE.splitlines() if "|" in line]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row[2])]
    assert len(named) > 200
    assert [name for name in named if name not in known] == []


def first_column(server: str) -> list[str]:
    """Return what stands in the first column of the table about a server."""
    section = PAGE.partition(f"\n## {server}\n")[2].partition("\n## ")[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("server", PEERS)
def test_every_option_of_another_server_has_its_row_and_no_row_is_about_none(server: str) -> None:
    named = [name.strip() for cell in first_column(server) for name in cell.split(",")]
    assert sorted(named) == PEERS[server]["options"]
    version = ".".join(PEERS[server]["version"].split(".")[:2])
    assert f"{server} {version}" in PAGE.partition("\n## ")[0].replace("\n", " ")


def test_every_object_of_nginx_unit_has_its_row() -> None:
    rows = first_column("NGINX Unit")
    for place, names in UNIT.items():
        named = {name for row in rows if row.startswith(place) for name in re.findall(r"\w+", row)} - {place}
        assert sorted(named) == sorted(set(names.split()))
