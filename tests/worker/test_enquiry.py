"""Questions to the supervisor: one at a time, and rarely, whoever asks how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from serverd.messages import Ask, Told
from serverd.worker.enquiry import FRESH, PATIENCE, Enquiry, NoAnswer
from tests.support.wire import StillLoop


class Scene:
    """An enquiry in virtual time."""

    def __init__(self) -> None:
        self.loop = StillLoop()
        self.asked: list[Ask] = []
        self.can_send = True
        self.enquiry = Enquiry(self.ask)

    def ask(self, question: Ask) -> bool:
        if self.can_send:
            self.asked.append(question)
        return self.can_send

    def begin(self) -> asyncio.Task[dict[str, Any]]:
        task = self.loop.create_task(self.enquiry.report())
        self.advance(0)
        return task

    def advance(self, seconds: float) -> None:
        self.loop.now += seconds
        for _ in range(5):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def tell(self, **report: int) -> None:
        self.enquiry.on_told(Told(self.asked[-1].number, report))
        self.advance(0)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.loop.close()


def test_one_question_serves_all_who_wait(scene: Scene) -> None:
    waiting = [scene.begin() for _ in range(50)]
    assert scene.asked == [Ask(1)]
    scene.tell(a=1)
    assert [task.result() for task in waiting] == [{"a": 1}] * 50


def test_an_answer_is_good_for_a_second(scene: Scene) -> None:
    scene.begin()
    scene.tell(a=1)
    scene.advance(FRESH * 0.9)
    assert scene.begin().result() == {"a": 1}
    scene.advance(FRESH * 0.2)
    later = scene.begin()
    assert scene.asked == [Ask(1), Ask(2)]
    scene.tell(a=2)
    assert later.result() == {"a": 2}


def test_without_an_answer_there_is_an_end_and_the_next_one_asks_again(scene: Scene) -> None:
    task = scene.begin()
    scene.advance(PATIENCE + 0.1)
    assert isinstance(task.exception(), NoAnswer)
    again = scene.begin()
    scene.enquiry.on_told(Told(1, {"late": 1}))
    scene.advance(0)
    assert not again.done(), "the answer to the first question"
    scene.tell(a=3)
    assert again.result() == {"a": 3}


def test_who_gives_up_takes_it_from_nobody_else(scene: Scene) -> None:
    first, second = scene.begin(), scene.begin()
    first.cancel()
    scene.advance(0)
    scene.tell(a=1)
    assert second.result() == {"a": 1}


def test_a_supervisor_that_takes_no_question_gives_no_answer(scene: Scene) -> None:
    scene.can_send = False
    assert isinstance(scene.begin().exception(), NoAnswer)
    scene.can_send = True
    task = scene.begin()
    scene.tell(a=1)
    assert task.result() == {"a": 1}


def test_an_answer_that_nobody_asked_for_is_ignored(scene: Scene) -> None:
    scene.enquiry.on_told(Told(0, {}))
    scene.begin()
    scene.tell(a=1)
    scene.tell(a=2)
    assert scene.begin().result() == {"a": 1}
