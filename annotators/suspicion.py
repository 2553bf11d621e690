"""How likely a label is wrong, by what a network says that has not learned from it.

Confident learning counts a pixel as mislabelled where the network is as sure of another class as it is, on average, of
the pixels with that label. All scores are higher for labels that are more likely to be wrong. The least threshold and
the weight of an object's size are ours; docs/suspects.md says on which data they were chosen.

References:
    Curtis Northcutt, Lu Jiang and Isaac Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR
    2021.
    Vedang Lad and Jonas Mueller, "Estimating label quality and errors in semantic segmentation data via any model",
    2023 (softmin).
"""

from dataclasses import dataclass

import numpy as np

from acquisition.annotation import VOID

__all__ = ["SCORES", "ClassThresholds", "Finding", "confident_classes", "evidence", "find_wrong", "softmin"]

SCORES = ("objects", "confident", "softmin", "loss", "mc")
"""The scores of a label: see `Finding`."""

_TEMPERATURE = 0.1
_THRESHOLD = 0.5
_SIZE = 0.25
"""Exponent of an object's share of the unit: 1 would rank by the sum of the evidence, 0 by its mean."""
_LEAST = 1e-7
"""Least probability of a class, so that a loss stays finite."""


class ClassThresholds:
    """A network's mean confidence in each class on the pixels that are labelled so (Northcutt et al. 2021, eq. 2).

    But a half at least: a class of which a network is never sure, such as a rare one, would speak against every label.
    Only sums are kept, so labels can be many.

    Args:
        num_classes: Number of classes C.
    """

    def __init__(self, num_classes: int) -> None:
        self._sums = np.zeros(num_classes)
        self._counts = np.zeros(num_classes)

    def update(self, probs_CHW: np.ndarray, label_HW: np.ndarray) -> None:
        """Add an image.

        Args:
            probs_CHW: Probabilities, C x H x W.
            label_HW: Classes or `VOID`, H x W.
        """
        known = label_HW != VOID
        labels = label_HW[known].astype(np.int64)
        own = np.take_along_axis(probs_CHW[:, known], labels[None], axis=0)[0]
        self._sums += np.bincount(labels, own, minlength=len(self._sums))
        self._counts += np.bincount(labels, minlength=len(self._sums))

    @property
    def values(self) -> np.ndarray:
        """C thresholds of a half or more; infinite for a class without a label, which nothing can then be taken for."""
        counted = self._counts > 0
        return np.where(counted, np.maximum(self._sums / np.maximum(self._counts, 1), _THRESHOLD), np.inf)


@dataclass(frozen=True)
class Finding:
    """What is wrong with the label of one unit.

    Args:
        objects: The most that speaks against one object, drawn or missing: the mean `evidence` over its pixels, times
            the fourth root of its share of the unit's pixels.
        confident: Share of the pixels that confident learning finds mislabelled, from 0 to 1.
        softmin: 1 - `softmin` of the network's confidence in the label.
        loss: Mean cross entropy of the label, in nats.
        mc: Mean probability that MC samples give to other classes than the label's, each pixel weighted by how far the
            samples agree, 1 - mutual information / log C; NaN without samples.
        pixels: Pixels with a label.
        box: Top, left, height and width of the object that `objects` is about, in pixels of the label.
        given: Its most frequent label.
        suggested: The other class of which the network is surest there.
    """

    objects: float
    confident: float
    softmin: float
    loss: float
    mc: float
    pixels: int
    box: tuple[int, int, int, int]
    given: int
    suggested: int


def confident_classes(probs_CHW: np.ndarray, thresholds_C: np.ndarray) -> np.ndarray:
    """The class of which a network is confident at each pixel (Northcutt et al. 2021, eq. 1).

    Args:
        probs_CHW: Probabilities, C x H x W.
        thresholds_C: Of each class, see `ClassThresholds`.

    Returns:
        H x W: the likeliest of the classes k with p_k >= threshold_k, -1 where there is none.
    """
    reached = probs_CHW >= thresholds_C[:, None, None]
    classes = np.where(reached, probs_CHW, -1).argmax(axis=0)
    return np.where(reached.any(axis=0), classes, -1)


