"""The tables [tls.NAME]: what is read, what is refused at its line, what is warned of, and what is never shown."""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from serverd.config.certificates import called, covers, read_certificates, read_key, read_revocation_lists
from serverd.config.document import Unreadable
from serverd.config.expiry import tell_age
from serverd.config.files import read_pem, read_text
from serverd.config.renewal import renew
from serverd.errors import ConfigError, RenewalError
from serverd.generation import Account, Certificate, Generation, Tls, Validity
from serverd.messages import Loaded, decode, encode
from serverd.net.tls import first_block
from tests.support.authority import DAY, Authority, Issued

from .conftest import Load, Report

AUTHORITY = Authority()
OTHER = Authority("other")
END = "-----END CERTIFICATE-----\n"
DEEP = Authority("root", deep=True)
SECRET = "hunter2"

A = AUTHORITY.issue("a.example", "*.a.example", "127.0.0.1", "::1")
B = AUTHORITY.issue("b.example")
ENCRYPTED = AUTHORITY.issue("a.example", password=SECRET)
FILES = {"a.crt": A.cert, "a.key": A.key}


def configuration(table: str, *, hosts: str = "[]", name: str = "main") -> str:
    return f"""\
[listeners.web]
bind = "127.0.0.1:0"
tls = "{name}"
[tls.main]
{table}
[[mounts]]
hosts = {hosts}
respond = {{ status = 204 }}
"""


ONE = 'certificates = [{ cert = "a.crt", key = "a.key" }]'

TWO_PAIRS = 'certificates = [{ cert = "a.crt", key = "a.key" }, { cert = "b.crt", key = "b.key" }]'

WITH_LISTS = f'''{ONE}
client_auth = "required"
client_ca = "ca.crt"
client_crl = "ca.crl"'''


def certificates_of(generation: Generation) -> tuple[Certificate, ...]:
    tls = generation.listeners[0].tls
    assert tls is not None
    return tls.certificates


def files_of(issued: Issued) -> dict[str, str]:
    return {"a.crt": issued.cert, "a.key": issued.key}


def loaded(load_text: Load, table: str = ONE, files: dict[str, str] | None = None, **environ: str) -> Generation:
    return load_text(configuration(table), files or FILES, **environ)


class TestWhatIsRead:
    def test_contents_and_what_they_say(self, load_text: Load, tmp_path: Path) -> None:
        tls = loaded(load_text).listeners[0].tls
        assert tls is not None
        [pair] = tls.certificates
        assert (pair.cert, pair.key) == (A.cert, A.key)
        assert pair.names == ("a.example", "*.a.example", "127.0.0.1", "::1")
        assert (pair.key_type, pair.serial, pair.source) == ("ec", A.serial, "server.toml:5")
        assert pair.not_after == int(A.certificate.not_valid_after_utc.timestamp())
        assert [file.path for file in tls.files] == [str(tmp_path / "a.crt"), str(tmp_path / "a.key")]
        assert (tls.min_version, tls.client_auth, tls.source) == ("1.2", "none", "server.toml:4")

    def test_everything_that_can_be_said(self, load_text: Load) -> None:
        table = """\
certificates = [{ cert = "a.crt", key = "a.key", key_password = "${PASSWORD}" }]
ciphers = "ECDHE+AESGCM"
client_auth = "required"
client_ca = "ca.crt"
client_crl = "ca.crl"
"""
        files = {**files_of(ENCRYPTED), "ca.crt": AUTHORITY.pem, "ca.crl": AUTHORITY.revocations()}
        tls = loaded(load_text, table, files, PASSWORD=SECRET).listeners[0].tls
        assert tls is not None
        assert tls.certificates[0].key_password == SECRET
        assert (tls.ciphers, tls.client_auth) == ("ECDHE+AESGCM", "required")
        assert (tls.client_ca, tls.client_crl) == (AUTHORITY.pem, files["ca.crl"])
        assert len(tls.files) == 4

    def test_it_survives_the_trip_to_a_worker(self, load_text: Load) -> None:
        generation = loaded(load_text)
        assert decode(encode(Loaded(generation))) == Loaded(generation)

    def test_what_surrounds_the_blocks_stays_behind(self, load_text: Load) -> None:
        files = {"a.crt": f"Bag Attributes: x\n{A.cert}# end", "a.key": f"root:$6$secret:1::\n{A.key}"}
        tls = loaded(load_text, files=files).listeners[0].tls
        assert tls is not None
        assert (tls.certificates[0].cert, tls.certificates[0].key) == (A.cert, A.key)

    def test_it_may_be_in_any_encoding(self, load_text: Load, tmp_path: Path) -> None:
        files = {"a.crt": A.cert, "a.key": A.key}
        (tmp_path / "latin.crt").write_bytes("friendlyName: Zürich\n".encode("latin-1") + A.cert.encode())
        table = f'certificates = [{{ cert = "{tmp_path}/latin.crt", key = "a.key" }}]'
        tls = loaded(load_text, table, files).listeners[0].tls
        assert tls is not None
        assert tls.certificates[0].cert == A.cert

    def test_certificate_and_key_may_be_in_one_file(self, load_text: Load) -> None:
        table = 'certificates = [{ cert = "both.pem", key = "both.pem" }]'
        tls = loaded(load_text, table, {"both.pem": A.key + A.cert}).listeners[0].tls
        assert tls is not None
        assert (tls.certificates[0].cert, tls.certificates[0].key) == (A.cert, A.key)

    def test_an_included_file_may_bring_its_own(self, load_text: Load) -> None:
        text = f'include = ["x.toml"]\n{configuration("").replace("[tls.main]", "")}'
        generation = load_text(text, {**FILES, "x.toml": f"[tls.main]\n{ONE}"})
        assert generation.listeners[0].tls is not None
        assert generation.listeners[0].tls.source == "x.toml:1"


