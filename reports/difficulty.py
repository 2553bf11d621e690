"""The report on whether predicted uncertainty tells which images people disagree about."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from records.files import RunDirectoryError, write_table, write_text
from records.run_directory import RunDirectory
from reports.difficulty_combinations import compare_combinations
from reports.difficulty_correlations import (
    FEWEST,
    GROUP,
    MAPS,
    PREDICTORS,
    SIZE,
    TARGETS,
    TRIVIAL,
    VARIANCES,
    compare_images,
    compare_parts,
    precision_at_k,
)
from reports.difficulty_figures import draw_calibration, draw_chosen_images, draw_intervals, draw_scatter
from reports.difficulty_report import combinations_text, comparison_text, report_text
from reports.intervals import Resampling
from reports.page.difficulty_page import STRIP, StripWriter, write_difficulty_page
from reports.pixel_agreement import PixelSums, boundary_nearness

__all__ = ["compare", "write_difficulty_report"]


def compare(run_dir: Path, seed: int = 0, draws: int = 2000, pictures: int = 3) -> None:
    """Compare predicted with measured annotation difficulty, from the predictions in a run directory.

    Args:
        run_dir: Run directory of the verb difficulty, with images.csv and predictions/.
        seed: Seed of the bootstrap.
        draws: Number of the bootstrap's resamples of the images.
        pictures: How many of the hardest, of the easiest and of the most misjudged images to draw.
    """
    comparison, combinations = _write(run_dir, seed, draws, pictures)
    print(comparison_text(comparison))
    if len(combinations):
        print(f"\n{combinations_text(combinations)}")
    print(f"\ntables, figures and report: {RunDirectory(run_dir).difficulty}")
    print(f"page: {RunDirectory(run_dir).report_page}")


def write_difficulty_report(run_dir: Path, seed: int = 0, draws: int = 2000, pictures: int = 3) -> pd.DataFrame:
    """Write RUN/difficulty: tables as CSV, figures, and report.md.

    The tables are correlations, parts (correlations within groups and folds), combinations (regressions on several
    predictors, on images that they were not fitted on), pixels, precision_at_k and calibration.

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
    return _write(run_dir, seed, draws, pictures)[0]


def _write(run_dir: Path, seed: int, draws: int, pictures: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    images = _read_images(run_dir)
    files = _prediction_files(run_dir, images["image"])
    resampling = Resampling(draws, seed)
    correlations, parts = compare_images(images, resampling), compare_parts(images, resampling)
    combinations = compare_combinations(images, resampling)
    strips = StripWriter(RunDirectory(run_dir).report_strips)
    sums = PixelSums((*MAPS, "boundary_nearness", "constant"))
    for path in files:
        with _opened(path) as stored:
            maps = {name: _stored(stored, name, path) for name in MAPS}
            mean = _stored(stored, "mean", path)
            # NaN where fewer than two people voted
            variance = _stored(stored, "annotator_variance", path, finite=False)
            strips.add({name: _stored(stored, name, path, finite=False) for name in ("image", *STRIP)})
        sums.add({**maps, "boundary_nearness": boundary_nearness(mean), "constant": np.ones_like(variance)}, variance)
    pixels, calibration = sums.table(resampling), sums.calibration(resampling, VARIANCES)
    folder, networks = RunDirectory(run_dir).difficulty, RunDirectory(run_dir).networks
    tables = {
        "correlations": correlations, "parts": parts, "combinations": combinations, "pixels": pixels,
        "precision_at_k": precision_at_k(images, resampling), "calibration": calibration,
    }  # fmt: skip
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
    comparison = _comparison(correlations, pixels)
    draw_scatter(images, correlations, [*PREDICTORS, *SIZE], folder / "scatter.png")
    draw_intervals(correlations, combinations, folder / "intervals.png")
    draw_calibration(calibration, folder / "calibration.png")
    draw_chosen_images(images, dict(zip(images["image"], files, strict=True)), folder / "panels", pictures)
    if networks.is_file():
        tables["networks"] = pd.read_csv(networks, dtype={"network": str}, keep_default_na=False, na_values=[""])
    write_text(folder / "report.md", report_text(tables, len(images), draws))
    write_difficulty_page(run_dir, images, strips.addresses, tables)
    return comparison, combinations


def _comparison(correlations: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    table = correlations[correlations["target"] == "difficulty"].drop(columns="target")
    auroc = pixels.rename(columns={"map": "predictor"})[["predictor", *[c for c in pixels if c.startswith("auroc_p")]]]
    return table.merge(auroc, on="predictor", how="left")


def _read_images(run_dir: Path) -> pd.DataFrame:
    path = RunDirectory(run_dir).images
    if not path.is_file():
        raise RunDirectoryError(
            f"expected the table of images at {path}, got no such file; run the verb difficulty on {run_dir}, which "
            "predicts before it compares"
        )
    images = pd.read_csv(path, dtype={"image": str, GROUP: str}, keep_default_na=False, na_values=[""])
    needed = ["image", *TARGETS[:3], "mean_pairwise_iou", *PREDICTORS, *TRIVIAL]
    if missing := [c for c in needed if c not in images]:
        raise RunDirectoryError(f"{path} lacks the columns {', '.join(missing)}; run the verb difficulty again")
    if len(images) < FEWEST:
        raise ValueError(
            f"a comparison over images needs at least {FEWEST} of them, got {len(images)} in {path}; predict more"
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
