"""Segment reductions against plain loops over units, in numpy and float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acquisition.aggregation import Aggregation, CountAbove, Mean, Sum
from acquisition.features import Feature
from acquisition.functions import BALD, Entropy, Random
from acquisition.predictors import MCDropout
from acquisition.regions import Regions
from acquisition.scorer import Scorer
from acquisition.truth import Incorrect, LowestMIoU, TrueClassLoss

REDUCTIONS: list[tuple[Aggregation, Callable[[np.ndarray], float]]] = [
    (Mean(), np.mean),
    (Sum(), np.sum),
    (CountAbove(0.5), lambda values: float((values > 0.5).mean())),
]


def made(rng: np.random.Generator, images: int, size: tuple[int, int], per_image: int, asked: float) -> Regions:
    """Regions with random index maps: units in pieces, units with no pixel at all, pixels of no unit."""
    names = [(i, k) for i in range(images) for k in range(per_image)]
    names = [names[i] for i in rng.permutation(len(names)) if rng.random() < asked]
    own = rng.integers(-1, per_image, (images, *size))
    index = np.full((images, *size), -1)
    for position, (image, unit) in enumerate(names):
        index[image][own[image] == unit] = position
    places = [(image, rng.uniform(0, 1), rng.uniform(0, 1)) for image, _ in names]
    return Regions(
        [f"image{i}" for i in range(images)],
        [f"image{i}#{k}" for i, k in names],
        torch.from_numpy(index),
        torch.tensor(places, dtype=torch.float64).reshape(-1, 3),
    )


def pixels(regions: Regions, unit: int, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Image, row and column of what a unit has among values of a size, looked at one by one."""
    index = regions.index.numpy()
    found = []
    for image in range(len(index)):
        for row in range(size[0]):
            for column in range(size[1]):
                y = math.floor((row + 0.5) * index.shape[1] / size[0])
                x = math.floor((column + 0.5) * index.shape[2] / size[1])
                if index[image, y, x] == unit:
                    found.append((image, row, column))
    image, y, x = regions.places[unit].tolist()
    return found or [(int(image), math.floor(y * size[0]), math.floor(x * size[1]))]


cases = given(
    st.integers(0, 2**32 - 1), st.integers(1, 3), st.tuples(st.integers(1, 7), st.integers(1, 7)), st.integers(1, 6),
    st.sampled_from([1.0, 0.6, 0.0]), st.sampled_from(["same", "half", "twice", "odd", "one"]),
)  # fmt: skip


