"""Analyses as figures, most of them of Chen 2020, each with a CSV of the numbers that it shows."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.files import write_figure, write_table, write_text
from records.pixels import read_pixels
from records.run_directory import RunDirectory
from reports.comparison import run_areas, variants_with_baseline, without_gaps
from reports.distributions import bounds_table, cumulative_table, draw_bounds, draw_cumulative, random_logits
from reports.figures import draw_curves, draw_histograms, draw_sweep
from reports.filters import draw_filters, filters_table, read_filters
from reports.learning_curve import main_metric
from reports.moons import draw_loss_curves, draw_moons, moons_table, read_moons
from reports.pixels import cut_shares, draw_joint, draw_odin, joint_table, odin_table
from reports.settings import draw_settings, read_settings, settings_table, settings_text
from reports.statistics import break_even_point
from reports.study_table import read_baseline, read_study

__all__ = ["analyse", "by_key", "read_cycle_scores", "sweep_table"]

_MEASURES = ("alc", "final", "break_even")
_MACRO = ("val/macro_precision", "val/macro_recall", "val/macro_f1")


def analyse(
    name: Literal[
        "distributions",
        "bounds",
        "histograms",
        "strategies",
        "sweep",
        "pixels",
        "odin",
        "settings",
        "moons",
        "filters",
    ],
    out: str = "analysis",
    run_dir: str | None = None,
    image: str | None = None,
    key: str | None = None,
    only: list[str] | None = None,
    score: str | None = None,
    classes: int = 19,
    count: int = 20000,
    seed: int = 0,
) -> None:
    """Draw an analysis; figures are those of Chen 2020 that are alike.

    Args:
        name: distributions: acquisition values of random softmax distributions against entropy (figure 2.12). bounds:
            1 - max-softmax against entropy, with its bounds (figure 2.13). histograms: the pool's scores in each cycle
            of a fit (figure 3.19). strategies: a study's learning curves (figures 3.7, 3.8, 3.10, 3.12, 3.14). sweep:
            learning curves, area, final value and break-even point against the setting that a study varied (figures
            3.3 to 3.6). pixels: 1 - max-softmax against entropy of the pixels of one image, with the shares beyond log
            2 and 0.5 (figure 2.13 of a real image). odin: ODIN's maps of one image (figure 2.4). The verb pixels writes
            what these two read. settings: the last cycle's metrics for each value of a setting that a study varied,
            with differences to the first one, and a figure of them over the other settings. moons: what losses make of
            positives that are labelled negative, and loss curves; the verb moons writes what this reads. filters: the
            first convolution's filters of the last fitted cycle, each on its own scale.
        out: Folder for the figures and their tables.
        run_dir: Folder of a fit (histograms, pixels, odin, moons, filters) or of a study (strategies, sweep, settings).
        image: For pixels and odin: the image, where the run directory has values of several.
        key: For sweep: a column of study.csv, such as width, or a name before a number in the strategies' names, such
            as T in "ODIN(T=0.1)". For settings: the one whose values are compared, such as loss; the last one that the
            study varied unless given.
        only: Strategies to show besides random; all of them unless given.
        score: Metric to show, such as val/accuracy; the one that chose the best weights unless given.
        classes: Number of classes of the random distributions.
        count: Number of random distributions.
        seed: Seed of the random distributions.

    Raises:
        ValueError: The analysis lacks a run directory or a key, or what they name is not there.
    """
    asked = _Asked(Path(out), Path(run_dir) if run_dir else None, image, key, only, score, classes, count, seed)
    _ANALYSES[name](asked)


@dataclass(frozen=True)
class _Asked:
    out: Path
    run_dir: Path | None
    image: str | None
    key: str | None
    only: list[str] | None
    metric: str | None
    classes: int
    count: int
    seed: int

    def folder(self) -> Path:
        if self.run_dir is None:
            raise ValueError("this analysis reads a run directory, got none; give --run_dir")
        return self.run_dir

    def study(self) -> tuple[pd.DataFrame, str, str | None]:
        """The complete runs of the strategies to show, the metric's column, and the baseline."""
        table = read_study(self.folder())
        metric = main_metric(table, self.metric)
        table = without_gaps(table.dropna(subset=[metric]))
        names = sorted(table["strategy"].unique())
        baseline = read_baseline(self.folder(), names)
        if unknown := sorted(set(self.only or []) - set(names)):
            raise ValueError(f"--only names {', '.join(unknown)}, but the study's strategies are {', '.join(names)}")
        if self.only:
            table = table[table["strategy"].isin([*self.only, baseline])]
        return table, metric, baseline

    def write(self, name: str, table: pd.DataFrame, figure: Figure) -> None:
        write_table(self.out / f"{name}.csv", table)
        write_figure(self.out / f"{name}.png", figure, dpi=130)
        print(f"{self.out / name}.png and .csv")


