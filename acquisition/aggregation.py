"""From one value per pixel to one score per unit."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from acquisition.identity import Described, exact

__all__ = ["Aggregation", "CountAbove", "Mean", "Sum"]


class Aggregation(Described, ABC):
    """Maps acquisition values to scores: subclass it with a `reduce`.

    In float64: a sum over a million pixels must not lose the last one.

    Example:
        >>> class Max(Aggregation):
        ...     def reduce(self, values_NP):
        ...         return values_NP.double().amax(dim=1)
        >>> Max()(torch.tensor([[[0.0, 0.5], [0.25, 0.25]]]))
        tensor([0.5000], dtype=torch.float64)
        >>> Max().name
        'Max'
    """

    @property
    def name(self) -> str:
        """The name in ledgers, tables and figures."""
        return self.short_description

    def __call__(self, values: Tensor) -> Tensor:
        """One score per unit.

        Args:
            values: N x ..., a value per pixel, or one per unit.

        Returns:
            N, in float64.
        """
        return self.reduce(values.flatten(start_dim=1) if values.ndim > 1 else values[:, None])

    @abstractmethod
    def reduce(self, values_NP: Tensor) -> Tensor:
        """One score per unit.

        Args:
            values_NP: N x P, a value for each of P pixels.

        Returns:
            N, in float64.
        """


class Mean(Aggregation):
    """Average over the pixels (Chen 2020, eq. 1.9).

    Example:
        >>> Mean()(torch.tensor([[0.0, 0.5, 1.0, 1.0]]))
        tensor([0.6250], dtype=torch.float64)
    """

    def reduce(self, values_NP: Tensor) -> Tensor:
        return values_NP.double().mean(dim=1)


class Sum(Aggregation):
    """Sum over the pixels (SuperAnnotate 2020): favours large units where sizes differ.

    Example:
        >>> Sum()(torch.tensor([[0.0, 0.5, 1.0, 1.0]]))
        tensor([2.5000], dtype=torch.float64)
    """

    def reduce(self, values_NP: Tensor) -> Tensor:
        return values_NP.double().sum(dim=1)


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

    def reduce(self, values_NP: Tensor) -> Tensor:
        if isinstance(self.threshold, str):
            # the entropy of a mean of samples comes out a few roundings beside the exact one
            threshold = math.log(2) * (1 + 4 * torch.finfo(torch.float32).eps)
        else:
            threshold = self.threshold
        return (values_NP > threshold).double().mean(dim=1)
