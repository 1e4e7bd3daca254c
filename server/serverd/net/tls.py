"""TLS as the configuration has it: the contexts of a table [tls.NAME], and which of them a client is shown.

Made anew from the contents of the files whenever they change. A context that is in use is never changed:
`load_cert_chain` is no transaction - what fails half-way leaves a certificate with another's key - and a key of
another kind would leave the old certificate beside the new one. Connections that are open keep the context they began
with, and so do the tickets it gave: who resumes after a renewal makes a full handshake, with the certificates and the
revoked ones of today. The one that gives tickets is made anew each hour even so, because with it go their keys: else
who has one could go on for ever, as each session that is resumed gives another, and who steals the keys could read what
was said months ago. No event loop; the handshake itself is `connection.tls`. Called by workers.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from time import monotonic

from serverd.errors import ConfigError
from serverd.generation import Certificate, Tls
from serverd.net.client_hello import is_one_record, offered_protocols

__all__ = ["CIPHERS", "LONGEST_HELLO", "Contexts", "file_of", "first_block", "objection"]

# Of TLS 1.2: forward secrecy and authenticated encryption only, in the order of Mozilla's "intermediate" guideline 5.7.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
# SSL_OP_PRIORITIZE_CHACHA (openssl/ssl.h), which `ssl` has no name for: a client that prefers ChaCha20, because it has
# no instructions for AES, gets it although ours is the preference.
_PRIORITIZE_CHACHA = 0x00200000
_OPTIONS = (
    ssl.OP_NO_COMPRESSION  # CRIME
    | ssl.OP_NO_RENEGOTIATION  # RFC 9113 §9.2.1; a client could have us compute without end
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | _PRIORITIZE_CHACHA
)

# Tickets that a full handshake of TLS 1.3 ends with: as many as Go's crypto/tls sends; with two, OpenSSL's default, it
# takes a tenth longer.
_TICKETS = 1

# Seconds in which the tickets of a context can be had and used; nginx's ssl_session_timeout is for each of them, and
# Go's keys are for a day.
TICKET_LIFE = 3600.0

# What OpenSSL calls the mistakes that operators make.
_MISTAKES = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "KEY_TYPE_MISMATCH": "the key does not belong to the certificate",
    "NO_CERTIFICATE_ASSIGNED": "the key does not belong to the certificate",  # it is of another kind
    "BAD_DECRYPT": "the key cannot be decrypted (expected another `key_password`)",
    "UNKNOWN_CERTIFICATE_TYPE": "the key is of a kind that is of no use for TLS (expected RSA, EC or Ed25519)",
    "EE_KEY_TOO_SMALL": "the key is too small (expected RSA of at least 2048 bits, or EC)",
    "CA_KEY_TOO_SMALL": "the key of an authority in the chain is too small",
    "CA_MD_TOO_WEAK": "the signature of the certificate is too weak (expected SHA-256 or better)",
    "EE_MD_TOO_WEAK": "the signature of the certificate is too weak (expected SHA-256 or better)",
    "No cipher can be selected.": "OpenSSL knows none of `ciphers` (expected some of `openssl ciphers -tls1_2`)",
    "PEM lib": "a part of it is damaged",
}
# What Python says when OpenSSL gives no reason, because it can make nothing of a block.
_UNREADABLE = "PEM lib"
_SURROUNDINGS = re.compile(r"^\[\w+\] | \(_ssl\.c:\d+\)$")


# RFC 7301 §6, which `ssl` has no name for.
_NO_APPLICATION_PROTOCOL = 120
# HTTP/1.1 is what HTTP/1.0 is answered with; curl --http1.0 offers nothing else.
_HTTP1, _ALSO_HTTP1 = b"http/1.1", b"http/1.0"
# Bytes that a client may say before its ClientHello is complete: more than any has to say (2 KiB, and some more with
# the ticket of a session that holds certificates). OpenSSL would take 128 KiB, six times that in records of a byte.
LONGEST_HELLO = 64 * 1024


class _Server(ssl.SSLObject):
    """The server's end of a connection, with what it has to know of the other one beside OpenSSL."""

    heard: bytes | None = b""  # what the client has said in the clear; None: it was looked at
    objection = ""  # why nothing can come of it


class _Context(ssl.SSLContext):
    """A context, with what it shows."""

    shown: Sequence[tuple[str, str]] = ()  # kind of key and certificate, in PEM
    names: frozenset[str] = frozenset()  # of all of them


