"""Whole batches of images in memory: one indexing operation, with no Python per image."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.utils.data import Sampler

from acquisition.seeding import generator_for
from datamodules.datasets import EpochSampler, PoolDataset
from datamodules.sources.in_memory import TensorSource

__all__ = ["EpochBatches", "InOrder", "TensorDataset", "as_it_is", "augmented"]


class TensorDataset(PoolDataset):
    """Whole batches {"image_id", "image", "index"[, "label"]}, indexed by a slice, or by (epoch, positions).

    The augmentation is drawn from (seed, cycle, epoch) for all images at once, so that it does not depend on batches,
    processes or on where a fit was resumed.

    Args:
        image_ids: The images, of one split.
        source: Whose tensors hold them.
        classes: Of the images, N int64, or None for batches without.
        flip: Probability of a horizontal flip.
        shift: The most pixels by which images are shifted at random.
        seed: Of the augmentation.
        cycle: Of the augmentation.
    """

    def __init__(
        self,
        image_ids: Sequence[str],
        source: TensorSource,
        classes: Tensor | None,
        flip: float = 0.0,
        shift: int = 0,
        seed: int = 0,
        cycle: int = 0,
    ) -> None:
        self.image_ids = image_ids
        self.annotated = classes is not None
        self.flip = flip
        self.shift = shift
        self.seed = seed
        self.cycle = cycle
        rows = [source.row(image_id) for image_id in image_ids]
        self._images = source.tensors(rows[0][0] if rows else "train")[0]
        self._rows = torch.tensor([row for _, row in rows], dtype=torch.int64)
        self._classes = classes
        self._image_ids = np.array(image_ids, dtype=object)
        self._draws: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def augmentations(self) -> list[str]:
        return [name for name, size in (("flip", self.flip), ("shift", self.shift)) if size]

    def __getitem__(self, index: "slice | tuple[int, Tensor]") -> dict[str, Any]:
        epoch, which = index if isinstance(index, tuple) else (0, index)
        images = self._images[self._rows[which]]
        if self.augmentations:
            images = augmented(images, self._uniform(epoch)[which], self.flip, self.shift)
        batch = {
            "image_id": self._image_ids[which].tolist(),
            "image": images,
            "index": torch.zeros(len(images), 1, 1, dtype=torch.int32),
        }
        return batch if self._classes is None else {**batch, "label": self._classes[which]}

    def _uniform(self, epoch: int) -> Tensor:
        if self._draws[0] != epoch:
            generator = generator_for(self.seed, "augmentation", self.cycle, epoch)
            self._draws = (epoch, torch.rand(len(self.image_ids), 3, generator=generator))
        return self._draws[1]


class EpochBatches(EpochSampler):
    """The batches of `EpochSampler`, each as (epoch, positions); the arguments are the same."""

    def __init__(self, length: int, batch_size: int, seed: int, *process_and_progress: int) -> None:
        super().__init__(length, batch_size, seed, *process_and_progress)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return super().__len__() // self.batch_size

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:  # type: ignore[override]
        for positions in self.positions().split(self.batch_size):
            yield self.epoch, positions


class InOrder(Sampler[slice]):
    """Slices from first to last.

    Args:
        length: How many samples there are.
        batch_size: The length of a slice; the last may be shorter.
    """

    def __init__(self, length: int, batch_size: int) -> None:
        self.length = length
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[slice]:
        for start in range(0, self.length, self.batch_size):
            yield slice(start, min(start + self.batch_size, self.length))


def augmented(images: Tensor, uniform: Tensor, flip: float, shift: int) -> Tensor:
    """Flip and shift images; what a shift uncovers is 0, the mean of normalised pixels.

    Args:
        images: N x C x H x W.
        uniform: N x 3 numbers in [0, 1), for flip, rows and columns.
        flip: Probability of a horizontal flip.
        shift: The most pixels by which an image is shifted.

    Returns:
        N x C x H x W.
    """
    height, width = images.shape[2:]
    columns = torch.arange(width).expand(len(images), -1)
    columns = torch.where(uniform[:, :1] < flip, columns.flip(1), columns)
    offsets = (uniform[:, 1:] * (2 * shift + 1)).long()
    rows = torch.arange(height) + offsets[:, :1]
    columns = columns + offsets[:, 1:]
    padded = F.pad(images, (shift, shift, shift, shift))
    number = torch.arange(len(images))[:, None, None]
    return padded.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def as_it_is(batch: Any) -> Any:
    """A batch that needs no collating; a function of its own, so that a loader can be pickled."""
    return batch
