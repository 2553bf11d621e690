"""Maps against loops in float64, and what must hold for any networks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from acquisition.engine import Sampler
from acquisition.predictors import MCDropout
from acquisition.statistics import Statistic, StreamingStatistics
from annotators.disagreement import variance_map
from annotators.prediction import (
    MAPS,
    DifficultyPredictor,
    ensemble_variance,
    mask_variance,
    one_pass_aleatoric,
    uncertainty_maps,
)


def probabilities(seed: int, members: int, classes: int, sharpness: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(members, 2, classes, 3, 4, generator=generator, dtype=torch.float64)
    return logits.softmax(dim=2)


def streamed(probs: torch.Tensor) -> StreamingStatistics:
    statistics = StreamingStatistics([Statistic.MEAN, Statistic.MEAN_SQUARES, Statistic.EXPECTED_ENTROPY])
    for sample in probs:
        statistics.update(sample)
    return statistics


@pytest.mark.parametrize("classes", [2, 3])
def test_ensemble_variance_is_equation_2_1(classes: int) -> None:
    probs = probabilities(0, 4, classes)
    got = ensemble_variance(probs)
    values = probs.numpy()
    for n, y, x in np.ndindex(2, 3, 4):
        total = 0.0
        for c in range(classes):
            outputs = [float(values[m, n, c, y, x]) for m in range(4)]
            average = sum(outputs) / 4
            total += sum((p - average) ** 2 for p in outputs) / (4 - 1)
        assert got[n, y, x] == pytest.approx(total / 2, abs=1e-12)


def test_hard_masks_have_the_annotators_variance() -> None:
    foreground = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])[:, None, None, None, None].double()
    probs = torch.cat([1 - foreground, foreground], dim=2)
    assert ensemble_variance(probs).item() == pytest.approx(np.var([0, 0, 1, 1, 1], ddof=1))


def test_variance_of_masks_by_hand() -> None:
    # three networks at two pixels; they draw 1, 0, 1 and, since 1/2 is not more than 1/2, 0, 0, 0
    foreground = torch.tensor([[0.9, 0.5], [0.4, 0.2], [0.6, 0.1]]).double().reshape(3, 1, 1, 1, 2)
    probs = torch.cat([1 - foreground, foreground], dim=2)
    assert mask_variance(probs).flatten().tolist() == pytest.approx([1 / 3, 0])


@pytest.mark.parametrize("classes", [2, 4])
def test_variance_of_masks_is_what_is_measured_of_people(classes: int) -> None:
    probs = probabilities(3, 5, classes)
    drawn = probs.argmax(dim=2).numpy()
    for n in range(2):
        assert mask_variance(probs)[n].numpy() == pytest.approx(variance_map(drawn[:, n], classes), abs=1e-12)


def test_aleatoric_of_one_pass_by_hand() -> None:
    two, three = torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.3, 0.2])
    assert one_pass_aleatoric(two.reshape(1, 2, 1, 1)).item() == pytest.approx(0.8 * 0.2)
    assert one_pass_aleatoric(three.reshape(1, 3, 1, 1)).item() == pytest.approx((0.25 + 0.21 + 0.16) / 2)


@pytest.mark.parametrize("classes", [2, 3])
def test_uncertainty_maps_against_a_loop(classes: int) -> None:
    probs = probabilities(1, 5, classes)
    maps = uncertainty_maps(streamed(probs))
    values = probs.numpy()
    for n, y, x in np.ndindex(2, 3, 4):
        epistemic = aleatoric = entropy = inner = 0.0
        for c in range(classes):
            samples = [float(values[t, n, c, y, x]) for t in range(5)]
            average = sum(samples) / 5
            epistemic += sum((p - average) ** 2 for p in samples) / 5 / 2
            aleatoric += sum(p * (1 - p) for p in samples) / 5 / 2
            entropy -= average * np.log(average)
            inner -= sum(p * np.log(p) for p in samples) / 5
        expected = {
            "epistemic": epistemic, "aleatoric": aleatoric, "total": epistemic + aleatoric,
            "entropy": entropy, "bald": entropy - inner,
        }  # fmt: skip
        for name, value in expected.items():
            assert maps[name][n, y, x] == pytest.approx(value, abs=1e-10), name


@given(seed=st.integers(0, 2**31), samples=st.integers(2, 6), sharpness=st.floats(0.01, 8))
def test_law_of_total_variance(seed: int, samples: int, sharpness: float) -> None:
    statistics = streamed(probabilities(seed, samples, 2, sharpness))
    maps = uncertainty_maps(statistics)
    mean = statistics[Statistic.MEAN][:, 1]
    torch.testing.assert_close(maps["total"], mean * (1 - mean), rtol=0, atol=1e-12)
    assert all((maps[name] >= 0).all() for name in maps)


@pytest.mark.parametrize("logits", [1, 3])
def test_predictor_runs_members_without_dropout_and_the_single_network_with_it(
    tiny_network: Callable[..., nn.Module], logits: int
) -> None:
    networks = [tiny_network(logits), tiny_network(logits), tiny_network(logits)]
    with torch.no_grad():
        for factor, network in enumerate(networks, 1):
            network.head.bias.add_(0.3 * factor)
    images = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    predictor = DifficultyPredictor({"a": networks[0], "b": networks[1]}, networks[2], (5, 0), MCDropout(4))
    maps = predictor(images, ["x", "y"])
    assert set(maps) == {*MAPS, "mean", "member_probabilities"}

    classes = max(logits, 2)
    assert maps["member_probabilities"].shape == (2, 2, classes, 6, 8)
    plain = networks[1].eval()(images)
    networks[1].train()
    expected = torch.sigmoid(plain[:, 0]) if logits == 1 else plain.softmax(dim=1)[:, 1]
    torch.testing.assert_close(maps["member_probabilities"][1, :, 1], expected)

    samples = torch.stack(list(Sampler(networks[2], (5, 0)).samples(images, 4)))
    probs = torch.sigmoid(samples) if logits == 1 else samples.softmax(dim=2)
    variance = probs.double().var(dim=0, correction=0).sum(dim=1) / (1 if logits == 1 else 2)
    torch.testing.assert_close(maps["epistemic"].double(), variance, rtol=0, atol=1e-6)
    assert maps["epistemic"].max() > 1e-3
    once = networks[2].eval()(images)
    networks[2].train()
    certain = torch.sigmoid(once[:, 0]) if logits == 1 else once.softmax(dim=1)
    expected = certain * (1 - certain) if logits == 1 else (certain * (1 - certain)).sum(dim=1) / 2
    torch.testing.assert_close(maps["one_pass_aleatoric"], expected)
    assert not torch.allclose(maps["one_pass_aleatoric"], maps["aleatoric"], atol=1e-4)
    alone = predictor(images[1:], ["y"])
    for name in MAPS:
        torch.testing.assert_close(alone[name][0], maps[name][1], rtol=0, atol=1e-5)
    assert all(network.training for network in networks)


def test_mistakes_are_said(tiny_network: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least 2 networks, got 1"):
        ensemble_variance(probabilities(0, 1, 2))
    with pytest.raises(ValueError, match="at least 2 networks, got 1"):
        mask_variance(probabilities(0, 1, 2))
    with pytest.raises(ValueError, match="num_samples must be at least 2"):
        DifficultyPredictor({}, tiny_network(), (0,), MCDropout(1))
    with pytest.raises(ValueError, match="set at_output_stride to false"):
        DifficultyPredictor({}, tiny_network(), (0,), MCDropout(2, at_output_stride=True))
    broken = tiny_network()
    with torch.no_grad():
        broken.head.bias.fill_(torch.nan)
    predictor = DifficultyPredictor({"a": broken, "b": tiny_network()}, tiny_network(), (0,), MCDropout(2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        predictor(torch.zeros(1, 3, 8, 8), ["x"])
