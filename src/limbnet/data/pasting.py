"""Copy and paste: people cut out of other pictures along their outlines (Ghiasi et al. 2021, "Simple copy-paste")."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.data.augment import MASK_BACKGROUND, SpatialDraw, spatial_transform, transform_joints, warp_picture
from limbnet.data.masks import outline_mask
from limbnet.data.mixing import TRUNCATED, Piece, joined_confidence
from limbnet.data.pictures import read_picture
from limbnet.data.samples import Samples
from limbnet.data.targets import LAST_USED_CODE
from limbnet.errors import DataError
from limbnet.geometry import Affine
from limbnet.skeleton import Skeleton
from limbnet.specs.recipe import CopyPasteParams

#: An outline that fills more of its own box than this is no outline, but the box.
BOX_LIKE = 0.95

#: Pixels of a warped outline above this lie inside of it.
INSIDE = 127


def samples_to_cut(samples: Samples) -> NDArray[np.int64]:
    """Return the numbers of the samples whose main person has an outline.

    Raises:
        DataError: nobody has one; records, for instance, hold none.
    """
    mains = samples.rows[samples.first[:-1]]
    usable = {row for row in np.unique(mains) if samples.outlines and _is_outline(samples, int(row))}
    found = np.array([number for number, main in enumerate(mains) if main in usable], dtype=np.int64)
    if not len(found):
        raise DataError(
            "copy_paste_params needs people with outlines, and no annotation has one.",
            "Leave it out, or leave train_records_path out so that the annotation files are read: records hold none.",
        )
    return found


def _is_outline(samples: Samples, row: int) -> bool:
    """Tell a drawn outline from none and from a box that stands for one. Run lengths are always drawn."""
    outline = samples.outlines[row]
    if not isinstance(outline, tuple):
        return True
    if len(outline) != 1:
        return bool(outline)
    points = outline[0].reshape(-1, 2)
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    return bool(area < BOX_LIKE * np.prod(np.ptp(points, axis=0)))


class Scissors:
    """Cuts people out of the pictures of samples and pastes them over network inputs.

    Args:
        samples: where people are cut out.
        skeleton: what the network learns.
        params: how many people, how large.

    Raises:
        DataError: nobody has an outline.
    """

    def __init__(self, samples: Samples, skeleton: Skeleton, params: CopyPasteParams) -> None:
        self.samples, self.skeleton, self.params = samples, skeleton, params
        self.cuttable = samples_to_cut(samples)

    def paste(self, piece: Piece, rng: np.random.Generator) -> Piece:
        """Paste one to `most_people` people at random places, drawn from everybody who can be cut out.

        What they cover of others is truncated, and the loss counts where they stand.
        """
        for _ in range(int(rng.integers(1, self.params.most_people, endpoint=True))):
            piece = _over(piece, *self._cut(int(rng.choice(self.cuttable)), piece, rng))
        return piece

    def _cut(self, number: int, onto: Piece, rng: np.random.Generator) -> tuple[Piece, NDArray[np.uint8]]:
        """Bring a person to a random place of an input; return everything there, and (H, W) uint8 255 inside of it."""
        sample, params = self.samples[number], self.params
        height, width = size = onto.image.shape[0], onto.image.shape[1]
        draw = SpatialDraw(
            flip_lr=bool(rng.uniform() < 0.5),
            angle=math.radians(rng.uniform(-params.rotate_deg_max, params.rotate_deg_max)),
        )
        scale = rng.uniform(params.person_scale_min, params.person_scale_max)
        centred = spatial_transform("person_centric", draw, sample, size, scale)
        shift = (rng.uniform(0, width) - width // 2, rng.uniform(0, height) - height // 2)
        transform = centred.then(Affine.scale_shift(1, 1, *shift))
        outline = self.samples.outlines[self.samples.rows[self.samples.first[number]]]
        inside = cv2.warpAffine(
            outline_mask(outline, *sample.picture.size),
            transform.inverse().centred(),
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        confidence = None if sample.confidence is None else sample.confidence[:1]
        if confidence is not None and draw.flip_lr:
            confidence = confidence[:, self.skeleton.flip_index]
        cell = height // onto.cells.shape[0]
        person = Piece(
            warp_picture(read_picture(sample.picture.path), transform, sample.picture.size, size),
            transform_joints(sample.joints[:1], transform, draw.flip_lr, self.skeleton),
            confidence,
            np.where(inside[cell // 2 :: cell, cell // 2 :: cell] > INSIDE, np.float32(MASK_BACKGROUND), 0),
        )
        return person, np.asarray(inside, dtype=np.uint8)


def _over(piece: Piece, person: Piece, inside: NDArray[np.uint8]) -> Piece:
    """Lay what is inside an outline over a piece, with a soft edge."""
    height, width = inside.shape
    others = piece.joints.copy()
    x, y = np.floor(others[..., 0]), np.floor(others[..., 1])
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (others[..., 2] <= LAST_USED_CODE)
    covered = np.zeros(within.shape, dtype=bool)
    covered[within] = inside[y[within].astype(int), x[within].astype(int)] > INSIDE
    others[covered, 2] = TRUNCATED
    soft = cv2.GaussianBlur(inside, (3, 3), 0)[..., None].astype(np.float32) / 255
    both = Piece(piece.image, others, piece.confidence, piece.cells), person
    return Piece(
        np.rint(piece.image * (1 - soft) + person.image * soft).astype(np.uint8),
        np.concatenate([others, person.joints]),
        joined_confidence(both),
        np.maximum(piece.cells, person.cells),
    )
