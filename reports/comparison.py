"""Strategies compared over seeds: tables made from a study's learning curves, pure functions of data frames.

A study's table has one row per strategy, variant (text; what else was varied, "" for nothing), seed and cycle, with
labelled_units and the score under `score`. Runs are paired by variant and seed.
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
    "settings",
    "without_gaps",
]

_RUN = ["variant", "strategy", "seed"]
_MEASURES = {"alc": "alc", "normalised": "normalised_alc", "cycle_sum": "cycle_sum"}


def find_baseline(strategies: Sequence[str]) -> str | None:
    """The strategy that stands for random sampling: the first whose name begins with "random", or None."""
    return next((s for s in sorted(strategies) if s.lower().startswith("random")), None)


def find_gaps(table: pd.DataFrame, failed: Sequence[str] = ()) -> pd.DataFrame:
    """Runs that are missing or shorter than the longest of their variant: variant, strategy, seed, cycles, expected,
    failed_job.

    Every strategy of a variant is expected with every seed of it. failed: names of jobs that failed, for what the
    study table does not know at all.
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
    """The runs that went as far as the longest of their variant: only those can be compared."""
    length = table.groupby(_RUN)["cycle"].transform("nunique")
    longest = length.groupby(table["variant"]).transform("max")
    return table[length == longest]


def settings(table: pd.DataFrame, baseline: str | None = None) -> Iterator[tuple[str, pd.DataFrame]]:
    """(variant, its rows); a variant without the baseline borrows that of the variant without changes, if any."""
    plain = table[(table["variant"] == "") & (table["strategy"] == baseline)]
    for variant, part in table.groupby("variant"):
        lacks = baseline is not None and baseline not in set(part["strategy"])
        yield str(variant), pd.concat([part, plain]) if lacks else part


def run_areas(table: pd.DataFrame, score: str, full_score: float | None = None) -> pd.DataFrame:
    """One row per run: ALC over labelled units, and the sum over cycles by the trapezoid rule.

    full_score: of training on all labels; with it there is a normalised ALC too, of scores scaled so that the run's
    first is 0 and this is 1. final: the last cycle's score.
    """
    rows = []
    for (variant, strategy, seed), run in table.sort_values("cycle").groupby(_RUN):
        units, values = run["labelled_units"].to_list(), run[score].to_list()
        row = {"variant": variant, "strategy": strategy, "seed": seed, "alc": area_under_learning_curve(units, values)}
        if full_score is not None:
            row["normalised_alc"] = normalised_area(units, values, full_score)
        row["cycle_sum"] = area_under_learning_curve(run["cycle"].to_list(), values)
        rows.append(row | {"final": values[-1]})
    return pd.DataFrame(rows)


def area_table(areas: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1; NaN for one seed) over seeds of each area, best first, from `run_areas`."""
    grouped = areas.groupby(["variant", "strategy"])
    columns = {"seeds": grouped["seed"].nunique()}
    for short, column in _MEASURES.items():
        if column not in areas:
            continue
        columns |= {f"{short}_mean": grouped[column].mean(), f"{short}_sd": grouped[column].std()}
    table = pd.DataFrame(columns).reset_index()
    return table.sort_values(["variant", "cycle_sum_mean"], ascending=[True, False], ignore_index=True)


def paired_table(areas: pd.DataFrame, baseline: str, measures: Sequence[str] = ("alc", "final")) -> pd.DataFrame:
    """Each strategy's differences to the baseline, paired by seed: mean, 95% interval and tests.

    low and high: see `mean_interval`. p_wilcoxon and p_sign_flip are two-sided; the columns ending in _holm are
    corrected over the strategies of one variant and measure; smallest_p is what the sign-flip test could give at best
    with so many seeds. areas: from `run_areas`.
    """
    rows = []
    for variant, part in settings(areas, baseline):
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


def penalty_matrix(table: pd.DataFrame, score: str, alpha: float = 0.05) -> tuple[pd.DataFrame, int]:
    """The pairwise penalty matrix summed over variants, and over how many; row beats column, with the columns' means.

    Variants with fewer than two seeds that all strategies have are left out, and cycle 0 is no round: it has the
    initial set, which all share. See `reports.statistics.pairwise_penalties`.
    """
    strategies = sorted(table["strategy"].unique())
    total, used = np.zeros((len(strategies), len(strategies))), 0
    for _, part in table[table["cycle"] > 0].groupby("variant"):
        wide = part.pivot(index="seed", columns=["strategy", "cycle"], values=score).dropna()
        here = [s for s in strategies if s in set(part["strategy"])]
        if len(wide) < 2 or len(here) < 2:
            continue
        scores = np.stack([wide[s].to_numpy() for s in here])
        places = [strategies.index(s) for s in here]
        total[np.ix_(places, places)] += pairwise_penalties(scores, alpha)
        used += 1
    matrix = pd.DataFrame(total, index=strategies, columns=strategies)
    matrix.loc["mean"] = total.sum(axis=0) / max(len(strategies) - 1, 1)
    return matrix, used


def labels_table(
    table: pd.DataFrame, score: str, baseline: str | None, levels: Sequence[float] | None = None
) -> pd.DataFrame:
    """Labels that each strategy's mean curve needs for a level, the saving against the baseline, and the break-even.

    levels: scores; 95, 98 and 100% of the baseline's final mean score (the best strategy's, without a baseline) unless
    given. saving: 1 - labels / the baseline's labels. seeds_reached: how many single curves reach the level.
    break_even: where the mean curve begins to stay above the baseline's.
    """
    rows = []
    for variant, part in settings(table, baseline):
        mean = part.groupby(["strategy", "cycle"])[["labelled_units", score]].mean()
        curves = {str(s): (c["labelled_units"].to_numpy(), c[score].to_numpy()) for s, c in mean.groupby("strategy")}
        final = curves[baseline][1][-1] if baseline in curves else max(y[-1] for _, y in curves.values())
        for level in levels or (0.95 * final, 0.98 * final, final):
            needed = {s: labels_to_reach(*curve, level) for s, curve in curves.items()}
            for strategy, (units, values) in curves.items():
                single = part[part["strategy"] == strategy].groupby("seed")[score].max()
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
    """(mean rank by ALC per strategy, best first; the blocks' scores that were ranked; what a block is).

    A block is a variant (a data set, for one), or a seed where there is only one variant. Blocks that lack a strategy
    are left out.
    """
    several = areas["variant"].nunique() > 1
    block = "variant" if several else "seed"
    scores = areas.groupby([block, "strategy"])["alc"].mean().unstack("strategy").dropna()
    ranks = mean_ranks(scores).sort_values().rename("mean_rank").reset_index()
    return ranks, scores, block
