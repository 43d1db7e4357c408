"""The pipeline behind `PoseEstimator.stream`: loading, network and decoding of different pictures at the same time.

Three stages, each with threads of its own: loaders read and fit pictures, one thread runs the network, one decodes.
OpenCV, torch and the other engines leave Python's lock while they work, so the stages overlap. Where the network gains
from it, batches are started before those in front of them are fetched. A fixed number of pictures is under way at a
time, so the memory stays the same however many there are. Results come in order.

Batches are made of pictures that fill the same input size. Which pictures share a batch depends on their order alone,
never on how fast the stages are, so two runs give the same numbers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Raw = TypeVar("Raw")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Stages(Generic[Item, Prepared, Raw, Done]):
    """What the three stages do.

    Attributes:
        load: reads and fits one item.
        key: items whose keys are equal may share a batch; None for one that skips the network.
        network: starts a batch; the call that it returns waits for one raw result per item.
        decode: makes the final result of an item and its raw result (None for one that skipped the network).
    """

    load: Callable[[Item], Prepared]
    key: Callable[[Prepared], Hashable | None]
    network: Callable[[list[Prepared]], Callable[[], list[Raw]]]
    decode: Callable[[Prepared, Raw | None], Done]


class Pipeline(Generic[Item, Prepared, Raw, Done]):
    """Run items through the stages; see the module's docstring.

    Args:
        stages: what to do.
        batch: most items in one batch.
        loaders: threads of the first stage.
        ahead: items under way beyond those that may wait for a batch to fill; more smooths uneven loading.
        started: most batches started at a time; with 1 each is fetched before the next one starts.
    """

    def __init__(
        self,
        stages: Stages[Item, Prepared, Raw, Done],
        batch: int = 1,
        loaders: int = 2,
        ahead: int | None = None,
        started: int = 1,
    ) -> None:
        self._stages = stages
        self._batch = batch
        self._loaders = loaders
        self._started = started
        # Pictures of several sizes fill their batches within a window; its end sends the rest off.
        self._window = 1 if batch == 1 else 4 * batch
        self._depth = self._window + (started - 1) * batch + (2 * loaders + 2 if ahead is None else ahead)

    def run(self, items: Iterable[Item]) -> Iterator[Done]:
        """Yield the result of each item, in order.

        An exception in a stage, or of `items` itself, is raised here in its item's place, and ends the threads. So does
        closing the iterator early; it waits for the work that has begun.
        """
        load = ThreadPoolExecutor(self._loaders, "limbnet-load")
        network = ThreadPoolExecutor(1, "limbnet-network")
        decode = ThreadPoolExecutor(1, "limbnet-decode")
        batches = _Batches(self._stages, self._batch, self._window, self._started, decode)
        under_way: deque[Future[Done]] = deque()
        source = _Source(items)
        try:
            while True:
                for item in source.take(self._depth - len(under_way)):
                    slot: Future[Done] = Future()
                    network.submit(batches.add, load.submit(self._stages.load, item), slot)
                    under_way.append(slot)
                if source.ended:
                    network.submit(batches.flush)
                if not under_way:
                    break
                if not under_way[0].done():
                    network.submit(batches.fetch, under_way[0])
                yield under_way.popleft().result()
            source.raise_failure()
        finally:
            batches.stop.set()
            for pool in (load, network, decode):
                pool.shutdown(wait=False, cancel_futures=True)
            for pool in (load, network, decode):
                pool.shutdown(wait=True)
            batches.abandon()


class _Source(Generic[Item]):
    """The items; a failure among them waits until the results before it have been handed out."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._failure: Exception | None = None
        self.ended = False

    def take(self, count: int) -> Iterator[Item]:
        """Yield up to `count` more items."""
        while count > 0 and not self.ended:
            try:
                item = next(self._items)
            except StopIteration:
                self.ended = True
            except Exception as error:
                self.ended, self._failure = True, error
            else:
                count -= 1
                yield item

    def raise_failure(self) -> None:
        """Raise what `items` itself raised."""
        if self._failure is not None:
            raise self._failure


class _Started(NamedTuple, Generic[Prepared, Raw, Done]):
    """A batch that the network works on, and what waits for its results."""

    batch: list[tuple[Prepared, Future[Done]]]
    fetch: Callable[[], list[Raw]]


class _Batches(Generic[Item, Prepared, Raw, Done]):
    """Collects loaded items into batches; lives on the network's thread."""

    def __init__(
        self,
        stages: Stages[Item, Prepared, Raw, Done],
        batch: int,
        window: int,
        started: int,
        decode: ThreadPoolExecutor,
    ) -> None:
        self.stop = threading.Event()
        self._stages, self._batch, self._window, self._decode = stages, batch, window, decode
        self._most_started = started
        self._waiting: dict[Hashable, list[tuple[Prepared, Future[Done]]]] = {}
        self._started: deque[_Started[Prepared, Raw, Done]] = deque()
        self._added = 0

    def add(self, loading: Future[Prepared], slot: Future[Done]) -> None:
        """Put one item into the batch of its key, and start the batch when it is full or the window ends."""
        try:
            prepared = loading.result()
            key = self._stages.key(prepared)
        except (Exception, CancelledError) as error:  # the consumer raises it
            slot.set_exception(error)
        else:
            if key is None:
                self._finish([(prepared, slot)], [None])
            else:
                waiting = self._waiting.setdefault(key, [])
                waiting.append((prepared, slot))
                if len(waiting) == self._batch:
                    self._start(self._waiting.pop(key))
        self._added += 1
        if self._added % self._window == 0:
            self.flush()

    def flush(self) -> None:
        """Start the batches that are not full, in the order in which they began."""
        while self._waiting:
            self._start(self._waiting.pop(next(iter(self._waiting))))

    def fetch(self, slot: Future[Done]) -> None:
        """Fetch batches until that of an item, which somebody waits for, has been fetched."""
        while any(slot is other for started in self._started for _, other in started.batch):
            self._fetch()

    def abandon(self) -> None:
        """Wait for the batches that nobody wants any more: the network still reads their inputs."""
        for started in self._started:
            with suppress(Exception):
                started.fetch()

    def _start(self, batch: list[tuple[Prepared, Future[Done]]]) -> None:
        if self.stop.is_set():
            return
        try:
            self._started.append(_Started(batch, self._stages.network([prepared for prepared, _ in batch])))
        except Exception as error:
            _fail(batch, error)
        while len(self._started) >= self._most_started:
            self._fetch()

    def _fetch(self) -> None:
        batch, fetch = self._started.popleft()
        try:
            raw: list[Raw | None] = list(fetch())
            if len(raw) != len(batch):
                raise ValueError(f"the network answered {len(raw)} times for a batch of {len(batch)}")
        except Exception as error:
            _fail(batch, error)
        else:
            self._finish(batch, raw)

    def _finish(self, batch: list[tuple[Prepared, Future[Done]]], raw: list[Raw | None]) -> None:
        for (prepared, slot), answer in zip(batch, raw, strict=True):
            try:
                self._decode.submit(self._decode_one, prepared, answer, slot)
            except RuntimeError:  # the pool is closed: nobody waits for this slot any more
                return

    def _decode_one(self, prepared: Prepared, raw: Raw | None, slot: Future[Done]) -> None:
        try:
            slot.set_result(self._stages.decode(prepared, raw))
        except Exception as error:
            slot.set_exception(error)


def _fail(batch: list[tuple[Prepared, Future[Done]]], error: Exception) -> None:
    """Let the consumer raise an error in the place of every item of a batch."""
    for _, slot in batch:
        slot.set_exception(error)
