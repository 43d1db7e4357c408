"""Crowds to decode: people of any skeleton in rows and columns, drawn as maps like the training targets."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from limbnet.data.targets import make_targets
from limbnet.skeleton import Skeleton

#: Of the drawn maps: the train spec's defaults, and noise as trained networks leave it (standard deviation).
SIGMA, PAF_DISTANCE, NOISE = 7.0, 1.0, 0.01


def crowd_maps(
    people: int, skeleton: Skeleton, input_size: tuple[int, int], stride: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return heatmaps (K + 1, h, w) and pafs (2 L, h, w) of a crowd of so many people, always the same ones."""
    rng = np.random.default_rng(seed)
    joints = crowd(people, skeleton, input_size, rng)
    coded = np.concatenate([joints, np.zeros((*joints.shape[:2], 1))], axis=-1)  # code 0: visible
    map_size = input_size[0] // stride, input_size[1] // stride
    maps = make_targets(coded, skeleton, map_size, stride, sigma=SIGMA, paf_distance=PAF_DISTANCE)
    heatmaps, pafs = (one + rng.normal(0, NOISE, one.shape).astype(np.float32) for one in maps)
    return heatmaps, pafs


def crowd(
    people: int, skeleton: Skeleton, input_size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return (P, K, 2) joints, x and y in pixels of the network's input.

    Everybody stands in a cell of a grid as square as can be, some pixels off its middle, with arms and legs (whatever
    those are in this skeleton) a little moved.
    """
    height, width = input_size
    columns = max(1, round(np.sqrt(people * width / height)))
    rows = -(-people // columns)
    cell = np.array([width / columns, height / rows])
    corner = np.array([divmod(number, columns)[::-1] for number in range(people)]).reshape(people, 1, 2) * cell
    stance = 0.1 + 0.8 * standing(skeleton)
    shift = rng.uniform(-0.08, 0.08, (people, 1, 2))
    moved = rng.normal(0, 0.015, (people, *stance.shape))
    joints: NDArray[np.float64] = corner + (stance + shift + moved) * cell
    return joints


def standing(skeleton: Skeleton) -> NDArray[np.float64]:
    """Return (K, 2) positions 0 to 1 of one person, drawn as a tree from the joint with most limbs down.

    A joint is as far down as it is limbs away from the root, and in the middle above the joints that hang on it; the
    last ones stand side by side. So no two joints meet, whatever the skeleton.
    """
    children, depth, order = _tree(skeleton)
    leaves = [joint for joint in _left_to_right(children, order[0]) if not children[joint]]
    across = np.zeros(len(skeleton.joints))
    across[leaves] = (np.arange(len(leaves)) + 0.5) / len(leaves)
    for joint in reversed(order):
        if children[joint]:
            across[joint] = np.mean(across[children[joint]])
    return np.column_stack([across, depth / max(1, depth.max())])


def _tree(skeleton: Skeleton) -> tuple[list[list[int]], NDArray[np.float64], list[int]]:
    """Return each joint's children, its distance from the root in limbs, and the joints from the root on."""
    count = len(skeleton.joints)
    root = int(np.bincount([*skeleton.limb_starts, *skeleton.limb_ends], minlength=count).argmax())
    children: list[list[int]] = [[] for _ in range(count)]
    depth, order, waiting, seen = np.zeros(count), [], deque([root]), {root}
    while waiting:
        joint = waiting.popleft()
        order.append(joint)
        for start, end in skeleton.limbs:
            other = end if start == joint else start
            if joint in (start, end) and other not in seen:
                seen.add(other)
                waiting.append(other)
                children[joint].append(other)
                depth[other] = depth[joint] + 1
    return children, depth, order


def _left_to_right(children: list[list[int]], joint: int) -> list[int]:
    """Return the joints of a tree, each before those that hang on it, sides together."""
    return [joint, *(below for child in children[joint] for below in _left_to_right(children, child))]
