"""What the comparison needs around it: the servers' environment, a certificate, and a description of it all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from servers import SERVERS, Server

__all__ = ["KEY_KINDS", "VENV", "describe", "make_certificate", "prepare"]

VENV = Path(__file__).parent / ".venv"

# For the applications and the loads, beside what the servers need; matplotlib draws the results.
COMMON = ("fastapi", "starlette", "matplotlib")

# What says how fast a server is, beside itself.
NOTED = (
    "uvloop",
    "httptools",
    "websockets",
    "wsproto",
    "h2",
    "twisted",
    "gunicorn_h1c",
    "zttp",
    "fastapi",
    "starlette",
)


def prepare(directory: Path, servers: Iterable[Server]) -> None:
    """Install the servers, unless they are there, as this environment was made."""
    wanted = sorted({requirement for server in SERVERS for requirement in server.requirements} | set(COMMON))
    stamp = directory.parent / "installed.txt"
    missing = sorted({server.program for server in servers if not (directory / server.program).exists()})
    if directory != VENV / "bin":
        if missing:
            sys.exit(f"{directory} does not hold all of the servers: {', '.join(missing)} missing")
        return
    if not missing and stamp.exists() and stamp.read_text() == "\n".join(wanted):
        return
    print(f"installing the servers into {VENV}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    stamp.write_text("\n".join(wanted))


KEY_KINDS = {"ec": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "rsa": ("rsa:2048",)}


def make_certificate(directory: Path, kind: str) -> None:
    """Write the certificate that all servers show, self-signed, and its key: cert.pem and key.pem."""
    options = ["-x509", "-nodes", "-days", "30", "-newkey", *KEY_KINDS[kind]]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", directory / "key.pem", "-out", directory / "cert.pem"]
    subprocess.run(["openssl", "req", *options, *names, *files], check=True, capture_output=True)


def describe(directory: Path, servers: Iterable[Server]) -> dict[str, Any]:
    """Return what has to be said beside the results: versions and kind of machine."""
    noted = {server.program for server in servers if server.program != "serverd"} | set(NOTED)
    code = (
        "import importlib.metadata as m, json, sys; print(json.dumps("
        "{d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name'].lower() in sys.argv}))"
    )
    python = directory / "python"
    versions = subprocess.run([python, "-c", code, *sorted(noted)], check=True, capture_output=True, text=True)
    return {
        "versions": versions.stdout.strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} on {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
    }
