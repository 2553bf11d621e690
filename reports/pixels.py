"""The pixels of one real image (Chen 2020, figures 2.4 and 2.13)."""

from math import log

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from records.pixels import PixelValues
from reports.distributions import entropy_bounds

__all__ = ["cut_shares", "draw_joint", "draw_odin", "joint_table", "odin_table"]

ENTROPY_CUT, MAX_SOFTMAX_CUT = log(2), 0.5
"""What counting starts from (Chen 2020, section 2.2.2)."""

_BINS = 40
"""Below each cut, so that no bin lies on both sides of one."""

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Of Okabe and Ito 2008: told apart with any kind of colour vision."""
_OTHER = "#BBBBBB"


def cut_shares(table: pd.DataFrame) -> pd.DataFrame:
    """How many pixels lie beyond each cut.

    A largest probability below 0.5 leaves no distribution with an entropy of log 2 or less, so whatever is beyond the
    cut of max-softmax is beyond that of entropy too; the reverse is not true.

    Args:
        table: From `reports.distributions.bounds_table`, one row per pixel.

    Returns:
        The rows entropy, max_softmax, both and neither, with cut, pixels and share; a pixel on a cut is not beyond it.
    """
    # the entropy of two equal classes is rounded to either side of log 2
    entropy = table["entropy"] > ENTROPY_CUT * (1 + 4 * np.finfo(np.float32).eps)
    largest = table["max_softmax"] > MAX_SOFTMAX_CUT
    beyond = {"entropy": entropy, "max_softmax": largest, "both": entropy & largest, "neither": ~(entropy | largest)}
    rows = [(name, int(there.sum()), float(there.mean())) for name, there in beyond.items()]
    shares = pd.DataFrame(rows, columns=["beyond", "pixels", "share"])
    shares.insert(1, "cut", [ENTROPY_CUT, MAX_SOFTMAX_CUT, np.nan, np.nan])
    return shares


def joint_table(table: pd.DataFrame, classes: int) -> pd.DataFrame:
    """The joint distribution of entropy and max-softmax, as counts in bins.

    Args:
        table: From `reports.distributions.bounds_table`, one row per pixel.
        classes: Number of classes C.

    Returns:
        One row per bin that is not empty: where it begins (entropy_from in nats, max_softmax_from), and pixels.
    """
    counts, x, y = np.histogram2d(table["entropy"], table["max_softmax"], bins=_edges(classes))
    i, j = np.nonzero(counts)
    return pd.DataFrame({"entropy_from": x[i], "max_softmax_from": y[j], "pixels": counts[i, j].astype(int)})


def draw_joint(joint: pd.DataFrame, shares: pd.DataFrame, classes: int, title: str) -> Figure:
    """Draw 1 - max-softmax against entropy of one image's pixels, with both cuts (Chen 2020, figure 2.13).

    Args:
        joint: From `joint_table`.
        shares: From `cut_shares`.
        classes: Number of classes C.
        title: The figure's title.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    x, y = _edges(classes)
    counts = np.full((len(x) - 1, len(y) - 1), np.nan)
    where = [np.searchsorted(e, joint[c] + 1e-9) - 1 for e, c in ((x, "entropy_from"), (y, "max_softmax_from"))]
    counts[tuple(where)] = joint["pixels"]
    top = max(float(joint["pixels"].max()), 10)
    shown = axes.pcolormesh(x, y, counts.T, cmap="viridis_r", norm=LogNorm(1, top))
    figure.colorbar(shown, ax=axes, label="pixels per bin (white: none)")
    largest = np.linspace(1 / classes, 1, 2000)
    bounds, possible = entropy_bounds(largest, classes), f"smallest and largest entropy possible with {classes} classes"
    for entropy, label in zip(bounds, (possible, None), strict=True):
        axes.plot(entropy, 1 - largest, color="0.55", linewidth=0.9, label=label)
    share = shares.set_index("beyond")["share"]
    right, above = (f"{share[cut]:.1%} of the pixels" for cut in ("entropy", "max_softmax"))
    axes.axvline(ENTROPY_CUT, color="black", linestyle="--", label=f"entropy = log 2: {right} lie to the right")
    axes.axhline(MAX_SOFTMAX_CUT, color="black", linestyle=":", label=f"1 - max-softmax = 0.5: {above} lie above")
    axes.set(xlim=(0, log(classes) * 1.02), ylim=(0, 1), xlabel="entropy (nats)", ylabel="1 - max-softmax")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def odin_table(values: PixelValues) -> pd.DataFrame:
    """The range of ODIN's values in each map.

    Args:
        values: Of one image.

    Returns:
        One row per map: temperature, epsilon, minimum, mean and maximum.
    """
    maps = values.odin.astype(float)
    return pd.DataFrame(values.settings, columns=["temperature", "epsilon"]).assign(
        minimum=maps.min(axis=(1, 2)), mean=maps.mean(axis=(1, 2)), maximum=maps.max(axis=(1, 2))
    )


def draw_odin(values: PixelValues, table: pd.DataFrame, title: str) -> Figure:
    """Draw image, prediction and ODIN's maps, each map with a scale of its own (Chen 2020, figure 2.4).

    Args:
        values: Of one image.
        table: From `odin_table`.
        title: The figure's title.
    """
    panels = 2 + len(table)
    rows, columns = 2, -(-(panels + 1) // 2)
    height, width = values.image.shape[:2]
    figure = Figure(figsize=(3.2 * columns, rows * (2.5 * height / width + 0.5) + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns).flatten()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(values.image)
    axes[0].set_title("image", fontsize=9)
    axes[-1].legend(
        handles=_draw_classes(axes[1], values), title="predicted", loc="center left", fontsize=8, frameon=False
    )
    for axis, values_map, row in zip(axes[2:], values.odin, table.itertuples(), strict=False):
        shown = axis.imshow(values_map, cmap="viridis", vmin=row.minimum, vmax=row.maximum)
        axis.set_title(f"T = {row.temperature:g}, \N{GREEK SMALL LETTER EPSILON} = {row.epsilon:g}", fontsize=9)
        bar = figure.colorbar(shown, ax=axis, fraction=0.046, shrink=0.8, ticks=MaxNLocator(4))
        bar.ax.ticklabel_format(useOffset=False)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _edges(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins of entropy up to log C and of max-softmax up to 1, with the cuts among their edges."""
    steps = int(np.ceil(log(classes) / ENTROPY_CUT * _BINS - 1e-9)) + 1
    return np.arange(steps + 1) * ENTROPY_CUT / _BINS, np.linspace(0, 1, 2 * _BINS + 1)


def _draw_classes(axis: Axes, values: PixelValues) -> list[Patch]:
    """Draw the prediction: the most frequent classes in colours of their own, and the others in grey."""
    classes, counts = np.unique(values.prediction, return_counts=True)
    frequent = classes[np.argsort(-counts, kind="stable")][: len(_COLOURS)]
    place = np.full(int(values.prediction.max()) + 1, len(_COLOURS))
    place[frequent] = np.arange(len(frequent))
    palette = ListedColormap([*_COLOURS, _OTHER])
    axis.imshow(place[values.prediction], cmap=palette, vmin=-0.5, vmax=len(_COLOURS) + 0.5, interpolation="nearest")
    axis.set_title("prediction", fontsize=9)
    patches = [Patch(color=_COLOURS[i], label=str(values.class_names[c])) for i, c in enumerate(frequent)]
    return patches + ([Patch(color=_OTHER, label="others")] if len(classes) > len(frequent) else [])
