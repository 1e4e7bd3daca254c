"""Options in the place of a file: what they stand for, and how problems name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serverd.config.control import socket_path
from serverd.config.load import load as load_file
from serverd.config.load import load_document
from serverd.config.options import call, compose, pack, title, unpack, words
from serverd.errors import ConfigError
from serverd.generation import Generation


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(target: str = "shop:app", **options: Any) -> Generation:
    return load_document(unpack(pack(target, options, are_flags=True)), {})


def report(target: str = "shop:app", **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(target, **options)
    return str(caught.value)


def test_without_options_it_is_the_folder_and_the_port_that_everybody_expects(folder: Path) -> None:
    generation = load()
    (listener,) = generation.listeners
    assert [address.text for address in listener.addresses] == ["127.0.0.1:8000"]
    assert generation.apps[0].directory == str(folder.resolve())
    assert listener.trusted_proxies == ()


def test_every_option_arrives() -> None:
    generation = load(
        host="::1", port=0, workers="3", lifespan="off", timeout_keep_alive=2.5, limit_concurrency=9, ws_max_size=2**25,
        header=["X-One: 1"], forwarded_allow_ips="*", server_header=False, limit_max_requests=7, root_path="/x",
    )  # fmt: skip
    (listener,) = generation.listeners
    assert (listener.addresses[0].host, listener.addresses[0].port) == ("::1", 0)
    assert generation.server.workers == 3
    assert generation.apps[0].lifespan == "off"
    assert listener.limits.keep_alive_timeout == 2.5
    assert listener.limits.concurrency == 9
    assert listener.limits.websocket.message_size == listener.limits.websocket.frame_size == 2**25
    assert generation.mounts[0].headers == (("x-one", "1"),)
    assert set(listener.trusted_proxies) == {"0.0.0.0/0", "::/0"}
    assert not generation.server.server_header
    assert generation.server.recycle.requests == 7


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": "two"}, '--workers: "two" is not a whole number or "auto"'),
        ({"port": 65536}, "--port: 65536 is not a port"),
        ({"host": "no such host"}, "--host: "),
        ({"uds": "a.sock", "port": 1}, "--uds: names another place"),
        ({"uds": "a.sock", "fd": 3}, "--uds: names another place"),
        ({"log_level": "trace"}, '--log-level: "trace" is not one of'),
        ({"ssl_keyfile": "key.pem"}, "--ssl-keyfile: needs a certificate (expected --ssl-certfile beside it)"),
        ({"ssl_certfile": "none.pem"}, "--ssl-certfile: "),
        ({"ssl_cert_reqs": 5, "ssl_certfile": "none.pem"}, "--ssl-cert-reqs: expected 0"),
        ({"proxy_headers": False, "forwarded_allow_ips": "*"}, "--forwarded-allow-ips: says whom"),
        ({"header": ["no colon"]}, '--header: expected "Name: value"'),
        ({"app_dir": "nowhere"}, '--app-dir: "nowhere" is not a directory'),
        ({"env_file": "nowhere"}, "--env-file: "),
    ],
)
def test_a_problem_names_the_option(options: dict[str, Any], text: str) -> None:
    found = report(**options)
    assert found.startswith(text), found
    assert found.splitlines()[-1].endswith("in the options")


def test_a_file_for_certificate_and_key_is_one_problem_of_one_option(folder: Path) -> None:
    assert report(ssl_certfile="none.pem").splitlines() == [
        f'--ssl-certfile: "none.pem" does not exist (looked for {folder}/none.pem)',
        "1 problem in the options",
    ]


def test_a_missing_module_is_told_with_where_to_look_and_what_would_help() -> None:
    assert report("nothing:app").startswith(
        'APP: "nothing:app" names a module that is neither in the current directory'
    )
    assert "--app-dir" in report("nothing:app")


def test_a_drain_is_quick_with_reload_unless_it_is_set() -> None:
    def patience(**options: Any) -> float:
        return load_document(compose("shop", options, are_flags=True), {}, reloads=True).server.graceful_timeout

    assert patience() == 1.0
    assert patience(timeout_graceful_shutdown=9) == 9.0
    assert load().server.graceful_timeout == 30.0


def test_servers_of_an_application_are_told_apart_by_where_they_listen() -> None:
    assert call("shop:app", {}) == "run:shop:app"
    assert call("shop:app", {"port": 8001}) == "run:shop:app@127.0.0.1:8001"
    assert "/" not in call("shop:app", {"uds": "/run/shop.sock"})


@pytest.mark.parametrize(("are_flags", "told"), [(True, "the command line"), (False, "the arguments")])
def test_nobody_is_told_of_a_file_that_does_not_exist(folder: Path, are_flags: bool, told: str) -> None:
    generation = load_document(unpack(pack("shop:app", {"port": 1}, are_flags=are_flags)), {})
    assert generation.source == title("shop:app", are_flags)
    places = [one.source for one in (*generation.mounts, *generation.apps, *generation.listeners)]
    assert places == [told, *(("APP", "--port") if are_flags else ("app", "port"))]
    assert generation.control_socket == socket_path(str(folder / "run:shop:app@127.0.0.1:1"))


def test_a_name_of_serverd_run_in_the_place_of_a_file_is_explained() -> None:
    with pytest.raises(ConfigError, match="a server of `serverd run` has no file"):
        load_file("run:shop@127.0.0.1:1", {})


def test_options_are_written_again_for_the_supervisor_that_takes_our_place() -> None:
    options = {"port": 1, "server_header": False, "factory": True, "header": ("A: 1", "B: 2")}
    assert words(options) == ("--port=1", "--no-server-header", "--factory", "--header=A: 1", "--header=B: 2")
