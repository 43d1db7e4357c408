"""`limbnet evaluate`: COCO keypoint AP of a model on the test part of a dataset."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from limbnet.commands import estimator as estimator_flags
from limbnet.commands import flags
from limbnet.console import counted, progress
from limbnet.data.coco import CocoImage
from limbnet.evaluation.bootstrap import bootstrap_ap
from limbnet.evaluation.dataset import Evaluation, evaluate_dataset, load_test_data
from limbnet.files import write_json
from limbnet.runtime.detections import detection_entry, open_detections
from limbnet.runtime.predictor import PoseEstimator, Result
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.load import load_dataset_spec
from limbnet.status import StatusLog

HELP = "Measure a model on the test data of a dataset: COCO's ten keypoint numbers."

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    estimator_flags.add_arguments(parser)
    flags.dataset_spec(parser)
    flags.results_dir(parser)
    parser.add_argument("--dataset", choices=["coco"], default="coco", help="kind of evaluation")
    parser.add_argument(
        "--bootstrap",
        type=flags.not_negative,
        default=1000,
        metavar="N",
        help="draws behind the interval of AP; 0 leaves it out",
    )
    flags.json_output(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the ten lines, or with `--json` one line of JSON."""
    with StatusLog(args.results_dir, "evaluate") as status:
        dataset_spec = load_dataset_spec(args.dataset_spec)
        estimator, written = estimator_flags.open_estimator(args)
        evaluation = evaluate(estimator, dataset_spec, args.results_dir, written)
        scores = evaluation.scores
        status.write("Evaluation results.", kpi=scores.kpis())
        outcome: dict[str, Any] = scores.kpis() | {
            "pictures": len(scores.images),
            "unreadable": len(evaluation.unreadable),
            "people": len(evaluation.results),
            "engine": estimator.engine.name,
            "device": estimator.engine.device,
            "scales": list(estimator.scales),
            "flip": estimator.flip,
        }
        if args.bootstrap:
            interval = bootstrap_ap(scores, draws=args.bootstrap)
            log.info("AP %s (95 %% of %d draws of the pictures)", interval, args.bootstrap)
            outcome["AP_interval"] = [interval.low, interval.high]
    print(json.dumps(outcome) if args.json else "\n".join(scores.summary))


def warn_of_other_size(image: CocoImage, result: Result[Path]) -> None:
    """Say when a picture is not the one that was annotated: its people cannot be matched."""
    if result.poses is not None and result.poses.image_size != (image.height, image.width):
        log.warning(
            "The picture '%s' is %dx%d pixels (height x width, turned as its EXIF tag says), but the annotations say "
            "%dx%d: its people will not match.",
            image.path,
            *result.poses.image_size,
            image.height,
            image.width,
        )


def evaluate(
    estimator: PoseEstimator,
    dataset_spec: DatasetSpec,
    results_dir: Path,
    inference_spec: dict[str, Any] | None = None,
) -> Evaluation:
    """Measure an estimator on a dataset's test data and write everything to a folder.

    Writes `detections.json`, `detections_coco_format.json` and `results.csv` to `results_dir`. Pictures that cannot be
    read are reported, counted and taken as pictures without detections.

    Args:
        estimator: the model.
        dataset_spec: its `test_data` are evaluated, all pictures of the annotation file.
        results_dir: the folder; it is created.
        inference_spec: copied to `detections.json`.

    Raises:
        DataError: the annotation file is wrong, or no picture could be read.
    """
    data = load_test_data(dataset_spec, estimator.skeleton)
    count = counted(len(data.images), "picture")
    log.info("Evaluating %s with %s", count, estimator_flags.described(estimator))
    with (
        open_detections(results_dir / "detections.json", estimator.skeleton, inference_spec or {}) as detections,
        progress("{task.fields[people]} people") as bars,
    ):
        task = bars.add_task("evaluate", total=len(data.images), people=0)
        people = 0

        def on_result(image: CocoImage, result: Result[Path]) -> None:
            nonlocal people
            people += len(result.poses) if result.poses is not None else 0
            meta = {"file_name": image.file_name, "height": image.height, "width": image.width}
            detections.add(detection_entry(result, str(image.path), {"image_id": image.id, "image_meta": meta}))
            estimator_flags.warn_about(result)
            warn_of_other_size(image, result)
            bars.update(task, advance=1, people=people)

        evaluation = evaluate_dataset(estimator, data, on_result)
    write_json(results_dir / "detections_coco_format.json", evaluation.results, indent=None)
    evaluation.scores.write_csv(results_dir / "results.csv")
    if evaluation.unreadable:
        log.warning(
            "%d of %d pictures could not be read; they count as pictures without detections.",
            len(evaluation.unreadable),
            len(data.images),
        )
    return evaluation
