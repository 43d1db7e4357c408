"""Schema of the pose config (JSON): the joints and limbs that the network learns."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from limbnet.errors import SpecError, nearest
from limbnet.skeleton import Skeleton, default_sigmas
from limbnet.specs.base import Section
from limbnet.specs.dataset import category_mistakes, joint_mistakes

#: Limbs that may not start a person when a pose config says nothing about it (BodyPoseNet's last two).
REDUNDANT_EDGES = (("right_eye", "right_ear"), ("left_eye", "left_ear"))


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

    @property
    def limbs(self) -> tuple[tuple[int, int], ...]:
        """Limbs as pairs of 0-based joint indices, from `skeleton` or else from the names."""
        if self.skeleton:
            return tuple((start - 1, end - 1) for start, end in self.skeleton)
        return tuple(
            (self.keypoints.index(start), self.keypoints.index(end)) for start, end in self.skeleton_edge_names
        )

    @property
    def redundant(self) -> frozenset[int]:
        """Indices of the limbs that may not start a person."""
        edges = REDUNDANT_EDGES if self.redundant_edge_names is None else self.redundant_edge_names
        joints = self.keypoints
        return frozenset(n for n, (start, end) in enumerate(self.limbs) if (joints[start], joints[end]) in edges)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from joint_mistakes(self.keypoints, self.num_joints, self.sigmas)
        unknown = list(self._unknown_joints())
        yield from unknown
        if unknown or not self.keypoints:
            return
        try:
            Skeleton("pose config", self.keypoints, self.limbs)
        except SpecError as error:
            key = "skeleton" if self.skeleton else "skeleton_edge_names"
            for line in error.what.splitlines()[1:]:
                yield key, line.strip()
            return
        names = [(self.keypoints[start], self.keypoints[end]) for start, end in self.limbs]
        if self.skeleton_edge_names and list(self.skeleton_edge_names) != names:
            yield "skeleton_edge_names", "names other limbs than skeleton, or in another order"
        for edge in self.redundant_edge_names or ():
            if edge not in names:
                yield "redundant_edge_names", f"names {edge[0]} to {edge[1]}, which is no limb of the skeleton"

    def _unknown_joints(self) -> Iterator[tuple[str, str]]:
        count = len(self.keypoints)
        for number, limb in enumerate(self.skeleton, 1):
            if not all(1 <= joint <= count for joint in limb):
                yield "skeleton", f"limb {number} joins {limb[0]} and {limb[1]}, but joints are numbered 1 to {count}"
        for key in ("skeleton_edge_names", "redundant_edge_names"):
            for joint in sorted({joint for edge in getattr(self, key) or () for joint in edge}):
                if joint not in self.keypoints:
                    yield key, f"names the joint '{joint}', which keypoints does not.{nearest(joint, self.keypoints)}"


class PoseConfigFile(Section):
    """A whole pose config file."""

    pose_config_type: str = "bpnet_18_joints"
    categories: tuple[PoseCategory, ...]

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from category_mistakes(tuple(category.name for category in self.categories))

    def skeleton(self) -> Skeleton:
        """Return the skeleton of the category called `person`, or of the only one."""
        named = [category for category in self.categories if category.name == "person"]
        category = (named or list(self.categories))[0]
        joints = category.keypoints
        return Skeleton(
            name=self.pose_config_type,
            joints=joints,
            limbs=category.limbs,
            redundant=category.redundant,
            sigmas=category.sigmas if category.sigmas is not None else default_sigmas(joints),
            category=category.name,
        )
