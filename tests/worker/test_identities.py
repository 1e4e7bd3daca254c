"""Who the listeners of a generation are to clients: every table at once, and each once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serverd.errors import ConfigError
from serverd.generation import Certificate, Generation, Limits, Listener, Logging, Server, Tls
from serverd.worker.identities import identity_of, make_identities
from tests.support.authority import Authority

AUTHORITY = Authority()


def table(name: str, *, key_of: str = "ec") -> Tls:
    issued = AUTHORITY.issue("a.example")
    key = AUTHORITY.issue("a.example", kind=key_of).key
    certificate = Certificate(issued.cert, key, names=("a.example",), key_type="ec", source=f"{name}.toml:7")
    return Tls(name, (certificate,), source=f"{name}.toml:3")


def generation(*listeners: Listener) -> Generation:
    return Generation("/etc/server.toml", Server(), listeners, (), (), Logging())


def listener(name: str, tls: Tls | None, *protocols: str) -> Listener:
    return Listener(name, (), 128, Limits(), protocols=protocols or ("http/1.1", "h2"), tls=tls)


def test_a_table_is_loaded_once_for_each_set_of_protocols() -> None:
    main = table("main")
    listeners = [listener("a", main), listener("b", main), listener("c", main, "http/1.1"), listener("d", None)]
    found = generation(*listeners)
    identities = make_identities(found)
    assert len(identities) == 2
    one, same, other, none = (identity_of(each, identities) for each in listeners)
    assert one is same
    assert one is not other
    assert none is None
    again = make_identities(replace(found, number=2), identities)
    assert list(again.values()) == list(identities.values())


def test_what_cannot_be_used_is_told_of_all_tables_and_of_each_once() -> None:
    bad, worse = table("bad", key_of="rsa"), table("worse", key_of="rsa")
    found = generation(listener("a", bad), listener("b", bad, "h2"), listener("c", table("good")), listener("d", worse))
    with pytest.raises(ConfigError) as caught:
        make_identities(found)
    assert str(caught.value).splitlines() == [
        f"{name}.toml:7: certificate of tls.{name}: the key does not belong to the certificate"
        for name in ("bad", "worse")
    ]
