"""The contexts of a table [tls.NAME]: which certificate a client is shown, what is spoken, whom we believe."""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serverd.asgi.scope import Peer
from serverd.config.certificates import covers
from serverd.errors import ConfigError
from serverd.generation import Certificate, Tls
from serverd.net import tls as net_tls
from serverd.net.tls import TICKET_LIFE, Contexts
from tests.support.authority import DAY, Authority, Issued
from tests.support.clock import Clock
from tests.support.every import every

AUTHORITY = Authority()
STRANGER = Authority("stranger")


def pair(issued: Issued, *names: str, kind: str = "ec", **more: Any) -> Certificate:
    """Return what a generation holds of a certificate."""
    return Certificate(issued.cert, issued.key, names=names, key_type=kind, source="server.toml:7", **more)


def issue(*names: str, kind: str = "ec") -> Certificate:
    return pair(AUTHORITY.issue(*names, kind=kind), *names, kind=kind)


def table(*certificates: Certificate, **more: Any) -> Tls:
    return Tls("main", certificates, source="server.toml:3", **more)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
SINGLE = table(issue("a.example"))


class Ends:
    """Both ends of a connection, in memory."""

    def __init__(
        self, contexts: Contexts, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
    ) -> None:
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(back, there, server_hostname=name, session=session)
        self.server = contexts.wrap(there, back)
        self.contexts, self.outgoing, self.incoming = contexts, back, there

    def hear(self, data: bytes) -> None:
        """Let the server have what the client has said."""
        self.contexts.hear(self.server, data)
        self.incoming.write(data)

    def shake(self) -> Ends:
        """Complete the handshake; raises the error of whichever side refuses first."""
        done: set[ssl.SSLObject] = set()
        for _ in range(6):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                    done.add(end)
                except ssl.SSLWantReadError:
                    pass
        assert len(done) == 2, "the handshake does not end"
        return self


def connect(contexts: Contexts, name: str | None = "a.example", client: ssl.SSLContext | None = None) -> Ends:
    context = client or AUTHORITY.client_context()
    if client is None:
        context.check_hostname = False
    return Ends(contexts, context, name).shake()


def resumes(
    contexts: Contexts, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession]:
    """Return whether a session is resumed, and the one after it."""
    ends = Ends(contexts, client, "a.example", session).shake()
    ends.server.write(b"x")
    ends.client.read()  # a ticket of TLS 1.3 comes with what comes first
    found = ends.client.session
    assert found is not None
    return bool(ends.server.session_reused), found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(net_tls, "monotonic", clock)
    return clock


def _no_descriptor(name: str) -> int:
    raise OSError(24, "Too many open files")


def shown(ends: Ends) -> set[str]:
    """Return the DNS names of the certificate that the client was shown."""
    certificate = ends.client.getpeercert()
    assert certificate
    return {name for _, name in certificate["subjectAltName"]}


