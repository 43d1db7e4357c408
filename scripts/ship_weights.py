"""Turn a trained model into weights that ship: half-precision kernels, measured as they will be read, told honestly.

The file gets, beside its skeleton, normalisation and spec, what is known about it under `extra`: the average precision
with its bootstrap interval at each size given, how many pictures training drew, and what it was trained on.
The decoder's thresholds become those of the inference spec.

    python scripts/ship_weights.py -m models/limbnet_s/model.best.tlt -o src/limbnet/weights/limbnet-s.tlt \
        -d specs/dataset_coco_mini.json -i specs/infer_limbnet_s.yaml \
        --size 256,320 --size 384,384:pad_image_input --data "coco-mini train, ..."
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from limbnet.commands import flags
from limbnet.devices import set_threads
from limbnet.errors import LimbnetError
from limbnet.evaluation.bootstrap import bootstrap_ap
from limbnet.evaluation.dataset import evaluate_dataset, load_test_data
from limbnet.models.bodyposenet import first_stages
from limbnet.models.checkpoint import load_model, save_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.torch_engine import TorchEngine
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.inference import InferenceSpec
from limbnet.specs.load import load_dataset_spec, load_inference_spec


def measure(path: Path, spec: DatasetSpec, size: str, scales: tuple[float, ...]) -> dict[str, Any]:
    """Return AP, AP50, AR and the interval of AP of a model file at a size written `H,W` or `H,W:fit mode`."""
    sides, _, mode = size.partition(":")
    height, width = (int(side) for side in sides.split(","))
    settings: dict[str, Any] = {
        "input_shape": (height, width),
        "keep_aspect_ratio_mode": mode or "adjust_network_input",
        "multi_scale_inference": True,
        "scales": scales,
    }
    loaded = load_model(path)
    engine = TorchEngine(loaded.model, loaded.info, torch.device("cpu"))
    estimator = PoseEstimator.from_spec(engine, InferenceSpec.model_validate(settings))
    scores = evaluate_dataset(estimator, load_test_data(spec, loaded.info.skeleton)).scores
    interval = bootstrap_ap(scores)
    return {
        "dataset": spec.dataset,
        "part": "test",
        "pictures": len(scores.images),
        "input_size": [height, width],
        "fit_mode": settings["keep_aspect_ratio_mode"],
        "scales": list(scales),
        "AP": round(interval.value, 4),
        "AP_interval_95": [round(interval.low, 4), round(interval.high, 4)],
        "AP50": round(float(scores.values[1]), 4),
        "AR": round(float(scores.values[5]), 4),
    }


def seen_pictures(info: ModelInfo) -> dict[str, int]:
    """Return how far training went: epochs, and samples drawn by then (those of a mosaic count once)."""
    epoch = int(info.extra.get("epoch", 0))
    length = info.spec["dataloader"]["dataset_config"].get("samples_per_epoch")
    batch = info.spec["dataloader"]["batch_size"]
    return {"epochs": epoch} | ({"samples_seen": epoch * (length // batch) * batch} if length else {})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True, help="trained model")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to ship")
    parser.add_argument("-d", "--dataset_spec", type=Path, required=True, help="its test data are measured")
    parser.add_argument("-i", "--inference_spec", type=Path, help="its thresholds are the file's")
    parser.add_argument("--size", action="append", required=True, help="H,W or H,W:fit mode; the first is the default")
    parser.add_argument("--data", required=True, help="what it was trained on, in words")
    parser.add_argument("--scales", type=flags.scales, default=(1.0,), help="what the file averages over by default")
    parser.add_argument("--stages", type=int, help="leave out what comes after so many stages")
    parser.add_argument("--note", default="", help="what else must be said")
    args = parser.parse_args()
    set_threads()
    spec = load_dataset_spec(args.dataset_spec)
    loaded = load_model(args.model)
    if args.stages is not None:
        told = loaded.info.spec | {"model": loaded.info.spec["model"] | {"stages": args.stages}}
        loaded = replace(loaded, model=first_stages(loaded.model, args.stages), info=replace(loaded.info, spec=told))
    sides = args.size[0].partition(":")[0].split(",")
    thresholds = load_inference_spec(args.inference_spec).thresholds() if args.inference_spec else {}
    decoder = replace(loaded.info.decoder, **thresholds)
    info = replace(loaded.info, input_size=(int(sides[0]), int(sides[1])), scales=args.scales, decoder=decoder)
    with TemporaryDirectory() as folder:
        rounded = Path(folder) / "rounded.tlt"
        save_model(rounded, loaded.model, info, dtype=torch.float16)
        asked = [(args.size[0], args.scales)] if args.scales != (1.0,) else []
        measured = [measure(rounded, spec, *one) for one in (*asked, *((size, (1.0,)) for size in args.size))]
    extra = seen_pictures(loaded.info) | {
        "name": args.output.stem,
        "kernels": "float16",
        "trained_on": args.data,
        "measured": measured,
    }
    extra |= {"note": args.note} if args.note else {}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_model(args.output, loaded.model, replace(info, extra=extra), dtype=torch.float16)
    print(json.dumps(extra, indent=2))
    print(f"Written: {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    try:
        main()
    except LimbnetError as error:
        sys.exit(str(error))
