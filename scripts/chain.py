"""The manuals' whole chain on one small network: train, prune, retrain, export, evaluate, convert, run.

Every step is a `limbnet` command as a user types it. At the end stands a table of AP, size and latency for each stage
and precision, as text and in `chain.json`.

    python scripts/chain.py -o results/chain                        # trains specs/tiny_cpu.yaml first
    python scripts/chain.py -o results/chain --model MODEL.tlt      # begins at a trained model
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from limbnet.benchmark.timing import medians
from limbnet.cli import main as limbnet
from limbnet.files import write_json, write_text
from limbnet.models.checkpoint import load_model
from limbnet.models.counting import count_cost
from limbnet.runtime.load import load_engine
from limbnet.specs.load import load_dataset_spec, load_train_spec, resolved

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Row:
    """One line of the table.

    Attributes:
        stage: which step wrote the file.
        precision: of the file.
        engine: what ran it.
        file: the file.
        parameters: of the network.
        size: of the file (for OpenVINO of both), in bytes.
        ap: in strict mode.
        latency: median milliseconds of one picture, all files timed in turn.
    """

    stage: str
    precision: str
    engine: str
    file: Path
    parameters: int
    size: int = 0
    ap: float = 0.0
    latency: float = 0.0


class Chain:
    """The chain in one folder; see `arguments` for what can be chosen."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.output
        self.spec = load_train_spec(options.train_spec)
        dims = self.spec.dataloader.image_config.image_dims
        self.size = (dims.height, dims.width)
        self.rows: list[Row] = []
        self.out.mkdir(parents=True, exist_ok=True)
        strict = f"input_shape: [{dims.height}, {dims.width}]\nkeep_aspect_ratio_mode: pad_image_input\n"
        write_text(self.out / "strict.yaml", strict)
        dataset = load_dataset_spec(options.dataset_spec)
        self.pictures = dataset.root_directory_path / dataset.part("test").images_root_dir_path

    def run(self) -> list[Row]:
        """Run all steps; return the table."""
        out, trained = self.out, self.options.model or self.train()
        self.measure("trained", "fp32", trained, trained)
        pruned = out / "pruned.tlt"
        self.command(
            "prune", "-m", trained, "-o", pruned, "-eq", "union", "-pth", self.options.threshold, "--overwrite"
        )
        self.measure("pruned", "fp32", pruned, pruned)
        retrained = self.retrain(pruned)
        self.measure("retrained", "fp32", retrained, retrained)
        for precision in ("fp32", "fp16", "int8"):
            file = out / f"model.{precision}.onnx"
            self.command(
                "export", "-m", retrained, "-o", file, "-t", "onnx", "--data_type", precision, "--overwrite",
                "--cal_image_dir", self.pictures, "--cal_cache_file", self.fresh(out / "cal.bin"),
                "--batches", self.options.calibration_pictures,
            )  # fmt: skip
            self.measure("exported", precision, file, retrained)
        for precision in ("fp32", "int8"):
            file = out / f"model.{precision}.xml"
            self.command("convert", out / f"model.{precision}.onnx", "-e", file, "--overwrite")
            self.measure("converted", precision, file, retrained)
        if self.options.gpu_arch:
            engine = out / "model.int8.engine"
            self.command(
                "convert", out / "model.int8.onnx", "-e", engine, "--gpu_arch", *self.options.gpu_arch,
                "-d", f"{self.size[0]},{self.size[1]},3", "-m", 1, "--overwrite",
            )  # fmt: skip
        self.command(
            "inference", "-i", out / "strict.yaml", "-m", out / "model.int8.xml", "--input_type", "dir",
            "--input", self.pictures, "--results_dir", out / "inference", "--dump_visualizations",
        )  # fmt: skip
        self.time()
        return self.rows

    def train(self) -> Path:
        """Train from the beginning."""
        self.command("train", "-e", self.options.train_spec, "-r", self.out / "trained")
        return self.out / "trained" / f"{self.spec.final_model_name}.tlt"

    def retrain(self, pruned: Path) -> Path:
        """Retrain the pruned graph by the same recipe, with gentler steps: it has learnt already."""
        epochs = self.options.retrain_epochs or self.spec.num_epoch
        schedule = self.spec.optimizer.learning_rate_schedule
        highest = "base_learning_rate" if hasattr(schedule, "base_learning_rate") else "learning_rate"
        gentler = schedule.model_copy(update={highest: self.options.retrain_rate * getattr(schedule, highest)})
        changes = {
            "load_graph": True, "pretrained_weights": pruned, "num_epoch": epochs, "checkpoint_n_epoch": epochs,
            "optimizer": self.spec.optimizer.model_copy(update={"learning_rate_schedule": gentler}),
            "validation_every_n_epoch": 0, "max_ckpt_to_keep": 1, "final_model_name": "retrained",
        }  # fmt: skip
        write_text(self.out / "retrain.yaml", resolved(self.spec.model_copy(update=changes)))
        self.command("train", "-e", self.out / "retrain.yaml", "-r", self.out / "retrained")
        return self.out / "retrained" / "retrained.tlt"

    def measure(self, stage: str, precision: str, file: Path, checkpoint: Path) -> None:
        """Evaluate a file in strict mode and add its row."""
        engine = load_engine(file, device="cpu").name
        results = self.out / "evaluation" / f"{stage}-{precision}"
        self.command(
            "evaluate", "-i", self.out / "strict.yaml", "-d", self.options.dataset_spec, "-m", file, "-r", results,
            "--bootstrap", 0, "--device", "cpu",
        )  # fmt: skip
        with (results / "results.csv").open() as table:
            ap = float(next(csv.DictReader(table))["score"])
        parts = [file, *([file.with_suffix(".bin")] if file.suffix == ".xml" else [])]
        parameters = count_cost(load_model(checkpoint).model, self.size).parameters
        self.rows.append(
            Row(stage, precision, engine, file, parameters, sum(part.stat().st_size for part in parts), ap)
        )

    def time(self) -> None:
        """Time all files in turn, one picture a run."""
        engines = [load_engine(row.file, device="cpu", threads=self.options.threads) for row in self.rows]
        picture = np.random.default_rng(0).integers(0, 256, (1, *self.size, 3), np.uint8)
        seconds = medians([lambda engine=engine: engine.run(picture) for engine in engines], rounds=15)
        for row, median in zip(self.rows, seconds, strict=True):
            row.latency = 1000 * median

    def command(self, name: str, *words: object) -> None:
        """Run one limbnet command and stop the chain when it fails."""
        line = [name, *map(str, words)]
        if name in ("prune", "export"):
            line += ["-r", str(self.out / "status")]
        print("\n$ limbnet " + " ".join(line), flush=True)
        code = limbnet(line)
        if code:
            sys.exit(code)

    @staticmethod
    def fresh(cache: Path) -> Path:
        """Return a cache file that does not exist: another model's would be refused."""
        cache.unlink(missing_ok=True)
        return cache


