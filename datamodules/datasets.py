"""Images as samples: reading, checking, transforming, and the order in which they come."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from acquisition.annotation import UNANSWERED, VOID
from acquisition.seeding import derive_seed, generator_for
from datamodules.annotations import AnnotationSource
from datamodules.checks import check_mask
from datamodules.files import DataError
from datamodules.partitions import Partition
from datamodules.sources.source import Source
from datamodules.transforms import JointTransform

__all__ = ["EpochSampler", "ImageDataset", "PoolDataset", "collate_images", "share_of_process"]


class PoolDataset(Dataset[dict[str, Any]], ABC):
    """Images as samples, and what the doctor wants to know of them."""

    image_ids: Sequence[str]
    annotated: bool
    """Whether annotations are read; without them the truth is not even opened."""

    @property
    @abstractmethod
    def augmentations(self) -> list[str]:
        """Names of the random changes to images."""

    def __len__(self) -> int:
        return len(self.image_ids)


class ImageDataset(PoolDataset):
    """Samples {"image_id", "image": 3 x H x W float32}, and what else is asked for, read one by one.

    With annotations also "mask", H x W int64, or "label", one class, and in training "annotator", the number of the
    person whose they are, where they are one person's; with a partition also "index", the image's index map, H x W
    int32, or 1 x 1 where the image is one unit. All are transformed together with the image.

    Indexed by a position, or by (epoch, position) for augmented training: the augmentation is drawn from (seed,
    cycle, epoch, image id), so it does not depend on workers, processes or on where a fit was resumed.

    Args:
        image_ids: The images.
        source: Who reads them.
        transform: What happens to them.
        annotations: Who reads their annotations, or None for none.
        partition: Of images whose index maps are wanted.
        seed: Of the augmentation.
        cycle: Of the augmentation.
    """

    def __init__(
        self,
        image_ids: Sequence[str],
        source: Source,
        transform: JointTransform,
        annotations: AnnotationSource | None = None,
        partition: Partition | None = None,
        seed: int = 0,
        cycle: int = 0,
    ) -> None:
        self.image_ids = image_ids
        self.source = source
        self.transform = transform
        self.annotations = annotations
        self.partition = partition
        self.seed = seed
        self.cycle = cycle

    @property
    def annotated(self) -> bool:  # type: ignore[override]
        return self.annotations is not None

    @property
    def augmentations(self) -> list[str]:
        return self.transform.augmentations

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, position = index if isinstance(index, tuple) else (None, index)
        image_id = self.image_ids[position]
        self.transform.seed(derive_seed(self.seed, self.cycle, epoch or 0, image_id))
        image = self.source.read_image(image_id)
        masks: dict[str, np.ndarray] = {}
        label: dict[str, int] = {}
        who: int | None = None
        if self.annotations is not None:
            draw = None if epoch is None else (self.seed, epoch)
            annotation = self.annotations.read_annotation(image_id, draw)
            who = None if draw is None else self.annotations.drawn_by(image_id, draw)
            if annotation.ndim:
                where = self.annotations.annotation_path(image_id) or image_id
                check_mask(where, (image.shape[0], image.shape[1]), annotation, self.source.num_classes)
                masks["mask"] = np.where(annotation == UNANSWERED, VOID, annotation).astype(np.uint8)
            else:
                label["label"] = int(annotation)
        whole: dict[str, Tensor] = {}
        if self.partition is not None:
            units = self.partition.index_map(self.source, image_id)
            if units.shape == (1, 1):
                whole["index"] = torch.from_numpy(units)
            else:
                masks["index"] = units
        sample = self.transform(image, masks)
        if "mask" in sample:
            sample["mask"] = sample["mask"].long()
        drawer = {} if who is None else {"annotator": who}
        return {"image_id": image_id, **sample, **whole, **label, **drawer}


def collate_images(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch; says what to do when their sizes differ."""
    sizes = {s["image_id"]: tuple(s["image"].shape[1:]) for s in samples}
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

    Args:
        length: How many samples there are.
        batch_size: Of one process.
        seed: Of the order.
        rank: Of this process.
        world_size: How many processes there are.
        epoch: In which a resumed fit goes on.
        done: How many batches of that epoch it has seen; they are not drawn again.
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


def share_of_process(image_ids: Sequence[str], rank: int, world_size: int) -> list[str]:
    """This process's share, without padding and without duplicates."""
    return list(image_ids[rank::world_size])
