"""More slow twins: Lite-HRNet, DEKR with its deformable convolution, OpenPose. See `zoo_twins`."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear
from zoo_twins import (
    State,
    basic_block,
    conv,
    conv_norm,
    has,
    hrnet_trunk,
    max_pool,
    nearest,
    norm,
    pool_to,
    relu,
    resize,
)


def unit(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution `conv` and, where there is one, norm `bn`."""
    x = conv(state, f"{name}.conv", x, stride)
    return norm(state, f"{name}.bn", x) if has(state, f"{name}.bn") else x


def shuffle(x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    return x[:, [source for channel in range(half) for source in (channel, channel + half)]]


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    half = x.shape[1] // 2
    return x[:, :half], x[:, half:]


def stem(state: State, name: str, x: Tensor) -> Tensor:
    left, right = halves(relu(unit(state, f"{name}.conv1", x, 2)))
    left = relu(unit(state, f"{name}.branch1.1", unit(state, f"{name}.branch1.0", left, 2)))
    right = relu(unit(state, f"{name}.expand_conv", right))
    right = relu(unit(state, f"{name}.linear_conv", unit(state, f"{name}.depthwise_conv", right, 2)))
    return shuffle(torch.cat((left, right), 1))


def separable(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    x = norm(state, f"{name}.1", conv(state, f"{name}.0", x, stride))
    return norm(state, f"{name}.3", conv(state, f"{name}.2", x))


def shuffle_unit(state: State, name: str, x: Tensor) -> Tensor:
    passing, changed = halves(x)
    changed = relu(unit(state, f"{name}.branch2.0", changed))
    changed = relu(unit(state, f"{name}.branch2.2", unit(state, f"{name}.branch2.1", changed)))
    return shuffle(torch.cat((passing, changed), 1))


def cross_resolution_weighting(state: State, name: str, branches: list[Tensor]) -> list[Tensor]:
    lowest = tuple(branches[-1].shape[2:])
    together = torch.cat([pool_to(branch, lowest) for branch in branches], 1)
    weights = 1 / (1 + (-unit(state, f"{name}.conv2", relu(unit(state, f"{name}.conv1", together)))).exp())
    out, start = [], 0
    for branch in branches:
        own = weights[:, start : start + branch.shape[1]]
        out.append(branch * nearest(own, branch.shape[2] // lowest[0]))
        start += branch.shape[1]
    return out


def spatial_weighting(state: State, name: str, x: Tensor) -> Tensor:
    inner = relu(unit(state, f"{name}.conv1", x.mean((2, 3), keepdim=True)))
    return x / (1 + (-unit(state, f"{name}.conv2", inner)).exp())


def channel_weighting(state: State, name: str, branches: list[Tensor]) -> list[Tensor]:
    pairs = [halves(branch) for branch in branches]
    changed = cross_resolution_weighting(state, f"{name}.cross_resolution_weighting", [pair[1] for pair in pairs])
    out = []
    for index, (passing, _) in enumerate(pairs):
        x = unit(state, f"{name}.depthwise_convs.{index}", changed[index])
        x = spatial_weighting(state, f"{name}.spatial_weighting.{index}", x)
        out.append(shuffle(torch.cat((passing, x), 1)))
    return out


def lite_fuse(state: State, name: str, branches: list[Tensor]) -> list[Tensor]:
    """The fuse step as the published loop performs it, in place, repeated work included."""
    kept = [branch.clone() for branch in branches]
    outputs = []
    for target in range(len(kept)):

        def brought(source: int, target: int = target) -> Tensor:
            x, path = kept[source], f"{name}.{target}.{source}"
            if source == target:
                return x
            if source > target:
                return nearest(conv_norm(state, path, x), 2 ** (source - target))
            for step in range(target - source):
                x = separable(state, f"{path}.{step}", x, 2)
                x = relu(x) if step < target - source - 1 else x
            return x

        total = brought(0)  # for target 0 this is branch 0 itself, and what follows changes it
        for source in range(len(kept)):
            total += brought(source)
        outputs.append(relu(total))
    return outputs


def litehrnet(state: State, x: Tensor) -> tuple[Tensor, ...]:
    branches = [stem(state, "backbone.stem", x)]
    for stage in range(3):
        opened = []
        for index in range(stage + 2):
            name = f"backbone.transition{stage}.{index}"
            if index >= len(branches):
                opened.append(relu(separable(state, f"{name}.0", branches[-1], 2)))
            elif has(state, name):
                opened.append(relu(separable(state, name, branches[index], 1)))
            else:
                opened.append(branches[index])
        branches = opened
        module = 0
        while has(state, name := f"backbone.stage{stage}.{module}"):
            for block in range(2):
                if has(state, f"{name}.layers.{block}.cross_resolution_weighting"):
                    branches = channel_weighting(state, f"{name}.layers.{block}", branches)
                else:
                    branches = [
                        shuffle_unit(state, f"{name}.layers.{index}.{block}", branch)
                        for index, branch in enumerate(branches)
                    ]
            branches = lite_fuse(state, f"{name}.fuse_layers", branches)
            module += 1
    features = None
    for step, branch in enumerate(reversed(branches)):
        added = 0 if features is None else resize(features, tuple(branch.shape[2:]), corners=True)
        name = f"backbone.head_layer.projects.{step}"
        features = relu(unit(state, f"{name}.pointwise_conv", unit(state, f"{name}.depthwise_conv", branch + added)))
    return (conv(state, "keypoint_head.final_layer", features),)


def bilinear(picture: NDArray[np.float64], y: float, x: float) -> NDArray[np.float64]:
    """Read a picture (C, h, w) at one place; cells outside are zero."""
    value = np.zeros(picture.shape[0])
    top, left = math.floor(y), math.floor(x)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < picture.shape[1] and 0 <= column < picture.shape[2]:
                value += picture[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def deformable_conv(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """3x3, padding 1, no bias; `offsets` (B, 18, h, w) alternate y, x per tap, from each tap's regular place."""
    pictures, kernel, moves = x.numpy(), weight.numpy(), offsets.numpy()
    batch, _, height, width = pictures.shape
    out = np.zeros((batch, kernel.shape[0], height, width))
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                for tap in range(9):
                    y = row + tap // 3 - 1 + moves[b, 2 * tap, row, column]
                    place = column + tap % 3 - 1 + moves[b, 2 * tap + 1, row, column]
                    out[b, :, row, column] += kernel[:, :, tap // 3, tap % 3] @ bilinear(pictures[b], y, place)
    return torch.from_numpy(out)


def adaptive_block(state: State, name: str, x: Tensor) -> Tensor:
    matrix = conv(state, f"{name}.transform_matrix_conv", x)
    translation = conv(state, f"{name}.translation_conv", x)
    regular = state[f"{name}.regular_matrix"]
    offsets = torch.zeros(x.shape[0], 18, *x.shape[2:], dtype=x.dtype)
    for tap in range(9):
        gy, gx = regular[:, tap]
        offsets[:, 2 * tap] = matrix[:, 0] * gy + matrix[:, 1] * gx - gy + translation[:, 0]
        offsets[:, 2 * tap + 1] = matrix[:, 2] * gy + matrix[:, 3] * gx - gx + translation[:, 1]
    x_new = deformable_conv(x, state[f"{name}.adapt_conv.weight"], offsets)
    return relu(norm(state, f"{name}.bn", x_new) + x)


def dekr(state: State, x: Tensor) -> tuple[Tensor, ...]:
    branches = hrnet_trunk(state, x)
    size = tuple(branches[0].shape[2:])
    features = torch.cat([resize(branch, size, corners=False) for branch in branches], 1)
    heatmaps = relu(conv_norm(state, "transition_heatmap", features))
    heatmaps = conv(state, "head_heatmap.1", basic_block(state, "head_heatmap.0.0", heatmaps))
    features = relu(conv_norm(state, "transition_offset", features))
    offsets = []
    for joint in range(17):
        own = features[:, 15 * joint : 15 * (joint + 1)]
        for block in range(2):
            own = adaptive_block(state, f"offset_feature_layers.{joint}.{block}", own)
        offsets.append(conv(state, f"offset_final_layer.{joint}", own))
    return heatmaps, torch.cat(offsets, 1)


def rescore(state: State, x: Tensor) -> tuple[Tensor, ...]:
    for name in ("l1", "l2"):
        x = relu(linear(x, state[f"{name}.weight"], state[f"{name}.bias"]))
    return (linear(x, state["l3.weight"], state["l3.bias"]),)


VGG = ("1_1", "1_2", "P", "2_1", "2_2", "P", "3_1", "3_2", "3_3", "3_4", "P", "4_1", "4_2", "4_3_CPM", "4_4_CPM")


def caffe_layer(state: State, conv_name: str, x: Tensor) -> Tensor:
    """A convolution and its PReLU, or ReLU where the network has no such layer."""
    x = conv(state, conv_name, x)
    slope = state.get(conv_name.replace("conv", "prelu") + ".weight")
    return relu(x) if slope is None else torch.where(x > 0, x, x * slope[:, None, None])


def vgg(state: State, x: Tensor) -> Tensor:
    for name in VGG:
        x = max_pool(x, 2, 0) if name == "P" else caffe_layer(state, f"conv{name}", x)
    return x


def body25_stage(state: State, stage: str, x: Tensor) -> Tensor:
    for group in range(1, 6):
        first = caffe_layer(state, f"Mconv{group}_{stage}_0", x)
        second = caffe_layer(state, f"Mconv{group}_{stage}_1", first)
        third = caffe_layer(state, f"Mconv{group}_{stage}_2", second)
        x = torch.cat((first, second, third), 1)
    return conv(state, f"Mconv7_{stage}", caffe_layer(state, f"Mconv6_{stage}", x))


def body25(state: State, x: Tensor) -> tuple[Tensor, ...]:
    features = vgg(state, x)
    pafs = body25_stage(state, "stage0_L2", features)
    for stage in (1, 2, 3):
        pafs = body25_stage(state, f"stage{stage}_L2", torch.cat((features, pafs), 1))
    parts = body25_stage(state, "stage0_L1", torch.cat((features, pafs), 1))
    parts = body25_stage(state, "stage1_L1", torch.cat((features, parts, pafs), 1))
    return parts, pafs


def openpose_coco(state: State, x: Tensor) -> tuple[Tensor, ...]:
    features = vgg(state, x)
    ways = {}
    for branch in ("L1", "L2"):
        x = features
        for number in range(1, 5):
            x = caffe_layer(state, f"conv5_{number}_CPM_{branch}", x)
        ways[branch] = conv(state, f"conv5_5_CPM_{branch}", x)
    for stage in range(2, 7):
        together = torch.cat((ways["L1"], ways["L2"], features), 1)
        for branch in ("L1", "L2"):
            x = together
            for number in range(1, 7):
                x = caffe_layer(state, f"Mconv{number}_stage{stage}_{branch}", x)
            ways[branch] = conv(state, f"Mconv7_stage{stage}_{branch}", x)
    return ways["L2"], ways["L1"]
