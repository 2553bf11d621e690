"""Ensembles and experts: networks from files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from acquisition import functional
from acquisition.checkpoints import matching_checkpoints, network_state
from acquisition.doctor import examine_network
from acquisition.features import Feature
from acquisition.functions import BALD, Entropy, Expert, Inverse, MeanEntropy, MeanStd, VoteEntropy
from acquisition.kinds import MonteCarloAcquisition
from acquisition.predictors import Ensemble, MCDropout
from acquisition.regions import Regions
from acquisition.scorer import Scorer

Network = Callable[..., nn.Module]
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
WHOLE = Regions.whole(["a", "b", "c"])


def save(network: nn.Module, path: Path, seed: int) -> nn.Module:
    """A network of the same architecture with other weights, and its checkpoint."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {f"network.{k}": v for k, v in network.state_dict().items()} | {"loss.w": 0}}, path)
    return network.eval()


def build(kind: str, tiny_network: Network) -> nn.Module:
    if kind == "dense":
        return tiny_network(dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 4))


@pytest.mark.parametrize("kind", ["dense", "classification"])
@pytest.mark.parametrize("acquisition", [BALD(), VoteEntropy(), MeanStd()], ids=lambda a: a.name)
def test_members_take_the_place_of_samples(
    kind: str, acquisition: MonteCarloAcquisition, tiny_network: Network, tmp_path: Path
) -> None:
    members = [save(build(kind, tiny_network), tmp_path / f"s{i}" / "02.ckpt", i) for i in range(4)]
    network = build(kind, tiny_network)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    scorer = Scorer(acquisition, predictor=Ensemble([f"{tmp_path}/s*/{{cycle:02d}}.ckpt"]))
    got = scorer(network, IMAGES, WHOLE, 0, 2)
    with torch.no_grad():
        probs = torch.stack([m(IMAGES).double().softmax(dim=1) for m in members])
    mean = probs.mean(dim=0)
    if isinstance(acquisition, BALD):
        expected = functional.entropy(mean) - torch.stack([functional.entropy(p) for p in probs]).mean(dim=0)
    elif isinstance(acquisition, VoteEntropy):
        votes = torch.stack([nn.functional.one_hot(p.argmax(dim=1), p.shape[1]) for p in probs]).double().mean(dim=0)
        expected = functional.entropy(votes.movedim(-1, 1))
    else:
        expected = probs.std(dim=0, correction=0).mean(dim=1)
    torch.testing.assert_close(got.values.double(), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert scorer.name == f"Ensemble({acquisition.name})-Mean"


@pytest.mark.parametrize(("acquisition", "parts"), [(BALD(), [3, 2]), (MeanEntropy(), [2, 1, 1, 1])])
def test_the_spread_of_an_ensemble_is_that_of_its_parts(
    acquisition: MonteCarloAcquisition, parts: list[int], tiny_network: Network, tmp_path: Path
) -> None:
    members = [save(build("classification", tiny_network), tmp_path / f"{i}.ckpt", i) for i in range(5)]
    scorer = Scorer(acquisition, predictor=Ensemble([str(tmp_path / "*.ckpt")]))
    got = scorer(build("classification", tiny_network), IMAGES, WHOLE, 0, 0, groups=4)
    with torch.no_grad():
        probs = torch.stack([m(IMAGES).double().softmax(dim=1) for m in members])
    each = []
    for part in probs.split(parts):
        value = functional.entropy(part.mean(dim=0))
        each.append(value - functional.entropy(part.flatten(0, 1)).view(len(part), -1).mean(dim=0))
        each[-1] = each[-1] if isinstance(acquisition, BALD) else value
    assert got.spreads is not None
    torch.testing.assert_close(
        got.spreads.double(), torch.stack(each).std(dim=0) / len(parts) ** 0.5, rtol=1e-4, atol=1e-6
    )
    few = Scorer(BALD(), predictor=Ensemble([str(tmp_path / "[0-2].ckpt")]))
    with pytest.raises(ValueError, match="spread of BALD needs two parts of at least 2 samples, got 3 in all"):
        few(build("classification", tiny_network), IMAGES, WHOLE, 0, 0, groups=4)


def test_the_doctor_asks_an_ensemble_for_no_dropout(tiny_network: Network, tmp_path: Path) -> None:
    for i in range(2):
        save(tiny_network(dropout=0.0), tmp_path / f"{i}.ckpt", i)
    scorer = Scorer(BALD(), predictor=Ensemble([str(tmp_path / "*.ckpt")]))
    checks = examine_network(scorer, tiny_network(dropout=0.0), IMAGES, WHOLE, 0)
    assert all(c.passed for c in checks)
    assert "2 networks" in checks[0].found
    save(tiny_network(dropout=0.0), tmp_path / "1.ckpt", 0)
    scorer = Scorer(BALD(), predictor=Ensemble([str(tmp_path / "*.ckpt")]))
    same = examine_network(scorer, tiny_network(dropout=0.0), IMAGES, WHOLE, 0)
    assert [c.name for c in same if not c.passed] == ["largest difference between two members"]


def test_joint_probabilities_of_members(tmp_path: Path, tiny_network: Network) -> None:
    members = [save(build("classification", tiny_network), tmp_path / f"{i}.ckpt", i) for i in range(3)]
    scorer = Scorer(BALD(), predictor=Ensemble([str(tmp_path / "*.ckpt")]), features={Feature.LOG_PROBS})
    got = scorer(build("classification", tiny_network), IMAGES, WHOLE, 0, 0).features[Feature.LOG_PROBS]
    with torch.no_grad():
        expected = torch.stack([m(IMAGES).log_softmax(dim=1) for m in members], dim=1)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("pattern", ["{seed}/best.ckpt", "{}/best.ckpt", "{cycle:zz}.ckpt", "{cycle.no}", "a{b"])
def test_other_braces_in_a_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="no other braces, got") as error:
        matching_checkpoints([pattern], 0)
    assert repr(pattern) in str(error.value)


