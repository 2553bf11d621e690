"""The only place where a stack looks into a data set."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.datasets import EpochSampler
from datamodules.pool import PoolDataModule
from datamodules.tensors import TensorPool

__all__ = ["StackImages"]


class StackImages:
    """A data set in memory, as a stack reads it: what is the same for all runs, and what a run's labels make of it.

    Args:
        data: Of any of the runs.
    """

    def __init__(self, data: PoolDataModule) -> None:
        assert isinstance(data, TensorPool)
        self.data = data
        self.train, self.classes, self.unit_ids = data.tensors("train")
        self.val, self.val_classes, _ = data.tensors("val")
        self._names = np.array(self.unit_ids, dtype=object)
        self._rows = {unit_id: row for row, unit_id in enumerate(self.unit_ids)}

    def of_run(self, run_dir: Path, seed: int) -> PoolDataModule:
        """The same data with a run's own seed and ledger."""
        return self.data.at(run_dir, seed)

    def samples(self, data: PoolDataModule, epochs: int) -> tuple[Tensor, Tensor]:
        """What a fit trains on.

        Args:
            data: The run's.
            epochs: Of the fit.

        Returns:
            Its batches as positions in the train split, steps x batch, and the classes of the whole split, N, as the
            oracle gave them.

        """
        assert isinstance(data, TensorPool)
        units = data.training_units
        positions = torch.tensor([self._rows[u.unit_id] for u in units])
        given = self.classes.clone()
        given[positions] = torch.tensor([data.class_index(u) for u in units])
        sampler, batches = EpochSampler(len(units), data.batch_size, data.seed), []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            batches.append(positions[sampler.positions()])
        return torch.cat(batches).view(-1, data.batch_size), given

    def pool(self, data: PoolDataModule) -> tuple[np.ndarray, np.ndarray]:
        """What a query may choose from.

        Args:
            data: The run's.

        Returns:
            For each unit of the train split whether it is not labelled, N booleans, and the ids of those, as objects.

        """
        free = np.ones(len(self._names), dtype=bool)
        free[[self._rows[unit_id] for unit_id in data.ledger.labelled()]] = False
        return free, self._names[free]
