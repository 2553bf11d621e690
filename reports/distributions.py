"""Acquisition values of random softmax distributions (Chen 2020, section 2.2.1, figures 2.12 and 2.13)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from acquisition.seeding import generator_for

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "bounds_table",
    "cumulative_table",
    "draw_bounds",
    "draw_cumulative",
    "entropy_bounds",
    "normalised_cumulative_mean",
    "random_logits",
]


def random_logits(count: int, classes: int = 19, scale: float = 6.0, power: float = 2.0, seed: int = 0) -> "Tensor":
    """Draw logits of distributions that are skewed towards high entropy.

    Each distribution's logits are standard normal numbers times scale * u^power, with u uniform in [0, 1). Chen 2020
    does not say how it drew its distributions; of these, with the defaults, half have an entropy above 0.76 log C.

    Args:
        count: Number of distributions.
        classes: Number of classes C.
        scale: Largest factor of the logits.
        power: The larger it is, the more distributions are almost uniform.
        seed: Seed of the draws.

    Returns:
        count x C, float64.
    """
    import torch  # takes a second, and only these tables need it

    generator = generator_for(seed, "random softmax distributions")
    normal = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    spread = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return normal * scale * spread**power


def normalised_cumulative_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the first k values for every k, shifted and scaled so that it begins at 0 and ends at 1.

    Args:
        values: One-dimensional.

    Returns:
        One number per value; all are NaN if the first and last means are equal.
    """
    array = np.asarray(values, dtype=float)
    means = array.cumsum() / np.arange(1, len(array) + 1)
    rise = means[-1] - means[0]
    return (means - means[0]) / rise if rise else np.full_like(means, np.nan)


def cumulative_table(logits: "Tensor", temperatures: Sequence[float] = (0.01, 0.1, 10, 100, 1000)) -> pd.DataFrame:
    """Normalised cumulative means of acquisition values, the distributions being sorted by entropy.

    Args:
        logits: count x C.
        temperatures: Temperatures of ODIN.

    Returns:
        One row per distribution, by increasing entropy: the entropy in nats, and a column per acquisition function.
    """
    from acquisition import functional

    probs = functional.class_probabilities(logits)
    entropy = functional.entropy(probs)
    values = {"Entropy": entropy, "Max-softmax": functional.max_softmax(probs), "Margin": functional.margin(probs)}
    values |= {f"ODIN T={t:g}": functional.odin(logits, t) for t in temperatures}
    order = entropy.argsort()
    columns = {name: normalised_cumulative_mean(v[order].numpy()) for name, v in values.items()}
    return pd.DataFrame({"entropy": entropy[order].numpy(), **columns})


def entropy_bounds(largest: ArrayLike, classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest entropy of distributions over C classes with largest probability m.

    The entropy is largest if the other classes share the rest equally: -m log m - (1 - m) log((1 - m) / (C - 1)). It is
    smallest if k = floor(1/m) classes have probability m and one has the rest r = 1 - k m: -k m log m - r log r.

    Args:
        largest: Values of m, from 1/C to 1.
        classes: Number of classes C, at least 2.

    Returns:
        Smallest and largest entropies in nats, in the shape of `largest`.

    Raises:
        ValueError: There are fewer than 2 classes, or a value of m is out of range.
    """
    m = np.asarray(largest, dtype=float)
    if classes < 2 or (m < 1 / classes - 1e-12).any() or (m > 1).any():
        raise ValueError(f"the largest of {classes} probabilities is from 1/{classes} to 1, got {m.min()} to {m.max()}")
    rest = 1 - m
    # the tolerance keeps rounding errors from flooring 1/m = 3 to 2
    whole = np.floor(1 / m + 1e-9)
    left = np.clip(1 - whole * m, 0, None)
    return whole * _entr(m) + _entr(left), _entr(m) + _entr(rest) + rest * np.log(classes - 1)


def bounds_table(logits: "Tensor") -> pd.DataFrame:
    """Entropy (in nats) and max_softmax (1 - the largest probability) of each distribution; logits are count x C."""
    from acquisition import functional

    probs = functional.class_probabilities(logits)
    return pd.DataFrame(
        {"entropy": functional.entropy(probs).numpy(), "max_softmax": functional.max_softmax(probs).numpy()}
    )


def draw_cumulative(table: pd.DataFrame) -> Figure:
    """Draw a `cumulative_table` against entropy (Chen 2020, figure 2.12)."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    thinned = table.iloc[:: max(len(table) // 2000, 1)]
    for number, name in enumerate(table.columns.drop("entropy")):
        style = {"color": "black", "linewidth": 2} if name == "Entropy" else {"color": f"C{number - 1}"}
        axes.plot(thinned["entropy"], thinned[name], label=name, **style)
    _label(axes, "entropy (nats)", "normalised cumulative mean")
    return figure


def draw_bounds(table: pd.DataFrame, classes: int, marks: Mapping[str, float] | None = None) -> Figure:
    """Draw 1 - max-softmax against entropy, with both analytic bounds (Chen 2020, figure 2.13).

    Args:
        table: From `bounds_table`.
        classes: Number of classes C.
        marks: Entropies in nats at which to draw vertical lines, by label.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(table["entropy"], table["max_softmax"], s=3, alpha=0.25, color="grey", linewidths=0)
    largest = np.linspace(1 / classes, 1, 2000)
    smallest_entropy, largest_entropy = entropy_bounds(largest, classes)
    axes.plot(smallest_entropy, 1 - largest, color="red", label="smallest entropy")
    axes.plot(largest_entropy, 1 - largest, color="blue", label="largest entropy")
    for name, value in (marks or {}).items():
        axes.axvline(value, color="black", linestyle=":", label=name)
    _label(axes, "entropy (nats)", "1 - max-softmax")
    return figure


def _entr(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return -probability * np.log(np.where(probability > 0, probability, 1))


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
