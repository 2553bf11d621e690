"""Lightning's view of a pool: loaders."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from acquisition.identity import Described
from datamodules.annotations import AnnotationSource
from datamodules.datasets import EpochSampler, ImageDataset, collate_images, share_of_process
from datamodules.files import DataError
from datamodules.initial import AllAnswered, FromRun, InitialSet
from datamodules.loop import progress_in_epoch
from datamodules.oracle import HiddenTruth, Oracle
from datamodules.partitions import Partition, WholeImages
from datamodules.pool import Pool
from datamodules.size_defaults import BATCH_SIZE
from datamodules.sources.in_memory import TensorSource
from datamodules.sources.source import Source
from datamodules.tensors import EpochBatches, InOrder, TensorDataset, as_it_is
from datamodules.transforms import eval_transform, to_display, train_transform

__all__ = ["PoolDataModule"]

_UNSEEN = frozenset(
    {
        "run_dir", "seed", "initial", "oracle", "batch_size", "eval_batch_size", "num_workers", "crop_size", "scale",
        "flip", "shift", "allow_missing_classes", "initial_run", "max_void",
    }
)  # fmt: skip
"""Arguments that change neither an image of the pool nor its truth."""


class PoolDataModule(Described, pl.LightningDataModule):
    """Loaders over the labelled split, the pool and the validation split of a data set.

    Training batches hold {"image_id": N names, "image": N x C x H x W float32} and the annotation, "mask" (N x H x W
    int64, void where no unit is labelled) or "label" (N int64), and where each annotation is one person's "annotator"
    (N int64, their number); every batch is full.

    Args:
        source: The data set.
        partition: What is queried, labelled and paid: whole images, or parts of them.
        oracle: Who answers queries; the data set's own annotations unless given.
        initial: The labelled set of cycle 0, chosen among the units that the oracle has answered; all of those unless
            given.
        run_dir: Where `ledger.sqlite` stands.
        seed: Of the initial set, shuffling and augmentation.
        batch_size: Images per batch and process in training; 8 unless given, on the command line fewer where images are
            large or few.
        eval_batch_size: The same for validation and queries; batch_size unless given.
        num_workers: Processes that read images.
        image_size: (height, width) in pixels to which every image is resized first, or None for their own; on the
            command line, where crop_size is left out as well, a common size for images of several sizes or of more than
            640 pixels.
        crop_size: (height, width) of training crops after random scaling, or None for whole images.
        scale: Smallest and largest factor before a crop.
        flip: Probability of a horizontal flip in training; the data set's own unless given (0.5, or 0 for digits and
            the like).
        shift: For data sets in memory: the most pixels by which training images are shifted at random.
        allow_missing_classes: Let the first fit begin without an image of every class where images are classified,
            without a label of every class that a corruption sees, or where a class of classes.txt occurs in no mask.
        initial_run: The directory of a run whose initial set this one takes in the place of `initial`; a fit takes its
            first model, too.
        mask_values: What the values of mask files mean, where they are no class indices: grey values up to 65535, or
            colours as [128, 64, 128], "128,64,128" or "#804080", to classes by index or name, "void", or "unanswered"
            for what is not drawn yet; {0: 0, 255: 1}, say. For the data set's own masks and those that people draw. A
            value that is not named is refused, but for 254 (or the colour (254, 254, 254)), which is unanswered.
        max_void: Share of void pixels, 0 to 1, above which masks are refused before the first fit, 0.99 unless
            given; 1 for masks of which next to nothing is drawn on purpose.

    Raises:
        DataError: If a setting is out of its range, or does not go with the data set.
    """

    def __init__(
        self,
        source: Source,
        partition: Partition = WholeImages(),  # noqa: B008 - a setting; here, run directories name it
        oracle: Oracle | None = None,
        initial: InitialSet | None = None,
        run_dir: str = "runs/default",
        seed: int = 0,
        batch_size: int | None = None,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        image_size: Sequence[int] | None = None,
        crop_size: Sequence[int] | None = None,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float | None = None,
        shift: int = 0,
        allow_missing_classes: bool = False,
        initial_run: str | None = None,
        mask_values: dict[int | str, int | str] | None = None,
        max_void: float | None = None,
    ) -> None:
        super().__init__()
        if max_void is not None and not 0 <= max_void <= 1:
            raise DataError(f"data.max_void is a share: expected 0 to 1, got {max_void}")
        if mask_values is not None:
            source = source.with_mask_values(mask_values)
            if oracle is not None and not oracle.knows_truth and not isinstance(partition, WholeImages):
                assert source.mask_values is not None
                source.mask_values.check_partial()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise DataError(f"data.{name} must be at least 1, got {size}")
        if num_workers < 0:
            raise DataError(f"data.num_workers must be 0 or more processes, got {num_workers}")
        in_memory = isinstance(source, TensorSource)
        if source.target == "label" and not isinstance(partition, WholeImages):
            raise DataError(
                f"{type(source).__name__} has one class per image, so its images are units as they are: expected "
                f"data.partition WholeImages, got {type(partition).__name__}; leave it out"
            )
        if in_memory and (image_size or crop_size):
            raise DataError(
                f"{type(source).__name__} keeps its images in memory and takes them as they are: leave out "
                "data.image_size and data.crop_size"
            )
        if image_size and not partition.survives_resizing:
            raise DataError(
                f"data.image_size would lose units of data.partition {type(partition).__name__}, got "
                f"{list(image_size)}: leave it out; to work on smaller images set data.source to "
                "datamodules.sources.resized.Resized"
            )
        if crop_size and tuple(scale) != (1, 1) and not partition.survives_resizing:
            raise DataError(
                f"data.scale would lose units of data.partition {type(partition).__name__}, or count them twice, got "
                f"{list(scale)}: set it to [1, 1]"
            )
        if not (source.drawable or oracle is None or oracle.knows_truth):
            raise DataError(
                f"data.oracle {type(oracle).__name__} needs images that people can draw on, got data.source "
                f"{type(source).__name__}, which has none of that size; resize the files and take them as they are"
            )
        if shift and not in_memory:
            raise DataError(f"data.shift is for data sets in memory, got {shift}; set data.crop_size instead")
        # one ledger for all nodes
        self.prepare_data_per_node = False
        self.source = source
        self.seed = seed
        self.batch_size = batch_size or BATCH_SIZE
        self.eval_batch_size = eval_batch_size or self.batch_size
        self.num_workers = num_workers
        self.flip = source.flip if flip is None else flip
        self.shift = shift
        self.initial_run = None if initial_run is None else Path(initial_run)
        self.pool = Pool(
            source,
            partition,
            oracle or HiddenTruth(),
            (initial or AllAnswered()) if initial_run is None else FromRun(initial_run),
            Path(run_dir),
            seed,
            allow_missing_classes,
            0.99 if max_void is None else max_void,
        )
        if not in_memory:
            self._train_transform = train_transform(image_size, crop_size, scale, self.flip)
            self._eval_transform = eval_transform(image_size)

    def at(self, run_dir: Path, seed: int) -> Self:
        """The same data for another run: what has been read is shared, the ledger is not."""
        other = copy.copy(self)
        other.seed, other.pool = seed, self.pool.at(run_dir, seed)
        return other

    def prepare_data(self) -> None:
        """Before a fit: label the initial set if nothing is labelled yet."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            self.pool.start()

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The labelled split, shuffled and augmented; every batch is full."""
        return self._loader(self.pool.training_images(), self.pool.training_annotations(), training=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation split, as it is."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test split, or the validation split where there is none."""
        return self._evaluation("test" if self.pool.units.images("test") else "val")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The images of the pool without annotations."""
        return self.pool_dataloader(self.pool.units.images_of(self.pool.unlabelled))

    def pool_dataloader(self, image_ids: Sequence[str], truth: bool = False) -> DataLoader[dict[str, Any]]:
        """This process's share of some images of the train split: no augmentation, no shuffling.

        Batches also hold "index", the images' index maps: N x H x W int32, or N x 1 x 1 where images are units.

        Args:
            image_ids: The images.
            truth: Read the data set's own annotations too, for strategies declared as oracle strategies.

        Raises:
            DataError: If the truth is asked for where people label.
        """
        if truth:
            self.pool.check_truth()
        return self._loader(share_of_process(image_ids, *self._process), self.source if truth else None, indexed=True)

    def image_dataloader(self, image_ids: Sequence[str]) -> DataLoader[dict[str, Any]]:
        """Images of any split, without annotations or index maps: no augmentation, no shuffling.

        Args:
            image_ids: The images.
        """
        return self._loader(image_ids, None)

    def labelled_dataloader(self, image_ids: Sequence[str]) -> DataLoader[dict[str, Any]]:
        """Images with what trains of their annotations, as they are: no augmentation, no shuffling.

        Batches also hold "index", as those of `pool_dataloader` do.

        Args:
            image_ids: Images with a labelled unit.
        """
        return self._loader(image_ids, self.pool.training_annotations(), indexed=True)

    def view(self, unit_ids: Sequence[str], truth: bool) -> str:
        """What scores of units of the train split depend on: text, equal in every process.

        That is every argument but those that change no image, and each image file's size and time.

        Args:
            unit_ids: The units.
            truth: Whether the data set's own annotations are read too.
        """
        images = self.pool.units.images_of(unit_ids)
        paths = [self.source.path(image_id) for image_id in images]
        if truth:
            paths += [path for image_id in images for path in self.source.annotation_files(image_id)]
        unseen = _UNSEEN if self.source.mask_values else _UNSEEN | {"mask_values"}
        return repr((self.description(unseen), truth, list(unit_ids), [_stamp(path) for path in paths]))

    def to_display(self, image: np.ndarray) -> np.ndarray:
        """A normalised C x H x W image, as loaders give it, to H x W x 3, uint8."""
        return self.source.to_display(image) if isinstance(self.source, TensorSource) else to_display(image)

    def resized(self, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Masks of one image, H x W each, in the size of those that the network learns from."""
        return {name: self._eval_transform.resize(mask) for name, mask in masks.items()}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors; Lightning would look at every image id too."""
        if not isinstance(batch, dict):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def _evaluation(self, split: str) -> DataLoader[dict[str, Any]]:
        images = self.pool.images(split)
        rank, world_size = self._process
        if len(images) < world_size:
            raise DataError(
                f"the {split} split has {len(images)} images for {world_size} processes; use fewer devices or add "
                "images"
            )
        judge = self.pool.judge if split == "val" else self.source
        return self._loader(share_of_process(images, rank, world_size), judge)

    def _loader(
        self,
        image_ids: Sequence[str],
        annotations: AnnotationSource | None,
        training: bool = False,
        indexed: bool = False,
    ) -> DataLoader[dict[str, Any]]:
        epoch = (len(image_ids), self.batch_size, self.seed, *self._process, *progress_in_epoch(self.trainer))
        cycle = self.pool.ledger.cycle if training else 0
        sampler: Sampler[Any] | None
        if isinstance(self.source, TensorSource):
            classes = None if annotations is None else _classes(annotations, image_ids)
            flip, shift = (self.flip, self.shift) if training else (0.0, 0)
            sampler = EpochBatches(*epoch) if training else InOrder(len(image_ids), self.eval_batch_size)
            return DataLoader(
                TensorDataset(image_ids, self.source, classes, flip, shift, self.seed, cycle),
                batch_size=None,
                sampler=sampler,
                collate_fn=as_it_is,
                pin_memory=self._pins_memory,
            )
        if annotations is not None:
            self.source.prepare()
        transform = self._train_transform if training else self._eval_transform
        partition = self.pool.units.partition if indexed else None
        # by keyword, because Lightning makes the loader again with another sampler for predict
        return DataLoader(
            ImageDataset(image_ids, self.source, transform, annotations, partition, self.seed, cycle),
            batch_size=self.batch_size if training else self.eval_batch_size,
            sampler=EpochSampler(*epoch) if training else None,
            num_workers=self.num_workers,
            collate_fn=collate_images,
            pin_memory=self._pins_memory,
        )

    @property
    def _process(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def _pins_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def _classes(annotations: AnnotationSource, image_ids: Sequence[str]) -> Tensor:
    return torch.tensor([int(annotations.read_annotation(image_id)) for image_id in image_ids], dtype=torch.int64)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        # whoever reads the file says so better
        found = None
    return found and (found.st_size, found.st_mtime_ns)
