"""The parts of a study: drawn maps, made-up boxes, the Pareto front, charts and tables of rows made by hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limbnet.benchmark.study import SPEED_ONLY, Outcome, Refused, Study, pareto_front
from limbnet.benchmark.study_charts import draw_study
from limbnet.benchmark.study_data import StudyData, load_study_data, placed
from limbnet.benchmark.study_maps import expected_answer, render_answer
from limbnet.benchmark.study_report import CSV_COLUMNS, circumstances, tables, write_study
from limbnet.data.targets import LAST_USED_CODE
from limbnet.evaluation.coco import METRICS
from limbnet.models.zoo import find
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.zoo.load import estimator_for
from limbnet.specs.load import load_study_spec
from limbnet.specs.study import SyntheticBoxes

#: A picture of two people apart, and one of four.
PAIR, FOUR = 188388, 174375

#: And one of eight, of whom one is labelled by a single joint.
CROWD = 389


@pytest.fixture
def data(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyData:
    monkeypatch.chdir(root)
    spec = load_study_spec(root / "specs" / "study_tiny.yaml")
    return load_study_data(spec.model_copy(update={"images": (PAIR, FOUR)}))


class Silent:
    """A network that says nothing, in the right shapes: only they count for drawn maps."""

    name = "silent fp32"

    def __init__(self, name: str) -> None:
        self.entry = find(name)

    def run(self, images):
        count, height, width, _ = images.shape
        channels = {
            "joint_maps": ((17, 4),), "tag_maps": ((34, 4), (17, 2)), "offset_maps": ((18, 4), (34, 4)),
            "part_maps": ((26, 8), (52, 8)) if "25" in self.entry.name else ((19, 8), (38, 8)),
        }[self.entry.head]  # fmt: skip
        return tuple(np.zeros((count, number, height // by, width // by), np.float32) for number, by in channels)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hrnet_w32_256x192", {"flip": True}),
        ("darkpose_hrnet_w48_384x288", {"flip": True}),
        ("higherhrnet_w32_512", {"flip": True, "scales": (0.5, 1.0, 2.0)}),
        ("dekr_w32_512", {"flip": True}),
        ("dekr_w32_512", {"scales": (0.5, 1.0, 2.0)}),
        ("openpose_body25", {}),
        ("openpose_coco", {}),
    ],
)
def test_decoders_find_in_drawn_maps_who_is_in_the_picture(data: StudyData, name: str, options: dict) -> None:
    """So the time of decoding is that of decoding people, and no frame or channel is confused on the way."""
    estimator = estimator_for(Silent(name), **options)
    place = data.places[0]
    picture = as_picture(data.coco.images[place].path)
    boxes = data.boxes(place, "ground_truth")
    inputs = estimator.prepare(picture, boxes)
    answer = estimator.run(inputs)
    one = inputs.images[-1]
    expected = expected_answer(estimator, inputs, estimator.network.run(one[None]), one.shape[0])
    assert [[t.shape for t in view] for view in answer] == [[t.shape for t in view] for view in expected]
    joints = data.joints(place, estimator.skeleton)
    drawn = render_answer(estimator, inputs, answer, joints)
    assert [[t.shape for t in view] for view in drawn] == [[t.shape for t in view] for view in answer]
    poses = estimator.decode(inputs, drawn)
    truth = placed(joints)
    assert len(poses) >= len(truth) == 2
    for person in truth:
        known = ~np.isnan(person[:, 0])
        apart = np.linalg.norm(poses.keypoints[:, known] - person[known], axis=-1)
        assert np.nanmin(np.nanmedian(apart, axis=1)) < 4


@pytest.mark.parametrize("name", ["hrnet_w32_256x192", "darkpose_hrnet_w32_256x192"])
@pytest.mark.parametrize("flip", [False, True])
def test_drawn_crops_are_not_off_to_one_side(data: StudyData, name: str, flip: bool) -> None:
    """HRNet's flip test moves the mirrored map by a cell, and so expects it three quarters of a cell too far left."""
    estimator = estimator_for(Silent(name), flip=flip)
    place = data.places[0]
    inputs = estimator.prepare(as_picture(data.coco.images[place].path), data.boxes(place, "ground_truth"))
    joints = data.joints(place, estimator.skeleton)
    poses = estimator.decode(inputs, render_answer(estimator, inputs, estimator.run(inputs), joints))
    truth = placed(joints)
    apart = np.linalg.norm(poses.keypoints[:, None] - truth, axis=-1)
    pairs = enumerate(np.nanmedian(apart, axis=2).argmin(axis=1))
    sideways = np.concatenate([poses.keypoints[found, :, 0] - truth[person, :, 0] for found, person in pairs])
    corners = np.broadcast_to(np.array([[0.0, 0.0], [1.0, 0.0]]), (len(inputs.crops), 2, 2))
    cell = np.ptp(inputs.crops.to_picture(corners, (64, 48))[..., 0], axis=1).mean()
    assert abs(np.nanmean(sideways)) < 0.2 * cell


