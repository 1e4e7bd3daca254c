"""Certificates of an authority of one's own, for `serverd dev-cert`.

Needs the extra `dev-cert` (the library trustme). Never imported by a server.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shlex
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from serverd.errors import OperatorError, reason_of

if TYPE_CHECKING:
    import trustme

__all__ = ["make_certificate"]

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")
# Days; Apple's systems believe no certificate for longer than 398.
_VALIDITY = 397
_EXPECTED = 'expected like "shop.test", "*.shop.test", "127.0.0.1" or "::1", without a port'

_ADVICE = """\
wrote {cert} and {key}, for {names}
the authority is {ca}: let browsers and clients trust it, on this machine only
  curl --cacert {trusted} {url}

[listeners.secure]
bind = "127.0.0.1:8443"
tls = "dev"

[tls.dev]
certificates = [{{ cert = {written_cert}, key = {written_key} }}]
"""


def make_certificate(directory: str, names: Sequence[str]) -> str:
    """Write a certificate for `names` into `directory`, and its authority if there is none; return how to use them.

    Raises OperatorError when the library is missing, a file cannot be written, or the authority is not whole.
    """
    folder = Path(directory)
    names = [_name(name) for name in names] or DEFAULT_NAMES
    ca_file, ca_key_file = folder / "dev-ca.pem", folder / "dev-ca-key.pem"
    cert_file, key_file = folder / "dev-cert.pem", folder / "dev-key.pem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        authority = _authority(ca_file, ca_key_file)
        now = datetime.now(UTC)
        leaf = authority.issue_cert(*names, not_before=now, not_after=now + timedelta(days=_VALIDITY))
        _write(key_file, leaf.private_key_pem.bytes(), 0o600)
        _write(cert_file, b"".join(blob.bytes() for blob in leaf.cert_chain_pems), 0o644)
    except OSError as error:
        # What else has a name is a file of our own making, which says nothing to anybody.
        place = error.filename2 or f"to {folder}"
        raise OperatorError(f"cannot write {place}: {reason_of(error)}") from error
    except ValueError as error:  # a name that is none, in the words of the library idna
        listed = ", ".join(f'"{name}"' for name in names)
        raise OperatorError(f"no certificate for {listed}: {error} ({_EXPECTED})") from error
    return _ADVICE.format(
        cert=cert_file,
        key=key_file,
        ca=ca_file,
        names=", ".join(names),
        trusted=shlex.quote(str(ca_file)),
        url=_url(names),
        # What JSON writes in quotes means the same in TOML.
        written_cert=json.dumps(str(cert_file), ensure_ascii=False),
        written_key=json.dumps(str(key_file), ensure_ascii=False),
    )


def _name(name: str) -> str:
    """Return a host or an address as certificates have it; raises OperatorError for what no client would ask for."""
    host = name.removesuffix(".")
    last = host.rpartition(".")[2]
    # Networks and mail addresses, to trustme; and what ends in a number, an IPv4 address to clients (URL Standard).
    if not host or "/" in host or "@" in host or (last.isdecimal() and not _is_address(host)):
        raise OperatorError(f'no certificate for "{name}": it is neither a host nor an address ({_EXPECTED})')
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _url(names: Sequence[str]) -> str:
    """Return what follows `curl`: an address that the certificate is for, and how to come to the listener by it."""
    for name in ("localhost", "127.0.0.1"):
        if name in names:
            return f"https://{name}:8443/"
    name = f"www{names[0][1:]}" if names[0].startswith("*.") else names[0]
    host = f"[{name}]" if ":" in name else name
    return f"--connect-to ::127.0.0.1:8443 {shlex.quote(f'https://{host}:8443/')}"  # nobody has to know the name yet


def _authority(cert_file: Path, key_file: Path) -> trustme.CA:
    """Return the authority that these files hold, or a new one that they hold then.

    One that somebody may trust already is never replaced. Raises OperatorError.
    """
    try:
        import trustme
    except ImportError:
        raise OperatorError("dev-cert needs the library trustme (pip install 'asgi-serverd[dev-cert]')") from None
    if cert_file.exists():
        try:
            # Also when one of them belongs to another; a password, because OpenSSL would ask the terminal for it.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, "")
            return trustme.CA.from_pem(cert_file.read_bytes(), key_file.read_bytes())
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise OperatorError(
                f"{cert_file} and {key_file} are no certificate and its key"
                " (expected those of the authority, or neither of them for a new one)"
            ) from error
    authority = trustme.CA(organization_name="serverd dev-cert")
    _write(key_file, authority.private_key_pem.bytes(), 0o600)
    _write(cert_file, authority.cert_pem.bytes(), 0o644)
    return authority


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file that nobody sees half-written, nor with another mode than `mode`."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
