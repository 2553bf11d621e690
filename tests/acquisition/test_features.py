"""Embeddings and probabilities beside the scores."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from acquisition.engine import Sampler
from acquisition.features import Feature, embeddings_of
from acquisition.functions import BALD, Entropy, Random, VariationRatio
from acquisition.predictors import MCDropout
from acquisition.regions import Regions
from acquisition.scorer import Scorer

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
WHOLE = Regions.whole(["a", "b", "c", "d"])


def classifier() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 3))


def test_the_embedding_is_what_enters_the_last_layer_without_dropout() -> None:
    network = classifier().train()
    everything = {Feature.EMBEDDING, Feature.PROBS}
    for acquisition in (Random(), Entropy(), BALD()):
        features = Scorer(acquisition, predictor=MCDropout(2), features=everything)(
            network, IMAGES, WHOLE, 0, 0
        ).features
        assert features.keys() == everything
        hidden = network[:3](IMAGES)
        torch.testing.assert_close(features[Feature.EMBEDDING], hidden)
        torch.testing.assert_close(features[Feature.PROBS], network[4](hidden).softmax(dim=1))
    assert not network[1]._forward_pre_hooks, "no hook is left behind"
    assert network.training


def test_feature_maps_are_averaged_over_their_positions(tiny_network: Callable[..., nn.Module]) -> None:
    network = tiny_network().eval()
    got = Scorer(Random(), features={Feature.EMBEDDING})(network, IMAGES, WHOLE, 0, 0).features[Feature.EMBEDDING]
    torch.testing.assert_close(got, network.body(IMAGES).mean(dim=(2, 3)))


def test_a_network_may_name_the_layer() -> None:
    network = classifier().eval()
    network.feature_layer = "1"
    with embeddings_of(network) as embeddings, torch.no_grad():
        network(IMAGES)
    assert torch.equal(embeddings.pooled(WHOLE), IMAGES.flatten(start_dim=1))
    with embeddings_of(nn.Identity()) as embeddings:
        nn.Identity()(IMAGES)
    with pytest.raises(ValueError, match="but none ran; name a layer"):
        embeddings.pooled(WHOLE)


def test_a_compiled_network_is_watched_too() -> None:
    network = classifier().eval()
    network.compile(backend="eager")
    network(IMAGES)
    with embeddings_of(network) as embeddings, torch.no_grad():
        network(IMAGES)
    assert embeddings.pooled(WHOLE).shape == (4, 7)


def test_log_probabilities_are_those_of_the_sampled_networks_whatever_the_batch() -> None:
    network = classifier().eval()
    scorer = Scorer(BALD(), predictor=MCDropout(5), features={Feature.LOG_PROBS})
    whole = scorer(network, IMAGES, WHOLE, 0, 3)
    logs = whole.features[Feature.LOG_PROBS]
    passes = [o.log_softmax(dim=1) for o in Sampler(network, (0, 3)).full_passes(IMAGES, 5)]
    torch.testing.assert_close(logs, torch.stack(passes, dim=1))
    parts = [scorer(network, IMAGES[i : i + 1], Regions.whole([WHOLE.image_ids[i]]), 0, 3) for i in range(4)]
    torch.testing.assert_close(logs, torch.cat([p.features[Feature.LOG_PROBS] for p in parts]))
    torch.testing.assert_close(
        whole.scores, Scorer(BALD(), predictor=MCDropout(5))(network, IMAGES, WHOLE, 0, 3).scores
    )


def test_dense_predictions_have_no_joint_distribution(tiny_network: Callable[..., nn.Module]) -> None:
    joint = Scorer(BALD(), predictor=MCDropout(2), features={Feature.LOG_PROBS})
    with pytest.raises(
        ValueError, match=r"joint distribution of units needs one prediction per unit, N x C, got N x 3 x"
    ):
        joint(tiny_network(), IMAGES, WHOLE, 0, 0)
    with pytest.raises(ValueError, match=r"BADGE's gradient needs one prediction per unit.*choose CoreSet"):
        Scorer(Entropy(), features={Feature.PROBS})(tiny_network(), IMAGES, WHOLE, 0, 0)
    for wrong in (Entropy(), Random()):
        with pytest.raises(ValueError, match="need an acquisition that draws MC samples, with shared masks"):
            Scorer(wrong, features={Feature.LOG_PROBS})


def test_variances_are_those_of_the_sampled_networks_and_change_no_score(
    tiny_network: Callable[..., nn.Module],
) -> None:
    for network in (classifier().eval(), tiny_network().eval()):
        for acquisition in (BALD(), VariationRatio()):
            scorer = Scorer(acquisition, predictor=MCDropout(5), features={Feature.VARIANCES})
            scored = scorer(network, IMAGES, WHOLE, 0, 3)
            passes = list(Sampler(network, (0, 3)).full_passes(IMAGES, 5))
            probs = torch.stack([p.softmax(dim=1).double() for p in passes])
            mean = probs.mean(dim=0)
            epistemic = (probs - mean).square().mean(dim=0).sum(dim=1) / 2
            aleatoric = (probs * (1 - probs)).mean(dim=0) / 2
            if probs.ndim == 5:
                epistemic, aleatoric = epistemic.mean(dim=(-2, -1)), aleatoric.mean(dim=(-2, -1))
            expected = torch.cat([epistemic[:, None], aleatoric], dim=1)
            torch.testing.assert_close(scored.features[Feature.VARIANCES], expected.float(), rtol=1e-4, atol=1e-6)
            assert torch.equal(
                scored.scores, Scorer(acquisition, predictor=MCDropout(5))(network, IMAGES, WHOLE, 0, 3).scores
            )


def test_variances_need_samples() -> None:
    for wrong in (Entropy(), Random()):
        with pytest.raises(ValueError, match="routing needs an acquisition that draws MC samples, got"):
            Scorer(wrong, features={Feature.VARIANCES})
    with pytest.raises(ValueError, match="num_samples must be at least 2 for routing, got 1"):
        Scorer(VariationRatio(), predictor=MCDropout(1), features={Feature.VARIANCES})
