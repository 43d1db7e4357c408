"""`limbnet sample_calibration_images`: copy suitable pictures of a dataset into a folder to calibrate with."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from limbnet.commands import flags
from limbnet.console import progress
from limbnet.data.coco import CocoImage
from limbnet.data.pictures import read_picture
from limbnet.data.sampling import SampleCriteria, candidates, load_annotated
from limbnet.errors import DataError, UsageError
from limbnet.files import write_bytes

HELP = "Copy pictures with enough people out of a dataset, to calibrate INT8 with."

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-a", "--annotation_file", type=Path, required=True, metavar="FILE", help="COCO keypoint annotations (JSON)"
    )
    parser.add_argument("-i", "--image_dir", type=Path, required=True, metavar="DIR", help="the dataset's pictures")
    parser.add_argument("-o", "--output_dir", type=Path, required=True, metavar="DIR", help="new or empty folder")
    parser.add_argument("-n", "--num_images", type=flags.positive, required=True, metavar="N", help="pictures to copy")
    parser.add_argument(
        "-pth", "--min_persons", type=flags.positive, default=1, metavar="N", help="people a picture must show"
    )
    parser.add_argument(
        "--min_keypoints", type=flags.positive, default=1, metavar="N", help="labelled joints that make a person count"
    )
    parser.add_argument("--randomize", action="store_true", help="draw by chance instead of from the top of the file")
    parser.add_argument(
        "--balance", action="store_true", help="equally many pictures of few and many, small and large people"
    )
    flags.seed(parser)


def run(args: argparse.Namespace) -> None:
    """Choose and copy."""
    criteria = SampleCriteria(args.min_persons, args.min_keypoints, args.randomize, args.balance, args.seed)
    copied = sample_images(args.annotation_file, args.image_dir, args.output_dir, args.num_images, criteria)
    print(f"{len(copied)} pictures copied to {args.output_dir}")


def sample_images(
    annotation_file: Path, image_dir: Path, output_dir: Path, count: int, criteria: SampleCriteria
) -> list[CocoImage]:
    """Copy `count` pictures that qualify and can be read to `output_dir`, under their own names; return them.

    Raises:
        UsageError: the output folder holds something.
        DataError: the folder of pictures is missing, the annotations are wrong, or fewer pictures qualify; nothing is
            copied then.
    """
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UsageError(f"'{output_dir}' is not an empty folder.", "Name a new folder with -o.")
    if not image_dir.is_dir():
        raise DataError(f"There is no folder '{image_dir}'.", "Name the folder of the dataset's pictures with -i.")
    dataset = load_annotated(annotation_file, image_dir)
    chosen: list[CocoImage] = []
    unreadable = 0
    with progress() as bars:
        task = bars.add_task("choose", total=count)
        for image in candidates(dataset, criteria):
            try:
                read_picture(image.path)
            except DataError as error:
                unreadable += 1
                log.warning("Left out: %s", error.what)
                continue
            chosen.append(image)
            bars.advance(task)
            if len(chosen) == count:
                break
    if len(chosen) < count:
        raise DataError(
            f"{len(chosen)} of {len(dataset)} pictures show at least {criteria.min_persons} people with "
            f"{criteria.min_keypoints} labelled joints each and can be read ({unreadable} cannot); {count} were asked "
            "for. Nothing was copied.",
            _advice(len(chosen), unreadable),
        )
    for image in chosen:
        write_bytes(output_dir / image.file_name, image.path.read_bytes())
    return chosen


def _advice(chosen: int, unreadable: int) -> str:
    """Say what to do when too few pictures qualify."""
    if chosen:
        return f"Use -n {chosen}, or lower -pth or --min_keypoints."
    return "Check that -i names their folder." if unreadable else "Lower -pth or --min_keypoints."
