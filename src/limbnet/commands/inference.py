"""`limbnet inference`: find people in pictures; write `detections.json` and annotated pictures."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbnet.commands import estimator as estimator_flags
from limbnet.commands import flags
from limbnet.commands.pictures import Pictures, find_pictures
from limbnet.console import counted, progress
from limbnet.draw import DrawStyle
from limbnet.errors import DataError, UsageError
from limbnet.runtime.detections import detection_entry, open_detections
from limbnet.runtime.predictor import PoseEstimator, Result
from limbnet.status import StatusLog

HELP = "Find people in a picture, a folder of pictures or a list of pictures."

#: Annotated pictures that may wait to be written; more would only take memory.
WAITING = 4

#: The folder of annotated pictures, in the folder of results.
DRAWINGS = "images_annotated"

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    estimator_flags.add_arguments(parser)
    parser.add_argument(
        "pictures", type=Path, nargs="?", metavar="PATH",
        help="picture, folder or JSON file; named so, annotated pictures are written",
    )  # fmt: skip
    parser.add_argument("--input", type=Path, metavar="PATH", help="the same, without annotated pictures")
    parser.add_argument(
        "--input_type", choices=["image", "dir", "json"], help="what --input is; found out when not given"
    )
    parser.add_argument(
        "--image_root_path", type=Path, metavar="DIR", help="folder that the paths of a JSON file are relative to"
    )
    flags.results_dir(parser)
    drawing = parser.add_mutually_exclusive_group()
    drawing.add_argument(
        "--dump_visualizations", action="store_true", default=None,
        help="write annotated pictures to DIR/images_annotated",
    )  # fmt: skip
    drawing.add_argument(
        "--no_visualizations", dest="dump_visualizations", action="store_false", help="write no annotated pictures"
    )
    parser.add_argument("--show_scores", action="store_true", help="write people's scores on annotated pictures")
    flags.json_output(parser)


def run(args: argparse.Namespace) -> None:
    """Find people, and say how it went."""
    if (args.pictures is None) == (args.input is None):
        found = "Neither a PATH nor --input names" if args.input is None else "Both a PATH and --input name"
        raise UsageError(f"{found} the pictures.", "Give one of them, as in: limbnet inference photo.jpg")
    draws = args.pictures is not None if args.dump_visualizations is None else args.dump_visualizations
    with StatusLog(args.results_dir, "inference") as status:
        pictures = find_pictures(args.pictures or args.input, args.input_type, args.image_root_path)
        estimator, written = estimator_flags.open_estimator(args)
        style = DrawStyle(show_scores=args.show_scores) if draws or args.show_scores else None
        report = inference(estimator, pictures, args.results_dir, style, written)
        status.write("Inference results.", kpi={"pictures": report.pictures, "people": report.people})
    if args.json:
        print(json.dumps(report.__dict__ | {"results_dir": str(args.results_dir)}))
    else:
        people, seen = counted(report.people, "person", "people"), counted(report.pictures, "picture")
        drawn = "" if style is None else f", drawn in {args.results_dir / DRAWINGS}"
        print(f"{people} in {seen}: {args.results_dir / 'detections.json'}{drawn}")


@dataclass
class Report:
    """How an inference went: pictures read, people found in them, pictures that could not be read."""

    pictures: int = 0
    people: int = 0
    unreadable: int = 0


def inference(
    estimator: PoseEstimator,
    pictures: Pictures,
    results_dir: Path,
    style: DrawStyle | None = None,
    inference_spec: dict[str, Any] | None = None,
) -> Report:
    """Find people in pictures and write `detections.json`; in constant memory, however many pictures there are.

    Args:
        estimator: the model.
        pictures: what to look at, see `limbnet.commands.pictures.find_pictures`.
        results_dir: the folder to write to; it is created.
        style: draws annotated pictures, `images_annotated/<index>.png` with the picture's place in the list; None draws
            none. An entry of `detections.json` names its picture as `viz_id`.
        inference_spec: copied to `detections.json`.

    Raises:
        DataError: not a single picture could be read.
    """
    report = Report()
    count = counted(len(pictures), "picture")
    log.info("Looking at %s with %s", count, estimator_flags.described(estimator))
    with (
        open_detections(
            results_dir / "detections.json", estimator.skeleton, inference_spec or {}, pictures.extra
        ) as detections,
        _drawing(results_dir / DRAWINGS, style) as draw,
        progress("{task.fields[people]} people") as bars,
    ):
        task = bars.add_task("inference", total=len(pictures), people=0)
        for result in estimator.stream(pictures.paths(), keep_pictures=style is not None):
            extra = dict(pictures.entry(result.index))
            if result.poses is not None:
                report.pictures += 1
                report.people += len(result.poses)
                if style is not None:
                    extra["viz_id"] = result.index
                    draw(result)
            else:
                report.unreadable += 1
                if result.error is not None and len(pictures) == 1:
                    raise result.error
            estimator_flags.warn_about(result)
            detections.add(detection_entry(result, str(result.source), extra))
            bars.update(task, advance=1, people=report.people)
        if not report.pictures:
            raise DataError(
                f"None of the {report.unreadable} pictures could be read, as said above; nothing was written.",
                "Check --input and --image_root_path, or mend the pictures.",
            )
    if report.unreadable:
        log.warning("%d of %d pictures could not be read and were skipped.", report.unreadable, len(pictures))
    return report


@contextmanager
def _drawing(folder: Path, style: DrawStyle | None) -> Iterator[Any]:
    """Yield a function that draws a result and writes the picture on threads of its own."""
    from limbnet.files import whole_file

    def write(result: Result[Any]) -> None:
        import cv2

        assert result.poses is not None
        assert result.picture is not None
        drawn = result.poses.draw(result.picture, style)
        encoded = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        with whole_file(folder / f"{result.index}.png") as partial:
            partial.write_bytes(encoded.tobytes())

    if style is None:
        yield lambda _: None
        return
    with ThreadPoolExecutor(2, "limbnet-draw") as pool:
        waiting: list[Future[None]] = []

        def draw(result: Result[Any]) -> None:
            if len(waiting) == WAITING:
                waiting.pop(0).result()
            waiting.append(pool.submit(write, result))

        yield draw
        for future in waiting:
            future.result()