class Contexts:
    """What new connections of a listener speak TLS by."""

    __slots__ = ("_by_name", "_default", "_protocols", "_renew_at", "_tls")

    def __init__(self, tls: Tls, protocols: Sequence[str] = ("http/1.1",)) -> None:
        """Load everything; `protocols` are offered by ALPN, the best first.

        Raises ConfigError that lists everything that cannot be used, with its line.
        """
        _try_each(tls)
        self._tls = tls
        self._protocols = tuple(protocols)
        by_name = _by_name(tls.certificates)
        groups = {_default(tls.certificates), *by_name.values()}
        made = {group: _context(tls, group, protocols) for group in groups}
        self._by_name = {name: made[group] for name, group in by_name.items()}
        self._default = self._begin_with(made[_default(tls.certificates)])

    def _begin_with(self, context: _Context) -> _Context:
        """Have connections begin with a context, which gives their tickets, whatever is chosen by their name."""
        self._renew_at = monotonic() + TICKET_LIFE
        context.sslobject_class = _Server
        context.sni_callback = self._on_client_hello
        return context

    def _renew(self) -> None:
        """Begin with another context of the same certificates, so that the tickets of this one are good no longer."""
        before = self._default
        try:
            context = _context(self._tls, _default(self._tls.certificates), self._protocols)
        except ConfigError:  # out of descriptors, as it was good before
            self._renew_at = monotonic() + 1
            return
        self._default = self._begin_with(context)
        self._by_name = {name: context if one is before else one for name, one in self._by_name.items()}

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the server's end of a TLS connection whose bytes come and go by two buffers."""
        if monotonic() >= self._renew_at:
            self._renew()
        return self._default.wrap_bio(incoming, outgoing, server_side=True)

    def hear(self, connection: ssl.SSLObject, data: bytes) -> None:
        """Take note of what the client says, before OpenSSL gets it; raises ValueError when it has said too much."""
        assert isinstance(connection, _Server)
        if connection.heard is not None:
            if len(connection.heard) == LONGEST_HELLO:
                raise ValueError(f"its ClientHello is longer than {LONGEST_HELLO // 1024} KiB")
            connection.heard = (connection.heard + data)[:LONGEST_HELLO]

    def heard(self, connection: ssl.SSLObject) -> bytes:
        """Return what the client has said as long as it is no ClientHello."""
        assert isinstance(connection, _Server)
        return connection.heard or b""

    def objection_to(self, connection: ssl.SSLObject) -> str:
        """Return why we have ended a handshake; "" when it was OpenSSL."""
        assert isinstance(connection, _Server)
        return connection.objection

    def certificate_of(self, connection: ssl.SSLObject) -> str | None:
        """Return the certificate, in PEM, that the client was shown; None when that cannot be told.

        Of several for one name TLS 1.2 names the kind of key in its cipher suite; TLS 1.3 keeps it to itself.
        """
        assert isinstance(connection.context, _Context)
        shown = connection.context.shown
        if len(shown) > 1 and (suite := connection.cipher()) is not None:
            kinds = ("rsa", "rsa-pss") if "-RSA-" in suite[0] else ("ec", "ed25519", "ed448")
            shown = [one for one in shown if "DHE-" in suite[0] and one[0] in kinds]
        return shown[0][1] if len(shown) == 1 else None

    def names_of(self, connection: ssl.SSLObject) -> frozenset[str]:
        """Return the names, in lower case, that the certificates for this connection are for."""
        assert isinstance(connection.context, _Context)
        return connection.context.names

    def _on_client_hello(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """Return the alert to end the connection with, if there is nothing that both can speak; else choose by name."""
        assert isinstance(connection, _Server)
        hello, connection.heard = connection.heard, None
        if hello:
            connection.objection = self._objection(hello)
            if connection.objection:
                return _NO_APPLICATION_PROTOCOL
        if name is not None and len(self._tls.certificates) > 1:
            self._choose(connection, name)
        return None

    def _objection(self, hello: bytes) -> str:
        """Return why nothing can come of a ClientHello; "" when it offers a protocol of ours, or none at all.

        RFC 7301 §3.2. `ssl` would go on without one: a client that wants mail and was led here would be answered by
        HTTP (ALPACA). Who leads it here can cut what it says into other records, and put some behind it.
        """
        # Hot path: what nearly every client offers stands nowhere else in a ClientHello, and without the number of the
        # extension, which only the end of a record divides, there is none (benchmarks/ "a full handshake per request").
        if is_one_record(hello) and (
            (b"\x08http/1.1" in hello and "http/1.1" in self._protocols) or b"\x00\x10" not in hello
        ):
            return ""
        try:
            offered = offered_protocols(hello)
        except ValueError:  # of SSL 2, or with more around it than we have kept
            return "the ClientHello cannot be read"
        ours = {name.encode() for name in self._protocols}
        if _HTTP1 in ours:
            ours.add(_ALSO_HTTP1)
        if not offered or not ours.isdisjoint(offered):
            return ""
        return "the client offers no protocol of ours by ALPN"

    def _choose(self, connection: ssl.SSLObject, name: str) -> None:
        """Choose by what the client asks for (RFC 6066 §3): an exact name, then a wildcard, else the default."""
        name = name.lower().removesuffix(".")  # which should not be there, and means the same
        context = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
        if context is not None:
            connection.context = context


def _by_name(certificates: Sequence[Certificate]) -> dict[str, tuple[int, ...]]:
    """Return for each name the numbers of the certificates to have for it: the first of each kind of key."""
    found: dict[str, dict[str, int]] = {}
    for number, certificate in enumerate(certificates):
        for name in certificate.names:
            found.setdefault(name, {}).setdefault(certificate.key_type, number)
    return {name: tuple(kinds.values()) for name, kinds in found.items()}


def _default(certificates: Sequence[Certificate]) -> tuple[int, ...]:
    """Return the numbers of the first certificate, and of those that differ from it by their kind of key only."""
    first = certificates[0]
    kinds: dict[str, int] = {}
    for number, certificate in enumerate(certificates):
        if not number or (certificate.names and set(certificate.names) == set(first.names)):
            kinds.setdefault(certificate.key_type, number)
    return tuple(kinds.values())


def _context(tls: Tls, group: Sequence[int], protocols: Sequence[str]) -> _Context:
    """Return a context for those of the certificates whose numbers are in `group`."""
    certificates = [tls.certificates[number] for number in group]
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.shown = [(one.key_type, first_block(one.cert)) for one in certificates]
    context.names = frozenset(name for one in certificates for name in one.names)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.options |= _OPTIONS
    context.num_tickets = _TICKETS
    with _blaming(tls.source_of("ciphers"), f"tls.{tls.name}"):
        context.set_ciphers(tls.ciphers or CIPHERS)
        context.set_alpn_protocols(list(protocols))
    for certificate in certificates:
        _load(context, tls, certificate)
    if tls.client_auth != "none":
        _believe(context, tls)
    return context


def _try_each(tls: Tls) -> None:
    """Load each certificate by itself: in a context that has one for a key already, one that has none goes unnoticed.

    Raises ConfigError that lists all that cannot be used.
    """
    problems = [objection(tls, certificate) for certificate in tls.certificates]
    if any(problems):
        raise ConfigError("\n".join(filter(None, problems)))


def objection(tls: Tls, certificate: Certificate) -> str:
    """Return why a certificate of the table cannot be used with its key, as a whole line; "" when it can."""
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls, certificate)
    except ConfigError as error:
        return str(error)
    return ""