def evidence(probs_CHW: np.ndarray, label_HW: np.ndarray, thresholds_C: np.ndarray) -> np.ndarray:
    """How much speaks against the label of each pixel: the margin by which another class is likelier, made comparable.

    e = max_{k != y} (p_k - t_k) - (p_y - t_y), cut to [0, 1]. With the thresholds subtracted, classes of which a
    network is more and less sure can be compared; without a negative part, a large object that is right weighs nothing.

    Args:
        probs_CHW: Probabilities, C x H x W.
        label_HW: Classes or `VOID`, H x W.
        thresholds_C: Of each class, see `ClassThresholds`.

    Returns:
        H x W in [0, 1], 0 where the label is void.
    """
    known = label_HW != VOID
    own = np.where(known, label_HW, 0)[None].astype(np.int64)
    above = probs_CHW - thresholds_C[:, None, None]
    label = np.take_along_axis(above, own, axis=0)[0]
    others = above.copy()
    np.put_along_axis(others, own, -np.inf, axis=0)
    # a class without a label in any unit has no threshold, and no label to be judged either
    found = others.max(axis=0) - np.where(np.isfinite(label), label, 0)
    return np.where(known, found.clip(0, 1), 0.0)


def softmin(confidence: np.ndarray, temperature: float = _TEMPERATURE) -> float:
    """Label quality of Lad and Mueller 2023: a mean in which the least confident pixels count most.

    Args:
        confidence: The network's probabilities of the pixels' labels, P.
        temperature: The lower, the nearer to the minimum.

    Returns:
        The sum of w_i p_i with w = softmax((1 - p) / temperature).
    """
    weights = np.exp((confidence.min() - confidence) / temperature)
    return float((weights * confidence).sum() / weights.sum())


def find_wrong(
    probs_CHW: np.ndarray,
    label_HW: np.ndarray,
    thresholds_C: np.ndarray,
    mean_CHW: np.ndarray | None = None,
    bald_HW: np.ndarray | None = None,
) -> Finding:
    """Look for what is wrong with the label of one unit.

    Args:
        probs_CHW: Probabilities by a network that has not learned from this label, C x H x W.
        label_HW: Classes or `VOID`, H x W; at least one class.
        thresholds_C: Of each class, see `ClassThresholds`.
        mean_CHW: Mean probabilities over its MC samples, C x H x W.
        bald_HW: Mutual information of the samples, in nats, H x W.

    Returns:
        The scores, and the region that is the most suspicious.
    """
    known = label_HW != VOID
    labels = label_HW[known].astype(np.int64)
    own = np.take_along_axis(probs_CHW[:, known], labels[None], axis=0)[0]
    confident = confident_classes(probs_CHW, thresholds_C)[known]
    mc = float("nan")
    if mean_CHW is not None and bald_HW is not None:
        others = 1 - np.take_along_axis(mean_CHW[:, known], labels[None], axis=0)[0]
        mc = float((others * (1 - bald_HW[known] / np.log(len(probs_CHW)))).mean())
    score, region = _worst_object(probs_CHW, label_HW, evidence(probs_CHW, label_HW, thresholds_C))
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    given = int(np.bincount(label_HW[region]).argmax())
    sums = probs_CHW[:, region].sum(axis=1)
    sums[given] = -1
    return Finding(
        objects=score,
        confident=float(((confident >= 0) & (confident != labels)).mean()),
        softmin=1 - softmin(own),
        loss=float(-np.log(own.clip(_LEAST)).mean()),
        mc=mc,
        pixels=len(labels),
        box=(
            int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1,
        ),
        given=given,
        suggested=int(sums.argmax()),
    )  # fmt: skip


def _worst_object(probs_CHW: np.ndarray, label_HW: np.ndarray, against: np.ndarray) -> tuple[float, np.ndarray]:
    """The object with the highest score, and its pixels, H x W bool.

    Objects are the connected parts of each class of the label, and those of the prediction less than half of which
    have that label: missing in the label, and not just drawn with another outline.
    """
    known = label_HW != VOID
    predicted = probs_CHW.argmax(axis=0)
    differs = known & (predicted != label_HW)
    drawn, missing = _connected(label_HW, known), _connected(predicted, known)
    total = known.sum()
    best = (-1.0, known)
    for objects, where in ((drawn, known), (missing, differs)):
        sizes = np.bincount(objects[known])
        counted = np.bincount(objects[where], minlength=len(sizes))
        sums = np.bincount(objects[where], against[where], minlength=len(sizes))
        scores = sums / np.maximum(counted, 1) * (counted / total) ** _SIZE
        # number 0 is void
        scores[0] = -1
        if where is differs:
            scores[counted * 2 <= sizes] = -1
        worst = int(scores.argmax())
        if scores[worst] > best[0]:
            best = float(scores[worst]), (objects == worst) & where
    return best


def _connected(classes: np.ndarray, known: np.ndarray) -> np.ndarray:
    from skimage.measure import label  # takes long to import, and most verbs need no objects

    numbers: np.ndarray = label(np.where(known, classes.astype(np.int64) + 1, 0), background=0, connectivity=2)
    return numbers
