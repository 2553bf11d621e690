"""Agreement over many images: chance-corrected coefficients, and people's agreement with themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr

from annotators.disagreement import difficulty, pairwise
from datamodules.votes import stack_masks, vote_counts

__all__ = ["Retest", "fleiss_kappa", "krippendorff_alpha", "retest", "vote_table"]

Annotations = Mapping[str, np.ndarray]
"""Masks by annotator."""


def vote_table(images: Sequence[Sequence[np.ndarray] | np.ndarray], num_classes: int = 2) -> np.ndarray:
    """Count the votes at every pixel of some images, for the coefficients of agreement.

    Args:
        images: The masks of each image's N annotators, N x H x W; images may differ in size and in N.
        num_classes: Number of classes C.

    Returns:
        Votes per pixel and class, P x C for P pixels in all.

    Raises:
        ValueError: An image has fewer than two masks, or a mask has a value that is no class.
    """
    counts = [vote_counts(stack_masks(masks, least=2), num_classes) for masks in images]
    return np.concatenate([c.reshape(num_classes, -1).T for c in counts]) if counts else np.zeros((0, num_classes), int)


def fleiss_kappa(table: np.ndarray) -> float:
    """Fleiss' kappa: 1 for full agreement, 0 for the agreement expected by chance (Fleiss 1971, by statsmodels).

    Args:
        table: Votes from `vote_table`, the same number at every pixel.

    Returns:
        The coefficient; NaN if everybody chose one and the same class everywhere, because agreement by chance is then
        complete and kappa undefined.

    Raises:
        ValueError: Pixels differ in their number of votes; `krippendorff_alpha` copes with that.
    """
    voters = table.sum(axis=1)
    if len(np.unique(voters)) > 1:
        raise ValueError(
            f"Fleiss' kappa needs equally many votes everywhere, got {voters.min()} to {voters.max()}; use "
            "krippendorff_alpha, or images that the same number of people drew, without void"
        )
    if np.count_nonzero(table.sum(axis=0)) < 2:
        return float("nan")
    from statsmodels.stats import inter_rater  # takes half a second to import

    return float(inter_rater.fleiss_kappa(table))


def krippendorff_alpha(table: np.ndarray) -> float:
    """Krippendorff's alpha for nominal data, by the library krippendorff; votes may be missing.

    Args:
        table: Votes from `vote_table`.

    Returns:
        The coefficient, 1 for full agreement; NaN if no pixel has two votes, or all votes are for the same class.
    """
    shared = table[table.sum(axis=1) > 1]
    if np.count_nonzero(shared.sum(axis=0)) < 2:
        return float("nan")
    import krippendorff

    return float(krippendorff.alpha(value_counts=shared, level_of_measurement="nominal"))


@dataclass(frozen=True, slots=True)
class Retest:
    """The reliability of measured difficulty, from first and second drawings by the same people.

    Args:
        images: Number of images that at least two people drew twice.
        pearson: Pearson's correlation over images between the difficulty measured from first and from second drawings.
        spearman: Spearman's rank correlation of the same.
        ceiling: Square root of `pearson`: the highest correlation with one measurement that a predictor of the true
            difficulty can have (Spearman 1904, on attenuation).
        within_iou: Mean IoU between a person's two drawings, by person.
    """

    images: int
    pearson: float
    spearman: float
    ceiling: float
    within_iou: dict[str, float]


def retest(
    first: Mapping[str, Annotations],
    second: Mapping[str, Annotations],
    num_classes: int = 2,
    measure: str = "total",
) -> Retest:
    """Test-retest reliability of an image's difficulty.

    Both difficulties of an image come from the same people, those who drew it twice; images that fewer than two people
    drew twice are left out. Correlations over fewer than three images are NaN.

    Args:
        first: First masks, by image and annotator.
        second: Second masks, by image and annotator.
        num_classes: Number of classes C.
        measure: A field of `annotators.disagreement.Difficulty`.
    """
    pairs: list[list[float]] = []
    overlaps: dict[str, list[float]] = {}
    for image, drawn in first.items():
        again = second.get(image, {})
        people = sorted(drawn.keys() & again.keys())
        for name in people:
            overlaps.setdefault(name, []).append(pairwise([drawn[name], again[name]], "iou", num_classes)[0, 1])
        if len(people) > 1:
            pairs.append([getattr(difficulty([m[p] for p in people], num_classes), measure) for m in (drawn, again)])
    values = np.array(pairs, dtype=float).reshape(-1, 2)
    values = values[np.isfinite(values).all(axis=1)]
    pearson, spearman = _correlations(values)
    within = {name: _mean(ious) for name, ious in sorted(overlaps.items())}
    return Retest(len(values), pearson, spearman, float(np.sqrt(pearson)) if pearson >= 0 else float("nan"), within)


def _correlations(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 3 or (np.ptp(values, axis=0) == 0).any():
        return float("nan"), float("nan")
    return float(pearsonr(*values.T)[0]), float(spearmanr(*values.T)[0])


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
