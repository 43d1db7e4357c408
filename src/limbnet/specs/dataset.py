"""Schema of the dataset spec (JSON or YAML): where pictures, masks and annotations lie, and who is worth training on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from limbnet.specs.base import Section, without_effect

#: Names of the visibility a joint may have inside limbnet, with the codes of the reference (section 1.3).
Visibility = Literal["visible", "annotatable", "occluded", "truncated", "not_labeled", "not_labeled_in_dataset"]


class DataPaths(Section):
    """Paths of one part (train or test) of a dataset, relative to the dataset spec's `root_directory_path`."""

    images_root_dir_path: str
    mask_root_dir_path: str = ""
    annotation_root_dir_path: str


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

    @model_validator(mode="after")
    def _count(self) -> Category:
        if self.num_joints is not None and self.num_joints != len(self.keypoints):
            raise ValueError(f"num_joints is {self.num_joints}, but keypoints names {len(self.keypoints)} joints")
        if self.sigmas is not None and len(self.sigmas) != len(self.keypoints):
            raise ValueError(f"{len(self.sigmas)} sigmas for {len(self.keypoints)} joints")
        return self


class VisibilityFlags(Section):
    """The dataset's visibility labels: label name to number in the file, and label name to limbnet's name."""

    value: dict[str, int] = {"visible": 2, "occluded": 1, "not_labeled": 0}
    mapping: dict[str, Visibility] = {
        "visible": "visible",
        "occluded": "occluded",
        "not_labeled": "not_labeled",
    }

    @model_validator(mode="after")
    def _mapped(self) -> VisibilityFlags:
        missing = [name for name in self.value if name not in self.mapping]
        if missing:
            raise ValueError(f"mapping says nothing about {', '.join(missing)}")
        return self


class DataFilteringParams(Section):
    """Which people may stand in the centre of a sample (reference section 1.5)."""

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

    @model_validator(mode="after")
    def _has_category(self) -> DatasetSpec:
        if not self.categories:
            raise ValueError("categories is empty: at least one category with keypoints is needed")
        return self

    @property
    def category(self) -> Category:
        """The category called `person`, or the only one."""
        named = [category for category in self.categories if category.name == "person"]
        return (named or list(self.categories))[0]

    def part(self, mode: Literal["train", "test"]) -> DataPaths:
        """Return the paths of the training or of the test part."""
        return self.train_data if mode == "train" else self.test_data
