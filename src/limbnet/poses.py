"""Poses: the people found in one picture, to and from COCO results and `detections.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbnet.skeleton import Skeleton

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from limbnet.draw import DrawStyle

#: Decimals of coordinates in result files: a thousandth of a pixel.
DECIMALS = 3


@dataclass(frozen=True)
class Poses:
    """The P people found in one picture.

    Attributes:
        keypoints: (P, K, 2) float32, x and y in pixels of the original picture, NaN where a joint was not found.
        joint_scores: (P, K) float32, 0 to 1, heatmap value at each joint, 0 where it was not found.
        scores: (P,) float32, 0 to 1, best person first.
        skeleton: names the K joints and the limbs between them.
        image_size: (height, width) of the original picture in pixels.
    """

    keypoints: NDArray[np.float32]
    joint_scores: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        people, joints = len(self.scores), len(self.skeleton.joints)
        if self.keypoints.shape != (people, joints, 2) or self.joint_scores.shape != (people, joints):
            raise ValueError(
                f"expected keypoints ({people}, {joints}, 2) and joint_scores ({people}, {joints}), "
                f"got {self.keypoints.shape} and {self.joint_scores.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.image_size
        people = "1 person" if len(self) == 1 else f"{len(self)} people"
        return f"Poses({people} of {len(self.skeleton.joints)} joints in a picture of {width}x{height} pixels)"

    @classmethod
    def empty(cls, skeleton: Skeleton, image_size: tuple[int, int]) -> Poses:
        """Return the poses of a picture in which nobody was found."""
        joints = len(skeleton.joints)
        return cls(
            np.zeros((0, joints, 2), np.float32),
            np.zeros((0, joints), np.float32),
            np.zeros(0, np.float32),
            skeleton,
            image_size,
        )

    @property
    def found(self) -> NDArray[np.bool_]:
        """(P, K) True where a joint was found."""
        return ~np.isnan(self.keypoints[..., 0])

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(P, 4) float32 x0, y0, x1, y1 around the found joints of each person."""
        low, high = np.nanmin(self.keypoints, axis=1), np.nanmax(self.keypoints, axis=1)
        return np.concatenate([low, high], axis=1)

    def joint(self, name: str) -> NDArray[np.float32]:
        """Return (P, 2) positions of the joint called `name`."""
        return self.keypoints[:, self.skeleton.joints.index(name)]

    def in_order(self, joints: tuple[str, ...]) -> NDArray[np.float32]:
        """Return (P, len(joints), 3) float32 x, y, score in another order of joints, by name; zeros where not found."""
        out = np.zeros((len(self), len(joints), 3), np.float32)
        for target, name in enumerate(joints):
            if name in self.skeleton.joints:
                source = self.skeleton.joints.index(name)
                out[:, target, :2] = np.nan_to_num(self.keypoints[:, source])
                out[:, target, 2] = self.joint_scores[:, source]
        return out

    def to_coco(
        self, image_id: int = 0, joints: tuple[str, ...] | None = None, category_id: int = 1
    ) -> list[dict[str, Any]]:
        """Return COCO keypoint results, one dict a person, with the joints a dataset names, in its order.

        Without `joints` they are the skeleton's own.

        A joint that was found has the third number 1, one that was not is 0, 0, 0. Coordinates are rounded to a
        thousandth of a pixel.
        """
        ordered = self.in_order(self.skeleton.joints if joints is None else joints)
        results = []
        for points, score in zip(ordered, self.scores, strict=True):
            marked = points.astype(np.float64)
            marked[:, 2] = points[:, 2] > 0
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "keypoints": np.round(marked, DECIMALS).ravel().tolist(),
                    "score": float(score),
                }
            )
        return results

    def to_detections(self) -> dict[str, Any]:
        """Return the `keypoints` [person][joint][x, y] and `scores` [person] of `detections.json`.

        Missing joints are 0, 0; coordinates are rounded to a thousandth of a pixel.
        """
        return {
            "keypoints": np.round(np.nan_to_num(self.keypoints).astype(float), DECIMALS).tolist(),
            "scores": self.scores.astype(float).tolist(),
        }

    def draw(self, image: NDArray[np.uint8] | Image | Path | str, style: DrawStyle | None = None) -> NDArray[np.uint8]:
        """Return the picture as (h, w, 3) uint8 RGB with the people drawn on it.

        Args:
            image: the picture they were found in: an RGB array, which stays as it is, a PIL image or a path.
            style: how; see `limbnet.draw.DrawStyle`.

        Raises:
            DataError: the file at a path cannot be read.
        """
        from limbnet.draw import draw_poses

        return draw_poses(image, self, style)
