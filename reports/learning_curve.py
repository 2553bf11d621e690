"""Learning curves of a run: table, figure and area."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.files import write_figure
from records.run_directory import RunDirectory

__all__ = [
    "LOWER_IS_BETTER",
    "area_sentence",
    "area_under_learning_curve",
    "curve_summary",
    "curve_text",
    "main_metric",
    "normalised_area",
    "read_curve",
    "refresh_curve",
    "write_curve",
]

LOWER_IS_BETTER = ("/loss", "/calibration_error")
"""Endings of the names of metrics for which lower is better."""


def area_under_learning_curve(labelled_units: Sequence[float], metrics: Sequence[float]) -> float:
    """Area under the learning curve (ALC): trapezoid integral of a metric over the number of labelled units.

    Chen 2020 does not define the ALC of its tables 2.1 and 2.2, but this definition reproduces them: with 400 images
    between the first cycle (50) and the last, all 15 rows of whole images agree with one first mIoU of 0.506 and one
    full mIoU of 0.75 (section 2.1 reports about 51% and 75%), and the eight rows of crops, 350 images apart, with 0.522
    and 0.65. Only areas over the same range of labelled units can be compared.

    Args:
        labelled_units: Numbers of labelled units, increasing.
        metrics: The metric at each, in [0, 1].

    Returns:
        The area, in labelled units.
    """
    return float(np.trapezoid(np.asarray(metrics, dtype=float), np.asarray(labelled_units, dtype=float)))


def normalised_area(labelled_units: Sequence[float], metrics: Sequence[float], full_score: float) -> float:
    """Normalised ALC: the area after scaling the metric so that the first cycle is 0 and `full_score` is 1.

    Args:
        labelled_units: Numbers of labelled units, increasing.
        metrics: The metric at each, in [0, 1].
        full_score: The metric after training on the whole pool (0.75 for Cityscapes in Chen 2020). It must not be taken
            from the curve itself, or areas could not be compared.

    Returns:
        The area, in labelled units; NaN if the first value is not below `full_score`.

    Raises:
        ValueError: `full_score` is not in (0, 1].
    """
    if not 0 < full_score <= 1:
        raise ValueError(f"full_score must lie above 0 and not above 1, as metrics do, got {full_score}")
    values = np.asarray(metrics, dtype=float)
    rise = full_score - values[0]
    return float("nan") if rise <= 0 else area_under_learning_curve(labelled_units, (values - values[0]) / rise)


def area_sentence(curve: pd.DataFrame, metric: str, full_score: float | None = None) -> str:
    """State a run's ALC, and its normalised ALC if `full_score` is given, in a line for a terminal.

    Args:
        curve: From `read_curve`.
        metric: The metric's column.
        full_score: The metric after training on the whole pool.
    """
    units, values = curve["labelled_units"], curve[metric]
    words = f"ALC {area_under_learning_curve(units, values):.3f}"
    if full_score is not None:
        words += f", normalised {normalised_area(units, values, full_score):.3f} (1 is {full_score:g})"
    return f"{words}, labelled units x {metric}"


def curve_summary(curve: pd.DataFrame, full_score: float | None = None, target: float | None = None) -> dict[str, Any]:
    """Sum a run up in a few numbers: its best score, its ALC, and the labels that it took to reach a score.

    Args:
        curve: From `read_curve`.
        full_score: The metric after training on the whole pool; without it there is no normalised area.
        target: The score to be reached; `full_score` unless given. Without either no labels are counted.

    Returns:
        score_name, best_score, best_cycle; of several cycles alc and alc_normalised (labelled units x score); target
        and, once a cycle has reached it, labels_to_target and pixels_to_target: those of the first such cycle, with
        nothing interpolated.
    """
    metric = main_metric(curve)
    units, values = curve["labelled_units"], curve[metric]
    summary: dict[str, Any] = {"score_name": metric}
    if values.notna().any():
        best = values.idxmax()
        summary |= {"best_score": float(values[best]), "best_cycle": int(curve["cycle"][best])}
    if len(curve) > 1:
        summary["alc"] = area_under_learning_curve(units, values)
        if full_score:
            summary["alc_normalised"] = normalised_area(units, values, full_score)
    target = full_score if target is None else target
    if target is not None:
        summary["target"] = target
        if len(reached := curve[values >= target]):
            first = reached.iloc[0]
            summary |= {"labels_to_target": int(first["labelled_units"])}
            summary |= {"pixels_to_target": int(first["labelled_pixels"])} if "labelled_pixels" in curve else {}
    return {name: value for name, value in summary.items() if value == value}


def curve_text(curve: pd.DataFrame, run_dir: Path, full_score: float | None = None) -> str:
    """Format the end of a run for a terminal: the curve, its area if it has several cycles, and where to look.

    Args:
        curve: From `read_curve`.
        run_dir: The run directory.
        full_score: The metric after training on the whole pool, in [0, 1]; without it there is no normalised area.
    """
    metric = main_metric(curve)
    others = [f"last/{metric}", metric.replace("val/", "val/mc_"), "val/pixel_accuracy", "val/balanced_accuracy"]
    shown = ["cycle", "labelled_units", "labelled_pixels", "epoch", metric, *others, "val/ranking_accuracy"]
    table = curve[[c for c in shown if c in curve]].round(4).to_string(index=False)
    area = f"\n{area_sentence(curve, metric, full_score)}\n" if len(curve) > 1 else ""
    run = RunDirectory(run_dir)
    page = f"\npage:     {run.report_page}" if run.report_page.is_file() else ""
    return f"{table}\n{area}curve:    {run.learning_curve_picture}\npictures: {run_dir}/cycles/*/maps/*.png{page}"


def read_curve(run_dir: Path) -> pd.DataFrame:
    """Read a run's learning curve, one row per fitted cycle, from cycles/NN/metrics.json.

    Args:
        run_dir: The run directory.

    Raises:
        ValueError: No cycle is fitted yet.
    """
    rows = RunDirectory(run_dir).metrics()
    if not rows:
        raise ValueError(f"expected a finished cycle below {run_dir}/cycles, got none; run fit first")
    return pd.DataFrame(rows)


def main_metric(table: pd.DataFrame, metric: str | None = None) -> str:
    """Choose the metric to report.

    Args:
        table: A run's learning curve or a study's table.
        metric: The metric's column. Unless given: the validation metric by which the fits chose their best weights (the
            column `monitor`), else accuracy, else mIoU, else the first validation metric for which higher is better.

    Raises:
        ValueError: The table has no such column.
    """
    found = [c for c in table if c.startswith("val/") and not c.endswith(LOWER_IS_BETTER)]
    if metric is None:
        monitor = str(table["monitor"].iloc[-1]) if "monitor" in table else ""
        # a table without validation metrics is shown by the monitored one
        usual = [c for c in (monitor, "val/accuracy", "val/miou", *found) if c in found]
        metric = next((c for c in (*usual, monitor) if c in table), None)
    if metric is None or metric not in table:
        raise ValueError(f"expected a metric among {', '.join(found) or 'columns that begin with val/'}, got {metric}")
    return metric


def write_curve(run_dir: Path, metric: str | None = None) -> pd.DataFrame:
    """Write a run's learning_curve.png and learning_curve.csv.

    Args:
        run_dir: The run directory.
        metric: The metric to draw; `main_metric` unless given.

    Returns:
        The learning curve, from `read_curve`.
    """
    curve = read_curve(run_dir)
    metric = main_metric(curve, metric)
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["labelled_units"], curve[metric], marker="o")
    for cycle, units, value in zip(curve["cycle"], curve["labelled_units"], curve[metric], strict=True):
        axes.annotate(f"{cycle}", (units, value), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    axes.set_xlabel("labelled units (numbers: cycles)")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    area = area_under_learning_curve(curve["labelled_units"], curve[metric])
    axes.set_title(f"{run_dir.name}: ALC {area:.3f}" if len(curve) > 1 else run_dir.name, fontsize=10)
    write_figure(RunDirectory(run_dir).learning_curve_picture, figure, dpi=130)
    # written after the picture, so that a table that is up to date implies a picture that is
    RunDirectory(run_dir).write_curve(curve)
    return curve


def refresh_curve(run_dir: Path) -> bool:
    """Write the learning curve again if a killed process has left it out of date.

    A run without a picture gets none.

    Args:
        run_dir: The run directory.

    Returns:
        Whether it was out of date.
    """
    curve, run = read_curve(run_dir), RunDirectory(run_dir)
    if run.learning_curve.is_file() and run.learning_curve.read_bytes() == curve.to_csv(index=False).encode():
        return False
    if run.learning_curve_picture.is_file():
        write_curve(run_dir)
    else:
        run.write_curve(curve)
    return True
