"""What a person at a terminal sees of a start, and that nobody else does."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serverd.generation import AppTarget, Mount, RedirectTarget, RespondTarget
from serverd.net.bindings import Place
from serverd.supervisor.banner import MOST_MOUNTS, banner, clickable
from serverd.version import RELEASE
from tests.supervisor.scene import make_generation

SHOP = Mount("/shop", (), ("web",), AppTarget("shop", "/shop"), source="server.toml:9")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://0.0.0.0:8000", "http://localhost:8000/"),
        ("https://[::]:8443", "https://localhost:8443/"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        ("unix:/run/[::]:1.sock", "unix:/run/[::]:1.sock"),
    ],
)
def test_addresses_can_be_clicked_on(url: str, shown: str) -> None:
    assert clickable(url) == shown


def test_it_lists_addresses_mounts_and_applications() -> None:
    generation = replace(
        make_generation(),
        mounts=(
            SHOP,
            Mount("/", ("a.example", "b.example"), ("web",), RedirectTarget("https://{host}{uri}"), source="x.toml:1"),
            Mount("/ping", (), ("other",), RespondTarget(200, "pong\x1b", ()), source="x.toml:4"),
        ),
    )
    generation = replace(generation, listeners=(*generation.listeners, replace(generation.listeners[0], name="other")))
    places = [Place("web", "http://0.0.0.0:8000"), Place("other", "unix:/run/\x1bx")]
    title, *lines = banner(generation, places).splitlines()
    assert title == f"serverd {RELEASE} serves /etc/server.toml"
    assert lines == [
        "",
        "  web    http://localhost:8000/",
        "  other  unix:/run/\\x1bx",
        "",
        "  /shop by web                      app shop                      shop:app  server.toml:9",
        "  / on a.example, b.example by web  redirect https://{host}{uri}            x.toml:1",
        "  /ping by other                    respond 200                             x.toml:4",
        "",
    ]


def test_many_mounts_are_counted() -> None:
    generation = replace(make_generation(), mounts=(SHOP,) * (MOST_MOUNTS + 3))
    lines = banner(generation, [Place("web", "http://127.0.0.1:1")]).splitlines()
    assert sum("app shop" in line for line in lines) == MOST_MOUNTS
    assert lines[-2] == "  and 3 mounts more (serverd routes)"


@pytest.mark.parametrize("how", ["text", "json"])
def test_a_terminal_gets_it_once_in_the_place_of_log_lines_and_programs_never(tmp_path: Path, how: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        f'[logging]\nformat = "{how}"\n[control]\nsocket = "c.sock"\n'
        '[listeners.web]\nbind = "0.0.0.0:0"\n[[mounts]]\nrespond = { body = "hi" }\n'
    )
    own, its = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "serverd", "-c", str(file)], stderr=its, stdin=its)
    try:
        os.close(its)
        shown = b""
        while b"ready: generation 1" not in shown:
            shown += os.read(own, 4096)
        has_banner = re.search(rb"\r\n  web  http://localhost:[1-9]\d*/\r\n\r\n  /  respond 200 ", shown) is not None
        assert (has_banner, b"listening on" in shown) == (how == "text", how == "json")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(own)