class TestServerNames:
    """RFC 6066 §3."""

    CONTEXTS = Contexts(
        table(
            issue("first.example"),
            issue("*.example"),
            issue("a.example", "b.example"),
            issue("*.deep.example"),
        )
    )

    @every(
        ("name", "expected"),
        [
            ("a.example", {"a.example", "b.example"}),
            ("b.example", {"a.example", "b.example"}),
            ("A.Example", {"a.example", "b.example"}),
            ("a.example.", {"a.example", "b.example"}),
            ("c.example", {"*.example"}),
            ("x.deep.example", {"*.deep.example"}),
            ("x.y.deep.example", {"first.example"}),
            ("deep.example", {"*.example"}),
            ("example", {"first.example"}),
            ("nobody.test", {"first.example"}),
            (None, {"first.example"}),
        ],
    )
    @every("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_an_exact_name_comes_before_a_wildcard_and_the_first_is_for_all_others(
        self, name: str | None, expected: set[str], version: ssl.TLSVersion
    ) -> None:
        client = AUTHORITY.client_context()
        client.check_hostname = False
        client.maximum_version = version
        ends = connect(self.CONTEXTS, name, client)
        assert shown(ends) == expected
        pem = self.CONTEXTS.certificate_of(ends.server)
        assert pem is not None
        assert ssl.PEM_cert_to_DER_cert(pem) == ends.client.getpeercert(binary_form=True)

    @pytest.mark.parametrize(
        ("name", "hosts", "others"),
        [
            ("A.Example.", ["a.example", "b.example"], ["c.example", "first.example"]),
            ("c.example", ["c.example", "first.example"], ["a.b.example", "example"]),
            ("nobody.test", ["first.example"], ["nobody.test", "a.b.example"]),
            (None, ["first.example"], ["a.b.example", "[::1]"]),
            ("192.0.2.1", ["first.example"], ["192.0.2.1"]),  # no name that a client sends
        ],
    )
    def test_a_connection_is_for_the_names_of_what_was_shown(
        self, name: str | None, hosts: list[str], others: list[str]
    ) -> None:
        client = AUTHORITY.client_context()
        client.check_hostname = False
        ends = connect(self.CONTEXTS, name, client)
        peer = Peer(None, None, names=self.CONTEXTS.names_of(ends.server))
        shown_names = shown(ends)
        for host in hosts:
            assert peer.is_called(host) is any(covers(one, host) for one in shown_names)
        assert peer.is_called(hosts[0])
        assert not any(map(peer.is_called, others))

    def test_an_address_is_a_name_like_any_other(self) -> None:
        contexts = Contexts(table(issue("192.0.2.1", "2001:db8::1", "a.example")))
        peer = Peer(None, None, names=contexts.names_of(connect(contexts, None).server))
        assert all(map(peer.is_called, ("192.0.2.1", "[2001:db8::1]", "a.example")))
        assert not peer.is_called("[2001:db8::2]")

    def test_the_chain_is_sent(self) -> None:
        deep = Authority("root", deep=True)
        contexts = Contexts(table(pair(deep.issue("a.example"), "a.example")))
        assert shown(connect(contexts, "a.example", deep.client_context())) == {"a.example"}


class TestKindsOfKeys:
    CONTEXTS = Contexts(table(issue("a.example", kind="rsa"), issue("a.example"), issue("a.example", kind="ed25519")))

    @pytest.mark.parametrize(
        ("ciphers", "kind"), [("ECDHE-RSA-AES128-GCM-SHA256", "RSA"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "EC")]
    )
    @pytest.mark.parametrize("name", ["a.example", "nobody.test"])
    def test_each_client_is_shown_the_kind_it_can_use(self, ciphers: str, kind: str, name: str) -> None:
        client = AUTHORITY.client_context()
        client.check_hostname = False
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(ciphers)
        ends = connect(self.CONTEXTS, name, client)
        suite = ends.server.cipher()
        assert suite is not None
        assert suite[0] == ciphers

    def test_of_two_kinds_under_one_name_nobody_can_tell_which_was_shown_in_tls_1_3(self) -> None:
        assert self.CONTEXTS.certificate_of(connect(self.CONTEXTS).server) is None

    def test_in_tls_1_2_the_cipher_suite_tells(self) -> None:
        client = AUTHORITY.client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        contexts = Contexts(table(issue("a.example", kind="rsa"), issue("a.example")))
        ends = connect(contexts, "a.example", client)
        pem = contexts.certificate_of(ends.server)
        assert pem is not None
        assert ssl.PEM_cert_to_DER_cert(pem) == ends.client.getpeercert(binary_form=True)

    def test_a_key_without_the_name_stays_out_of_it(self) -> None:
        contexts = Contexts(table(issue("a.example"), issue("b.example", kind="rsa")))
        client = AUTHORITY.client_context()
        client.check_hostname = False
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
            connect(contexts, "a.example", client)