def test_people_of_a_single_labelled_joint_are_drawn_once(root: Path, data: StudyData) -> None:
    """A pose without extent is close to no other, so DEKR would find it anew at every scale."""
    crowd = load_study_data(load_study_spec(root / "specs" / "study_tiny.yaml").model_copy(update={"images": (CROWD,)}))
    estimator = estimator_for(Silent("dekr_w32_512"), scales=(0.5, 1.0, 2.0))
    place = crowd.places[0]
    joints = crowd.joints(place, estimator.skeleton)
    assert ((joints[..., 2] <= LAST_USED_CODE).sum(axis=1) == 1).any()
    inputs = estimator.prepare(as_picture(crowd.coco.images[place].path))
    poses = estimator.decode(inputs, render_answer(estimator, inputs, estimator.run(inputs), joints))
    assert len(poses) == len(joints)


def test_made_up_boxes(data: StudyData) -> None:
    found = [data.boxes(place, "detected") for place in data.places]
    assert all(17 <= len(boxes) <= 23 for boxes in found)
    for place, boxes in zip(data.places, found, strict=True):
        image = data.coco.images[place]
        assert (boxes.boxes[:, :2] >= 0).all()
        assert (boxes.boxes[:, :2] + boxes.boxes[:, 2:] <= (image.width + 1e-6, image.height + 1e-6)).all()
        assert (boxes.boxes[:, 2:] > 0).all()
        assert (np.diff(boxes.scores) <= 0).all()
        sure = boxes.boxes[boxes.scores >= 0.6]
        true = data.boxes(place, "ground_truth").boxes
        assert len(sure) == len(true)
    spec = load_study_spec("specs/study_tiny.yaml")
    alone = load_study_data(spec.model_copy(update={"images": (FOUR,)}))
    assert np.array_equal(alone.boxes(alone.places[0], "detected").boxes, found[1].boxes), (
        "other pictures change nothing"
    )
    other = spec.model_copy(update={"images": (FOUR,), "synthetic_detections": SyntheticBoxes(seed=1)})
    changed = load_study_data(other)
    assert changed.fingerprint != alone.fingerprint
    assert not np.array_equal(changed.boxes(alone.places[0], "detected").boxes, found[1].boxes)


def by_hand(row: str, fps: float, ap: float | None, *, label: str = "", boxes: str = "", own: bool = False) -> Outcome:
    facts = {"engine": "torch", "precision": "fp32", "device": "cpu", "threads": 2, "input_size": [256, 192],
             "parameters": 28_536_113, "multiply_adds": 7_645_003_776}  # fmt: skip
    values = {} if ap is None else {name: ap for *_, name in METRICS}
    return Outcome(
        row, label or f"System {row}", own, bool(boxes), boxes, "checkpoint" if ap is not None else SPEED_ONLY, 2, 5,
        fps, (fps * 0.9, fps * 1.1), fps * 1.2, 12.5,
        {"read": 5.0, "prepare": 1.0, "network": 100.0, "decode": 2.0}, 3, facts, 150_000_000, values,
        None if ap is None else (ap - 0.05, ap + 0.05), 74.4, () if ap is not None else (SPEED_ONLY,),
    )  # fmt: skip


def study(*outcomes: Outcome) -> Study:
    here = {"processor": "a processor", "gpu": None, "cores": 2, "load_average": 0.1, "system": "a system",
            "versions": {"limbnet": "0"}}  # fmt: skip
    return Study(list(outcomes), 2, 3, "made up", here)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=12))
