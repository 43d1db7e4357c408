"""What each part of a recipe is worth: train it short, once whole and once for every change, and compare in pairs.

A file of ablations names a train spec, what every run has in common, and the changes by name. Keys are dotted paths of
the train spec; null takes one out. Each run is measured by the inference spec on the test data of a dataset;
differences are taken over the same draws of pictures, since the intervals of two runs say little about the difference
between them. Repeated, the command goes on where it stopped.

    python scripts/ablate.py scripts/ablations.yaml -r results/ablations
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from limbnet.evaluation.bootstrap import Interval, bootstrap_ap, bootstrap_difference
from limbnet.evaluation.coco import KeypointScores
from limbnet.evaluation.dataset import evaluate_dataset, load_test_data
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


def measured(model: Path, inference: Path, dataset: Path) -> KeypointScores:
    """Return the scores of a model file on a dataset's test data."""
    estimator = PoseEstimator.from_spec(load_engine(model), load_inference_spec(inference))
    return evaluate_dataset(estimator, load_test_data(load_dataset_spec(dataset), estimator.skeleton)).scores


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the runs as a Markdown table, the first of them being what the others are compared with."""
    lines = ["| what | AP | difference | AP50 | AR |", "| --- | --- | --- | ---: | ---: |"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['AP']} | {row['difference']} | {row['AP50']:.3f} | {row['AR']:.3f} |")
    return "\n".join(lines) + "\n"


def signed(interval: Interval) -> str:
    """Write a difference with its interval."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def main() -> None:
    """Train and measure run after run; the table is written anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablations", type=Path, help="YAML: base, inference, dataset, always, changes")
    parser.add_argument("-r", "--results_dir", type=Path, required=True, help="a folder for each run, and table.md")
    args = parser.parse_args()
    plan = yaml.safe_load(args.ablations.read_text())
    beside = args.ablations.parent
    base = yaml.safe_load(resolved(load_train_spec(beside / plan["base"])))
    whole: KeypointScores | None = None
    rows: dict[str, dict[str, Any]] = {}
    for name, changes in plan["changes"].items():
        folder = args.results_dir / re.sub(r"\W+", "_", name).strip("_")
        content = changed(changed(base, plan["always"]), changes)
        write_text(folder / "spec.yaml", yaml.safe_dump(content, sort_keys=False))
        model = train(load_train_spec(folder / "spec.yaml"), folder).model
        scores = measured(model, beside / plan["inference"], beside / plan["dataset"])
        whole = whole or scores
        rows[name] = {
            "AP": str(bootstrap_ap(scores)),
            "difference": "" if scores is whole else signed(bootstrap_difference(whole, scores)),
            "AP50": float(scores.values[1]),
            "AR": float(scores.values[5]),
        }
        write_text(args.results_dir / "table.md", table(rows))
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
