"""A study's table of cycles, as it is read and as Markdown writes it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import yaml

from records.study_directory import StudyDirectory
from reports.comparison import find_baseline, without_gaps
from reports.learning_curve import main_metric

__all__ = ["markdown", "mean_curves", "read_baseline", "read_study"]

_NEEDED = ("strategy", "seed", "cycle", "labelled_units")


def read_study(run_dir: Path) -> pd.DataFrame:
    """Read a study's table.

    Args:
        run_dir: The study's folder.

    Returns:
        One row per run and cycle (see `reports.comparison`).

    Raises:
        ValueError: There is no table, or it is empty, lacks a column or has a row twice.
    """
    path = StudyDirectory(run_dir).table
    if not path.is_file():
        raise ValueError(f"expected a study's table at {path}, got none; run study first, or give another --run_dir")
    # names such as NA are kept as they are written
    table = pd.read_csv(path, dtype={"strategy": str, "variant": str}, keep_default_na=False, na_values=[""])
    if missing := [c for c in _NEEDED if c not in table]:
        raise ValueError(f"{path} needs the columns {', '.join(_NEEDED)}, got none named {', '.join(missing)}")
    if table.empty:
        raise ValueError(f"{path} has no rows; run study until a cycle of it is finished")
    table["variant"] = table["variant"].fillna("") if "variant" in table else ""
    twice = table.duplicated(["variant", "strategy", "seed", "cycle"])
    if twice.any():
        row = table[twice].iloc[0]
        raise ValueError(
            f"{path} has two rows for strategy {row['strategy']}, seed {row['seed']}, cycle {row['cycle']}, variant "
            f"{row['variant']!r}; expected one each: tell them apart by `variant`"
        )
    return table.sort_values(["variant", "strategy", "seed", "cycle"], ignore_index=True)


def read_baseline(run_dir: Path, strategies: Iterable[str]) -> str | None:
    """The strategy that the others are compared with.

    Args:
        run_dir: The study's folder.
        strategies: Names of those that have runs.

    Returns:
        The one that the study's settings call so (grid.baseline), or else `reports.comparison.find_baseline`.
    """
    names, config = list(strategies), StudyDirectory(run_dir).config
    settings = yaml.safe_load(config.read_text()) if config.is_file() else None
    named = (settings.get("grid") or {}).get("baseline") if isinstance(settings, dict) else None
    return named if named in names else find_baseline(names)


def mean_curves(table: pd.DataFrame) -> pd.DataFrame:
    """The learning curve of each strategy, as the mean over its seeds.

    Args:
        table: From `read_study`; runs that have fewer cycles than the others are left out.

    Returns:
        A row per strategy and cycle: strategy (after the variant, where there is one), labelled_units, and the metric
        that `reports.learning_curve.main_metric` chooses.
    """
    metric = main_metric(table)
    mean = (
        without_gaps(table).groupby(["variant", "strategy", "cycle"])[["labelled_units", metric]].mean().reset_index()
    )
    names = [f"{v}/{s}" if v else s for v, s in zip(mean["variant"], mean["strategy"], strict=True)]
    return mean.assign(strategy=names)[["strategy", "labelled_units", metric]]


def markdown(table: pd.DataFrame) -> str:
    """Format a data frame as a Markdown table; missing values are empty cells."""
    if table.empty:
        return ""
    rows = [[_cell(v) for v in row] for row in table.itertuples(index=False)]
    lines = [[str(c) for c in table.columns], ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"
    return str(value).replace("|", "/")
