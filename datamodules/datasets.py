"""Units as samples: reading, checking, transforming."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import albumentations as A  # noqa: N812 - the library's own convention
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from acquisition.seeding import derive_seed, generator_for
from datamodules.units import VOID, DataError, Unit

__all__ = [
    "EpochSampler",
    "ImageDataset",
    "ImageReader",
    "LabelDataset",
    "PoolDataset",
    "UnitDataset",
    "UnitReader",
    "check_mask",
    "collate_units",
    "shard",
]


_FIXED = {"Resize", "Normalize", "ToTensorV2"}


class ImageReader(Protocol):
    """Where pixels come from: a data module."""

    def read_image(self, unit: Unit) -> np.ndarray:
        """H x W x 3, uint8."""


class UnitReader(ImageReader, Protocol):
    """Where pixels and masks come from."""

    def read_mask(self, unit: Unit) -> np.ndarray:
        """H x W, uint8, class indices or `VOID`."""


class PoolDataset(Dataset[dict[str, Any]], ABC):
    """Units as samples, and what the doctor wants to know of them.

    labels: whether labels are read; without them the truth is not even opened. augmentations: names of the random
    changes to images.
    """

    units: Sequence[Unit]
    labels: bool

    @property
    @abstractmethod
    def augmentations(self) -> list[str]: ...

    def __len__(self) -> int:
        return len(self.units)


class ImageDataset(PoolDataset):
    """Samples {"unit_id", "image": 3 x H x W float32[, and the label]}, read one by one.

    Indexed by a position, or by (epoch, position) for augmented training: the augmentation is drawn from (seed,
    epoch, unit id), so it does not depend on workers, processes or on where a fit was resumed.
    """

    def __init__(
        self, units: Sequence[Unit], reader: ImageReader, transform: A.Compose, labels: bool, seed: int = 0
    ) -> None:
        self.units = units
        self.reader = reader
        self.transform = transform
        self.labels = labels
        self.seed = seed

    @property
    def augmentations(self) -> list[str]:
        return [name for t in self.transform.transforms if (name := type(t).__name__) not in _FIXED]

    @abstractmethod
    def labelled(self, unit: Unit, image: np.ndarray) -> dict[str, Any]:
        """The transformed image and its label."""

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        unit = self.units[position]
        # albumentations wants 32 bits
        self.transform.set_random_seed(derive_seed(self.seed, epoch, unit.unit_id) % 2**32)
        image = self.reader.read_image(unit)
        sample = self.labelled(unit, image) if self.labels else {"image": self.transform(image=image)["image"]}
        return {"unit_id": unit.unit_id, **sample}


class UnitDataset(ImageDataset):
    """`ImageDataset` with "mask": H x W int64, transformed together with the image."""

    reader: UnitReader

    def __init__(
        self,
        units: Sequence[Unit],
        reader: UnitReader,
        transform: A.Compose,
        num_classes: int,
        masks: bool,
        seed: int = 0,
    ) -> None:
        super().__init__(units, reader, transform, masks, seed)
        self.num_classes = num_classes

    def labelled(self, unit: Unit, image: np.ndarray) -> dict[str, Any]:
        mask = self.reader.read_mask(unit)
        check_mask(unit, image, mask, self.num_classes)
        sample = self.transform(image=image, mask=mask)
        return {"image": sample["image"], "mask": sample["mask"].long()}


class LabelDataset(ImageDataset):
    """`ImageDataset` with "label": the unit's class."""

    def labelled(self, unit: Unit, image: np.ndarray) -> dict[str, Any]:
        return {"image": self.transform(image=image)["image"], "label": unit.label}


def check_mask(unit: Unit, image: np.ndarray, mask: np.ndarray, num_classes: int) -> None:
    """Refuse a mask of another size than the image, or with values outside the classes."""
    where = unit.mask or unit.unit_id
    if mask.shape != image.shape[:2]:
        raise DataError(
            f"expected a mask of the image's size {image.shape[0]} x {image.shape[1]}, got {mask.shape[0]} x "
            f"{mask.shape[1]} in {where}; redraw or resize it (nearest neighbour)"
        )
    wrong = (mask >= num_classes) & (mask != VOID)
    if wrong.any():
        raise DataError(
            f"expected mask values from 0 to {num_classes - 1}, or {VOID} for void, got {mask[wrong].max()} in "
            f"{where}; correct the mask or list the class in classes.txt"
        )


def collate_units(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch; says what to do when their sizes differ."""
    sizes = {s["unit_id"]: tuple(s["image"].shape[1:]) for s in samples}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {h} x {w}" for name, (h, w) in list(sizes.items())[:3])
        raise DataError(
            f"images of one batch must have one size, got {listed}; set data.image_size (or data.crop_size for "
            "training), or data.eval_batch_size to 1"
        )
    return default_collate(samples)


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffles by (seed, epoch) and yields (epoch, position): any epoch can be drawn again, alone.

    Every batch of every process is full: the last ones are filled up by going round once more, because batch
    norm cannot train on one sample and a process with fewer batches would leave the others waiting.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        whole = batch_size * world_size
        self.total = -(-length // whole) * whole
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total // self.world_size

    def positions(self) -> Tensor:
        """This process's positions in this epoch, int64."""
        order = torch.randperm(self.length, generator=generator_for(self.seed, "shuffle", self.epoch))
        return order[torch.arange(self.rank, self.total, self.world_size) % self.length]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for position in self.positions().tolist():
            yield self.epoch, position


def shard(units: Sequence[Unit], rank: int, world_size: int) -> list[Unit]:
    """This process's share, without padding and without duplicates."""
    return list(units[rank::world_size])