def table(rows: list[Row]) -> str:
    """Return the rows under their headings."""
    cells = [("stage", "precision", "engine", "parameters", "MB", "AP", "ms")]
    cells += [
        (row.stage, row.precision, row.engine, f"{row.parameters:,}", f"{row.size / 1e6:.2f}", f"{row.ap:.4f}",
         f"{row.latency:.2f}")
        for row in rows
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("-e", "--train_spec", type=Path, default=ROOT / "specs/tiny_cpu.yaml")
    parser.add_argument("-d", "--dataset_spec", type=Path, default=ROOT / "specs/dataset_examples.json")
    parser.add_argument("--model", type=Path, help="a trained model; without it one is trained")
    parser.add_argument("--threshold", type=float, default=0.05, help="of the pruning")
    parser.add_argument("--retrain_epochs", type=int, help="without it as many as the train spec says")
    parser.add_argument("--retrain_rate", type=float, default=0.25, help="times the train spec's highest learning rate")
    parser.add_argument("--calibration_pictures", type=int, default=16)
    parser.add_argument("--gpu_arch", nargs="+", default=[], help="also build a TensorRT engine: sm86 sm89 ...")
    parser.add_argument("--threads", type=int, help="CPU threads of the timing")
    return parser


def main(words: list[str] | None = None) -> list[Row]:
    """Run the chain and print its table."""
    parser = arguments()
    options = parser.parse_args(words)
    if options.output.exists() and any(options.output.iterdir()):
        parser.error(f"'{options.output}' holds something already: name a new folder")
    rows = Chain(options).run()
    write_json(options.output / "chain.json", [asdict(row) | {"file": str(row.file)} for row in rows])
    print(f"\n{table(rows)}\n\n{json.dumps({'written': str(options.output / 'chain.json')})}")
    return rows


if __name__ == "__main__":
    main()
