"""What a study says last: the curves side by side, and what each strategy saved."""

import math

import numpy as np
import pandas as pd

from reports.comparison import variants_with_baseline
from reports.statistics import labels_to_reach

__all__ = ["closing_sentences", "curves_text", "savings"]

_ROWS = 12
_SIDE_BY_SIDE = 6


def savings(table: pd.DataFrame, metric: str, baseline: str) -> pd.DataFrame:
    """Labels that each strategy saves on the way to the baseline's final score.

    A curve is straight between cycles, and numbers of labels are rounded up. The baseline itself counts with the
    labels at which it first had its final score.

    Args:
        table: The study's table (see `reports.comparison`), of runs of equal length.
        metric: The metric's column; larger values are better.
        baseline: The strategy that the others are compared with.

    Returns:
        One row per variant and other strategy: level, the baseline's final mean over seeds; on mean curves labels,
        where the strategy reaches it (NaN for never), and instead_of, the baseline's; units and final, where the
        strategy's mean curve ends; seeds, those that both have; and saved_least and saved_most of the single seeds,
        each against its own baseline, where what is never reached saves 0.

    """
    rows = []
    for variant, part in variants_with_baseline(table, baseline):
        mean = part.groupby(["strategy", "cycle"])[["labelled_units", metric]].mean()
        single = {key: run.sort_values("cycle") for key, run in part.groupby(["strategy", "seed"])}
        for strategy in part["strategy"].drop_duplicates():
            if strategy == baseline or baseline not in mean.index:
                continue
            level, labels, instead = _needed(mean.loc[strategy], mean.loc[baseline], metric)
            seeds = [s for s in part["seed"].unique() if {(strategy, s), (baseline, s)} <= single.keys()]
            needed = [_needed(single[strategy, s], single[baseline, s], metric)[1:] for s in seeds]
            saved = [0.0 if math.isnan(own) else max(0.0, other - own) for own, other in needed]
            rows.append(
                {
                    "variant": variant, "strategy": strategy, "level": level, "labels": labels, "instead_of": instead,
                    "units": mean.loc[strategy, "labelled_units"].iloc[-1],
                    "final": mean.loc[strategy, metric].iloc[-1], "seeds": len(seeds),
                    "saved_least": min(saved, default=math.nan), "saved_most": max(saved, default=math.nan),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def closing_sentences(found: pd.DataFrame, metric: str, baseline: str) -> list[str]:
    """Say in one sentence for each strategy what it saved, or that it saved nothing.

    Args:
        found: From `savings`.
        metric: The metric's column.
        baseline: The strategy that the others are compared with.

    """
    return [_sentence(row, metric, baseline) for row in found.to_dict("records")]


def curves_text(table: pd.DataFrame, metric: str, baseline: str | None = None) -> str:
    """The strategies' mean curves side by side; "" where there are too many of them for a terminal.

    Args:
        table: The study's table, of runs of equal length.
        metric: The metric's column.
        baseline: Comes first.

    Returns:
        A line per cycle, or for 12 of them where there are more, with the mean of labelled units.

    """
    names = sorted(table["strategy"].unique(), key=lambda name: (name != baseline, name))
    if table["variant"].nunique() > 1 or len(names) > _SIDE_BY_SIDE:
        return ""
    wide = table.pivot_table(index="cycle", columns="strategy", values=metric)[names]
    wide.insert(0, "labelled_units", table.groupby("cycle")["labelled_units"].mean())
    shown = np.unique(np.linspace(0, len(wide) - 1, min(len(wide), _ROWS)).round().astype(int))
    return f"{metric}\n{wide.iloc[shown].reset_index().round(4).to_string(index=False)}"


def _needed(own: pd.DataFrame, other: pd.DataFrame, metric: str) -> tuple[float, float, float]:
    """The other curve's final value, and the labels with which each first has it, rounded up."""
    level = float(other[metric].iloc[-1])
    labels = (labels_to_reach(c["labelled_units"].tolist(), c[metric].tolist(), level) for c in (own, other))
    # interpolation leaves 40.000000001 of 40
    mine, theirs = (n if math.isnan(n) else float(math.ceil(round(n, 6))) for n in labels)
    return level, mine, theirs


def _sentence(row: dict[str, float], metric: str, baseline: str) -> str:
    who = f"{row['variant']}: {row['strategy']}" if row["variant"] else f"{row['strategy']}"
    score = f"{baseline}'s final {metric} of {row['level']:.3f}"
    if math.isnan(row["labels"]):
        ended = f"with {row['units']:.0f} labelled units it had {row['final']:.3f}"
        said = f"{who} did not reach {score}: {ended}, so it saved none"
    else:
        saved = row["instead_of"] - row["labels"]
        units = f"{row['labels']:.0f} labelled units instead of {row['instead_of']:.0f}"
        said = f"{who} reached {score} with {units}: {f'{saved:.0f}' if saved > 0 else 'none'} saved"
    if row["seeds"] < 2:
        return f"{said} (one seed, so this may be luck)."
    least, most = (f"{n:.0f}" if n else "none" for n in (row["saved_least"], row["saved_most"]))
    spread = least if least == most else f"from {least} to {most}"
    return f"{said} (mean curve of {row['seeds']:.0f} seeds; each by itself saved {spread})."
