"""Changes between generations: every field counts, and what applications cannot see is live."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest

from serverd import generation as plain
from serverd.config import changes
from serverd.config.changes import UNCHANGED, Changes, compare, describe
from serverd.generation import (
    Account,
    Address,
    AddressKind,
    App,
    AppTarget,
    BuiltinTarget,
    Certificate,
    File,
    Generation,
    Limits,
    Listener,
    Logging,
    Mount,
    Recycle,
    RedirectTarget,
    RespondTarget,
    Server,
    Tls,
    Validity,
)
from tests.support.every import every

TCP, UNIX, FD, SYSTEMD = AddressKind.TCP, AddressKind.UNIX, AddressKind.FD, AddressKind.SYSTEMD
SECRET = "hunter2"


def tcp(port: int, host: str = "127.0.0.1") -> Address:
    return Address(TCP, f"{host}:{port}", host=host, port=port)


PAIR = Certificate("CERT", SECRET, SECRET, ("a.example",), "ec", files=("/a.crt", "/a.key"), source="server.toml:3")
TLS = Tls("main", (PAIR,), files=(File("/a.crt"), File("/a.key")), source="server.toml:2")
TLS = replace(TLS, client_authorities=(Validity("root", 1, 2),))
WEB = Listener("web", (tcp(8000),), 100, Limits(), tls=TLS, source="server.toml:1")
API = Listener("api", (Address(UNIX, "unix:api.sock", path="/run/api.sock"),), 100, Limits(), source="server.toml:5")
SHOP = App("shop", "shop.main:app", "/srv/shop", env={"TOKEN": SECRET}, source="server.toml:10")
BLOG = App("blog", "blog:app", "/srv/blog", source="server.toml:15")
MOUNTS = (
    Mount("/", ("a.example", "b.example"), ("web", "api"), AppTarget("shop", ""), source="server.toml:20"),
    Mount("/blog", (), ("web",), AppTarget("blog", "/blog"), source="server.toml:24"),
    Mount("/ping", (), ("web",), RespondTarget(200, "pong", (("x-a", "1"),)), source="server.toml:28"),
    Mount("/old", (), ("web",), RedirectTarget("/new"), source="server.toml:32"),
    Mount("/health", (), ("web",), BuiltinTarget("health"), source="server.toml:36"),
)
OLD = Generation(
    source="/etc/serverd/server.toml",
    server=Server(account=Account(1, 1, (1,)), umask=0o22),
    listeners=(WEB, API),
    apps=(SHOP, BLOG),
    mounts=MOUNTS,
    logging=Logging(),
    control_socket="/run/serverd/server.sock",
    number=3,
)


def with_server(**values: Any) -> Generation:
    return replace(OLD, server=replace(OLD.server, **values))


def with_shop(**values: Any) -> Generation:
    return replace(OLD, apps=(replace(SHOP, **values), BLOG))


def with_web(**values: Any) -> Generation:
    return replace(OLD, listeners=(replace(WEB, **values), API))


# No field is forgotten: each one of every dataclass in a generation is changed, and has to be seen.

INVISIBLE = {
    ("Generation", "number"),
    ("Generation", "warnings"),
    ("Generation", "files"),
    ("App", "source"),
    ("Listener", "source"),
    ("Tls", "name"),
    ("Tls", "source"),
    ("Tls", "sources"),
    ("Certificate", "source"),
    ("Mount", "source"),
    ("Address", "text"),
}
NEEDS_NEW_WORKERS = {
    *(("App", item.name) for item in fields(App)),
    *(("Account", item.name) for item in fields(Account)),
    ("Generation", "source"),
    ("Generation", "apps"),
    ("Server", "loop"),
    ("Server", "preload"),
    ("Server", "umask"),
} - {("App", "on_failure"), ("App", "request_timeout"), ("App", "source")}

Case = tuple[str, str, Any]


def other(value: Any) -> Any:
    """Return a value of the same type that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, dict):
        return {**value, "NEW": "1"}
    if isinstance(value, tuple):
        return () if value else ("new",)
    assert value is None
    return 7


