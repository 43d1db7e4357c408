"""Which training data a published network learns from."""

from __future__ import annotations

from typing import Any

from limbnet.data.samples import Samples
from limbnet.data.stream import BatchStream, Maker
from limbnet.data.zoo.batches import JointMaker, OffsetMaker, TagMaker
from limbnet.data.zoo.samples import person_samples, picture_samples
from limbnet.runtime.zoo.topdown import HRNET, RULES
from limbnet.skeleton import Skeleton
from limbnet.specs.load import load_dataset_spec
from limbnet.specs.zoo_train import ZooTrainSpec


def zoo_training_data(spec: ZooTrainSpec, skeleton: Skeleton, rank: int = 0, world_size: int = 1) -> BatchStream[Any]:
    """Return the batches that one of `world_size` training processes sees.

    Raises:
        SpecError: a dataset spec is wrong.
        DataError: annotations or pictures are missing or wrong, or nobody is there to train on.
    """
    loader = spec.dataloader
    head, unbiased = spec.model.entry.head, RULES.get(spec.model.zoo, HRNET).unbiased
    parts = []
    for name, path in loader.dataset_config.dataset_specs.items():
        dataset = load_dataset_spec(path)
        if head == "joint_maps":
            parts.append(person_samples(dataset, skeleton, unbiased).called(name))
        else:
            parts.append(picture_samples(dataset, skeleton).called(name))
    samples = Samples.joined(parts)
    maker: Maker[Any]
    if head == "joint_maps":
        maker = JointMaker(samples, spec, skeleton, unbiased)
    elif head == "tag_maps":
        maker = TagMaker(samples, spec, skeleton)
    else:
        maker = OffsetMaker(samples, spec, skeleton)
    return BatchStream(
        maker,
        skeleton,
        batch_size=loader.batch_size,
        samples_per_epoch=loader.dataset_config.samples_per_epoch,
        workers=loader.workers,
        rank=rank,
        world_size=world_size,
    )
