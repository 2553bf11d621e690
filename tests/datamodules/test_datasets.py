"""Units as samples, and their order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from datamodules.units import VOID, DataError, Unit
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from datamodules.datasets import EpochSampler, UnitDataset, UnitReader, collate_units, shard
from datamodules.transforms import eval_transform, train_transform


class Reader(UnitReader):
    """Draws units from their number; masks can be forbidden or replaced."""

    def __init__(self, pair: Callable[..., Any], mask: Any = None) -> None:
        self.pair = pair
        self.mask = mask

    def read_image(self, unit: Unit) -> np.ndarray:
        return self.pair(int(unit.unit_id), 3)[0]

    def read_mask(self, unit: Unit) -> np.ndarray:
        return self.pair(int(unit.unit_id), 3)[1] if self.mask is None else self.mask(unit)


UNITS = [Unit(str(i)) for i in range(6)]
sizes = {"length": st.integers(1, 40), "batch_size": st.integers(1, 9), "world": st.integers(1, 4)}


def ranks(length: int, batch_size: int, world: int, epoch: int = 0, seed: int = 0) -> list[list[int]]:
    drawn = []
    for rank in range(world):
        sampler = EpochSampler(length, batch_size, seed, rank, world)
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert len(indices) == len(sampler)
        assert {e for e, _ in indices} == {epoch}
        drawn.append([position for _, position in indices])
    return drawn


@given(**sizes)
def test_every_batch_is_full_and_every_unit_is_seen(length: int, batch_size: int, world: int) -> None:
    drawn = ranks(length, batch_size, world)
    assert len({len(d) for d in drawn}) == 1
    assert all(len(d) % batch_size == 0 for d in drawn)
    flat = [p for d in drawn for p in d]
    assert set(flat) == set(range(length))
    # no more is filled up than the last batches need, and no unit twice as often as another plus one
    assert len(flat) - length < batch_size * world
    counts = np.bincount(flat)
    assert counts.max() - counts.min() <= 1


@given(**sizes)
def test_processes_share_nothing_before_going_round(length: int, batch_size: int, world: int) -> None:
    drawn = ranks(length, batch_size, world)
    (one,) = ranks(length, batch_size * world, 1)
    # what the processes see together, step by step, is what a single process sees
    assert [p for step in zip(*drawn, strict=True) for p in step] == one
    assert sorted(one[:length]) == list(range(length))


def test_an_epoch_can_be_drawn_again_alone() -> None:
    epochs = [ranks(20, 4, 1, epoch)[0] for epoch in range(4)]
    assert len({tuple(e) for e in epochs}) == 4
    assert ranks(20, 4, 1, 2)[0] == epochs[2]
    assert ranks(20, 4, 1, 2, seed=1)[0] != epochs[2]


@given(st.integers(0, 20), st.integers(1, 5))
def test_shards_are_a_partition(count: int, world: int) -> None:
    units = [Unit(str(i)) for i in range(count)]
    shares = [shard(units, rank, world) for rank in range(world)]
    assert sorted((u.unit_id for s in shares for u in s), key=int) == [u.unit_id for u in units]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def augmented(
    fake_pair: Callable[..., Any], epoch: int, workers: int, batch_size: int, seed: int = 0, cycle: int = 2
) -> Any:
    transform = train_transform(None, (16, 16), (0.5, 2), 0.5)
    dataset = UnitDataset(UNITS, Reader(fake_pair), transform, 3, True, seed, cycle)
    sampler = EpochSampler(len(UNITS), batch_size, 0)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=collate_units)
    return {u: (i, m) for b in loader for u, i, m in zip(b["unit_id"], b["image"], b["mask"], strict=True)}


def test_augmentation_depends_on_seed_cycle_epoch_and_unit_alone(fake_pair: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    alone = augmented(fake_pair, 3, workers=0, batch_size=6)
    torch.manual_seed(1)
    shared = augmented(fake_pair, 3, workers=2, batch_size=2)
    assert alone.keys() == shared.keys() == {u.unit_id for u in UNITS}
    for unit, (image, mask) in alone.items():
        assert torch.equal(image, shared[unit][0]), unit
        assert torch.equal(mask, shared[unit][1]), unit
        assert mask.dtype == torch.int64
    changes: list[dict[str, int]] = [{"epoch": 4}, {"seed": 1}, {"cycle": 3}]
    for other in (augmented(fake_pair, **{"epoch": 3, "workers": 0, "batch_size": 6, **c}) for c in changes):
        assert sum(torch.equal(alone[u][0], other[u][0]) for u in alone) <= 1


def test_without_masks_the_truth_is_not_opened(fake_pair: Callable[..., Any]) -> None:
    def poisoned(unit: Unit) -> np.ndarray:
        raise AssertionError(f"somebody opened the mask of {unit.unit_id}")

    dataset = UnitDataset(UNITS, Reader(fake_pair, poisoned), eval_transform(None), 3, masks=False)
    assert all(dataset[i].keys() == {"unit_id", "image"} for i in range(len(dataset)))
    with pytest.raises(AssertionError, match="opened"):
        UnitDataset(UNITS, Reader(fake_pair, poisoned), eval_transform(None), 3, masks=True)[0]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((8, 8), np.uint8), r"mask of the image's size 24 x 32, got 8 x 8 in 0; redraw or resize"),
        (np.full((24, 32), 3, np.uint8), r"mask values from 0 to 2, or 255 for void, got 3 in 0; correct the mask"),
    ],
)
def test_masks_that_do_not_fit(fake_pair: Callable[..., Any], mask: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        UnitDataset(UNITS, Reader(fake_pair, lambda _: mask), eval_transform(None), 3, masks=True)[0]


def test_void_is_a_valid_mask(fake_pair: Callable[..., Any]) -> None:
    void = np.full((24, 32), VOID, np.uint8)
    sample = UnitDataset(UNITS, Reader(fake_pair, lambda _: void), eval_transform(None), 3, masks=True)[0]
    assert sample["mask"].unique().tolist() == [VOID]


def test_images_of_several_sizes_in_one_batch() -> None:
    samples = [{"unit_id": n, "image": torch.zeros(3, h, 4)} for n, h in (("a", 4), ("b", 5))]
    with pytest.raises(DataError, match=r"one size, got a 4 x 4, b 5 x 4; set data\.image_size"):
        collate_units(samples)
    assert collate_units(samples[:1] * 2)["image"].shape == (2, 3, 4, 4)
