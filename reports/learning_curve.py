"""Learning curves: table, figure and area."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from datamodules.files import read_metrics, replacing

__all__ = ["area_under_learning_curve", "main_score", "normalised_area", "read_curve", "write_curve"]


def area_under_learning_curve(labelled_units: Sequence[float], scores: Sequence[float]) -> float:
    """ALC: the trapezoid integral of the score over the number of labelled units, from the first cycle to the last.

    scores in [0, 1], so the unit is labelled units. This is how tables 2.1 and 2.2 of thesis 002 must have been
    made, which does not say so: with 400 images between the first cycle (50) and the last, the nine whole-image rows
    agree with one first score of 0.506 and one full score of 0.75 (section 2.1 reports about 51% and 75%). Compare
    only curves over the same units.
    """
    return float(np.trapezoid(np.asarray(scores, dtype=float), np.asarray(labelled_units, dtype=float)))


def normalised_area(labelled_units: Sequence[float], scores: Sequence[float], full_score: float | None = None) -> float:
    """Normalised ALC: the same integral after scaling scores so that the first cycle is 0 and `full_score` is 1.

    full_score: what training on the whole pool reaches (0.75 for Cityscapes in the thesis); the curve's own
    maximum unless given. A flat curve has area 0.
    """
    values = np.asarray(scores, dtype=float)
    rise = (values.max() if full_score is None else full_score) - values[0]
    return 0.0 if rise == 0 else area_under_learning_curve(labelled_units, (values - values[0]) / rise)


def read_curve(run_dir: Path) -> pd.DataFrame:
    """One row per finished cycle, from cycles/NN/metrics.json."""
    rows = [read_metrics(p) for p in sorted((run_dir / "cycles").glob("*/metrics.json"))]
    if not rows:
        raise ValueError(f"expected a finished cycle below {run_dir / 'cycles'}, got none; run fit first")
    return pd.DataFrame(rows).sort_values("cycle", ignore_index=True)


def main_score(curve: pd.DataFrame) -> str:
    """The column by which the fits chose their best weights; of older run directories, mIoU."""
    return str(curve["monitor"].iloc[-1]) if "monitor" in curve else "val/miou"


def write_curve(run_dir: Path, score: str | None = None) -> pd.DataFrame:
    """Write learning_curve.csv and learning_curve.png anew; returns the table. score: `main_score` unless given."""
    curve = read_curve(run_dir)
    score = score or main_score(curve)
    with replacing(run_dir / "learning_curve.csv") as beside:
        curve.to_csv(beside, index=False)
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
    with replacing(run_dir / "learning_curve.png") as beside:
        figure.savefig(beside, dpi=130)
    return curve
