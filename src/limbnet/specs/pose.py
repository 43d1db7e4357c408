"""Schema of the pose config (JSON): the joints and limbs that the network learns."""

from __future__ import annotations

from pydantic import Field

from limbnet.skeleton import Skeleton, default_sigmas
from limbnet.specs.base import Section


class PoseCategory(Section):
    """Joints and limbs of one category. `skeleton` holds 1-based pairs of joints, as in COCO."""

    supercategory: str = ""
    id: int = 1
    name: str = "person"
    num_joints: int | None = None
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    skeleton_edge_names: tuple[tuple[str, str], ...] = ()
    redundant_edge_names: tuple[tuple[str, str], ...] | None = Field(
        None,
        description="limbs that connect joints but may not start a person; the eye-ear limbs when absent",
    )
    sigmas: tuple[float, ...] | None = None


class PoseConfigFile(Section):
    """A whole pose config file."""

    pose_config_type: str = "bpnet_18_joints"
    categories: tuple[PoseCategory, ...]

    def skeleton(self) -> Skeleton:
        """Return the skeleton of the category called `person`, or of the only one.

        Raises:
            SpecError: the limbs are wrong (see `Skeleton`).
        """
        named = [category for category in self.categories if category.name == "person"]
        category = (named or list(self.categories))[0]
        joints = category.keypoints
        limbs = tuple((start - 1, end - 1) for start, end in category.skeleton) or tuple(
            (joints.index(start), joints.index(end)) for start, end in category.skeleton_edge_names
        )
        redundant_names = category.redundant_edge_names
        if redundant_names is None:
            redundant_names = (("right_eye", "right_ear"), ("left_eye", "left_ear"))
        redundant = {
            number
            for number, (start, end) in enumerate(limbs)
            if start < len(joints) and end < len(joints) and (joints[start], joints[end]) in redundant_names
        }
        return Skeleton(
            name=self.pose_config_type,
            joints=joints,
            limbs=limbs,
            redundant=frozenset(redundant),
            sigmas=category.sigmas if category.sigmas is not None else default_sigmas(joints),
            category=category.name,
        )
