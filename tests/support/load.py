"""Steady load that counts failures honestly: what any real client would have to report to its user is a failure.

A keep-alive connection that the server ends without having said `Connection: close` on the response before is a
failure too, even between two requests: a client that had just sent one could not know whether it was carried out.
Nothing is ever retried.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from tests.support.client import Client, ConnectionEnded, Response
from tests.support.http2_client import Http2Client
from tests.support.server import Address

__all__ = ["SLOW", "Load"]

SLOW = "/slow"
# Seconds between two requests of a client. The load is to be steady and not total: server and tests share two cores,
# and each start of a process beside it would take twice as long. There is always something in flight: each of the slow.
PAUSE = 0.005 if os.environ.get("SERVERD_LONG") else 0.02

Connected = TypeVar("Connected", Client, Http2Client)


class Load:
    """Clients in threads, some with a new connection for each request, some that keep theirs, until the block ends.

    Those that are `slow` have a new connection, too, and ask for `slow_target`, which should take its time. Those of
    `http2` keep theirs until a GOAWAY.
    """

    def __init__(
        self,
        address: Address,
        target: str = "/",
        *,
        fresh: int = 2,
        keep_alive: int = 2,
        slow: int = 0,
        http2: int = 0,
        slow_target: str = "/slow",
    ) -> None:
        self.failures: list[str] = []
        self.failed_ports: list[int] = []  # the clients' own, where there was a connection
        self.answered = 0
        self.slowly_answered = 0
        self.announced_closes = 0
        self.bodies: dict[bytes, int] = {}
        self._address = address
        self._target = target
        self._slow_target = slow_target
        self._changed = threading.Condition()
        self._awaited = 0  # answers; told to nobody before, since a look at each would cost as much as the request
        self._stopped = threading.Event()
        runs = [self._run_fresh] * fresh + [self._run_keep_alive] * keep_alive
        runs += [self._run_slow] * slow + [self._run_http2] * http2
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
            aim = self._awaited = self.answered + count
            assert self._changed.wait_for(lambda: self.answered >= aim, timeout), f"no {count} answers in {timeout} s"

    def _run_fresh(self) -> None:
        self._ask_anew("fresh connection", self._target)

    def _run_slow(self) -> None:
        self._ask_anew("slow request", self._slow_target)

    def _ask_anew(self, who: str, target: str) -> None:
        while not self._stopped.wait(PAUSE):
            with self._connected(who, Client) as client:
                self._count(client.request("GET", target, [("Connection", "close")]))

    def _run_keep_alive(self) -> None:
        while not self._stopped.is_set():
            with self._connected("keep-alive connection", Client) as client:
                self._keep_asking(client)

    def _run_http2(self) -> None:
        while not self._stopped.is_set():
            with self._connected("HTTP/2 connection", Http2Client) as client:
                self._ask_until_goaway(client)

    @contextmanager
    def _connected(self, who: str, kind: Callable[[Address], Connected]) -> Iterator[Connected]:
        """Connect; what goes wrong with the connection is a failure."""
        port = 0
        try:
            with kind(self._address) as client:
                if not isinstance(self._address, str):
                    port = client.socket.getsockname()[1]
                yield client
        except (OSError, ConnectionEnded) as error:
            self._fail(who, error, port)

    def _ask_until_goaway(self, client: Http2Client) -> None:
        while not self._stopped.wait(PAUSE):
            answer = client.request(path=self._target)
            assert answer.ended or answer.reset is not None
            self._count(Response(answer.status if answer.ended else 0, "", "HTTP/2", [], answer.body))
            if client.goaways:
                self.announced_closes += 1
                return

    def _keep_asking(self, client: Client) -> None:
        while not self._stopped.wait(PAUSE):
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
            if self.answered >= self._awaited:
                self._changed.notify_all()

    def _fail(self, who: str, error: Exception, port: int) -> None:
        with self._changed:
            self.failures.append(f"{who}: {error!r}")
            if port:
                self.failed_ports.append(port)
