"""Bottom-up estimators of published systems: everybody in a picture at once, at one or several scales.

Like the top-down one they work in three steps, so that each can be timed: `prepare`, `run` and `decode`; a call does
all of them. Each takes boxes for the sake of a common signature, and ignores them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from limbnet.data.boxes import PersonBoxes
from limbnet.decode.dekr import decode_offsets, rescoring_features
from limbnet.decode.matching import MatchSettings
from limbnet.decode.multiresolution import TagView, aggregate
from limbnet.decode.offsets import OffsetSettings, OffsetView, offset_view
from limbnet.decode.openpose import decode_parts
from limbnet.decode.parts import PartSettings
from limbnet.decode.shortside import ShortSideFit
from limbnet.decode.tags import TagSettings, decode_tags, grouping_order
from limbnet.decode.topleft import TopLeftFit
from limbnet.errors import SpecError
from limbnet.poses import Poses
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.zoo.network import Tensors, ZooNetwork
from limbnet.skeleton import Skeleton

FitKind = TypeVar("FitKind", ShortSideFit, TopLeftFit)

#: DEKR's test moves the mirrored picture so many pixels to the left, the last columns staying as they are.
DEKR_FLIP_SHIFT = 3

#: DEKR's share of a pose's diagonal that counts as close, with several scales.
DEKR_SEVERAL_SCALES = 0.15


@dataclass(frozen=True)
class PictureInputs(Generic[FitKind]):
    """One picture, ready for the network.

    Attributes:
        images: (H, W, 3) uint8 RGB, scale by scale, each plain and then, with flip, mirrored.
        fit: how the picture fills the network's input.
    """

    images: tuple[NDArray[np.uint8], ...]
    fit: FitKind


class BottomUpEstimator(ABC, Generic[FitKind]):
    """What the bottom-up estimators have in common; `prepare` and `decode` are their own."""

    needs_boxes = False

    def __init__(self, network: ZooNetwork, skeleton: Skeleton) -> None:
        if network.entry.input_size is None:
            raise ValueError(f"'{network.entry.name}' takes no picture")
        self.network = network
        self.skeleton = skeleton
        self.side = min(network.entry.input_size)

    def __call__(self, picture: Any, boxes: PersonBoxes | None = None) -> Poses:
        """Find the people in one picture: a path, an RGB array (h, w, 3) uint8 or a PIL image.

        Raises:
            DataError: the picture is unreadable.
        """
        inputs = self.prepare(as_picture(picture), boxes)
        return self.decode(inputs, self.run(inputs))

    @abstractmethod
    def prepare(self, picture: NDArray[np.uint8], boxes: PersonBoxes | None = None) -> PictureInputs[FitKind]:
        """Fit a picture (h, w, 3) uint8 RGB to the network."""

    def run(self, inputs: PictureInputs[FitKind]) -> list[Tensors]:
        """Return the head's tensors for each image, batches of one."""
        return [self.network.run(image[None]) for image in inputs.images]

    @abstractmethod
    def decode(self, inputs: PictureInputs[FitKind], answer: list[Tensors]) -> Poses:
        """Turn what `run` returned into poses in the picture, best person first."""

    def _poses(
        self,
        points: NDArray[np.floating],
        joint_scores: NDArray[np.float32],
        scores: NDArray[np.float32],
        picture: tuple[int, int],
    ) -> Poses:
        return Poses(points.astype(np.float32), np.maximum(joint_scores, 0), scores, self.skeleton, picture)


