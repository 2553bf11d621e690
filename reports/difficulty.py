"""The report on whether predicted uncertainty tells which images people disagree about."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from records.files import RunDirectoryError, write_table, write_text
from records.run_directory import RunDirectory
from reports.difficulty_figures import draw_calibration, draw_chosen_images, draw_scatter
from reports.difficulty_report import comparison_text, report_text
from reports.intervals import Resampling
from reports.pixel_agreement import PixelSums, boundary_nearness
from reports.weighted_statistics import correlation, covariances, partial_correlation, share_of_hardest

__all__ = ["MAPS", "PREDICTORS", "TRIVIAL", "compare", "compare_images", "precision_at_k", "write_difficulty_report"]

MAPS = ("ensemble_variance", "epistemic", "aleatoric", "total", "entropy", "bald")
"""Maps of predicted uncertainty; their sums over an image are its predictors."""

PREDICTORS = MAPS
TRIVIAL = ("predicted_area", "predicted_boundary_length", "constant")
CEILING = "repeat_difficulty"
REPEATED = "repeated_difficulty"
"""Difficulty from the first drawings of the people who drew again, so that the ceiling compares the same people."""

SIZE = ["predicted_area", "predicted_boundary_length"]
"""Predictors that any other must surpass, because disagreement grows with the object and its outline."""

_VARIANCES = ("ensemble_variance", "epistemic", "aleatoric", "total")
_TARGETS = (
    "difficulty",
    "difficulty_per_object_pixel",
    "difficulty_per_boundary_pixel",
    "pairwise_disagreement",
    "true_difficulty",
)
_SHARES = (0.05, 0.1, 0.2)
_FEWEST = 3


def compare(run_dir: Path, seed: int = 0, draws: int = 2000, pictures: int = 3) -> None:
    """Compare predicted with measured annotation difficulty, from the predictions in a run directory.

    Args:
        run_dir: Run directory of the verb difficulty, with images.csv and predictions/.
        seed: Seed of the bootstrap.
        draws: Number of the bootstrap's resamples of the images.
        pictures: How many of the hardest, of the easiest and of the most misjudged images to draw.
    """
    print(comparison_text(write_difficulty_report(run_dir, seed, draws, pictures)))
    print(f"\ntables, figures and report: {RunDirectory(run_dir).difficulty}")


def write_difficulty_report(run_dir: Path, seed: int = 0, draws: int = 2000, pictures: int = 3) -> pd.DataFrame:
    """Write RUN/difficulty: correlations, pixels, precision_at_k and calibration as CSV, figures, and report.md.

    Difficulty is measured as in Wilhelmsson, "Predicting annotation difficulty using Monte Carlo dropout", equations
    2.1 and 2.2. Intervals are 95% BCa bootstrap intervals over images (`reports.intervals.Resampling`).

    Args:
        run_dir: Run directory of the verb difficulty, with images.csv and predictions/.
        seed: Seed of the bootstrap.
        draws: Number of resamples.
        pictures: How many of the hardest, of the easiest and of the most misjudged images to draw.

    Returns:
        The rows of correlations.csv for the difficulty itself, with the pooled AUROC of pixels.

    Raises:
        RunDirectoryError: A file is missing or damaged.
        ValueError: There are fewer than three images.
    """
    images = _read_images(run_dir)
    files = _prediction_files(run_dir, images["image"])
    resampling = Resampling(draws, seed)
    correlations = compare_images(images, resampling)
    sums = PixelSums((*MAPS, "boundary_nearness", "constant"))
    for path in files:
        with _opened(path) as stored:
            maps = {name: _stored(stored, name, path) for name in MAPS}
            mean = _stored(stored, "mean", path)
            # NaN where fewer than two people voted
            variance = _stored(stored, "annotator_variance", path, finite=False)
        sums.add({**maps, "boundary_nearness": boundary_nearness(mean), "constant": np.ones_like(variance)}, variance)
    pixels, calibration = sums.table(resampling), sums.calibration(resampling, _VARIANCES)
    precision = precision_at_k(images, resampling)
    folder = RunDirectory(run_dir).difficulty
    tables = {"correlations": correlations, "pixels": pixels, "precision_at_k": precision, "calibration": calibration}
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
    comparison = _comparison(correlations, pixels)
    draw_scatter(images, correlations, [*PREDICTORS, *SIZE], folder / "scatter.png")
    draw_calibration(calibration, folder / "calibration.png")
    draw_chosen_images(images, dict(zip(images["image"], files, strict=True)), folder / "panels", pictures)
    write_text(folder / "report.md", report_text(correlations, pixels, precision, calibration, len(images), draws))
    return comparison


def compare_images(images: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Correlate predicted with measured difficulty.

    The best trivial predictor is the one that does best on these very images, with its sign reversed (small images are
    hard) if that is better, which favours it.

    Args:
        images: Rows of images.csv.
        resampling: The bootstrap.

    Returns:
        One row per target and predictor: Pearson's and Spearman's correlations, their differences to the best trivial
        predictor's, and the partial correlations given predicted area and boundary length, with their intervals; NaN
        where undefined, as for a constant.
    """
    rows: list[dict[str, object]] = []
    for target in _targets(images):
        known = images[target].notna().to_numpy()
        if known.sum() < _FEWEST:
            continue
        rows += _compare(images, resampling, target, [*PREDICTORS, *TRIVIAL])
        best = {s: str(rows[-1][f"{s}_best_trivial"]) for s in ("pearson", "spearman")}
        for ceiling in _ceilings(images, target):
            if (known & images[ceiling].notna().to_numpy()).sum() >= _FEWEST:
                rows += _compare(_by_the_same_people(images, target, ceiling), resampling, target, [ceiling], best)
    return pd.DataFrame(rows)


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
            if there.sum() < _FEWEST:
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
    values = images.loc[there, columns].to_numpy(float).T
    size = [columns.index(c) for c in SIZE]
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
        measured = partial(_measures, moments, [columns.index(n) for n in names], (columns.index(trivial), sign), size)
        found = iter(resampling.estimates(measured, int(there.sum())))
        for name in names:
            for suffix in ("", "_minus_trivial", "_given_size"):
                e, key = next(found), f"{statistic}{suffix}"
                rows[name] |= {key: e.value, f"{key}_low": e.low, f"{key}_high": e.high}
            rows[name][f"{statistic}_best_trivial"] = trivial
    return list(rows.values())


