"""CIFAR-10 (Krizhevsky 2009): 32 x 32 colour images of 10 classes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision import datasets

from datamodules.files import DataError
from datamodules.sources.in_memory import TensorSource

__all__ = ["CIFAR10"]

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR10(TensorSource):
    """50000 training and 10000 test images.

    Args:
        root: The folder that holds torchvision's cifar-10-batches-py.
        download: Fetch it there if it is missing.
    """

    mean: ClassVar[Sequence[float]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[Sequence[float]] = (0.2470, 0.2435, 0.2616)

    def __init__(self, root: str, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.download = download

    @property
    def class_names(self) -> Sequence[str]:
        return _CLASSES

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        return _read(self.root, part, self.download)


# every cycle makes its data module anew
@lru_cache(maxsize=2)
def _read(root: str, part: str, download: bool) -> tuple[Tensor, Tensor]:
    try:
        files = datasets.CIFAR10(root, train=part == "train", download=download)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"expected CIFAR-10 as {root}/cifar-10-batches-py, got: {error}; unpack cifar-10-python.tar.gz there, or "
            "set data.source.download to true"
        ) from error
    return torch.from_numpy(files.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(files.targets)