def test_what_is_no_ensemble(tmp_path: Path, tiny_network: Network) -> None:
    path = tmp_path / "only.ckpt"
    save(tiny_network(), path, 0)
    with pytest.raises(ValueError, match=r"at least 2 members, got .*only\.ckpt alone"):
        Scorer(BALD(), predictor=Ensemble([str(path), str(path)]))(tiny_network(), IMAGES, WHOLE, 0, 0)
    with pytest.raises(ValueError, match=r"expected checkpoints at .*none07\.ckpt, got none; train them first"):
        matching_checkpoints([f"{tmp_path}/none{{cycle:02d}}.ckpt"], 7)
    with pytest.raises(ValueError, match="takes the place of MC samples, but Entropy draws none"):
        Scorer(Entropy(), predictor=Ensemble([str(path)]))
    with pytest.raises(ValueError, match="an ensemble has no dropout and no expert"):
        Scorer(Expert("a", BALD()), predictor=Ensemble([str(path)]))
    with pytest.raises(ValueError, match=r"another network \(2 tensors differ, head\.bias first\)"):
        network_state(path, tiny_network(num_classes=4))
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        network_state(path, tiny_network())


@pytest.mark.parametrize("injected", [False, True])
def test_an_expert_is_asked_in_the_learners_place(injected: bool, tmp_path: Path, tiny_network: Network) -> None:
    fresh = (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5))) if injected else None
    trained = save(fresh() if fresh else tiny_network(), tmp_path / "expert.ckpt", 7)
    expert = Expert(str(tmp_path / "expert.ckpt"), Entropy(), fresh)
    learner = tiny_network()
    with torch.inference_mode():
        got = Scorer(Inverse(expert))(learner, IMAGES, WHOLE, 0, 0)
    expected = Scorer(Entropy())(trained, IMAGES, WHOLE, 0, 0)
    torch.testing.assert_close(got.scores, -expected.scores)
    assert not torch.allclose(expected.scores, Scorer(Entropy())(learner, IMAGES, WHOLE, 0, 0).scores)
    sampled = Scorer(Expert(str(tmp_path / "expert.ckpt"), BALD(), fresh), predictor=MCDropout(3))
    torch.testing.assert_close(
        sampled(learner, IMAGES, WHOLE, 0, 0).scores,
        Scorer(BALD(), predictor=MCDropout(3))(trained, IMAGES, WHOLE, 0, 0).scores,
    )


def test_one_expert_is_enough() -> None:
    with pytest.raises(ValueError, match="one Expert is asked"):
        Scorer(Expert("a", Expert("b", Entropy())))
