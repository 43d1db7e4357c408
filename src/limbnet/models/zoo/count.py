"""How large a network is: its parameters, its multiply-adds, and a fingerprint of its state dict."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """Return the number of parameters, fixed ones included, buffers not."""
    return sum(parameter.numel() for parameter in network.parameters())


def learnable_parameters(network: nn.Module) -> int:
    """Return the number of parameters that training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def multiply_adds(network: nn.Module, inputs: Tensor) -> int:
    """Return the multiply-adds of one forward pass: those of convolutions, linear layers and attention products.

    Transposed convolutions count what they compute, a deformable convolution counts as a plain one; norms, activations,
    resizing and sampling are left out. On the `meta` device nothing is computed.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(inputs)
    finally:
        network.train(was_training)
    return int(counter.get_total_flops()) // 2


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def shape_lines(state: Mapping[str, Iterable[int]]) -> list[str]:
    """Return sorted lines `name 64x3x3x3`; a scalar's shape is written `scalar`."""
    return sorted(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in state.items())


def fingerprint(state: Mapping[str, Iterable[int]]) -> str:
    """Return the SHA-256 of the lines of `shape_lines` joined by line feeds: equal for files of one architecture."""
    return hashlib.sha256("\n".join(shape_lines(state)).encode()).hexdigest()