OTHER_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("table", "files", "expected"),
        [
            (ONE, {"a.key": A.key}, 'tls.main.certificates[0].cert: "a.crt" does not exist'),
            (ONE, {"a.crt": A.cert}, 'tls.main.certificates[0].key: "a.key" does not exist'),
            (ONE, {**FILES, "a.crt": "x"}, 'cert: "a.crt" holds no certificate (expected PEM, with BEGIN CERTIFICATE)'),
            (ONE, {**FILES, "a.crt": A.key}, 'cert: "a.crt" holds no certificate'),
            (ONE, {**FILES, "a.key": A.cert}, 'key: "a.key" holds no private key, but a certificate (expected PEM'),
            (ONE, {**FILES, "a.key": OTHER_KEY}, "key: \"a.key\" holds a private key that is of no use for TLS"),
            (ONE, files_of(ENCRYPTED), 'key: "a.key" is encrypted (expected `key_password` beside it)'),
            (f'certificates = [{{ cert = "a.crt", key = "a.key", key_password = "{SECRET}" }}]', FILES,
             "key_password: has no effect: the key is not encrypted"),
            ("certificates = []", FILES, "certificates: [] is too short (expected at least 1)"),
            (f'{ONE}\nclient_auth = "required"', FILES, "client_auth: \"required\" needs to know whose certificates"),
            (f'{ONE}\nclient_ca = "a.crt"', FILES, "client_ca: has no effect without `client_auth`"),
            (f'{ONE}\nclient_crl = "a.crl"', FILES, "client_crl: has no effect without `client_ca`"),
            (f'{ONE}\nclient_auth = "optional"\nclient_ca = "a.crt"\nclient_crl = "a.crt"', FILES,
             'client_crl: "a.crt" holds no list of revoked certificates, but a certificate (expected PEM'),
            (f'{ONE}\nmin_version = "1.3"\nciphers = "X"', FILES, 'ciphers: has no effect with min_version = "1.3"'),
            (f'{ONE}\nmin_version = "1.1"', FILES, 'min_version: "1.1" is not one of "1.2", "1.3"\n'),
            (f'{ONE}\nciphers = "a;b"', FILES, 'ciphers: "a;b" is not a list of cipher suites'),
        ],
    )  # fmt: skip
    def test_each_at_its_line(self, report_of: Report, table: str, files: dict[str, str], expected: str) -> None:
        report = report_of(configuration(table), files)
        assert expected in report
        assert report.startswith("server.toml:")
        assert report.endswith("1 problem in server.toml")
        assert SECRET not in report

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (A.certificate.public_bytes(Encoding.DER), "holds no certificate: it is DER or PKCS #12, which"),
            (A.cert.encode("utf-16"), "holds no certificate: it is UTF-16, as some editors write it"),
            (b" \n", "holds no certificate: it is empty"),
            (A.key.encode(), "holds no certificate, but a private key"),
            (A.key.replace("PRIVATE KEY", "PUBLIC KEY").encode(), "holds no certificate, but a public key"),
            (A.cert.replace("CERTIFICATE", "CERTIFICATE REQUEST").encode(), "but a certificate request"),
            (A.cert.replace("CERTIFICATE", "TRUSTED CERTIFICATE").encode(), "but a certificate with OpenSSL's notes"),
            (A.cert[:200].encode(), "holds no certificate: it is cut off or damaged: BEGIN CERTIFICATE has no END"),
        ],
    )
    def test_what_the_file_is_instead_is_told(
        self, report_of: Report, tmp_path: Path, content: bytes, told: str
    ) -> None:
        (tmp_path / "odd.crt").write_bytes(content)
        table = f'certificates = [{{ cert = "{tmp_path}/odd.crt", key = "a.key" }}]'
        report = report_of(configuration(table), FILES)
        assert report.startswith("server.toml:")
        assert told in report
        assert "(expected PEM, with BEGIN CERTIFICATE)" in report

    @pytest.mark.parametrize(("cut", "label"), [(18, "CERTIFI"), (30, "CERTIFICATE"), (400, "CERTIFICATE")])
    def test_a_chain_that_is_cut_off_does_not_pass_for_a_short_one(
        self, report_of: Report, cut: int, label: str
    ) -> None:
        whole = DEEP.issue("a.example")
        leaf = whole.cert.index(END) + len(END)
        report = report_of(configuration(ONE), {"a.crt": whole.cert[: leaf + cut], "a.key": whole.key})
        assert f'certificates[0].cert: "a.crt" is cut off or damaged: BEGIN {label} has no END (expected' in report

    def test_one_in_a_chain_that_would_be_passed_over(self) -> None:
        with pytest.raises(ValueError, match="holds a TRUSTED CERTIFICATE, with OpenSSL's notes"):
            read_certificates(A.cert + B.cert.replace("CERTIFICATE", "TRUSTED CERTIFICATE"))

    def test_a_listener_that_names_another_table(self, report_of: Report) -> None:
        report = report_of(configuration(ONE, name="mian"), FILES)
        assert report.startswith('server.toml:3: listeners.web.tls: "mian" is not a tls table (did you mean "main"?)')

    def test_a_table_that_is_there_twice(self, report_of: Report) -> None:
        text = f'include = ["x.toml"]\n{configuration(ONE)}'
        report = report_of(text, {**FILES, "x.toml": f"[tls.main]\n{ONE}"})
        assert "x.toml:1: tls.main: is already defined at server.toml:5 (choose another name)" in report

    def test_a_file_that_is_also_written(self, report_of: Report) -> None:
        report = report_of(configuration(ONE) + '[server]\npid_file = "a.key"\n', FILES)
        assert 'server.pid_file: "a.key" is a file of tls table "main", too' in report

    def test_faulty_elements_do_not_shift_the_others(self, report_of: Report) -> None:
        table = 'certificates = [{ cert = 1, key = "a.key" }, { cert = "no.crt", key = "a.key" }]'
        report = report_of(configuration(table), FILES)
        assert "certificates[0].cert: 1 is not a string" in report
        assert 'certificates[1].cert: "no.crt" does not exist' in report

    @pytest.mark.parametrize(
        "pair",
        [
            f'cert = "a.crt", key = "a.key", key_password = "{SECRET}"',
            f'cert = "a.crt", key = "a.key", \'key_password\' = "{SECRET}"',
            f'cert = 7, key = "a.key", key_password = "{SECRET}"',
            f'cert = "no.crt", key = "no.key", key_password = "{SECRET}"',
            f'cert = "a.crt", key = "a.key", key_password = ["{SECRET}"]',
            f'cert = "a.crt", key = "a.key", key_password = "{SECRET}", x = 1',
            f'cert = "a.crt", key = "a.key", key_password = "{SECRET}"; y',
        ],
    )
    def test_no_report_shows_a_password(self, report_of: Report, pair: str) -> None:
        assert SECRET not in report_of(configuration(f"certificates = [{{ {pair} }}]"), FILES)


