"""Schema of what training with little data needs: mixed pictures, pasted people, growing inputs. All limbnet's own.

Every key is off unless given, as in the original recipe.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from limbnet.specs.base import Section


class MosaicParams(Section):
    """Four samples in one input, each in a corner: crowds and small people out of pictures of a single person.

    `prob` is the share of inputs made so. The corners meet at a random point between `centre_min` and `centre_max`
    (shares of the input's sides).
    """

    prob: float = Field(0.5, ge=0, le=1)
    centre_min: float = Field(0.3, gt=0, lt=1)
    centre_max: float = Field(0.7, gt=0, lt=1)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.centre_min > self.centre_max:
            yield "centre_min", f"is {self.centre_min:g}, above centre_max {self.centre_max:g}"


class CopyPasteParams(Section):
    """People cut out of other pictures along their outlines (Ghiasi et al. 2021), where annotations have outlines.

    `prob` is the share of inputs that get one to `most_people` more. Their height is `person_scale_min` to
    `person_scale_max` of the input's; `rotate_deg_max` is about their own centre.
    """

    prob: float = Field(0.5, ge=0, le=1)
    most_people: int = Field(2, gt=0, le=16)
    person_scale_min: float = Field(0.2, gt=0)
    person_scale_max: float = Field(0.8, gt=0)
    rotate_deg_max: float = Field(20.0, ge=0)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.person_scale_min > self.person_scale_max:
            yield "person_scale_min", f"is {self.person_scale_min:g}, above person_scale_max {self.person_scale_max:g}"


class GrowingSize(Section):
    """From epoch `first_epoch` (0 is the first) on, the input is `height` x `width`."""

    first_epoch: int = Field(ge=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)


def growing_mistakes(sizes: tuple[GrowingSize, ...]) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for sizes that do not begin at epoch 0 or do not follow each other."""
    epochs = [size.first_epoch for size in sizes]
    if epochs and epochs[0] != 0:
        yield "growing_sizes", f"begins at epoch {epochs[0]}: the first entry needs first_epoch 0"
    if epochs != sorted(set(epochs)):
        yield "growing_sizes", f"has the first epochs {epochs}, which must rise"


def weight_mistakes(weights: dict[str, float], datasets: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for sampling weights that do not fit the datasets."""
    if not weights:
        return
    for name in weights.keys() - datasets.keys():
        yield f"dataset_weights.{name}", "is no name in dataset_specs"
    for name in datasets.keys() - weights.keys():
        yield "dataset_weights", f"says nothing about '{name}', which dataset_specs names"
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        yield "dataset_weights", "must not be negative, and at least one must be above 0"