def test_pareto_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    rows = [by_hand(str(number), fps, ap / 10) for number, (ap, fps) in enumerate(points)]
    front = {(one.accuracy, one.fps) for one in pareto_front([*rows, by_hand("fast", 1e9, None)])}
    beaten = {
        (a.accuracy, a.fps)
        for a in rows
        for b in rows
        if b.accuracy >= a.accuracy and b.fps >= a.fps and (b.accuracy, b.fps) != (a.accuracy, a.fps)
    }
    assert front == {(one.accuracy, one.fps) for one in rows} - beaten


MIXED = (
    by_hand("a", 3.0, 0.74, label="HRNet-W32 256x192, detected boxes", boxes="detected"),
    by_hand("b", 40.0, 0.76, label="HRNet-W32 256x192, true boxes", boxes="ground truth"),
    by_hand("i", 1.0, 0.77, label="DarkPose HRNet-W48 384x288, detected boxes", boxes="detected"),
    by_hand("q", 5.0, None, label="Lite-HRNet-18 256x192, detected boxes, flip", boxes="synthetic"),
    by_hand("s", 9.0, 0.60, label="OpenPose BODY_25"),
    by_hand("t", 1.5, 0.67, label="HigherHRNet-W32 512"),
    by_hand("v", 2.0, None, label="DEKR-W32 512"),
    by_hand("mine", 70.0, 0.45, label="bpnet_model.tlt", own=True),
)


def test_charts_of_rows_with_and_without_weights(tmp_path: Path) -> None:
    paths = draw_study(tmp_path / "mixed", study(*MIXED))
    assert [path.name for path in paths] == [
        f"{name}.{kind}" for name in ("top-down", "bottom-up", "all") for kind in ("png", "svg")
    ]
    for path in paths[::2]:
        with Image.open(path) as image:
            assert min(image.size) > 500
    words = [path.read_text() for path in paths[1::2]]
    assert all("speed only" in text for text in words)
    assert ["Pareto front" in text for text in words] == [False, False, True]
    again = draw_study(tmp_path / "again", study(*MIXED))
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_charts_without_any_accuracy_are_bars(tmp_path: Path) -> None:
    paths = draw_study(tmp_path, study(MIXED[3]))
    assert [path.name for path in paths] == ["top-down.png", "top-down.svg", "all.png", "all.svg"]
    text = paths[1].read_text()
    assert SPEED_ONLY in text
    assert "made-up boxes" in text, "no detector's"


def test_a_row_that_cannot_run_stands_in_every_file_with_its_operator(tmp_path: Path) -> None:
    refused = Refused(
        "x", "DEKR-W32 512, openvino int8", "OpenVINO 9", "int8", ("Det",), "No rule | for Det", "All of it"
    )
    whole = replace(study(*MIXED), refused=[refused])
    *_, table = tables(whole)
    assert (table.title, len(table.cells)) == ("Cannot run", 1)
    assert table.cells[0][2:] == ("OpenVINO 9", "int8", "Det", "No rule / for Det")
    jsonl, rows, page = write_study(tmp_path, whole)
    assert json.loads(jsonl.read_text().splitlines()[-1])["cannot_run"]["said"] == "All of it"
    line = list(csv.DictReader(rows.open()))[-1]
    assert (line["row"], line["fps"], line["notes"]) == ("x", "", "cannot run; operator: Det")
    assert "## Cannot run" in page.read_text()
    assert len(tables(study(*MIXED))) == 2


def test_tables_and_files_say_which_rows_have_no_weights(tmp_path: Path) -> None:
    whole = study(*MIXED)
    speed, accuracy = tables(whole)
    assert [line[2] for line in speed.cells] == [
        "0.740", "0.760", "0.770", "speed only", "0.600", "0.670", "speed only", "0.450",
    ]  # fmt: skip
    assert [(line[0], line[-1]) for line in accuracy.cells if line[-1]] == [("b", "yes"), ("i", "yes"), ("mine", "yes")]
    assert any("Rows q, v: initial weights: speed only" in line for line in circumstances(whole))
    jsonl, table, page = write_study(tmp_path, whole)
    lines = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert [line["weights"] == SPEED_ONLY for line in lines] == [one.accuracy is None for one in MIXED]
    head, *rows = table.read_text().splitlines()
    assert head == ",".join(CSV_COLUMNS)
    assert SPEED_ONLY in rows[3]
    assert "- v: initial weights: speed only" in page.read_text()
