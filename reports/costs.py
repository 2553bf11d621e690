"""Strategies compared at what their labels cost: pixels, objects or clicks in place of units."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.intervals import mean_interval

__all__ = ["cost_columns", "cost_table"]

_COSTS = ("labelled_pixels", "labelled_objects", "labelled_clicks")


def cost_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a study's table that say what labels cost.

    Where every run spends the same in each cycle, whichever its strategy, units say it all and there are none.

    Args:
        table: A study's table.
    """
    counted = [c for c in _COSTS if c in table and table[c].notna().any()]
    spent = table.groupby(["variant", "cycle"])[["labelled_units", *counted]].nunique()
    return counted if (spent > 1).any(axis=None) else []


def cost_table(table: pd.DataFrame, metric: str, costs: Sequence[str], baseline: str | None) -> pd.DataFrame:
    """Mean of a metric over the costs that all strategies' runs have in common, straight between cycles.

    Args:
        table: A study's table, of one variant.
        metric: The metric's column.
        costs: Columns with what the labels of a row cost; a strategy whose cost is not known has no row.
        baseline: The strategy whose runs of the same seed are subtracted; None for no differences.

    Returns:
        A row for each cost and strategy, best first: the costs from `first` to `last` that are looked at, the mean over
        seeds, its standard deviation and, against the baseline, the mean difference paired by seed with its 95%
        interval, NaN for fewer than two seeds.
    """
    rows = []
    for cost in costs:
        known = table.dropna(subset=[cost])
        runs = {key: run.sort_values("cycle") for key, run in known.groupby(["strategy", "seed"])}
        first = max(float(run[cost].iloc[0]) for run in runs.values())
        last = min(float(run[cost].iloc[-1]) for run in runs.values())
        if not first < last:
            continue
        means = pd.Series({key: _mean_between(run[cost], run[metric], first, last) for key, run in runs.items()})
        strategies = means.index.get_level_values(0).unique()
        found = []
        for name in strategies:
            row = {"cost": cost, "first": first, "last": last, "strategy": name, "seeds": len(means[name])}
            row |= {"mean": means[name].mean(), "sd": means[name].std()}
            if baseline in strategies and name != baseline:
                paired = (means[name] - means[baseline]).dropna().to_numpy()
                low, high = mean_interval(paired) if len(paired) > 1 else (np.nan, np.nan)
                row |= {"difference": paired.mean(), "low": float(low), "high": float(high)}
            found.append(row)
        rows += sorted(found, key=lambda row: -row["mean"])
    return pd.DataFrame(rows)


def _mean_between(costs: pd.Series, values: pd.Series, first: float, last: float) -> float:
    """Mean of a curve between two costs, exact for straight lines between its points."""
    x, y = costs.to_numpy(dtype=float), values.to_numpy(dtype=float)
    at = np.unique(np.concatenate([[first, last], x[(x > first) & (x < last)]]))
    return float(np.trapezoid(np.interp(at, x, y), at) / (last - first))
