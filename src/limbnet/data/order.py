"""The order of samples: a full permutation each pass, or draws from several datasets in given proportions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.data.samples import Samples
from limbnet.errors import DataError


@dataclass(frozen=True)
class SampleKey:
    """One visit of a sample.

    Attributes:
        number: the sample's.
        round: the pass.
        repeat: how often the pass has visited the sample before.
        size: (H, W) of the input where it is not the usual one.
    """

    number: int
    round: int
    repeat: int = 0
    size: tuple[int, int] | None = None

    def generator(self, seed: int) -> np.random.Generator:
        """Return the visit's own random generator."""
        return np.random.default_rng((seed, self.round, self.number, *([self.repeat] if self.repeat else [])))


def dataset_shares(samples: Samples, weights: Mapping[str, float] | None) -> NDArray[np.float64] | None:
    """Return the share of each dataset in a pass, in the order of `samples.datasets`; None draws every sample once.

    Raises:
        DataError: a dataset with a weight has no samples.
    """
    if weights is None:
        return None
    names = [name for name, _ in samples.datasets]
    empty = [name for name, weight in weights.items() if weight > 0 and name not in names]
    if empty:
        raise DataError(
            f"dataset_weights names {', '.join(empty)}, but no sample comes from there.",
            "Check train_records_path and dataset_specs in the train spec.",
        )
    shares = np.array([weights.get(name, 0.0) for name in names])
    return np.asarray(shares / shares.sum())


def pass_order(
    samples: Samples, shares: NDArray[np.float64] | None, seed: int, visit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of a pass's N samples in their order, and how often the pass has visited each before.

    Args:
        samples: the N samples of all datasets.
        shares: what `dataset_shares` returned; each dataset gives its share of the N, every sample once before any
            comes again.
        seed: the training's.
        visit: number of the pass.
    """
    rng = np.random.default_rng((seed, visit))
    if shares is None:
        order = rng.permutation(len(samples))
        return order, np.zeros_like(order)
    ends = np.rint(np.cumsum(shares) * len(samples)).astype(int)
    numbers, repeats, start = [], [], 0
    for (_, size), wanted in zip(samples.datasets, np.diff(ends, prepend=0), strict=True):
        rounds = -(-int(wanted) // size)
        drawn = [start + rng.permutation(size) for _ in range(rounds)]
        numbers.append(np.concatenate([np.zeros(0, np.int64), *drawn])[:wanted])
        repeats.append(np.repeat(np.arange(rounds), size)[:wanted])
        start += size
    mixed = rng.permutation(len(samples))
    return np.concatenate(numbers)[mixed], np.concatenate(repeats)[mixed]
