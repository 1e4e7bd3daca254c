"""Looking at the files of certificates, and at their dates, in virtual time."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from serverd.config.expiry import DAY
from serverd.config.stamps import stamp
from serverd.generation import Certificate, Generation, Limits, Listener, Logging, Server, Tls, Validity
from serverd.supervisor.certificates import LOOK_INTERVAL, CertificateWatch, certificates
from serverd.supervisor.fleet import Fleet
from serverd.supervisor.status import describe

# Of the two keys that name files of authorities.
SOURCES = (("client_ca", "server.toml:3"), ("client_crl", "server.toml:4"))


class Scene:
    """A watch over two files, and the time."""

    def __init__(self, folder: Path, not_after: int = 1000 * DAY) -> None:
        self.now = self.wall = 100.0
        self.cert, self.key = folder / "a.crt", folder / "a.key"
        self.cert.write_text("cert")
        self.key.write_text("key")
        self.not_after = not_after
        self.watch = CertificateWatch(lambda: self.now, lambda: self.wall)
        self.generation = self.read()

    def read(self) -> Generation:
        """Return a generation that has read the files as they are."""
        pair = Certificate("", "", names=("a.example",), serial="07", not_after=self.not_after, source="server.toml:5")
        tls = Tls("main", (pair,), files=(stamp(str(self.cert)), stamp(str(self.key))))
        listeners = (Listener("web", (), 1, Limits(), tls=tls), Listener("api", (), 1, Limits(), tls=tls))
        return Generation("/server.toml", Server(), listeners, (), (), Logging())

    def believe(self, *known: Validity, lists: tuple[Validity, ...] = ()) -> None:
        """Go on with another generation, which believes these authorities of clients."""
        web, *_ = self.generation.listeners
        assert web.tls is not None
        tls = replace(web.tls, client_authorities=known, client_lists=lists, source="server.toml:2", sources=SOURCES)
        self.generation = replace(self.generation, listeners=(replace(web, tls=tls),))

    def look(self) -> bool:
        """Look when it is time to."""
        self.now += LOOK_INTERVAL
        return self.watch.look(self.generation)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    found = Scene(tmp_path)
    assert not found.watch.look(found.generation)
    return found


def test_without_tls_nobody_looks() -> None:
    watch = CertificateWatch(lambda: 0.0, lambda: 0.0)
    assert not watch.look(None)
    assert watch.deadline is None
    plain = Generation("/server.toml", Server(), (Listener("web", (), 1, Limits()),), (), (), Logging())
    assert not watch.look(plain)
    assert watch.deadline is None


def test_files_that_stay_are_no_news(scene: Scene) -> None:
    assert [scene.look() for _ in range(5)] == [False] * 5


def test_a_change_is_told_once_and_when_it_has_settled(scene: Scene) -> None:
    scene.cert.write_text("longer")
    assert not scene.look(), "the key may be written next"
    scene.key.write_text("longer, too")
    assert not scene.look()
    assert scene.look()
    assert [scene.look() for _ in range(5)] == [False] * 5


def test_what_could_not_be_used_is_told_again_when_it_changes_again(scene: Scene) -> None:
    scene.cert.write_text("broken")
    assert [scene.look() for _ in range(3)] == [False, True, False]
    scene.key.write_text("its own")
    assert [scene.look() for _ in range(3)] == [False, True, False]


def test_what_has_been_read_again_is_no_news(scene: Scene) -> None:
    scene.cert.write_text("longer")
    assert [scene.look() for _ in range(2)] == [False, True]
    scene.generation = scene.read()
    assert [scene.look() for _ in range(3)] == [False] * 3


def test_a_change_back_is_no_news(scene: Scene) -> None:
    scene.key.rename(scene.key.with_suffix(".old"))
    assert not scene.look()
    scene.key.with_suffix(".old").rename(scene.key)
    assert [scene.look() for _ in range(3)] == [False] * 3


def test_a_change_back_is_told_where_the_change_was(scene: Scene) -> None:
    scene.key.rename(scene.key.with_suffix(".old"))
    assert [scene.look() for _ in range(3)] == [False, True, False]
    scene.key.with_suffix(".old").rename(scene.key)
    assert [scene.look() for _ in range(3)] == [False, True, False]


def test_a_file_that_goes_is_a_change(scene: Scene) -> None:
    scene.key.unlink()
    assert [scene.look() for _ in range(3)] == [False, True, False]


def test_nobody_looks_before_it_is_time(scene: Scene) -> None:
    scene.cert.write_text("longer")
    assert scene.watch.deadline == scene.now + LOOK_INTERVAL
    scene.now += LOOK_INTERVAL / 2
    assert not scene.watch.look(scene.generation)


def test_three_weeks_before_the_end_it_warns_once_and_at_the_end_again(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for days in (978, 978.5, 979.5, 980, 999, 1000.5, 1001):
        scene.wall = days * DAY
        scene.look()
    assert [record.getMessage() for record in caplog.records] == [
        "server.toml:5: certificate of tls.main (07) expires in 20 days (expected it to be renewed by now)",
        "server.toml:5: certificate of tls.main (07) has expired less than a day ago (clients refuse it)",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_of_a_chain_the_one_is_told_of_that_ends_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(tmp_path)
    web, *_ = scene.generation.listeners
    assert web.tls is not None
    chain = (Validity("R3", 0, 500 * DAY), Validity("X1", 0, 2000 * DAY))
    tls = replace(web.tls, certificates=(replace(web.tls.certificates[0], issuers=chain),))
    scene.generation = replace(scene.generation, listeners=(replace(web, tls=tls),))
    for days in (478, 478.5, 479.5, 490, 500.5, 501.5, 502.5):
        scene.wall = days * DAY
        scene.look()
    told = 'server.toml:5: certificate of tls.main (07) has "R3" in its chain, which'
    assert [record.getMessage() for record in caplog.records] == [
        f"{told} expires in 20 days (expected another chain by now)",
        f"{told} has expired less than a day ago (clients refuse it that know no other way)",
    ]
    [found] = describe(Fleet(committed=scene.generation), 0.0, 490 * DAY)["certificates"]
    assert (found["not_after"], found["chain_ends"]) == (1000 * DAY, {"name": "R3", "until": 500 * DAY})


def test_every_list_of_revoked_certificates_that_expires_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path)
    for until in (10 * DAY, 20 * DAY):
        scene.believe(lists=(Validity("root", 0, until),))
        for days in (-1, 0.5, 1.5):
            scene.wall = until + days * DAY
            scene.look()
    told = 'server.toml:4: list of "root" in client_crl of tls.main has expired less than a day ago'
    expected = f"{told} (no certificate of a client from there is valid until it is renewed)"
    assert [record.getMessage() for record in caplog.records] == [expected] * 2


def test_every_authority_of_clients_that_expires_is_told_of_like_a_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path, not_after=9000 * DAY)
    scene.believe(Validity("root", 0, 1000 * DAY), Validity("other", 0, 2000 * DAY))
    for days in (978, 978.5, 979.5, 999, 1000.5, 1001):
        scene.wall = days * DAY
        scene.look()
    told = 'server.toml:3: authority "root" in client_ca of tls.main'
    assert [record.getMessage() for record in caplog.records] == [
        f"{told} expires in 20 days (expected its successor beside it by now)",
        f"{told} has expired less than a day ago (no certificate of a client from there is valid)",
    ]


def test_the_status_has_the_authorities_of_clients_and_their_lists(scene: Scene) -> None:
    scene.believe(Validity("root", 0, 5 * DAY), lists=(Validity("root", 2 * DAY, 3 * DAY), Validity("root", 7, 0)))
    found = describe(Fleet(committed=scene.generation), 0.0, 4.5 * DAY)["authorities"]
    expected = [
        ("client_ca", 0, 5 * DAY, "expires in less than a day (expected its successor beside it by now)"),
        (
            "client_crl",
            2 * DAY,
            3 * DAY,
            "has expired 1 day ago (no certificate of a client from there is valid until it is renewed)",
        ),
        ("client_crl", 7, None, None),
    ]
    assert found == [
        {"tls": "main", "key": key, "name": "root", "since": since, "until": until, "age": age}
        for key, since, until, age in expected
    ]


def test_what_the_loader_has_warned_of_is_not_told_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(tmp_path, not_after=5 * DAY)
    scene.watch.look(scene.generation)
    for _ in range(3):
        scene.look()
    assert caplog.records == []


def test_the_status_has_every_certificate_once(scene: Scene) -> None:
    assert len(list(certificates(scene.generation))) == 1
    found = describe(Fleet(committed=scene.generation), 0.0, 990 * DAY)["certificates"]
    assert found == [
        {
            "tls": "main",
            "names": ["a.example"],
            "serial": "07",
            "not_before": 0,
            "not_after": 1000 * DAY,
            "chain_ends": None,
            "age": "expires in 10 days (expected it to be renewed by now)",
            "kept": None,
        }
    ]
