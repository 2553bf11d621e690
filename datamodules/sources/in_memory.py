"""Data sets of small images that live in memory as tensors."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from acquisition.annotation import VOID
from acquisition.seeding import derive_seed
from datamodules.files import DataError
from datamodules.sources.source import Source

__all__ = ["TensorSource"]


class TensorSource(Source):
    """Images and classes as tensors: a data set gives `class_names`, `mean`, `std` and `read`.

    Image ids are PART_NNNNNN, with the part of the files (train or test) and the position there; "ood_" before those of
    another data set.

    Args:
        num_train: Take only so many images of the training split. This and the next two choose by a hash of the image
            id: the same images for every seed, and a larger number holds those of a smaller one.
        num_val: Take only so many images of the validation split.
        held_out: Validate on so many of the training images and test on the test images; 0 validates on the test
            images, as Chen 2020 does (section 3.1).
        ood: Another data set, of which images are mixed into the train split; they are of none of the classes: queried,
            they cost a label and bring no training sample.
        ood_count: How many such images.

    Raises:
        ValueError: If only one of ood and ood_count is given.
    """

    target = "label"
    flip = 0.0

    mean: ClassVar[Sequence[float]]
    """Per channel, of pixels in [0, 1]."""
    std: ClassVar[Sequence[float]]
    """Per channel, of pixels in [0, 1]."""

    def __init__(
        self,
        num_train: int | None = None,
        num_val: int | None = None,
        held_out: int = 0,
        ood: "TensorSource | None" = None,
        ood_count: int = 0,
    ) -> None:
        if (ood is None) != (ood_count == 0):
            raise ValueError(
                f"data.source.ood and data.source.ood_count go together, got {ood} and {ood_count}; set both or neither"
            )
        self.num_train = num_train
        self.num_val = num_val
        self.held_out = held_out
        self.ood = ood
        self.ood_count = ood_count
        self._tensors: dict[str, tuple[Tensor, Tensor, list[str]]] = {}
        self._rows: dict[str, tuple[str, int]] = {}

    @abstractmethod
    def read(self, part: str) -> tuple[Tensor, Tensor] | None:
        """Images, N x C x H x W uint8, and classes, N integers, of the part "train" or "test"; None without it."""

    def tensors(self, split: str) -> tuple[Tensor, Tensor, list[str]]:
        """Normalised images, N x C x H x W float32, classes, N int64, and image ids of "train", "val" or "test".

        The classes are the data set's own, whoever is the oracle; `VOID` where an image is of none of them. Empty
        tensors where there is no such split.
        """
        if split not in self._tensors:
            self._tensors[split] = self._make(split)
            for row, image_id in enumerate(self._tensors[split][2]):
                self._rows[image_id] = split, row
        return self._tensors[split]

    def row(self, image_id: str) -> tuple[str, int]:
        """Split of an image, and its row in the split's tensors."""
        if image_id not in self._rows:
            for split in ("train", "val", "test"):
                self.tensors(split)
        if image_id not in self._rows:
            raise DataError(f"{type(self).__name__} has no image {image_id!r}; check the id")
        return self._rows[image_id]

    def images(self, split: str) -> Sequence[str]:
        return self.tensors(split)[2]

    def read_image(self, image_id: str) -> np.ndarray:
        split, row = self.row(image_id)
        return self.to_display(self.tensors(split)[0][row].numpy())

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        split, row = self.row(image_id)
        return np.array(self.tensors(split)[1][row].item(), dtype=np.uint8)

    def size(self, image_id: str) -> tuple[int, int]:
        height, width = self.tensors("train")[0].shape[2:]
        return int(height), int(width)

    def to_display(self, image: np.ndarray) -> np.ndarray:
        """A normalised image, C x H x W, as pixels, H x W x 3 uint8."""
        pixels = image.transpose(1, 2, 0) * np.array(self.std) + np.array(self.mean)
        grey_or_rgb = (pixels * 255).round().clip(0, 255).astype(np.uint8)
        return np.broadcast_to(grey_or_rgb, (*grey_or_rgb.shape[:2], 3))

    def _make(self, split: str) -> tuple[Tensor, Tensor, list[str]]:
        part, kept = "train", self.num_train
        if split != "train":
            part, kept = ("train" if split == "val" and self.held_out else "test"), self.num_val
        found = None if split == "test" and not self.held_out else self.read(part)
        if found is None:
            return torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), []
        images, labels = self._checked(*found, part)
        image_ids = [f"{part}_{position:06d}" for position in range(len(images))]
        rows = list(range(len(images)))
        if part == "train" and self.held_out:
            held_out = set(_chosen(image_ids, rows, self.held_out, "held out"))
            rows = [row for row in rows if (row in held_out) == (split == "val")]
        if kept is not None and split != "test":
            rows = _chosen(image_ids, rows, kept, "subset")
        images, labels, image_ids = images[rows], labels[rows], [image_ids[row] for row in rows]
        if split == "train" and self.ood is not None:
            foreign, foreign_ids = self._foreign(self.ood, images.shape[1:])
            images = torch.cat([images, foreign])
            labels = torch.cat([labels, torch.full((len(foreign),), VOID)])
            image_ids += foreign_ids
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        return images.float().div_(255).sub_(mean).div_(std), labels, image_ids

    def _foreign(self, other: "TensorSource", shape: Sequence[int]) -> tuple[Tensor, list[str]]:
        found = other.read("train")
        if found is None or found[0].shape[1:] != shape:
            got = "none" if found is None else " x ".join(map(str, found[0].shape[1:]))
            raise DataError(
                f"expected images of {' x '.join(map(str, shape))} in data.source.ood ({type(other).__name__}), got "
                f"{got}; choose a data set of the same size and channels"
            )
        names = [f"ood_train_{position:06d}" for position in range(len(found[0]))]
        rows = _chosen(names, range(len(names)), self.ood_count, "ood")
        return found[0][rows], [names[row] for row in rows]

    def _checked(self, images: Tensor, labels: Tensor, part: str) -> tuple[Tensor, Tensor]:
        where = f"the {part} part of {type(self).__name__}"
        if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1] != len(self.mean):
            raise DataError(
                f"expected images N x {len(self.mean)} x H x W of uint8 in {where}, got {tuple(images.shape)} of "
                f"{images.dtype}; check data.source.root"
            )
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"expected one label for each of {len(images)} images in {where}, got {tuple(labels.shape)} labels; "
                "check that images and labels belong together"
            )
        wrong = (labels < 0) | (labels >= self.num_classes)
        if wrong.any():
            raise DataError(
                f"expected labels from 0 to {self.num_classes - 1} in {where}, got {int(labels[wrong][0])}; check "
                "data.source.root"
            )
        return images, labels.long()


def _chosen(image_ids: Sequence[str], rows: Sequence[int], count: int, why: str) -> list[int]:
    """`count` of the rows by a hash of their ids, in the order of the rows."""
    if not 0 < count <= len(rows):
        raise DataError(f"expected to choose 1 to {len(rows)} images ({why}), got {count}; change the number")
    return sorted(sorted(rows, key=lambda row: derive_seed(why, image_ids[row]))[:count])