def _load(context: ssl.SSLContext, tls: Tls, certificate: Certificate) -> None:
    # A line may hold several pairs.
    file = f" ({certificate.files[0]})" if certificate.files else ""
    with (
        _blaming(certificate.source, f"certificate of tls.{tls.name}{file}"),
        file_of(certificate.cert) as cert,
        file_of(certificate.key) as key,
    ):
        asked = False

        def password() -> str:
            nonlocal asked
            asked = True
            return certificate.key_password

        try:
            # A password in any case: without one OpenSSL would ask the terminal.
            context.load_cert_chain(cert, key, password)
        except ssl.SSLError as error:
            if asked and _reason(error) == _UNREADABLE:
                raise ValueError("BAD_DECRYPT") from error  # OpenSSL's word for it, which gets lost on the way
            raise


def _believe(context: ssl.SSLContext, tls: Tls) -> None:
    """Ask clients for certificates, and believe those of the table's authorities."""
    with _blaming(tls.source_of("client_ca"), f"client_ca of tls.{tls.name}"):
        context.load_verify_locations(cadata=tls.client_ca)
    if tls.client_crl:
        with _blaming(tls.source_of("client_crl"), f"client_crl of tls.{tls.name}"), file_of(tls.client_crl) as lists:
            context.load_verify_locations(cafile=lists)
        # All of the chain, as nginx has it (ssl_crl): an authority may have been revoked, too.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.verify_mode = _CLIENT_AUTH[tls.client_auth]


@contextlib.contextmanager
def _blaming(source: str, what: str) -> Iterator[None]:
    """Turn what OpenSSL says into an error at the line of the configuration."""
    try:
        yield
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = _reason(error)
        told = _MISTAKES.get(reason) or reason.lower().replace("_", " ").rstrip(".")
        raise ConfigError(f"{source}: {what}: {told}") from error


def _reason(error: Exception) -> str:
    """Return what OpenSSL, or Python in its place, says, without the line of Python's source."""
    return _SURROUNDINGS.sub("", str(getattr(error, "reason", None) or error.args[-1]))


@contextlib.contextmanager
def file_of(text: str) -> Iterator[str]:
    """Give a text the path of a file, because OpenSSL reads certificates and keys from nothing else here.

    It is in memory where the machine has such files; else in the directory for temporary ones, for this moment and
    this user only.
    """
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("serverd-tls")
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="serverd-tls-") as file:
        file.write(text)
        file.flush()
        yield file.name


def first_block(pem: str) -> str:
    """Return the first of the certificates in a PEM text (RFC 7468)."""
    end = "-----END CERTIFICATE-----\n"
    return pem[: pem.index(end) + len(end)] if end in pem else pem
