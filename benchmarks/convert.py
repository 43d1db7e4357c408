"""How long `limbnet dataset_convert` takes without masks, and how much memory, for an annotation file of COCO's size.

The promise is at most 60 s and 3 GB for 118,287 pictures with 262,465 people, of whom 149,813 have keypoints, as in
COCO train2017; the file, about as large as the real one, is made first. The command runs as its users run it, in a
process of its own. Run: python benchmarks/convert.py [--images 118287] [--people 262465]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from limbnet.skeleton import COCO_JOINTS
from reporting import report

IMAGES, PEOPLE, LABELLED_SHARE = 118_287, 262_465, 149_813 / 262_465
POLYGON_POINTS = 26  # makes the file about as large as COCO's
RUN_COMMAND = "import sys; from limbnet.cli import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--people", type=int, default=PEOPLE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = write_dataset(Path(folder), arguments.images, arguments.people)
        megabytes = (Path(folder) / "annotations.json").stat().st_size / 1e6
        flags = ["-d", str(spec), "-o", f"{folder}/records/train", "-r", f"{folder}/results"]
        seconds, peak = run_measured([sys.executable, "-c", RUN_COMMAND, "dataset_convert", *flags])
        records = sum(file.stat().st_size for file in (Path(folder) / "records").iterdir()) / 1e6
    rows = [
        ("pictures", arguments.images),
        ("people", arguments.people),
        ("annotation file, MB", f"{megabytes:.0f}"),
        ("records, MB", f"{records:.0f}"),
        ("seconds", f"{seconds:.1f}"),
        ("peak memory, GB", f"{peak / 1e9:.2f}"),
    ]
    report("convert", ("", ""), rows, {"seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2)})


def write_dataset(folder: Path, images: int, people: int) -> Path:
    """Write an annotation file of random people and a dataset spec; return the spec."""
    rng = np.random.default_rng(0)
    boxes = np.round(rng.uniform((0, 0, 20, 30), (500, 300, 140, 180), (people, 4)), 2)
    labelled = rng.uniform(size=people) < LABELLED_SHARE
    content = {
        "images": [
            {
                "id": n,
                "file_name": f"{n:012d}.jpg",
                "height": 480,
                "width": 640,
                "license": 3,
                "coco_url": "http://" * 9,
            }
            for n in range(images)
        ],
        "annotations": [
            person(number, int(image), boxes[number], bool(labelled[number]), rng)
            for number, image in enumerate(rng.integers(0, images, people))
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": COCO_JOINTS, "skeleton": []}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    part = {"images_root_dir_path": "images", "annotation_root_dir_path": "annotations.json"}
    spec = {
        "dataset": "coco",
        "root_directory_path": str(folder),
        "train_data": part,
        "test_data": part,
        "categories": [{"name": "person", "keypoints": COCO_JOINTS}],
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder / "spec.json"


def person(number: int, image: int, box: np.ndarray, labelled: bool, rng: np.random.Generator) -> dict[str, object]:
    """Return one annotation with its polygon."""
    joints = len(COCO_JOINTS)
    flags = rng.integers(0, 3, joints) if labelled else np.zeros(joints, dtype=int)
    xy = (box[:2] + rng.uniform(0, 1, (joints, 2)) * box[2:]).astype(int) * (flags > 0)[:, None]
    outline = np.round(box[:2] + rng.uniform(0, 1, (POLYGON_POINTS, 2)) * box[2:], 2)
    return {
        "segmentation": [outline.ravel().tolist()],
        "num_keypoints": int((flags > 0).sum()),
        "area": float(round(0.53 * box[2] * box[3], 4)),
        "iscrowd": 0,
        "keypoints": np.column_stack([xy, flags]).ravel().tolist(),
        "image_id": image,
        "bbox": box.tolist(),
        "category_id": 1,
        "id": number,
    }


def run_measured(command: list[str]) -> tuple[float, int]:
    """Run a command; return its seconds and its peak resident memory in bytes, children included."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            try:
                family = psutil.Process(process.pid)
                total = sum(member.memory_info().rss for member in (family, *family.children(recursive=True)))
            except psutil.Error:
                return
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        sys.exit(code)
    return time.perf_counter() - started, peak


if __name__ == "__main__":
    main()