def variants(value: Any) -> Iterator[Case]:
    """Yield the class, the field and `value` with that field changed, for every field within a dataclass."""
    for item in fields(value):
        inner = getattr(value, item.name)
        if is_dataclass(inner):
            yield from ((kind, name, replace(value, **{item.name: one})) for kind, name, one in variants(inner))
            continue
        yield type(value).__name__, item.name, replace(value, **{item.name: other(inner)})
        if isinstance(inner, tuple):
            for number, element in enumerate(inner):
                for kind, name, one in variants(element) if is_dataclass(element) else ():
                    changed = (*inner[:number], one, *inner[number + 1 :])
                    yield kind, name, replace(value, **{item.name: changed})


CASES = list(variants(OLD))


@every("case", [pytest.param(case, id=f"{case[0]}.{case[1]}") for case in CASES])
def test_every_field_is_seen_unless_it_is_no_change(case: Case) -> None:
    kind, name, new = case
    for found in (compare(OLD, new), compare(new, OLD)):
        if (kind, name) in INVISIBLE:
            assert found == Changes(restart=(UNCHANGED,))
        elif (kind, name) in NEEDS_NEW_WORKERS:
            assert found.restart
            assert UNCHANGED not in found.restart
        else:
            assert found.is_live
            assert found.live or found.opened or found.closed


def test_every_dataclass_of_a_generation_was_walked() -> None:
    declared = {name for name in plain.__all__ if is_dataclass(getattr(plain, name))}
    assert {kind for kind, _, _ in CASES} == declared


def test_a_field_that_nobody_has_thought_of_needs_new_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(changes._SETTINGS, "server.workers")
    assert compare(OLD, with_server(workers=2)).restart == ("server.workers",)


def test_it_knows_nothing_but_generations() -> None:
    imported = [node for node in ast.walk(ast.parse(inspect.getsource(changes))) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imported if (node.module or "").startswith("serverd")} == {"serverd.generation"}


# What it says.


def test_nothing_that_differs_means_that_the_code_may() -> None:
    found = compare(OLD, replace(OLD, number=4))
    assert found.restart == (UNCHANGED,) == ("the configuration is unchanged, so the code may have changed",)
    assert not found.is_live


