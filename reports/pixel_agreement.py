"""Maps of predicted uncertainty against the annotators' variance, pixel by pixel, one image in memory at a time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import scipy

from reports.intervals import Resampling

__all__ = ["PixelSums", "boundary_nearness"]

_LOWEST, _HIGHEST, _SHIFT = np.float32(2**-20), np.float32(8), 16
_FIRST = int(_LOWEST.view(np.uint32)) >> _SHIFT
_BINS = (int(_HIGHEST.view(np.uint32)) >> _SHIFT) - _FIRST + 1

_MEASURES = ("pearson_pooled", "pearson_mean", "auroc_pooled", "auroc_mean")

_WIDTH, _STEPS = 0.025, 20
"""Calibration bins: 20 of equal width from 0 to 0.5, the largest possible variance of 0/1 votes with divisor N - 1."""


def boundary_nearness(mean: np.ndarray) -> np.ndarray:
    """A trivial predictor of disagreement: 1 / (distance in pixels to the next pixel of another predicted class).

    People disagree where objects end, so any map that follows the predicted outline looks informed.

    Args:
        mean: Probabilities of the foreground, H x W, or of every class, C x H x W.

    Returns:
        H x W float32; 0 if only one class is predicted.
    """
    predicted = mean > 0.5 if mean.ndim == 2 else mean.argmax(axis=0)
    classes = np.unique(predicted)
    if len(classes) < 2:
        return np.zeros(predicted.shape, dtype=np.float32)
    distance = np.max([scipy.ndimage.distance_transform_edt(predicted == c) for c in classes], axis=0)
    return np.asarray(1 / distance, dtype=np.float32)


@dataclass
class PixelSums:
    """Sums per image from which correlation, AUROC and calibration follow: per image, pooled and resampled.

    No pixels are stored. AUROC comes from histograms whose bins have a relative width below 0.8% (the leading bits of a
    float32); values in one bin count as ties.

    Args:
        maps: Names of the maps.
    """

    maps: tuple[str, ...]
    moments: list[np.ndarray] = field(default_factory=list)
    """Per image maps x 6: number of pixels, and sums of x, V, x^2, V^2 and x V, for a map's values x."""
    histograms: list[np.ndarray] = field(default_factory=list)
    """Per image maps x 2 x bins: pixels on which annotators agree (V = 0) and disagree (V > 0)."""
    levels: list[np.ndarray] = field(default_factory=list)
    """Per image maps x 20 x 3: number of pixels, sum of x and sum of V, by bins of x."""

    def add(self, maps: dict[str, np.ndarray], variance: np.ndarray) -> None:
        """Add one image.

        Args:
            maps: Predicted maps by name, H x W, not negative.
            variance: The annotators' variance V, H x W; NaN pixels are left out.
        """
        known = np.isfinite(variance)
        v = variance[known].astype(np.float64)
        disagree = v > 0
        values = [maps[name][known] for name in self.maps]
        self.moments.append(np.array([_moments(x.astype(np.float64), v) for x in values]))
        self.histograms.append(
            np.array([[np.bincount(b[d], minlength=_BINS) for d in (~disagree, disagree)] for b in map(_bin, values)])
            .astype(np.uint32)
        )  # fmt: skip
        self.levels.append(np.array([_levels(x.astype(np.float64), v) for x in values]))

    def table(self, resampling: Resampling) -> pd.DataFrame:
        """Pearson's correlation with V, and AUROC of V > 0, with intervals over images.

        Args:
            resampling: The bootstrap.

        Returns:
            One row per map: both statistics over all pixels (pooled) and as means over images. Images with agreement or
            disagreement at every pixel have no AUROC, constant maps no correlation; the means leave them out, and
            images_with_auroc counts the others.
        """
        moments, histograms = np.stack(self.moments), np.stack(self.histograms)
        rows = []
        for k, name in enumerate(self.maps):
            auroc_by_image = _auroc(histograms[:, k, 0], histograms[:, k, 1])
            measured = partial(_measures, moments[:, k], histograms[:, k].astype(float), auroc_by_image)
            row: dict[str, object] = {"map": name}
            for measure, e in zip(_MEASURES, resampling.estimates(measured, len(moments)), strict=True):
                row |= {measure: e.value, f"{measure}_low": e.low, f"{measure}_high": e.high}
            row["images_with_auroc"] = int(np.isfinite(auroc_by_image).sum())
            rows.append(row)
        return pd.DataFrame(rows)

    def calibration(self, resampling: Resampling, maps: Iterable[str]) -> pd.DataFrame:
        """Mean predicted and mean measured variance, by bins of predicted variance.

        Args:
            resampling: The bootstrap.
            maps: Names of maps that predict a variance.

        Returns:
            One row per map and bin. ece, the same in all rows of a map, is the expected calibration error with its
            interval over images: the sum over bins of (share of pixels) x |mean predicted - mean measured|.
        """
        levels = np.stack(self.levels)
        tables = []
        for name in maps:
            sums = levels[:, self.maps.index(name)]
            (error,) = resampling.estimates(partial(_calibration_error, sums), len(sums))
            pixels, predicted, measured = sums.sum(axis=0).T
            there = pixels > 0
            table = pd.DataFrame(
                {
                    "predictor": name,
                    "from": _WIDTH * np.arange(_STEPS)[there],
                    "pixels": pixels[there].astype(int),
                    "mean_predicted": predicted[there] / pixels[there],
                    "mean_measured": measured[there] / pixels[there],
                }
            )
            tables.append(table.assign(ece=error.value, ece_low=error.low, ece_high=error.high))
        return pd.concat(tables, ignore_index=True)