class TestWarnings:
    def warnings(self, load_text: Load, text: str, files: dict[str, str]) -> tuple[str, ...]:
        return load_text(text, files).warnings

    @pytest.mark.parametrize(
        ("begins", "ends", "expected"),
        [
            (-30 * DAY, -2.5 * DAY, "has expired 2 days ago (clients refuse it)"),
            (-30 * DAY, 20.5 * DAY, "expires in 20 days (expected it to be renewed by now)"),
            (-30 * DAY, 0.5 * DAY, "expires in less than a day (expected it to be renewed by now)"),
            (1.5 * DAY, 90 * DAY, "is not valid yet, but in 1 day (clients refuse it until then)"),
            (-30 * DAY, 22 * DAY, ""),
        ],
    )
    def test_dates(self, load_text: Load, begins: datetime.timedelta, ends: datetime.timedelta, expected: str) -> None:
        issued = AUTHORITY.issue("a.example", begins=begins, ends=ends)
        found = loaded(load_text, files=files_of(issued)).warnings
        assert found == ((f'server.toml:5: tls.main.certificates[0].cert: "a.crt" {expected}',) if expected else ())

    def test_dates_of_those_in_its_chain(self, load_text: Load, tmp_path: Path) -> None:
        chained = Authority("root", deep=True, inner_ends=6.5 * DAY).issue("a.example")
        found = loaded(load_text, files=files_of(chained))
        text = 'has "root intermediate" in its chain, which expires in 6 days (expected another chain by now)'
        assert found.warnings == (f'server.toml:5: tls.main.certificates[0].cert: "a.crt" {text}',)
        first = certificates_of(found)[0].first_to_end
        assert first is not None
        assert first.name == "root intermediate"
        A.write(tmp_path, "a")
        renewed = renew(found, no_objection)
        assert renewed.warnings == ()
        chained.write(tmp_path, "a")
        told = f"server.toml:5: tls.main.certificates[0].cert: {tmp_path}/a.crt {text}"
        assert renew(renewed, no_objection).warnings == (told,)

    @pytest.mark.parametrize(("days", "expected"), [(-2.5, "2 days"), (-0.5, "less than a day"), (0.5, "")])
    def test_lists_of_revoked_certificates(self, load_text: Load, tmp_path: Path, days: float, expected: str) -> None:
        lists = AUTHORITY.revocations(ends=-9 * DAY) + AUTHORITY.revocations(ends=days * DAY)
        found = loaded(load_text, WITH_LISTS, {**FILES, "ca.crt": AUTHORITY.pem, "ca.crl": lists})
        text = f'holds a list of "root" that has expired {expected} ago'
        text += " (no certificate of a client from there is valid until it is renewed)"
        assert found.warnings == ((f'server.toml:8: tls.main.client_crl: "ca.crl" {text}',) if expected else ())
        told = f"server.toml:8: tls.main.client_crl: {tmp_path}/ca.crl {text}"
        assert renew(found, no_objection).warnings == (), "it has been said"
        (tmp_path / "ca.crl").write_text(AUTHORITY.revocations(ends=-9 * DAY) + lists)
        assert renew(found, no_objection).warnings == ((told,) if expected else ())

    @pytest.mark.parametrize(
        ("begins", "ends", "expected"),
        [
            (-30, -2.5, "has expired 2 days ago (no certificate of a client from there is valid)"),
            (-30, 20.5, "expires in 20 days (expected its successor beside it by now)"),
            (1.5, 90, "is not valid yet, but in 1 day (no certificate of a client from there is valid until then)"),
            (-30, 22, ""),
        ],
    )
    def test_dates_of_authorities(
        self, load_text: Load, tmp_path: Path, begins: float, ends: float, expected: str
    ) -> None:
        old = Authority(begins=begins * DAY, ends=ends * DAY)
        table = f'{ONE}\nclient_auth = "required"\nclient_ca = "ca.crt"\n'
        found = loaded(load_text, table, {**FILES, "ca.crt": OTHER.pem + old.pem})
        text = f'holds "root", which {expected}'
        assert found.warnings == ((f'server.toml:7: tls.main.client_ca: "ca.crt" {text}',) if expected else ())
        told = f"server.toml:7: tls.main.client_ca: {tmp_path}/ca.crt {text}"
        assert renew(found, no_objection).warnings == (), "it has been said"
        (tmp_path / "ca.crt").write_text(old.pem + OTHER.pem)
        assert renew(found, no_objection).warnings == ((told,) if expected else ())
        (tmp_path / "ca.crt").write_text(old.pem + AUTHORITY.pem)
        assert renew(found, no_objection).warnings == (), "it is there renewed, too"

    def test_an_authority_without_a_list(self, load_text: Load, tmp_path: Path) -> None:
        files = {**FILES, "ca.crt": AUTHORITY.pem + OTHER.pem, "ca.crl": AUTHORITY.revocations()}
        found = loaded(load_text, WITH_LISTS, files)
        text = 'holds no list of "other", which `client_ca` names (no certificate of a client from there is valid)'
        assert found.warnings == (f'server.toml:8: tls.main.client_crl: "ca.crl" {text}',)
        assert renew(found, no_objection).warnings == (), "it has been said"
        (tmp_path / "ca.crl").write_text(AUTHORITY.revocations())
        assert renew(found, no_objection).warnings == (f"server.toml:8: tls.main.client_crl: {tmp_path}/ca.crl {text}",)
        (tmp_path / "ca.crl").write_text(files["ca.crl"] + OTHER.revocations())
        assert renew(found, no_objection).warnings == ()

    def test_a_table_that_nobody_uses(self, load_text: Load) -> None:
        text = configuration(ONE).replace('tls = "main"\n', "")
        assert self.warnings(load_text, text, FILES) == ("server.toml:3: tls.main: no listener uses this tls table",)

    def test_hosts_that_no_certificate_is_for(self, load_text: Load) -> None:
        hosts = '["a.example", "x.a.example", "x.y.a.example", "*.a.example", "b.example", "127.0.0.1", "127.0.0.2"]'
        found = self.warnings(load_text, configuration(ONE, hosts=hosts), FILES)
        told = 'is no name in a certificate of listener "web" (tls table "main"): clients refuse the one they are shown'
        assert found == (
            f'server.toml:7: mounts[0].hosts[2]: "x.y.a.example" {told}',
            f'server.toml:7: mounts[0].hosts[4]: "b.example" {told}',
            f'server.toml:7: mounts[0].hosts[6]: "127.0.0.2" {told}',
        )

    def test_a_chain_in_the_wrong_order(self, load_text: Load) -> None:
        good = DEEP.issue("a.example")
        assert loaded(load_text, files=files_of(good)).warnings == ()
        leaf, intermediate = good.cert.split("-----END CERTIFICATE-----\n")[:2]
        wrong = "-----END CERTIFICATE-----\n".join(
            [leaf, DEEP.pem.removesuffix("-----END CERTIFICATE-----\n"), intermediate, ""]
        )
        [warning] = loaded(load_text, files={"a.crt": wrong, "a.key": good.key}).warnings
        assert warning.endswith(
            '"a.crt" holds its certificates in the wrong order: behind "a.example" comes "root"'
            ' (expected "a.example", "root intermediate", "root")'
        )

    def test_a_certificate_that_is_none_of_the_chain(self, load_text: Load) -> None:
        good = DEEP.issue("a.example")
        others = {"b.example": AUTHORITY.issue("b.example").cert, "a.example": good.cert}
        for name, more in {**others, "stranger": Authority("stranger").pem}.items():
            [warning] = loaded(load_text, files={"a.crt": good.cert + more, "a.key": good.key}).warnings
            assert warning.endswith(
                f'"a.crt" has as certificate 3 "{name}", which is not the issuer of certificate 2 "root intermediate"'
                ' (expected "root", or nothing)'
            )

    @pytest.mark.parametrize(
        ("attributes", "shown"),
        [
            ([(NameOID.ORGANIZATION_NAME, "Shop"), (NameOID.COMMON_NAME, "shop.example")], "shop.example"),
            ([(NameOID.COUNTRY_NAME, "NO"), (NameOID.ORGANIZATION_NAME, "Blåbær")], "Blåbær"),
            ([(NameOID.COUNTRY_NAME, "NO")], "a.example"),
            ([], "a.example"),
        ],
    )
    def test_a_certificate_is_called_by_what_it_has(self, attributes: list[tuple[Any, str]], shown: str) -> None:
        subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in attributes])
        issued = AUTHORITY.issue("a.example", subject=subject)
        assert [one.called for one in read_certificates(issued.cert)[1]] == [shown]
        assert called(b"\x30\x02\x31\x05") == ""

    @pytest.mark.parametrize("pairs", [("a", "n"), ("n", "a")])
    def test_a_certificate_in_which_no_client_finds_its_name(self, load_text: Load, pairs: tuple[str, str]) -> None:
        nameless = AUTHORITY.issue()
        written = ", ".join(f'{{ cert = "{one}.crt", key = "{one}.key" }}' for one in pairs)
        table = f"certificates = [{written}]"
        [warning] = loaded(load_text, table, {**FILES, "n.crt": nameless.cert, "n.key": nameless.key}).warnings
        assert warning.endswith('"n.crt" has no subjectAltName, where clients look for the name that they asked for')


