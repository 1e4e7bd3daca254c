"""Which row is for what, on both sides alike, and what is read from memory that anybody may have written."""

from __future__ import annotations

import random
from array import array

import pytest

from serverd.generation import AppTarget, BuiltinTarget, Generation, Mount, RespondTarget
from serverd.messages import Start, decode, encode
from serverd.observe import counters
from serverd.observe.counters import ELSEWHERE, GONE, LISTENER_WIDTH, MOUNT_WIDTH, Chart, Tally, class_at, key_of
from tests.support.counted import generation


def memory(chart: Chart) -> array[int]:
    return array("q", bytes(chart.size))


def read(chart: Chart, numbers: array[int]) -> Tally:
    return chart.read(numbers.tobytes())


def test_a_mount_is_counted_by_its_app_hosts_and_path() -> None:
    hosts = ("a.example", "*.b.example")
    assert key_of(Mount("/x", hosts, ("web",), AppTarget("shop", ""))) == ("shop", "a.example,*.b.example/x")
    assert key_of(Mount("/", (), ("web",), BuiltinTarget("status"))) == ("", "/")
    assert key_of(Mount("/r", (), ("web",), RespondTarget(200, "", ()))) == ("", "/r")


def test_both_sides_draw_the_same_chart_from_the_same_generations() -> None:
    first, second = generation("/a", "/b"), generation("/c", "/b", listeners=("api", "web"))
    ours, theirs = Chart(first), Chart(_travelled(first))
    ours.adopt(second)
    theirs.adopt(_travelled(second))
    assert (ours.mounts, ours.listeners, ours.size) == (theirs.mounts, theirs.listeners, theirs.size)


def _travelled(one: Generation) -> Generation:
    message = decode(encode(Start(one, 0, ())))
    assert isinstance(message, Start)
    return message.generation


def test_a_row_keeps_its_meaning_for_good() -> None:
    chart = Chart(generation("/a", "/b"))
    before = {key: chart.place_of_mount(key) for key in chart.mounts}
    chart.adopt(generation("/c"))
    chart.adopt(generation("/b", "/a", "/d"))
    assert before.items() <= {key: chart.place_of_mount(key) for key in chart.mounts}.items()
    assert len(set(chart.mounts.values())) == len(chart.mounts) == 5


def test_rows_do_not_overlap_and_end_within_the_memory() -> None:
    chart = Chart(generation("/a", "/b", listeners=("web", "api")))
    while chart.has_room(new := generation(f"/{len(chart.mounts)}", listeners=(f"l{len(chart.listeners)}", "web"))):
        chart.adopt(new)
    spans = [(chart.place_of_mount(key), MOUNT_WIDTH) for key in chart.mounts]
    spans += [(chart.place_of_listener(name), LISTENER_WIDTH) for name in chart.listeners]
    taken = [place for start, width in spans for place in range(start, start + width)]
    assert len(taken) == len(set(taken))
    assert max(taken) < chart.size // 8


def test_mounts_that_come_and_go_use_up_the_rows_and_no_more() -> None:
    chart = Chart(generation("/0"))
    adopted = 0
    while chart.has_room(generation(f"/{adopted}")):
        chart.adopt(generation(f"/{adopted}"))
        adopted += 1
        assert adopted < 1000
    assert adopted > 10
    assert chart.has_room(generation("/0")), "what is known needs no room"


def test_what_was_added_is_read() -> None:
    chart = Chart(generation("/a"))
    numbers = memory(chart)
    numbers[chart.place_of_mount(("shop", "/a")) + class_at(2)] += 3
    numbers[chart.place_of_listener("web") + counters.ACCEPTED] += 2
    tally = read(chart, numbers)
    assert tally.mounts.keys() == {("shop", "/a")}, "rows of zeros are left out"
    assert tally.mounts["shop", "/a"][class_at(2)] == 3
    assert tally.listeners["web"][counters.ACCEPTED] == 2


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 100, b"\x80" * 50_000, b"\x7f" * 1_000_003], ids=len)
def test_any_bytes_are_numbers_that_are_not_negative(data: bytes) -> None:
    chart = Chart(generation("/a", "/b"))
    tally = chart.read(data)
    assert all(number >= 0 for row in (*tally.mounts.values(), *tally.listeners.values()) for number in row)


def test_memory_that_was_cut_short_has_the_rows_that_are_whole() -> None:
    chart = Chart(generation("/a"))
    numbers = array("q", [1] * (chart.size // 8))
    assert read(chart, numbers).mounts.keys() == {ELSEWHERE, ("shop", "/a")}
    cut = numbers[: chart.place_of_mount(("shop", "/a")) + 1]
    assert read(chart, cut).mounts.keys() == {ELSEWHERE}


def test_random_bytes_never_break_the_sums() -> None:
    chance = random.Random(5)
    chart, total = Chart(generation("/a", "/b")), Tally()
    for _ in range(50):
        total.add(chart.read(chance.randbytes(chance.randrange(2 * chart.size))))
    assert total.mounts.keys() <= set(chart.mounts)


def test_tallies_add_up_and_gauges_end_with_the_worker() -> None:
    row = list(range(MOUNT_WIDTH))
    other = Tally({("shop", "/a"): row.copy()}, {"web": list(range(LISTENER_WIDTH))})
    other.end()
    total = Tally()
    total.add(other)
    total.add(other)
    expected = [0 if column in counters.MOUNT_GAUGES else 2 * value for column, value in enumerate(row)]
    assert total.mounts["shop", "/a"] == expected
    assert total.listeners["web"][counters.HTTP1] == 0
    assert other.mounts["shop", "/a"][-1] == row[-1], "what is added stays as it is"


def test_a_connection_that_ended_with_its_worker_before_it_had_said_anything_is_none() -> None:
    row = [0] * LISTENER_WIDTH
    row[counters.ACCEPTED] = 10
    row[counters.SPOKE + counters.HTTP1], row[counters.SPOKE + counters.HTTP2] = 4, 3
    row[counters.SPOKE + counters.NOTHING_YET] = 1  # one has left before, two were open
    tally = Tally({}, {"web": row})
    tally.end()
    tally.end()
    assert tally.listeners["web"][counters.SPOKE + counters.NOTHING_YET] == 3


def test_mounts_that_are_no_more_become_one_and_nothing_is_lost() -> None:
    rows = {("shop", f"/{number}"): [1] * MOUNT_WIDTH for number in range(5)}
    rows["blog", "/b"] = rows["", "/ping"] = [1] * MOUNT_WIDTH
    tally = Tally(dict(rows), {"web": [1] * LISTENER_WIDTH, "old": [1] * LISTENER_WIDTH})
    tally.fold([("shop", "/3")], ["web"])
    tally.fold([("shop", "/3")], ["web"])
    of_shop = ("shop", GONE[1])
    assert tally.mounts == {("shop", "/3"): [1] * MOUNT_WIDTH, of_shop: [4] * MOUNT_WIDTH, GONE: [2] * MOUNT_WIDTH}
    tally.fold([("blog", "/")], ["web"])
    assert tally.mounts == {GONE: [7] * MOUNT_WIDTH}
    assert tally.listeners.keys() == {"web"}
