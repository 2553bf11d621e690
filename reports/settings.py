"""What settings make of the last cycle's metrics: a table for each way to set one of them, paired by seed."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.study_directory import StudyDirectory
from reports.intervals import BOOTSTRAP_FROM, mean_interval
from reports.study_table import markdown, read_study

__all__ = ["draw_settings", "read_settings", "settings_table", "settings_text", "short_names"]

_DIFFERENCE = ("difference", "difference_low", "difference_high")


def short_names(values: Sequence[str]) -> list[str]:
    """Names of settings: a class's own name, with those of its arguments in which its settings differ.

    Args:
        values: Settings as study.csv writes them.

    Returns:
        A name for each.

    Example:
        >>> short_names(["{'class_path': 'a.B', 'init_args': {'c': 1, 'd': 2}}"] * 2 + ["0.1"])
        ['B', 'B', '0.1']
    """
    parsed = [_parsed(value) for value in values]
    names = []
    for name, arguments in parsed:
        others = [a for n, a in parsed if n == name]
        differ = [key for key, value in arguments.items() if any(a.get(key) != value for a in others)]
        inside = ", ".join(f"{key}={_short(arguments[key])}" for key in differ)
        names.append(f"{name}({inside})" if inside else name)
    return names


def read_settings(run_dir: Path, key: str | None = None) -> tuple[pd.DataFrame, str]:
    """Read the last cycle of a study that varied settings.

    Args:
        run_dir: The study's folder.
        key: The setting whose values are compared, in full or its last part, such as loss; the last one that the study
            varied unless given.

    Returns:
        A row for each run: the varied settings by the last part of their names, with short names in the order of the
        study as categories, and so strategies where there are several; seed and metrics. And the name of the key.

    Raises:
        ValueError: If the study varied nothing, or not this setting.
    """
    table = read_study(run_dir)
    # in the order of the study, which read_study does not keep
    written = pd.read_csv(StudyDirectory(run_dir).table, dtype=str, keep_default_na=False)
    columns = [name for name in table.columns if "." in name and "/" not in name]
    known = [name.rpartition(".")[2] for name in columns]
    if not columns:
        raise ValueError(f"{run_dir} varied no settings, so there are none to compare; set grid.vary in its study")
    key = (key or known[-1]).rpartition(".")[2]
    if key not in known:
        raise ValueError(f"expected a key of {', '.join(known)}, the settings that {run_dir} varied, got {key!r}")
    last = table[table["cycle"] == table.groupby(["variant", "strategy", "seed"])["cycle"].transform("max")]
    for name, short in zip(columns, known, strict=True):
        values = list(dict.fromkeys(written[name]))
        names = dict(zip(values, short_names(values), strict=True))
        last = last.assign(**{short: pd.Categorical(last[name].astype(str).map(names), list(names.values()))})
    if last["strategy"].nunique() > 1:
        last = last.assign(strategy=last["strategy"].astype("category"))
    return last.drop(columns=columns), key


def settings_table(table: pd.DataFrame, key: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Means over seeds for each value of a setting, and differences to its first value.

    Args:
        table: From `read_settings`.
        key: The setting.
        metrics: Columns of the table.

    Returns:
        A row for each combination of settings and metric: the settings, metric, seeds, the mean with its 95% interval
        from low to high (`reports.intervals.mean_interval`), and the mean difference to the key's first value, paired
        by seed, with its interval from difference_low to difference_high; NaN for that value itself.
    """
    others = [name for name in _settings(table) if name != key]
    rows: list[dict[str, Any]] = []
    for place, part in table.groupby(others, observed=True) if others else [((), table)]:
        for metric in metrics:
            wide = part.pivot(index="seed", columns=key, values=metric)
            for value in wide.columns:
                mean, low, high = _estimate(wide[value])
                row = dict(zip(others, place, strict=True)) | {key: value, "metric": metric}
                row |= {"seeds": wide[value].count(), "mean": mean, "low": low, "high": high}
                is_first = value == wide.columns[0]
                difference = (np.nan,) * 3 if is_first else _estimate(wide[value] - wide[wide.columns[0]])
                rows.append(row | dict(zip(_DIFFERENCE, difference, strict=True)))
    return pd.DataFrame(rows)


def settings_text(table: pd.DataFrame, key: str) -> str:
    """The table as Markdown: a row for each combination of settings, two columns for each metric.

    Args:
        table: From `settings_table`.
        key: The setting.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    settings = list(table.columns[: list(table.columns).index("metric")])
    rows = []
    for place, part in table.groupby(settings, observed=True, sort=False):
        row = dict(zip(settings, place, strict=True))
        for metric in metrics:
            found = part[part["metric"] == metric].iloc[0]
            name = metric.rpartition("/")[2].removeprefix("macro_")
            row[name] = f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
            to_first = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found[list(_DIFFERENCE)])
            row[f"{name}: difference"] = "" if pd.isna(found["difference"]) else to_first
        rows.append(row)
    seeds = table["seeds"]
    words = str(seeds.min()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return (
        f"Means over {words} seeds with 95% intervals (Student's t; from {BOOTSTRAP_FROM} seeds on the BCa bootstrap); "
        f"differences are to {table[key].iloc[0]}, paired by seed.\n\n{markdown(pd.DataFrame(rows))}\n"
    )


def draw_settings(table: pd.DataFrame, key: str) -> Figure:
    """Draw a metric over the other settings, a line for each value of the key and a panel for each metric.

    Args:
        table: From `settings_table`.
        key: The setting.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    settings = list(table.columns[: list(table.columns).index(key)])
    names = table[settings].astype(str).agg(", ".join, axis=1) if settings else pd.Series("", index=table.index)
    places = list(dict.fromkeys(names))
    columns = min(len(metrics), 2)
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    values = list(dict.fromkeys(table[key]))
    for spare in axes[len(metrics) :]:
        spare.set_visible(False)
    for here, metric in zip(axes, metrics, strict=False):
        for number, value in enumerate(values):
            part = table[(table["metric"] == metric) & (table[key] == value)]
            # beside each other, so that intervals can be told apart
            where = np.array([places.index(n) for n in names[part.index]]) + 0.08 * (number - (len(values) - 1) / 2)
            errors = np.abs(part[["low", "high"]].to_numpy().T - part["mean"].to_numpy())
            here.errorbar(where, part["mean"], yerr=errors, marker="o", markersize=3.5, linewidth=1.2, label=str(value))
        here.set_xticks(range(len(places)), places, rotation=30, ha="right", fontsize=8)
        here.set_title(metric, fontsize=9)
        here.grid(alpha=0.3)
    axes[0].legend(fontsize=7, title=key, title_fontsize=8)
    return figure


def _settings(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)]


def _estimate(values: pd.Series) -> tuple[float, float, float]:
    """Mean and its interval."""
    known = values.dropna().to_numpy()
    low, high = mean_interval(known)
    return float(known.mean()) if len(known) else np.nan, float(low), float(high)


def _parsed(value: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a setting."""
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value, {}
    if isinstance(found, dict) and "class_path" in found:
        return found["class_path"].rpartition(".")[2], found.get("init_args") or {}
    return str(found), {}


def _short(value: Any) -> str:
    return short_names([str(value)])[0] if isinstance(value, dict) else str(value)
