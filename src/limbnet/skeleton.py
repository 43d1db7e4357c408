"""Skeleton: joints, limbs, flip pairs, sigmas and colours. The only place where joint knowledge lives.

Shapes in this package use one letter key: B batch, K joints, L limbs, H W network input, h w map, P people,
M peaks kept per joint, S stages.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import SpecError, nearest

#: Joints that a dataset need not label: the midpoint of two labelled ones (BodyPoseNet: the neck; OpenPose: both).
MIDPOINT_JOINTS: Mapping[str, tuple[str, str]] = {
    "neck": ("left_shoulder", "right_shoulder"),
    "mid_hip": ("left_hip", "right_hip"),
}

#: Words in the names of joints below the waist.
LOWER_BODY = ("hip", "knee", "ankle", "heel", "foot", "toe")

#: OKS sigmas of the COCO keypoint evaluation, by joint name (cocoapi, `cocoeval.py`).
COCO_SIGMAS: Mapping[str, float] = {
    "nose": 0.026,
    **dict.fromkeys(("left_eye", "right_eye"), 0.025),
    **dict.fromkeys(("left_ear", "right_ear"), 0.035),
    **dict.fromkeys(("left_shoulder", "right_shoulder"), 0.079),
    **dict.fromkeys(("left_elbow", "right_elbow"), 0.072),
    **dict.fromkeys(("left_wrist", "right_wrist"), 0.062),
    **dict.fromkeys(("left_hip", "right_hip"), 0.107),
    **dict.fromkeys(("left_knee", "right_knee"), 0.087),
    **dict.fromkeys(("left_ankle", "right_ankle"), 0.089),
}


@dataclass(frozen=True)
class Skeleton:
    """A named set of K joints and L limbs; a value that travels inside checkpoints and exported files.

    Attributes:
        name: the pose config's type, for example `bpnet_18_joints`.
        joints: K joint names; a joint's index is its heatmap channel, the background follows them.
        limbs: L pairs (start, end) of joint indices; limb l owns PAF channels 2l (x) and 2l + 1 (y), pointing from
            start to end.
        redundant: indices of limbs that connect joints but may not start a person when people are assembled.
        sigmas: K OKS sigmas, or () when unknown.
        category: name of the annotated category, `person` unless the pose config says otherwise.

    Raises:
        SpecError: joints named twice, limbs out of range or joined to themselves, joints no limb reaches, sigmas of the
            wrong number.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    redundant: frozenset[int] = frozenset()
    sigmas: tuple[float, ...] = ()
    category: str = field(default="person")

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SpecError(f"The skeleton '{self.name}' is wrong:\n  " + "\n  ".join(problems))

    def _problems(self) -> list[str]:
        count = len(self.joints)
        problems = [
            f"joint '{name}' is named twice" for name in sorted({j for j in self.joints if self.joints.count(j) > 1})
        ]
        for number, (start, end) in enumerate(self.limbs, 1):
            if not (0 <= start < count and 0 <= end < count):
                problems.append(f"limb {number} joins {start + 1} and {end + 1}, but there are {count} joints")
            elif start == end:
                problems.append(f"limb {number} joins '{self.joints[start]}' to itself")
        if problems or not self.limbs:
            return problems or ["there are no limbs, so people cannot be told apart"]
        reached = {self.limbs[0][0]}
        for _ in self.limbs:
            reached |= {joint for limb in self.limbs if reached & set(limb) for joint in limb}
        lost = [name for index, name in enumerate(self.joints) if index not in reached]
        problems += [f"no chain of limbs reaches joint '{name}'" for name in lost]
        if self.sigmas and len(self.sigmas) != count:
            problems.append(f"{len(self.sigmas)} sigmas for {count} joints")
        return problems

    @property
    def heat_channels(self) -> int:
        """K + 1: a heatmap per joint, then the background."""
        return len(self.joints) + 1

    @property
    def paf_channels(self) -> int:
        """2 L: the x and y components of every limb's part affinity field."""
        return 2 * len(self.limbs)

    @cached_property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (left, right) of joint indices that trade places in a mirrored picture, matched by name."""
        pairs = []
        for left, name in enumerate(self.joints):
            mirrored = mirrored_name(name)
            if name != mirrored and "left" in name and mirrored in self.joints:
                pairs.append((left, self.joints.index(mirrored)))
        return tuple(pairs)

    @cached_property
    def flip_index(self) -> NDArray[np.intp]:
        """(K,) permutation of the joints in a left-right mirrored picture; its own inverse."""
        index = np.arange(len(self.joints))
        for left, right in self.flip_pairs:
            index[[left, right]] = right, left
        return index

    @cached_property
    def lower_body(self) -> NDArray[np.bool_]:
        """(K,) joints below the waist, told by their names."""
        return np.array([any(part in joint for part in LOWER_BODY) for joint in self.joints])

    @cached_property
    def flip_limbs(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """(L,) limb that each limb becomes when mirrored, and (L,) sign +1 or -1 of its direction.

        A limb whose mirror image is not in the skeleton maps to itself.
        """
        index, sign = np.arange(len(self.limbs)), np.ones(len(self.limbs))
        for number, (start, end) in enumerate(self.limbs):
            mirrored = int(self.flip_index[start]), int(self.flip_index[end])
            if mirrored in self.limbs:
                index[number] = self.limbs.index(mirrored)
            elif mirrored[::-1] in self.limbs:
                index[number], sign[number] = self.limbs.index(mirrored[::-1]), -1.0
        return index, sign

    @cached_property
    def limb_starts(self) -> NDArray[np.intp]:
        """(L,) joint index at the start of each limb."""
        return np.array([start for start, _ in self.limbs], dtype=np.intp)

    @cached_property
    def limb_ends(self) -> NDArray[np.intp]:
        """(L,) joint index at the end of each limb."""
        return np.array([end for _, end in self.limbs], dtype=np.intp)

    @cached_property
    def limb_colours(self) -> tuple[tuple[int, int, int], ...]:
        """L colours (red, green, blue), 0 to 255, evenly spread over the hues so that neighbouring limbs differ."""
        hues = (number / len(self.limbs) for number in range(len(self.limbs)))
        return tuple(
            (round(255 * r), round(255 * g), round(255 * b))
            for r, g, b in (colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in hues)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the skeleton as plain JSON values; `from_dict` reads them back."""
        return {
            "name": self.name,
            "category": self.category,
            "joints": list(self.joints),
            "limbs": [list(limb) for limb in self.limbs],
            "redundant": sorted(self.redundant),
            "sigmas": list(self.sigmas),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Skeleton:
        """Rebuild a skeleton from what `to_dict` returned."""
        return cls(
            name=str(content["name"]),
            joints=tuple(str(name) for name in content["joints"]),
            limbs=tuple((int(start), int(end)) for start, end in content["limbs"]),
            redundant=frozenset(int(limb) for limb in content["redundant"]),
            sigmas=tuple(float(sigma) for sigma in content["sigmas"]),
            category=str(content["category"]),
        )

    @classmethod
    def from_names(
        cls,
        name: str,
        joints: Sequence[str],
        limbs: Sequence[tuple[str, str]],
        redundant: Sequence[tuple[str, str]] = (),
        sigmas: Sequence[float] | None = None,
    ) -> Skeleton:
        """Build a skeleton from joint names, limbs given as pairs of names.

        Without `sigmas` those of COCO are used when every joint has one (the midpoint joints borrow their ends'), and
        none otherwise.
        """
        for joint in (joint for limb in (*limbs, *redundant) for joint in limb):
            if joint not in joints:
                raise SpecError(f"Skeleton '{name}': a limb names the joint '{joint}'.{nearest(joint, joints)}")
        indices = [(joints.index(start), joints.index(end)) for start, end in limbs]
        return cls(
            name=name,
            joints=tuple(joints),
            limbs=tuple(indices),
            redundant=frozenset(limbs.index(limb) for limb in redundant),
            sigmas=tuple(sigmas) if sigmas is not None else default_sigmas(joints),
        )


def mirrored_name(name: str) -> str:
    """Return the joint's name on the other side of the body: `left` and `right` trade places."""
    if "left" in name:
        return name.replace("left", "right")
    return name.replace("right", "left")


def default_sigmas(joints: Sequence[str]) -> tuple[float, ...]:
    """Return COCO's sigma for each joint name, or () unless every one is known."""
    known = dict(COCO_SIGMAS)
    for joint, (first, second) in MIDPOINT_JOINTS.items():
        known[joint] = (known[first] + known[second]) / 2
    return tuple(known[joint] for joint in joints) if all(joint in known for joint in joints) else ()


def _body_18() -> Skeleton:
    limbs = [
        ("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
        ("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
        ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
        ("right_shoulder", "right_ear"),
        ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
        ("left_shoulder", "left_ear"),
        ("neck", "nose"), ("nose", "right_eye"), ("nose", "left_eye"),
        ("right_eye", "right_ear"), ("left_eye", "left_ear"),
    ]  # fmt: skip
    joints = (
        "nose", "neck",
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
    )  # fmt: skip
    return Skeleton.from_names("bpnet_18_joints", joints, limbs, redundant=limbs[-2:])


#: BodyPoseNet's 18 joints and 19 limbs (`bpnet_18joints.json`); the eye-ear limbs are redundant.
BODY_18 = _body_18()

#: The 17 joints of COCO keypoints in their official order.
COCO_JOINTS: tuple[str, ...] = tuple(COCO_SIGMAS)

#: COCO's 17 joints and 19 limbs, with which published networks are trained.
COCO_17 = Skeleton(
    "coco_17_joints",
    COCO_JOINTS,
    ((0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (5, 11), (6, 8), (6, 12), (7, 9), (8, 10),
     (11, 12), (11, 13), (12, 14), (13, 15), (14, 16)),
    sigmas=tuple(COCO_SIGMAS.values()),
)  # fmt: skip

#: OpenPose's COCO model: BodyPoseNet's joints, its own limbs in the order in which its decoder takes them.
OPENPOSE_18 = Skeleton(
    "openpose_coco_18_joints",
    BODY_18.joints,
    ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
     (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17)),
    sigmas=BODY_18.sigmas,
)  # fmt: skip

#: OpenPose's BODY_25: a joint between the hips, and six on the feet, which come last.
OPENPOSE_25 = Skeleton(
    "openpose_body_25",
    (
        *BODY_18.joints[:8], "mid_hip", *BODY_18.joints[8:],
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    ),
    ((1, 8), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14),
     (1, 0), (0, 15), (15, 17), (0, 16), (16, 18), (2, 17), (5, 18), (14, 19), (19, 20), (14, 21), (11, 22), (22, 23),
     (11, 24)),
)  # fmt: skip