def read_cycle_scores(run_dir: Path) -> dict[int, pd.Series]:
    """Read the pool's scores in every cycle that queried, by cycle.

    Args:
        run_dir: Folder of a fit.

    Raises:
        ValueError: No cycle has queried yet.
    """
    queried = [cycle for cycle in RunDirectory(run_dir).cycles() if cycle.scores.is_file()]
    if not queried:
        raise ValueError(f"expected cycles/NN/scores.parquet below {run_dir}, got none; run a fit of two cycles first")
    return {cycle.number: cycle.read_scores("score")["score"] for cycle in queried}


def by_key(table: pd.DataFrame, key: str, baseline: str | None) -> pd.DataFrame:
    """Give the study's table a column with the values of the setting that was varied.

    Args:
        table: The study's table.
        key: A column of it that tells its variants apart, or a name before a number in the strategies' names.
        baseline: The baseline strategy. If `key` is a column, every value of it gets a copy of the baseline's runs.

    Returns:
        The table with the column `key`. If it comes from the strategies' names, it is NaN for names without a number.

    Raises:
        ValueError: The column does not tell the variants apart, or neither columns nor names have the key.
    """
    if key in table:
        values = table.dropna(subset=[key]).groupby("variant")[key]
        if (values.nunique() > 1).any() or values.first().duplicated().any():
            raise ValueError(
                f"{key} does not tell the study's variants apart ({', '.join(sorted(table['variant'].unique()))}); a "
                "sweep needs a study that varied one key, told apart by `variant`"
            )
        parts = [part.assign(**{key: values.first().get(v)}) for v, part in variants_with_baseline(table, baseline)]
        return pd.concat(parts).dropna(subset=[key]).reset_index(drop=True)
    number = r"\d+\.?\d*(?:e[-+]?\d+)?"
    # the dash of stride-4 is no sign
    pattern = rf"(?i)(?:^|[^a-z]){re.escape(key)}[-=_ ]?((?<==)-{number}|{number})"
    numbers = table["strategy"].str.extract(pattern)[0].astype(float)
    if numbers.isna().all():
        raise ValueError(
            f"expected a column {key!r} in study.csv or strategies named like {key}=1, got columns "
            f"{', '.join(map(str, table.columns))} and strategies {', '.join(sorted(table['strategy'].unique()))}"
        )
    return table.assign(**{key: numbers})


def sweep_table(table: pd.DataFrame, metric: str, key: str, baseline: str | None) -> pd.DataFrame:
    """Area, final value and break-even point for each value of a varied setting.

    Args:
        table: From `by_key`. If the baseline has no value of the key, its runs serve as baseline for all values.
        metric: The metric's column.
        key: The setting's column.
        baseline: The baseline strategy.

    Returns:
        One row per value and strategy: mean and standard deviation over seeds of alc and final, and break_even, the
        labels from which the mean curve stays above the baseline's; NaN if it does not end above.
    """
    mean = table.groupby([key, "strategy", "cycle"], dropna=False)[["labelled_units", metric]].mean()
    rows = []
    for (value, strategy), runs in table.groupby([key, "strategy"], dropna=False):
        areas = run_areas(runs, metric)
        row = {key: value, "strategy": strategy, "seeds": len(areas)}
        for measure in ("alc", "final"):
            row |= {measure: areas[measure].mean(), f"{measure}_sd": areas[measure].std()}
        rows.append(row | {"break_even": _break_even(mean, metric, value, strategy, baseline), "break_even_sd": np.nan})
    return pd.DataFrame(rows)


def _break_even(mean: pd.DataFrame, metric: str, value: object, strategy: str, baseline: str | None) -> float:
    curves = {s: c for (v, s), c in mean.groupby(level=[0, 1], dropna=False) if v == value or pd.isna(v)}
    if strategy == baseline or baseline not in curves or strategy not in curves:
        return float("nan")
    units = curves[strategy]["labelled_units"].to_numpy()
    other = np.interp(units, curves[baseline]["labelled_units"], curves[baseline][metric])
    return break_even_point(units, curves[strategy][metric].to_numpy(), other)


def _distributions(asked: _Asked) -> None:
    table = cumulative_table(random_logits(asked.count, asked.classes, seed=asked.seed))
    asked.write("distributions", table, draw_cumulative(table))


