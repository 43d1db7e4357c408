"""Check that TensorFlow's own reader reads the records of `dataset_convert` exactly as limbnet does.

TensorFlow is installed into an environment in a temporary folder that is deleted afterwards. Both readers print a
digest of everything they read, and the digests must be equal. Without record files the examples are converted first.
Run: python benchmarks/read_records_with_tensorflow.py [RECORD_FILE ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = ("frame/image_id", "frame/height", "frame/width", "person/person_idx", "person/num_other_people")
TEXTS = ("frame/image_path", "frame/mask_path", "dataset")
ARRAYS = ("person/joints", "person/scales", "person/centers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="*", type=Path, help="record files; none means those of examples/")
    parser.add_argument("--reader", choices=READERS, help="only print this reader's digest")
    arguments = parser.parse_args()
    if arguments.reader:
        print(json.dumps(digest(READERS[arguments.reader](arguments.records))))
        return
    with tempfile.TemporaryDirectory() as folder:
        records = arguments.records or convert_examples(Path(folder))
        interpreters = {"limbnet": sys.executable, "tensorflow": install_tensorflow(Path(folder) / "environment")}
        found = {}
        for reader, interpreter in interpreters.items():
            command = [interpreter, __file__, "--reader", reader, *map(str, records)]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[reader] = json.loads(printed.splitlines()[-1])
            print(f"{reader:<11} {found[reader]}")
    equal = found["limbnet"] == found["tensorflow"]
    print(json.dumps({"benchmark": "read_records_with_tensorflow", "equal": equal, **found["limbnet"]}))
    if not equal:
        sys.exit("The readers disagree.")


def convert_examples(folder: Path) -> list[Path]:
    """Convert the examples and return the record files."""
    from limbnet.data.convert import convert_dataset
    from limbnet.specs.load import load_dataset_spec

    spec = load_dataset_spec(ROOT / "specs" / "dataset_examples.json")
    return convert_dataset(spec, folder / "examples").files


def install_tensorflow(folder: Path) -> str:
    """Make an environment with TensorFlow and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "tensorflow-cpu"], check=True, stderr=subprocess.DEVNULL)
    return python


def read_with_tensorflow(files: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the features of every record as BodyPoseNet's own training reads them."""
    import tensorflow as tf

    layout = {name: tf.io.FixedLenFeature([], tf.int64) for name in NUMBERS}
    layout |= {name: tf.io.FixedLenFeature([], tf.string) for name in (*TEXTS, *ARRAYS)}
    for message in tf.data.TFRecordDataset([str(file) for file in files]):
        features = tf.io.parse_single_example(message, layout)
        record: dict[str, Any] = {name: int(features[name]) for name in NUMBERS}
        record |= {name: features[name].numpy().decode() for name in TEXTS}
        record |= {name: tf.io.decode_raw(features[name], tf.float64).numpy() for name in ARRAYS}
        yield record


def read_with_limbnet(files: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the same features, read by limbnet."""
    from limbnet.data.records import read_records

    for file in files:
        for record in read_records(file):
            numbers = (record.image_id, record.height, record.width, record.person_idx, len(record.joints) - 1)
            texts = (record.image_path, record.mask_path, record.dataset)
            arrays = (record.joints.ravel(), record.scales, record.centres.ravel())
            yield dict(zip((*NUMBERS, *TEXTS, *ARRAYS), (*numbers, *texts, *arrays), strict=True))


def digest(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Count the records and hash all of their features."""
    everything, count = hashlib.sha256(), 0
    for record in records:
        count += 1
        for name in sorted(record):
            value = record[name]
            everything.update(f"{name}={value if not isinstance(value, np.ndarray) else value.shape};".encode())
            if isinstance(value, np.ndarray):
                everything.update(value.astype("<f8").tobytes())
    return {"records": count, "sha256": everything.hexdigest()}


READERS = {"limbnet": read_with_limbnet, "tensorflow": read_with_tensorflow}


if __name__ == "__main__":
    main()
