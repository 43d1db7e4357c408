"""A network of each family learns four pictures by heart, from initial weights, and finds their people again.

Small inputs, no random changes; measured with the system's own estimator on the written weight file; Lite-HRNets then
on their exports in every precision on ONNX Runtime and OpenVINO too. Run by `make test-long`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbnet.data.boxes import true_boxes
from limbnet.evaluation.coco import evaluate_keypoints
from limbnet.evaluation.dataset import TestData, load_test_data
from limbnet.export.zoo import compare_zoo, in_precision, zoo_graph
from limbnet.models.zoo import create_model
from limbnet.models.zoo.weights import load_weights
from limbnet.runtime.zoo.exported import ExportedZooNetwork
from limbnet.runtime.zoo.load import as_trained, estimator_for
from limbnet.runtime.zoo.network import TorchZooNetwork
from limbnet.runtime.zoo.topdown import HRNET, RULES
from limbnet.skeleton import COCO_17
from limbnet.specs.load import load_dataset_spec
from limbnet.training.loop import train

from .conftest import CENTRAL, FOUR, MakeZooSpec, cut_square, write_dataset

STILL = {
    "flip_lr_prob": 0,
    "crop_params": {"scale_factor": 0, "rotate_factor": 0, "half_body_prob": 0},
    "picture_params": {"scale_min": 1, "scale_max": 1, "rotate_deg_max": 0, "translate_ratio": 0},
}

#: AP that exports may lose against torch, and their largest mean deviation from it as a share of the range.
LOST = {"fp32": (0.01, 1e-5), "fp16": (0.02, 2e-3), "int8": (0.1, 0.015)}


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("zoo", "size", "epochs", "rate", "pictures"),
    [
        ("litehrnet_18_256x192", (128, 96), 200, 3e-3, FOUR),
        ("naive_litehrnet_18_256x192", (128, 96), 200, 3e-3, FOUR),
        ("hrnet_w32_256x192", (96, 64), 50, 2e-3, FOUR),
        ("darkpose_hrnet_w32_256x192", (96, 64), 50, 2e-3, FOUR),
        ("higherhrnet_w32_512", (128, 128), 120, 1e-3, FOUR),
        ("dekr_w32_512", (128, 128), 200, 2e-3, CENTRAL),
    ],
)
def test_four_pictures_are_learnt_by_heart(
    zoo: str, size: tuple[int, int], epochs: int, rate: float, pictures: tuple[int, ...], make_zoo_spec: MakeZooSpec,
    root: Path, tmp_path: Path,
) -> None:  # fmt: skip
    four = write_dataset(tmp_path, root, pictures, 8 if pictures is FOUR else 6)
    if pictures is CENTRAL:
        cut_square(four)
    top_down = size[0] != size[1]
    other = "picture_params" if top_down else "crop_params"
    loader: dict[str, Any] = {
        "batch_size": 8 if top_down else 4,
        "dataset_config": {"dataset_specs": {"four": str(four)}},
        "augmentation_config": {key: value for key, value in STILL.items() if key != other},
    }
    optimizer = {
        "__class_name__": "AdamWOptimizer",
        "weight_decay": 0.0,
        "betas": [0.9, 0.95],
        # DEKR's offsets begin at 0 and are several cells long; in a hundred small steps they would not get there.
        "grad_weights_dict": {f"offset_final_layer.{joint}": 10.0 for joint in range(17)} if "dekr" in zoo else None,
        "learning_rate_schedule": {
            "__class_name__": "CosineLearningRateSchedule",
            "learning_rate": rate,
            "warmup": 0.05,
        },
    }
    spec = make_zoo_spec(
        zoo, size, num_epoch=epochs, checkpoint_n_epoch=epochs, max_ckpt_to_keep=1, validation_every_n_epoch=epochs,
        optimizer=optimizer, dataloader=loader,
    )  # fmt: skip
    result = train(spec, tmp_path / "run", device="cpu")
    data = load_test_data(load_dataset_spec(four, quiet=True), COCO_17)
    entry, skeleton = as_trained(zoo, result.model)
    network = create_model(zoo, joints=entry.joints, input_size=entry.input_size)
    load_weights(network, entry, result.model)
    learnt = TorchZooNetwork(network, entry, torch.device("cpu"))
    seen = Seen(learnt)
    found = average_precision(estimator_for(seen, skeleton=skeleton), data)
    print(f"{zoo} at {size[0]}x{size[1]}: AP {found:.3f} after {epochs} updates")
    assert found > 0.5
    assert result.history[-1]["AP"] == pytest.approx(found, abs=0.02)  # other batches, other last digits
    if "litehrnet" not in zoo:
        return  # made-up weights do for the others' exports, in test_zoo_precisions.py
    graph = zoo_graph(network, entry)
    for precision, (allowed, mean) in LOST.items():
        converted = in_precision(graph, entry, precision, seen.inputs, threads=1)
        for engine in ("onnxruntime", "openvino"):
            exported = ExportedZooNetwork(converted, entry, engine, 1)
            deviation = compare_zoo(learnt, exported, precision, seen.inputs)
            ap = average_precision(estimator_for(exported, skeleton=skeleton), data)
            print(f"  {deviation}: AP {ap:.3f}")
            assert ap > found - allowed
            assert deviation.mean < mean


class Seen:
    """A network that keeps what it was given, picture by picture."""

    def __init__(self, network: TorchZooNetwork) -> None:
        self.entry, self.name, self._network = network.entry, network.name, network
        self.inputs: list[NDArray[np.uint8]] = []

    def run(self, images: NDArray[Any]) -> Any:
        self.inputs += list(images)
        return self._network.run(images)


def average_precision(estimator: Any, data: TestData) -> float:
    """Return AP on the true boxes of a dataset's test data."""
    wider = RULES.get(estimator.network.entry.name, HRNET).unbiased
    results = []
    for number, image in enumerate(data.images):
        boxes = true_boxes(data.coco.annotations(number), (image.height, image.width), wider)
        results += estimator(image.path, boxes).to_coco(image.id, data.joints, data.category_id)
    return evaluate_keypoints(data.annotation_file, results, data.sigmas, data.category_id).ap
