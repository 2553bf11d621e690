"""Figures of two moons: what losses make of positives that are labelled as negatives."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.files import RunDirectoryError
from records.run_directory import RunDirectory
from reports.intervals import mean_interval

__all__ = ["draw_loss_curves", "draw_moons", "moons_table", "read_moons"]

_SIZES = (2.0, 60.0)
_COLOURS = {"negative": "tab:blue", "positive": "tab:red", "positive, labelled negative": "gold"}


def read_moons(run_dir: Path) -> pd.DataFrame:
    """Read what the verb moons has written.

    Args:
        run_dir: Its run directory.

    Returns:
        Rows of the parts sample, grid and curve.

    Raises:
        RunDirectoryError: There is nothing.
    """
    path = RunDirectory(run_dir).moons
    if not path.is_file():
        raise RunDirectoryError(f"expected {path}, got no such file; write it first: moons --run_dir {run_dir}")
    return pd.read_csv(path)


def moons_table(table: pd.DataFrame) -> pd.DataFrame:
    """How often each loss finds the positives.

    Args:
        table: From `read_moons`.

    Returns:
        One row per loss: seeds; accuracy by the truth; hidden_found, the share of the positives labelled negative that
        are predicted positive; false_positives, the share of the negatives that are; means over seeds with the ends of
        their 95% intervals; and pull_of_hidden, the mean of |dL/dz_y| over hidden positives as a share of that over
        labelled ones.
    """
    samples = table[table["part"] == "sample"]
    rows = []
    for loss, runs in samples.groupby("loss", sort=False):
        found = []
        for _, run in runs.groupby("seed"):
            hidden = (run["truth"] == 1) & (run["label"] == 0)
            kept = (run["truth"] == 1) & (run["label"] == 1)
            right, positive = run["prediction"] == run["truth"], run["prediction"] == 1
            pulls = [run.loc[which, "gradient"].mean() for which in (hidden, kept)]
            found.append(
                (right.mean(), positive[hidden].mean(), positive[run["truth"] == 0].mean(), pulls[0] / pulls[1])
            )
        row: dict[str, object] = {"loss": loss, "seeds": len(found)}
        names = ("accuracy", "hidden_found", "false_positives", "pull_of_hidden")
        for name, values in zip(names, np.array(found).T, strict=True):
            low, high = mean_interval(values)
            row |= {name: values.mean(), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)


def draw_moons(table: pd.DataFrame) -> Figure:
    """Draw the points of the first seed over the probability of the positive class, a column for each loss.

    The size of a point is its loss in the upper row, and in the lower one |dL/dz_y|, from the smallest to the largest
    of the points with its label.

    Args:
        table: From `read_moons`.
    """
    losses = list(table.loc[table["part"] == "sample", "loss"].drop_duplicates())
    figure = Figure(figsize=(2.9 * len(losses), 5.2), layout="constrained")
    axes = figure.subplots(2, len(losses), sharex=True, sharey=True, squeeze=False)
    for column, loss in zip(axes.T, losses, strict=True):
        own = table[(table["loss"] == loss) & (table["seed"] == 0)]
        grid, samples = own[own["part"] == "grid"], own[own["part"] == "sample"]
        background = grid.pivot(index="y", columns="x", values="probability")
        kinds = {
            "negative": samples["truth"] == 0,
            "positive": samples["label"] == 1,
            "positive, labelled negative": (samples["truth"] == 1) & (samples["label"] == 0),
        }
        for here, measure in zip(column, ("value", "gradient"), strict=True):
            shown = here.pcolormesh(
                background.columns, background.index, background.to_numpy(), cmap="RdBu_r", vmin=0, vmax=1, alpha=0.6,
                rasterized=True,
            )  # fmt: skip
            sizes = samples.groupby("label")[measure].transform(_scaled)
            for kind, which in kinds.items():
                part = samples[which]
                here.scatter(
                    part["x"], part["y"], sizes[which], color=_COLOURS[kind], edgecolors="black", linewidths=0.3,
                    label=kind,
                )  # fmt: skip
            here.set(xticks=[], yticks=[])
        column[0].set_title(loss, fontsize=10)
    axes[0, 0].set_ylabel("size: loss")
    axes[1, 0].set_ylabel("size: |dL / dz_y|")
    figure.colorbar(shown, ax=axes[:, -1], label="p(positive)", shrink=0.7)
    handles, labels = axes[0, -1].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([30])  # type: ignore[union-attr]
    return figure


def draw_loss_curves(table: pd.DataFrame) -> Figure:
    """Draw losses and derivatives over the logits (-f, f), a row for each label.

    Args:
        table: From `read_moons`.
    """
    curves = table[table["part"] == "curve"]
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for row, label in zip(axes, (0, 1), strict=True):
        for here, measure, name in zip(row, ("value", "gradient"), ("loss", "dL / df"), strict=True):
            for number, (loss, part) in enumerate(curves[curves["label"] == label].groupby("loss", sort=False)):
                # some are equal: dashes show those underneath
                style = ("-", "--", "-.", ":")[number % 4]
                here.plot(part["x"], part[measure], linestyle=style, label=str(loss))
            low, high = ((-0.2, 5.2), (-2.2, 2.2))[measure == "gradient"]
            here.set(ylim=(low, high), title=f"{name}, label {label}")
            here.grid(alpha=0.3)
    for here in axes[1]:
        here.set_xlabel("f, of the logits (-f, f)")
    axes[0, 0].legend(fontsize=8)
    return figure


def _scaled(values: pd.Series) -> pd.Series:
    span = values.max() - values.min()
    return _SIZES[0] + (_SIZES[1] - _SIZES[0]) * (values - values.min()) / (span if span > 0 else 1)
