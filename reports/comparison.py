"""Comparison of strategies over seeds: tables made from a study's learning curves.

Everywhere `table` is a study's table, with one row per strategy, variant, seed and cycle, and the columns
labelled_units and one per metric. The variant is a text that says what else was varied, "" for nothing; `metric` names
the metric's column. Runs are paired by variant and seed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from reports.intervals import mean_interval
from reports.learning_curve import area_under_learning_curve, normalised_area
from reports.statistics import (
    break_even_point,
    holm,
    labels_to_reach,
    mean_ranks,
    pairwise_penalties,
    sign_flip_test,
    smallest_sign_flip_p,
    wilcoxon_test,
)

__all__ = [
    "area_table",
    "find_baseline",
    "find_gaps",
    "labels_table",
    "paired_table",
    "penalty_matrix",
    "rank_table",
    "run_areas",
    "variants_with_baseline",
    "without_gaps",
]

_RUN = ["variant", "strategy", "seed"]
_MEASURES = {"alc": "alc", "normalised": "normalised_alc", "cycle_sum": "cycle_sum"}


def find_baseline(strategies: Sequence[str]) -> str | None:
    """Return the first strategy whose name begins with "random", or None."""
    return next((s for s in sorted(strategies) if s.lower().startswith("random")), None)


def find_gaps(table: pd.DataFrame, failed: Sequence[str] = ()) -> pd.DataFrame:
    """Find runs that are missing, or shorter than the longest of their variant.

    Every strategy of a variant is expected with every seed of it.

    Args:
        table: The study's table.
        failed: Names of failed jobs, whose runs may be missing from the table altogether.

    Returns:
        Columns variant, strategy, seed, cycles, expected and failed_job.
    """
    rows = []
    for variant, part in table.groupby("variant"):
        counts = part.groupby(["strategy", "seed"])["cycle"].nunique()
        expected = counts.max()
        every = pd.MultiIndex.from_product(counts.index.levels, names=counts.index.names)
        for (strategy, seed), cycles in counts.reindex(every, fill_value=0).items():
            if cycles < expected:
                rows.append((variant, strategy, seed, int(cycles), int(expected), ""))
    rows += [("", "", "", 0, 0, name) for name in failed]
    return pd.DataFrame(rows, columns=[*_RUN, "cycles", "expected", "failed_job"])


def without_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that are as long as the longest of their variant, which alone can be compared."""
    length = table.groupby(_RUN)["cycle"].transform("nunique")
    longest = length.groupby(table["variant"]).transform("max")
    return table[length == longest]


