"""The ASGI lifespan (specification 2.0): what each mode makes of each behaviour; no failure is ever hidden."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from serverd.asgi.lifespan import Lifespan, Phase
from serverd.errors import LifespanError
from tests.support.wire import StillLoop

STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


class Time:
    """A loop on which a coroutine runs to its end, or as far as `limit` seconds of virtual time take it."""

    def __init__(self) -> None:
        self.loop = StillLoop()
        self.elapsed = 0.0

    def settle(self) -> None:
        while True:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            if not self.loop._ready:  # type: ignore[attr-defined]
                return

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: float = 5.0) -> Any:
        task = self.loop.create_task(coroutine)
        begin = self.loop.now
        self.settle()
        while not task.done() and self.loop.now - begin < limit:
            self.loop.now += 0.25
            self.settle()
        self.elapsed = self.loop.now - begin
        if not task.done():
            task.cancel()
            self.settle()
            raise TimeoutError
        return task.result()


@pytest.fixture
def clock() -> Iterator[Time]:
    made = Time()
    yield made
    for task in asyncio.all_tasks(made.loop):
        task.cancel()
    made.settle()
    gc.collect()  # asyncio complains of an exception that nobody retrieved when its task goes
    made.loop.close()
    assert not made.loop.failures


# Applications, each with one behaviour.


async def good(scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["number"] = 1
    await send(STARTED)
    assert await receive() == {"type": "lifespan.shutdown"}
    await send(STOPPED)


async def never_receives(scope: Any, receive: Any, send: Any) -> None:
    await send(STARTED)


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only http")


async def fails_before_it_asks(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("database url is missing")  # as a framework does whose middleware cannot be built


async def asserts_at_once(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


async def takes_it_for_http(scope: Any, receive: Any, send: Any) -> None:
    scope["path"]


async def lacks_a_setting(scope: Any, receive: Any, send: Any) -> None:
    raise KeyError("DATABASE_URL")


async def talks_like_django(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def implements_no_more(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


OFF_REMEDY = ' (lifespan = "off" for an application that does not speak lifespan)'
NO_URL = "failed before its start-up: RuntimeError: database url is missing"
NO_SETTING = "failed before its start-up: KeyError: 'DATABASE_URL'"
EXITED = "failed before its start-up: SystemExit: no"


async def exits_at_once(scope: Any, receive: Any, send: Any) -> None:
    sys.exit("no")


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    return


async def raises_during_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise RuntimeError("no database")


async def exits_during_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    sys.exit("no database")


async def returns_during_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def fails_to_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def fails_without_a_word(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed"})


async def fails_and_raises(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback\nRuntimeError: no database\n"})
    raise RuntimeError("no database")


async def fails_and_stays(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    await receive()


async def talks_nonsense(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def answers_http(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


UP, OFF = "up", "off"
TABLE = [
    # behaviour, auto, on: up, off, or the words of the error
    (good, UP, UP),
    (never_receives, UP, UP),
    (raises_at_once, OFF, "does not speak lifespan"),
    (asserts_at_once, OFF, "does not speak lifespan"),
    (takes_it_for_http, OFF, "does not speak lifespan"),
    (talks_like_django, OFF, "does not speak lifespan"),
    (implements_no_more, OFF, "does not speak lifespan"),
    (fails_before_it_asks, NO_URL + OFF_REMEDY, NO_URL),
    (lacks_a_setting, NO_SETTING + OFF_REMEDY, NO_SETTING),
    (exits_at_once, EXITED + OFF_REMEDY, EXITED),
    (returns_at_once, OFF, "does not speak lifespan"),
    (answers_http, OFF, "does not speak lifespan"),
    (raises_during_start, "ended before its start-up was complete", "ended before its start-up was complete"),
    (exits_during_start, "ended before its start-up was complete", "ended before its start-up was complete"),
    (returns_during_start, "ended before its start-up was complete", "ended before its start-up was complete"),
    (talks_nonsense, "ended before its start-up was complete", "ended before its start-up was complete"),
    (fails_to_start, "start-up failed: no database", "start-up failed: no database"),
    (fails_without_a_word, "start-up failed: without a message", "start-up failed: without a message"),
    (fails_and_raises, "start-up failed: RuntimeError: no database", "start-up failed: RuntimeError: no database"),
    (fails_and_stays, "start-up failed: no database", "start-up failed: no database"),
]


class TestStart:
    """What `auto` and `on` make of an application's start-up."""

    @pytest.mark.parametrize("mode", ["auto", "on"])
    @pytest.mark.parametrize(("application", "auto", "on"), TABLE, ids=lambda value: getattr(value, "__name__", ""))
    def test_auto_tolerates_only_what_does_not_speak_lifespan(
        self, application: Any, auto: str, on: str, mode: str, clock: Time
    ) -> None:
        lifespan = Lifespan(application, "shop", mode)
        expected = auto if mode == "auto" else on
        if expected in (UP, OFF):
            clock.run(lifespan.start())
            assert lifespan.phase is (Phase.UP if expected == UP else Phase.OFF)
        else:
            with pytest.raises(LifespanError) as caught:
                clock.run(lifespan.start())
            assert str(caught.value) == expected

    @pytest.mark.parametrize(("application", "_auto", "_on"), TABLE, ids=lambda value: getattr(value, "__name__", ""))
    def test_off_never_calls_the_application(self, application: Any, _auto: str, _on: str, clock: Time) -> None:
        async def refuses(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("called")

        lifespan = Lifespan(refuses, "shop", "off")
        clock.run(lifespan.start())
        clock.run(lifespan.stop())
        assert lifespan.phase is Phase.OFF

    @pytest.mark.parametrize(
        ("application", "kind"),
        [
            (raises_during_start, RuntimeError),
            (fails_and_raises, RuntimeError),
            (exits_during_start, SystemExit),
            (talks_nonsense, LifespanError),
            (returns_during_start, None),
            (fails_to_start, None),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_the_application_s_own_exception_is_the_cause(
        self, application: Any, kind: type[BaseException] | None, clock: Time
    ) -> None:
        with pytest.raises(LifespanError) as caught:
            clock.run(Lifespan(application, "shop", "on").start())
        cause = caught.value.__cause__
        assert type(cause) is kind if kind else cause is None

    def test_why_an_application_runs_without_lifespan_is_logged(
        self, clock: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        clock.run(Lifespan(raises_at_once, "shop", "auto").start())
        assert "app shop does not speak lifespan (AssertionError: only http)" in caplog.text

    def test_a_slow_start_is_waited_for(self, clock: Time) -> None:
        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await asyncio.sleep(100)
            await send(STARTED)
            await receive()

        lifespan = Lifespan(slow, "shop", "auto")
        clock.run(lifespan.start(), limit=200)
        assert clock.elapsed >= 100
        assert lifespan.phase is Phase.UP

    def test_a_start_that_failed_but_stays_is_not_waited_for(self, clock: Time) -> None:
        with pytest.raises(LifespanError):
            clock.run(Lifespan(fails_and_stays, "shop", "auto").start())
        assert clock.elapsed <= 1.5

    def test_the_scope_is_that_of_the_specification(self, clock: Time) -> None:
        scopes: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await good(scope, receive, send)

        lifespan = Lifespan(application, "shop", "auto")
        clock.run(lifespan.start())
        assert scopes == [
            {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {"number": 1}}
        ]
        assert scopes[0]["state"] is lifespan.state


class TestBreakingOff:
    """A start-up whose `start` was cancelled: it ends, and what is complete gets its shutdown."""

    def broken_off(self, application: Any, clock: Time, mode: str = "auto") -> Lifespan:
        lifespan = Lifespan(application, "shop", mode)
        start = clock.loop.create_task(lifespan.start())
        clock.settle()
        assert not start.done()
        start.cancel()
        clock.settle()
        clock.run(lifespan.stop())
        assert not asyncio.all_tasks(clock.loop)
        return lifespan

    def test_one_that_goes_on_is_cancelled_and_waited_for(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        done: list[str] = []

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.5)
                done.append("rolled back")

        self.broken_off(slow, clock)
        assert done == ["rolled back"]
        assert not caplog.records

    def test_that_a_framework_says_it_failed_when_it_is_cancelled_is_no_failure(
        self, clock: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def framework(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            try:
                await asyncio.sleep(1000)
            except BaseException as error:
                await send({"type": "lifespan.startup.failed", "message": repr(error)})
                raise

        self.broken_off(framework, clock)
        assert not caplog.records

    def test_one_that_completes_all_the_same_is_shut_down(self, clock: Time) -> None:
        seen: list[str] = []

        async def stubborn(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            await send(STARTED)
            seen.append((await receive())["type"])
            await send(STOPPED)

        assert self.broken_off(stubborn, clock).phase is Phase.DOWN
        assert seen == ["lifespan.shutdown"]

    @pytest.mark.parametrize("stage", ["before it asks", "while it starts", "after it has said so"])
    def test_a_failure_meanwhile_is_logged_once(
        self, stage: str, clock: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fails(scope: Any, receive: Any, send: Any) -> None:
            if stage != "before it asks":
                await receive()
            if stage == "after it has said so":
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                await asyncio.sleep(1000)
            try:
                await asyncio.sleep(1000)
            finally:
                raise RuntimeError("no database")

        lifespan = self.broken_off(fails, clock)
        clock.run(lifespan.stop())
        [record] = caplog.records
        assert record.getMessage() == "app shop failed while its start-up was broken off: no database"

    def test_one_that_ended_in_the_same_moment_is_looked_at(
        self, clock: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        lifespan = Lifespan(raises_during_start, "shop", "auto")
        start = clock.loop.create_task(lifespan.start())
        for _ in range(2):  # the application has raised, and `start` has not come to see it
            clock.loop.call_soon(clock.loop.stop)
            clock.loop.run_forever()
        assert lifespan._task is not None
        assert lifespan._task.done()
        start.cancel()
        clock.settle()
        assert start.cancelled()
        clock.run(lifespan.stop())
        assert caplog.messages == ["app shop failed while its start-up was broken off: no database"]

    def test_one_that_does_not_speak_lifespan_is_no_failure(
        self, clock: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def late(scope: Any, receive: Any, send: Any) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                assert scope["type"] == "http"

        self.broken_off(late, clock)
        assert not caplog.records

    def test_one_that_was_judged_is_not_judged_again(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        lifespan = Lifespan(fails_and_raises, "shop", "auto")
        with pytest.raises(LifespanError):
            clock.run(lifespan.start())
        clock.run(lifespan.stop())
        assert not caplog.records


class TestStop:
    """Shutdown: a failure is logged, nobody can do anything about it."""

    def started(self, clock: Time, shutdown: Any) -> Lifespan:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(STARTED)
            await receive()
            await shutdown(send)

        lifespan = Lifespan(application, "shop", "auto")
        clock.run(lifespan.start())
        return lifespan

    def test_it_waits_for_the_application(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        done: list[str] = []

        async def shutdown(send: Any) -> None:
            await asyncio.sleep(3)
            done.append("closed")
            await send(STOPPED)

        lifespan = self.started(clock, shutdown)
        clock.run(lifespan.stop(), limit=10)
        assert done == ["closed"]
        assert lifespan.phase is Phase.DOWN
        assert not caplog.records

    @pytest.mark.parametrize("kind", ["failed", "raises", "exits", "nonsense"])
    def test_a_failure_is_logged(self, kind: str, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        async def shutdown(send: Any) -> None:
            if kind == "failed":
                await send({"type": "lifespan.shutdown.failed", "message": "still busy"})
            elif kind == "raises":
                raise RuntimeError("still busy")
            elif kind == "exits":
                sys.exit("still busy")
            else:
                await send(STARTED)

        clock.run(self.started(clock, shutdown).stop())
        assert "app shop failed to shut down" in caplog.text
        assert "still busy" in caplog.text or kind == "nonsense"

    def test_returning_without_an_answer_is_fine(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        async def shutdown(send: Any) -> None:
            return

        clock.run(self.started(clock, shutdown).stop())
        assert not caplog.records

    def test_one_that_does_not_answer_leaves_the_waiting_to_the_worker(self, clock: Time) -> None:
        async def shutdown(send: Any) -> None:
            await asyncio.sleep(1000)

        lifespan = self.started(clock, shutdown)
        with pytest.raises(TimeoutError):
            clock.run(lifespan.stop(), limit=20)

    def test_one_that_answers_and_stays_is_ended(self, clock: Time) -> None:
        async def shutdown(send: Any) -> None:
            await send(STOPPED)
            await asyncio.sleep(1000)

        clock.run(self.started(clock, shutdown).stop())
        clock.settle()
        assert not asyncio.all_tasks(clock.loop)

    @pytest.mark.parametrize("application", [never_receives, returns_at_once], ids=["ended before", "never spoke"])
    def test_an_application_that_has_ended_is_not_asked(self, application: Any, clock: Time) -> None:
        lifespan = Lifespan(application, "shop", "auto")
        clock.run(lifespan.start())
        clock.run(lifespan.stop())
        assert clock.elapsed <= 1.5

    def test_an_end_with_an_error_while_serving_is_logged(self, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(STARTED)
            await asyncio.sleep(1)
            raise RuntimeError("lost the database")

        lifespan = Lifespan(application, "shop", "auto")
        clock.run(lifespan.start())
        clock.loop.now += 2
        clock.settle()
        assert "its lifespan ended with an error while it was serving" in caplog.text
        assert "lost the database" in caplog.text
