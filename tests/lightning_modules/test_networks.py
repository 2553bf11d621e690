"""Networks: sizes, what they are made of, and what they say when weights cannot be had."""

import urllib.error
from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.networks import DeepLabV3Plus, FCN8s
from lightning_modules.networks.upsampling import bilinear_upsampling
from lightning_modules.networks.weights import WeightsUnavailableError, downloading


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def unreachable(*args: Any, **kwargs: Any) -> Any:
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 47), (50, 65)])
@pytest.mark.parametrize("classes", [1, 5])
def test_fcn8s_keeps_any_size(size: tuple[int, int], classes: int) -> None:
    network = FCN8s(classes, width=1 / 64).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, *size)).shape == (2, classes, *size)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (50, 64)])
@pytest.mark.parametrize("classes", [1, 4])
def test_deeplab_keeps_any_size(size: tuple[int, int], classes: int) -> None:
    network = DeepLabV3Plus(classes, encoder="resnet18", decoder_channels=8, atrous_rates=(1, 2, 3)).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, *size)).shape == (2, classes, *size)


@pytest.mark.parametrize("factor", [2, 8])
def test_upsampling_interpolates(factor: int) -> None:
    layer = bilinear_upsampling(2, factor)
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    ramp = torch.stack([3 * rows - 2 * columns, torch.full((6, 5), 7.0)])[None]
    with torch.no_grad():
        got = layer(ramp)
    want = nn.functional.interpolate(ramp, scale_factor=factor, mode="bilinear", align_corners=False)
    assert got.shape == want.shape
    # at the rim a transposed convolution mixes with zeros where interpolation repeats the edge
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(got[inside], want[inside])
    assert layer.weight.requires_grad


def test_fcn8s_starts_without_its_skips_and_can_learn_to_use_them() -> None:
    network = FCN8s(2, width=1 / 32).eval()
    image = torch.randn(1, 3, 64, 64)
    skips = (network.score_pool4, network.score_pool3)
    assert all(not s.weight.any() and not s.bias.any() for s in skips)
    with torch.no_grad():
        before = network(image)
    network(image).square().sum().backward()
    assert all(s.weight.grad.abs().sum() > 0 for s in skips)
    for skip in skips:
        with torch.no_grad():
            skip.weight.normal_()
            after = network(image)
        assert not torch.allclose(before, after)
        before = after


def test_fcn8s_pool3_reaches_detail_that_pool5_cannot() -> None:
    """A change of one pixel in a far corner moves a corner's logits only through what is local."""
    network = FCN8s(1, width=1 / 32).eval()
    with torch.no_grad():
        network.score_fc7.weight.zero_()
        network.score_fc7.bias.zero_()
        network.score_pool3.weight.fill_(1.0)
        image = torch.randn(1, 3, 128, 128)
        changed = image.clone()
        changed[..., :4, :4] += 5
        moved = (network(image) - network(changed)).abs()[0, 0]
    assert moved[:16, :16].max() > 0
    assert moved[64:, 64:].max() == 0


