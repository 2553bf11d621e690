"""Strategies compared at what their labels cost: pixels, objects or clicks in place of units."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reports.comparison import variants_with_baseline
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


def cost_table(table: pd.DataFrame, metric: str, costs: Sequence[str], baseline: str) -> pd.DataFrame:
    """Compare strategies with a baseline by the mean of a metric over the costs that both have in common.

    Args:
        table: A study's table.
        metric: The metric's column.
        costs: Columns with what the labels of a row cost; a strategy whose cost is not known has no row.
        baseline: The strategy whose runs of the same seed are subtracted.

    Returns:
        A row for each variant, cost and strategy, best first: the costs from `first` to `last` that all runs of both
        have, the means of both over seeds, straight between cycles, and their difference, paired by seed, with its 95%
        interval, NaN for fewer than two seeds. Where they have no costs in common, `first` is not below `last`, and
        there are no means.
    """
    rows = []
    for variant, part in variants_with_baseline(table, baseline):
        for cost in costs:
            known = part.dropna(subset=[cost])
            curves = {
                name: {seed: run.sort_values("cycle") for seed, run in runs.groupby("seed")}
                for name, runs in known.groupby("strategy")
            }
            of_baseline = curves.pop(baseline, {})
            found = [
                {"variant": variant, "cost": cost, "strategy": name, **_against(runs, of_baseline, cost, metric)}
                for name, runs in curves.items()
                if runs.keys() & of_baseline.keys()
            ]
            rows += sorted(found, key=lambda row: -np.nan_to_num(float(row["difference"]), nan=-np.inf))
    return pd.DataFrame(rows)


def _against(
    runs: Mapping[int, pd.DataFrame], others: Mapping[int, pd.DataFrame], cost: str, metric: str
) -> dict[str, float]:
    seeds = sorted(runs.keys() & others.keys())
    pairs = [(runs[seed], others[seed]) for seed in seeds]
    first = max(float(run[cost].iloc[0]) for pair in pairs for run in pair)
    last = min(float(run[cost].iloc[-1]) for pair in pairs for run in pair)
    row = {"seeds": len(seeds), "first": first, "last": last}
    if not first < last:
        return row | dict.fromkeys(("mean", "baseline", "difference", "low", "high"), np.nan)
    means = np.array([[_mean_between(run[cost], run[metric], first, last) for run in pair] for pair in pairs])
    paired = means[:, 0] - means[:, 1]
    low, high = mean_interval(paired)
    mean, baseline = means.mean(axis=0).tolist()
    return row | {"mean": mean, "baseline": baseline, "difference": paired.mean(), "low": low, "high": high}


def _mean_between(costs: pd.Series, values: pd.Series, first: float, last: float) -> float:
    """Mean of a curve between two costs, exact for straight lines between its points."""
    x, y = costs.to_numpy(dtype=float), values.to_numpy(dtype=float)
    at = np.unique(np.concatenate([[first, last], x[(x > first) & (x < last)]]))
    return float(np.trapezoid(np.interp(at, x, y), at) / (last - first))
