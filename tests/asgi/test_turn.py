"""The tasks in which applications are called: those of the event loop, however it makes them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from serverd.asgi.scope import Endpoint
from serverd.connection.http1 import Http1Connection
from serverd.connection.service import Service
from serverd.generation import Limits
from serverd.protocol.http1_httptools import HttptoolsParser
from serverd.protocol.http1_response import DefaultFields
from tests.support.wire import TCP_ENDS, MemoryTransport, router_to

Loop = asyncio.AbstractEventLoop


class Task(asyncio.Task[Any]):
    """A task of a class of its own."""


class ForeignLoop(asyncio.SelectorEventLoop):
    """The event loop of a program that embeds us, whose tasks are its own."""

    def create_task(self, coro: Any, **details: Any) -> Any:
        return Task(coro, loop=self, **details)


def task_of_a_request(loop: Loop) -> asyncio.Task[Any]:
    """Return the task in which the application has been called for a request."""
    found: asyncio.Future[asyncio.Task[Any] | None] = loop.create_future()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found.set_result(asyncio.current_task())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def serve() -> asyncio.Task[Any] | None:
        service = Service(loop, router_to(Endpoint(application, "test")), Limits(), DefaultFields(), HttptoolsParser())
        connection = Http1Connection(service)
        transport = MemoryTransport(connection, loop, TCP_ENDS)
        connection.connection_made(transport)
        transport.deliver(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return await asyncio.wait_for(found, 10)

    task = loop.run_until_complete(serve())
    assert task is not None
    return task


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop: Loop = request.param()
    yield loop
    loop.close()


def test_a_task_has_the_name_of_its_request(loop: Loop) -> None:
    task = task_of_a_request(loop)
    assert type(task) is asyncio.Task
    assert task.get_name().endswith("-1")


def test_a_loop_that_makes_its_tasks_by_itself_makes_those_of_requests_as_well() -> None:
    loop = ForeignLoop()
    assert type(task_of_a_request(loop)) is Task
    loop.close()


def test_so_does_a_factory_of_tasks(loop: Loop) -> None:
    loop.set_task_factory(lambda loop, coro, **more: Task(coro, loop=loop, context=more.get("context")))
    assert type(task_of_a_request(loop)) is Task


def test_so_does_a_function_in_the_place_of_that_of_the_loop(loop: Loop) -> None:
    loop.create_task = lambda coro, **details: Task(coro, loop=loop, **details)  # type: ignore[method-assign]
    assert type(task_of_a_request(loop)) is Task


def test_so_does_a_function_that_calls_that_of_the_loop(loop: Loop) -> None:
    create = loop.create_task
    called = []

    @functools.wraps(create)
    def traced(*values: Any, **details: Any) -> Any:
        called.append(values)
        return create(*values, **details)

    loop.create_task = traced  # type: ignore[method-assign]
    task_of_a_request(loop)
    assert len(called) == 2, "that of the test and that of the request"
