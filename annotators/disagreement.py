"""Measured disagreement between the people who drew an image (Wilhelmsson, section 2.1.1).

Everywhere `masks` are the masks of N annotators, N x H x W integers: class indices, or `VOID` where a person abstains.
At each pixel only those who voted count. Annotators who have not drawn the image are not among the N.

Reference:
    Jens Wilhelmsson, "Predicting annotation difficulty using Monte Carlo dropout", master's thesis, Chalmers (undated).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import skimage

from acquisition.annotation import VOID
from datamodules.votes import majority, stack_masks, vote_counts

__all__ = [
    "AgainstOthers",
    "Difficulty",
    "against_others",
    "difficulty",
    "majority",
    "pairwise",
    "variance_map",
]

Masks = Sequence[np.ndarray] | np.ndarray


def variance_map(masks: Masks, num_classes: int = 2) -> np.ndarray:
    """Variance V of the annotations at each pixel, with N - 1 in the denominator (Wilhelmsson, equation 2.1).

    For more than two classes the variances of the classes' 0/1 masks are summed and halved: with p_c the share of votes
    for class c, V = N / (N - 1) * (1 - sum_c p_c^2) / 2. For two classes that is equation 2.1. For any number it is
    half the probability that two annotators drawn without replacement choose different classes.

    Args:
        masks: N x H x W.
        num_classes: Number of classes C.

    Returns:
        V, H x W float64, from 0 to N / (4 (N - 1)) for two classes; NaN where fewer than two people voted.

    Raises:
        ValueError: There are fewer than two masks, or a mask has a value that is no class.
    """
    shares, voters = _shares(masks, num_classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = voters / (voters - 1) * (1 - np.square(shares).sum(axis=0)) / 2
    return np.where(voters > 1, np.maximum(spread, 0), np.nan)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard an image was for the people who drew it.

    Args:
        total: Sum of the variance V over the image (Wilhelmsson, equation 2.2).
        per_object: `total` divided by the annotators' mean object area, in pixels. For two classes it is 1 - (mean
            intersection of two annotators' objects) / (mean area): 0 if all drew the same, 1 if no two overlap. NaN if
            nobody drew an object. The union of the objects would grow with the disagreement, and the majority may be
            empty, so neither serves as divisor.
        per_boundary: `total` divided by the number of boundary pixels of the majority; NaN if there are none.
    """

    total: float
    per_object: float
    per_boundary: float


def difficulty(masks: Masks, num_classes: int = 2) -> Difficulty:
    """Measure an image's difficulty: in total, per pixel of object and per pixel of boundary.

    An object is any class but 0. The boundary is the pixels of the majority's objects with one of their 4 neighbours in
    another class; ties count as background.

    Args:
        masks: N x H x W.
        num_classes: Number of classes C.
    """
    total = float(np.nansum(variance_map(masks, num_classes)))
    stacked = stack_masks(masks)
    area = _object(stacked).sum() / len(stacked)
    agreed = _void_as_background(majority(stacked, num_classes, tie=0))
    outline = skimage.segmentation.find_boundaries(agreed, connectivity=1, mode="inner")
    return Difficulty(total, _ratio(total, area), _ratio(total, outline.sum()))


def pairwise(masks: Masks, measure: str = "iou", num_classes: int = 2) -> np.ndarray:
    """Overlap of every two annotators: the mean over the classes but 0 that at least one of the two drew.

    Pixels that one of the two left void do not count.

    Args:
        masks: N x H x W.
        measure: "iou" (intersection over union) or "dice".
        num_classes: Number of classes C.

    Returns:
        Overlaps from 0 to 1, N x N, symmetric; NaN where neither of the two drew an object.

    Raises:
        ValueError: The measure is unknown, there are fewer than two masks, or a mask has a value that is no class.
    """
    if measure not in ("iou", "dice"):
        raise ValueError(f"measure must be 'iou' or 'dice', got {measure!r}")
    stacked = stack_masks(masks, least=2)
    vote_counts(stacked, num_classes)  # refuses values that are no class
    out = np.full((len(stacked), len(stacked)), np.nan)
    for i, j in zip(*np.triu_indices(len(stacked)), strict=True):
        both = (stacked[i] != VOID) & (stacked[j] != VOID)
        ratios = [_overlap(stacked[i][both] == c, stacked[j][both] == c, measure) for c in range(1, num_classes)]
        known = [r for r in ratios if not np.isnan(r)]
        out[i, j] = out[j, i] = np.mean(known) if known else np.nan
    return out


@dataclass(frozen=True, slots=True)
class AgainstOthers:
    """One annotator's objects compared with the majority of the others; NaN where a divisor is 0.

    Args:
        precision: Share of the annotator's object pixels to which the majority gives the same class.
        recall: Share of the majority's object pixels to which the annotator gives the same class.
        area_ratio: (own area - majority's area) / majority's area: positive for somebody who draws large.
    """

    precision: float
    recall: float
    area_ratio: float


def against_others(masks: Masks, num_classes: int = 2) -> list[AgainstOthers]:
    """Compare each annotator with the majority of the others.

    An object is any class but 0; ties count as background, so of four others three must agree on an object. Pixels that
    the annotator or all others left void do not count.

    Args:
        masks: N x H x W.
        num_classes: Number of classes C.

    Returns:
        One comparison per annotator, in the order of `masks`.
    """
    stacked = stack_masks(masks, least=2)
    found = []
    for i, own in enumerate(stacked):
        theirs = majority(np.delete(stacked, i, axis=0), num_classes, tie=0)
        count = (own != VOID) & (theirs != VOID)
        mine, others = (own > 0) & count, (theirs > 0) & count
        hits = (mine & (own == theirs)).sum()
        found.append(
            AgainstOthers(
                precision=_ratio(hits, mine.sum()),
                recall=_ratio(hits, others.sum()),
                area_ratio=_ratio(float(mine.sum()) - float(others.sum()), others.sum()),
            )
        )
    return found


def _shares(masks: Masks, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    counts = vote_counts(stack_masks(masks, least=2), num_classes)
    voters = counts.sum(axis=0)
    return counts / np.maximum(voters, 1), voters


def _object(masks: np.ndarray) -> np.ndarray:
    return (masks != 0) & (masks != VOID)


def _void_as_background(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == VOID, 0, mask)


def _overlap(one: np.ndarray, other: np.ndarray, measure: str) -> float:
    common, areas = (one & other).sum(), one.sum() + other.sum()
    return _ratio(common, areas - common) if measure == "iou" else _ratio(2 * common, areas)


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")
