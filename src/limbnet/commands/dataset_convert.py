"""`limbnet dataset_convert`: COCO annotations to training records and loss masks."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Literal

from limbnet.commands import flags

HELP = "Convert COCO keypoint annotations to training records (TFRecord) and loss masks."

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    flags.dataset_spec(parser)
    parser.add_argument(
        "-o",
        "--output_filename",
        type=Path,
        required=True,
        metavar="NAME",
        help="start of the record files' names; -fold-000-of-001 and the like is appended",
    )
    parser.add_argument("-m", "--mode", choices=("train", "test"), default="train", help="which part of the spec")
    parser.add_argument(
        "-p", "--num_partitions", type=flags.not_negative, default=1, metavar="N", help="folds; 0 appends no fold"
    )
    parser.add_argument(
        "-s", "--num_shards", type=flags.not_negative, default=0, metavar="N", help="files a fold; 0 appends no shard"
    )
    parser.add_argument(
        "--generate_masks", action="store_true", help="write a mask of unlabelled people and crowds for every picture"
    )
    parser.add_argument(
        "--check_files", action="store_true", help="leave out pictures that are missing or whose mask is"
    )
    flags.results_dir(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    dataset_convert(
        args.dataset_spec,
        args.output_filename,
        mode=args.mode,
        partitions=args.num_partitions,
        shards=args.num_shards,
        generate_masks=args.generate_masks,
        check_files=args.check_files,
        results_dir=args.results_dir,
    )


def dataset_convert(
    dataset_spec: Path | str,
    output_filename: Path | str,
    *,
    mode: Literal["train", "test"] = "train",
    partitions: int = 1,
    shards: int = 0,
    generate_masks: bool = False,
    check_files: bool = False,
    results_dir: Path | str = "results",
) -> list[Path]:
    """Convert one part of a dataset and return the record files; see `limbnet.data.convert.convert_dataset`."""
    from limbnet.data.convert import convert_dataset
    from limbnet.specs.load import load_dataset_spec
    from limbnet.status import StatusLog

    with StatusLog(results_dir, "dataset_convert") as status:
        started = time.perf_counter()
        done = convert_dataset(
            load_dataset_spec(dataset_spec),
            output_filename,
            mode,
            partitions=partitions,
            shards=shards,
            generate_masks=generate_masks,
            check_files=check_files,
        )
        lines = [
            f"{done.images} pictures with {done.people} annotated people gave {done.records} records "
            f"in {time.perf_counter() - started:.1f} s:",
            *(f"  {file}" for file in done.files),
        ]
        if generate_masks:
            lines.append(f"{done.masks} masks: {done.mask_folder}")
        if done.skipped:
            lines.append(f"{done.skipped} pictures were left out because files are missing.")
        for line in lines:
            log.info(line)
        counts = {"records": done.records, "masks": done.masks, "images_left_out": done.skipped}
        status.write("Converted.", kpi={name: float(count) for name, count in counts.items()})
    return done.files
