"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32 x 32 colour images of 10 and of 100 classes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision import datasets

from datamodules.files import DataError
from datamodules.sources.in_memory import TensorSource

__all__ = ["CIFAR10", "CIFAR100"]

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
    "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
    "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
    "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
    "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


class _CIFAR(TensorSource):
    """Either, as torchvision keeps it: 50000 training and 10000 test images.

    Args:
        root: The folder that holds torchvision's files, such as cifar-10-batches-py.
        download: Fetch them there if they are missing.
    """

    files: ClassVar[str]
    """Name of torchvision's class."""

    def __init__(self, root: str, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.download = download

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        return _read(self.files, self.root, part, self.download)


class CIFAR10(_CIFAR):
    """50000 training and 10000 test images of 10 classes."""

    files = "CIFAR10"
    mean: ClassVar[Sequence[float]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[Sequence[float]] = (0.2470, 0.2435, 0.2616)

    @property
    def class_names(self) -> Sequence[str]:
        return _CLASSES


class CIFAR100(_CIFAR):
    """50000 training and 10000 test images of 100 classes."""

    files = "CIFAR100"
    mean: ClassVar[Sequence[float]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[Sequence[float]] = (0.2673, 0.2564, 0.2762)

    @property
    def class_names(self) -> Sequence[str]:
        return _FINE_CLASSES.split()


# every cycle makes its data module anew
@lru_cache(maxsize=4)
def _read(name: str, root: str, part: str, download: bool) -> tuple[Tensor, Tensor]:
    kind = getattr(datasets, name)
    try:
        files = kind(root, train=part == "train", download=download)
    except (RuntimeError, OSError) as error:
        archive = f"{name.replace('CIFAR', 'cifar-')}-python.tar.gz"
        raise DataError(
            f"expected {name} as {root}/{kind.base_folder}, got: {error}; unpack {archive} there, or set "
            "data.source.download to true"
        ) from error
    return torch.from_numpy(files.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(files.targets)
