"""The handwritten digits that ship with scikit-learn: a data set that needs no files."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from datamodules.sources.in_memory import TensorSource

__all__ = ["Digits"]


class Digits(TensorSource):
    """1797 images of 8 x 8 (UCI, Alpaydin and Kaynak 1998).

    Args:
        held_out: Validate on so many of the images.
    """

    mean: ClassVar[Sequence[float]] = (0.3051,)
    std: ClassVar[Sequence[float]] = (0.3760,)

    def __init__(self, held_out: int = 397, **kwargs: Any) -> None:
        super().__init__(held_out=held_out, **kwargs)

    @property
    def class_names(self) -> Sequence[str]:
        return [str(digit) for digit in range(10)]

    def read(self, part: str) -> tuple[Tensor, Tensor] | None:
        if part == "test":
            return None
        digits = load_digits()
        # 17 grey values, 0 to 16
        images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)
        return images[:, None], torch.from_numpy(digits.target)