def no_objection(tls: Tls, certificate: Certificate) -> str:
    """OpenSSL, which takes whatever is there."""
    return ""


class TestRenewal:
    def test_reads_the_files_and_nothing_else(self, load_text: Load, tmp_path: Path) -> None:
        before = loaded(load_text)
        (tmp_path / "server.toml").write_text("broken")
        fresh = AUTHORITY.issue("b.example", ends=3.5 * DAY)
        fresh.write(tmp_path, "a")
        after = renew(before, no_objection)
        tls = after.listeners[0].tls
        assert tls is not None
        assert (tls.certificates[0].serial, tls.certificates[0].names) == (fresh.serial, ("b.example",))
        assert tls.files != before.listeners[0].tls.files  # type: ignore[union-attr]
        assert after.warnings == (
            f"server.toml:5: tls.main.certificates[0].cert: {tmp_path}/a.crt expires in 3 days"
            " (expected it to be renewed by now)",
        )

    def test_tells_every_problem_at_its_line(self, load_text: Load, tmp_path: Path) -> None:
        before = loaded(load_text)
        (tmp_path / "a.crt").unlink()
        (tmp_path / "a.key").write_text("x")
        with pytest.raises(ConfigError) as caught:
            renew(before, no_objection)
        assert str(caught.value).splitlines() == [
            f"server.toml:5: tls.main.certificates[0].cert: {tmp_path}/a.crt does not exist",
            f"server.toml:5: tls.main.certificates[0].key: {tmp_path}/a.key holds no private key"
            " (expected PEM, with BEGIN PRIVATE KEY)",
        ]

    def test_a_pair_that_cannot_be_used_holds_up_no_other(self, load_text: Load, tmp_path: Path) -> None:
        before = loaded(load_text, TWO_PAIRS, {**FILES, "b.crt": B.cert, "b.key": B.key})
        fresh = AUTHORITY.issue("b.example")
        fresh.write(tmp_path, "b")
        (tmp_path / "a.key").unlink()
        after = renew(before, no_objection)
        told = f"server.toml:5: tls.main.certificates[0].key: {tmp_path}/a.key does not exist"
        assert after.warnings == (f"{told} (what it held before stays in use)",)
        old, new = certificates_of(after)
        assert replace(old, refused="") == replace(certificates_of(before)[0], kept=told)
        assert (new.serial, new.kept) == (fresh.serial, "")
        with pytest.raises(ConfigError) as caught:
            renew(after, no_objection)
        assert str(caught.value) == told, "nothing is new"
        AUTHORITY.issue("a.example").write(tmp_path, "a")
        assert [pair.kept for pair in certificates_of(renew(after, no_objection))] == ["", ""]

    def test_half_a_chain_is_not_put_to_use(self, load_text: Load, tmp_path: Path) -> None:
        before = loaded(load_text, TWO_PAIRS, {**FILES, "b.crt": B.cert, "b.key": B.key})
        whole = DEEP.issue("a.example")
        (tmp_path / "a.crt").write_text(whole.cert[: whole.cert.index(END) + 400])
        (tmp_path / "a.key").write_text(whole.key)
        AUTHORITY.issue("b.example").write(tmp_path, "b")
        half, _ = certificates_of(renew(before, no_objection))
        assert (half.serial, "is cut off" in half.kept) == (A.serial, True)
        whole.write(tmp_path, "a")
        renewed, _ = certificates_of(renew(before, no_objection))
        assert (renewed.serial, renewed.kept) == (whole.serial, "")

    def test_what_has_been_said_of_a_pair_is_not_said_again_while_another_is_renewed(
        self, load_text: Load, tmp_path: Path
    ) -> None:
        def warnings_behind(name: str) -> list[str]:
            nonlocal served
            AUTHORITY.issue("b.example").write(tmp_path, "b")
            served = renew(served, no_objection)
            return [warning.partition(f"{name} ")[2] for warning in served.warnings]

        old = AUTHORITY.issue("a.example", ends=5.5 * DAY)
        served = loaded(load_text, TWO_PAIRS, {**files_of(old), "b.crt": B.cert, "b.key": B.key})
        assert warnings_behind("a.crt") == []
        (tmp_path / "a.key").write_text("x")
        [told] = warnings_behind("a.key")
        assert told.startswith("holds no private key")
        assert warnings_behind("a.key") == [], "it is broken as before"
        (tmp_path / "a.key").unlink()
        assert warnings_behind("a.key") == ["does not exist (what it held before stays in use)"], "in another way"
        AUTHORITY.issue("a.example", ends=3.5 * DAY).write(tmp_path, "a")
        assert warnings_behind("a.crt") == ["expires in 3 days (expected it to be renewed by now)"]

    def test_other_files_are_told_of_in_the_same_words_and_the_same_are_not(
        self, load_text: Load, tmp_path: Path
    ) -> None:
        def refused() -> tuple[str, ...]:
            with pytest.raises(RenewalError) as caught:
                renew(before, lambda tls, certificate: "it does not fit" if certificate.key != A.key else "")
            assert str(caught.value) == "it does not fit"
            return caught.value.refused

        before = loaded(load_text)
        one, another = (AUTHORITY.issue("a.example", key_number=number).key for number in (1, 2))
        (tmp_path / "a.key").write_text(one)
        first = refused()
        (tmp_path / "a.key").write_text(one)  # as what renews certificates each night may do
        assert refused() == first
        (tmp_path / "a.key").write_text(another)
        assert refused() != first

    def test_other_files_of_a_pair_that_is_kept_are_warned_of_again(self, load_text: Load, tmp_path: Path) -> None:
        def warnings() -> tuple[str, ...]:
            nonlocal served
            AUTHORITY.issue("b.example").write(tmp_path, "b")
            served = renew(served, lambda tls, certificate: "" if certificate.names != names_of_a else objection)
            return served.warnings

        objection = "it does not fit"
        served = loaded(load_text, TWO_PAIRS, {**FILES, "b.crt": B.cert, "b.key": B.key})
        names_of_a = certificates_of(served)[0].names
        (tmp_path / "a.key").write_text(AUTHORITY.issue("a.example", key_number=1).key)
        assert len(warnings()) == 1
        assert warnings() == ()
        (tmp_path / "a.key").write_text(AUTHORITY.issue("a.example", key_number=2).key)
        assert len(warnings()) == 1

    def test_nor_does_one_that_openssl_objects_to(self, load_text: Load, tmp_path: Path) -> None:
        before = loaded(load_text, TWO_PAIRS, {**FILES, "b.crt": B.cert, "b.key": B.key})
        for name in ("a", "b"):
            AUTHORITY.issue(f"{name}.example").write(tmp_path, name)

        def objection(tls: Tls, certificate: Certificate) -> str:
            return "it does not fit" if certificate.names == ("a.example",) else ""

        after = renew(before, objection)
        assert after.warnings == ("it does not fit (what it held before stays in use)",)
        old, new = certificates_of(after)
        assert replace(old, refused="") == replace(certificates_of(before)[0], kept="it does not fit")
        assert new.serial != certificates_of(before)[1].serial

    def test_of_the_authorities_too(self, load_text: Load, tmp_path: Path) -> None:
        before = loaded(load_text, WITH_LISTS, {**FILES, "ca.crt": AUTHORITY.pem, "ca.crl": AUTHORITY.revocations()})
        (tmp_path / "ca.crt").unlink()
        (tmp_path / "ca.crl").write_text("x")
        with pytest.raises(ConfigError) as caught:
            renew(before, no_objection)
        assert str(caught.value).splitlines() == [
            f"server.toml:7: tls.main.client_ca: {tmp_path}/ca.crt does not exist",
            f"server.toml:8: tls.main.client_crl: {tmp_path}/ca.crl holds no list of revoked certificates"
            " (expected PEM, with BEGIN X509 CRL)",
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads for others")
class TestWhoChoosesTheFile:
    """Root reads what the workers' user could not: that user must not decide which file it is."""

    WORKERS = Account(65534, 65534, (65534,))

    def read(self, path: Path) -> str:
        return read_text(str(path), account=self.WORKERS)

    def test_a_private_file_in_a_private_folder_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("x")
        (tmp_path / "key").chmod(0o600)
        assert self.read(tmp_path / "key") == "x"

    def test_links_are_followed_where_only_others_can_change_them(self, tmp_path: Path) -> None:
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "key1").write_text("x")
        (tmp_path / "live").mkdir()
        (tmp_path / "live" / "key").symlink_to("../archive/key1")
        assert self.read(tmp_path / "live" / "key") == "x"

    @pytest.mark.parametrize("how", ["owner", "group", "everybody", "link"])
    def test_a_folder_that_they_can_change_is_refused(self, tmp_path: Path, how: str) -> None:
        (tmp_path / "secret").write_text("x")
        folder = tmp_path / "theirs"
        folder.mkdir()
        (folder / "key").symlink_to("../secret")
        if how == "owner":
            os.chown(folder, 65534, 0)
        elif how == "group":
            os.chown(folder, 0, 65534)
            folder.chmod(0o775)
        else:
            folder.chmod(0o777 if how == "everybody" else 0o1777)
        with pytest.raises(Unreadable, match="could be replaced by another file"):
            self.read(folder / "key")

    def test_their_own_file_tells_them_nothing_new(self, tmp_path: Path) -> None:
        folder = tmp_path / "theirs"
        folder.mkdir()
        (folder / "key").write_text("x")
        os.chown(folder, 65534, 65534)
        os.chown(folder / "key", 65534, 65534)
        assert self.read(folder / "key") == "x"

    def test_a_loop_of_links_ends(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(Unreadable):
            self.read(tmp_path / "a")


class TestCertificatesAsBytes:
    """Against `cryptography`, which reads the same."""

    NAMES = st.lists(
        st.one_of(
            st.from_regex(r"(\*\.)?[a-z0-9]{1,20}(\.[a-z]{1,10}){1,3}", fullmatch=True),
            st.ip_addresses().map(str),
        ),
        unique=True,
        max_size=6,
    )

    @settings(max_examples=50, deadline=None)
    @given(names=NAMES, kind=st.sampled_from(["ec", "rsa", "ed25519"]), days=st.integers(-4000, 40_000))
    def test_names_dates_serial_and_key_are_read(self, names: list[str], kind: str, days: int) -> None:
        issued = AUTHORITY.issue(*names, kind=kind, begins=(days - 1) * DAY, ends=days * DAY)
        pem, [facts] = read_certificates(issued.cert)
        certificate = issued.certificate
        assert pem == issued.cert
        assert facts.names == tuple(names)
        assert facts.key_type == kind
        assert int(facts.serial, 16) == certificate.serial_number
        assert facts.not_before == int(certificate.not_valid_before_utc.timestamp())
        assert facts.not_after == int(certificate.not_valid_after_utc.timestamp())
        assert facts.subject == certificate.subject.public_bytes()
        assert facts.issuer == certificate.issuer.public_bytes()

    @pytest.mark.parametrize(
        ("pem", "label", "read"),
        [(A.cert, "CERTIFICATE", read_certificates), (AUTHORITY.revocations([A]), "X509 CRL", read_revocation_lists)],
        ids=["certificate", "list"],
    )
    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_damage_is_an_error_and_nothing_worse(
        self, data: st.DataObject, pem: str, label: str, read: Callable[[str], object]
    ) -> None:
        der = bytearray(base64.b64decode("".join(pem.splitlines()[1:-1])))
        for _ in range(data.draw(st.integers(1, 4))):
            der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(der[: data.draw(st.integers(0, len(der)))])
        text = f"-----BEGIN {label}-----\n{base64.b64encode(cut).decode()}\n-----END {label}-----\n"
        with contextlib.suppress(ValueError):
            read(text)

    @pytest.mark.parametrize(
        "written",
        [
            A.cert + "-----BEGIN X9.42 DH PARAMETERS-----\nMAA=\n-----END X9.42 DH PARAMETERS-----\n",
            "# what is between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----\n" + A.cert,
            "".join(f"# {line}\n" for line in B.cert.splitlines()) + A.cert,
            "# -----BEGIN CERTIFICATE-----\n" + A.cert + "# -----BEGIN PRIVATE KEY-----",
            "\ufeff" + A.cert,
            A.cert.replace("\n", "\r\n"),
            A.cert.replace("\n", "\r\r\n"),
            A.cert.replace("\n", " \t\n"),
            A.cert.rstrip(),
            A.key + A.cert,
            f"----- mine -----\n{A.cert}----- end of mine -----",
            A.cert.replace("CERTIFICATE", "X509 CERTIFICATE"),
        ],
    )
    def test_what_openssl_takes_is_taken(self, written: str, tmp_path: Path) -> None:
        file = tmp_path / "a.pem"
        file.write_bytes(written.encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(file)
        assert context.cert_store_stats()["x509"] == 1
        pem, facts = read_certificates(read_pem(str(file)))
        assert facts == read_certificates(A.cert)[1]
        context.load_verify_locations(cadata=pem)
        assert ssl.PEM_cert_to_DER_cert(first_block(pem)) == ssl.PEM_cert_to_DER_cert(A.cert)

    def test_two_files_put_together_without_a_line_between(self) -> None:
        assert read_certificates(A.cert.rstrip() + B.cert)[0] == A.cert + B.cert
        with pytest.raises(ValueError, match="BEGIN CERTIFICATE has no END"):
            read_certificates(A.cert.rstrip() + B.cert[:99])

    def test_base64_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="it is not base64"):
            read_certificates("-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n")

    def test_subjects_with_several_parts(self) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.TITLE, "x")])
        _, [facts] = read_certificates(AUTHORITY.issue("a.example", subject=subject).cert)
        assert facts.subject == subject.public_bytes()

    def test_a_key_that_openssl_encrypted_in_its_old_way(self) -> None:
        pem = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n"
        assert read_key(f"{pem}-----END RSA PRIVATE KEY-----").is_encrypted
        assert not read_key(A.key).is_encrypted