def variants_with_baseline(table: pd.DataFrame, baseline: str | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """Iterate over the variants, each with a baseline.

    Args:
        table: The study's table, or a table of its runs.
        baseline: A strategy; variants without it borrow its runs from the variant "".

    Yields:
        (variant, its rows).
    """
    plain = table[(table["variant"] == "") & (table["strategy"] == baseline)]
    for variant, part in table.groupby("variant"):
        lacks = baseline is not None and baseline not in set(part["strategy"])
        yield str(variant), pd.concat([part, plain]) if lacks else part


def run_areas(table: pd.DataFrame, metric: str, full_score: float | None = None) -> pd.DataFrame:
    """Areas under the learning curves of all runs.

    Args:
        table: The study's table.
        metric: The metric's column.
        full_score: The metric after training on all labels; without it there is no normalised area.

    Returns:
        One row per run: variant, strategy, seed; alc, the area over labelled units; normalised_alc, the same after
        scaling the metric so that the run's first value is 0 and `full_score` is 1; cycle_sum, the area over cycles;
        and final, the metric in the last cycle.
    """
    rows = []
    for (variant, strategy, seed), run in table.sort_values("cycle").groupby(_RUN):
        units, values = run["labelled_units"].to_list(), run[metric].to_list()
        row = {"variant": variant, "strategy": strategy, "seed": seed, "alc": area_under_learning_curve(units, values)}
        if full_score is not None:
            row["normalised_alc"] = normalised_area(units, values, full_score)
        row["cycle_sum"] = area_under_learning_curve(run["cycle"].to_list(), values)
        rows.append(row | {"final": values[-1]})
    return pd.DataFrame(rows)


def area_table(areas: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the areas over seeds.

    Args:
        areas: From `run_areas`.

    Returns:
        One row per variant and strategy, best first; standard deviations have n - 1 as divisor and are NaN for one
        seed.
    """
    grouped = areas.groupby(["variant", "strategy"])
    columns = {"seeds": grouped["seed"].nunique()}
    for short, column in _MEASURES.items():
        if column not in areas:
            continue
        columns |= {f"{short}_mean": grouped[column].mean(), f"{short}_sd": grouped[column].std()}
    table = pd.DataFrame(columns).reset_index()
    return table.sort_values(["variant", "cycle_sum_mean"], ascending=[True, False], ignore_index=True)


def paired_table(areas: pd.DataFrame, baseline: str, measures: Sequence[str] = ("alc", "final")) -> pd.DataFrame:
    """Differences of each strategy to the baseline, paired by seed, with intervals and tests.

    Args:
        areas: From `run_areas`.
        baseline: The strategy to compare with.
        measures: Columns of `areas` to compare.

    Returns:
        One row per variant, measure and strategy: the mean difference, its 95% interval from low to high
        (`reports.intervals.mean_interval`), two-sided p_wilcoxon and p_sign_flip, and smallest_p, the smallest value
        that p_sign_flip can have with so many seeds. Columns ending in _holm are corrected for the strategies of one
        variant and measure.
    """
    rows = []
    for variant, part in variants_with_baseline(areas, baseline):
        for measure in measures:
            wide = part.pivot(index="seed", columns="strategy", values=measure)
            if baseline not in wide:
                continue
            tests = []
            for strategy in wide.columns.drop(baseline):
                differences = (wide[strategy] - wide[baseline]).dropna().to_numpy()
                low, high = mean_interval(differences)
                tests.append(
                    {
                        "variant": variant, "measure": measure, "strategy": strategy, "seeds": len(differences),
                        "difference": differences.mean() if len(differences) else np.nan,
                        "low": float(low), "high": float(high),
                        "p_wilcoxon": wilcoxon_test(differences).p, "p_sign_flip": sign_flip_test(differences),
                        "smallest_p": smallest_sign_flip_p(len(differences)),
                    }
                )  # fmt: skip
            for name in ("p_wilcoxon", "p_sign_flip"):
                for row, corrected in zip(tests, holm([t[name] for t in tests]), strict=True):
                    row[f"{name}_holm"] = corrected
            rows += tests
    return pd.DataFrame(rows)


def penalty_matrix(table: pd.DataFrame, metric: str, alpha: float = 0.05) -> tuple[pd.DataFrame, int]:
    """The pairwise penalty matrix, summed over variants (see `reports.statistics.pairwise_penalties`).

    Cycle 0 is left out, because all strategies share the initial set, and so are variants with fewer than two seeds
    that all strategies have.

    Args:
        table: The study's table.
        metric: The metric's column.
        alpha: Level of the t-tests.

    Returns:
        The matrix, in which the row beats the column, with the columns' means as the last row; and the number of
        variants in the sum.
    """
    strategies = sorted(table["strategy"].unique())
    total, used = np.zeros((len(strategies), len(strategies))), 0
    for _, part in table[table["cycle"] > 0].groupby("variant"):
        wide = part.pivot(index="seed", columns=["strategy", "cycle"], values=metric).dropna()
        here = [s for s in strategies if s in set(part["strategy"])]
        if len(wide) < 2 or len(here) < 2:
            continue
        metrics = np.stack([wide[s].to_numpy() for s in here])
        rows = [strategies.index(s) for s in here]
        total[np.ix_(rows, rows)] += pairwise_penalties(metrics, alpha)
        used += 1
    matrix = pd.DataFrame(total, index=strategies, columns=strategies)
    matrix.loc["mean"] = total.sum(axis=0) / max(len(strategies) - 1, 1)
    return matrix, used


def labels_table(
    table: pd.DataFrame, metric: str, baseline: str | None, levels: Sequence[float] | None = None
) -> pd.DataFrame:
    """Labels that each strategy needs to reach some levels of a metric, on the mean curves over seeds.

    Args:
        table: The study's table.
        metric: The metric's column.
        baseline: The strategy to compare with, if any.
        levels: Levels of the metric; unless given, 95, 98 and 100% of the baseline's final mean (of the best
            strategy's without a baseline).

    Returns:
        One row per variant, level and strategy: labels, where the curve reaches the level; seeds_reached of seeds, the
        number of single curves that reach it; saving, 1 - labels / the baseline's labels; and break_even, the labels
        from which the curve stays above the baseline's.
    """
    rows = []
    for variant, part in variants_with_baseline(table, baseline):
        mean = part.groupby(["strategy", "cycle"])[["labelled_units", metric]].mean()
        curves = {str(s): (c["labelled_units"].to_numpy(), c[metric].to_numpy()) for s, c in mean.groupby("strategy")}
        final = curves[baseline][1][-1] if baseline in curves else max(y[-1] for _, y in curves.values())
        for level in levels or (0.95 * final, 0.98 * final, final):
            needed = {s: labels_to_reach(*curve, level) for s, curve in curves.items()}
            for strategy, (units, values) in curves.items():
                single = part[part["strategy"] == strategy].groupby("seed")[metric].max()
                row = {"variant": variant, "strategy": strategy, "level": level, "labels": needed[strategy]}
                row |= {"seeds_reached": int((single >= level).sum()), "seeds": len(single)}
                if baseline in curves:
                    row["saving"] = 1 - needed[strategy] / needed[baseline]
                    row["break_even"] = (
                        np.nan if strategy == baseline
                        else break_even_point(units, values, np.interp(units, *curves[baseline]))
                    )  # fmt: skip
                rows.append(row)
    return pd.DataFrame(rows)


def rank_table(areas: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Rank the strategies by ALC within blocks.

    A block is a variant, such as a data set, or a seed if there is only one variant. Blocks that lack a strategy are
    left out.

    Args:
        areas: From `run_areas`.

    Returns:
        Mean rank per strategy, best first; the ranked areas, blocks x strategies; and what a block is, "variant" or
        "seed".
    """
    several = areas["variant"].nunique() > 1
    block = "variant" if several else "seed"
    values = areas.groupby([block, "strategy"])["alc"].mean().unstack("strategy").dropna()
    ranks = mean_ranks(values).sort_values().rename("mean_rank").reset_index()
    return ranks, values, block
