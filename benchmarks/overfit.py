"""The small model learns eight pictures of examples/ by heart: average precision on them must pass 0.8.

Network and optimiser are those of specs/tiny_cpu.yaml; the pictures hold at least 20 labelled people, two of
them at least five each. They are shown as they are, without augmentation, for `--epochs` epochs of one batch.

With `--annotations` and `--images` so many pictures of another dataset are learnt, the most crowded of those whose
people can all be assembled from perfect maps: both shoulders labelled, at least a fifth of the picture high. `--keep`
leaves the model and a dataset spec over its pictures, which `int8.py` can measure.

Run: python benchmarks/overfit.py [--epochs N] [--keep FOLDER] [--annotations FILE --images FOLDER --pictures 40]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
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
    parser.add_argument("--annotations", type=Path, help="COCO keypoints of other pictures")
    parser.add_argument("--images", type=Path, help="their folder")
    parser.add_argument("--pictures", type=int, default=40, help="how many of them")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--wide", action="store_true", help="twice the channels: enough work for INT8 to show")
    parser.add_argument("--start", type=Path, help="go on from this model, which may be pruned")
    arguments = parser.parse_args()
    set_up_logging("INFO" if arguments.annotations else "WARNING")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.annotations:
            content = json.loads(arguments.annotations.read_text())
            chosen = assemblable(content, arguments.pictures)
            dataset, people = write_dataset(folder, content, chosen, arguments.images.resolve())
        else:
            dataset, people = eight_pictures(folder)
        begun = time.monotonic()
        spec = benchmark_spec(dataset, arguments)
        result = train(spec, folder, device="cpu")
        seconds = time.monotonic() - begun
    rows = sorted(people.items())
    figures = outcome(result) | {"people": people.total(), "epochs": arguments.epochs, "seconds": round(seconds)}
    rows.append(("AP", f"{figures['ap']:.3f} (more than {WANTED} wanted)"))
    report("overfit", ("picture", "labelled people"), rows, figures)
    sys.exit(0 if figures["ap"] > WANTED else 1)


def eight_pictures(folder: Path) -> tuple[Path, Counter[int]]:
    """Write a dataset spec over the eight pictures; return it and the labelled people of each."""
    content = json.loads((EXAMPLES / "annotations/person_keypoints.json").read_text())
    dataset, people = write_dataset(folder, content, PICTURES, EXAMPLES / "images")
    if len(people) != 8 or people.total() < 20 or sum(count >= 5 for count in people.values()) < 2:
        raise SystemExit(f"examples/ has changed: eight pictures with 20 people are needed, found {dict(people)}")
    return dataset, people


def assemblable(content: dict[str, Any], number: int) -> list[int]:
    """Return the ids of the most crowded pictures that perfect maps could solve."""
    heights = {image["id"]: image["height"] for image in content["images"]}
    people: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in content["annotations"]:
        if entry["num_keypoints"] or entry["iscrowd"]:
            people[entry["image_id"]].append(entry)
    solvable = [
        image
        for image, entries in people.items()
        if all(can_be_assembled(entry) and 5 * entry["bbox"][3] >= heights[image] for entry in entries)
    ]
    return sorted(solvable, key=lambda image: (-len(people[image]), image))[:number]


def can_be_assembled(entry: dict[str, Any]) -> bool:
    """Tell whether a COCO annotation is one person with both shoulders, which give the neck that limbs meet at."""
    left, right = (entry["keypoints"][3 * joint + 2] for joint in (5, 6))
    return bool(not entry["iscrowd"] and left and right and entry["num_keypoints"] >= 6)


def write_dataset(
    folder: Path, content: dict[str, Any], pictures: Sequence[int], images: Path
) -> tuple[Path, Counter[int]]:
    """Write a dataset spec over some pictures of a COCO file; return it and the labelled people of each."""
    content["images"] = [image for image in content["images"] if image["id"] in pictures]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in pictures]
    (folder / "annotations.json").write_text(json.dumps(content))
    spec = json.loads((ROOT / "specs/dataset_examples.json").read_text())
    for part in ("train_data", "test_data"):
        spec[part] |= {
            "annotation_root_dir_path": str(folder / "annotations.json"),
            "images_root_dir_path": images.name,
        }
    spec |= {"root_directory_path": str(images.parent), "duplicate_data_with_each_person_as_center": False}
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder / "dataset.json", Counter(e["image_id"] for e in content["annotations"] if e["num_keypoints"])


def benchmark_spec(dataset: Path, arguments: argparse.Namespace) -> TrainSpec:
    """Return specs/tiny_cpu.yaml over other pictures, without augmentation."""
    content: dict[str, Any] = load_train_spec(ROOT / "specs/tiny_cpu.yaml").model_dump(by_alias=True)
    every = next(n for n in range(max(arguments.epochs // 8, 1), 0, -1) if arguments.epochs % n == 0)
    content |= {"num_epoch": arguments.epochs, "checkpoint_n_epoch": every, "validation_every_n_epoch": every}
    if arguments.start is not None:
        content |= {"pretrained_weights": arguments.start, "load_graph": True}
    if arguments.wide:
        model = content["model"]
        model["width"] *= 2
        model["backbone_attributes"]["width"] *= 2
    loader = content["dataloader"]
    loader["batch_size"] = arguments.batch
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
