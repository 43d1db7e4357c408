"""DEKR's matching to the heatmaps: joints move to the nearest peak, and from there to the middle of a fitted Gaussian.

Off in the published settings; their tables quote it beside the plain results (Geng et al. 2021). All Gaussians are
fitted together, by Levenberg and Marquardt's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.screen import local_maxima

#: Steps of the fit, and the share of a pixel below which it has arrived.
STEPS = 60
ARRIVED = 1e-4


@dataclass(frozen=True)
class MatchSettings:
    """Distances of the matching; the defaults are DEKR's.

    Attributes:
        peaks: peaks looked at per joint, best first; a peak is the largest of its 5x5 pixels.
        distance: a joint moves to the nearest peak if it is closer than so many pixels.
        score_threshold: a joint whose score exceeds it is fitted.
        window: the fit sees so many pixels to each side.
        sigma: deviation at which the fit starts.
    """

    peaks: int = 30
    distance: float = 75.0
    score_threshold: float = 0.05
    window: int = 6
    sigma: float = 2.0


def match_to_heatmaps(
    points: NDArray[np.float32],
    joint_scores: NDArray[np.float32],
    heatmaps: NDArray[np.float32],
    settings: MatchSettings | None = None,
) -> NDArray[np.float32]:
    """Return the joints (P, K, 2) of poses, moved to where the heatmaps have them.

    A joint whose fit does not arrive, or leaves its window, stays at the peak.

    Args:
        points: (P, K, 2) x, y in pixels of the heatmaps.
        joint_scores: (P, K).
        heatmaps: (K, H, W) at the size of the network's input, such as `mean_heatmaps` without the centre.
        settings: distances; DEKR's when None.
    """
    settings = settings or MatchSettings()
    moved = _to_peaks(points, heatmaps, settings)
    person, joint = np.nonzero(joint_scores > settings.score_threshold)
    middles, good = _fit_gaussians(heatmaps, joint, moved[person, joint], settings)
    moved[person[good], joint[good]] = middles[good]
    return moved


def _to_peaks(
    points: NDArray[np.float32], heatmaps: NDArray[np.float32], settings: MatchSettings
) -> NDArray[np.float32]:
    joint, place, _ = local_maxima(heatmaps, 0.0, 2, settings.peaks)
    rank = np.arange(len(joint)) - np.searchsorted(joint, joint)
    table = np.full((len(heatmaps), int(rank.max(initial=0)) + 1, 2), np.inf, np.float32)
    table[joint, rank] = np.stack(np.divmod(place, heatmaps.shape[2])[::-1], 1)
    apart = np.sqrt(((points[:, :, None] - table) ** 2).sum(axis=-1))
    nearest = apart.argmin(axis=2)
    person, number = np.indices(nearest.shape)
    close = apart[person, number, nearest] < settings.distance
    return np.where(close[..., None], table[number, nearest], points).astype(np.float32)


def _fit_gaussians(
    heatmaps: NDArray[np.float32], joint: NDArray[np.intp], start: NDArray[np.float32], settings: MatchSettings
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fit round Gaussians (height, x, y, deviation) to N windows; return the middles (N, 2) and which are good."""
    _, height, width = heatmaps.shape
    x, y = np.trunc(start + 0.5).astype(np.intp).T
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    steps = np.arange(-settings.window, settings.window + 1)
    columns, rows = x[:, None] + steps, y[:, None] + steps
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    index = (joint[:, None] * height + rows.clip(0, height - 1))[:, :, None] * width
    values = heatmaps.reshape(-1).take(index + columns.clip(0, width - 1)[:, None]).astype(np.float64)
    weights = inside.reshape(len(joint), len(steps) ** 2).astype(np.float64)
    u, v = np.tile(steps, len(steps)).astype(np.float64), np.repeat(steps, len(steps)).astype(np.float64)
    values = values.reshape(len(joint), len(steps) ** 2)
    fitted = np.zeros((len(joint), 4))
    fitted[:, 0], fitted[:, 3] = heatmaps[joint, y, x], settings.sigma
    arrived = _levenberg_marquardt(fitted, values, weights, u, v)
    good = arrived & (np.abs(fitted[:, 1:3]) <= settings.window).all(axis=1)
    return fitted[:, 1:3] + np.stack([x, y], 1), good


def _levenberg_marquardt(
    fitted: NDArray[np.float64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Improve the parameters (N, 4) in place until they arrive at the least sum of squares; return which did."""
    damping = np.full(len(fitted), 1e-3)
    arrived = np.zeros(len(fitted), bool)
    error, jacobian = _residuals(fitted, values, weights, u, v)
    for _ in range(STEPS):
        if arrived.all():
            break
        normal = np.einsum("npi,npj->nij", jacobian, jacobian)
        slope = np.einsum("npi,np->ni", jacobian, error)
        diagonal = np.einsum("nii->ni", normal)
        diagonal += damping[:, None] * diagonal + 1e-12
        step = -np.linalg.solve(normal, slope[..., None])[..., 0]
        step[arrived] = 0
        tried = fitted + step
        new_error, new_jacobian = _residuals(tried, values, weights, u, v)
        better = (new_error**2).sum(axis=1) <= (error**2).sum(axis=1)
        arrived |= better & (np.abs(step).max(axis=1) < ARRIVED)
        fitted[better], error[better], jacobian[better] = tried[better], new_error[better], new_jacobian[better]
        damping = np.where(better, damping / 10, damping * 10).clip(1e-9, 1e9)
    return arrived


def _residuals(
    fitted: NDArray[np.float64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the errors (N, pixels) of Gaussians and their derivatives (N, pixels, 4)."""
    height, x, y, sigma = (parameter[:, None] for parameter in fitted.T)
    sigma = np.where(np.abs(sigma) < 1e-3, 1e-3, sigma)
    dx, dy = u - x, v - y
    squares = dx**2 + dy**2
    bump = np.exp(-squares / (2 * sigma**2)) * weights
    scaled = height * bump / sigma**2
    derivatives = np.stack([bump, scaled * dx, scaled * dy, scaled * squares / sigma], axis=-1)
    return height * bump - values * weights, derivatives
