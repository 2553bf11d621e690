"""Every formula against a float64 loop in plain Python, or against a case worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acquisition import functional as f


def plain_entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def plain_softmax(z: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(x / temperature - max(z) / temperature) for x in z]
    return [x / sum(powers) for x in powers]


PLAIN = {
    "entropy": plain_entropy,
    "max_softmax": lambda p: 1 - max(p),
    "margin": lambda p: 1 - (sorted(p)[-1] - sorted(p)[-2]),
    "vote_entropy": plain_entropy,
    "variation_ratio": lambda p: 1 - max(p),
}


@pytest.fixture
def samples() -> torch.Tensor:
    """T N C H W = 5 2 4 3 2, float64."""
    return torch.randn(5, 2, 4, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2


@pytest.mark.parametrize("name", PLAIN)
def test_formula_of_one_distribution(name: str, samples: torch.Tensor) -> None:
    probs_NCHW = samples[0].softmax(dim=1)
    got = getattr(f, name)(probs_NCHW)
    assert got.shape == (2, 3, 2)
    for n in range(2):
        for y in range(3):
            for x in range(2):
                assert got[n, y, x].item() == pytest.approx(PLAIN[name](probs_NCHW[n, :, y, x].tolist()), abs=1e-12)


def test_bald_and_variance_are_those_of_a_loop_over_samples(samples: torch.Tensor) -> None:
    probs_TNCHW = samples.softmax(dim=2)
    expected_entropy = torch.stack([f.entropy(p) for p in probs_TNCHW]).mean(dim=0)
    bald = f.bald(probs_TNCHW.mean(dim=0), expected_entropy)
    variance = f.mean_variance(probs_TNCHW.mean(dim=0), probs_TNCHW.square().mean(dim=0))
    for n in range(2):
        for y in range(3):
            for x in range(2):
                rows = probs_TNCHW[:, n, :, y, x].tolist()
                mean = [sum(column) / 5 for column in zip(*rows, strict=True)]
                information = plain_entropy(mean) - sum(map(plain_entropy, rows)) / 5
                spread = sum(sum((r[c] - mean[c]) ** 2 for r in rows) / 5 for c in range(4)) / 4
                assert bald[n, y, x].item() == pytest.approx(information, abs=1e-12)
                assert variance[n, y, x].item() == pytest.approx(spread, abs=1e-12)
    assert bald.max() > 0.1


def test_bald_of_identical_samples_is_0_and_of_certain_but_contrary_ones_log_2() -> None:
    same = torch.tensor([[0.7, 0.2, 0.1]])
    assert f.bald(same, f.entropy(same)).item() == 0
    assert f.mean_variance(same, same.square()).item() == 0
    contrary = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    mean = contrary.mean(dim=0, keepdim=True)
    assert f.bald(mean, f.entropy(contrary).mean()[None]).item() == pytest.approx(math.log(2))
    assert f.mean_variance(mean, contrary.square().mean(dim=0, keepdim=True)).item() == pytest.approx(0.25)


def test_bald_is_never_below_0() -> None:
    mean = torch.tensor([[0.5, 0.5]])
    assert f.bald(mean, f.entropy(mean) + 1e-6).item() == 0


@pytest.mark.parametrize("classes", [2, 3, 19])
def test_uniform_and_certain_distributions(classes: int) -> None:
    uniform = torch.full((1, classes), 1 / classes, dtype=torch.float64)
    certain = torch.eye(classes, dtype=torch.float64)[:1]
    assert f.entropy(uniform).item() == pytest.approx(math.log(classes))
    assert f.max_softmax(uniform).item() == pytest.approx(1 - 1 / classes)
    assert f.margin(uniform).item() == pytest.approx(1)
    for function in (f.entropy, f.max_softmax, f.margin, f.vote_entropy, f.variation_ratio):
        assert function(certain).item() == 0


def test_margin_by_hand() -> None:
    assert f.margin(torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64)).item() == pytest.approx(0.7)


def test_vote_entropy_by_hand() -> None:
    # of 10 samples 8 vote for one class and 2 for another (1.8)
    votes = torch.tensor([[0.8, 0.2, 0.0]], dtype=torch.float64)
    assert f.vote_entropy(votes).item() == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))


@given(st.floats(-30, 30))
def test_one_logit_is_the_softmax_of_two(z: float) -> None:
    one = f.class_probabilities(torch.tensor([[z]], dtype=torch.float64))
    two = f.class_probabilities(torch.tensor([[0.0, z]], dtype=torch.float64))
    assert one.shape == (1, 2)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-15)


def test_extreme_logits_stay_probabilities() -> None:
    for logits in (torch.tensor([[1e4], [-1e4]]), torch.tensor([[1e4, -1e4], [0.0, -1e4]])):
        probs = f.class_probabilities(logits)
        assert torch.equal(probs.sum(dim=1), torch.ones(2))
        assert torch.equal(f.entropy(probs), torch.zeros(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_become_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]], dtype=dtype)
    probs = f.class_probabilities(logits)
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs, logits.float().softmax(dim=1))


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6), st.sampled_from([0.01, 0.1, 1.0, 10.0, 1000.0]))
def test_ranges_and_temperature(z: list[float], temperature: float) -> None:
    logits = torch.tensor([z], dtype=torch.float64)
    probs = f.class_probabilities(logits, temperature)
    classes = len(z)
    assert probs[0].tolist() == pytest.approx(plain_softmax(z, temperature), abs=1e-12)
    assert -1e-12 <= f.entropy(probs).item() <= math.log(classes) + 1e-12
    assert -1e-12 <= f.max_softmax(probs).item() <= 1 - 1 / classes + 1e-12
    assert -1e-12 <= f.margin(probs).item() <= 1 + 1e-12
    assert f.max_softmax(probs).item() <= f.margin(probs).item() + 1e-12
    assert f.odin(logits, temperature).item() == pytest.approx(f.max_softmax(probs).item(), abs=1e-12)


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=2, max_size=6))
def test_bald_and_variance_stay_in_range(rows: list[list[float]]) -> None:
    probs_TC = torch.tensor(rows, dtype=torch.float64).softmax(dim=1)
    mean = probs_TC.mean(dim=0, keepdim=True)
    bald = f.bald(mean, f.entropy(probs_TC).mean()[None]).item()
    assert 0 <= bald <= min(math.log(3), math.log(len(rows))) + 1e-12
    assert 0 <= f.mean_variance(mean, probs_TC.square().mean(dim=0, keepdim=True)).item() <= 0.25


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_no_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
        f.class_probabilities(torch.zeros(1, 2), temperature)


@pytest.mark.parametrize("temperature", [1.0, 10.0])
@pytest.mark.parametrize("classes", [1, 3])
def test_odin_perturbation_raises_the_largest_probability(temperature: float, classes: int) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(classes, 3, 3, 3, generator=generator)
    images = torch.randn(2, 3, 6, 5, generator=generator).requires_grad_()

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=1)

    moved = f.odin_perturbation(images, network(images), temperature, epsilon=1e-3)
    step = moved - images.detach()
    torch.testing.assert_close(step.abs(), torch.full_like(step, 1e-3), rtol=1e-2, atol=0)
    assert not moved.requires_grad
    before, after = (f.odin(network(x.detach()), temperature).sum(dim=(1, 2)) for x in (images, moved))
    assert (after < before).all()