class _ScaledEstimator(BottomUpEstimator[ShortSideFit]):
    """HigherHRNet and DEKR: the short side decides, several scales, flip test."""

    #: Pixels by which the mirrored picture is moved to the left.
    flip_shift = 0

    def __init__(
        self, network: ZooNetwork, skeleton: Skeleton, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> None:
        super().__init__(network, skeleton)
        self.scales = tuple(sorted(scales, reverse=True))
        self.flip = flip
        if not self.scales or min(self.scales) <= 0:
            raise SpecError(f"scales holds {list(scales)}.", "Scales are factors on the input size, above 0.")

    def prepare(self, picture: NDArray[np.uint8], boxes: PersonBoxes | None = None) -> PictureInputs[ShortSideFit]:
        """Warp a picture (h, w, 3) uint8 RGB to the network's input at every scale, the largest first."""
        del boxes
        fit = ShortSideFit.plan((picture.shape[0], picture.shape[1]), self.side, self._smallest())
        images = []
        for scale in self.scales:
            image = fit.image(picture, scale)
            images += [image, self._mirrored(image)] if self.flip else [image]
        return PictureInputs(tuple(images), fit)

    @abstractmethod
    def _smallest(self) -> float:
        """Return the scale whose input sides are multiples of 64."""

    def _mirrored(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mirrored = np.ascontiguousarray(image[:, ::-1])
        if self.flip_shift:
            mirrored[:, : -self.flip_shift] = mirrored[:, self.flip_shift :].copy()
        return mirrored

    def _of_scale(self, answer: list[Tensors], number: int) -> list[Tensors]:
        """Return what the network said about one scale, without the batch: plain and, with flip, mirrored."""
        views = 1 + self.flip
        return [tuple(tensor[0] for tensor in one) for one in answer[number * views : (number + 1) * views]]


class TagEstimator(_ScaledEstimator):
    """HigherHRNet.

    Args:
        network: a network whose head is `tag_maps`.
        skeleton: its joints.
        scales: factors on the input size; the tags come from scale 1 or from the only scale.
        flip: average with the mirrored picture, whose tags are used beside the others.
        settings: thresholds; HigherHRNet's when None.

    Raises:
        SpecError: a scale is not positive, or there are several and none is 1.
    """

    def __init__(
        self,
        network: ZooNetwork,
        skeleton: Skeleton,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        settings: TagSettings | None = None,
    ) -> None:
        super().__init__(network, skeleton, scales=scales, flip=flip)
        self.settings = settings or TagSettings()
        self._order = grouping_order(skeleton.joints)
        if len(self.scales) > 1 and 1.0 not in self.scales:
            raise SpecError(f"scales holds {list(scales)}.", "HigherHRNet reads its tags at scale 1: add 1.0.")

    def _smallest(self) -> float:
        return min(self.scales)

    def decode(self, inputs: PictureInputs[ShortSideFit], answer: list[Tensors]) -> Poses:
        """Turn what `run` returned into poses in the picture, best person first."""
        views = [
            TagView(scale, [(coarse, fine) for coarse, fine in self._of_scale(answer, number)])
            for number, scale in enumerate(self.scales)
        ]
        fields = aggregate(views, inputs.fit.size(), self.skeleton.flip_index)
        people = decode_tags(fields, self._order, self.settings)
        points = inputs.fit.to_picture(people.keypoints)
        return self._poses(points, people.joint_scores, people.scores, inputs.fit.picture)


class OffsetEstimator(_ScaledEstimator):
    """DEKR.

    Args:
        network: a network whose head is `offset_maps`.
        skeleton: its joints.
        scales: factors on the input size; 1 must be among them.
        flip: average with the mirrored picture.
        settings: thresholds; DEKR's for one or several scales when None.
        rescore: maps features (P, 3L + K) of `rescoring_features` to factors (P, 1) on the scores; the published AP
            includes it.
        match: how joints are matched to the heatmaps; they are not when None, as in the published settings.

    Raises:
        SpecError: a scale is not positive, or none is 1.
    """

    flip_shift = DEKR_FLIP_SHIFT

    def __init__(
        self,
        network: ZooNetwork,
        skeleton: Skeleton,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        settings: OffsetSettings | None = None,
        rescore: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
        match: MatchSettings | None = None,
    ) -> None:
        super().__init__(network, skeleton, scales=scales, flip=flip)
        if 1.0 not in self.scales:
            raise SpecError(f"scales holds {list(scales)}.", "DEKR measures other scales by scale 1: add 1.0.")
        several = replace(OffsetSettings(), nms_threshold=DEKR_SEVERAL_SCALES)
        self.settings = settings or (OffsetSettings() if len(self.scales) == 1 else several)
        self.rescore = rescore
        self.match = match

    def _smallest(self) -> float:
        return 1.0

    def decode(self, inputs: PictureInputs[ShortSideFit], answer: list[Tensors]) -> Poses:
        """Turn what `run` returned into poses in the picture, best person first."""
        views = [self._view(answer, number) for number in range(len(self.scales))]
        people = decode_offsets(views, self.settings, match=self.match)
        points, scores = inputs.fit.to_picture(people.keypoints), people.scores
        order = np.arange(len(people))
        if self.rescore is not None and len(people):
            factors = self.rescore(rescoring_features(points, people.joint_scores, self.skeleton))[:, 0]
            scores = scores * np.nan_to_num(factors)
            order = np.argsort(-scores, kind="stable")
        return self._poses(points[order], people.joint_scores[order], scores[order], inputs.fit.picture)

    def _view(self, answer: list[Tensors], number: int) -> OffsetView:
        (heatmaps, offsets), *mirrored = self._of_scale(answer, number)
        other = (mirrored[0][0], mirrored[0][1]) if mirrored else None
        return offset_view(self.scales[number], (heatmaps, offsets), other, self.skeleton.flip_index)


class PartEstimator(BottomUpEstimator[TopLeftFit]):
    """OpenPose at its default settings: one scale, no flip test.

    Args:
        network: a network whose head is `part_maps`.
        skeleton: its parts, and its limbs in the order in which its decoder takes them.
        paf_order: (2L,) channel of the network for the x and y component of each limb of the skeleton.
        settings: thresholds; OpenPose's when None.
    """

    def __init__(
        self,
        network: ZooNetwork,
        skeleton: Skeleton,
        paf_order: NDArray[np.intp],
        settings: PartSettings | None = None,
    ) -> None:
        super().__init__(network, skeleton)
        self.paf_order = paf_order
        self.settings = settings or PartSettings()

    def prepare(self, picture: NDArray[np.uint8], boxes: PersonBoxes | None = None) -> PictureInputs[TopLeftFit]:
        """Warp a picture (h, w, 3) uint8 RGB to the network's input."""
        del boxes
        fit = TopLeftFit.plan((picture.shape[0], picture.shape[1]), self.side)
        return PictureInputs((fit.image(picture),), fit)

    def decode(self, inputs: PictureInputs[TopLeftFit], answer: list[Tensors]) -> Poses:
        """Turn what `run` returned into poses in the picture, best person first."""
        heatmaps, pafs = (tensor[0] for tensor in answer[0])
        fit = inputs.fit
        people = decode_parts(
            heatmaps, pafs[self.paf_order], self.skeleton, fit.size, offset=fit.factor / 2, settings=self.settings
        )
        return self._poses(fit.to_picture(people.keypoints), people.joint_scores, people.scores, fit.picture)
