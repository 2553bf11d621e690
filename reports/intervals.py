"""Confidence intervals: by the BCa bootstrap (Efron 1987, by scipy), and for means of few values by Student's t."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

__all__ = ["BOOTSTRAP_FROM", "Estimate", "Resampling", "mean_interval", "resample_weights"]

BOOTSTRAP_FROM = 10
"""Number of values from which the interval of a mean is a bootstrap one; with fewer that would be too narrow."""

_CELLS = 500_000
"""Number of resampled images in memory at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and the ends of its interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """The bootstrap's resamples of images, the same ones for every statistic.

    Args:
        draws: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        ValueError: `draws` is below 1.
    """

    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"intervals need at least 1 bootstrap resample, got {self.draws}; set draws to 2000")

    def estimates(
        self, statistics: Callable[[np.ndarray], Sequence[np.ndarray]], images: int, level: float = 0.95
    ) -> list[Estimate]:
        """Compute statistics of some images with their BCa intervals.

        BCa is undefined if a resample, or leaving out one image, makes the statistic undefined or constant. The
        interval is then the percentile interval over the draws in which the statistic is defined.

        Args:
            statistics: Maps weights, draws x images, to one array of a number per draw for each statistic.
            images: Number of images.
            level: Confidence level.

        Returns:
            One estimate per statistic; a single image has no interval.
        """

        def of_indices(indices: np.ndarray, axis: int = -1) -> np.ndarray:
            drawn = np.atleast_2d(indices).reshape(-1, indices.shape[-1])
            return np.stack(statistics(resample_weights(drawn, images))).reshape(-1, *indices.shape[:-1])

        values = of_indices(np.arange(images))
        if images < 2:
            return [Estimate(float(v), np.nan, np.nan) for v in values]
        low, high = _bca(np.arange(images), of_indices, level, self.draws, self.seed, max(1, _CELLS // images))
        return [
            Estimate(float(v), *((np.nan, np.nan) if np.isnan(v) else (float(a), float(b))))
            for v, a, b in zip(values, low, high, strict=True)
        ]


def resample_weights(indices: np.ndarray, images: int) -> np.ndarray:
    """Count how often each resample drew each image.

    Args:
        indices: Drawn images, draws x positions, from 0 to images - 1.
        images: Number of images.

    Returns:
        Weights, draws x images.
    """
    cells = indices + images * np.arange(len(indices))[:, None]
    return np.bincount(cells.ravel(), minlength=len(indices) * images).reshape(-1, images).astype(np.uint16)


def mean_interval(
    values: ArrayLike, level: float = 0.95, seed: int = 0, draws: int = 9999
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidence interval of a mean: Student's t for up to 9 values, the BCa bootstrap for more.

    Args:
        values: n x ..., averaged over the first axis.
        level: Confidence level.
        seed: Seed of the bootstrap.
        draws: Number of resamples.

    Returns:
        Low and high ends, of the shape of one value; NaN for a single value.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        nothing = np.full(sample.shape[1:], np.nan)
        return nothing, nothing.copy()
    if len(sample) >= BOOTSTRAP_FROM:
        flat = sample.reshape(len(sample), -1).T
        # a sample per row: the last axis is the one that is drawn from
        low, high = _bca(flat, np.mean, level, draws, seed, None)
        return low.reshape(sample.shape[1:]), high.reshape(sample.shape[1:])
    half = scipy.stats.t.ppf((1 + level) / 2, len(sample) - 1) * sample.std(axis=0, ddof=1) / len(sample) ** 0.5
    return sample.mean(axis=0) - half, sample.mean(axis=0) + half


def _bca(
    data: np.ndarray, statistic: Callable[..., Any], level: float, draws: int, seed: int, batch: int | None
) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        # a degenerate statistic gets the percentile interval, or NaN if it is undefined in every draw
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = scipy.stats.bootstrap(
            (data,), statistic, n_resamples=draws, batch=batch, vectorized=True, axis=-1, confidence_level=level,
            method="BCa", rng=np.random.default_rng(seed),
        )  # fmt: skip
        tail = 100 * (1 - level) / 2
        plain = np.nanpercentile(result.bootstrap_distribution, [tail, 100 - tail], axis=-1)
    bca = np.stack([result.confidence_interval.low, result.confidence_interval.high])
    low, high = np.where(np.isnan(bca).any(axis=0), plain, bca)
    return low, high
