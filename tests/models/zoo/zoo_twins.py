"""Second, slow implementations of the published networks, written on the names in their state dicts.

Which layers exist, and how many, is read from the names; nothing is shared with the package. Only plain convolutions
and linear layers are torch's; norms, resizing, pooling, attention, sampling and sums are written out. FP64 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear

State = Mapping[str, Tensor]


def has(state: State, prefix: str) -> bool:
    return any(name.startswith(prefix + ".") for name in state)


def conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    groups = x.shape[1] // weight.shape[1]
    return conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[2] // 2, groups=groups)


def norm(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias, mean, variance = (
        state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def conv_norm(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    return norm(state, f"{name}.1", conv(state, f"{name}.0", x, stride))


def nearest(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def resize_matrix(length: int, wanted: int, corners: bool) -> Tensor:
    """Weights (wanted, length) of linear interpolation along one axis."""
    matrix = torch.zeros(wanted, length, dtype=torch.float64)
    for row in range(wanted):
        if corners:
            place = row * (length - 1) / (wanted - 1) if wanted > 1 else 0.0
        else:
            place = min(max((row + 0.5) * length / wanted - 0.5, 0.0), length - 1.0)
        low = min(math.floor(place), length - 1)
        matrix[row, low] += 1 - (place - low)
        matrix[row, min(low + 1, length - 1)] += place - low
    return matrix


def resize(x: Tensor, size: tuple[int, int], corners: bool) -> Tensor:
    rows = resize_matrix(x.shape[2], size[0], corners)
    columns = resize_matrix(x.shape[3], size[1], corners)
    return torch.einsum("yh,bchw,xw->bcyx", rows, x, columns)


def pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean over the bins [floor(i n / m), ceil((i + 1) n / m)) of both axes."""
    out = x.new_zeros(*x.shape[:2], *size)
    height, width = x.shape[2:]
    for i in range(size[0]):
        for j in range(size[1]):
            top, bottom = i * height // size[0], -(-(i + 1) * height // size[0])
            left, right = j * width // size[1], -(-(j + 1) * width // size[1])
            out[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return out


def max_pool(x: Tensor, kernel: int, padding: int) -> Tensor:
    """Maximum at stride 2."""
    side = x.new_full((*x.shape[:2], x.shape[2] + 2 * padding, x.shape[3] + 2 * padding), -math.inf)
    side[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]] = x
    height, width = ((n - kernel) // 2 + 1 for n in side.shape[2:])
    taps = [
        side[:, :, dy : dy + 2 * height - 1 : 2, dx : dx + 2 * width - 1 : 2]
        for dy in range(kernel)
        for dx in range(kernel)
    ]
    return torch.stack(taps).amax(0)


def transposed_conv(state: State, name: str, x: Tensor) -> Tensor:
    """4x4, stride 2, padding 1: cell (i, j) adds to output 2 i - 1 + k."""
    weight = state[f"{name}.weight"]
    batch, _, height, width = x.shape
    canvas = x.new_zeros(batch, weight.shape[1], 2 * height + 2, 2 * width + 2)
    for dy in range(4):
        for dx in range(4):
            part = torch.einsum("bihw,io->bohw", x, weight[:, :, dy, dx])
            canvas[:, :, dy : dy + 2 * height : 2, dx : dx + 2 * width : 2] += part
    return canvas[:, :, 1:-1, 1:-1]


def basic_block(state: State, name: str, x: Tensor) -> Tensor:
    inner = relu(norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", x)))
    return relu(norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", inner)) + x)


def bottleneck(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    inner = relu(norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", x)))
    inner = relu(norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", inner, stride)))
    inner = norm(state, f"{name}.bn3", conv(state, f"{name}.conv3", inner))
    if has(state, f"{name}.downsample"):
        x = conv_norm(state, f"{name}.downsample", x, stride)
    return relu(inner + x)


def bottlenecks(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    for number in count():
        if not has(state, f"{name}.{number}"):
            return x
        x = bottleneck(state, f"{name}.{number}", x, stride if number == 0 else 1)
    raise AssertionError


def hrnet_trunk(state: State, x: Tensor) -> list[Tensor]:
    x = relu(norm(state, "bn1", conv(state, "conv1", x, 2)))
    x = relu(norm(state, "bn2", conv(state, "conv2", x, 2)))
    branches = [bottlenecks(state, "layer1", x)]
    stage = 2
    while has(state, f"stage{stage}"):
        opened = []
        for index in range(stage):
            name = f"transition{stage - 1}.{index}"
            if has(state, f"{name}.0.0"):  # a new branch: a list of halvings
                opened.append(relu(conv_norm(state, f"{name}.0", branches[-1], 2)))
            elif has(state, name):
                opened.append(relu(conv_norm(state, name, branches[index])))
            else:
                opened.append(branches[index])
        branches = opened
        module = 0
        while has(state, f"stage{stage}.{module}"):
            branches = hrnet_module(state, f"stage{stage}.{module}", branches)
            module += 1
        stage += 1
    return branches


def hrnet_module(state: State, name: str, branches: list[Tensor]) -> list[Tensor]:
    branches = list(branches)
    for index in range(len(branches)):
        for block in range(4):
            branches[index] = basic_block(state, f"{name}.branches.{index}.{block}", branches[index])
    outputs = []
    for target in range(len(branches)):
        if not has(state, f"{name}.fuse_layers.{target}"):
            break
        total = torch.zeros_like(branches[target])
        for source, branch in enumerate(branches):
            path, added = f"{name}.fuse_layers.{target}.{source}", branch
            if source > target:
                added = nearest(conv_norm(state, path, added), 2 ** (source - target))
            for step in range(target - source):
                added = conv_norm(state, f"{path}.{step}", added, 2)
                added = relu(added) if step < target - source - 1 else added
            total = total + added
        outputs.append(relu(total))
    return outputs


def hrnet(state: State, x: Tensor) -> tuple[Tensor, ...]:
    return (conv(state, "final_layer", hrnet_trunk(state, x)[0]),)


def higherhrnet(state: State, x: Tensor) -> tuple[Tensor, ...]:
    features = hrnet_trunk(state, x)[0]
    coarse = conv(state, "final_layers.0", features)
    finer = transposed_conv(state, "deconv_layers.0.0.0", torch.cat((features, coarse), 1))
    finer = relu(norm(state, "deconv_layers.0.0.1", finer))
    for block in range(1, 5):
        finer = basic_block(state, f"deconv_layers.0.{block}.0", finer)
    return coarse, conv(state, "final_layers.1", finer)


def position_embedding(height: int, width: int, channels: int) -> Tensor:
    out = np.zeros((height * width, 1, channels))
    half = channels // 2
    for cell in range(height * width):
        row, column = cell // width + 1, cell % width + 1
        for place, (number, last) in enumerate(((row, height), (column, width))):
            angle = number / (last + 1e-6) * 2 * math.pi
            for channel in range(half):
                inner = angle / 10000 ** (2 * (channel // 2) / half)
                value = math.sin(inner) if channel % 2 == 0 else math.cos(inner)
                out[cell, 0, place * half + channel] = value
    return torch.from_numpy(out)


def layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(state: State, name: str, located: Tensor, plain: Tensor, heads: int) -> Tensor:
    """Queries and keys from `located`, values from `plain`, both (cells, C); each head alone."""
    channels = plain.shape[1]
    weight, bias = state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"]
    sources = (located, located, plain)
    query, key, value = (
        linear(source, weight[part * channels : (part + 1) * channels], bias[part * channels : (part + 1) * channels])
        for part, source in enumerate(sources)
    )
    size = channels // heads
    out = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        likeness = query[:, own] @ key[:, own].T / math.sqrt(size)
        likeness = (likeness - likeness.amax(1, keepdim=True)).exp()
        out.append(likeness / likeness.sum(1, keepdim=True) @ value[:, own])
    return linear(torch.cat(out, 1), state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"])


def encoder(state: State, x: Tensor, heads: int) -> Tensor:
    maps = []
    for picture in x:
        cells = picture.flatten(1).T
        layer = 0
        while has(state, name := f"global_encoder.layers.{layer}"):
            located = cells + state["pos_embedding"][:, 0]
            cells = layer_norm(
                state, f"{name}.norm1", cells + attention(state, f"{name}.self_attn", located, cells, heads)
            )
            inner = relu(linear(cells, state[f"{name}.linear1.weight"], state[f"{name}.linear1.bias"]))
            inner = linear(inner, state[f"{name}.linear2.weight"], state[f"{name}.linear2.bias"])
            cells = layer_norm(state, f"{name}.norm2", cells + inner)
            layer += 1
        maps.append(cells.T.reshape(picture.shape))
    return torch.stack(maps)


def transpose_r(state: State, x: Tensor) -> tuple[Tensor, ...]:
    x = max_pool(relu(norm(state, "bn1", conv(state, "conv1", x, 2))), 3, 1)
    x = bottlenecks(state, "layer2", bottlenecks(state, "layer1", x), stride=2)
    x = encoder(state, conv(state, "reduce", x), heads=8)
    x = relu(norm(state, "deconv_layers.1", transposed_conv(state, "deconv_layers.0", x)))
    return (conv(state, "final_layer", x),)


def transpose_h(state: State, x: Tensor) -> tuple[Tensor, ...]:
    x = encoder(state, conv(state, "reduce", hrnet_trunk(state, x)[0]), heads=1)
    return (conv(state, "final_layer", x),)
