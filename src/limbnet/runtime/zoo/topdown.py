"""Top-down estimators: a crop for every person box, a heatmap for every joint, then scores and suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.data.boxes import PersonBoxes
from limbnet.decode.crops import Crops
from limbnet.decode.flip import flip_average
from limbnet.decode.nms import JOINT_THRESHOLD, OKS_THRESHOLD, oks_nms, person_scores
from limbnet.decode.topdown import Refinement, decode_crops
from limbnet.errors import DataError
from limbnet.evaluation.coco import sigmas_for
from limbnet.poses import Poses
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.zoo.network import Tensors, ZooNetwork
from limbnet.skeleton import Skeleton


@dataclass(frozen=True)
class TopDownRule:
    """How a system crops and decodes.

    Attributes:
        refinement: what follows the highest cell.
        unbiased: lengths are one less than the number of pixels, see `Crops`; so are those of the true boxes.
        flip_shift: cells by which mirrored maps are moved to the right.
        joint_threshold: joints above it count in a person's score.
        oks_threshold: people more similar than this are one.
    """

    refinement: Refinement = "quarter"
    unbiased: bool = False
    flip_shift: int = 1
    joint_threshold: float = JOINT_THRESHOLD
    oks_threshold: float = OKS_THRESHOLD


HRNET = TopDownRule()
DARK = TopDownRule(refinement="dark", unbiased=True, flip_shift=0)

#: Networks that crop and decode otherwise than HRNet.
RULES: dict[str, TopDownRule] = {
    "darkpose_hrnet_w32_256x192": DARK,
    "darkpose_hrnet_w48_384x288": DARK,
    "transpose_r_a3_256x192": DARK,
    "transpose_h_a6_256x192": DARK,
}


@dataclass(frozen=True)
class CropInputs:
    """The crops of one picture, ready for the network.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        crops: where they lie in the picture.
        box_scores: (N,) of the boxes.
        picture: (height, width) of the picture.
    """

    images: NDArray[np.uint8]
    crops: Crops
    box_scores: NDArray[np.float64]
    picture: tuple[int, int]


class TopDownEstimator:
    """Finds the joints of people whose boxes are given.

    Three steps, so that each can be timed: `prepare`, `run` and `decode`; a call does all of them.

    Args:
        network: a network whose head is `joint_maps`.
        skeleton: its joints.
        rule: how its system crops and decodes.
        flip: average with the mirrored crops, a second pass.
        batch: crops in one run of the network; the published tests take one.
    """

    needs_boxes = True

    def __init__(
        self, network: ZooNetwork, skeleton: Skeleton, rule: TopDownRule = HRNET, *, flip: bool = False, batch: int = 1
    ) -> None:
        if network.entry.input_size is None:
            raise ValueError(f"'{network.entry.name}' takes no picture")
        self.network = network
        self.skeleton = skeleton
        self.rule = rule
        self.flip = flip
        self.batch = batch
        self.input_size = network.entry.input_size
        self._sigmas = np.array(sigmas_for(skeleton.joints, skeleton=skeleton))

    def __call__(self, picture: Any, boxes: PersonBoxes | None = None) -> Poses:
        """Find the joints of the people in one picture: a path, an RGB array (h, w, 3) uint8 or a PIL image.

        Raises:
            DataError: the picture is unreadable, or there are no boxes.
        """
        inputs = self.prepare(as_picture(picture), boxes)
        return self.decode(inputs, self.run(inputs))

    def prepare(self, picture: NDArray[np.uint8], boxes: PersonBoxes | None = None) -> CropInputs:
        """Cut the boxes out of a picture (h, w, 3) uint8 RGB."""
        if boxes is None:
            raise DataError(
                f"{self.network.entry.system} finds the joints of a person in a box, and no boxes were given.",
                "Give the boxes of the ground truth or of a detections file.",
            )
        crops = Crops.around(boxes.boxes, self.input_size, self.rule.unbiased)
        size = picture.shape[0], picture.shape[1]
        return CropInputs(crops.images(picture, self.input_size), crops, boxes.scores, size)

    def run(self, inputs: CropInputs) -> list[Tensors]:
        """Return the heatmaps (N, K, h, w) of all crops, and with flip those of the mirrored crops."""
        views = [inputs.images, inputs.images[:, :, ::-1]] if self.flip else [inputs.images]
        return [(self._heatmaps(view),) for view in views] if len(inputs.crops) else []

    def _heatmaps(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = range(0, len(images), self.batch)
        return np.concatenate([self.network.run(images[first : first + self.batch])[0] for first in parts])

    def decode(self, inputs: CropInputs, answer: list[Tensors]) -> Poses:
        """Turn what `run` returned into poses in the picture, best person first."""
        if not answer:
            return Poses.empty(self.skeleton, inputs.picture)
        heatmaps = answer[0][0]
        if self.flip:
            heatmaps = flip_average(heatmaps, answer[1][0], self.skeleton.flip_index, self.rule.flip_shift)
        cells, values = decode_crops(heatmaps, self.rule.refinement)
        points = inputs.crops.to_picture(cells, heatmaps.shape[2:])
        scores = person_scores(values, inputs.box_scores, self.rule.joint_threshold)
        kept = oks_nms(points, scores, inputs.crops.areas, self._sigmas, self.rule.oks_threshold)
        found = values[kept] > 0
        return Poses(
            np.where(found[..., None], points[kept], np.nan).astype(np.float32),
            np.where(found, values[kept], 0).astype(np.float32),
            scores[kept].astype(np.float32),
            self.skeleton,
            inputs.picture,
        )
