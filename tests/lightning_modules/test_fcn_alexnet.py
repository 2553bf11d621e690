"""FCN-AlexNet: layers, sizes, and that it answers where it looks."""

import pytest
import torch
from torch import nn

from lightning_modules.networks import FCNAlexNet
from lightning_modules.networks.upsampling import bilinear_upsampling


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 47)])
@pytest.mark.parametrize("classes", [1, 5])
def test_it_keeps_any_size(size: tuple[int, int], classes: int) -> None:
    network = FCNAlexNet(classes, width=1 / 64).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, *size)).shape == (2, classes, *size)


def test_layers_have_the_shapes_and_parameters_of_the_original() -> None:
    """Of an image of 500 x 500, by Caffe's arithmetic, and of Caffe's files."""
    with torch.device("meta"):
        network = FCNAlexNet(21)
        x = torch.empty(1, 3, 500, 500)
        shapes = []
        for layer in network.features:
            x = layer(x)
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                shapes.append(tuple(x.shape[1:]))
        fc6 = network.fc6(x)
        up = network.up(network.score(network.fc7(fc6)))
    assert shapes == [
        (96, 173, 173), (96, 86, 86), (256, 86, 86), (256, 43, 43), (384, 43, 43), (384, 43, 43), (256, 43, 43),
        (256, 21, 21),
    ]  # fmt: skip
    assert fc6.shape == (1, 4096, 16, 16)
    assert up.shape == (1, 21, 543, 543)
    counts = [
        m.weight.numel() + (0 if m.bias is None else m.bias.numel())
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert counts == [34944, 307456, 885120, 663936, 442624, 37752832, 16781312, 86037]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert not network.up.weight.requires_grad


def test_the_kernel_of_63_has_its_middle_in_a_pixel() -> None:
    kernel = bilinear_upsampling(1, 32, fixed=True, padded=False, size=63).weight[0, 0]
    assert kernel[31, 31] == 1
    assert kernel[0, 31] == pytest.approx(1 / 32)
    assert torch.equal(kernel, kernel.flip(0, 1))


def test_it_answers_where_it_looks() -> None:
    """With convolutions that pass on a ramp, and mean pooling, the ramp comes back: the crop is at the right pixel."""
    network = FCNAlexNet(1, width=1 / 64).eval()
    with torch.no_grad():
        for k, layer in enumerate(network.features):
            if isinstance(layer, nn.MaxPool2d):
                network.features[k] = nn.AvgPool2d(3, 2, ceil_mode=True)
            elif isinstance(layer, nn.LocalResponseNorm):
                network.features[k] = nn.Identity()
        for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
            size = layer.kernel_size[0]
            middle = slice((size - 1) // 2, size // 2 + 1)
            layer.weight.zero_()
            layer.weight[0, 0, middle, middle] = 1 / (2 - size % 2) ** 2
        rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(224.0), indexing="ij")
        ramp = (3 * rows + 2 * columns).expand(1, 3, -1, -1)
        inside = (..., slice(100, -100), slice(100, -100))
        torch.testing.assert_close(network(ramp)[inside], ramp[:, :1][inside])


def test_response_normalisation_is_caffes() -> None:
    """x / (1 + alpha / n times the sum of squares of n = 5 channels) ** beta, by hand."""
    norm = next(m for m in FCNAlexNet(2, width=1 / 8).features if isinstance(m, nn.LocalResponseNorm))
    x = torch.arange(1.0, 7.0).view(1, 6, 1, 1) * 100
    want = 300 / (1 + 1e-4 / 5 * 100**2 * (1 + 4 + 9 + 16 + 25)) ** 0.75
    assert norm(x)[0, 2].item() == pytest.approx(want, rel=1e-5)
