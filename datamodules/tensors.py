"""A pool of small images that live in memory as tensors."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.utils.data import DataLoader, Sampler

from acquisition.seeding import derive_seed, generator_for
from datamodules.datasets import EpochSampler, PoolDataset
from datamodules.labels import LabelPool
from datamodules.units import VOID, DataError, Unit

__all__ = ["EpochBatches", "InOrder", "TensorDataset", "TensorPool", "augmented"]


class TensorPool(LabelPool):
    """Images and classes as tensors: a batch is one indexing operation, with no Python per image.

    A subclass gives `class_names`, `mean` and `std` (per channel, of pixels in [0, 1]) and `read`.

    num_train, num_val: take only so many images of the training and of the validation split. held_out: validate on
    so many of the training images and test on the test images; 0 validates on the test images, as thesis 3.1 does.
    All three choose by a hash of the unit id: the same images for every seed, a larger number holds those of a
    smaller one. shift: random shifts of training images by up to so many pixels. flip: probability of a horizontal
    flip of training images. ood: another data set, of which ood_count training images are mixed into the train split;
    they are of none of the classes (seed 004, discussion 4): queried, they cost a label and bring no training sample.
    The others are those of `LabelPool`.

    Unit ids are PART_NNNNNN, with the part of the files (train or test) and the position there; "ood_" before those of
    the other data set.
    """

    mean: ClassVar[Sequence[float]]
    std: ClassVar[Sequence[float]]

    def __init__(
        self,
        num_train: int | None = None,
        num_val: int | None = None,
        held_out: int = 0,
        shift: int = 0,
        flip: float = 0.0,
        ood: "TensorPool | None" = None,
        ood_count: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (ood is None) != (ood_count == 0):
            raise ValueError(f"data.ood and data.ood_count go together, got {ood} and {ood_count}; set both or neither")
        self.num_train = num_train
        self.num_val = num_val
        self.held_out = held_out
        self.shift = shift
        self.flip = flip
        self.ood = ood
        self.ood_count = ood_count
        self._tensors: dict[str, tuple[Tensor, Tensor, list[str]]] = {}
        self._positions: dict[str, tuple[str, int]] = {}

    @abstractmethod
    def read(self, part: str) -> tuple[Tensor, Tensor] | None:
        """Images, N x C x H x W uint8, and classes, N integers, of the part "train" or "test"; None without it."""

    def tensors(self, split: str) -> tuple[Tensor, Tensor, list[str]]:
        """Normalised images, N x C x H x W float32, classes, N int64, and unit ids of "train", "val" or "test".

        The classes are the data set's own, whoever is the oracle; `VOID` where an image is of none of them. Empty
        tensors where there is no such split.
        """
        if split not in self._tensors:
            self._tensors[split] = self._make(split)
        return self._tensors[split]

    def find_units(self, split: str) -> list[Unit]:
        _, labels, unit_ids = self.tensors(split)
        self._positions |= {unit_id: (split, position) for position, unit_id in enumerate(unit_ids)}
        return [Unit(unit_id, label=label) for unit_id, label in zip(unit_ids, labels.tolist(), strict=True)]

    def size(self, unit: Unit) -> tuple[int, int]:
        height, width = self.tensors("train")[0].shape[2:]
        return int(height), int(width)

    def to_display(self, image: np.ndarray) -> np.ndarray:
        pixels = image.transpose(1, 2, 0) * np.array(self.std) + np.array(self.mean)
        grey_or_rgb = (pixels * 255).round().clip(0, 255).astype(np.uint8)
        return np.broadcast_to(grey_or_rgb, (*grey_or_rgb.shape[:2], 3))

    def loader(self, units: Sequence[Unit], training: bool, labels: bool) -> DataLoader[dict[str, Any]]:
        dataset = self._dataset(units, training, labels)
        sampler: Sampler[Any] = InOrder(len(units), self.eval_batch_size)
        if training:
            sampler = EpochBatches(len(units), self.batch_size, self.seed, *self.rank_and_world_size, *self.progress)
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            collate_fn=_as_it_is,
            pin_memory=self.pins_memory,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors; Lightning would look at every unit id too."""
        return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def _dataset(self, units: Sequence[Unit], training: bool, labels: bool) -> "TensorDataset":
        places = [self._positions[u.unit_id] for u in units]
        images = self.tensors(places[0][0] if places else "train")[0]
        positions = torch.tensor([position for _, position in places], dtype=torch.int64)
        classes = torch.tensor([self.class_index(u) for u in units]) if labels else None
        flip, shift = (self.flip, self.shift) if training else (0.0, 0)
        cycle = self.ledger.cycle if training else 0
        return TensorDataset(units, images, positions, classes, flip, shift, self.seed, cycle)

    def _make(self, split: str) -> tuple[Tensor, Tensor, list[str]]:
        part, kept = "train", self.num_train
        if split != "train":
            part, kept = ("train" if split == "val" and self.held_out else "test"), self.num_val
        found = None if split == "test" and not self.held_out else self.read(part)
        if found is None:
            return torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), []
        images, labels = self._checked(*found, part)
        unit_ids = [f"{part}_{position:06d}" for position in range(len(images))]
        rows = list(range(len(images)))
        if part == "train" and self.held_out:
            held_out = set(_chosen(unit_ids, rows, self.held_out, "held out"))
            rows = [row for row in rows if (row in held_out) == (split == "val")]
        if kept is not None and split != "test":
            rows = _chosen(unit_ids, rows, kept, "subset")
        images, labels, unit_ids = images[rows], labels[rows], [unit_ids[row] for row in rows]
        if split == "train" and self.ood is not None:
            foreign, foreign_ids = self._foreign(self.ood, images.shape[1:])
            images = torch.cat([images, foreign])
            labels = torch.cat([labels, torch.full((len(foreign),), VOID)])
            unit_ids += foreign_ids
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        return images.float().div_(255).sub_(mean).div_(std), labels, unit_ids

    def _foreign(self, other: "TensorPool", shape: Sequence[int]) -> tuple[Tensor, list[str]]:
        found = other.read("train")
        if found is None or found[0].shape[1:] != shape:
            got = "none" if found is None else " x ".join(map(str, found[0].shape[1:]))
            raise DataError(
                f"expected images of {' x '.join(map(str, shape))} in data.ood ({type(other).__name__}), got {got}; "
                "choose a data set of the same size and channels"
            )
        names = [f"ood_train_{position:06d}" for position in range(len(found[0]))]
        rows = _chosen(names, range(len(names)), self.ood_count, "ood")
        return found[0][rows], [names[row] for row in rows]

    def _checked(self, images: Tensor, labels: Tensor, part: str) -> tuple[Tensor, Tensor]:
        where = f"the {part} part of {type(self).__name__}"
        if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1] != len(self.mean):
            raise DataError(
                f"expected images N x {len(self.mean)} x H x W of uint8 in {where}, got {tuple(images.shape)} of "
                f"{images.dtype}; check data.root"
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
                "data.root"
            )
        return images, labels.long()


