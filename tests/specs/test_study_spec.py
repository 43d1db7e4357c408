"""Studies: what a row may say, and every mistake with its line."""

from __future__ import annotations

import pytest
from spec_text import Write, mistakes

from limbnet.specs.load import load_study_spec

ROWS = {
    "{row: a, model: hrnet_w32_256x191, boxes: detected}": (
        "4: rows[0].model: there is no network 'hrnet_w32_256x191'. Did you mean 'hrnet_w32_256x192'?"
    ),
    "{row: a, model: hrnet_w32_256x192}": "4: rows[0].boxes: is missing: 'detected' or 'ground_truth'",
    "{row: a, model: hrnet_w32_256x192, boxes: true}": (
        "4: rows[0].boxes: found true, expected 'detected' or 'ground_truth'"
    ),
    "{row: a, model: dekr_w32_512, boxes: detected}": "4: rows[0].boxes: is given, but this network is bottom-up",
    "{row: a, model: dekr_w32_512, batch: 2}": "4: rows[0].batch: is 2, but only the crops of top-down networks",
    "{row: a, model: dekr_w32_512, scales: [0.5, 2]}": "measures the others by 1.0: add it",
    "{row: a, model: higherhrnet_w32_512, scales: [1, 1]}": "4: rows[0].scales: names a scale twice",
    "{row: a, model: openpose_body25, flip: true}": "4: rows[0].flip: is true, but OpenPose BODY_25 has no flip test",
    "{row: a, model: openpose_coco, scales: [0.5]}": "runs at one scale",
    "{row: a, model: dekr_rescore_coco}": "it belongs to 'rescoring' of a DEKR row",
    "{row: a, model: openpose_coco, rescoring: x.pth}": "4: rows[0].rescoring: is given, but only DEKR is rescored",
    "{row: a, model: openpose_coco, precision: int8}": "torch runs published networks in fp32: set engine",
    "{row: a, model: openpose_coco, engine: tensorrt}": "published networks run on torch, onnxruntime, openvino",
    "{row: a, model: dekr_w32_512, input_size: [500, 500]}": "both sides must be multiples of 32",
    "{row: a, model: dekr_w32_512, input_size: [512, 640]}": "give the length of the short side twice",
    "{row: a, model: transpose_r_a3_256x192, boxes: detected, input_size: [128, 96]}": "is built for [256, 192]",
    "{row: a, model: limbnet}": "4: rows[0].model: is 'limbnet', so checkpoint must name a file that limbnet wrote",
    "{row: ../a, model: dekr_w32_512}": "4: rows[0].row: found the text '../a'",
    "{row: a, model: dekr_w32_512, checkpiont: x}": "Did you mean 'checkpoint'?",
    "{model: dekr_w32_512}": "4: 'rows[0].row' is missing",
}


@pytest.mark.parametrize("row", ROWS)
def test_mistakes_of_rows(write: Write, row: str) -> None:
    path = write(f"dataset: coco.json\nsynthetic_detections: {{}}\nrows:\n  - {row}\n")
    found = mistakes(load_study_spec, path)
    assert any(ROWS[row] in line for line in found), found
    assert not any("expected at least" in line for line in found), "a bad row is a row"


def test_mistakes_of_studies(write: Write) -> None:
    row = "{row: ROW, model: hrnet_w32_256x192, boxes: detected}"
    text = f"dataset: coco.json\nimages: [3, 3]\nrows:\n  - {row}\n  - {row.replace('ROW', 'row')}\n"
    assert mistakes(load_study_spec, write(text)) == [
        "1: detections: is missing, but rows ROW, row want detected boxes: name a COCO results file, or give "
        "synthetic_detections",
        "2: images: names a picture twice",
        "5: rows[1]: is called 'row', as rows[0] is: every row needs its own name",
    ]
    both = "detections: a.json\nsynthetic_detections: {}\n"
    (line,) = mistakes(load_study_spec, write(f"dataset: coco.json\n{both}rows: [{row}]\n"))
    assert line == "3: synthetic_detections: is given beside detections: leave one of them out"
    assert mistakes(load_study_spec, write("dataset: coco.json\nrows: []\n")) == [
        "2: rows: found a list of 0, expected at least 1"
    ]


def test_a_row_of_limbnets_own(write: Write) -> None:
    text = "{row: mine, model: limbnet, checkpoint: mine.onnx, precision: int8, engine: openvino, scales: [1, 2]}"
    (row,) = load_study_spec(write(f"dataset: coco.json\nrows: [{text}]\n")).rows
    assert (row.top_down, row.entry, row.scales) == (False, None, (1.0, 2.0))
