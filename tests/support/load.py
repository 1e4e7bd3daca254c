"""Steady load that counts failures honestly: what any real client would have to report to its user is a failure.

A keep-alive connection that the server ends without having said `Connection: close` on the response before is a
failure too, even between two requests: a client that had just sent one could not know whether it was carried out.
Nothing is ever retried.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from tests.support.client import Client, ConnectionEnded, Response
from tests.support.server import Address

__all__ = ["Load"]


class Load:
    """Clients in threads, some with a new connection for each request, some that keep theirs, until the block ends."""

    def __init__(self, address: Address, target: str = "/", *, fresh: int = 2, keep_alive: int = 2) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self.announced_closes = 0
        self.bodies: dict[bytes, int] = {}
        self._address = address
        self._target = target
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        runs = [self._run_fresh] * fresh + [self._run_keep_alive] * keep_alive
        self._threads = [threading.Thread(target=run, name=run.__name__) for run in runs]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int, timeout: float = 20.0) -> None:
        """Wait until `count` more requests have been answered."""
        with self._changed:
            aim = self.answered + count
            assert self._changed.wait_for(lambda: self.answered >= aim, timeout), f"no {count} answers in {timeout} s"

    # The pauses make the load steady instead of total: the server and the tests share two cores.

    def _run_fresh(self) -> None:
        while not self._stopped.wait(0.005):
            try:
                with Client(self._address) as client:
                    self._count(client.request("GET", self._target, [("Connection", "close")]))
            except (OSError, ConnectionEnded) as error:
                self._fail("fresh connection", error)

    def _run_keep_alive(self) -> None:
        while not self._stopped.is_set():
            try:
                with Client(self._address) as client:
                    self._keep_asking(client)
            except (OSError, ConnectionEnded) as error:
                self._fail("keep-alive connection", error)

    def _keep_asking(self, client: Client) -> None:
        while not self._stopped.wait(0.005):
            response = client.request("GET", self._target)
            self._count(response)
            if response.closes:
                self.announced_closes += 1  # += on an int of several threads may lose one: it is only reported
                return

    def _count(self, response: Response) -> None:
        with self._changed:
            self.answered += 1
            self.bodies[response.body] = self.bodies.get(response.body, 0) + 1
            if response.status != 200:
                self.failures.append(f"status {response.status}: {response.body[:100]!r}")
            self._changed.notify_all()

    def _fail(self, where: str, error: Exception) -> None:
        with self._changed:
            self.failures.append(f"{where}: {error!r}")