def _measures(
    moments: Callable[[np.ndarray], np.ndarray],
    predictors: Sequence[int],
    trivial: tuple[int, int],
    size: list[int],
    weights: np.ndarray,
) -> list[np.ndarray]:
    """For each predictor: correlation, its difference to the trivial predictor's, and correlation given size."""
    matrices = moments(weights)
    rule = correlation(matrices, 0, trivial[0]) * trivial[1]
    found = []
    for k in predictors:
        plain = correlation(matrices, 0, k)
        found += [plain, plain - rule, partial_correlation(matrices, 0, k, size)]
    return found


def _comparison(correlations: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    table = correlations[correlations["target"] == "difficulty"].drop(columns="target")
    auroc = pixels.rename(columns={"map": "predictor"})[["predictor", *[c for c in pixels if c.startswith("auroc_p")]]]
    return table.merge(auroc, on="predictor", how="left")


def _targets(images: pd.DataFrame) -> list[str]:
    return [t for t in _TARGETS if t in images]


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


def _read_images(run_dir: Path) -> pd.DataFrame:
    path = RunDirectory(run_dir).images
    if not path.is_file():
        raise RunDirectoryError(
            f"expected the table of images at {path}, got no such file; run the verb difficulty on {run_dir}, which "
            "predicts before it compares"
        )
    images = pd.read_csv(path, dtype={"image": str}, keep_default_na=False, na_values=[""])
    needed = ["image", *_TARGETS[:3], "mean_pairwise_iou", *PREDICTORS, *TRIVIAL]
    if missing := [c for c in needed if c not in images]:
        raise RunDirectoryError(f"{path} lacks the columns {', '.join(missing)}; run the verb difficulty again")
    if len(images) < _FEWEST:
        raise ValueError(
            f"a comparison over images needs at least {_FEWEST} of them, got {len(images)} in {path}; predict more"
        )
    if again := images.loc[images["image"].duplicated(), "image"].tolist():
        raise RunDirectoryError(f"{path} names the image {again[0]!r} twice; run the verb difficulty again")
    for column in ("difficulty", *PREDICTORS, *TRIVIAL):
        values = pd.to_numeric(images[column], errors="coerce")
        if bad := images.loc[~np.isfinite(values), "image"].tolist():
            raise RunDirectoryError(
                f"expected a number for every image in the column {column} of {path}, got none for {bad[0]!r}"
                f"{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}; predict these images again"
            )
    return images.assign(pairwise_disagreement=1 - images["mean_pairwise_iou"])


def _prediction_files(run_dir: Path, names: Sequence[str]) -> list[Path]:
    files = [RunDirectory(run_dir).prediction(name) for name in names]
    if missing := [str(p) for p in files if not p.is_file()]:
        raise RunDirectoryError(
            f"{len(missing)} of {len(files)} predictions are missing: {', '.join(missing[:5])}"
            f"{' and more' if len(missing) > 5 else ''}; run the verb difficulty again, which makes the missing ones"
        )
    return files


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    try:
        return np.load(path)
    # numpy raises errors of unrelated classes: ValueError, EOFError, BadZipFile
    except Exception as error:
        raise RunDirectoryError(f"{path} is no readable prediction ({error}); delete it and predict again") from error


def _stored(stored: np.lib.npyio.NpzFile, name: str, path: Path, finite: bool = True) -> np.ndarray:
    if name not in stored:
        raise RunDirectoryError(f"{path} lacks the map {name}; delete it and predict again")
    values = stored[name]
    if finite and not np.isfinite(values).all():
        raise RunDirectoryError(f"the map {name} in {path} has values that are not numbers; predict this image again")
    return np.asarray(values)
