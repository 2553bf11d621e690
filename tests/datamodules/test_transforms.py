"""Mask and image move together. The image of these tests says in its pixels what the mask must be."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from acquisition.annotation import VOID

from datamodules.transforms import IMAGENET_MEAN, IMAGENET_STD, eval_transform, train_transform


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Four blocks of one class each, in classes 1 to 4; the image is 50 times the class."""
    mask = np.kron(np.array([[1, 2], [3, 4]], dtype=np.uint8), np.ones((20, 30), dtype=np.uint8))
    return np.repeat((50 * mask)[..., None], 3, axis=2), mask


def classes_of(image: torch.Tensor) -> torch.Tensor:
    """Back from a normalised image to 50ths of grey, in fractions of a class."""
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    return ((image * std + mean) * 255 / 50).mean(dim=0)


def test_eval_normalises_and_nothing_else(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = pair
    sample = eval_transform(None)(image, {"mask": mask})
    want = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert sample["image"].dtype == torch.float32
    torch.testing.assert_close(sample["image"], torch.from_numpy(want).permute(2, 0, 1).float(), rtol=1e-4, atol=1e-4)
    assert np.array_equal(sample["mask"], mask)


def test_a_transform_travels_with_its_settings(pair: tuple[np.ndarray, np.ndarray]) -> None:
    here = train_transform((30, 40), (16, 16), (0.5, 2.0), flip=0.5)
    there = pickle.loads(pickle.dumps(here))
    assert there.augmentations == here.augmentations == ["RandomScale", "PadIfNeeded", "RandomCrop", "HorizontalFlip"]
    assert eval_transform((30, 40)).augmentations == []
    for transform in (here, there):
        transform.seed(2**40 + 3)
    a, b = here(pair[0], {"mask": pair[1]}), there(pair[0], {"mask": pair[1]})
    assert torch.equal(a["image"], b["image"])
    assert torch.equal(a["mask"], b["mask"])


def test_eval_is_never_random(fake_pair: Callable[..., Any]) -> None:
    image, mask = fake_pair(0, 3)
    first = None
    for seed in range(5):
        transform = eval_transform((12, 16))
        transform.seed(seed)
        sample = transform(image, {"mask": mask})
        first = first or sample
        assert torch.equal(sample["image"], first["image"])
        assert torch.equal(sample["mask"], first["mask"])


@pytest.mark.parametrize("size", [(20, 30), (80, 120), (10, 60)])
def test_resizing_invents_no_class(pair: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> None:
    sample = eval_transform(size)(pair[0], {"mask": pair[1]})
    assert sample["image"].shape == (3, *size)
    assert sample["mask"].shape == size
    assert set(sample["mask"].unique().tolist()) == {1, 2, 3, 4}
    # all but the seams between blocks
    assert ((classes_of(sample["image"]) - sample["mask"]).abs() < 0.1).float().mean() > 0.85


@pytest.mark.parametrize("crop", [(24, 32), (64, 96), None])
@pytest.mark.parametrize("scale", [(0.5, 2.0), (1.0, 1.0)])
def test_the_mask_follows_the_image(pair: tuple[np.ndarray, np.ndarray], crop: Any, scale: tuple[float, float]) -> None:
    transform = train_transform(None, crop, scale, flip=0.5)
    seen = set()
    for seed in range(25):
        transform.seed(seed)
        sample = transform(pair[0], {"mask": pair[1]})
        mask = sample["mask"]
        assert mask.shape == (crop or (40, 60))
        assert sample["image"].shape == (3, *mask.shape)
        assert set(mask.unique().tolist()) <= {1, 2, 3, 4, VOID}
        known = mask != VOID
        error = (classes_of(sample["image"]) - mask).abs()
        assert (error[known] < 0.1).float().mean() > 0.85, f"seed {seed}"
        # what was padded is black and void
        assert (classes_of(sample["image"])[~known].abs() < 0.1).all()
        seen.add(tuple(mask.flatten()[::7].tolist()))
    assert len(seen) > 1


def test_scale_reaches_from_half_to_double() -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[24:40, 24:40] = 1
    image = np.repeat(200 * mask[..., None], 3, axis=2)
    transform = train_transform(None, (128, 128), (0.5, 2.0), flip=0)
    sides = []
    for seed in range(200):
        transform.seed(seed)
        sides.append((transform(image, {"mask": mask})["mask"] == 1).sum().sqrt().item())
    assert 7.5 <= min(sides) < 9
    assert 30 < max(sides) <= 33


@pytest.mark.parametrize(("flip", "lowest", "highest"), [(0.0, 0, 0), (0.5, 30, 70), (1.0, 100, 100)])
def test_flip_happens_as_often_as_it_should(
    pair: tuple[np.ndarray, np.ndarray], flip: float, lowest: int, highest: int
) -> None:
    transform = train_transform(None, None, (1, 1), flip)
    flipped = 0
    for seed in range(100):
        transform.seed(seed)
        mask = transform(pair[0], {"mask": pair[1]})["mask"].numpy()
        is_flipped = np.array_equal(mask, pair[1][:, ::-1])
        assert is_flipped or np.array_equal(mask, pair[1])
        flipped += is_flipped
    assert lowest <= flipped <= highest
