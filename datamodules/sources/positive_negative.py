"""Two data sets as one: the classes of the one, and everything of the other as class 0."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.files import DataError
from datamodules.sources.in_memory import TensorSource

__all__ = ["PositiveNegative"]


class PositiveNegative(TensorSource):
    """Positives of K classes, numbered from 1 on, and negatives, class 0, to learn from positives and unlabelled.

    `datamodules.corruptions.PositiveUnlabelled` then hides the labels of some positives among the negatives. Image ids
    count the positives of a part first, then its negatives. Pixels are normalised as the positives' are.

    Args:
        positive: The data set of the classes 1 to K.
        negative: The one of class 0, with images of the same size and channels.
    """

    def __init__(self, positive: TensorSource, negative: TensorSource, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positive = positive
        self.negative = negative
        self.mean, self.std = positive.mean, positive.std  # type: ignore[misc]

    @property
    def class_names(self) -> Sequence[str]:
        return ["negative", *self.positive.class_names]

    def read(self, part: str) -> tuple[Tensor, Tensor] | None:
        positive, negative = self.positive.read(part), self.negative.read(part)
        if positive is None or negative is None:
            return None
        if positive[0].shape[1:] != negative[0].shape[1:]:
            wanted, got = (" x ".join(map(str, found[0].shape[1:])) for found in (positive, negative))
            raise DataError(
                f"expected negatives of {wanted} as the positives ({type(self.positive).__name__}), got {got} "
                f"({type(self.negative).__name__}); choose a data set of the same size and channels"
            )
        labels = [positive[1].long() + 1, torch.zeros(len(negative[0]), dtype=torch.int64)]
        return torch.cat([positive[0], negative[0]]), torch.cat(labels)
