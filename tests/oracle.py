"""An engine that knows the answers: for pictures it was shown before it returns maps drawn from their annotations.

Everything around the network is the product's own: fitting, averaging of views, decoding, the way back to the picture,
evaluation. So AP measures what those cost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.data.coco import load_coco
from limbnet.data.people import JointMapping
from limbnet.data.pictures import read_picture
from limbnet.data.targets import make_targets
from limbnet.errors import DataError
from limbnet.geometry import FitMode
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Maps
from limbnet.runtime.views import View, plan_views
from limbnet.skeleton import BODY_18, COCO_JOINTS, Skeleton
from limbnet.specs.dataset import Category, DataPaths, DatasetSpec


def coco_spec(folder: Path, annotations: str, images: str) -> DatasetSpec:
    """A dataset spec of COCO's 17 joints whose test data lie in `folder`."""
    paths = DataPaths(images_root_dir_path=images, annotation_root_dir_path=annotations)
    category = Category(keypoints=COCO_JOINTS)
    return DatasetSpec(root_directory_path=folder, train_data=paths, test_data=paths, categories=(category,))


class Oracle:
    """Maps by the digest of the network's input."""

    name = "oracle"
    device = "cpu"
    fixed_size: tuple[int, int] | None = None
    max_batch: int | None = None
    preferred_batch = 1
    decode = "none"

    def __init__(self, skeleton: Skeleton = BODY_18, stride: int = 8, sigma: float = 7.0) -> None:
        self.info = ModelInfo(skeleton, stride=stride, input_size=(368, 368))
        self.sigma = sigma
        self.batches: list[int] = []
        self._maps: dict[bytes, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def learn(self, picture: NDArray[np.uint8], joints: NDArray[np.float64], views: Sequence[View]) -> None:
        """Remember what to say about a picture; joints (P, K, 3) in its own pixels, with visibility codes."""
        for view in views:
            placed = joints.copy()
            placed[..., :2] = view.transform.points(joints[..., :2])
            if view.mirrored:
                placed = placed[:, self.info.skeleton.flip_index]
            size = view.fit.size[0] // self.info.stride, view.fit.size[1] // self.info.stride
            maps = make_targets(placed, self.info.skeleton, size, self.info.stride, sigma=self.sigma, paf_distance=1.0)
            self._maps[_digest(view.image(picture))] = maps

    def learn_dataset(
        self,
        spec: DatasetSpec,
        size: tuple[int, int],
        mode: FitMode,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        """Learn every readable picture of a dataset's test data."""
        paths = spec.test_data
        root = spec.root_directory_path
        dataset = load_coco(
            root / paths.annotation_root_dir_path, root / paths.images_root_dir_path, spec.category, False
        )
        mapping = JointMapping(spec, self.info.skeleton)
        for number, image in enumerate(dataset.images):
            try:
                picture = read_picture(image.path)
            except DataError:
                continue
            people = dataset.annotations(number)
            joints = mapping.joints(people.keypoints[people.labelled_count > 0])
            shape = picture.shape[0], picture.shape[1]
            self.learn(picture, joints, plan_views(shape, size, mode, self.info.stride, scales=scales, flip=flip)[0])

    def run(self, images: NDArray[np.uint8]) -> Maps:
        """Look the answers up."""
        self.batches.append(len(images))
        answers = [self._maps[_digest(image)] for image in images]
        return Maps(np.stack([heat for heat, _ in answers]), np.stack([paf for _, paf in answers]))


def assembled_truth(spec: DatasetSpec, skeleton: Skeleton) -> dict[str, Any]:
    """The test annotations without the people whom no part affinity fields could assemble; those are ignored.

    Limbs reach from labelled joint to labelled joint only, so a person whose labelled joints fall apart into several
    groups, or has fewer than four, cannot come out whole however good the network is.
    """
    truth = json.loads((spec.root_directory_path / spec.test_data.annotation_root_dir_path).read_text())
    mapping = JointMapping(spec, skeleton)
    for annotation in truth["annotations"]:
        keypoints = np.array(annotation["keypoints"], dtype=np.float64).reshape(1, -1, 3)
        labelled = set(np.flatnonzero(mapping.joints(keypoints)[0, :, 2] <= 2).tolist())
        reached = {min(labelled)} if labelled else set()
        for _ in skeleton.limbs:
            reached |= {
                joint for limb in skeleton.limbs if set(limb) <= labelled and reached & set(limb) for joint in limb
            }
        if reached != labelled or len(labelled) < 4:
            annotation["num_keypoints"] = 0
    return truth


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
