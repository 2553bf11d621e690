"""SegNet: what goes where, and what the encoder's weights come from."""

from typing import Any

import pytest
import torch
import torchvision.models
from torch import nn

from acquisition.predictors import MCDropout
from lightning_modules.networks import SegNet


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 47)])
@pytest.mark.parametrize("classes", [1, 5])
def test_any_size(size: tuple[int, int], classes: int) -> None:
    network = SegNet(classes, width=1 / 32).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, *size)).shape == (2, classes, *size)


def test_values_come_back_to_where_they_came_from() -> None:
    """By hand: of each 2 x 2 the largest stays at its place, and the rest is 0."""
    network = SegNet(2, width=1 / 64)
    values = torch.tensor([[1.0, 2, 7, 3], [4, 3, 5, 6], [9, 1, 2, 2], [8, 0, 1, 5]])[None, None]
    pooled, places = network.pool(values)
    assert pooled[0, 0].tolist() == [[4, 7], [9, 5]]
    want = torch.tensor([[0.0, 0, 7, 0], [4, 0, 0, 0], [9, 0, 0, 0], [0, 0, 0, 5]])
    assert torch.equal(network.unpool(pooled, places)[0, 0], want)


def test_each_decoder_stage_gets_the_places_of_its_own_encoder_stage() -> None:
    network = SegNet(2, width=1 / 32).eval()
    pools: list[torch.Tensor] = []
    unpools: list[torch.Tensor] = []
    network.pool.register_forward_hook(lambda layer, inputs, output: pools.append(output[1]))
    network.unpool.register_forward_pre_hook(lambda layer, inputs: unpools.append(inputs[1]))
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 64))
    assert len(pools) == 5
    assert all(a is b for a, b in zip(pools, reversed(unpools), strict=True))


def test_channels() -> None:
    with torch.device("meta"):
        network = SegNet(11)

    def outputs(stages: nn.Module) -> list[list[int]]:
        return [[m.out_channels for m in stage if isinstance(m, nn.Conv2d)] for stage in stages]

    assert outputs(network.encoder) == [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
    assert outputs(network.decoder) == [[512] * 3, [512, 512, 256], [256, 256, 128], [128, 64], [64, 11]]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 25
    assert isinstance(network.decoder[-1][-1], nn.Conv2d)
    rates = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5] * 6


def test_dropout_is_at_the_six_stages_around_the_middle() -> None:
    network = SegNet(2, width=1 / 16).train()
    seen = []
    for dropout in (*network.encoder_dropouts, *network.decoder_dropouts):
        dropout.register_forward_hook(lambda layer, inputs, output: seen.append(tuple(output.shape[1:])))
    network(torch.randn(2, 3, 64, 64))
    assert seen == [(16, 8, 8), (32, 4, 4), (32, 2, 2), (32, 4, 4), (16, 8, 8), (8, 16, 16)]


def test_imagenet_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation the encoder gives what torchvision's VGG16 gives, whose convolutions have biases."""
    source = torchvision.models.vgg16_bn(weights=None).features.eval()
    with torch.no_grad():
        for m in source.modules():
            if isinstance(m, nn.Conv2d):
                m.bias.uniform_(-0.5, 0.5)
            elif isinstance(m, nn.BatchNorm2d):
                m.running_mean.uniform_(-0.5, 0.5)

    def without_download(weights: Any) -> nn.Module:
        assert weights is torchvision.models.VGG16_BN_Weights.IMAGENET1K_V1
        holder = nn.Module()
        holder.features = source
        return holder

    monkeypatch.setattr(torchvision.models, "vgg16_bn", without_download)
    network = SegNet(2, weights="imagenet").eval()
    x = images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for stage in network.encoder:
            x, _ = network.pool(stage(x))
        torch.testing.assert_close(x, source(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arguments", [{"width": 0.5}, {"in_channels": 4}])
def test_weights_that_do_not_fit(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"weights: imagenet needs width 1 and 3 input channels.*set weights to null"):
        SegNet(2, weights="imagenet", **arguments)


def test_unknown_weights() -> None:
    with pytest.raises(ValueError, match=r'expected weights "imagenet" or null, got \'coco\''):
        SegNet(2, weights="coco")


def test_channels_last_changes_nothing() -> None:
    """The places of a pooling are an image's, whatever the layout in memory."""
    network = SegNet(2, width=1 / 8).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        want = network(images)
        network = network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), want, rtol=1e-4, atol=1e-4)
    sampler = MCDropout().sampler(network, (0, 0))
    for recorded, full in zip(sampler.samples(images, 3), sampler.full_passes(images, 3), strict=True):
        assert torch.equal(recorded, full)
    assert sampler.report.fallback == ""
