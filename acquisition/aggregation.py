"""From one value per pixel to one score per unit: a reduction over the pixels of each region."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from acquisition.identity import Described
from acquisition.numbers import exact
from acquisition.regions import Regions, Segments

__all__ = ["Aggregation", "CountAbove", "Mean", "Sum"]


class Aggregation(Described, ABC):
    """Maps acquisition values to scores: subclass it with a `reduce`.

    Example:
        >>> class Max(Aggregation):
        ...     def reduce(self, values_P, units):
        ...         return units.max(values_P)
        >>> Max()(torch.tensor([[[0.0, 0.5], [0.25, 0.25]]]))
        tensor([0.5000], dtype=torch.float64)
        >>> Max().name
        'Max'
        >>> halves = Regions(["image"], ["upper", "lower"], torch.tensor([[[0, 0], [1, 1]]]), torch.zeros(2, 3))
        >>> Max()(torch.tensor([[[0.0, 0.5], [0.25, 0.25]]]), halves)
        tensor([0.5000, 0.2500], dtype=torch.float64)
    """

    @property
    def name(self) -> str:
        """The name in ledgers, tables and figures."""
        return self.short_description

    def __call__(self, values: Tensor, regions: Regions | None = None) -> Tensor:
        """One score per unit.

        Args:
            values: N x H x W, a value per pixel, or N, one per image.
            regions: The units of these images; None where each image is one, of any shape.

        Returns:
            U, in float64.
        """
        if regions is None:
            return self.reduce(values.reshape(-1), Segments(None, len(values))).double()
        units = regions.of(values)
        return self.reduce(units.pick(values), units).double()

    @abstractmethod
    def reduce(self, values_P: Tensor, units: Segments) -> Tensor:
        """One score per unit.

        Args:
            values_P: A value for each of P pixels.
            units: Which unit each belongs to; sums, means and the like over the units' pixels.

        Returns:
            U, in the order of the units.
        """


class Mean(Aggregation):
    """Average over the pixels (Chen 2020, eq. 1.9).

    Example:
        >>> Mean()(torch.tensor([[0.0, 0.5, 1.0, 1.0]]))
        tensor([0.6250], dtype=torch.float64)
    """

    def reduce(self, values_P: Tensor, units: Segments) -> Tensor:
        return units.mean(values_P)


class Sum(Aggregation):
    """Sum over the pixels (SuperAnnotate 2020): favours large units where sizes differ.

    Example:
        >>> Sum()(torch.tensor([[0.0, 0.5, 1.0, 1.0]]))
        tensor([2.5000], dtype=torch.float64)
    """

    def reduce(self, values_P: Tensor, units: Segments) -> Tensor:
        return units.sum(values_P)


class CountAbove(Aggregation):
    """Share of the pixels whose value is above a threshold (Chen 2020, eq. 1.10).

    Chen 2020, tables 2.1 and 2.2: log 2 for entropy, 0.5 for max-softmax, 0.8 and 0.9 for margin. The threshold
    belongs to one acquisition function, so there is no default.

    Args:
        threshold: A number, or the word "log2", the entropy of two equally likely classes in nats: such a pixel is
            not above it, whatever its rounding, but is above 0.6931.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> CountAbove(0.75)(torch.tensor([[0.0, 0.5, 1.0, 1.0]]))
        tensor([0.5000], dtype=torch.float64)
        >>> CountAbove("log2").name
        'CountAbove(log2)'
    """

    def __init__(self, threshold: float | Literal["log2"]) -> None:
        if threshold != "log2" and (isinstance(threshold, str) or not math.isfinite(threshold)):
            raise ValueError(f"the threshold must be a number or the word log2, got {threshold!r}")
        self.threshold = threshold

    @property
    def name(self) -> str:
        return f"CountAbove({self.threshold if isinstance(self.threshold, str) else exact(self.threshold)})"

    def reduce(self, values_P: Tensor, units: Segments) -> Tensor:
        if isinstance(self.threshold, str):
            # the entropy of a mean of samples comes out a few roundings beside the exact one
            threshold = math.log(2) * (1 + 4 * torch.finfo(torch.float32).eps)
        else:
            threshold = self.threshold
        return units.mean(values_P > threshold)
