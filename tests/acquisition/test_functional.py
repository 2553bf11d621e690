"""Every formula against a float64 loop in plain Python, or against a case worked by hand."""

import itertools
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


@pytest.mark.parametrize("temperature", [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0])
def test_odin_of_float32_logits_ranks_like_float64(temperature: float) -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)) * 50
    # close calls, where a low temperature has something to tell apart
    logits[:100, 0] = logits[:100, 1:].amax(dim=1) + torch.linspace(-0.05, 0.05, 100)
    got = f.odin(logits, temperature)
    assert torch.isfinite(got).all()
    assert ((got >= 0) & (got <= 0.9)).all()
    exact = []
    for z in logits.double().tolist():
        powers = [math.exp((x - max(z)) / temperature) for x in sorted(z)[:-1]]
        exact.append(math.fsum(powers) / (1 + math.fsum(powers)))
    assert got.tolist() == pytest.approx(exact, rel=1e-6, abs=1e-300)
    ranked = [exact[i] for i in got.argsort().tolist()]
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(ranked))
    maps = f.odin(logits[..., None, None], temperature)[:, 0, 0]
    assert maps.dtype == torch.float32
    assert maps.tolist() == pytest.approx(exact, rel=2e-3, abs=1e-30)


@pytest.mark.parametrize("temperature", [1e-4, 1e3])
def test_odin_of_one_logit_is_that_of_two(temperature: float) -> None:
    single = torch.tensor([[-50.0], [-1e-4], [0.0], [2e-4], [50.0]])
    both = torch.cat([torch.zeros_like(single), single], dim=1)
    torch.testing.assert_close(f.odin(single, temperature), f.odin(both, temperature))


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=2, max_size=6))
def test_mean_std_is_the_loop(rows: list[list[float]]) -> None:
    probs_TC = torch.tensor(rows, dtype=torch.float64).softmax(dim=1)
    got = f.mean_std(probs_TC.mean(dim=0, keepdim=True), probs_TC.square().mean(dim=0, keepdim=True)).item()
    columns = probs_TC.T.tolist()
    variances = [sum((p - sum(c) / len(c)) ** 2 for p in c) / len(c) for c in columns]
    # the root of a variance of 1e-16, which is rounding, is 1e-8
    assert got == pytest.approx(sum(v**0.5 for v in variances) / 3, abs=1e-7)
    assert 0 <= got <= 0.5


def test_mean_std_and_mean_variance_rank_differently() -> None:
    # one class moves much, or three move a little: (mean, mean of squares)
    variances = torch.tensor([[0.04, 0.0, 0.0, 0.0], [0.01, 0.01, 0.01, 0.0]])
    zero = torch.zeros_like(variances)
    assert f.mean_variance(zero, variances).argmax() == 0
    assert f.mean_std(zero, variances).argmax() == 1


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_log_probabilities_stay_finite(classes: int) -> None:
    logits = torch.tensor([[300.0] + [-300.0] * (classes - 1)])
    logs = f.class_log_probabilities(logits)
    assert torch.isfinite(logs).all()
    torch.testing.assert_close(logs.exp(), f.class_probabilities(logits))
