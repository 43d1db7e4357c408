"""Where quantisation-aware training beats calibration: AP that INT8 costs after either, in pairs.

A trained network is fine-tuned twice by the same recipe, on the same batches: once in float, once with the roundings of
INT8 (`quantize: int8`). The float one is exported by every calibration method, the other by the ranges it learnt. All
files are evaluated in strict mode by ONNX Runtime; differences stand with their 95 % bootstrap interval over pictures.
Without `-m` the network of the train spec is trained first. The last line is JSON.

    limbnet dataset_convert -d specs/dataset_examples.json -o demo/records/train --generate_masks
    python benchmarks/int8_training.py                                    # specs/tiny_cpu.yaml, the example pictures
    python benchmarks/int8_training.py -m MODEL -e SPEC -d DATASET --epochs 20
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from limbnet.console import set_up_logging
from limbnet.evaluation.bootstrap import Interval, bootstrap_difference
from limbnet.evaluation.coco import KeypointScores
from limbnet.evaluation.dataset import load_test_data
from limbnet.export.accuracy import strict_scores
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.export.ranges import METHODS
from limbnet.models.checkpoint import load_model
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.specs.load import load_dataset_spec, load_train_spec
from limbnet.specs.optimiser import AdamW, CosineSchedule
from limbnet.specs.train import TrainSpec
from limbnet.training.loop import train
from reporting import report

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, help="a trained checkpoint; without it one is trained")
    parser.add_argument("-e", "--train_spec", type=Path, default=ROOT / "specs/tiny_cpu.yaml")
    parser.add_argument("-d", "--dataset_spec", type=Path, default=ROOT / "specs/dataset_examples.json")
    parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning")
    parser.add_argument("--rate", type=float, default=2e-4, help="highest learning rate of fine-tuning")
    parser.add_argument("--pictures", type=int, default=20, help="to calibrate with")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    set_up_logging("WARNING")
    with tempfile.TemporaryDirectory() as folder:
        rows, result = measure(args, Path(folder))
    report("int8 after training", ("network", "precision", "AP", "minus float AP"), rows, result)


def measure(args: argparse.Namespace, folder: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """Fine-tune, export and evaluate everything; return the table and the values."""
    spec, dataset = load_train_spec(args.train_spec), load_dataset_spec(args.dataset_spec)
    model = args.model or train(spec, folder / "trained").model
    info = load_model(model).info
    data = load_test_data(dataset, info.skeleton)
    pictures = dataset.root_directory_path / dataset.part("train").images_root_dir_path

    def scored(name: str, network: Path, calibration: Calibration, precision: Any) -> KeypointScores:
        settings = ExportSettings(precision, info.input_size, threads=args.threads)
        exported, _ = export_file(network, folder / f"{name}.onnx", settings, calibration=calibration)
        return strict_scores(OnnxRuntimeEngine(exported, threads=args.threads), data, info.input_size)

    calibration = Calibration(image_dir=pictures, batches=args.pictures)
    plain = train(fine_tuning(spec, model, args, quantize=None), folder / "float").model
    aware = train(fine_tuning(spec, model, args, quantize="int8"), folder / "aware").model
    exact = scored("float", plain, calibration, "fp32")
    scores = {
        f"calibrated, {method}": scored(
            method, plain, Calibration(image_dir=pictures, batches=args.pictures, method=method), "int8"
        )
        for method in METHODS
    }
    best = max(scores.values(), key=lambda one: one.ap)
    scores["quantisation-aware"] = scored("aware", aware, calibration, "int8")
    changes = {name: bootstrap_difference(exact, one) for name, one in scores.items()}
    gain = bootstrap_difference(best, scores["quantisation-aware"])
    rows = [["fine-tuned in float", "fp32", f"{exact.ap:.4f}", ""]]
    rows += [[name, "int8", f"{one.ap:.4f}", shown(changes[name])] for name, one in scores.items()]
    rows.append(["quantisation-aware minus best calibrated", "", "", shown(gain)])
    return rows, {
        "pictures": len(data.images),
        "AP": {"float": exact.ap, **{name: one.ap for name, one in scores.items()}},
        "differences": {name: [one.value, one.low, one.high] for name, one in changes.items()},
        "gain": [gain.value, gain.low, gain.high],
    }


def fine_tuning(spec: TrainSpec, model: Path, args: argparse.Namespace, quantize: str | None) -> TrainSpec:
    """Return the recipe of the fine-tuning that both share."""
    return spec.model_copy(
        update={
            "quantize": quantize,
            "pretrained_weights": model,
            "load_graph": True,
            "num_epoch": args.epochs,
            "checkpoint_n_epoch": args.epochs,
            "validation_every_n_epoch": 0,
            "optimizer": AdamW(learning_rate_schedule=CosineSchedule(learning_rate=args.rate, warmup=0.05)),
        }
    )


def shown(interval: Interval) -> str:
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


if __name__ == "__main__":
    main()
