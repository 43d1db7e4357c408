"""The order of samples when several datasets are drawn from in given proportions."""

from __future__ import annotations

import numpy as np
import pytest

from limbnet.data.order import dataset_shares, pass_order
from limbnet.data.samples import Samples
from limbnet.errors import DataError

NAMES = (("small", 5), ("large", 40), ("other", 15))


def samples() -> Samples:
    count = sum(size for _, size in NAMES)
    return Samples(
        [], np.zeros((count, 1, 3)), None, np.arange(count, dtype=np.int32), np.arange(count + 1),
        np.zeros(count, np.int32), np.zeros((count, 2)), np.ones(count), NAMES,
    )  # fmt: skip


def test_without_weights_every_sample_comes_once():
    order, repeats = pass_order(samples(), dataset_shares(samples(), None), 3, 0)
    assert sorted(order) == list(range(60))
    assert not repeats.any()


def test_datasets_are_drawn_in_their_proportions():
    """2 : 1 : 1 of 60 draws: 30 of the five small ones, six times each; 15 and 15 of the others, none twice."""
    shares = dataset_shares(samples(), {"small": 2, "large": 1, "other": 1})
    order, repeats = pass_order(samples(), shares, 3, 0)
    counts = np.bincount(order, minlength=60)
    assert counts[:5].tolist() == [6] * 5
    assert counts[5:45].sum() == 15
    assert counts[5:45].max() == 1
    assert counts[45:].tolist() == [1] * 15
    assert sorted(zip(order, repeats, strict=True)) == sorted(set(zip(order, repeats, strict=True)))


def test_seed_and_pass_decide():
    shares = dataset_shares(samples(), {"small": 1, "large": 0, "other": 3})
    first = pass_order(samples(), shares, 3, 0)[0]
    assert (first == pass_order(samples(), shares, 3, 0)[0]).all()
    assert (first != pass_order(samples(), shares, 3, 1)[0]).any()
    assert (first != pass_order(samples(), shares, 4, 0)[0]).any()
    assert not ((first >= 5) & (first < 45)).any()


def test_a_weight_without_samples_is_a_mistake():
    with pytest.raises(DataError, match="dataset_weights names gone"):
        dataset_shares(samples(), {"small": 1, "gone": 1})