def _bin(values: np.ndarray) -> np.ndarray:
    # non-negative floats are ordered like their bits; sign, exponent and 7 bits of the fraction are kept
    clipped = np.clip(values.astype(np.float32), _LOWEST, _HIGHEST)
    return (clipped.view(np.uint32) >> _SHIFT).astype(np.int64) - _FIRST


def _moments(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.array([x.size, x.sum(), v.sum(), x @ x, v @ v, x @ v])


def _levels(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    step = np.clip((x / _WIDTH).astype(int), 0, _STEPS - 1)
    return np.stack([np.bincount(step, weights=w, minlength=_STEPS) for w in (np.ones_like(x), x, v)], axis=1)


def _pearson(moments: np.ndarray) -> np.ndarray:
    n, x, v, xx, vv, xv = moments.T
    n = np.maximum(n, 1)  # an image without a pixel of known variance
    var_x, var_v = xx / n - (x / n) ** 2, vv / n - (v / n) ** 2
    # the variance of a constant map is not 0 but the rounding error of its square
    defined = (var_x > 1e-10 * xx / n) & (var_v > 1e-10 * vv / n)
    product = np.where(defined, var_x * var_v, 1.0)
    return np.where(defined, (xv / n - x * v / n**2) / np.sqrt(product), np.nan)


def _auroc(agree: np.ndarray, disagree: np.ndarray) -> np.ndarray:
    """P(a disagreeing pixel's bin is higher) + P(same bin) / 2 (Mann and Whitney 1947). Counts are ... x bins."""
    agree, disagree = agree.astype(float), disagree.astype(float)
    below = np.cumsum(agree, axis=-1) - agree / 2
    pairs = agree.sum(axis=-1) * disagree.sum(axis=-1)
    return np.where(pairs > 0, (disagree * below).sum(axis=-1) / np.maximum(pairs, 1), np.nan)


def _means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    there = np.isfinite(values)
    drawn = weights[:, there].sum(axis=1, dtype=float)
    total = weights[:, there].astype(float) @ values[there]
    return np.where(drawn > 0, total / np.maximum(drawn, 1), np.nan)


def _measures(
    moments: np.ndarray, histograms: np.ndarray, auroc_by_image: np.ndarray, weights: np.ndarray
) -> list[np.ndarray]:
    heavy = weights.astype(float)
    pooled = _auroc(*(heavy @ histograms[:, side] for side in (0, 1)))
    by_image = _means(weights, _pearson(moments))
    return [_pearson(heavy @ moments), by_image, pooled, _means(weights, auroc_by_image)]


def _calibration_error(sums: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    pixels, predicted, measured = (weights.astype(float) @ sums[:, :, k] for k in range(3))
    return [np.abs(predicted - measured).sum(axis=1) / pixels.sum(axis=1)]
