"""The pipeline: order, batches, memory, failures. A mistake here would hang, hence the short time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.runtime.pipeline import Pipeline, Stages

pytestmark = pytest.mark.timeout(60)


def limbnet_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("limbnet-")]


def note(seen: list[int], results: Iterator[tuple[int, int | None]]) -> None:
    for number, _ in results:
        seen.append(number)


class Work:
    """Stages that square numbers; the key of a number is its remainder, and every fifth skips the network."""

    def __init__(self, keys: int = 2, skip: bool = False, slow: float = 0.0) -> None:
        self.keys, self.skip, self.slow = keys, skip, slow
        self.batches: list[list[int]] = []
        self.loaded = self.under_way = self.most_under_way = 0

    def load(self, number: int) -> int:
        self.loaded += 1
        time.sleep(self.slow * (number % 3))
        return number

    def key(self, number: int) -> int | None:
        return None if self.skip and number % 5 == 4 else number % self.keys

    def network(self, batch: list[int]) -> Callable[[], list[int]]:
        self.batches.append(list(batch))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return partial(self.fetch, batch)

    def fetch(self, batch: list[int]) -> list[int]:
        self.under_way -= 1
        return [number**2 for number in batch]

    def decode(self, number: int, squared: int | None) -> tuple[int, int | None]:
        return number, squared

    def stages(self) -> Stages[int, int, int, tuple[int, int | None]]:
        return Stages(self.load, self.key, self.network, self.decode)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 60),
    keys=st.integers(1, 5),
    batch=st.integers(1, 6),
    loaders=st.integers(1, 4),
    ahead=st.integers(0, 9),
    started=st.integers(1, 4),
    skip=st.booleans(),
)
def test_results_come_in_order_and_batches_depend_on_the_order_alone(
    count: int, keys: int, batch: int, loaders: int, ahead: int, started: int, skip: bool
) -> None:
    batches = []
    for most in (started, 1):
        work = Work(keys, skip)
        results = list(Pipeline(work.stages(), batch, loaders, ahead, most).run(range(count)))
        expected = [(n, None if work.key(n) is None else n**2) for n in range(count)]
        assert results == expected
        assert all(len(part) <= batch for part in work.batches)
        assert all(len({work.key(n) for n in part}) == 1 for part in work.batches)
        assert work.under_way == 0
        assert work.most_under_way <= most
        batches.append(work.batches)
    assert batches[0] == batches[1]


def test_as_many_batches_are_started_at_a_time_as_wanted() -> None:
    for started in (1, 3):
        work = Work(keys=1)
        list(Pipeline(work.stages(), batch=2, started=started).run(range(40)))
        assert work.most_under_way == started


def test_a_batch_somebody_waits_for_is_fetched_though_no_other_follows() -> None:
    """With a camera the next picture may come only after the last answer."""
    work, taken = Work(keys=1), 0

    def asks_only_after_answers() -> Iterator[int]:
        nonlocal taken
        for number in range(8):
            assert taken >= number - 1
            yield number

    for number, _ in Pipeline(work.stages(), batch=1, loaders=1, ahead=0, started=2).run(asks_only_after_answers()):
        taken = number + 1
    assert taken == 8


def test_batches_are_filled_across_neighbours_of_other_sizes() -> None:
    work = Work(keys=2)
    list(Pipeline(work.stages(), batch=4).run(range(16)))
    assert work.batches == [[0, 2, 4, 6], [1, 3, 5, 7], [8, 10, 12, 14], [9, 11, 13, 15]]


def test_few_items_are_under_way_however_many_there_are() -> None:
    work = Work()
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    stream = Pipeline(work.stages(), batch=1, loaders=2, ahead=4).run(endless())
    for yielded in range(300):
        assert next(stream)[0] == yielded
        assert taken <= yielded + 6
    stream.close()
    assert not limbnet_threads()


def test_stages_overlap() -> None:
    def stage(seconds: float) -> None:
        time.sleep(seconds)

    stages: Stages[int, int, int, int] = Stages(
        load=lambda n: (stage(0.02), n)[1],
        key=lambda n: 0,
        network=lambda batch: lambda: (stage(0.02), batch)[1],
        decode=lambda n, raw: (stage(0.02), n)[1],
    )
    start = time.perf_counter()
    assert list(Pipeline(stages, loaders=1).run(range(20))) == list(range(20))
    assert time.perf_counter() - start < 0.75 * 20 * 0.06  # one after the other takes 1.2 s, overlapped 0.44 s


@pytest.mark.parametrize("started", [1, 3])
@pytest.mark.parametrize("broken", ["load", "key", "network", "fetch", "decode"])
def test_an_exception_in_a_stage_reaches_the_consumer_in_its_place(broken: str, started: int) -> None:
    work = Work(keys=1)

    def fails(*given: object) -> object:
        if given[0] == 7 or (isinstance(given[0], list) and 7 in given[0]):
            raise ZeroDivisionError(broken)
        return getattr(Work, broken)(work, *given)

    setattr(work, broken, fails)
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError, match=broken):
        note(seen, Pipeline(work.stages(), batch=1, started=started).run(range(1000)))
    assert seen == list(range(7))
    assert not limbnet_threads()
    assert work.loaded < 100


def test_an_exception_of_the_items_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the camera is gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="camera"):
        note(seen, Pipeline(Work().stages(), batch=4).run(items()))
    assert seen == list(range(5))
    assert not limbnet_threads()


def test_a_network_that_answers_too_seldom_is_an_error() -> None:
    work = Work(keys=1)
    stages = Stages(work.load, work.key, lambda batch: partial(work.fetch, batch[1:]), work.decode)
    with pytest.raises(ValueError, match="answered 1 times for a batch of 2"):
        list(Pipeline(stages, batch=2).run(range(4)))


def test_closing_early_ends_the_threads() -> None:
    work = Work(slow=0.01)
    stream = Pipeline(work.stages(), batch=3, started=3).run(range(10_000))
    assert next(stream)[0] == 0
    assert limbnet_threads()
    stream.close()
    assert not limbnet_threads()
    assert work.under_way == 0  # what was started is waited for, though nobody wants it any more
    assert work.loaded < 100
