"""Chains of certificates: that each has signed the one before it, and not only has the right name."""

from __future__ import annotations

import pytest
import trustme

from serverd.generation import Certificate
from serverd.net.chains import broken_link
from tests.support.authority import DAY, Authority

DEEP = Authority("root", deep=True)
IMPOSTOR = Authority("root", deep=True, impostor=True)
STRANGER = Authority("stranger")
LEAF = DEEP.issue("a.example")
END = "-----END CERTIFICATE-----\n"
OWN, INTERMEDIATE = (f"{block}{END}" for block in LEAF.cert.split(END)[:2])
FALSE_INTERMEDIATE = IMPOSTOR.issue("x.example").cert.split(END)[1] + END


def link(*blocks: str, key: str = LEAF.key, password: str = "") -> int:
    return broken_link(Certificate(cert="".join(blocks), key=key, key_password=password))


@pytest.mark.parametrize(
    ("blocks", "broken"),
    [
        ([OWN], 0),
        ([OWN, INTERMEDIATE], 0),
        ([OWN, INTERMEDIATE, DEEP.pem], 0),
        ([OWN, FALSE_INTERMEDIATE], 1),
        ([OWN, FALSE_INTERMEDIATE, DEEP.pem], 1),
        ([OWN, INTERMEDIATE, IMPOSTOR.pem], 2),
        ([OWN, DEEP.pem, INTERMEDIATE], 1),  # swapped
        ([OWN, STRANGER.pem], 1),
        ([OWN, INTERMEDIATE, STRANGER.pem], 2),
    ],
)
def test_the_first_link_that_is_broken_is_told(blocks: list[str], broken: int) -> None:
    assert link(*blocks) == broken


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_keys_of_every_kind_are_judged(kind: str) -> None:
    issued = DEEP.issue("a.example", kind=kind)
    assert link(issued.cert, key=issued.key) == 0
    assert link(issued.cert.split(END)[0] + END, FALSE_INTERMEDIATE, key=issued.key) == 1


def test_dates_purposes_and_encrypted_keys_do_not_matter() -> None:
    old = DEEP.issue("a.example", begins=-9 * DAY, ends=-3 * DAY)
    assert link(old.cert, key=old.key) == 0
    of_client = DEEP.issue("a.example", client=True)
    assert link(of_client.cert, key=of_client.key) == 0
    encrypted = DEEP.issue("a.example", password="secret")
    assert link(encrypted.cert, key=encrypted.key, password="secret") == 0


def test_an_issuer_whose_name_is_right_and_whose_identifier_is_another_is_none() -> None:
    names = {"organization_name": "shop", "organization_unit_name": "web"}
    right, wrong = trustme.CA(**names), trustme.CA(**names)
    issued = right.issue_cert("a.example")
    own, key = issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()
    assert link(own, right.cert_pem.bytes().decode(), key=key) == 0
    assert link(own, wrong.cert_pem.bytes().decode(), key=key) == 1
