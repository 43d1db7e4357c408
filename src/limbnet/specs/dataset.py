"""Schema of the dataset spec (JSON or YAML): where pictures, masks and annotations lie, and who is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from limbnet.specs.base import Section, without_effect

#: Names of the visibility a joint may have inside limbnet, with the codes of the reference (section 1.3).
Visibility = Literal["visible", "annotatable", "occluded", "truncated", "not_labeled", "not_labeled_in_dataset"]


class DataPaths(Section):
    """Paths of one part (train or test) of a dataset, relative to the dataset spec's `root_directory_path`."""

    images_root_dir_path: str
    mask_root_dir_path: str = ""
    annotation_root_dir_path: str


def joint_mistakes(
    keypoints: tuple[str, ...], num_joints: int | None, sigmas: tuple[float, ...] | None
) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for the joints of a category, in a dataset spec or in a pose config."""
    count = len(keypoints)
    if not count:
        yield "keypoints", "names no joint"
    for name in sorted({name for name in keypoints if keypoints.count(name) > 1}):
        yield "keypoints", f"names '{name}' twice"
    if num_joints is not None and num_joints != count:
        yield "num_joints", f"is {num_joints}, but keypoints names {count} joints"
    if sigmas is not None and len(sigmas) != count:
        yield "sigmas", f"holds {len(sigmas)} numbers for {count} joints"
    if sigmas is not None and min(sigmas, default=1) <= 0:
        yield "sigmas", "must be above 0"


def category_mistakes(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the list of categories: exactly one is used, the one called `person` or the only one."""
    if not names:
        yield "categories", "is empty: one category with keypoints is needed"
    elif len(names) > 1 and names.count("person") != 1:
        yield "categories", f"names {', '.join(names)}: with several, exactly one must be called 'person'"


class Category(Section):
    """One annotated category: its joints in the order of the annotation file."""

    supercategory: str = ""
    id: int = 1
    name: str = "person"
    num_joints: int | None = None
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = without_effect((), "the pose config's skeleton is used")
    skeleton_edge_names: tuple[tuple[str, str], ...] = without_effect((), "the pose config's skeleton is used")
    sigmas: tuple[float, ...] | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from joint_mistakes(self.keypoints, self.num_joints, self.sigmas)


def _usual_mapping() -> dict[str, Visibility]:
    return {"visible": "visible", "occluded": "occluded", "not_labeled": "not_labeled"}


class VisibilityFlags(Section):
    """The dataset's visibility labels: label name to number in the file, and label name to limbnet's name."""

    value: dict[str, int] = Field(default_factory=lambda: {"visible": 2, "occluded": 1, "not_labeled": 0})
    mapping: dict[str, Visibility] = Field(default_factory=_usual_mapping)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        for name in self.value:
            if name not in self.mapping:
                yield "mapping", f"says nothing about '{name}', which value names"
        numbers = list(self.value.values())
        for number in sorted({number for number in numbers if numbers.count(number) > 1}):
            yield "value", f"gives the number {number} to two labels"


class DataFilteringParams(Section):
    """Which people may stand in the centre of a sample."""

    min_acceptable_height: float = Field(32, ge=0)
    min_acceptable_width: float = Field(32, ge=0)
    min_acceptable_kpts: int = Field(5, ge=0)
    min_acceptable_interperson_dist_ratio: float = Field(0.3, ge=0)


class DatasetSpec(Section):
    """A whole dataset spec."""

    dataset: str = "coco"
    root_directory_path: Path
    train_data: DataPaths
    test_data: DataPaths
    duplicate_data_with_each_person_as_center: bool = True
    categories: tuple[Category, ...]
    visibility_flags: VisibilityFlags = VisibilityFlags()
    data_filtering_params: DataFilteringParams = DataFilteringParams()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from category_mistakes(tuple(category.name for category in self.categories))

    @property
    def category(self) -> Category:
        """The category called `person`, or the only one."""
        named = [category for category in self.categories if category.name == "person"]
        return (named or list(self.categories))[0]

    def part(self, mode: Literal["train", "test"]) -> DataPaths:
        """Return the paths of the training or of the test part."""
        return self.train_data if mode == "train" else self.test_data
