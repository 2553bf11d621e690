"""Correlations of predicted with measured difficulty over images, and what is left of them once something is known."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from reports.intervals import Resampling
from reports.weighted_statistics import correlation, covariances, partial_correlation, share_of_hardest

__all__ = [
    "CEILING",
    "FEWEST",
    "GROUP",
    "MAPS",
    "PREDICTORS",
    "SIZE",
    "TARGETS",
    "TRIVIAL",
    "VARIANCES",
    "compare_images",
    "compare_parts",
    "precision_at_k",
]

MAPS = (
    "ensemble_variance",
    "mask_variance",
    "epistemic",
    "aleatoric",
    "one_pass_aleatoric",
    "total",
    "entropy",
    "bald",
)
"""Maps of predicted uncertainty; their sums over an image are its predictors."""

PREDICTORS = MAPS
TRIVIAL = ("predicted_area", "predicted_boundary_length", "constant")
CEILING = "repeat_difficulty"
REPEATED = "repeated_difficulty"
"""Difficulty from the first drawings of the people who drew again, so that the ceiling compares the same people."""

SIZE = ["predicted_area", "predicted_boundary_length"]
"""Predictors that any other must surpass, because disagreement grows with the object and its outline."""

GROUP = "group"
"""Column of what an image comes from, such as one of several data sets; tables may lack it."""

VARIANCES = ("ensemble_variance", "mask_variance", "epistemic", "aleatoric", "one_pass_aleatoric", "total")
"""Maps that predict the annotators' variance as a number."""

TARGETS = (
    "difficulty",
    "difficulty_per_object_pixel",
    "difficulty_per_boundary_pixel",
    "pairwise_disagreement",
    "true_difficulty",
)
_SHARES = (0.05, 0.1, 0.2)
FEWEST = 3


