"""Whether a pool loader gives an acquisition function what it may see, and nothing else."""

from typing import Any

from torch.utils.data import DataLoader, SequentialSampler

from acquisition.checks import Check
from datamodules.datasets import PoolDataset
from datamodules.pool import PoolDataModule
from datamodules.tensors import InOrder

__all__ = ["examine_pool"]


def examine_pool(datamodule: PoolDataModule, loader: DataLoader[dict[str, Any]]) -> list[Check]:
    """Order, augmentation, labelled units and labels of a pool loader."""
    dataset = loader.dataset
    if not isinstance(dataset, PoolDataset):
        found = type(dataset).__name__
        return [Check("pool loader", found, False, "let pool_dataloader return a loader over a PoolDataset")]
    ordered = isinstance(loader.sampler, SequentialSampler | InOrder)
    random = dataset.augmentations
    labelled = {u.unit_id for u in dataset.units} & set(datamodule.ledger.labelled())
    return [
        Check("pool order", "as it is" if ordered else "shuffled", ordered, "let pool_dataloader use no sampler"),
        Check(
            "pool augmentation",
            ", ".join(random) or "none",
            not random,
            "use eval_transform for the pool: a score must not depend on a random crop",
        ),
        Check(
            "labelled units in the pool",
            f"{min(labelled)!r} and {len(labelled) - 1} more" if labelled else "none",
            not labelled,
            "take units from PoolDataModule.pool, which leaves labelled ones out",
        ),
        Check(
            "labels of the pool",
            "opened" if dataset.labels else "not opened, void neither",
            not dataset.labels,
            "make the pool's loader with labels=False",
        ),
    ]