class TestNames:
    """RFC 9525 §6.3."""

    @pytest.mark.parametrize(
        ("pattern", "name", "expected"),
        [
            ("a.example", "a.example", True),
            ("a.example", "b.example", False),
            ("*.example", "a.example", True),
            ("*.example", "a.b.example", False),
            ("*.example", "example", False),
            ("*.example", "*.example", True),
            ("a.example", "*.example", False),
            ("*", "example", False),
        ],
    )
    def test_a_wildcard_is_one_label(self, pattern: str, name: str, expected: bool) -> None:
        assert covers(pattern, name) is expected


def test_three_weeks_before_the_end_it_is_told() -> None:
    day = 86400
    pair = Certificate("", "", not_after=21 * day)
    assert tell_age(pair, 0.0) == ""
    assert tell_age(pair, 1.0) == "expires in 20 days (expected it to be renewed by now)"
    assert tell_age(pair, 21 * day + 1.0) == "has expired less than a day ago (clients refuse it)"


@pytest.mark.parametrize(
    ("issuers", "expected"),
    [
        ([("R3", 0, 101)], ""),
        ([("R3", 0, 99), ("X1", 0, 98)], ""),
        ([("R3", 0, 12), ("X1", 0, 15)], '"R3" in its chain, which expires in 2 days (expected another chain by now)'),
        ([("R3", 0, 30), ("X1", 0, 15)], '"X1" in its chain, which expires in 5 days (expected another chain by now)'),
        ([("R3", 0, 7)], '"R3" in its chain, which has expired 3 days ago (clients refuse it that know no other way)'),
        ([("R3", 12, 99)], '"R3" in its chain, which is not valid yet, but in 2 days (clients refuse it that know no'
         " other way until then)"),
    ],
)  # fmt: skip
def test_the_first_of_a_chain_to_end_is_told(issuers: list[tuple[str, int, int]], expected: str) -> None:
    day = 86400
    chain = tuple(Validity(name, since * day, until * day) for name, since, until in issuers)
    told = tell_age(Certificate("", "", not_after=100 * day, issuers=chain), 10 * day)
    assert told == (f"has {expected}" if expected else "")


def test_a_certificate_that_ends_before_its_chain_is_the_one_that_is_told_of() -> None:
    day = 86400
    pair = Certificate("", "", not_after=12 * day, issuers=(Validity("R3", 0, 13 * day),))
    assert tell_age(pair, 10 * day) == "expires in 2 days (expected it to be renewed by now)"
    assert pair.first_to_end is None
