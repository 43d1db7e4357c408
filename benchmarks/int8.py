"""INT8 against FP32 and FP16 of the same network: speed in ONNX Runtime and OpenVINO, the share that is INT8, and AP.

Without `-m` the network is BodyPoseNet's 3-stage Lite one with random weights, calibrated on the example pictures:
speed does not depend on the weights. All files run in turn, round after round, so a busy machine slows all alike; the
ratio is the median of the rounds' ratios. With `--threads 1` the ratio of the processor times stands beside it, which
leaves waiting out (several threads spin while they wait). With `--dataset_spec` the files of a trained network are also
evaluated, once for each calibration method, and AP is compared with torch in pairs. With `--unpruned` everything is
compared with the network that it was before. The last line is JSON.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from rich.progress import track
from torch import nn

from limbnet.evaluation.bootstrap import bootstrap_ap, bootstrap_difference
from limbnet.evaluation.dataset import load_test_data
from limbnet.export.accuracy import strict_scores
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.export.ranges import METHODS
from limbnet.models.bodyposenet import build_model
from limbnet.models.checkpoint import load_model, save_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import OnnxNetwork
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.openvino_engine import from_network
from limbnet.runtime.torch_engine import TorchEngine
from limbnet.skeleton import BODY_18
from limbnet.specs.load import load_dataset_spec
from limbnet.specs.train import ModelSpec
from reporting import report

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", type=Path, help="a trained checkpoint; without it random weights")
    parser.add_argument("--unpruned", type=Path, help="the network that -m was before it was pruned, to compare with")
    parser.add_argument("--size", type=int, nargs=2, default=(288, 384), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; without it one for each core")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=20, help="to calibrate with")
    parser.add_argument("--cal_image_dir", type=Path, default=EXAMPLES)
    parser.add_argument("--dataset_spec", type=Path, help="measure AP on its test data")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or random_checkpoint(Path(folder) / "random.tlt")
        calibration = Calibration(image_dir=args.cal_image_dir, batches=args.pictures)
        networks: dict[str, OnnxNetwork] = {}
        seconds: dict[str, float] = {}
        shares: dict[str, float] = {}
        for precision in ("fp32", "fp16", "int8"):
            settings = ExportSettings(precision=precision, size=tuple(args.size), threads=args.threads)
            begin = time.perf_counter()
            networks[precision], done = export_file(
                model, Path(folder) / f"{precision}.onnx", settings, calibration=calibration
            )
            seconds[precision] = time.perf_counter() - begin
            shares |= {share.engine: share.share for share in done.int8_shares}
        if args.unpruned is not None:
            settings = ExportSettings(size=tuple(args.size), threads=args.threads)
            networks["unpruned fp32"], _ = export_file(args.unpruned, Path(folder) / "unpruned.onnx", settings)
        rows, ratios = speed(networks, tuple(args.size), args.threads, args.rounds)
        accuracy = measure_ap(model, args, Path(folder)) if args.dataset_spec else []
    for row in accuracy:
        print(row["text"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"export: {seconds['int8']:.0f} s with {args.pictures} calibration pictures, {memory:.1f} GB at most")
    for engine, share in shares.items():
        print(f"{engine}: {100 * share:.1f} % of the multiply-adds in INT8")
    report(
        f"int8 at {args.size[0]}x{args.size[1]}",
        ("engine", "precision", "median ms", "times fp32", "processor ms", "times fp32"),
        rows,
        {
            "ratios": ratios,
            "shares": shares,
            "export_seconds": seconds,
            "memory_gb": memory,
            "accuracy": accuracy,
            "onnxruntime": onnxruntime.__version__,
            "openvino": openvino.__version__,
        },
    )


def random_checkpoint(path: Path) -> Path:
    """Write BodyPoseNet's 3-stage Lite network with weights that keep activations alive."""
    torch.manual_seed(0)
    model = build_model(ModelSpec(), BODY_18)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    save_model(path, model, ModelInfo(BODY_18))
    return path


def speed(
    networks: dict[str, OnnxNetwork], size: tuple[int, int], threads: int | None, rounds: int
) -> tuple[list[list[Any]], dict[str, float]]:
    """Time every precision in both runtimes on one picture; return the table and the ratios to fp32."""
    picture = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    engines: dict[tuple[str, str], Callable[[], object]] = {}
    for precision, network in networks.items():
        onnx_engine = OnnxRuntimeEngine(network, threads=threads)
        openvino_engine = from_network(network, threads=threads)
        engines["onnxruntime", precision] = lambda engine=onnx_engine: engine.run(picture)
        engines["openvino", precision] = lambda engine=openvino_engine: engine.run(picture)
    wall: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    work: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    for number in track(range(rounds + 2), "timing", transient=True):
        for key, run in engines.items():
            run()  # not counted: the caches still hold the network before
            begin, used = time.perf_counter(), time.process_time()
            run()
            if number >= 2:
                wall[key].append(time.perf_counter() - begin)
                work[key].append(time.process_time() - used)
    rows: list[list[Any]] = []
    ratios: dict[str, float] = {}
    first = "unpruned fp32" if "unpruned fp32" in networks else "fp32"
    for engine, precision in sorted(engines):
        times, base = wall[engine, precision], wall[engine, first]
        ratio = statistics.median(slow / fast for slow, fast in zip(base, times, strict=True))
        ratios[f"{engine} {precision}"] = ratio
        row = [engine, precision, f"{1000 * statistics.median(times):.1f}", f"{ratio:.2f}", "", ""]
        if threads == 1:
            used = {key: statistics.median(work[engine, key]) for key in (first, precision)}
            ratios[f"{engine} {precision}, processor time"] = used[first] / used[precision]
            row[4:] = f"{1000 * used[precision]:.1f}", f"{used[first] / used[precision]:.2f}"
        rows.append(row)
    return rows, ratios


def measure_ap(model: Path, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Evaluate torch, and the INT8 file of each calibration method, in strict mode."""
    size = tuple(args.size)
    loaded = load_model(args.unpruned or model)
    data = load_test_data(load_dataset_spec(args.dataset_spec), loaded.info.skeleton)
    float_scores = strict_scores(TorchEngine(loaded.model, loaded.info), data, size)
    rows = [{"text": f"torch: AP {bootstrap_ap(float_scores)}", "AP": float_scores.kpis()}]
    settings = ExportSettings(precision="int8", size=size, threads=args.threads)
    base = Calibration(image_dir=args.cal_image_dir, batches=args.pictures)
    for method in METHODS:
        network, done = export_file(
            model, folder / f"{method}.onnx", settings, calibration=replace(base, method=method)
        )
        scores = strict_scores(OnnxRuntimeEngine(network, threads=args.threads), data, size)
        change = bootstrap_difference(float_scores, scores)
        deviation = done.deviations[0]
        text = (
            f"int8, {method}: AP {change} against torch; mean deviation {deviation.heatmaps['mean']:.1e} (heatmaps), "
        )
        text += f"{deviation.pafs['mean']:.1e} (fields)"
        rows.append({
            "text": text,
            "method": method,
            "AP": scores.kpis(),
            "difference": [change.value, change.low, change.high],
            "deviation": deviation.to_dict(),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