@pytest.mark.parametrize(("width", "channels", "hidden"), [(0.125, 64, 512), (1 / 32, 16, 128)])
def test_fcn8s_width_multiplies_every_layer(width: float, channels: int, hidden: int) -> None:
    network = FCN8s(3, width=width)
    convolutions = [m for m in network.stages.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 13
    assert convolutions[-1].out_channels == channels
    assert network.fc6[0].out_channels == network.fc7[0].out_channels == hidden
    assert network.fc6[0].kernel_size == (7, 7)


def test_fcn8s_dropout_and_batch_norm() -> None:
    rates = [m.p for m in FCN8s(3, width=1 / 64, dropout=0.9).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.9, 0.9]
    normed = [m for m in FCN8s(3, width=1 / 64, batch_norm=True).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(normed) == 13


def test_fcn8s_loads_vgg16(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torchvision's own architecture at random weights standing in for the download."""
    import torchvision.models

    source: dict[str, nn.Module] = {}
    vgg16 = torchvision.models.vgg16

    def without_download(weights: Any) -> nn.Module:
        assert weights is torchvision.models.VGG16_Weights.IMAGENET1K_V1
        with torch.device("meta"):
            model = vgg16(weights=None)
        source["vgg"] = model.to_empty(device="cpu")
        with torch.no_grad():
            for i, p in enumerate(model.parameters()):
                p.fill_(0.01 * (i + 1))
        return model

    monkeypatch.setattr(torchvision.models, "vgg16", without_download)
    # kaiming_normal_ of 130 million weights takes seconds and is overwritten here
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda *_, **__: None)
    network = FCN8s(2, weights="imagenet")
    features = [m for m in source["vgg"].features if isinstance(m, nn.Conv2d)]
    own = [m for m in network.stages.modules() if isinstance(m, nn.Conv2d)]
    assert all(
        torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in zip(own, features, strict=True)
    )
    assert network.fc6[0].weight.shape == (4096, 512, 7, 7)
    assert torch.equal(network.fc6[0].weight.flatten(1), source["vgg"].classifier[0].weight)
    assert torch.equal(network.fc7[0].weight.flatten(1), source["vgg"].classifier[3].weight)


@pytest.mark.parametrize(("arguments"), [{"width": 0.5}, {"in_channels": 4}])
def test_fcn8s_weights_that_do_not_fit(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"weights: imagenet needs width 1 and 3 input channels.*set weights to null"):
        FCN8s(2, weights="imagenet", **arguments)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_fcn8s_without_a_network_connection(batch_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.models

    monkeypatch.setattr(torchvision.models, "vgg16_bn" if batch_norm else "vgg16", unreachable)
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda *_, **__: None)
    with torch.device("meta"), pytest.raises(WeightsUnavailableError, match=r"VGG16.*network\.weights: null") as raised:
        FCN8s(2, weights="imagenet", batch_norm=batch_norm)
    assert isinstance(raised.value.__cause__, urllib.error.URLError)
    assert "\n" not in str(raised.value)


def test_deeplab_without_a_network_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    build = smp.DeepLabV3Plus

    def build_or_fail(*args: Any, **kwargs: Any) -> nn.Module:
        return unreachable() if kwargs["encoder_weights"] else build(*args, **kwargs)

    monkeypatch.setattr(smp, "DeepLabV3Plus", build_or_fail)
    with pytest.raises(WeightsUnavailableError, match=r"'imagenet' of encoder 'resnet18'.*network\.weights: null"):
        DeepLabV3Plus(2, encoder="resnet18", weights="imagenet")
    assert DeepLabV3Plus(2, encoder="resnet18", weights=None).num_classes == 2


def test_what_is_no_download_keeps_its_own_words() -> None:
    with pytest.raises(KeyError, match="resnet999"):
        DeepLabV3Plus(2, encoder="resnet999", weights=None)
    with downloading("weights", "network.weights: null"):
        pass
    with pytest.raises(WeightsUnavailableError, match=r"OSError: first\); set") as raised:
        with downloading("weights", "network.weights: null"):
            raise OSError("first\nsecond")
    assert "second" not in str(raised.value)


@pytest.mark.parametrize("stride", [8, 16])
def test_deeplab_output_stride(stride: int) -> None:
    network = DeepLabV3Plus(2, encoder="resnet18", output_stride=stride, decoder_channels=8).eval()
    with torch.no_grad():
        deepest = network.model.encoder(torch.randn(1, 3, 64, 96))[-1]
    assert deepest.shape[-2:] == (64 // stride, 96 // stride)


def test_deeplab_atrous_rates_and_dropout() -> None:
    network = DeepLabV3Plus(2, encoder="mobilenet_v2", atrous_rates=(5, 11, 17), dropout=0.3, decoder_channels=8)
    dilations = {m.dilation[0] for m in network.model.decoder.modules() if isinstance(m, nn.Conv2d)}
    assert {5, 11, 17} <= dilations
    rates = [m.p for m in network.model.decoder.modules() if isinstance(m, nn.modules.dropout.Dropout)]
    assert rates == [0.3]
    network.train()
    image = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network(image), network(image))


@pytest.mark.parametrize("network", [lambda: FCN8s(2, width=1 / 64), lambda: DeepLabV3Plus(2, encoder="resnet18")])
def test_padding_of_the_batch_does_not_leak_between_images(network: Any) -> None:
    net = network().eval()
    images = torch.randn(2, 3, 33, 40)
    with torch.no_grad():
        torch.testing.assert_close(net(images)[:1], net(images[:1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 47)])
def test_fcn8s_with_padding_keeps_any_size(size: tuple[int, int]) -> None:
    network = FCN8s(3, width=1 / 64, padding=100).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("path", ["score_fc7", "score_pool4", "score_pool3"])
@pytest.mark.parametrize("padding", [0, 100])
def test_fcn8s_answers_where_it_looks(path: str, padding: int) -> None:
    """With convolutions that pass on a ramp, and mean pooling, each of the three ways gives the ramp back."""
    network = FCN8s(1, width=1 / 64, padding=padding).eval()
    with torch.no_grad():
        for stage in network.stages:
            stage[-1] = nn.AvgPool2d(2, ceil_mode=bool(padding))
        for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
            layer.weight.zero_()
            layer.bias.zero_()
            if layer not in (network.score_fc7, network.score_pool4, network.score_pool3):
                layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[0] // 2] = 1
        getattr(network, path).weight[0, 0] = 1
        rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(256.0), indexing="ij")
        ramp = (3 * rows + 2 * columns).expand(1, 3, -1, -1)
        inside = (..., slice(80, -80), slice(80, -80))
        torch.testing.assert_close(network(ramp)[inside], ramp[:, :1][inside])


def test_fcn8s_options_change_no_weights() -> None:
    """A checkpoint fits with and without them."""
    states = []
    for options in ({}, {"padding": 100, "channel_dropout": True}):
        torch.manual_seed(0)
        states.append(FCN8s(2, width=1 / 64, **options).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_fcn8s_drops_channels() -> None:
    network = FCN8s(2, width=1 / 32, channel_dropout=True).train()
    assert [type(m) for m in network.modules() if "Dropout" in type(m).__name__] == [nn.Dropout2d] * 2
    dropped = network.fc6[2](torch.ones(1, 128, 3, 3))
    assert {len(channel.unique()) for channel in dropped[0]} == {1}
    assert dropped.unique().tolist() == [0, 2]


def test_fcn8s_refuses_another_padding() -> None:
    with pytest.raises(ValueError, match="expected padding 0 or 100, got 50"):
        FCN8s(2, width=1 / 64, padding=50)  # type: ignore[arg-type]
