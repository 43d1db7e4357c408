"""An endless, repeatable stream of batches made by worker processes.

The stream visits every sample once a pass, in an order that the seed and the pass decide, and passes follow each other
without a gap, so a batch may hold the end of one pass and the start of the next. Every sample's augmentation has its
own generator, seeded by the seed, the pass and the sample. So a batch depends on the seed and its number alone: not on
the number of workers, and not on where the stream was started.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbnet.data.order import SampleKey, dataset_shares, pass_order
from limbnet.data.samples import Samples
from limbnet.errors import DataError, LimbnetError
from limbnet.skeleton import Skeleton
from limbnet.specs.recipe import GrowingSize

#: Batches each worker prepares ahead.
PREFETCH = 4

#: More workers than this gain nothing for one process.
MOST_WORKERS = 12

#: A named tuple of tensors whose first axis is the batch.
SomeBatch = TypeVar("SomeBatch", bound=tuple[Tensor, ...])


def to_device(batch: SomeBatch, device: torch.device | str) -> SomeBatch:
    """Return a batch on a device; from pinned memory the copy overlaps with what the device does."""
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))


@dataclass(frozen=True)
class Trouble:
    """A mistake met in a worker, on its way to the training process."""

    error: LimbnetError


class Maker(Dataset[SomeBatch], ABC, Generic[SomeBatch]):
    """Makes the batch of a list of `SampleKey`s. Lives in the workers.

    Args:
        samples: what the keys' numbers stand for.
        seed: the training's.
        weights: proportions of the datasets, None for every sample once a pass.
    """

    def __init__(self, samples: Samples, seed: int, weights: Mapping[str, float] | None) -> None:
        self.samples = samples
        self.seed = seed
        self.weights = dataset_shares(samples, weights)

    def __getitems__(self, keys: list[SampleKey]) -> SomeBatch | Trouble:
        """Make a batch; a mistake is returned, since an exception would lose its form on the way."""
        try:
            return self.batch(keys)
        except LimbnetError as error:
            return Trouble(error)

    @abstractmethod
    def batch(self, keys: list[SampleKey]) -> SomeBatch:
        """Make a batch."""


class BatchStream(Generic[SomeBatch]):
    """The batches that one of `world_size` training processes sees.

    Args:
        maker: makes batches of samples.
        skeleton: what the network learns.
        batch_size: samples in each process's batch.
        samples_per_epoch: an epoch's length; all samples when None.
        workers: processes that make batches; limbnet chooses when None.
        growing: sizes of the input while it grows.
        rank: this process's number. Processes take the samples of a global batch in turn, so N processes with batches
            of b see what one process with batches of N b sees.
        world_size: the number of processes.

    Raises:
        DataError: pictures or masks are missing.
    """

    def __init__(
        self,
        maker: Maker[SomeBatch],
        skeleton: Skeleton,
        *,
        batch_size: int,
        samples_per_epoch: int | None = None,
        workers: int | None = None,
        growing: Sequence[GrowingSize] = (),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.samples = maker.samples
        self.samples.check_files()
        self.skeleton = skeleton
        self.rank, self.world_size = rank, world_size
        self.batch_size = batch_size
        self.workers = default_workers(world_size) if workers is None else workers
        self.samples_per_epoch = samples_per_epoch or len(self.samples)
        self._growing = growing
        self._maker = maker

    def __len__(self) -> int:
        """The number of samples (records)."""
        return len(self.samples)

    @property
    def steps_per_epoch(self) -> int:
        """Samples of an epoch over the global batch, rounded down, but at least 1."""
        return max(1, self.samples_per_epoch // (self.batch_size * self.world_size))

    def keys(self, first_step: int) -> Iterator[list[SampleKey]]:
        """Yield which samples each of this process's batches holds, from batch `first_step` on, for ever."""
        count = len(self)
        together = self.batch_size * self.world_size
        order, repeats, current = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), -1
        start = first_step * together
        while True:
            batch, size = [], self._size_at(start // together)
            for position in range(start + self.rank, start + together, self.world_size):
                visit, place = divmod(position, count)
                if visit != current:
                    order, repeats = pass_order(self.samples, self._maker.weights, self._maker.seed, visit)
                    current = visit
                batch.append(SampleKey(int(order[place]), visit, int(repeats[place]), size))
            yield batch
            start += together

    def _size_at(self, step: int) -> tuple[int, int] | None:
        """Return the input's (height, width) at a step while it grows, None where it has its usual size."""
        epoch = step // self.steps_per_epoch
        begun = [size for size in self._growing if size.first_epoch <= epoch]
        return (begun[-1].height, begun[-1].width) if begun else None

    def batches(self, first_step: int = 0) -> Generator[SomeBatch]:
        """Yield this process's batches from number `first_step` on, for ever.

        The workers end when the iterator is closed.

        Raises:
            DataError: a picture or mask is missing, damaged, or of another size than annotated.
        """
        loader = DataLoader(
            self._maker,
            batch_sampler=self.keys(first_step),
            collate_fn=_as_it_is,
            num_workers=self.workers,
            prefetch_factor=PREFETCH if self.workers else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else every stream would take a number from torch's global generator
            pin_memory=torch.cuda.is_available(),
        )
        stream = iter(loader)
        while True:
            try:
                batch = next(stream)
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    f"A loader process ended unexpectedly: {error}",
                    "It may have run out of memory: lower dataloader.workers or batch_size in the train spec.",
                ) from error
            if isinstance(batch, Trouble):
                raise batch.error
            yield batch


def _as_it_is(batch: Any) -> Any:
    """Batches leave `BatchMaker` whole; there is nothing to collate."""
    return batch


def _start_worker(_number: int) -> None:
    """Keep each worker to one thread: the workers share the cores among themselves."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def default_workers(world_size: int) -> int:
    """Return how many workers each of the processes gets: the cores, shared out."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores // world_size))
