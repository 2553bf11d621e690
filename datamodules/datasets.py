"""Units as samples: reading, checking, transforming."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from acquisition.seeding import derive_seed, generator_for
from datamodules.transforms import JointTransform
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


class ImageReader(Protocol):
    """Where pixels come from: a data module."""

    def read_image(self, unit: Unit) -> np.ndarray:
        """H x W x 3, uint8."""


class UnitReader(ImageReader, Protocol):
    """Where pixels and masks come from."""

    def read_mask(self, unit: Unit) -> np.ndarray:
        """H x W, uint8, class indices or `VOID`."""

    def read_training_mask(self, unit: Unit, epoch: int) -> np.ndarray:
        """The mask to train on in an epoch: `read_mask`, unless several people's masks take turns."""
        return self.read_mask(unit)


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
    cycle, epoch, unit id), so it does not depend on workers, processes or on where a fit was resumed. (The label of a
    unit that has several is drawn by the reader, from the seed, the epoch and the unit.)
    """

    def __init__(
        self,
        units: Sequence[Unit],
        reader: ImageReader,
        transform: JointTransform,
        labels: bool,
        seed: int = 0,
        cycle: int = 0,
    ) -> None:
        self.units = units
        self.reader = reader
        self.transform = transform
        self.labels = labels
        self.seed = seed
        self.cycle = cycle

    @property
    def augmentations(self) -> list[str]:
        return self.transform.augmentations

    @abstractmethod
    def labelled(self, unit: Unit, image: np.ndarray, epoch: int | None) -> dict[str, Any]:
        """The transformed image and its label; epoch: of training, None in evaluation."""

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, position = index if isinstance(index, tuple) else (None, index)
        unit = self.units[position]
        self.transform.seed(derive_seed(self.seed, self.cycle, epoch or 0, unit.unit_id))
        image = self.reader.read_image(unit)
        sample = self.labelled(unit, image, epoch) if self.labels else self.transform(image)
        return {"unit_id": unit.unit_id, **sample}


class UnitDataset(ImageDataset):
    """`ImageDataset` with "mask": H x W int64, transformed together with the image."""

    reader: UnitReader

    def __init__(
        self,
        units: Sequence[Unit],
        reader: UnitReader,
        transform: JointTransform,
        num_classes: int,
        masks: bool,
        seed: int = 0,
        cycle: int = 0,
    ) -> None:
        super().__init__(units, reader, transform, masks, seed, cycle)
        self.num_classes = num_classes

    def labelled(self, unit: Unit, image: np.ndarray, epoch: int | None) -> dict[str, Any]:
        mask = self.reader.read_mask(unit) if epoch is None else self.reader.read_training_mask(unit, epoch)
        check_mask(unit, image, mask, self.num_classes)
        sample = self.transform(image, mask)
        return {"image": sample["image"], "mask": sample["mask"].long()}


class LabelDataset(ImageDataset):
    """`ImageDataset` with "label": the unit's class."""

    def labelled(self, unit: Unit, image: np.ndarray, epoch: int | None) -> dict[str, Any]:
        return {"image": self.transform(image)["image"], "label": unit.label}


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

    epoch and done: where a resumed fit goes on, batches of that epoch that it has seen are not drawn again.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, epoch: int = 0, done: int = 0
    ) -> None:
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        whole = batch_size * world_size
        self.total = -(-length // whole) * whole
        self.epoch = epoch
        # an epoch that was cut just before its end has all its batches done, and nothing of it is left to draw
        self.resumed = (epoch, done * whole % self.total if self.total else 0)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total // self.world_size

    def positions(self) -> Tensor:
        """This process's positions in this epoch, int64; those that are left where a fit is resumed in it."""
        order = torch.randperm(self.length, generator=generator_for(self.seed, "shuffle", self.epoch))
        resumed_epoch, seen = self.resumed
        first = seen if self.epoch == resumed_epoch else 0
        return order[torch.arange(first + self.rank, self.total, self.world_size) % self.length]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for position in self.positions().tolist():
            yield self.epoch, position


def shard(units: Sequence[Unit], rank: int, world_size: int) -> list[Unit]:
    """This process's share, without padding and without duplicates."""
    return list(units[rank::world_size])
