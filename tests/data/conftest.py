"""A small dataset, made anew for each test that wants one."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_folder import JOINTS, DatasetFolder, person


@pytest.fixture
def folder(tmp_path: Path) -> DatasetFolder:
    """An empty dataset folder."""
    return DatasetFolder(tmp_path)


@pytest.fixture
def crowded(folder: DatasetFolder) -> DatasetFolder:
    """Four pictures: two people, one with an unlabelled neighbour, one with a crowd, one without anybody."""
    for number in range(1, 5):
        folder.image(number, height=100 + 20 * number, width=200 - 20 * number)
    folder.people(
        person(10, 1),
        person(11, 1, (90, 20, 50, 80), 9, keypoint_confidence=[0.25] * JOINTS),
        person(12, 2, (10, 30, 50, 70)),
        person(13, 2, (40, 40, 60, 70), 0),
        person(14, 3, (30, 30, 60, 60), 6),
        person(15, 3, (0, 0, 100, 50), 0, iscrowd=1, segmentation={"size": [160, 140], "counts": [0, 8000, 14400]}),
    )
    return folder
