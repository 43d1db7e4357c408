"""How many training samples a second the loader makes, by number of workers, from a folder of real pictures.

The promise is at least 150 a second with two workers. Nobody else uses the batches; the clock starts after the workers
have filled their queues once. Run: python benchmarks/loader.py [--data FOLDER] [--images SUBFOLDER]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from limbnet.data.loader import TrainingData
from limbnet.data.samples import samples_from_coco
from limbnet.skeleton import BODY_18, COCO_JOINTS
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.train import TrainSpec
from reporting import report

BATCH, WARM_UP, BATCHES = 10, 16, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/coco-mini"))
    parser.add_argument("--images", default="images/train")
    parser.add_argument("--annotations", default="annotations/person_keypoints_train.json")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=256, help="height and width of the network's input")
    arguments = parser.parse_args()
    part = {"images_root_dir_path": arguments.images, "annotation_root_dir_path": arguments.annotations}
    dataset = DatasetSpec(
        root_directory_path=arguments.data, train_data=part, test_data=part, categories=[{"keypoints": COCO_JOINTS}]
    )
    samples = samples_from_coco(dataset, BODY_18)
    rows, rates = [], {}
    for workers in arguments.workers:
        rate = samples_a_second(samples, workers, arguments.size)
        rows.append((workers, f"{rate:.0f}"))
        rates[str(workers)] = round(rate, 1)
    report("loader", ("workers", "samples/s"), rows, {"samples_per_second": rates, "input": arguments.size})


def samples_a_second(samples: object, workers: int, size: int) -> float:
    """Measure one number of workers; 0 makes the samples in this process."""
    spec = TrainSpec.model_validate(
        {
            "dataloader": {
                "batch_size": BATCH,
                "workers": workers,
                "image_config": {"image_dims": {"height": size, "width": size}},
                "dataset_config": {"dataset_specs": {"coco": "not read: the samples are given"}},
            }
        }
    )
    stream = TrainingData(spec, BODY_18, samples=samples).batches()
    for _ in range(WARM_UP):
        next(stream)
    started = time.perf_counter()
    for _ in range(BATCHES):
        next(stream)
    seconds = time.perf_counter() - started
    stream.close()
    return BATCH * BATCHES / seconds


if __name__ == "__main__":
    main()
