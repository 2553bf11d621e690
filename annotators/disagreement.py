"""Measured disagreement between the people who drew an image (seed 000, 2.1.1).

`masks` is always N annotators' masks, N x H x W integers: class indices, or `VOID` where a person says nothing. Void is
no vote: N is then the number of those who voted at a pixel. An annotator who has not drawn the image is not in `masks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.segmentation import find_boundaries

from acquisition.annotation import VOID
from datamodules.votes import majority, stack_masks, vote_counts

__all__ = [
    "AgainstOthers",
    "Difficulty",
    "against_others",
    "difficulty",
    "dissent_map",
    "majority",
    "pairwise",
    "variance_map",
    "vote_entropy_map",
]

Masks = Sequence[np.ndarray] | np.ndarray


def variance_map(masks: Masks, num_classes: int = 2) -> np.ndarray:
    """V(x, y): variance of the annotations over N annotators, N - 1 in the denominator. H x W float64.

    Seed 000, equation (2.1), for two classes. For more, the variances of the classes' 0/1 masks are summed and halved:
    V = N / (N - 1) * (1 - sum_c p_c^2) / 2 with p_c the share of votes for class c. For two classes that is (2.1), and
    for any number it is half the probability that two annotators drawn without replacement choose different classes.
    NaN where fewer than two voted: nothing is known of their disagreement. Refuses fewer than two masks.
    """
    shares, voters = _shares(masks, num_classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = voters / (voters - 1) * (1 - np.square(shares).sum(axis=0)) / 2
    return np.where(voters > 1, np.maximum(spread, 0), np.nan)


def vote_entropy_map(masks: Masks, num_classes: int = 2) -> np.ndarray:
    """Entropy of the shares of votes in nats, 0 to log C, H x W; NaN where fewer than two voted."""
    shares, voters = _shares(masks, num_classes)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=0)
    return np.where(voters > 1, np.maximum(entropy, 0), np.nan)


def dissent_map(masks: Masks, num_classes: int = 2) -> np.ndarray:
    """1 - agreement: the share of votes that are not for the most chosen class, H x W; NaN as above."""
    shares, voters = _shares(masks, num_classes)
    return np.where(voters > 1, 1 - shares.max(axis=0), np.nan)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard an image was for those who drew it.

    total: sum of V over the image, equation (2.2). per_object: total over the annotators' mean object area. For two
    classes this is 1 - (mean intersection of two annotators' objects) / (mean area): 0 when all drew the same, 1 when
    no two overlap. The union would grow with the disagreement that it is to scale, and the majority may be empty.
    per_boundary: total over the boundary pixels of the majority. Both are NaN where there is nothing to divide by.
    """

    total: float
    per_object: float
    per_boundary: float


def difficulty(masks: Masks, num_classes: int = 2) -> Difficulty:
    """Image difficulty (2.2), as it is, per pixel of object and per pixel of boundary. Object: any class but 0.

    Boundary: pixels of the majority's objects that touch another class (4 neighbours); ties count as background.
    """
    total = float(np.nansum(variance_map(masks, num_classes)))
    stacked = stack_masks(masks)
    area = _object(stacked).sum() / len(stacked)
    outline = find_boundaries(_void_as_background(majority(stacked, num_classes, tie=0)), connectivity=1, mode="inner")
    return Difficulty(total, _ratio(total, area), _ratio(total, outline.sum()))


def pairwise(masks: Masks, measure: str = "iou", num_classes: int = 2) -> np.ndarray:
    """IoU or Dice of every two annotators, N x N, symmetric: the mean over classes but 0 that one of the two drew.

    Pixels that one of the two left void do not count. NaN where neither drew anything: there is nothing to compare.
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
    """One annotator's objects against the majority of the others'. area_ratio: (own area - theirs) / theirs, so it is
    positive for somebody who draws large and negative for somebody who draws small. NaN where nothing is to divide by.
    """

    precision: float
    recall: float
    area_ratio: float


def against_others(masks: Masks, num_classes: int = 2) -> list[AgainstOthers]:
    """Each annotator against the majority of the others, in the order of `masks`. Object: any class but 0.

    A pixel that half of the others call an object is none (a tie): of four others, three must say so. Pixels that the
    annotator or all others left void do not count. A hit has the right class, not just any class but 0.
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
