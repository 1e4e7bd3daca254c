"""Load for the handshake scenarios of `run.py`: connections that do one TLS handshake, ask once, and end.

Not a test of certificates: none is verified. A client's handshake costs about what a server's does, so the rate may be
the load's and what counts is the CPU time of the server; the load's own is part of the result.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import threading
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ANSWER = b"Hello, world!"


def main() -> None:
    """Run the load and print the result as JSON."""
    options = parse_options()
    clients = [Client(options.port, options.resume) for _ in range(options.clients)]
    started, cpu = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=client.run, args=(started + options.seconds,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if failures := [client.failure for client in clients if client.failure is not None]:
        raise SystemExit(f"a connection failed: {failures[0]!r}")
    connections = sum(client.count for client in clients)
    print(json.dumps({"connections": connections, "rate": connections / seconds, "load": cpu / seconds}))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Load a TLS server with handshakes.")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=8, help="connections at a time")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--resume", action="store_true", help="every session but the first with the ticket before")
    return parser.parse_args()


class Client:
    """One connection after the other."""

    def __init__(self, port: int, resume: bool) -> None:
        self._address = ("127.0.0.1", port)
        self._resume = resume
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._session: ssl.SSLSession | None = None
        self.count = 0
        self.failure: Exception | None = None

    def run(self, end: float) -> None:
        """Connect until then; what is not as it should be ends it."""
        try:
            while time.perf_counter() < end:
                self._connect()
                self.count += 1
        except (OSError, ValueError) as error:
            self.failure = error

    def _connect(self) -> None:
        with socket.create_connection(self._address, timeout=10) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = self._session
            with self._context.wrap_socket(plain, server_hostname="localhost", session=session) as encrypted:
                if encrypted.session_reused is not (session is not None):
                    raise ValueError("a handshake was resumed that should not be, or the other way about")
                encrypted.sendall(REQUEST)
                answer = b""
                while piece := encrypted.recv(65536):
                    answer += piece
                if not answer.endswith(ANSWER):
                    raise ValueError(f"the answer is wrong: {answer!r}")
                if self._resume:
                    self._session = encrypted.session  # a ticket is for one time: some servers forget it


if __name__ == "__main__":
    main()
