"""Colour augmentation."""

from __future__ import annotations

import numpy as np

from limbnet.data.colour import change_colours
from limbnet.specs.train import ColourAugParams

PICTURE = np.random.default_rng(0).integers(40, 200, (16, 24, 3), dtype=np.uint8)


def changed(seed: int = 1, **params: float) -> np.ndarray:
    return change_colours(PICTURE, ColourAugParams(**params), np.random.default_rng(seed)).astype(int)


def test_nothing_asked_for_changes_nothing() -> None:
    np.testing.assert_array_equal(changed(), PICTURE)


def test_brightness_is_one_offset_within_its_limit() -> None:
    offsets = [np.unique(changed(seed, brightness=0.1) - PICTURE) for seed in range(20)]
    assert all(len(offset) == 1 for offset in offsets)
    assert 10 < max(abs(int(offset[0])) for offset in offsets) <= 26


def test_contrast_keeps_the_middle() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    found = change_colours(grey, ColourAugParams(contrast=0.5), np.random.default_rng(0))
    np.testing.assert_allclose(found, 128, atol=1)
    assert changed(contrast=0.5).std() != PICTURE.std()


def test_grey_and_saturation_keep_brightness() -> None:
    grey = changed(grey_prob=1.0)
    assert (np.ptp(grey, axis=2) == 0).all()
    luma = PICTURE @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], luma, atol=1)
    np.testing.assert_allclose(changed(saturation=0.2) @ np.array([0.299, 0.587, 0.114]), luma, atol=6)


def test_hue_turns_colours_but_not_grey() -> None:
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert (change_colours(grey, ColourAugParams(hue=0.5), np.random.default_rng(0)) == 90).all()
    assert (np.abs(changed(hue=0.3) - PICTURE).max(axis=2) > 3).any()


def test_blur_smooths() -> None:
    assert changed(blur_prob=1.0).std() < 0.8 * PICTURE.std()


def test_one_change_leaves_the_draws_of_the_others() -> None:
    """Switching blur on must not draw another brightness."""
    both = changed(brightness=0.2, blur_prob=1.0).mean() - PICTURE.mean()
    assert abs(both - (changed(brightness=0.2).mean() - PICTURE.mean())) < 1
