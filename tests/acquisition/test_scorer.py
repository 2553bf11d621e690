"""From images to scores. What happens inside the MC sampler has tests of its own."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from acquisition.aggregation import CountAbove, Mean, Sum
from acquisition.functions import (
    BALD,
    ODIN,
    Entropy,
    Inverse,
    Margin,
    MaxSoftmax,
    MeanEntropy,
    MeanStd,
    MeanVariance,
    Random,
    VariationRatio,
    VoteEntropy,
)
from acquisition.kinds import AcquisitionFunction
from acquisition.predictors import Ensemble, MCDropout
from acquisition.regions import Regions
from acquisition.scorer import Scorer

DETERMINISTIC = [Entropy(), MaxSoftmax(), Margin(), ODIN(), ODIN(temperature=1.0, epsilon=0.01)]
SAMPLED = [BALD(), VoteEntropy(), VariationRatio(), MeanEntropy(), MeanVariance(), MeanStd()]
Network = Callable[..., nn.Module]


def cases(*acquisitions: AcquisitionFunction) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("acquisition", acquisitions, ids=lambda a: a.name)


def images(count: int = 5) -> tuple[Tensor, Regions]:
    batch = (
        torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(7))
        * torch.linspace(0.3, 2, count)[:, None, None, None]
    )
    return batch, Regions.whole([f"unit{i}" for i in range(count)])


class Fixed(nn.Module):
    """Answers each unit with logits that stand in its own pixels; a dropout that is active but changes no sign."""

    def __init__(self, bad: int | None = None, value: float = math.nan) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.bad, self.value = bad, value

    def forward(self, x: Tensor) -> Tensor:
        out = self.drop(x) + 0.1 * x
        if self.bad is not None:
            out = out.clone()
            out[self.bad, 0, 1, 1] = self.value
        return out


@cases(*DETERMINISTIC, *SAMPLED, Random(), Inverse(BALD()), Inverse(Entropy()))
def test_a_score_does_not_depend_on_the_batch(acquisition: AcquisitionFunction, tiny_network: Network) -> None:
    network, scorer = tiny_network().eval(), Scorer(acquisition, predictor=MCDropout(4))
    batch, regions = images()
    whole = scorer(network, batch, regions, 0, 2).scores
    assert whole.dtype == torch.float64
    assert whole.shape == (5,)
    assert whole.unique().numel() == 5
    order = [3, 0, 4]
    part = scorer(network, batch[order], Regions.whole([regions.image_ids[i] for i in order]), 0, 2).scores
    alone = torch.cat(
        [scorer(network, batch[i : i + 1], Regions.whole([regions.image_ids[i]]), 0, 2).scores for i in range(5)]
    )
    torch.testing.assert_close(part, whole[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-6)


@cases(*SAMPLED, Random())
def test_what_is_drawn_follows_seed_and_cycle(acquisition: AcquisitionFunction, tiny_network: Network) -> None:
    network, scorer = tiny_network(), Scorer(acquisition, predictor=MCDropout(3))
    state = torch.random.get_rng_state()
    first, again, cycle, seed = (scorer(network, *images(), *k).scores for k in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert torch.equal(first, again)
    assert not torch.equal(first, cycle)
    assert not torch.equal(first, seed)
    assert torch.equal(state, torch.random.get_rng_state())


@cases(*DETERMINISTIC, *SAMPLED)
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_as_it_was(acquisition: AcquisitionFunction, training: bool, tiny_network: Network) -> None:
    network = tiny_network().train(training)
    network.body[0].eval()
    modes = {name: module.training for name, module in network.named_modules()}
    flags = {name: p.requires_grad for name, p in network.named_parameters()}
    state = copy.deepcopy(network.state_dict())
    Scorer(acquisition, predictor=MCDropout(2))(network, *images(), 0, 0)
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert {name: p.requires_grad for name, p in network.named_parameters()} == flags
    assert all(p.grad is None for p in network.parameters())
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@cases(*DETERMINISTIC, *SAMPLED)
def test_scores_without_gradients_of_any_kind(acquisition: AcquisitionFunction, tiny_network: Network) -> None:
    network, scorer = tiny_network(), Scorer(acquisition, predictor=MCDropout(2))
    plain = scorer(network, *images(), 0, 0)
    assert not plain.scores.requires_grad
    assert plain.values is not None
    assert not plain.values.requires_grad
    assert plain.values.shape == plain.predictions.shape == (5, 8, 8)
    # as Lightning calls it
    with torch.inference_mode():
        inside = scorer(network, images()[0] + 0, images()[1], 0, 0)
    torch.testing.assert_close(inside.scores.clone(), plain.scores)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_deterministic_values_are_those_of_the_network_without_dropout(classes: int, tiny_network: Network) -> None:
    network = tiny_network(classes).train()
    batch, regions = images()
    scored = Scorer(Entropy())(network, batch, regions, 0, 0)
    with torch.no_grad():
        logits = network.eval()(batch).double()
    probs = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], dim=1) if classes == 1 else logits.softmax(dim=1)
    values = -(probs * probs.log()).sum(dim=1)
    torch.testing.assert_close(scored.values.double(), values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scored.scores, values.mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    assert torch.equal(scored.predictions, probs.argmax(dim=1))


def test_classification_has_one_value_per_unit() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 64, 4))
    for acquisition in (Entropy(), BALD(), ODIN(epsilon=0.01)):
        scored = Scorer(acquisition, predictor=MCDropout(3))(network, *images(), 0, 0)
        assert scored.values.shape == scored.predictions.shape == scored.scores.shape == (5,)
        torch.testing.assert_close(scored.scores, scored.values.double())


def test_aggregations_reduce_the_same_values(tiny_network: Network) -> None:
    mean, total, count = (
        Scorer(MaxSoftmax(), aggregation)(tiny_network(), *images(), 0, 0)
        for aggregation in (Mean(), Sum(), CountAbove(0.3))
    )
    torch.testing.assert_close(total.scores, mean.scores * 64)
    torch.testing.assert_close(count.scores, (mean.values > 0.3).double().mean(dim=(1, 2)))
    assert 0 < count.scores.sum() < 5


@cases(Entropy(), BALD(), Random())
def test_inverse_turns_the_score_and_not_the_map(acquisition: AcquisitionFunction, tiny_network: Network) -> None:
    plain, inverse, twice = (
        Scorer(a, predictor=MCDropout(3))(tiny_network(), *images(), 0, 0)
        for a in (acquisition, Inverse(acquisition), Inverse(Inverse(acquisition)))
    )
    assert torch.equal(inverse.scores, -plain.scores)
    assert torch.equal(twice.scores, plain.scores)
    if plain.values is not None:
        assert torch.equal(inverse.values, plain.values)


def test_names() -> None:
    assert Scorer(Inverse(BALD()), predictor=MCDropout(2)).name == "Inverse(BALD)-Mean"
    assert Scorer(Inverse(Inverse(Entropy())), Sum()).name == "Entropy-Sum"
    assert Scorer(ODIN(0.01, 0.0014), CountAbove(0.5)).name == "ODIN(T=0.01,eps=0.0014)-CountAbove(0.5)"
    assert Inverse(Margin()).name == "Inverse(Margin)"
    everything = [*DETERMINISTIC, *SAMPLED, Random(), Inverse(Random()), Inverse(BALD())]
    assert len({Scorer(a).name for a in everything}) == len(everything)


@pytest.mark.parametrize(("acquisition", "fewest"), [(BALD(), 2), (VoteEntropy(), 2), (MeanVariance(), 2)])
def test_too_few_samples(acquisition: AcquisitionFunction, fewest: int) -> None:
    for wrapped in (acquisition, Inverse(acquisition)):
        with pytest.raises(ValueError, match=f"num_samples must be at least {fewest} for {acquisition.name}, got 1"):
            Scorer(wrapped, predictor=MCDropout(1))
    with pytest.raises(ValueError, match="num_samples must be at least 1 for MeanEntropy, got 0"):
        Scorer(MeanEntropy(), predictor=MCDropout(0))


@cases(*DETERMINISTIC, *SAMPLED, Inverse(BALD()))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_no_number_is_refused_by_name(acquisition: AcquisitionFunction, value: float) -> None:
    scorer = Scorer(acquisition, predictor=MCDropout(3))
    batch, regions = images(3)
    assert torch.isfinite(scorer(Fixed(), batch, regions, 0, 0).scores).all()
    with pytest.raises(ValueError, match=r"output for image 'unit1' has NaN or infinite values.*earlier checkpoint"):
        scorer(Fixed(bad=1, value=value), batch, regions, 0, 0)


def test_random_never_asks_the_network() -> None:
    scorer = Scorer(Random())
    scored = scorer(nn.Identity(), torch.full((2, 3, 4, 4), math.nan), Regions.whole(["a", "b"]), 0, 0)
    assert scored.values is None
    assert scored.predictions is None
    assert ((scored.scores >= 0) & (scored.scores < 1)).all()
    assert not scorer.needs_network
    assert not Scorer(Inverse(Random())).needs_network
    assert Scorer(Entropy()).needs_network


@cases(*SAMPLED)
@pytest.mark.parametrize("network", [nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.0))])
def test_a_network_without_dropout(acquisition: AcquisitionFunction, network: nn.Module) -> None:
    with pytest.raises(ValueError, match="at least one active dropout layer"):
        Scorer(acquisition)(network, *images(), 0, 0)
    assert Scorer(Entropy())(network, *images(), 0, 0).scores.shape == (5,)


def test_odin_moves_the_input_towards_confidence(tiny_network: Network) -> None:
    still, moved = (
        Scorer(ODIN(temperature=1.0, epsilon=epsilon))(tiny_network(), *images(), 0, 0).scores
        for epsilon in (0.0, 0.005)
    )
    plain = Scorer(MaxSoftmax())(tiny_network(), *images(), 0, 0).scores
    torch.testing.assert_close(still, plain, rtol=1e-5, atol=0)
    assert (moved < still).all()


@pytest.mark.parametrize("arguments", [(0.0, 0.0), (1.0, -0.1)])
def test_odin_arguments_that_mean_nothing(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="ODIN needs temperature > 0 and epsilon >= 0"):
        ODIN(*arguments)


def test_a_scorer_that_has_forgotten_asks_the_files_again(
    tiny_network: Callable[..., nn.Module], tmp_path: Path
) -> None:
    def save(name: str, scale: float) -> None:
        state = {f"network.{k}": v * scale for k, v in tiny_network().state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / name)

    network, images = tiny_network().eval(), torch.rand(1, 3, 8, 8)
    scorer = Scorer(BALD(), predictor=Ensemble([str(tmp_path / "*.ckpt")]))
    save("a.ckpt", 1.0)
    save("b.ckpt", 1.0)
    assert scorer(network, images, Regions.whole(["u"]), 0, 0).scores.item() == pytest.approx(0, abs=1e-6)
    save("b.ckpt", 3.0)
    scorer.forget()
    assert scorer(network, images, Regions.whole(["u"]), 0, 0).scores.item() > 1e-3
