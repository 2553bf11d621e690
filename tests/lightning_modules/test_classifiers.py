"""The classification networks: their layers by the sources, and MC dropout on them."""

import pytest
import torch
from torch import Tensor, nn

from acquisition.engine import Sampler
from acquisition.statistics import Statistic
from lightning_modules.networks import GalCNN, ResNet18, SmallVGG, TwoLayerNet
from pipelines.stack_training import check_stackable

NETWORKS = [
    (lambda: TwoLayerNet(10, 16, (1, 28, 28), dropout=0.5), (1, 28, 28)),
    (lambda: GalCNN(), (1, 28, 28)),
    (lambda: GalCNN(convolutions=1, image_shape=(3, 32, 32)), (3, 32, 32)),
    (lambda: ResNet18(10, small_images=True), (3, 32, 32)),
    (lambda: GalCNN(dropout_everywhere=True), (1, 28, 28)),
    (lambda: SmallVGG(channels=(4, 8), width=16, dropout=(0.2, 0.3, 0.5)), (3, 32, 32)),
    (lambda: ResNet18(10, small_images=True, dropout=0.1, dropout_everywhere=True), (3, 32, 32)),
]


def images(shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_mc_samples_are_those_of_full_passes(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = make().eval()
    x = images(shape)
    sampler = Sampler(network, (0, 0))
    means = sampler.statistics(x, 5, {Statistic.MEAN})[Statistic.MEAN]
    full = torch.stack([logits.softmax(dim=1) for logits in sampler.full_passes(x, 5)])
    assert means.shape == (3, 10)
    assert torch.allclose(means, full.mean(dim=0), atol=1e-5)
    assert full.std(dim=0).max() > 0
    assert not sampler.report.fallback
    assert network(x).shape == (3, 10)


def test_the_thesis_net_has_its_weights_and_no_more() -> None:
    net = TwoLayerNet(width=16)
    assert sum(p.numel() for p in net.parameters()) == 784 * 16 + 16 + 16 * 10 + 10
    x = images((1, 28, 28))
    first = (x.flatten(1) @ net.hidden.weight.T + net.hidden.bias).clamp_min(0)
    assert torch.allclose(net(x), first @ net.head.weight.T + net.head.bias, atol=1e-5)


def test_gals_cnn_layer_by_layer() -> None:
    kinds = [type(m).__name__ for m in GalCNN().modules() if not list(m.children())]
    assert kinds == ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert (
        sum(p.numel() for p in GalCNN().parameters()) == 32 * 17 + 32 * (32 * 16 + 1) + 128 * (32 * 11 * 11 + 1) + 1290
    )
    assert [m.p for m in GalCNN().modules() if isinstance(m, nn.Dropout)] == [0.25, 0.5]


def test_the_small_vgg_layer_by_layer() -> None:
    net = SmallVGG(11)
    kinds = [type(m).__name__ for m in net.modules() if not list(m.children())]
    block = ["Conv2d", "LeakyReLU"] * 2 + ["MaxPool2d", "Dropout"]
    assert kinds == [*block * 3, "Linear", "ReLU", "Dropout", "Linear"]
    convolutions = sum(9 * i * o + o for i, o in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)))
    dense = (128 * 4 * 4 + 1) * 512 + 513 * 11
    assert sum(p.numel() for p in net.parameters()) == convolutions + dense
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.3, 0.4, 0.5]
    # He et al. 2015: a variance of 2 over the number of inputs
    assert net.hidden[0].weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    check_stackable(net, torch.optim.Adam, nn.CrossEntropyLoss())


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="SmallVGG needs at least 1 block and images that survive them, got 3 for 1 x"):
        SmallVGG(image_shape=(1, 6, 6))
    with pytest.raises(ValueError, match="for each of 3 blocks and the dense layer, got 2 rates"):
        SmallVGG(dropout=(0.1, 0.5))
    with pytest.raises(ValueError, match="expects images of 1 x 28 x 28, got 3 x 32 x 32"):
        GalCNN()(images((3, 32, 32)))
    with pytest.raises(ValueError, match="expects images of 1 x 28 x 28, got 1 x 8 x 8"):
        TwoLayerNet()(images((1, 8, 8)))
    with pytest.raises(ValueError, match="images that survive them, got 2 for 1 x 7 x 7"):
        GalCNN(image_shape=(1, 7, 7))
    with pytest.raises(ValueError, match="3 channels, got 1"):
        ResNet18(10)(images((1, 32, 32)))
    with pytest.raises(ValueError, match='expected weights "imagenet" or null'):
        ResNet18(10, weights="mine")
    with pytest.raises(ValueError, match="set small_images to false"):
        ResNet18(10, weights="imagenet", small_images=True)


@pytest.mark.parametrize(
    ("plain", "everywhere", "modules", "run", "shape"),
    [
        (GalCNN(), GalCNN(dropout_everywhere=True), 3, 3, (1, 28, 28)),
        (
            GalCNN(convolutions=3, dropout=(0.1, 0.5)),
            GalCNN(convolutions=3, dropout=(0.1, 0.5), dropout_everywhere=True), 4, 4, (1, 28, 28),
        ),
        # one after the first convolution, one in each of 8 blocks, which runs twice, and one before the last layer
        (ResNet18(10, dropout=0.2), ResNet18(10, dropout=0.2, dropout_everywhere=True), 10, 18, (3, 32, 32)),
    ],
)  # fmt: skip
def test_dropout_after_every_layer(
    plain: nn.Module, everywhere: nn.Module, modules: int, run: int, shape: tuple[int, ...]
) -> None:
    rates = [[m.p for m in network.modules() if isinstance(m, nn.Dropout)] for network in (plain, everywhere)]
    assert len(rates[1]) == modules > len(rates[0])
    assert set(rates[1]) == set(rates[0])
    # with dropout off it is the same network
    everywhere.load_state_dict(plain.state_dict())
    x = images(shape)
    assert torch.equal(plain.eval()(x), everywhere.eval()(x))
    sampler = Sampler(everywhere, (0, 0))
    sampler.statistics(x, 2, {Statistic.MEAN})
    assert len(sampler.report.dropouts) == run
