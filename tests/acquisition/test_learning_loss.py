"""Queries by the loss that a network predicts for its images."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from acquisition.aggregation import Mean
from acquisition.functions import BALD, Entropy, Expert, Inverse, LearningLoss, PredictsLoss
from acquisition.predictors import Ensemble, MCDropout
from acquisition.regions import Regions
from acquisition.scorer import Scorer

Network = Callable[..., nn.Module]
WHOLE = Regions.whole(["a", "b", "c"])


class Predicting(nn.Module):
    """Another network whose predicted loss is the mean of the red channel, less 1 in training mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def with_predicted_loss(self, images: Tensor, detach: bool = False) -> tuple[Tensor, Tensor]:
        return self(images), images[:, 0].mean(dim=(1, 2)) - int(self.training)


def images() -> Tensor:
    return torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_scores_are_the_predicted_losses(tiny_network: Network) -> None:
    network, batch = Predicting(tiny_network()).train(), images()
    assert isinstance(network, PredictsLoss)
    assert not isinstance(tiny_network(), PredictsLoss)
    scorer = Scorer(LearningLoss())
    assert (scorer.name, scorer.is_oracle, scorer.draws_samples) == ("LearningLoss-Mean", False, False)
    scored = scorer(network, batch, WHOLE, 0, 0)
    expected = batch[:, 0].mean(dim=(1, 2))
    assert scored.scores.tolist() == expected.double().tolist()
    assert network.training, "the mode is as it was"
    # maps for the pictures, and the classes that one pass predicts
    assert scored.values is not None
    assert torch.equal(scored.values, expected[:, None, None].expand(3, 6, 8))
    same = Scorer(Entropy())(network, batch, WHOLE, 0, 0)
    assert scored.predictions is not None
    assert same.predictions is not None
    assert torch.equal(scored.predictions, same.predictions)
    inverse = Scorer(Inverse(LearningLoss()))(network, batch, WHOLE, 0, 0)
    assert inverse.scores.tolist() == (-scored.scores).tolist()


def test_classified_images() -> None:
    batch = images()
    network = Predicting(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    scored = Scorer(LearningLoss())(network, batch, WHOLE, 0, 0)
    assert scored.scores.tolist() == batch[:, 0].mean(dim=(1, 2)).double().tolist()
    assert scored.values is not None
    assert scored.values.shape == (3,)


def test_what_cannot_be_asked(tiny_network: Network) -> None:
    batch = images()
    with pytest.raises(ValueError, match=r"needs a network that predicts its own loss, got TinyNetwork; put it into"):
        Scorer(LearningLoss())(tiny_network(), batch, WHOLE, 0, 0)
    halves = torch.arange(3)[:, None, None].expand(3, 1, 2) * 2 + torch.arange(2)
    places = torch.tensor([[i, 0.5, x] for i in range(3) for x in (0.25, 0.75)]).double()
    parts = Regions(["a", "b", "c"], [f"{i}#sp={k}" for i in "abc" for k in range(2)], halves, places)
    with pytest.raises(ValueError, match=r"needs whole images as units, got 'a#sp=0', a part of one; leave out data"):
        Scorer(LearningLoss())(Predicting(tiny_network()), batch, parts, 0, 0)
    batch[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"output for image 'b' has NaN"):
        Scorer(LearningLoss())(Predicting(tiny_network()), batch, WHOLE, 0, 0)
    with pytest.raises(ValueError, match="LearningLoss draws none"):
        Scorer(LearningLoss(), predictor=Ensemble(["*.ckpt"]))


def test_some_of_the_images(tiny_network: Network) -> None:
    """A unit's score is its own image's, also where not every image of a batch is asked for."""
    batch = images()
    index = torch.tensor([1, -1, 0])[:, None, None]
    places = torch.tensor([[2, 0.5, 0.5], [0, 0.5, 0.5]]).double()
    regions = Regions(["a", "b", "c"], ["c", "a"], index, places)
    scored = Scorer(LearningLoss(), Mean())(Predicting(tiny_network()), batch, regions, 0, 0)
    assert scored.scores.tolist() == batch[[2, 0], 0].mean(dim=(1, 2)).double().tolist()


def test_an_expert_predicts_the_loss_too(tiny_network: Network, tmp_path: Path) -> None:
    network = Predicting(tiny_network())
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {f"network.{k}": v for k, v in network.state_dict().items()}}, path)
    batch = images()
    scored = Scorer(Expert(str(path), LearningLoss()))(network, batch, WHOLE, 0, 0)
    assert scored.scores.tolist() == batch[:, 0].mean(dim=(1, 2)).double().tolist()


def test_mc_samples_leave_the_prediction_alone(tiny_network: Network) -> None:
    """Another acquisition function asks the same network for samples, of which only the part behind dropout is new."""
    batch, predictor = images(), MCDropout(num_samples=4)
    scorer = Scorer(BALD(), predictor=predictor)
    network = Predicting(tiny_network())
    scores = scorer(network, batch, WHOLE, 0, 0).scores
    assert (scores > 0).all()
    sampler = predictor.sampler(network, (0, 0))
    list(sampler.samples(batch, 2))
    assert sampler.report.fallback == ""
