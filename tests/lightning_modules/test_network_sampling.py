"""Networks under the MC-dropout engine: scores as those of full passes, whatever it can see of them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from acquisition.aggregation import Mean
from acquisition.functional import class_probabilities, entropy
from acquisition.functions import BALD
from acquisition.predictors import MCDropout
from acquisition.regions import Regions
from acquisition.scorer import Scorer
from lightning_modules.networks import DRND22, FCN8s, SegNet

NETWORKS = {
    "DRND22": lambda: DRND22(3),
    "SegNet": lambda: SegNet(3, width=1 / 16),
    "FCN8s as in Caffe": lambda: FCN8s(3, width=1 / 32, batch_norm=True, channel_dropout=True, padding=100),
}
NAMES = ["a", "b"]


@pytest.fixture(params=list(NETWORKS.values()), ids=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    make: Callable[[], nn.Module] = request.param
    made = make()
    for m in made.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.3, 0.3)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return made.train()


def test_scores_are_those_of_full_passes(network: nn.Module) -> None:
    images = torch.randn(2, 3, 40, 48)
    scorer = Scorer(BALD(), Mean(), MCDropout(num_samples=4))
    scored = scorer(network, images, Regions.whole(NAMES), seed=0, cycle=0)
    sampler = scorer.predictions(network, 0, 0).sampler
    passes = torch.stack(list(sampler.full_passes(images, 4)))
    probs_TNCHW = class_probabilities(passes.flatten(0, 1)).view_as(passes)
    want = entropy(probs_TNCHW.mean(dim=0)) - torch.stack([entropy(p) for p in probs_TNCHW]).mean(dim=0)
    assert want.mean() > 1e-5
    torch.testing.assert_close(scored.values, want, rtol=1e-3, atol=1e-5)
    for recorded, full in zip(sampler.samples(images, 4), passes, strict=True):
        assert torch.equal(recorded, full)
    # only a part is repeated, and the network is left as it was
    assert sampler.report.fallback == ""
    assert sampler.report.repeated < 0.7
    assert all(m.training for m in network.modules())


def test_a_score_depends_on_no_other_image(network: nn.Module) -> None:
    images = torch.randn(2, 3, 33, 40)
    both, alone = (
        Scorer(BALD(), Mean(), MCDropout(num_samples=3))(network, images[:n], Regions.whole(NAMES[:n]), 0, 0).scores
        for n in (2, 1)
    )
    torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-6)


def test_places_that_depend_on_dropout_are_sampled() -> None:
    """Behind the third stage's dropout SegNet's poolings find other places in every sample."""
    torch.manual_seed(0)
    network = SegNet(3, width=1 / 8)
    places: list[torch.Tensor] = []
    network.unpool.register_forward_pre_hook(lambda layer, inputs: places.append(inputs[1]))
    sampler = MCDropout().sampler(network, (0, 0))
    list(sampler.full_passes(torch.randn(1, 3, 64, 64), 2))
    changed = [not torch.equal(a, b) for a, b in zip(places[:5], places[5:], strict=True)]
    assert changed == [True, True, False, False, False]
