"""Random crowds and their maps, drawn by the label formulas: the ground on which decoders are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.skeleton import BODY_18, Skeleton

STRIDE = 8
SIGMA = 7.0
MAP_SIZE = (36, 48)

#: Bones from the neck outwards: joint, the joint it hangs on, offset in body heights, spread of its angle in radians.
BONES = (
    ("nose", "neck", (0.0, -0.10), 0.3),
    ("right_shoulder", "neck", (-0.11, 0.01), 0.3),
    ("right_elbow", "right_shoulder", (-0.04, 0.17), 0.8),
    ("right_wrist", "right_elbow", (0.0, 0.15), 0.8),
    ("left_shoulder", "neck", (0.11, 0.01), 0.3),
    ("left_elbow", "left_shoulder", (0.04, 0.17), 0.8),
    ("left_wrist", "left_elbow", (0.0, 0.15), 0.8),
    ("right_hip", "neck", (-0.07, 0.30), 0.15),
    ("right_knee", "right_hip", (-0.01, 0.24), 0.4),
    ("right_ankle", "right_knee", (0.0, 0.23), 0.4),
    ("left_hip", "neck", (0.07, 0.30), 0.15),
    ("left_knee", "left_hip", (0.01, 0.24), 0.4),
    ("left_ankle", "left_knee", (0.0, 0.23), 0.4),
    ("right_eye", "nose", (-0.02, -0.02), 0.3),
    ("left_eye", "nose", (0.02, -0.02), 0.3),
    ("right_ear", "right_eye", (-0.03, 0.01), 0.3),
    ("left_ear", "left_eye", (0.03, 0.01), 0.3),
)


@dataclass(frozen=True)
class Crowd:
    """Joints (P, K, 2) in pixels of the network's input, NaN where missing, and the maps drawn from them."""

    joints: NDArray[np.float64]
    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]


def random_crowd(
    seed: int,
    people: int,
    map_size: tuple[int, int] = MAP_SIZE,
    missing: float = 0.1,
    noise: float = 0.0,
    height: tuple[float, float] = (60.0, 280.0),
) -> Crowd:
    """Draw people, some of them cut by the border, with some joints missing and Gaussian noise on the maps."""
    rng = np.random.default_rng(seed)
    crowd = [random_person(rng, map_size, height) for _ in range(people)]
    joints = np.array(crowd).reshape(people, len(BODY_18.joints), 2)
    joints[rng.random(joints.shape[:2]) < missing] = np.nan
    size = np.array(map_size[::-1]) * STRIDE
    joints[~((joints >= -0.5) & (joints < size - 0.5)).all(axis=-1)] = np.nan
    heatmaps, pafs = render(joints, BODY_18, map_size)
    if noise:
        heatmaps += rng.normal(0, noise, heatmaps.shape).astype(np.float32)
        pafs += rng.normal(0, noise, pafs.shape).astype(np.float32)
    return Crowd(joints, heatmaps, pafs)


def random_person(
    rng: np.random.Generator, map_size: tuple[int, int], height: tuple[float, float]
) -> NDArray[np.float64]:
    """Draw one pose (18, 2) around a random place of the picture."""
    tall = np.exp(rng.uniform(*np.log(height)))
    lean = rng.normal(0, 0.2)
    place = {"neck": rng.uniform((0, 0), np.array(map_size[::-1]) * STRIDE) - (0, 0.2 * tall)}
    for joint, parent, offset, spread in BONES:
        angle = lean + rng.normal(0, spread)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place[joint] = place[parent] + tall * rng.uniform(0.8, 1.2) * (turn @ offset)
    return np.array([place[name] for name in BODY_18.joints])


def render(
    joints: NDArray[np.float64],
    skeleton: Skeleton,
    map_size: tuple[int, int],
    stride: int = STRIDE,
    sigma: float = SIGMA,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw (K + 1, h, w) heatmaps and (2 L, h, w) part affinity fields of joints (P, K, 2), NaN where missing."""
    h, w = map_size
    half = (stride - 1) / 2
    x, y = np.arange(w) * stride + half, np.arange(h) * stride + half
    heat = np.zeros((skeleton.heat_channels, h, w))
    for person in joints:
        for joint, (jx, jy) in enumerate(person):
            if not np.isnan(jx):
                bump = np.exp(-((x - jx) ** 2 + (y[:, None] - jy) ** 2) / (2 * sigma**2))
                heat[joint] = np.maximum(heat[joint], bump)
    heat[heat < 0.001] = 0
    heat[-1] = np.clip(1 - heat[:-1].max(axis=0), 0, 1)
    pafs = np.zeros((len(skeleton.limbs), 2, h, w))
    for limb, (start, end) in enumerate(skeleton.limbs):
        covered = np.zeros((h, w))
        for person in joints:
            inside, unit = _strip(person[start], person[end], x, y, stride)
            pafs[limb] += inside * unit[:, None, None]
            covered += inside
        pafs[limb] /= np.maximum(covered, 1)
    return heat.astype(np.float32), pafs.reshape(-1, h, w).astype(np.float32)


def _strip(
    a: NDArray[np.float64], b: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where (h, w) the limb a-b lies, one stride to each side, and its unit vector."""
    length = float(np.hypot(*(b - a)))
    if not length > 0:
        return np.zeros((len(y), len(x))), np.zeros(2)
    unit = (b - a) / length
    distance = np.abs((a[1] - y[:, None]) * unit[0] - (a[0] - x) * unit[1])
    low, high = np.minimum(a, b) - reach, np.maximum(a, b) + reach
    box = ((x >= low[0]) & (x <= high[0])) & ((y >= low[1]) & (y <= high[1]))[:, None]
    return (box & (distance <= reach)).astype(float), unit


def upright(x: float, y: float, tall: float = 180.0) -> NDArray[np.float64]:
    """Joints (18, 2) of somebody who stands with the neck at (x, y)."""
    half = np.array([
        (0, -0.10), (0, 0), (-0.11, 0.01), (-0.15, 0.18), (-0.15, 0.33), (0.11, 0.01), (0.15, 0.18), (0.15, 0.33),
        (-0.07, 0.30), (-0.08, 0.54), (-0.08, 0.77), (0.07, 0.30), (0.08, 0.54), (0.08, 0.77),
        (-0.02, -0.12), (0.02, -0.12), (-0.05, -0.11), (0.05, -0.11),
    ])  # fmt: skip
    return np.array([x, y]) + tall * half


def drawn(*people: NDArray[np.float64]) -> Crowd:
    """The crowd of these people, joints (18, 2) each."""
    joints = np.array(people).reshape(-1, len(BODY_18.joints), 2)
    return Crowd(joints, *render(joints, BODY_18, MAP_SIZE))
