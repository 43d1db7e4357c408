"""Pictures to calibrate with: found in a folder, drawn by chance from a seed, fitted to the network's input as in
inference.

They may be kept in a tensor file, the HDF5 layout of NVIDIA's export: batch i is the gzip dataset
`_tensorfile_array_key_` of the group `_tensorfile_array_key__<i>`, float64, normalised; the root's attributes `count`
and `shape` are the number of batches and the shape of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from limbnet.data.pictures import read_picture
from limbnet.errors import DataError
from limbnet.files import whole_file
from limbnet.geometry import FitMode, fit
from limbnet.models.info import ModelInfo

#: Suffixes of the pictures in a calibration folder, in any case.
SUFFIXES = (".jpg", ".jpeg", ".png")

_GROUP, _DATASET = "_tensorfile_array_key__", "_tensorfile_array_key_"


@dataclass(frozen=True)
class CalibrationPictures:
    """Pictures in the order in which they are used.

    Attributes:
        paths: the chosen pictures.
        size: (height, width) of the network's input.
        batch_size: pictures in one batch; their number is a multiple of it.
        info: normalisation, colour order, stride and fit mode.
    """

    paths: tuple[Path, ...]
    size: tuple[int, int]
    batch_size: int
    info: ModelInfo

    def __len__(self) -> int:
        return len(self.paths) // self.batch_size

    def images(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return pictures `start` to `stop` as (B, H, W, 3) uint8 RGB that fill the input.

        Raises:
            DataError: some cannot be read; all of the range are named.
        """
        images, broken = [], []
        for path in self.paths[start:stop]:
            try:
                images.append(fit_strictly(read_picture(path), self.size, self.info))
            except DataError as error:
                broken.append(error.what)
        if broken:
            raise DataError(
                "Some calibration pictures cannot be read:\n  " + "\n  ".join(broken),
                "Remove them from the folder and repeat the command.",
            )
        return np.stack(images)

    def check(self) -> None:
        """Raise a `DataError` that names every picture which cannot be read, before long work begins."""
        broken = []
        for path in self.paths:
            try:
                read_picture(path)
            except DataError as error:
                broken.append(error.what)
        if broken:
            raise DataError(
                f"{len(broken)} of {len(self.paths)} calibration pictures cannot be read:\n  " + "\n  ".join(broken),
                "Remove them from the folder and repeat the command.",
            )

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield batches (B, H, W, 3) float32, normalised, in the network's colour order."""
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield normalised(self.images(start, start + self.batch_size), self.info)


def fit_strictly(picture: NDArray[np.uint8], size: tuple[int, int], info: ModelInfo) -> NDArray[np.uint8]:
    """Fit one picture (h, w, 3) to exactly (H, W, 3): padded, or stretched for a model that stretches."""
    mode: FitMode = "stretch" if info.fit_mode == "stretch" else "pad_image_input"
    height, width = picture.shape[:2]
    return fit((height, width), size, mode, info.stride).image(picture)


def normalised(images: NDArray[np.uint8], info: ModelInfo) -> NDArray[np.float32]:
    """Turn (B, H, W, 3) uint8 RGB into what the network itself sees, channels last."""
    values = images[..., ::-1] if info.colour_order == "bgr" else images
    scale, offset = np.array(info.image_scale, np.float32), np.array(info.image_offset, np.float32)
    return values.astype(np.float32) / scale - offset


def find_pictures(folder: Path | str) -> list[Path]:
    """List the pictures in a folder and the folders in it, sorted by name.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'.", "Name a folder of pictures with --cal_image_dir.")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def choose_pictures(
    folder: Path | str, batches: int, batch_size: int, size: tuple[int, int], info: ModelInfo, *, seed: int = 42
) -> CalibrationPictures:
    """Draw `batches * batch_size` pictures of a folder by chance, without repetition.

    Raises:
        DataError: the folder holds too few.
    """
    found, wanted = find_pictures(folder), batches * batch_size
    if len(found) < wanted:
        raise DataError(
            f"Calibration needs {wanted} pictures ({batches} batches of {batch_size}), but '{folder}' holds "
            f"{len(found)} ({', '.join(SUFFIXES)}).",
            f"Use --batches {len(found) // batch_size} or fewer, or add pictures."
            if len(found) >= batch_size
            else "Add pictures.",
        )
    chosen = np.random.default_rng(seed).choice(len(found), wanted, replace=False)
    return CalibrationPictures(tuple(found[index] for index in chosen), size, batch_size, info)


def write_tensor_file(
    path: Path | str, batches: CalibrationPictures, channels_first: bool = False, done: Callable[[], None] | None = None
) -> None:
    """Write the normalised pictures to a tensor file, whole or not at all; `done` is called after each batch."""
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        count, shape = 0, (0,)
        for batch in batches:
            values = batch.transpose(0, 3, 1, 2) if channels_first else batch
            group = file.create_group(f"{_GROUP}{count}")
            group.create_dataset(_DATASET, data=values.astype(np.float64), compression="gzip", compression_opts=1)
            count, shape = count + 1, values.shape
            if done:
                done()
        file.attrs["count"], file.attrs["shape"] = count, shape


class TensorFile:
    """A tensor file, read batch by batch.

    Attributes:
        path: the file.
        size: (height, width) of its pictures.
        batch_size: pictures in one batch.

    Raises:
        DataError: it is missing, no tensor file, or its pictures have another size than `size`.
    """

    def __init__(self, path: Path | str, size: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        todo = "Delete it (--cal_data_file) and give --cal_image_dir to write it anew."
        try:
            with h5py.File(self.path) as file:
                self._count = int(file.attrs["count"])
                shape = file[f"{_GROUP}0/{_DATASET}"].shape
                missing = [number for number in range(self._count) if f"{_GROUP}{number}/{_DATASET}" not in file]
        except (OSError, KeyError, AttributeError, TypeError) as error:
            raise DataError(f"'{self.path}' is no calibration tensor file ({error}).", todo) from error
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or missing:
            what = f"batches {missing[:5]} are missing" if missing else f"a batch has the shape {tuple(shape)}"
            raise DataError(f"The calibration tensor file '{self.path}' is damaged: {what}.", todo)
        self.channels_first = shape[3] != 3
        self.batch_size = int(shape[0])
        self.size = (int(shape[2]), int(shape[3])) if self.channels_first else (int(shape[1]), int(shape[2]))
        if size is not None and self.size != size:
            raise DataError(
                f"The pictures in '{self.path}' are {self.size[0]}x{self.size[1]} (height x width), but the network's "
                f"input is to be {size[0]}x{size[1]}.",
                f"Use -d {self.size[0]},{self.size[1]},3. {todo}",
            )

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield batches (B, H, W, 3) float32, normalised, in the network's colour order."""
        with h5py.File(self.path) as file:
            for number in range(self._count):
                values = np.asarray(file[f"{_GROUP}{number}/{_DATASET}"], dtype=np.float32)
                yield values.transpose(0, 2, 3, 1) if self.channels_first else values

    def images(self, start: int, stop: int, info: ModelInfo) -> NDArray[np.uint8]:
        """Return pictures `start` to `stop` as (B, H, W, 3) uint8 RGB, the normalisation undone."""
        batches: Sequence[NDArray[np.float32]] = []
        for batch in self:
            batches = [*batches, batch]
            if sum(map(len, batches)) >= stop:
                break
        values = np.concatenate(batches)[start:stop]
        pixels = (values + np.array(info.image_offset)) * np.array(info.image_scale)
        pixels = pixels[..., ::-1] if info.colour_order == "bgr" else pixels
        whole: NDArray[np.uint8] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        return whole
