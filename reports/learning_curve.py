"""Learning curves: table, figure and area."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.files import write_figure
from records.run_directory import RunDirectory

__all__ = [
    "BETTER_SMALLER",
    "area_under_learning_curve",
    "area_words",
    "curve_words",
    "main_score",
    "normalised_area",
    "read_curve",
    "refresh_curve",
    "write_curve",
]

BETTER_SMALLER = ("/loss", "/calibration_error")
"""How the names of scores end of which less is better."""


def area_under_learning_curve(labelled_units: Sequence[float], scores: Sequence[float]) -> float:
    """ALC: the trapezoid integral of the score over the number of labelled units, from the first cycle to the last.

    scores in [0, 1], so the unit is labelled units. This is how tables 2.1 and 2.2 of Chen 2020 must have been made,
    which does not say so: with 400 images between the first cycle (50) and the last, all 15 whole-image rows agree
    with one first score of 0.506 and one full score of 0.75 (section 2.1 reports about 51% and 75%), and the eight rows
    of crops, 350 images apart, with 0.522 and 0.65. Compare only curves over the same units.
    """
    return float(np.trapezoid(np.asarray(scores, dtype=float), np.asarray(labelled_units, dtype=float)))


def normalised_area(labelled_units: Sequence[float], scores: Sequence[float], full_score: float) -> float:
    """Normalised ALC: the same integral after scaling scores so that the first cycle is 0 and `full_score` is 1.

    full_score: what training on the whole pool reaches (0.75 for Cityscapes in Chen 2020), in the scores' own unit,
    and never a score of the curve itself: then curves would not compare. NaN where the first score is not below it.
    """
    if not 0 < full_score <= 1:
        raise ValueError(f"full_score must lie above 0 and not above 1, as scores do, got {full_score}")
    values = np.asarray(scores, dtype=float)
    rise = full_score - values[0]
    return float("nan") if rise <= 0 else area_under_learning_curve(labelled_units, (values - values[0]) / rise)


def area_words(curve: pd.DataFrame, score: str, full_score: float | None = None) -> str:
    """ALC of a run's table, and the normalised one where a full score is stated, as a sentence."""
    units, values = curve["labelled_units"], curve[score]
    words = f"ALC {area_under_learning_curve(units, values):.3f}"
    if full_score is not None:
        words += f", normalised {normalised_area(units, values, full_score):.3f} (1 is {full_score:g})"
    return f"{words}, labelled units x {score}"


def curve_words(curve: pd.DataFrame, run_dir: Path, full_score: float | None = None) -> str:
    """What is printed at the end of a run: its table, its area where it has several cycles, and where its pictures are.

    Args:
        curve: One row per cycle, as `read_curve` gives it.
        run_dir: The run's directory.
        full_score: The score of training on the whole pool, in [0, 1]; None for no normalised area.

    """
    score = main_score(curve)
    others = [f"last/{score}", "val/pixel_accuracy", "val/balanced_accuracy"]
    shown = ["cycle", "labelled_units", "labelled_pixels", "epoch", score, *others]
    table = curve[[c for c in shown if c in curve]].round(4).to_string(index=False)
    area = f"\n{area_words(curve, score, full_score)}\n" if len(curve) > 1 else ""
    picture = RunDirectory(run_dir).learning_curve_picture
    return f"{table}\n{area}curve:    {picture}\npictures: {run_dir}/cycles/*/maps/*.png"


def read_curve(run_dir: Path) -> pd.DataFrame:
    """One row per finished cycle, from cycles/NN/metrics.json."""
    rows = RunDirectory(run_dir).metrics()
    if not rows:
        raise ValueError(f"expected a finished cycle below {run_dir}/cycles, got none; run fit first")
    return pd.DataFrame(rows)


def main_score(table: pd.DataFrame, score: str | None = None) -> str:
    """The score to report of a run's or a study's table.

    The given one, else the validation score by which the fits chose their best weights (`monitor`), else accuracy,
    else mIoU, else the first of validation of which more is better.
    """
    found = [c for c in table if c.startswith("val/") and not c.endswith(BETTER_SMALLER)]
    if score is None:
        monitor = str(table["monitor"].iloc[-1]) if "monitor" in table else ""
        # what has no validation score at all is shown by whatever it watches
        usual = [c for c in (monitor, "val/accuracy", "val/miou", *found) if c in found]
        score = next((c for c in (*usual, monitor) if c in table), None)
    if score is None or score not in table:
        raise ValueError(f"expected a score among {', '.join(found) or 'columns that begin with val/'}, got {score}")
    return score


def write_curve(run_dir: Path, score: str | None = None) -> pd.DataFrame:
    """Write learning_curve.png and learning_curve.csv anew; returns the table. score: `main_score` unless given."""
    curve = read_curve(run_dir)
    score = main_score(curve, score)
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["labelled_units"], curve[score], marker="o")
    for cycle, units, value in zip(curve["cycle"], curve["labelled_units"], curve[score], strict=True):
        axes.annotate(f"{cycle}", (units, value), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    axes.set_xlabel("labelled units (numbers: cycles)")
    axes.set_ylabel(score)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    area = area_under_learning_curve(curve["labelled_units"], curve[score])
    axes.set_title(f"{run_dir.name}: ALC {area:.3f}" if len(curve) > 1 else run_dir.name, fontsize=10)
    write_figure(RunDirectory(run_dir).learning_curve_picture, figure, dpi=130)
    # last, so that where it is up to date the picture is
    RunDirectory(run_dir).write_curve(curve)
    return curve


def refresh_curve(run_dir: Path) -> None:
    """Write what a kill between a run's last scores and their curve has left out; not every run has a picture."""
    curve, run = read_curve(run_dir), RunDirectory(run_dir)
    if run.learning_curve.is_file() and run.learning_curve.read_bytes() == curve.to_csv(index=False).encode():
        return
    if run.learning_curve_picture.is_file():
        write_curve(run_dir)
    else:
        run.write_curve(curve)
