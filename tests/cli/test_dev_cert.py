"""`serverd dev-cert`: certificates for development that clients take and a server can use."""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serverd import cli

pytest.importorskip("trustme")

from tests.cli.test_command import run as run_as_process


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shake_hands(folder: Path, name: str) -> None:
    """Let a client that trusts the authority connect to `name`, in memory; raises ssl.SSLError."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "dev-cert.pem", folder / "dev-key.pem")
    client_side = ssl.create_default_context(cafile=folder / "dev-ca.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_takes_the_certificate(tmp_path: Path, name: str) -> None:
    done = run("dev-cert")
    assert (done.exit_code, done.stderr) == (0, "")
    shake_hands(tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, "example.com")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    os.umask(os.umask(0o022))
    assert run("dev-cert", "--directory", str(tmp_path / "certificates")).exit_code == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "certificates").iterdir()}
    assert modes == {"dev-ca.pem": 0o644, "dev-ca-key.pem": 0o600, "dev-cert.pem": 0o644, "dev-key.pem": 0o600}


def test_another_certificate_comes_from_the_same_authority(tmp_path: Path) -> None:
    assert run("dev-cert").exit_code == 0
    authority = (tmp_path / "dev-ca.pem").read_bytes()
    assert run("dev-cert", "shop.test", "*.shop.test").exit_code == 0
    assert (tmp_path / "dev-ca.pem").read_bytes() == authority
    shake_hands(tmp_path, "shop.test")
    shake_hands(tmp_path, "www.shop.test")


@pytest.mark.parametrize("damage", ["no key", "another's key", "no PEM"])
def test_an_authority_that_somebody_may_trust_is_not_replaced(tmp_path: Path, damage: str) -> None:
    assert run("dev-cert").exit_code == 0
    key = tmp_path / "dev-ca-key.pem"
    if damage == "no key":
        key.unlink()
    elif damage == "another's key":
        key.write_bytes((tmp_path / "dev-key.pem").read_bytes())
    else:
        key.write_text("nothing")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = run("dev-cert")
    assert done.exit_code == 3
    assert done.stderr == (
        "serverd: dev-ca.pem and dev-ca-key.pem are no certificate and its key"
        " (expected those of the authority, or neither of them for a new one)\n"
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_cannot_be_put_into_its_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "dev-key.pem").mkdir()
    done = run("dev-cert")
    assert (done.exit_code, done.stderr) == (3, "serverd: cannot write dev-key.pem: is a directory\n")
    assert {path.name for path in tmp_path.iterdir()} == {"dev-ca.pem", "dev-ca-key.pem", "dev-key.pem"}


def test_what_it_says_is_a_configuration(tmp_path: Path) -> None:
    said = run("dev-cert", "--directory", 'a "folder"').stdout
    (tmp_path / "server.toml").write_text(said[said.index("[listeners") :])
    done = run_as_process("-c", "server.toml", cwd=tmp_path)
    # Nothing is mounted, which is the only thing that is wrong with it.
    assert done.returncode == 3
    assert "mount" in done.stderr
    assert not re.search("tls|certificate", done.stderr)


@pytest.mark.parametrize(
    ("names", "url"),
    [
        ([], "https://localhost:8443/"),
        (["shop.test", "127.0.0.1"], "https://127.0.0.1:8443/"),
        (["shop.test", "*.shop.test"], "--connect-to ::127.0.0.1:8443 https://shop.test:8443/"),
        (["*.shop.test"], "--connect-to ::127.0.0.1:8443 https://www.shop.test:8443/"),
        (["::1"], "--connect-to ::127.0.0.1:8443 'https://[::1]:8443/'"),
    ],
)
def test_the_command_that_it_says_asks_for_a_name_of_the_certificate(
    tmp_path: Path, names: list[str], url: str
) -> None:
    assert f"\n  curl --cacert dev-ca.pem {url}\n" in run("dev-cert", *names).stdout


@pytest.mark.parametrize(
    "name",
    ["", "not a name", "a..b", "10.0.0.0/8", "me@example.com", "[::1]", "localhost:8443", "256.1.1.1", "*.127.0.0.1"],
)
def test_a_name_that_is_none_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    done = run("dev-cert", name)
    assert done.exit_code == 3
    expected = r'\(expected like "shop.test", "\*.shop.test", "127.0.0.1" or "::1", without a port\)'
    assert re.fullmatch(rf'serverd: no certificate for "{re.escape(name)}": .* {expected}\n', done.stderr)
    assert not list(tmp_path.glob("dev-cert*"))


def test_the_dot_behind_a_name_is_none_of_the_certificates(tmp_path: Path) -> None:
    """No client takes it for the name that it has asked for (RFC 5280 §4.2.1.6, "preferred name syntax")."""
    assert run("dev-cert", "shop.test.").exit_code == 0
    shake_hands(tmp_path, "shop.test")


@pytest.mark.parametrize(
    ("directory", "reason"), [("file/below", "not a directory"), ("/proc", "no such file or directory")]
)
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, directory: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    done = run("dev-cert", "--directory", directory)
    assert done.exit_code == 3
    assert done.stderr == f"serverd: cannot write to {directory}: {reason}\n"
