"""Running sums against a float64 computation over all samples at once."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acquisition import fused
from acquisition.functional import class_probabilities
from acquisition.fused import Bilinear
from acquisition.statistics import Statistic, StreamingStatistics

ALL = set(Statistic)


def reference(logits_TNC: Tensor, resize: Bilinear | None = None) -> dict[Statistic, Tensor]:
    samples = [resize(x) if resize else x for x in logits_TNC]
    probs = torch.stack([class_probabilities(x.double()) for x in samples])
    votes = torch.zeros_like(probs).scatter_(2, probs.argmax(dim=2, keepdim=True), 1.0)
    return {
        Statistic.MEAN: probs.mean(dim=0),
        Statistic.EXPECTED_ENTROPY: torch.special.entr(probs).sum(dim=2).mean(dim=0),
        Statistic.MEAN_SQUARES: probs.square().mean(dim=0),
        Statistic.VOTE_FRACTIONS: votes.mean(dim=0),
    }


@pytest.fixture(params=["kernel", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(fused, "_library", lambda: None)
    elif not fused.has_kernel():
        pytest.skip("no C compiler")
    return request.param


def check(logits: Tensor, resize: Bilinear | None = None) -> None:
    statistics = StreamingStatistics(ALL)
    for chunk in logits.split(2):
        statistics.update_logits(chunk, resize)
    assert statistics.num_samples == logits.shape[0]
    for name, expected in reference(logits, resize).items():
        torch.testing.assert_close(statistics[name].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("way")
class TestBothWays:
    @pytest.mark.parametrize("classes", [1, 2, 19])
    @pytest.mark.parametrize("width", [1, 63, 64, 65, 130])
    def test_full_size_logits(self, classes: int, width: int) -> None:
        check(torch.randn(5, 2, classes, 9, width, generator=torch.Generator().manual_seed(0)) * 4)

    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize(
        ("inside", "outside", "scales"),
        [((8, 16), (32, 64), (4.0, 4.0)), ((5, 7), (17, 70), None), ((6, 6), (3, 4), None), ((1, 1), (4, 4), None),
         ((7, 5), (16, 12), (2.4, 2.5))],
    )  # fmt: skip
    def test_resizing_is_that_of_torch(self, inside, outside, scales, align_corners) -> None:
        logits = torch.randn(3, 2, 4, *inside, generator=torch.Generator().manual_seed(0)) * 4
        check(logits, Bilinear(outside, align_corners, scales))

    def test_certainty_has_no_entropy(self) -> None:
        logits = torch.full((2, 1, 3, 2, 2), -math.inf)
        logits[:, :, 1] = 0
        statistics = StreamingStatistics(ALL)
        statistics.update_logits(logits)
        assert statistics[Statistic.EXPECTED_ENTROPY].eq(0).all()
        assert statistics[Statistic.MEAN][:, 1].eq(1).all()
        huge = torch.tensor([1e4, -1e4, 0.0]).view(1, 1, 3, 1, 1)
        statistics.update_logits(huge.expand(1, 1, 3, 2, 2))
        assert statistics[Statistic.EXPECTED_ENTROPY].eq(0).all()

    def test_ignorance_has_the_largest_entropy(self) -> None:
        statistics = StreamingStatistics(ALL)
        statistics.update_logits(torch.zeros(4, 1, 19, 3, 3))
        torch.testing.assert_close(statistics[Statistic.EXPECTED_ENTROPY], torch.full((1, 3, 3), math.log(19)))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_not_a_number_stays_so(self, value: float) -> None:
        logits = torch.zeros(1, 1, 3, 2, 2)
        logits[0, 0, 1, 0, 0] = value
        statistics = StreamingStatistics({Statistic.EXPECTED_ENTROPY, Statistic.MEAN})
        statistics.update_logits(logits)
        assert statistics[Statistic.EXPECTED_ENTROPY][0, 0, 0].isnan()
        assert statistics[Statistic.MEAN][0, :, 0, 0].isnan().any()
        assert not statistics[Statistic.EXPECTED_ENTROPY][0, 1, 1].isnan()

    def test_channels_last_and_double_precision(self) -> None:
        logits = torch.randn(3, 2, 5, 6, 7)
        check(logits.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2)))
        check(logits.double())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 6), st.sampled_from([0.1, 3.0, 40.0]), st.integers(0, 99))
def test_classifier_logits(samples: int, units: int, classes: int, scale: float, seed: int) -> None:
    check(torch.randn(samples, units, classes, generator=torch.Generator().manual_seed(seed)) * scale)


def test_update_takes_probabilities_and_only_what_is_needed_is_kept() -> None:
    statistics = StreamingStatistics({Statistic.MEAN})
    probs = torch.rand(3, 2, 4, 5).softmax(dim=1)
    statistics.update(probs)
    statistics.update(probs)
    torch.testing.assert_close(statistics[Statistic.MEAN], probs)
    with pytest.raises(KeyError):
        statistics[Statistic.VOTE_FRACTIONS]
    statistics = StreamingStatistics(ALL)
    statistics.update(torch.eye(3))
    assert statistics[Statistic.EXPECTED_ENTROPY].eq(0).all()


def test_half_precision_is_summed_in_single() -> None:
    statistics = StreamingStatistics(ALL)
    statistics.update_logits(torch.randn(2, 1, 3, 4, 4).bfloat16())
    assert all(statistics[s].dtype == torch.float32 for s in ALL)
