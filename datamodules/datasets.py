"""Units as samples: reading, checking, transforming."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import albumentations as A  # noqa: N812 - the library's own convention
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate

from acquisition.seeding import derive_seed, generator_for
from datamodules.units import VOID, DataError, Unit

__all__ = ["EpochSampler", "UnitDataset", "UnitReader", "collate_units", "shard"]


class UnitReader(Protocol):
    """Where pixels come from: a data module."""

    def read_image(self, unit: Unit) -> np.ndarray:
        """H x W x 3, uint8."""

    def read_mask(self, unit: Unit) -> np.ndarray:
        """H x W, uint8, class indices or `VOID`."""

    def read_training_mask(self, unit: Unit, epoch: int) -> np.ndarray:
        """The mask to train on in an epoch: `read_mask`, unless several people's masks take turns."""
        return self.read_mask(unit)


class UnitDataset(Dataset[dict[str, Any]]):
    """Samples {"unit_id", "image": 3 x H x W float32[, "mask": H x W int64]}.

    Indexed by a position, or by (epoch, position) for augmented training: the augmentation is drawn from (seed,
    epoch, unit id), so it does not depend on workers, processes or on where a fit was resumed, and the mask is that
    of the epoch. Without masks the truth is not even opened.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        reader: UnitReader,
        transform: A.Compose,
        num_classes: int,
        masks: bool,
        seed: int = 0,
    ) -> None:
        self.units = units
        self.reader = reader
        self.transform = transform
        self.num_classes = num_classes
        self.masks = masks
        self.seed = seed

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, position = index if isinstance(index, tuple) else (None, index)
        unit = self.units[position]
        # albumentations wants 32 bits
        self.transform.set_random_seed(derive_seed(self.seed, epoch or 0, unit.unit_id) % 2**32)
        image = self.reader.read_image(unit)
        if not self.masks:
            return {"unit_id": unit.unit_id, "image": self.transform(image=image)["image"]}
        reader = self.reader
        mask = reader.read_mask(unit) if epoch is None else reader.read_training_mask(unit, epoch)
        check_mask(unit, image, mask, self.num_classes)
        sample = self.transform(image=image, mask=mask)
        return {"unit_id": unit.unit_id, "image": sample["image"], "mask": sample["mask"].long()}


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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self.length, generator=generator_for(self.seed, "shuffle", self.epoch)).tolist()
        resumed_epoch, seen = self.resumed
        first = seen if self.epoch == resumed_epoch else 0
        for i in range(first + self.rank, self.total, self.world_size):
            yield self.epoch, order[i % self.length]


def shard(units: Sequence[Unit], rank: int, world_size: int) -> list[Unit]:
    """This process's share, without padding and without duplicates."""
    return list(units[rank::world_size])
