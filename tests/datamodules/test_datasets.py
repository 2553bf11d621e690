"""Images as samples, and their order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from acquisition.annotation import UNANSWERED, VOID
from datamodules.datasets import EpochSampler, ImageDataset, collate_images, share_of_process
from datamodules.files import DataError
from datamodules.partitions import Grid, WholeImages
from datamodules.sources.source import Source
from datamodules.transforms import eval_transform, train_transform


class Numbered(Source):
    """Draws images from their number; masks can be forbidden or replaced."""

    class_names = ("dark", "middle", "bright")

    def __init__(self, pair: Callable[..., Any], mask: Any = None) -> None:
        self.pair = pair
        self.mask = mask

    def images(self, split: str) -> list[str]:
        return IMAGES

    def read_image(self, image_id: str) -> np.ndarray:
        return self.pair(int(image_id), 3)[0]

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self.pair(int(image_id), 3)[1] if self.mask is None else self.mask(image_id)


IMAGES = [str(i) for i in range(6)]
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
def test_every_batch_is_full_and_every_image_is_seen(length: int, batch_size: int, world: int) -> None:
    drawn = ranks(length, batch_size, world)
    assert len({len(d) for d in drawn}) == 1
    assert all(len(d) % batch_size == 0 for d in drawn)
    flat = [p for d in drawn for p in d]
    assert set(flat) == set(range(length))
    # no more is filled up than the last batches need, and no image twice as often as another plus one
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
    images = [str(i) for i in range(count)]
    shares = [share_of_process(images, rank, world) for rank in range(world)]
    assert sorted((i for s in shares for i in s), key=int) == images
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def augmented(
    fake_pair: Callable[..., Any], epoch: int, workers: int, batch_size: int, seed: int = 0, cycle: int = 2
) -> Any:
    transform = train_transform(None, (16, 16), (0.5, 2), 0.5)
    source = Numbered(fake_pair)
    dataset = ImageDataset(IMAGES, source, transform, source, Grid(7, 9), seed, cycle)
    sampler = EpochSampler(len(IMAGES), batch_size, 0)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=collate_images)
    keys = ("image", "mask", "index")
    return {i: [b[k][n] for k in keys] for b in loader for n, i in enumerate(b["image_id"])}


def test_augmentation_depends_on_seed_cycle_epoch_and_image_alone(fake_pair: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    alone = augmented(fake_pair, 3, workers=0, batch_size=6)
    torch.manual_seed(1)
    shared = augmented(fake_pair, 3, workers=2, batch_size=2)
    assert alone.keys() == shared.keys() == set(IMAGES)
    for image_id, (image, mask, index) in alone.items():
        assert torch.equal(image, shared[image_id][0]), image_id
        assert torch.equal(mask, shared[image_id][1]), image_id
        assert torch.equal(index, shared[image_id][2]), image_id
        assert (mask.dtype, index.dtype) == (torch.int64, torch.int32)
    changes: list[dict[str, int]] = [{"epoch": 4}, {"seed": 1}, {"cycle": 3}]
    for other in (augmented(fake_pair, **{"epoch": 3, "workers": 0, "batch_size": 6, **c}) for c in changes):
        assert sum(torch.equal(alone[i][0], other[i][0]) for i in alone) <= 1


def test_without_annotations_the_truth_is_not_opened(fake_pair: Callable[..., Any]) -> None:
    def poisoned(image_id: str) -> np.ndarray:
        raise AssertionError(f"somebody opened the mask of {image_id}")

    source = Numbered(fake_pair, poisoned)
    dataset = ImageDataset(IMAGES, source, eval_transform(None))
    assert all(dataset[i].keys() == {"image_id", "image"} for i in range(len(dataset)))
    assert not dataset.annotated
    with pytest.raises(AssertionError, match="opened"):
        ImageDataset(IMAGES, source, eval_transform(None), source)[0]


def test_the_index_map_follows_the_image(fake_pair: Callable[..., Any]) -> None:
    source, grid = Numbered(fake_pair), Grid(7, 9)
    index = grid.index_map(source, "2")
    plain = ImageDataset(IMAGES, source, eval_transform(None), None, grid)[2]
    assert np.array_equal(plain["index"], index)
    resized = ImageDataset(IMAGES, source, eval_transform((12, 16)), source, grid)[2]
    assert resized["index"].shape == resized["mask"].shape == (12, 16)
    assert set(resized["index"].unique().tolist()) <= set(index.ravel().tolist())
    flipped = ImageDataset(IMAGES, source, train_transform(None, None, (1, 1), 1.0), None, grid)[2]
    assert np.array_equal(flipped["index"], index[:, ::-1])
    whole = ImageDataset(IMAGES, source, eval_transform((12, 16)), None, WholeImages())[2]
    assert whole["index"].tolist() == [[0]]


def test_what_nobody_has_drawn_yet_is_void_in_batches(fake_pair: Callable[..., Any]) -> None:
    half = np.full((24, 32), UNANSWERED, np.uint8)
    half[:12] = 2
    source = Numbered(fake_pair, lambda _: half)
    mask = ImageDataset(IMAGES, source, eval_transform(None), source)[0]["mask"]
    assert np.array_equal(mask, np.where(half == UNANSWERED, VOID, half))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((8, 8), np.uint8), r"mask of the image's size 24 x 32, got 8 x 8 in 0; redraw or resize"),
        (np.full((24, 32), 3, np.uint8), r"mask values from 0 to 2, or 255 for void, got 3 in 0; correct the mask"),
    ],
)
def test_masks_that_do_not_fit(fake_pair: Callable[..., Any], mask: np.ndarray, words: str) -> None:
    source = Numbered(fake_pair, lambda _: mask)
    with pytest.raises(DataError, match=words):
        ImageDataset(IMAGES, source, eval_transform(None), source)[0]


def test_void_is_a_valid_mask(fake_pair: Callable[..., Any]) -> None:
    void = np.full((24, 32), VOID, np.uint8)
    source = Numbered(fake_pair, lambda _: void)
    sample = ImageDataset(IMAGES, source, eval_transform(None), source)[0]
    assert sample["mask"].unique().tolist() == [VOID]


def test_images_of_several_sizes_in_one_batch() -> None:
    samples = [{"image_id": n, "image": torch.zeros(3, h, 4)} for n, h in (("a", 4), ("b", 5))]
    with pytest.raises(DataError, match=r"one size, got a 4 x 4, b 5 x 4; set data\.image_size"):
        collate_images(samples)
    assert collate_images(samples[:1] * 2)["image"].shape == (2, 3, 4, 4)