@every(
    ("new", "text"),
    [
        (with_server(workers=3), "server.workers: 1 -> 3"),
        (with_server(graceful_timeout=0.25), "server.graceful_timeout: 30s -> 0.25s"),
        (with_server(hang_timeout=86400.0), "server.hang_timeout: 30s -> 86400s"),
        (with_server(date_header=False), "server.date_header: true -> false"),
        (with_server(recycle=Recycle(requests=50)), "server.recycle.requests: 0 -> 50"),
        (with_server(http1_parser="h11"), "server.http1_parser: auto -> h11"),
        (with_server(pid_file=f"/run/{SECRET}"), "server.pid_file"),
        (replace(OLD, logging=Logging(level="debug")), "logging.level: info -> debug"),
        (replace(OLD, logging=Logging(file=f"/var/{SECRET}")), "logging.file"),
        (replace(OLD, control_socket=f"/{SECRET}"), "control.socket"),
        (with_shop(on_failure="unavailable"), "app shop: on_failure"),
        (with_shop(request_timeout=5.0), "app shop: request_timeout"),
        (with_web(limits=Limits(body_size=1, header_count=2)), "limits of listener web: header_count, body_size"),
        (
            with_web(limits=Limits(connections=1, connections_beyond="wait", concurrency=2)),
            "limits of listener web: connections, connections_beyond, concurrency",
        ),
        (
            with_web(
                trusted_proxies=("unix",),
                forwarded_headers=("forwarded",),
                proxy_protocol=True,
                ambiguous_headers="pass",
            ),
            "listener web: trusted_proxies, forwarded_headers, proxy_protocol, ambiguous_headers",
        ),
        (with_web(backlog=5, socket_mode=0o660, socket_uid=1), "listener web: backlog, socket_mode, socket_user"),
        (replace(OLD, mounts=MOUNTS[1:]), "mounts: 1 gone"),
        (
            replace(OLD, mounts=(replace(MOUNTS[0], path=f"/{SECRET}"), *MOUNTS[1:])),
            "mounts: 1 new (server.toml:20), 1 gone",
        ),
        (
            replace(OLD, mounts=(*MOUNTS[:2], replace(MOUNTS[2], target=AppTarget("shop", "")), *MOUNTS[3:])),
            "mounts: 1 changed (server.toml:28)",
        ),
        (replace(OLD, mounts=(replace(MOUNTS[0], trace=True), *MOUNTS[1:])), "mounts: 1 changed (server.toml:20)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_live_is_told_in_the_words_of_the_file_and_without_secrets(new: Generation, text: str) -> None:
    assert compare(OLD, new) == Changes(live=(text,))


@every(
    ("new", "text"),
    [
        (with_server(loop="asyncio"), "server.loop: auto -> asyncio"),
        (with_server(umask=0o27), "server.umask: 0022 -> 0027"),
        (with_server(umask=None), "server.umask: 0022 -> unset"),
        (with_server(preload=True), "server.preload: false -> true"),
        (with_server(account=Account(2, 1, (1,))), "server.user"),
        (replace(OLD, source="/x"), "the configuration file is another one"),
        (with_shop(env={}), "app shop: env (TOKEN)"),
        (with_shop(env={"TOKEN": f"{SECRET}2", "B": "", "A": "1"}), "app shop: env (A, B, TOKEN)"),
        (with_shop(directory="/srv/shop.2"), "app shop: directory"),
        (replace(OLD, apps=(SHOP,)), "app blog is gone"),
        (replace(OLD, apps=(*OLD.apps, App("new", "x:y", "/"))), "app new is new"),
        (replace(OLD, apps=(BLOG, SHOP)), "the order of the apps, in which they are imported"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_new_workers_are_needed_is_told_without_secrets(new: Generation, text: str) -> None:
    assert compare(OLD, new) == Changes(restart=(text,))
    assert SECRET not in text


def test_a_mount_on_every_listener_stays_the_same_when_one_comes_or_goes() -> None:
    every = replace(MOUNTS[0], hosts=(), path="/everywhere", listeners=("web", "api"))
    fresh = replace(WEB, name="fresh", addresses=(tcp(99),))
    old = replace(OLD, mounts=(*MOUNTS, every))
    new = replace(OLD, listeners=(WEB, API, fresh), mounts=(*MOUNTS, replace(every, listeners=("web", "api", "fresh"))))
    assert compare(old, new).live == ("listener fresh is new",)
    assert compare(new, old).live == ("listener fresh is gone",)
    moved = replace(OLD, listeners=(WEB, API, fresh), mounts=(*MOUNTS, replace(every, listeners=("fresh",))))
    assert compare(old, moved).live == ("listener fresh is new", f"mounts: 1 new ({every.source}), 1 gone")


def test_many_names_are_counted() -> None:
    found = compare(OLD, with_shop(env={"TOKEN": SECRET, **{f"V{number}": "" for number in range(7)}}))
    assert found.restart == ("app shop: env (V0, V1, V2, V3, V4 and 2 more)",)


def test_an_order_that_has_no_meaning_is_no_change() -> None:
    shuffled = replace(
        OLD,
        listeners=(API, WEB),
        mounts=tuple(replace(m, hosts=m.hosts[::-1], listeners=m.listeners[::-1]) for m in reversed(MOUNTS)),
        apps=(replace(SHOP, env=dict(reversed(SHOP.env.items()))), BLOG),
    )
    assert compare(OLD, shuffled).restart == (UNCHANGED,)
    both = with_web(addresses=(tcp(1), tcp(2)))
    assert compare(both, with_web(addresses=(tcp(2), tcp(1)))).restart == (UNCHANGED,)
    trusting = with_web(trusted_proxies=("unix", "10.0.0.0/8"))
    assert compare(trusting, with_web(trusted_proxies=("10.0.0.0/8", "unix"))).restart == (UNCHANGED,)
    believed = with_web(forwarded_headers=("x-forwarded-proto", "x-forwarded-for"))
    assert compare(OLD, believed).restart == (UNCHANGED,)


def test_lines_that_moved_are_no_change() -> None:
    moved = replace(
        OLD,
        listeners=tuple(replace(one, source="x") for one in OLD.listeners),
        apps=tuple(replace(one, source="x") for one in OLD.apps),
        mounts=tuple(replace(one, source="x") for one in OLD.mounts),
        warnings=("x",),
    )
    assert compare(OLD, moved).restart == (UNCHANGED,)


# Addresses.


def test_addresses_are_opened_and_closed() -> None:
    found = compare(OLD, with_web(addresses=(tcp(8001), Address(SYSTEMD, "systemd:web", name="web"))))
    assert found.opened == ("127.0.0.1:8001 (listener web)", "systemd:web (listener web)")
    assert found.closed == ("127.0.0.1:8000 (listener web)",)
    assert found.live == ("listener web: bind",)


def test_a_listener_comes_and_goes_with_its_addresses() -> None:
    fresh = Listener("new", (Address(FD, "fd:3", fd=3),), 1, Limits())
    found = compare(OLD, replace(OLD, listeners=(WEB, fresh)))
    assert found.live == ("listener new is new", "listener api is gone")
    assert (found.opened, found.closed) == (("fd:3 (listener new)",), ("unix:api.sock (listener api)",))


def test_an_address_that_another_listener_takes_over_stays_open() -> None:
    found = compare(OLD, replace(OLD, listeners=(replace(WEB, name="www"), API)))
    assert (found.opened, found.closed) == ((), ())
    assert found.live == ("listener www is new", "listener web is gone")
    swapped = replace(OLD, listeners=(replace(WEB, addresses=API.addresses), replace(API, addresses=WEB.addresses)))
    assert compare(OLD, swapped) == Changes(live=("listener web: bind", "listener api: bind"))


def test_ports_that_the_kernel_chooses_are_counted() -> None:
    one, two = with_web(addresses=(tcp(0),)), with_web(addresses=(tcp(0), tcp(0)))
    assert compare(one, two).opened == ("127.0.0.1:0 (listener web)",)
    assert compare(two, one).closed == ("127.0.0.1:0 (listener web)",)
    assert compare(two, two).restart == (UNCHANGED,)


def test_an_address_that_is_written_in_another_way_is_the_same() -> None:
    again = replace(WEB.addresses[0], text="LOCALHOST:8000")
    assert compare(OLD, with_web(addresses=(again,))).restart == (UNCHANGED,)


# The plan.


def test_a_live_plan_names_no_new_workers() -> None:
    new = replace(with_server(workers=2), listeners=(replace(WEB, addresses=(tcp(8001),)), API))
    assert describe(compare(OLD, new)) == [
        "live: server.workers: 1 -> 2",
        "live: listener web: bind",
        "bind: 127.0.0.1:8001 (listener web)",
        "close: 127.0.0.1:8000 (listener web)",
    ]


def test_a_plan_with_new_workers_says_why_and_what_comes_with_them() -> None:
    new = replace(with_shop(target="shop.main:other"), logging=Logging(level="debug"))
    assert describe(compare(OLD, new)) == [
        "new workers: because app shop: target",
        "with them: logging.level: info -> debug",
    ]
    assert describe(compare(OLD, OLD)) == [f"new workers: because {UNCHANGED}"]