def compare_images(images: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Correlate predicted with measured difficulty.

    The best trivial predictor is the one that does best on these very images, with its sign reversed (small images are
    hard) if that is better, which favours it.

    Args:
        images: Rows of images.csv.
        resampling: The bootstrap.

    Returns:
        One row per target and predictor: Pearson's and Spearman's correlations, their differences to the best trivial
        predictor's, and the partial correlations given size (predicted area and boundary length) and, where images come
        from several groups, given the group (an indicator of each) and given both, with their intervals; NaN where
        undefined, as for a constant.
    """
    rows: list[dict[str, object]] = []
    for target in _targets(images):
        known = images[target].notna().to_numpy()
        if known.sum() < FEWEST:
            continue
        rows += _compare(images, resampling, target, [*PREDICTORS, *TRIVIAL])
        best = {s: str(rows[-1][f"{s}_best_trivial"]) for s in ("pearson", "spearman")}
        for ceiling in _ceilings(images, target):
            if (known & images[ceiling].notna().to_numpy()).sum() >= FEWEST:
                rows += _compare(_by_the_same_people(images, target, ceiling), resampling, target, [ceiling], best)
    return pd.DataFrame(rows)


def compare_parts(images: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Correlate predicted with measured difficulty within each group of images, and within each fold.

    Correlations over all images mix two questions: which group is the hard one, and which image of a group. Folds have
    other networks, so they say how far a result depends on these.

    Args:
        images: Rows of images.csv.
        resampling: The bootstrap.

    Returns:
        The columns of `compare_images` for the difficulty, behind part ("group" or "fold") and its name; parts of fewer
        than three images are left out.
    """
    rows: list[dict[str, object]] = []
    for part in (GROUP, "fold"):
        if part not in images:
            continue
        for name, inside in images.groupby(part):
            if len(inside) < FEWEST:
                continue
            found = _compare(inside, resampling, "difficulty", [*PREDICTORS, *TRIVIAL])
            best = {s: str(found[-1][f"{s}_best_trivial"]) for s in ("pearson", "spearman")}
            if CEILING in inside and inside[CEILING].notna().sum() >= FEWEST:
                same = _by_the_same_people(inside, "difficulty", CEILING)
                found += _compare(same, resampling, "difficulty", [CEILING], best)
            rows += [{"part": part, "name": name, **row} for row in found]
    return pd.DataFrame(rows).drop(columns="target", errors="ignore")


def precision_at_k(images: pd.DataFrame, resampling: Resampling, shares: Sequence[float] = _SHARES) -> pd.DataFrame:
    """Precision at k: the share of the k hardest images that are among the k predicted hardest.

    Args:
        images: Rows of images.csv.
        resampling: The bootstrap.
        shares: k as shares of the images.

    Returns:
        One row per target, predictor and share: precision with its interval, and chance, k / images.
    """
    rows = []
    for target in _targets(images):
        for name in (*PREDICTORS, *TRIVIAL, *_ceilings(images, target)):
            shown = _by_the_same_people(images, target, name)
            there = shown[[target, name]].notna().all(axis=1).to_numpy()
            if there.sum() < FEWEST:
                continue
            measured, predicted = (shown.loc[there, c].to_numpy(float) for c in (target, name))
            precise = partial(_precisions, measured, predicted, shares)
            for share, e in zip(shares, resampling.estimates(precise, len(measured)), strict=True):
                k = max(1, round(share * there.sum()))
                row: dict[str, object] = {"target": target, "predictor": name, "kind": _kind(name)}
                row |= {"share": share, "k": k, "images": int(there.sum()), "precision": e.value}
                rows.append(row | {"low": e.low, "high": e.high, "chance": k / there.sum()})
    return pd.DataFrame(rows)


def _precisions(
    measured: np.ndarray, predicted: np.ndarray, shares: Sequence[float], weights: np.ndarray
) -> list[np.ndarray]:
    return [share_of_hardest(weights, measured, predicted, share) for share in shares]


def _compare(
    images: pd.DataFrame, resampling: Resampling, target: str, names: list[str], best: dict[str, str] | None = None
) -> list[dict[str, object]]:
    columns = [target, *dict.fromkeys([*names, *SIZE])]
    there = images[columns].notna().all(axis=1).to_numpy()
    values, conditions = images.loc[there, columns].to_numpy(float).T, {"size": [columns.index(c) for c in SIZE]}
    indicators = _indicators(images[there])
    if len(indicators):
        conditions["group"] = list(range(len(values), len(values) + len(indicators)))
        conditions["group_and_size"] = conditions["group"] + conditions["size"]
        values = np.concatenate([values, indicators])
    rows: dict[str, dict[str, object]] = {
        n: {"target": target, "predictor": n, "kind": _kind(n), "images": int(there.sum())} for n in names
    }
    for statistic in ("pearson", "spearman"):
        moments = partial(covariances, columns=values, ranks=statistic == "spearman")
        once = moments(np.ones((1, int(there.sum()))))
        here = {c: float(correlation(once, 0, columns.index(c))[0]) for c in SIZE}
        # a constant trivial predictor has no correlation and cannot be the best
        trivial = best[statistic] if best else max(SIZE, key=lambda c: np.nan_to_num(abs(here[c]), nan=-1))
        # the sign of the trivial predictor is reversed if small images are the hard ones
        sign = -1 if here[trivial] < 0 else 1
        rule = (columns.index(trivial), sign)
        measured = partial(_measures, moments, [columns.index(n) for n in names], rule, list(conditions.values()))
        found = iter(resampling.estimates(measured, int(there.sum())))
        for name in names:
            for suffix in ("", "_minus_trivial", *(f"_given_{c}" for c in conditions)):
                e, key = next(found), f"{statistic}{suffix}"
                rows[name] |= {key: e.value, f"{key}_low": e.low, f"{key}_high": e.high}
            rows[name][f"{statistic}_best_trivial"] = trivial
    return list(rows.values())


def _measures(
    moments: Callable[[np.ndarray], np.ndarray],
    predictors: Sequence[int],
    trivial: tuple[int, int],
    conditions: Sequence[list[int]],
    weights: np.ndarray,
) -> list[np.ndarray]:
    """For each predictor: correlation, its difference to the trivial predictor's, and partial correlations."""
    matrices = moments(weights)
    rule = correlation(matrices, 0, trivial[0]) * trivial[1]
    found = []
    for k in predictors:
        plain = correlation(matrices, 0, k)
        found += [plain, plain - rule, *(partial_correlation(matrices, 0, k, given) for given in conditions)]
    return found


def _indicators(images: pd.DataFrame) -> np.ndarray:
    """0/1 columns of the groups but one, groups - 1 x images."""
    if GROUP not in images:
        return np.empty((0, len(images)))
    return pd.get_dummies(images[GROUP], drop_first=True).to_numpy(float).T


def _targets(images: pd.DataFrame) -> list[str]:
    return [t for t in TARGETS if t in images]


def _ceilings(images: pd.DataFrame, target: str) -> list[str]:
    """Second drawings and, for a known true difficulty, the difficulty measured from the first ones."""
    names = [CEILING, "difficulty"] if target == "true_difficulty" else [CEILING]
    return [n for n in names if n in images]


def _by_the_same_people(images: pd.DataFrame, target: str, predictor: str) -> pd.DataFrame:
    if (target, predictor) != ("difficulty", CEILING) or REPEATED not in images:
        return images
    return images.assign(difficulty=images[REPEATED])


def _kind(name: str) -> str:
    return "predictor" if name in PREDICTORS else "trivial" if name in TRIVIAL else "ceiling"
