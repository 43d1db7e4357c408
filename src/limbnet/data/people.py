"""Rules for people: who may stand in the centre of a sample, who is labelled around, joints in the network's order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from limbnet.data.coco import Annotations, CocoDataset
from limbnet.errors import DataError, nearest
from limbnet.skeleton import MIDPOINT_JOINTS, Skeleton
from limbnet.specs.dataset import DataFilteringParams, DatasetSpec, Visibility

#: Visibility names by their code, 0 visible to 5 not labelled in this dataset.
VISIBILITY_NAMES: tuple[str, ...] = get_args(Visibility)
NOT_LABELLED = VISIBILITY_NAMES.index("not_labeled")
NOT_IN_DATASET = VISIBILITY_NAMES.index("not_labeled_in_dataset")

#: Seed of the order in which samples are written and read.
ORDER_SEED = 42


def people_of_interest(annotations: Annotations, rules: DataFilteringParams) -> list[int]:
    """Return the rows of the people in one picture who may stand in the centre of a sample, in the order of the file.

    A person needs enough labelled keypoints, enough area, and a distance to everybody accepted before that is at least
    a ratio of that person's larger side.
    """
    smallest_area = rules.min_acceptable_width * rules.min_acceptable_height
    good = (annotations.labelled_count >= rules.min_acceptable_kpts) & (annotations.areas >= smallest_area)
    candidates = np.flatnonzero(good)
    if len(candidates) <= 1:
        return [int(person) for person in candidates]
    centres = annotations.centres
    reach = annotations.boxes[:, 2:].max(axis=1) * rules.min_acceptable_interperson_dist_ratio
    accepted: list[int] = []
    for person in candidates:
        distance = np.hypot(*(centres[accepted] - centres[person]).T)
        if not (distance < reach[accepted]).any():
            accepted.append(int(person))
    return accepted


def people_around(annotations: Annotations, main: int) -> list[int]:
    """Return the rows of a sample's people: the main one first, then every other person with a keypoint."""
    labelled = np.flatnonzero(annotations.labelled_count > 0)
    return [main, *(int(person) for person in labelled if person != main)]


def select_samples(dataset: CocoDataset, rules: DataFilteringParams, each_person: bool) -> list[tuple[int, int]]:
    """Return (picture, row of its main person) of every sample in the order of the file.

    Args:
        dataset: the annotations.
        rules: who may be a main person.
        each_person: one sample for each main person instead of one for each picture.
    """
    selected: list[tuple[int, int]] = []
    for number in np.flatnonzero(np.diff(dataset.first)):
        mains = people_of_interest(dataset.annotations(int(number)), rules)
        selected += [(int(number), main) for main in (mains if each_person else mains[:1])]
    return selected


def seeded_random() -> Random:
    """Return the generator that orders samples, at its start."""
    return Random(ORDER_SEED)


def shuffled(count: int, random: Random) -> list[int]:
    """Return the numbers 0 to count - 1 in the order that Python 3.10's `shuffle(x, random.random)` gives.

    Later versions draw differently, and records must not depend on the version of Python.
    """
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(random.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def visibility_codes(spec: DatasetSpec, flags: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace a dataset's visibility flags (...) by visibility codes (...).

    Raises:
        DataError: a flag that the dataset spec does not explain.
    """
    settings = spec.visibility_flags
    codes = np.full(flags.shape, np.nan)
    for label, value in settings.value.items():
        codes[flags == value] = VISIBILITY_NAMES.index(settings.mapping[label])
    unknown = np.unique(flags[np.isnan(codes)])
    if len(unknown):
        found = ", ".join(f"{flag:g}" for flag in unknown)
        known = ", ".join(map(str, sorted(settings.value.values())))
        raise DataError(
            f"The annotations of '{spec.dataset}' have the visibility flag {found}.",
            f"visibility_flags.value of the dataset spec explains only {known}: add it there, or mend the annotations.",
        )
    return codes


@dataclass(frozen=True)
class JointMapping:
    """From a dataset's joints and visibility flags to a skeleton's joints and limbnet's visibility codes.

    Attributes:
        spec: names the dataset's J joints and its flags.
        skeleton: the K joints wanted.
    """

    spec: DatasetSpec
    skeleton: Skeleton

    def __post_init__(self) -> None:
        if not (self._sources >= 0).any():
            known = self.spec.category.keypoints
            raise DataError(
                f"The dataset '{self.spec.dataset}' and the skeleton '{self.skeleton.name}' have no joint in common."
                + nearest(self.skeleton.joints[0], known),
                f"The dataset spec names: {', '.join(known)}.",
            )

    @cached_property
    def _sources(self) -> NDArray[np.intp]:
        """(K,) place of each of the skeleton's joints in the dataset, -1 where it has none."""
        names = self.spec.category.keypoints
        return np.array([names.index(joint) if joint in names else -1 for joint in self.skeleton.joints], dtype=np.intp)

    @cached_property
    def _midpoints(self) -> list[tuple[int, int, int]]:
        """The skeleton's joints that are the midpoint of two of the dataset's: (joint, first, second)."""
        names = self.spec.category.keypoints
        return [
            (number, names.index(ends[0]), names.index(ends[1]))
            for number, joint in enumerate(self.skeleton.joints)
            if joint not in names and (ends := MIDPOINT_JOINTS.get(joint)) and set(ends) <= set(names)
        ]

    def joints(self, keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert the dataset's keypoints (P, J, 3) with flags to the skeleton's joints (P, K, 3) with codes.

        Joints that the dataset does not know stand at 0, 0 with the code 5. A midpoint joint (the neck) is labelled
        only if both its ends are, and no better visible than the worse of them.
        """
        keypoints = np.concatenate(
            [keypoints[..., :2], visibility_codes(self.spec, keypoints[..., 2])[..., None]], axis=-1
        )
        joints = np.zeros((len(keypoints), len(self._sources), 3))
        joints[..., 2] = NOT_IN_DATASET
        known = self._sources >= 0
        joints[:, known] = keypoints[:, self._sources[known]]
        for number, first, second in self._midpoints:
            a, b = keypoints[:, first], keypoints[:, second]
            joints[:, number, 2] = np.maximum(a[:, 2], b[:, 2])
            labelled = joints[:, number, 2] < NOT_LABELLED
            joints[labelled, number, :2] = (a[labelled, :2] + b[labelled, :2]) / 2
        return joints

    def confidence(self, confidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert confidences (P, J) to (P, K): 0 for joints the dataset does not know, for a midpoint the lesser."""
        out = np.zeros((len(confidence), len(self._sources)))
        known = self._sources >= 0
        out[:, known] = confidence[:, self._sources[known]]
        for number, first, second in self._midpoints:
            out[:, number] = np.minimum(confidence[:, first], confidence[:, second])
        return out


def check_some(
    count: int,
    where: str,
    todo: str = "Check data_filtering_params in the dataset spec and the keypoints in the annotation file.",
) -> None:
    """Raise a `DataError` when nobody was selected."""
    if count:
        return
    raise DataError(f"{where} contains nobody to train on.", todo)