class TestWhatIsSpoken:
    CONTEXTS = Contexts(table(issue("a.example"), issue("a.example", kind="rsa")))

    def test_nothing_before_tls_1_2(self) -> None:
        client = AUTHORITY.client_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.minimum_version = ssl.TLSVersion.TLSv1
            client.maximum_version = ssl.TLSVersion.TLSv1_1
        client.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            connect(self.CONTEXTS, client=client)

    @pytest.mark.parametrize(
        "ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256", "aNULL:@SECLEVEL=0"]
    )
    def test_no_suite_without_forward_secrecy_or_authenticated_encryption(self, ciphers: str) -> None:
        client = AUTHORITY.client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(ciphers)
        with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
            connect(self.CONTEXTS, client=client)

    def test_the_order_is_ours(self) -> None:
        client = AUTHORITY.client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256")
        suite = connect(self.CONTEXTS, client=client).server.cipher()
        assert suite is not None
        assert suite[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"

    def test_a_client_that_prefers_chacha_gets_it(self) -> None:
        client = AUTHORITY.client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256")
        suite = connect(self.CONTEXTS, client=client).server.cipher()
        assert suite is not None
        assert suite[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"

    def test_min_version_and_ciphers_are_the_operators(self) -> None:
        client = AUTHORITY.client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            connect(Contexts(table(issue("a.example"), min_version="1.3")), client=client)
        only = Contexts(table(issue("a.example"), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
        suite = connect(only, client=client).server.cipher()
        assert suite is not None
        assert suite[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"

    def test_http_1_1_is_agreed_on(self) -> None:
        client = AUTHORITY.client_context()
        client.set_alpn_protocols(["h2", "http/1.1"])
        assert connect(self.CONTEXTS, client=client).server.selected_alpn_protocol() == "http/1.1"

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("piece", [1, 100, 65536])
    @pytest.mark.parametrize(
        ("protocols", "offered", "agreed"),
        [
            (("h2", "http/1.1"), ["imap", "http/1.1"], "http/1.1"),
            (("h2", "http/1.1"), ["http/1.0"], None),
            (("h2", "http/1.1"), [], None),
            (("h2",), [], None),
            (("h2",), ["h2"], "h2"),
            (("h2", "http/1.1"), ["imap"], "alert"),
            (("h2", "http/1.1"), ["http/1.1x", "h", "h22"], "alert"),
            (("h2",), ["http/1.1"], "alert"),
            (("h2",), ["http/1.0"], "alert"),
            (("http/1.1",), ["h2"], "alert"),
        ],
    )
    def test_who_offers_nothing_that_we_speak_is_told_by_an_alert(
        self, protocols: tuple[str, ...], offered: list[str], agreed: str | None, piece: int, version: ssl.TLSVersion
    ) -> None:
        client = AUTHORITY.client_context()
        client.maximum_version = version
        if offered:
            client.set_alpn_protocols(offered)
        ends = Ends(Contexts(SINGLE, protocols), client, "a.example")
        with pytest.raises(ssl.SSLWantReadError):
            ends.client.do_handshake()
        hello = ends.incoming.read()
        *begin, end = [hello[at : at + piece] for at in range(0, len(hello), piece)]
        for data in begin:
            ends.hear(data)
            with pytest.raises(ssl.SSLWantReadError):
                ends.server.do_handshake()
        ends.hear(end)
        if agreed == "alert":
            with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
                ends.server.do_handshake()
            with pytest.raises(ssl.SSLError, match="alert no application protocol"):
                ends.client.do_handshake()
        else:
            assert ends.shake().client.selected_alpn_protocol() == agreed

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100, 10_000])
    def test_whoever_cuts_what_a_client_offers_into_other_records_does_not_hide_it(self, size: int) -> None:
        """As an attacker between the two may, who leads a client here that wants to speak something else."""
        client = AUTHORITY.client_context()
        client.set_alpn_protocols(["imap"])
        ends = Ends(Contexts(SINGLE), client, "a.example")
        with pytest.raises(ssl.SSLWantReadError):
            ends.client.do_handshake()
        message = ends.incoming.read()[5:]
        extension = message.index(b"\x00\x10\x00\x07\x00\x05\x04imap")
        begin = message[: extension + 1]  # the number of the extension is divided, too
        records = [begin, *(message[at : at + size] for at in range(extension + 1, len(message), size))]
        ends.hear(b"".join(b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record for record in records))
        with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
            ends.server.do_handshake()
        assert ends.contexts.objection_to(ends.server) == "the client offers no protocol of ours by ALPN"

    def test_a_hello_that_is_longer_than_what_is_kept_is_not_taken_for_one_that_offers_nothing(self) -> None:
        client = AUTHORITY.client_context()
        ends = Ends(Contexts(SINGLE), client, "a.example")
        with pytest.raises(ssl.SSLWantReadError):
            ends.client.do_handshake()
        message = ends.incoming.read()[5:]
        # OpenSSL takes 32 empty records between two others.
        ends.hear(b"".join(b"\x16\x03\x01\0\0" * 32 + b"\x16\x03\x01\0\1" + bytes([one]) for one in message))
        with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
            ends.server.do_handshake()
        assert ends.contexts.objection_to(ends.server) == "the ClientHello cannot be read"

    def test_nothing_is_compressed_and_nobody_renegotiates(self) -> None:
        ends = connect(self.CONTEXTS)
        assert ends.server.compression() is None
        wanted = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        assert ends.server.context.options & wanted == wanted

    @pytest.mark.parametrize("version", VERSIONS)
    def test_sessions_are_resumed_by_tickets_but_not_after_a_renewal(self, version: ssl.TLSVersion) -> None:
        tls = table(issue("a.example"))
        contexts = Contexts(tls)
        client = AUTHORITY.client_context()
        client.maximum_version = version

        fresh, session = resumes(contexts, client)
        assert not fresh
        assert resumes(contexts, client, session)[0]
        assert not resumes(Contexts(tls), client, session)[0]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_ticket_is_good_for_an_hour_and_those_after_it_are_no_longer(
        self, version: ssl.TLSVersion, clock: Clock
    ) -> None:
        contexts = Contexts(table(issue("a.example"), issue("b.example")), ("h2", "http/1.1"))
        client = AUTHORITY.client_context()
        client.maximum_version = version
        _, session = resumes(contexts, client)
        for _ in range(3):
            clock.now += TICKET_LIFE / 4
            resumed, session = resumes(contexts, client, session)
            assert resumed
        half_way = Ends(contexts, client, "a.example")
        clock.now += TICKET_LIFE / 4
        resumed, fresh = resumes(contexts, client, session)
        assert not resumed
        assert resumes(contexts, client, fresh)[0]
        assert contexts.names_of(half_way.shake().server) == {"a.example"}, "one that had begun goes on"
        assert shown(connect(contexts, "b.example")) == {"b.example"}

    def test_without_descriptors_the_old_one_is_good_for_some_time_yet(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        contexts = Contexts(table(issue("a.example")))
        client = AUTHORITY.client_context()
        _, session = resumes(contexts, client)
        clock.now += TICKET_LIFE
        with monkeypatch.context() as patched:
            patched.setattr(os, "memfd_create", _no_descriptor)
            assert resumes(contexts, client, session)[0]
        clock.now += 1
        assert not resumes(contexts, client, session)[0]

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("how", ["optional", "required"])
    def test_a_ticket_of_a_table_without_client_certificates_is_none_of_one_with_them_nor_the_other_way(
        self, how: str, version: ssl.TLSVersion, tmp_path: Path
    ) -> None:
        pair = issue("a.example")
        asking = Contexts(table(pair, client_auth=how, client_ca=AUTHORITY.pem))
        silent = Contexts(table(pair))
        client = AUTHORITY.client_context(AUTHORITY.issue("alice", client=True), tmp_path)
        client.maximum_version = version
        for one, other in ((asking, silent), (silent, asking)):
            _, session = resumes(one, client)
            assert not resumes(other, client, session)[0]

    @pytest.mark.parametrize("change", ["client_crl", "client_ca"])
    def test_whom_we_believe_is_asked_again_when_it_has_changed(self, change: str, tmp_path: Path) -> None:
        alice = AUTHORITY.issue("alice", client=True)
        before = table(
            issue("a.example"), client_auth="required", client_ca=AUTHORITY.pem, client_crl=AUTHORITY.revocations()
        )
        after = replace(
            before,
            **{change: AUTHORITY.revocations([alice]) if change == "client_crl" else STRANGER.pem},
        )
        client = AUTHORITY.client_context(alice, tmp_path)
        _, session = resumes(Contexts(before), client)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            resumes(Contexts(after), client, session)


class TestClientCertificates:
    GOOD = AUTHORITY.issue("alice", client=True)
    REVOKED = AUTHORITY.issue("mallory", client=True)
    EXPIRED = AUTHORITY.issue("bob", client=True, begins=-30 * DAY, ends=-DAY)
    FOREIGN = STRANGER.issue("eve", client=True)
    SERVER = AUTHORITY.issue("www", client=False)

    def contexts(self, how: str = "required", crl: bool = True, lists: str | None = None) -> Contexts:
        if lists is None:
            lists = AUTHORITY.revocations([self.REVOKED]) if crl else ""
        return Contexts(table(issue("a.example"), client_auth=how, client_ca=AUTHORITY.pem, client_crl=lists))

    def subject(self, how: str, certificate: Issued | None, folder: Path, crl: bool = True) -> Any:
        client = AUTHORITY.client_context(certificate, folder)
        found = connect(self.contexts(how, crl), client=client).server.getpeercert()
        return found and found["subject"]

    @pytest.mark.parametrize("how", ["optional", "required"])
    @pytest.mark.parametrize("crl", [True, False])
    def test_a_good_one_is_believed(self, tmp_path: Path, how: str, crl: bool) -> None:
        assert self.subject(how, self.GOOD, tmp_path, crl) == ((("commonName", "alice"),),)

    @pytest.mark.parametrize("how", ["optional", "required"])
    @pytest.mark.parametrize(
        ("certificate", "reason"),
        [
            (EXPIRED, "certificate has expired"),
            (FOREIGN, "unable to get local issuer certificate"),
            (REVOKED, "certificate revoked"),
            (SERVER, "unsuitable certificate purpose|unsupported certificate purpose"),
        ],
        ids=["expired", "of a stranger", "revoked", "of a server"],
    )
    def test_a_bad_one_ends_the_handshake(self, tmp_path: Path, how: str, certificate: Issued, reason: str) -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            self.subject(how, certificate, tmp_path)

    @pytest.mark.parametrize("oldest_first", [True, False])
    def test_of_two_lists_the_last_one_counts(self, tmp_path: Path, oldest_first: bool) -> None:
        lists = [AUTHORITY.revocations(ends=-DAY), AUTHORITY.revocations([self.REVOKED])]
        contexts = self.contexts(lists="".join(lists if oldest_first else reversed(lists)))
        assert connect(contexts, client=AUTHORITY.client_context(self.GOOD, tmp_path)).server.getpeercert()
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
            connect(contexts, client=AUTHORITY.client_context(self.REVOKED, tmp_path))

    @pytest.mark.parametrize("oldest_first", [True, False])
    def test_of_an_authority_that_was_renewed_one_certificate_has_to_be_valid(
        self, tmp_path: Path, oldest_first: bool
    ) -> None:
        expired = Authority(begins=-30 * DAY, ends=-DAY).pem
        client = AUTHORITY.client_context(self.GOOD, tmp_path)
        known = expired + AUTHORITY.pem if oldest_first else AUTHORITY.pem + expired
        renewed = Contexts(table(issue("a.example"), client_auth="required", client_ca=known))
        assert connect(renewed, client=client).server.getpeercert()
        alone = Contexts(table(issue("a.example"), client_auth="required", client_ca=expired))
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            connect(alone, client=client)

    def test_one_that_is_revoked_is_believed_where_nobody_asks(self, tmp_path: Path) -> None:
        assert self.subject("required", self.REVOKED, tmp_path, crl=False) == ((("commonName", "mallory"),),)

    def test_none_is_enough_where_it_is_optional(self, tmp_path: Path) -> None:
        assert self.subject("optional", None, tmp_path) is None
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            self.subject("required", None, tmp_path)

    def test_nobody_is_asked_by_default(self, tmp_path: Path) -> None:
        client = AUTHORITY.client_context(self.FOREIGN, tmp_path)
        assert connect(Contexts(table(issue("a.example"))), client=client).server.getpeercert() is None


class TestMistakes:
    """Each is told at the line of the configuration that it is about."""

    def test_a_key_of_another_certificate(self) -> None:
        mixed = Certificate(
            AUTHORITY.issue("a").cert, AUTHORITY.issue("a", key_number=1).key, source="server.toml:7", key_type="ec"
        )
        with pytest.raises(ConfigError) as caught:
            Contexts(table(mixed))
        assert str(caught.value) == (
            "server.toml:7: certificate of tls.main: the key does not belong to the certificate"
        )

    def test_a_key_of_another_kind(self) -> None:
        mixed = Certificate(AUTHORITY.issue("a").cert, AUTHORITY.issue("a", kind="rsa").key, source="server.toml:7")
        with pytest.raises(ConfigError, match="the key does not belong to the certificate"):
            Contexts(table(mixed))

    def test_a_key_of_another_kind_that_another_certificate_has(self) -> None:
        first, second = AUTHORITY.issue("a"), AUTHORITY.issue("a", kind="rsa")
        mixed = Certificate(second.cert, first.key, source="server.toml:8", key_type="rsa", names=("a",))
        with pytest.raises(ConfigError, match=r"server.toml:8: certificate of tls.main: the key does not belong"):
            Contexts(table(pair(first, "a"), mixed))

    def test_an_encrypted_key_is_opened_with_its_password_only(self) -> None:
        issued = AUTHORITY.issue("a.example", password="hunter2")
        assert connect(Contexts(table(pair(issued, "a.example", key_password="hunter2"))))
        refused = "the key cannot be decrypted (expected another `key_password`)"
        too_long = "password cannot be longer than 1024 bytes"
        for wrong, told in (("", refused), ("wrong", refused), ("x" * 2000, too_long)):
            with pytest.raises(ConfigError) as caught:
                Contexts(table(pair(issued, "a.example", key_password=wrong)))
            assert str(caught.value) == f"server.toml:7: certificate of tls.main: {told}"

    @pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
    def test_a_key_that_openssl_cannot_read(self, kind: str) -> None:
        good = issue("a.example", kind=kind)
        begin, *rest = good.key.splitlines(keepends=True)
        with pytest.raises(ConfigError) as caught:
            Contexts(table(replace(good, key="".join([begin, "AAAA", *rest]))))
        assert str(caught.value) == "server.toml:7: certificate of tls.main: a part of it is damaged"

    def test_ciphers_that_nobody_knows(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Contexts(table(issue("a"), ciphers="NO-SUCH-CIPHER", sources=(("ciphers", "server.toml:9"),)))
        expected = "OpenSSL knows none of `ciphers` (expected some of `openssl ciphers -tls1_2`)"
        assert str(caught.value) == f"server.toml:9: tls.main: {expected}"

    def test_revoked_certificates_that_are_not(self) -> None:
        broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
        known = {"client_ca": AUTHORITY.pem, "client_crl": broken, "sources": (("client_crl", "server.toml:5"),)}
        with pytest.raises(ConfigError) as caught:
            Contexts(table(issue("a"), client_auth="required", **known))
        assert str(caught.value) == "server.toml:5: client_crl of tls.main: a part of it is damaged"


def test_all_that_cannot_be_used_is_told_at_once() -> None:
    first, good, other = issue("a.example"), issue("b.example"), issue("c.example", kind="rsa")
    wrong = [replace(first, key=other.key, source="server.toml:7"), good, replace(other, key=first.key, source="x:9")]
    with pytest.raises(ConfigError) as caught:
        Contexts(table(*wrong))
    assert str(caught.value).splitlines() == [
        f"{source}: certificate of tls.main: the key does not belong to the certificate"
        for source in ("server.toml:7", "x:9")
    ]


def test_of_several_pairs_on_one_line_the_one_is_named_that_cannot_be_used() -> None:
    good, other = issue("a.example"), issue("c.example", kind="rsa")
    pairs = [replace(pair, source="x:9", files=(f"/{name}.crt", "k")) for pair, name in ((good, "a"), (other, "c"))]
    with pytest.raises(ConfigError) as caught:
        Contexts(table(pairs[0], replace(pairs[1], key=good.key)))
    assert str(caught.value) == "x:9: certificate of tls.main (/c.crt): the key does not belong to the certificate"


def test_secrets_are_not_shown() -> None:
    issued = AUTHORITY.issue("a.example", password="hunter2")
    shown = repr(table(pair(issued, "a.example", key_password="hunter2")))
    assert "hunter2" not in shown
    assert "PRIVATE KEY" not in shown


def test_without_files_in_memory_a_temporary_one_is_used_and_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert connect(Contexts(table(issue("a.example"))))
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_that_has_expired_is_shown_all_the_same() -> None:
    expired = AUTHORITY.issue("a.example", begins=-30 * DAY, ends=-datetime.timedelta(hours=1))
    client = AUTHORITY.client_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    assert connect(Contexts(table(pair(expired, "a.example"))), client=client)
