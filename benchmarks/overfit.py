"""The small model learns eight pictures of examples/ by heart: average precision on them must pass 0.8.

Network and optimiser are those of specs/tiny_cpu.yaml; the pictures hold at least 20 labelled people, two of
them at least five each. They are shown as they are, without augmentation, for `--epochs` epochs of one batch.

Run: python benchmarks/overfit.py [--epochs N] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from limbnet.console import set_up_logging
from limbnet.specs.load import load_train_spec
from limbnet.specs.train import TrainSpec
from limbnet.training.loop import TrainingResult, train
from reporting import report

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

#: Pictures with groups of people of all sizes.
PICTURES = (165, 529, 544, 790, 412151, 433998, 442450, 444294)

#: Input (height, width): large enough for the players on the field.
SIZE = (256, 320)

WANTED = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1100)
    parser.add_argument("--keep", type=Path, help="folder to leave the model in")
    arguments = parser.parse_args()
    set_up_logging("WARNING")
    with tempfile.TemporaryDirectory() as folder:
        dataset, people = eight_pictures(Path(folder))
        begun = time.monotonic()
        result = train(benchmark_spec(dataset, arguments.epochs), arguments.keep or folder, device="cpu")
        seconds = time.monotonic() - begun
    rows = [(picture, people[picture]) for picture in PICTURES]
    figures = outcome(result) | {"people": people.total(), "epochs": arguments.epochs, "seconds": round(seconds)}
    rows.append(("AP", f"{figures['ap']:.3f} (more than {WANTED} wanted)"))
    report("overfit", ("picture", "labelled people"), rows, figures)
    sys.exit(0 if figures["ap"] > WANTED else 1)


def eight_pictures(folder: Path) -> tuple[Path, Counter[int]]:
    """Write a dataset spec over the eight pictures; return it and the labelled people of each."""
    spec = json.loads((ROOT / "specs/dataset_examples.json").read_text())
    content = json.loads((EXAMPLES / spec["train_data"]["annotation_root_dir_path"]).read_text())
    content["images"] = [image for image in content["images"] if image["id"] in PICTURES]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in PICTURES]
    people = Counter(entry["image_id"] for entry in content["annotations"] if entry["num_keypoints"])
    if len(content["images"]) != 8 or people.total() < 20 or sum(count >= 5 for count in people.values()) < 2:
        raise SystemExit(f"examples/ has changed: eight pictures with 20 people are needed, found {dict(people)}")
    (folder / "annotations.json").write_text(json.dumps(content))
    for part in ("train_data", "test_data"):
        spec[part]["annotation_root_dir_path"] = str(folder / "annotations.json")
    spec |= {"root_directory_path": str(EXAMPLES), "duplicate_data_with_each_person_as_center": False}
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder / "dataset.json", people


def benchmark_spec(dataset: Path, epochs: int) -> TrainSpec:
    """Return specs/tiny_cpu.yaml over other pictures, without augmentation."""
    content: dict[str, Any] = load_train_spec(ROOT / "specs/tiny_cpu.yaml").model_dump(by_alias=True)
    content |= {"num_epoch": epochs, "checkpoint_n_epoch": epochs, "validation_every_n_epoch": epochs}
    loader = content["dataloader"]
    loader["batch_size"] = len(PICTURES)
    loader["image_config"]["image_dims"] |= {"height": SIZE[0], "width": SIZE[1]}
    inference = dataset.with_name("inference.yaml")
    inference.write_text(f"input_shape: {list(SIZE)}\nkeep_aspect_ratio_mode: pad_image_input\n")
    content["inference_spec"] = inference
    loader["dataset_config"] = {"dataset_specs": {"examples": dataset}}
    spatial = {"flip_lr_prob": 0.0, "rotate_deg_max": 0.0, "translate_max_x": 0.0, "translate_max_y": 0.0}
    loader["augmentation_config"] |= {"spatial_aug_params": spatial}
    return TrainSpec.model_validate(content)


def outcome(result: TrainingResult) -> dict[str, Any]:
    """Return the average precision at the end and the losses at both ends."""
    first, last = result.history[0], result.history[-1]
    return {"ap": last["AP"], "first_loss": first["total_loss"], "last_loss": last["total_loss"]}


if __name__ == "__main__":
    main()
