"""Whether a pool loader gives an acquisition function what it may see, and nothing else."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader, SequentialSampler

from acquisition.checks import Check
from datamodules.datasets import PoolDataset
from datamodules.pool import Pool
from datamodules.tensors import InOrder

__all__ = ["examine_pool"]


def examine_pool(pool: Pool, loader: DataLoader[dict[str, Any]], asked: Sequence[str]) -> list[Check]:
    """Order, augmentation, labelled units and annotations of a pool loader.

    Args:
        pool: Whose ledger says what is labelled.
        loader: Over images of the pool.
        asked: Ids of the units that are scored.
    """
    dataset = loader.dataset
    if not isinstance(dataset, PoolDataset):
        found = type(dataset).__name__
        return [Check("pool loader", found, False, "let pool_dataloader return a loader over a PoolDataset")]
    ordered = isinstance(loader.sampler, SequentialSampler | InOrder)
    random = dataset.augmentations
    labelled = set(asked) & set(pool.ledger.labelled())
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
            "take units from Pool.unlabelled, which leaves labelled ones out",
        ),
        Check(
            "labels of the pool",
            "opened" if dataset.annotated else "not opened, void neither",
            not dataset.annotated,
            "make the pool's loader without annotations",
        ),
    ]