def _bounds(asked: _Asked) -> None:
    # a wide scale without skew gives distributions from certain to uniform
    table = bounds_table(random_logits(asked.count, asked.classes, scale=12, power=1, seed=asked.seed))
    asked.write("bounds", table, draw_bounds(table, asked.classes, {"log 2": log(2)}))


def _histograms(asked: _Asked) -> None:
    scores = read_cycle_scores(asked.folder())
    table = pd.concat([s.to_frame().assign(cycle=c) for c, s in scores.items()], ignore_index=True)
    asked.write("histograms", table, draw_histograms(scores, asked.folder().name))


def _strategies(asked: _Asked) -> None:
    table, metric, baseline = asked.study()
    asked.write("strategies", _mean_curves(table, metric, "variant"), draw_curves(table, metric, baseline=baseline))


def _sweep(asked: _Asked) -> None:
    table, metric, baseline = asked.study()
    if asked.key is None:
        raise ValueError("a sweep needs the name of what was varied, got none; give --key, such as --key width")
    panel = asked.key if asked.key in table else "variant"
    table = by_key(table, asked.key, baseline)
    found = sweep_table(table, metric, asked.key, baseline)
    # if the key comes from names, the baseline has one result for all values: a line instead of points
    alone = found[found[asked.key].isna() & (found["strategy"] == baseline)]
    references = {m: float(alone[m].iloc[0]) for m in ("alc", "final")} if len(alone) else {}
    shown = found.dropna(subset=[asked.key])
    if references:
        shown = shown.assign(strategy=shown["strategy"].str.extract(r"^([A-Za-z]+)")[0])
    asked.write("sweep", found, draw_sweep(shown, asked.key, _MEASURES, references, baseline))
    curves = draw_curves(table, metric, panel, baseline)
    asked.write("sweep_curves", _mean_curves(table, metric, panel), curves)


def _pixels(asked: _Asked) -> None:
    import torch  # takes a second

    image_id, values = read_pixels(RunDirectory(asked.folder()), asked.image)
    table = bounds_table(torch.from_numpy(values.logits).double().flatten(1).T)
    classes = max(len(values.logits), 2)
    joint, shares = joint_table(table, classes), cut_shares(table)
    title = f"{image_id}: {len(table)} pixels, mean entropy {table['entropy'].mean():.3f} nats"
    asked.write("pixels", joint, draw_joint(joint, shares, classes, title))
    write_table(asked.out / "pixels_shares.csv", shares)
    print(shares.to_string(index=False, na_rep=""))


def _odin(asked: _Asked) -> None:
    image_id, values = read_pixels(RunDirectory(asked.folder()), asked.image)
    table = odin_table(values)
    title = f"{image_id}: ODIN's 1 - max-softmax; bright is uncertain, and every map has its own scale"
    asked.write("odin", table, draw_odin(values, table, title))


def _settings(asked: _Asked) -> None:
    table, key = read_settings(asked.folder(), asked.key)
    macro = [
        name for name in ("val/accuracy", "val/macro_precision", "val/macro_recall", "val/macro_f1") if name in table
    ]
    chosen = asked.metric is None and len(macro) > 1
    found = settings_table(table, key, macro if chosen else [main_metric(table, asked.metric)])
    asked.write("settings", found, draw_settings(found, key))
    text = settings_text(found, key)
    write_text(asked.out / "settings.md", text)
    print(text)


def _moons(asked: _Asked) -> None:
    table = read_moons(asked.folder())
    found = moons_table(table)
    asked.write("moons", found, draw_moons(table))
    write_figure(asked.out / "moons_losses.png", draw_loss_curves(table), dpi=110)
    print(found.round(3).to_string(index=False))


def _filters(asked: _Asked) -> None:
    name, weights = read_filters(asked.folder())
    count, channels, height, width = weights.shape
    title = f"{name}\n{count} filters of {height} x {width} x {channels}"
    asked.write("filters", filters_table(weights), draw_filters(weights, title))


def _mean_curves(table: pd.DataFrame, metric: str, panel: str) -> pd.DataFrame:
    grouped = table.groupby([panel, "strategy", "cycle"])
    return grouped.agg(
        labelled_units=("labelled_units", "mean"), mean=(metric, "mean"), minimum=(metric, "min"),
        maximum=(metric, "max"), seeds=("seed", "nunique"),
    ).reset_index()  # fmt: skip


_ANALYSES: dict[str, Callable[[_Asked], None]] = {
    "distributions": _distributions,
    "bounds": _bounds,
    "histograms": _histograms,
    "strategies": _strategies,
    "sweep": _sweep,
    "pixels": _pixels,
    "odin": _odin,
    "settings": _settings,
    "moons": _moons,
    "filters": _filters,
}
