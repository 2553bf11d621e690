"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): 28 x 28 grey images of 10 classes."""

import gzip
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

from datamodules.files import DataError
from datamodules.sources.in_memory import TensorSource

__all__ = ["MNIST", "FashionMNIST"]

_CLOTHES = (
    "t_shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot",
)  # fmt: skip
_PREFIX = {"train": "train", "test": "t10k"}


class MNIST(TensorSource):
    """Handwritten digits: 60000 training and 10000 test images.

    Args:
        root: Folder of the four idx files ({train,t10k}-{images-idx3,labels-idx1}-ubyte, gzipped or not), or the folder
            in which torchvision keeps them as MNIST/raw.
    """

    mean: ClassVar[Sequence[float]] = (0.1307,)
    std: ClassVar[Sequence[float]] = (0.3081,)

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    @property
    def class_names(self) -> Sequence[str]:
        return [str(digit) for digit in range(10)]

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        return _read_part(self.root, "MNIST", part)


class FashionMNIST(TensorSource):
    """Pictures of clothes, in the files and numbers of MNIST.

    Args:
        root: Folder of the four idx files ({train,t10k}-{images-idx3,labels-idx1}-ubyte, gzipped or not), or the folder
            in which torchvision keeps them as FashionMNIST/raw.
    """

    mean: ClassVar[Sequence[float]] = (0.2860,)
    std: ClassVar[Sequence[float]] = (0.3530,)

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    @property
    def class_names(self) -> Sequence[str]:
        return _CLOTHES

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        return _read_part(self.root, "FashionMNIST", part)


def _read_part(root: Path, name: str, part: str) -> tuple[Tensor, Tensor]:
    raw = root / name / "raw"
    folder = raw if raw.is_dir() else root
    images = _read(_found(folder, f"{_PREFIX[part]}-images-idx3-ubyte"))
    return images[:, None], _read(_found(folder, f"{_PREFIX[part]}-labels-idx1-ubyte"))


def _found(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"expected {name} or {name}.gz in {folder}, got neither; check data.source.root")


# every cycle makes its data module anew
@lru_cache(maxsize=8)
def _read(path: Path) -> Tensor:
    read = read_image_file if "idx3" in path.name else read_label_file
    try:
        if path.suffix != ".gz":
            return read(str(path))
        # torchvision's readers take plain files only
        with tempfile.NamedTemporaryFile() as plain:
            plain.write(gzip.decompress(path.read_bytes()))
            plain.flush()
            return read(plain.name)
    except (OSError, EOFError, ValueError, TypeError, AssertionError, RuntimeError, KeyError) as error:
        raise DataError(f"{path} is not a readable idx file ({error}); replace it") from error
