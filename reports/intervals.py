"""Intervals: over images by the bootstrap (BCa, Efron 1987, by scipy), over a few seeds by Student's t."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["FEW_SEEDS", "Estimate", "Resampling", "mean_interval", "weights_of"]

FEW_SEEDS = 10
"""Below so many values the interval of a mean is Student's: a bootstrap of so few is narrower than the truth."""

_CELLS = 500_000
"""Resampled images in memory at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and its interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """draws: bootstrap resamples of the images. seed: the same one draws the same images for every statistic."""

    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"intervals need at least 1 bootstrap resample, got {self.draws}; set draws to 2000")

    def estimates(
        self, statistics: Callable[[np.ndarray], Sequence[np.ndarray]], images: int, level: float = 0.95
    ) -> list[Estimate]:
        """Statistics of so many images with their BCa intervals.

        statistics: from weights, draws x images, to a number per draw for each statistic. Where BCa is undefined, as
        where a resample, or all images but one, leave the statistic undefined or constant, the interval is the
        percentile one over the draws in which it is defined. One image has no interval.
        """

        def of_indices(indices: np.ndarray, axis: int = -1) -> np.ndarray:
            drawn = np.atleast_2d(indices).reshape(-1, indices.shape[-1])
            return np.stack(statistics(weights_of(drawn, images))).reshape(-1, *indices.shape[:-1])

        values = of_indices(np.arange(images))
        if images < 2:
            return [Estimate(float(v), np.nan, np.nan) for v in values]
        low, high = _bca(np.arange(images), of_indices, level, self.draws, self.seed, max(1, _CELLS // images))
        return [
            Estimate(float(v), *((np.nan, np.nan) if np.isnan(v) else (float(a), float(b))))
            for v, a, b in zip(values, low, high, strict=True)
        ]


def weights_of(indices: np.ndarray, images: int) -> np.ndarray:
    """Resamples as draws x positions to how often each drew every image, draws x images."""
    places = indices + images * np.arange(len(indices))[:, None]
    return np.bincount(places.ravel(), minlength=len(indices) * images).reshape(-1, images).astype(np.uint16)


def mean_interval(
    values: ArrayLike, level: float = 0.95, seed: int = 0, draws: int = 9999
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high end of the mean over axis 0: Student's t below 10 values, the BCa bootstrap from there on.

    values: n x ...; a single one has no interval and gets NaN.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        nothing = np.full(sample.shape[1:], np.nan)
        return nothing, nothing.copy()
    if len(sample) >= FEW_SEEDS:
        flat = sample.reshape(len(sample), -1).T
        # a sample per row: the last axis is the one that is drawn from
        low, high = _bca(flat, np.mean, level, draws, seed, None)
        return low.reshape(sample.shape[1:]), high.reshape(sample.shape[1:])
    half = stats.t.ppf((1 + level) / 2, len(sample) - 1) * sample.std(axis=0, ddof=1) / len(sample) ** 0.5
    return sample.mean(axis=0) - half, sample.mean(axis=0) + half


def _bca(
    data: np.ndarray, statistic: Callable[..., Any], level: float, draws: int, seed: int, batch: int | None
) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        # what is degenerate gets the other interval; or none, where no draw at all defines the statistic
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.bootstrap(
            (data,), statistic, n_resamples=draws, batch=batch, vectorized=True, axis=-1, confidence_level=level,
            method="BCa", rng=np.random.default_rng(seed),
        )  # fmt: skip
        tail = 100 * (1 - level) / 2
        plain = np.nanpercentile(result.bootstrap_distribution, [tail, 100 - tail], axis=-1)
    bca = np.stack([result.confidence_interval.low, result.confidence_interval.high])
    low, high = np.where(np.isnan(bca).any(axis=0), plain, bca)
    return low, high
