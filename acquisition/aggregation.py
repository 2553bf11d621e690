"""From one value per pixel to one score per unit."""

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["Aggregation", "CountAbove", "Mean", "Sum"]


class Aggregation(ABC):
    """Maps acquisition values, N x ..., to scores, N.

    In float64: a sum over a million pixels must not lose the last one.
    """

    @property
    def name(self) -> str:
        """The name in ledgers, tables and figures."""
        return type(self).__name__

    def __call__(self, values: Tensor) -> Tensor:
        return self.reduce(values.flatten(start_dim=1) if values.ndim > 1 else values[:, None])

    @abstractmethod
    def reduce(self, values_NP: Tensor) -> Tensor:
        """N x P values, P pixels, to N scores in float64."""


class Mean(Aggregation):
    """Average over the pixels (1.9)."""

    def reduce(self, values_NP: Tensor) -> Tensor:
        return values_NP.double().mean(dim=1)


class Sum(Aggregation):
    """Sum over the pixels (seed 001): favours large units where sizes differ."""

    def reduce(self, values_NP: Tensor) -> Tensor:
        return values_NP.double().sum(dim=1)


class CountAbove(Aggregation):
    """Share of the pixels whose value is above a threshold (1.10).

    The thesis uses log 2 = 0.6931 for entropy (two equally likely classes), 0.5 for max-softmax and 0.8 (also
    0.9) for margin; the threshold belongs to one acquisition function, so there is no default.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    @property
    def name(self) -> str:
        return f"CountAbove({self.threshold:.4g})"

    def reduce(self, values_NP: Tensor) -> Tensor:
        return (values_NP > self.threshold).double().mean(dim=1)
