"""The zoo: published pose networks under their official names, shapes and functions.

`create_model` builds one, `load_weights` reads a released checkpoint into it, `CATALOGUE` tells what each is and costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbnet.models.zoo.catalogue import CATALOGUE, ZooEntry, find

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["CATALOGUE", "ZooEntry", "create_model", "find"]


def create_model(
    name: str,
    *,
    joints: int | None = None,
    input_size: tuple[int, int] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return the published network `name` with initial weights, in evaluation mode.

    Args:
        name: a key of `CATALOGUE`.
        joints: number of joints K, for weights of one's own; the published number when left out.
        input_size: (height, width). Only TransPose is built for one size; the others take any multiple and only have it
            checked.
        seed: seed of the initial weights; torch's own generator is left as it was.
        device: where the network goes; on `meta` it has names and shapes only.

    Returns:
        A module that maps images (B, 3, H, W), normalised as the entry says, to a named tuple of `zoo.outputs`.

    Raises:
        UsageError: unknown name, a number of joints or an input size the network cannot have.
    """
    # Here, because listing the catalogue must not wait for torch.
    from limbnet.models.zoo.build import build

    return build(name, joints, input_size, seed, device)
