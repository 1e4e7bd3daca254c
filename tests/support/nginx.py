"""A real nginx in the foreground, on sockets that it inherits, for as long as a context lasts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["NGINX", "running", "stream_module"]

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")  # Debian keeps it off the path of users


@contextlib.contextmanager
def running(directory: Path, configuration: str, sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Run nginx in `directory` with this configuration, whose `listen` lines name the addresses of `sockets`.

    It inherits the listening sockets (the variable NGINX, as in its own upgrade without downtime): the ports are the
    kernel's choice, and connections queue from the start, so nothing has to wait for nginx.
    """
    assert NGINX is not None
    (directory / "nginx.conf").write_text(configuration)
    # A worker of nginx gives up root, and then could not pass the private directory of the test.
    user = "user root;" if os.geteuid() == 0 else ""
    numbers = [listening.fileno() for listening in sockets]
    process = subprocess.Popen(
        [NGINX, "-p", directory, "-c", "nginx.conf", "-g", f"daemon off; {user}"],
        env={**os.environ, "NGINX": "".join(f"{number};" for number in numbers)},
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def stream_module() -> str | None:
    """Return the line that loads nginx's stream module: empty when it is built in, None when this nginx has none."""
    if NGINX is None:
        return None
    shown = subprocess.run([NGINX, "-V"], capture_output=True, text=True, timeout=10, check=True).stderr
    if re.search(r"--with-stream(?=\s|$)", shown):
        return ""
    place = re.search(r"--modules-path=(\S+)", shown)
    module = Path(place[1] if place else "modules") / "ngx_stream_module.so"
    return f"load_module {module};" if module.exists() else None