class TensorDataset(PoolDataset):
    """Whole batches {"unit_id", "image"[, "label"]}, indexed by a slice, or by (epoch, positions) for training.

    images: of a whole split; positions: of the units there. The augmentation is drawn from (seed, cycle, epoch) for
    all units at once, so that it does not depend on batches, processes or on where a fit was resumed.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        images: Tensor,
        positions: Tensor,
        classes: Tensor | None,
        flip: float = 0.0,
        shift: int = 0,
        seed: int = 0,
        cycle: int = 0,
    ) -> None:
        self.units = units
        self.labels = classes is not None
        self.flip = flip
        self.shift = shift
        self.seed = seed
        self.cycle = cycle
        self._images = images
        self._positions = positions
        self._classes = classes
        self._unit_ids = np.array([u.unit_id for u in units], dtype=object)
        self._draws: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def augmentations(self) -> list[str]:
        return [name for name, size in (("flip", self.flip), ("shift", self.shift)) if size]

    def __getitem__(self, index: "slice | tuple[int, Tensor]") -> dict[str, Any]:
        epoch, which = index if isinstance(index, tuple) else (0, index)
        images = self._images[self._positions[which]]
        if self.augmentations:
            images = augmented(images, self._uniform(epoch)[which], self.flip, self.shift)
        batch = {"unit_id": self._unit_ids[which].tolist(), "image": images}
        return batch if self._classes is None else {**batch, "label": self._classes[which]}

    def _uniform(self, epoch: int) -> Tensor:
        if self._draws[0] != epoch:
            generator = generator_for(self.seed, "augmentation", self.cycle, epoch)
            self._draws = (epoch, torch.rand(len(self.units), 3, generator=generator))
        return self._draws[1]


class EpochBatches(EpochSampler):
    """The batches of `EpochSampler`, each as (epoch, positions)."""

    def __init__(self, length: int, batch_size: int, seed: int, *process_and_progress: int) -> None:
        super().__init__(length, batch_size, seed, *process_and_progress)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return super().__len__() // self.batch_size

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:  # type: ignore[override]
        for positions in self.positions().split(self.batch_size):
            yield self.epoch, positions


class InOrder(Sampler[slice]):
    """Slices of up to batch_size, from first to last."""

    def __init__(self, length: int, batch_size: int) -> None:
        self.length = length
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[slice]:
        for start in range(0, self.length, self.batch_size):
            yield slice(start, min(start + self.batch_size, self.length))


def augmented(images: Tensor, uniform: Tensor, flip: float, shift: int) -> Tensor:
    """Flip and shift N x C x H x W images; uniform: N x 3 numbers in [0, 1), for flip, rows and columns.

    What a shift uncovers is 0, the mean of normalised pixels.
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


def _chosen(unit_ids: Sequence[str], rows: Sequence[int], count: int, why: str) -> list[int]:
    """`count` of the rows by a hash of their ids, in the order of the rows."""
    if not 0 < count <= len(rows):
        raise DataError(f"expected to choose 1 to {len(rows)} images ({why}), got {count}; change the number")
    return sorted(sorted(rows, key=lambda row: derive_seed(why, unit_ids[row]))[:count])


def _as_it_is(batch: Any) -> Any:
    return batch
