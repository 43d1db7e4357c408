"""What each part of a recipe is worth: train it short, once whole and once for every change, and compare in pairs.

A file of ablations names a train spec, what every run has in common, and the changes by name. Keys are dotted paths of
the train spec; null takes one out. Each run is measured by the inference spec on the test data of a dataset: AP, and
the share of labelled joints found. Differences are taken over the same draws of pictures, since the intervals of two
runs say little about the difference between them. Repeated, the command goes on where it stopped.

    python scripts/ablate.py scripts/ablations.yaml -r results/ablations
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from limbnet.decode.peaks import find_peaks
from limbnet.errors import LimbnetError
from limbnet.evaluation.bootstrap import bootstrap_ap, draw_weights
from limbnet.evaluation.coco import KeypointScores
from limbnet.evaluation.dataset import TestData, evaluate_dataset, load_test_data
from limbnet.files import write_text
from limbnet.runtime.load import load_engine
from limbnet.runtime.predictor import PoseEstimator
from limbnet.specs.load import load_dataset_spec, load_inference_spec, load_train_spec, resolved
from limbnet.training.loop import train


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec's content with values at dotted paths set, or taken out where they are None.

    >>> changed({"model": {"stages": 2}, "seed": 1}, {"model.stages": 3, "seed": None})
    {'model': {'stages': 3}}
    """
    result = json.loads(json.dumps(content))
    for path, value in changes.items():
        *sections, key = path.split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
    return dict(result)


@dataclass(frozen=True)
class Measured:
    """What one network does on a dataset: its scores, and (N, 2) how many joints of each picture it found, of how many.

    A labelled joint counts as found where the heatmap of its kind has a peak above half of the decoder's threshold at a
    similarity of 0.5 or better (COCO's OKS of one joint), whoever it is given to. Short trainings find joints long
    before they find people.
    """

    scores: KeypointScores
    joints: NDArray[np.float64]

    def share(self, drawn: NDArray[np.int64] | None = None) -> float:
        """Return the share of joints found, with pictures counted as often as they were drawn."""
        found, labelled = self.joints.sum(0) if drawn is None else drawn @ self.joints
        return float(found / labelled)


def measured(model: Path, inference: Path, dataset: Path) -> Measured:
    """Run a model file on a dataset's test data."""
    estimator = PoseEstimator.from_spec(load_engine(model), load_inference_spec(inference))
    data = load_test_data(load_dataset_spec(dataset), estimator.skeleton)
    counts = [_found(estimator, data, number) for number in range(len(data.images))]
    return Measured(evaluate_dataset(estimator, data).scores, np.array(counts, np.float64))


def _found(estimator: PoseEstimator, data: TestData, number: int) -> tuple[int, int]:
    """Return how many labelled joints of a picture were found, and how many there are."""
    maps, fitted = estimator.maps(data.images[number].path)
    settings, stride = estimator.settings, estimator.info.stride
    peaks = find_peaks(maps.heatmaps[0, :-1], stride, settings.heatmap_threshold / 2, settings.max_peaks)
    people = data.coco.annotations(number)
    found = labelled = 0
    for joint, name in enumerate(data.joints):
        row = estimator.skeleton.joints.index(name)
        places = fitted.transform.inverse().points(peaks.refined[row, : peaks.counts[row], :2])
        for (x, y, seen), area in zip(people.keypoints[:, joint], people.areas, strict=True):
            if seen <= 0:
                continue
            labelled += 1
            apart = np.square(places - (x, y)).sum(axis=1) / (2 * area * (2 * data.sigmas[joint]) ** 2)
            found += bool((np.exp(-apart) >= 0.5).any())
    return found, labelled


def row(one: Measured, whole: Measured | None) -> str:
    """Return a network's cells of the table: AP, joints found, and their difference to another network's, paired."""
    cells = [str(bootstrap_ap(one.scores)), f"{one.share():.3f}"]
    if whole is None:
        return " | ".join([*cells, ""])
    each = [one.share(drawn) - whole.share(drawn) for drawn in draw_weights(len(one.joints), 1000)]
    low, high = np.quantile(each, [0.025, 0.975])
    return " | ".join([*cells, f"{one.share() - whole.share():+.3f} [{low:+.3f}, {high:+.3f}]"])


def main() -> None:
    """Train and measure run after run; the table is written anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablations", type=Path, help="YAML: base, inference, dataset, always, changes")
    parser.add_argument("-r", "--results_dir", type=Path, required=True, help="a folder for each run, and table.md")
    args = parser.parse_args()
    if not args.ablations.is_file():
        parser.error(f"there is no file '{args.ablations}'")
    plan = yaml.safe_load(args.ablations.read_text())
    lacking = {"base", "inference", "dataset", "always", "changes"} - set(plan if isinstance(plan, dict) else ())
    if lacking:
        parser.error(f"'{args.ablations}' lacks {', '.join(sorted(lacking))}")
    beside = args.ablations.parent
    base = yaml.safe_load(resolved(load_train_spec(beside / plan["base"])))
    whole: Measured | None = None
    lines = ["| what | AP | joints found | difference in joints found |", "| --- | --- | ---: | --- |"]
    for name, changes in plan["changes"].items():
        folder = args.results_dir / re.sub(r"\W+", "_", name).strip("_")
        content = changed(changed(base, plan["always"]), changes)
        write_text(folder / "spec.yaml", yaml.safe_dump(content, sort_keys=False))
        model = train(load_train_spec(folder / "spec.yaml"), folder).model
        one = measured(model, beside / plan["inference"], beside / plan["dataset"])
        lines.append(f"| {name} | {row(one, whole)} |")
        whole = whole or one
        write_text(args.results_dir / "table.md", "\n".join(lines) + "\n")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    try:
        main()
    except LimbnetError as error:
        sys.exit(str(error))
