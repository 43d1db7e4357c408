"""`limbnet sample_calibration_images` on the example pictures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from limbnet.cli import main
from limbnet.data.sampling import SampleCriteria, candidates, load_annotated


@pytest.fixture(scope="module")
def annotations(root: Path) -> Path:
    return root / "examples" / "annotations" / "person_keypoints.json"


@pytest.fixture(scope="module")
def images(root: Path) -> Path:
    return root / "examples" / "images"


def people_of(annotations: Path) -> Counter:
    """Persons by file name, counted by hand."""
    content = json.loads(annotations.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return Counter(
        names[entry["image_id"]]
        for entry in content["annotations"]
        if entry["num_keypoints"] >= 5 and not entry["iscrowd"]
    )


def test_manuals_line(annotations: Path, images: Path, tmp_path: Path, capsys) -> None:
    line = ["sample_calibration_images", "-a", str(annotations), "-i", str(images), "-n", "4", "-pth", "2"]
    line += ["--min_keypoints", "5", "--randomize"]
    assert main([*line, "-o", str(tmp_path / "out")]) == 0
    assert "4 pictures copied" in capsys.readouterr().out
    copied = sorted((tmp_path / "out").iterdir())
    counts = people_of(annotations)
    assert len(copied) == 4
    for path in copied:
        assert counts[path.name] >= 2
        assert path.read_bytes() == (images / path.name).read_bytes()
    assert main([*line, "-o", str(tmp_path / "again")]) == 0
    assert [path.name for path in copied] == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert main([*line, "-o", str(tmp_path / "other"), "--seed", "7"]) == 0
    assert [path.name for path in copied] != sorted(path.name for path in (tmp_path / "other").iterdir())


def test_without_chance_the_file_decides(annotations: Path, images: Path) -> None:
    dataset = load_annotated(annotations, images)
    counts = people_of(annotations)
    found = [image.file_name for image in candidates(dataset, SampleCriteria(2, 5))]
    assert found == [image.file_name for image in dataset.images if counts[image.file_name] >= 2]


def test_balance_takes_from_every_group_in_turn(annotations: Path, images: Path) -> None:
    dataset = load_annotated(annotations, images)

    def group(image) -> tuple[int, int]:
        people = dataset.annotations(dataset.images.index(image))
        share = people.areas[~people.crowd & (people.labelled_count >= 1)].max() / (image.height * image.width)
        count = int((~people.crowd & (people.labelled_count >= 1)).sum())
        return int(np.digitize(count, (2, 4))), int(np.digitize(share, (0.05, 0.25)))

    plain = list(candidates(dataset, SampleCriteria(randomize=True)))
    balanced = list(candidates(dataset, SampleCriteria(randomize=True, balance=True)))
    assert sorted(image.id for image in plain) == sorted(image.id for image in balanced)
    groups = {group(image) for image in plain}
    assert len(groups) > 3
    assert {group(image) for image in balanced[: len(groups)]} == groups


def test_what_is_refused(annotations: Path, images: Path, tmp_path: Path, capsys) -> None:
    line = ["sample_calibration_images", "-a", str(annotations), "-i", str(images)]
    assert main([*line, "-o", str(tmp_path / "out"), "-n", "1000"]) == 1
    message = capsys.readouterr().err
    assert "1000 were asked for" in message
    assert "-n " in message
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert main([*line, "-o", str(tmp_path / "full"), "-n", "2"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert main([*line[:4], str(tmp_path / "nowhere"), "-o", str(tmp_path / "out"), "-n", "2"]) == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    assert main([*line[:4], str(tmp_path / "elsewhere"), "-o", str(tmp_path / "out"), "-n", "2"]) == 1
    assert "Check that -i names their folder" in capsys.readouterr().err
    (tmp_path / "no.json").write_text("{}")
    assert main([*line[:2], str(tmp_path / "no.json"), *line[3:], "-o", str(tmp_path / "out"), "-n", "2"]) == 1
    assert "no COCO keypoint file" in capsys.readouterr().err


def test_unreadable_pictures_are_left_out(annotations: Path, images: Path, tmp_path: Path, caplog) -> None:
    broken = tmp_path / "images"
    broken.mkdir()
    names = [image.file_name for image in load_annotated(annotations, images).images]
    for name in names:
        content = (images / name).read_bytes()
        (broken / name).write_bytes(content if name != names[0] else content[:200])
    count = len(list(candidates(load_annotated(annotations, broken), SampleCriteria())))
    line = ["sample_calibration_images", "-a", str(annotations), "-i", str(broken), "-o", str(tmp_path / "out")]
    assert main([*line, "-n", str(count - 1)]) == 0
    assert names[0] not in {path.name for path in (tmp_path / "out").iterdir()}
    assert main([*line[:-1], str(tmp_path / "all"), "-n", str(count)]) == 1
