"""The only place where a stack looks into a data set."""

import numpy as np
import torch
from torch import Tensor

from datamodules.datamodule import PoolDataModule
from datamodules.datasets import EpochSampler
from datamodules.pool import Pool
from datamodules.sources.in_memory import TensorSource

__all__ = ["StackImages"]


class StackImages:
    """A data set in memory, as a stack reads it: what is the same for all runs, and what a run's labels make of it.

    Args:
        source: The data set.
    """

    def __init__(self, source: TensorSource) -> None:
        self.source = source
        self.train, self.classes, self.image_ids = source.tensors("train")
        self.val, self.val_classes, _ = source.tensors("val")
        self._names = np.array(self.image_ids, dtype=object)

    def samples(self, data: PoolDataModule, epochs: int) -> tuple[Tensor, Tensor]:
        """What a fit trains on.

        Args:
            data: The run's.
            epochs: Of the fit.

        Returns:
            Its batches as positions in the train split, steps x batch, and the classes of the whole split, N, as the
            oracle gave them.
        """
        images = data.pool.training_images()
        positions = torch.tensor(self._rows(images))
        given = self.classes.clone()
        given[positions] = torch.tensor([data.pool.read_class(image_id) for image_id in images])
        sampler, batches = EpochSampler(len(images), data.batch_size, data.seed), []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            batches.append(positions[sampler.positions()])
        return torch.cat(batches).view(-1, data.batch_size), given

    def unlabelled(self, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """What a query may choose from.

        Args:
            pool: The run's.

        Returns:
            For each image of the train split whether it is not labelled, N booleans, and the ids of those, as objects.
        """
        free = np.ones(len(self._names), dtype=bool)
        free[self._rows(pool.ledger.labelled())] = False
        return free, self._names[free]

    def _rows(self, image_ids: list[str]) -> list[int]:
        return [self.source.row(image_id)[1] for image_id in image_ids]