@cases
@settings(max_examples=60, deadline=None)
def test_every_aggregation_against_a_loop(
    seed: int, images: int, size: tuple[int, int], per_image: int, asked: float, sized: str
) -> None:
    rng = np.random.default_rng(seed)
    regions = made(rng, images, size, per_image, asked)
    height, width = size
    other = {
        "same": size, "half": (-(-height // 2), -(-width // 2)), "twice": (2 * height, 2 * width),
        "odd": (5, 3), "one": (1, 1),
    }[sized]  # fmt: skip
    values = torch.from_numpy(rng.uniform(0, 2, (images, *other)).astype(np.float32))
    for aggregation, reduce in REDUCTIONS:
        got = aggregation(values, regions)
        assert got.dtype == torch.float64
        expected = [
            reduce(np.array([values[p].item() for p in pixels(regions, u, other)]))
            for u in range(len(regions.unit_ids))
        ]
        np.testing.assert_allclose(got.numpy(), np.array(expected), rtol=1e-12)
    if other == (1, 1):
        assert torch.equal(Mean()(values[:, 0, 0], regions), Mean()(values, regions))


@cases
@settings(max_examples=30, deadline=None)
def test_truth_counts_no_void_and_no_other_unit(
    seed: int, images: int, size: tuple[int, int], per_image: int, asked: float, sized: str
) -> None:
    rng = np.random.default_rng(seed)
    regions = made(rng, images, size, per_image, asked)
    logits = torch.from_numpy(rng.normal(size=(images, 3, *size)))
    truth = torch.from_numpy(rng.choice([0, 1, 2, 255], (images, *size)))
    got = {a.name: a.scores(logits, truth, regions) for a in (Incorrect(), TrueClassLoss(), LowestMIoU())}
    losses = -logits.log_softmax(dim=1)
    for unit in range(len(regions.unit_ids)):
        own = [p for p in pixels(regions, unit, size) if truth[p] != 255]
        predicted = np.array([int(logits[i, :, y, x].argmax()) for i, y, x in own])
        true = np.array([int(truth[p]) for p in own])
        ious = []
        for c in range(3):
            union = ((predicted == c) | (true == c)).sum()
            if union:
                ious.append(((predicted == c) & (true == c)).sum() / union)
        loss = [losses[i, int(truth[i, y, x]), y, x].item() for i, y, x in own]
        expected = {
            "Incorrect": (predicted != true).mean() if own else 0,
            "TrueClassLoss": np.mean(loss) if own else 0,
            "LowestMIoU": 1 - np.mean(ious) if own else 0,
        }
        for name, score in expected.items():
            assert got[name][unit].item() == pytest.approx(score, abs=1e-12), name


def test_whole_images_are_regions_like_others() -> None:
    values = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    whole = Regions.whole(["a", "b", "c"])
    drawn = Regions(whole.image_ids, whole.unit_ids, whole.index.expand(3, 4, 6).contiguous(), whole.places)
    # in another order: the general way, over an index of 1 x 1
    turned = Regions(whole.image_ids, ["c", "b", "a"], 2 - whole.index, whole.places.flip(0))
    for aggregation, _ in REDUCTIONS:
        torch.testing.assert_close(aggregation(values), aggregation(values, whole), rtol=0, atol=0)
        torch.testing.assert_close(aggregation(values), aggregation(values, drawn), rtol=1e-13, atol=0)
        torch.testing.assert_close(aggregation(values).flip(0), aggregation(values, turned), rtol=1e-13, atol=0)
        torch.testing.assert_close(aggregation(values[:, 0, 0]), aggregation(values[:, 0, 0], drawn))


def halves(count: int, side: int) -> Regions:
    """The left and the right half of square images; the last column belongs to nobody."""
    index = torch.arange(2 * count).view(count, 1, 2).repeat_interleave(side // 2, dim=2).repeat(1, side, 1)
    index[..., -1] = -1
    places = torch.tensor([(i, 0.5, x) for i in range(count) for x in (0.25, 0.7)], dtype=torch.float64)
    names = [f"image{i}" for i in range(count)]
    return Regions(names, [f"{n}#{k}" for n in names for k in range(2)], index, places)


def test_a_scorer_scores_each_region(tiny_network: Callable[..., nn.Module]) -> None:
    network = tiny_network().eval()
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for acquisition in (Entropy(), BALD()):
        scored = Scorer(acquisition, predictor=MCDropout(4))(network, images, halves(3, 8), 0, 0, groups=2)
        assert scored.values is not None
        left, right = scored.values[..., :4].mean(dim=(1, 2)), scored.values[..., 4:7].mean(dim=(1, 2))
        torch.testing.assert_close(scored.scores.float(), torch.stack([left, right], dim=1).flatten())
        assert scored.values.shape == (3, 8, 8)
        assert scored.spreads is None or scored.spreads.shape == (6,)
        # neither the other units nor the other images change it
        alone = Scorer(acquisition, predictor=MCDropout(4))(network, images[:1], halves(1, 8), 0, 0).scores
        torch.testing.assert_close(alone, scored.scores[:2], rtol=1e-5, atol=1e-7)
    random = Scorer(Random())(network, torch.empty(0), halves(3, 8), 0, 0).scores
    assert random.unique().numel() == 6


def test_a_feature_is_the_mean_over_the_unit(tiny_network: Callable[..., nn.Module]) -> None:
    network = tiny_network().eval()
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    scorer = Scorer(Random(), features={Feature.EMBEDDING})
    got = scorer(network, images, halves(3, 8), 0, 0).features[Feature.EMBEDDING]
    maps = network.body(images)
    expected = torch.stack([maps[..., :4].mean(dim=(2, 3)), maps[..., 4:7].mean(dim=(2, 3))], dim=1).flatten(0, 1)
    torch.testing.assert_close(got, expected)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Linear(5, 3))
    rows = Scorer(Entropy(), features={Feature.EMBEDDING, Feature.PROBS})(flat, images, halves(3, 8), 0, 0)
    assert torch.equal(rows.features[Feature.EMBEDDING], flat[:2](images).repeat_interleave(2, dim=0))
    assert rows.features[Feature.PROBS].shape == (6, 3)


def test_what_does_not_fit_together() -> None:
    whole = Regions.whole(["a", "b"])
    with pytest.raises(ValueError, match=r"need an index of 2 x H x W and places of 1 x 3, got \(2, 1, 1\) and \(2, 3"):
        Regions(["a", "b"], ["a"], whole.index, whole.places)
    for values in (torch.zeros(3), torch.zeros(2, 4)):
        with pytest.raises(ValueError, match="values of 2 images are expected as N x H x W or N"):
            Mean()(values, whole)


def test_any_reduction_by_the_units_own_numbers() -> None:
    class Smallest(Aggregation):
        def reduce(self, values_P: Tensor, units: object) -> Tensor:
            return -units.max(-values_P)

    regions = made(np.random.default_rng(3), 2, (4, 5), 3, 1.0)
    values = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = [min(values[p].item() for p in pixels(regions, u, (4, 5))) for u in range(6)]
    assert Smallest()(values, regions).tolist() == pytest.approx(expected)
    assert Smallest()(values).tolist() == pytest.approx(values.amin(dim=(1, 2)).tolist())


@given(seed=st.integers(0, 2**31))
def test_swallowed_are_the_units_without_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    regions = made(rng, images=3, size=(4, 5), per_image=9, asked=0.7)
    expected = [u for k, u in enumerate(regions.unit_ids) if not (regions.index == k).any()]
    assert regions.swallowed == expected
    assert Regions.whole(["a", "b"]).swallowed == []
