"""Figures of studies, made from tables: learning curves, penalty matrices and the effect of a varied setting."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.intervals import mean_interval

__all__ = ["draw_costs", "draw_curves", "draw_histograms", "draw_matrix", "draw_sweep"]

_INTERVAL_FROM = 5
"""Number of seeds from which a band is an interval of the mean; with fewer it goes from minimum to maximum."""


def draw_curves(table: pd.DataFrame, metric: str, panel: str = "variant", baseline: str | None = None) -> Figure:
    """Draw mean learning curves over seeds, with bands.

    The band is the 95% interval of the mean (`reports.intervals.mean_interval`), or the range of fewer than 5 seeds; a
    single seed has none. The title says which.

    Args:
        table: A study's table.
        metric: The metric's column.
        panel: A column; each of its values gets a panel.
        baseline: The strategy to draw in black.
    """
    panels = list(table.groupby(panel))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(6.0, 4.4 * columns), 4.2 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    colours = _colours(table, baseline)
    for here, (value, part) in zip(axes, panels, strict=False):
        for name, runs in part.groupby("strategy"):
            _curve(here, runs, metric, str(name), colours.get(name, "black"))
        here.set_title("" if value == "" else f"{panel} {value}" if panel != "variant" else str(value), fontsize=9)
        here.set_xlabel("labelled units")
        here.grid(alpha=0.3)
        here.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    for here in axes[::columns]:
        here.set_ylabel(metric)
    axes[0].legend(fontsize=7)
    seeds = table.groupby([panel, "strategy"])["seed"].nunique()
    figure.suptitle(_band_words(int(seeds.min()), int(seeds.max())), fontsize=9)
    return figure


def draw_costs(table: pd.DataFrame, metric: str, costs: Sequence[str], baseline: str | None = None) -> Figure:
    """Draw mean learning curves over what the labels cost, a panel for each way of counting, with bands.

    Args:
        table: A study's table; each variant gets a row of panels.
        metric: The metric's column.
        costs: Columns with what the labels of a row cost, such as labelled_clicks; a strategy whose cost is not known
            is not drawn there.
        baseline: The strategy to draw in black.
    """
    variants = list(table.groupby("variant"))
    figure = Figure(figsize=(4.4 * len(costs), 4.2 * len(variants)), layout="constrained")
    panels = figure.subplots(len(variants), len(costs), squeeze=False, sharey=True)
    colours = _colours(table, baseline)
    for row, (variant, part) in zip(panels, variants, strict=True):
        for here, cost in zip(row, costs, strict=True):
            for name, runs in part.dropna(subset=[cost]).groupby("strategy"):
                _curve(here, runs, metric, str(name), colours.get(str(name), "black"), cost)
            here.set_title(str(variant), fontsize=9)
            here.set_xlabel(cost.replace("_", " "))
            here.grid(alpha=0.3)
            here.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        row[0].set_ylabel(metric)
    panels[0][0].legend(fontsize=7)
    seeds = table.groupby(["variant", "strategy"])["seed"].nunique()
    figure.suptitle(_band_words(int(seeds.min()), int(seeds.max())), fontsize=9)
    return figure


def draw_matrix(matrix: pd.DataFrame, title: str) -> Figure:
    """Draw a table as a heat map with numbers; a line separates the row "mean"."""
    side = max(4.5, 0.75 * len(matrix.columns) + 2.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix.to_numpy(), cmap="Blues", vmin=0)
    dark = matrix.to_numpy().max() * 0.6
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="k" if value <= dark else "w"
        )
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(matrix.index)), matrix.index, fontsize=8)
    if "mean" in matrix.index:
        axes.axhline(len(matrix) - 1.5, color="black", linewidth=1)
    axes.set_title(title, fontsize=9)
    return figure


def draw_sweep(
    table: pd.DataFrame,
    key: str,
    measures: Sequence[str],
    references: Mapping[str, float],
    baseline: str | None = None,
) -> Figure:
    """Draw measures against a varied setting, a line per strategy with the standard deviation over seeds.

    The setting has a logarithmic axis if its values are positive and span at least two decades.

    Args:
        table: Columns strategy, `key`, and M and M_sd for each measure M; missing values leave gaps.
        key: The setting's column.
        measures: The measures, a panel each.
        references: Values of measures to draw as horizontal dotted lines: a baseline's without the setting.
        baseline: The strategy to draw in black.
    """
    figure = Figure(figsize=(4.6 * len(measures), 3.8), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False, sharex=True)[0]
    numbers = pd.to_numeric(table[key], errors="coerce")
    numeric = bool(numbers.notna().all())
    places = numbers if numeric else table[key].astype(str)
    for axes, measure in zip(panels, measures, strict=True):
        for strategy, part in table.groupby("strategy"):
            spread = part[f"{measure}_sd"].fillna(0)
            style = {"color": "black"} if strategy == baseline else {}
            axes.errorbar(
                places[part.index], part[measure], spread, marker="o", capsize=2, label=str(strategy), **style
            )
        if measure in references:
            axes.axhline(references[measure], color="black", linestyle=":", label=baseline)
        if numeric and numbers.min() > 0 and numbers.max() / numbers.min() >= 100:
            axes.set_xscale("log")
        if not table[measure].notna().any():
            axes.text(0.5, 0.5, "never", transform=axes.transAxes, ha="center")
        axes.set_xlabel(key)
        axes.set_ylabel(measure)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    return figure


def draw_histograms(scores: Mapping[int, Sequence[float]], name: str, bins: int = 60) -> Figure:
    """Draw the distributions of the pool's scores, one outline per cycle over common bins (Chen 2020, figure 3.19).

    Args:
        scores: Scores by cycle; at most 10 of the cycles are drawn.
        name: The strategy or run, for the axis.
        bins: Number of bins.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(s, dtype=float) for s in scores.values()]), bins)
    shown = sorted(scores)[:: -(-len(scores) // 10)]
    for number, cycle in enumerate(shown):
        colour = (0.15 + 0.8 * number / max(len(shown) - 1, 1), 0.25, 0.85 - 0.7 * number / max(len(shown) - 1, 1))
        label = f"cycle {cycle}: {len(scores[cycle])} units"
        axes.hist(scores[cycle], edges.tolist(), histtype="step", color=colour, label=label)
    axes.set_xlabel(f"score ({name})")
    axes.set_ylabel("units in the pool")
    axes.legend(fontsize=7)
    return figure


def _colours(table: pd.DataFrame, baseline: str | None) -> dict[str, str]:
    names = sorted(table["strategy"].unique())
    return {name: f"C{i % 10}" for i, name in enumerate(n for n in names if n != baseline)}


def _curve(axes: Axes, runs: pd.DataFrame, metric: str, name: str, colour: str, cost: str = "labelled_units") -> None:
    values = runs.pivot(index="seed", columns="cycle", values=metric)
    units = runs.groupby("cycle")[cost].mean()
    axes.plot(units, values.mean(), color=colour, label=name, linewidth=1.3, marker="." if len(units) < 30 else None)
    if len(values) >= _INTERVAL_FROM:
        low, high = mean_interval(values.to_numpy())
    elif len(values) > 1:
        low, high = values.min().to_numpy(), values.max().to_numpy()
    else:
        return
    axes.fill_between(units, low, high, color=colour, alpha=0.15, linewidth=0)


def _band_words(fewest: int, most: int) -> str:
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    if most == 1:
        return "1 seed: no bands"
    if most < _INTERVAL_FROM:
        return f"mean of {seeds}; band: minimum to maximum"
    if fewest >= _INTERVAL_FROM:
        return f"mean of {seeds}; band: 95% interval of the mean"
    return f"mean of {seeds}; band: 95% interval of the mean from {_INTERVAL_FROM} seeds on, minimum to maximum below"
