"""What a cycle's fit trains on, class by class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.annotations import AnnotationSource
from datamodules.pool import Pool
from records.files import write_table
from records.run_directory import CycleDirectory

__all__ = ["labelled_classes", "write_labelled_classes"]

_FEW = 200
"""Images for which no processes are started."""


def labelled_classes(pool: Pool, workers: int = 0) -> pd.DataFrame:
    """Count what is labelled. Every labelled image's annotation is read once, as in one epoch of training.

    Args:
        pool: Of the run.
        workers: Processes that read masks where there are many, for nobody trains meanwhile.

    Returns:
        class and units, where images are classified; or class, pixels, and images in which any of these are. Void, and
        what nobody has drawn, is no class.
    """
    names = list(pool.source.class_names)
    if pool.source.target == "label":
        found = [pool.read_class(pool.image_of(unit_id)) for unit_id in pool.labelled]
        units = np.bincount(np.array(found, dtype=np.int64), minlength=len(names))[: len(names)]
        return pd.DataFrame({"class": names, "units": units})
    pool.source.prepare()
    counts = _Counts(pool.training_annotations(), pool.training_images(), len(names))
    # a generator of its own, because the first process alone counts, and all draw the same numbers
    generator, workers = torch.Generator(), workers if len(counts) > _FEW else 0
    pixels, images = np.zeros((2, len(names)), dtype=np.int64)
    for found in DataLoader(counts, batch_size=None, num_workers=workers, generator=generator):
        pixels += found.numpy()
        images += found.numpy() > 0
    return pd.DataFrame({"class": names, "pixels": pixels, "images": images})


def write_labelled_classes(directory: CycleDirectory, counts: pd.DataFrame) -> None:
    """Write the counts of a fit into its cycle's folder.

    Args:
        directory: The cycle's.
        counts: From `labelled_classes`.
    """
    write_table(directory.labelled_classes, counts)


class _Counts(Dataset[torch.Tensor]):
    """How many pixels of each class an image's annotation has."""

    def __init__(self, annotations: AnnotationSource, image_ids: Sequence[str], num_classes: int) -> None:
        self.annotations, self.image_ids, self.num_classes = annotations, image_ids, num_classes

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> torch.Tensor:
        mask = self.annotations.read_annotation(self.image_ids[index])
        return torch.bincount(torch.tensor(mask).flatten(), minlength=self.num_classes)[: self.num_classes]
