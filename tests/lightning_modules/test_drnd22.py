"""DRN-D-22: the shapes and counts of its paper's network, and upsampling that stays as it is."""

import pytest
import torch
from torch import nn

from lightning_modules.networks import DRND22


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_features_at_896() -> None:
    """Levels 1 to 8, head and output of 19 classes."""
    with torch.device("meta"):
        network, image = DRND22(19), torch.empty(1, 3, 896, 896)
    shapes = []
    for layer in (*network.levels[1:], network.head, network.up):
        layer.register_forward_hook(lambda layer, inputs, output: shapes.append(list(output.shape[1:])))
    assert network(image).shape == (1, 19, 896, 896)
    assert shapes == [
        [16, 896, 896],
        [32, 448, 448],
        [64, 224, 224],
        [128, 112, 112],
        [256, 112, 112],
        [512, 112, 112],
        [512, 112, 112],
        [512, 112, 112],
        [19, 112, 112],
        [19, 896, 896],
    ]


def test_number_of_parameters() -> None:
    with torch.device("meta"):
        network = DRND22(19)
    stem = 3 * 16 * 49 + 16 * 16 * 9 + 16 * 32 * 9 + 2 * (16 + 16 + 32)
    # four convolutions, the shortcut's, and five norms
    blocks = sum(9 * (i * o + 3 * o * o) + i * o + 5 * 2 * o for i, o in ((32, 64), (64, 128), (128, 256), (256, 512)))
    end = 2 * (9 * 512 * 512 + 2 * 512)
    head = 19 * (512 + 1)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == stem + blocks + end + head
    assert sum(p.numel() for p in network.parameters() if not p.requires_grad) == 19 * 16 * 16


def test_dilations() -> None:
    with torch.device("meta"):
        network = DRND22(2)
    convolutions = [[m for m in level.modules() if isinstance(m, nn.Conv2d)] for level in network.levels]
    dilations = [{m.dilation[0] for m in level if m.kernel_size != (1, 1)} for level in convolutions]
    assert dilations == [{1}, {1}, {1}, {1}, {1}, {2}, {4}, {2}, {1}]
    assert all(m.bias is None for level in convolutions for m in level)


def test_initial_weights() -> None:
    network = DRND22(19)
    for convolution in (network.levels[0][0], network.levels[6][1].residual[0], network.levels[5][0].shortcut[0]):
        size, channels = convolution.kernel_size[0], convolution.out_channels
        assert convolution.weight.std().item() == pytest.approx((2 / (size**2 * channels)) ** 0.5, rel=0.05)
    assert not network.head.bias.any()


def test_upsampling_interpolates_and_learns_nothing() -> None:
    network = DRND22(2)
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    ramp = torch.stack([3 * rows - 2 * columns, torch.full((6, 5), 7.0)])[None]
    got = network.up(ramp)
    want = nn.functional.interpolate(ramp, scale_factor=8, mode="bilinear", align_corners=False)
    inside = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(got[inside], want[inside])
    network(torch.randn(2, 3, 24, 24)).square().mean().backward()
    assert network.up.weight.grad is None
    assert all(p.grad is not None for p in network.parameters() if p is not network.up.weight)


@pytest.mark.parametrize("size", [(1, 1), (16, 24), (33, 47)])
@pytest.mark.parametrize("classes", [1, 5])
def test_any_size(size: tuple[int, int], classes: int) -> None:
    network = DRND22(classes).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, *size)).shape == (2, classes, *size)


def test_dropout_stands_behind_four_levels() -> None:
    with torch.device("meta"):
        network = DRND22(2, dropout=0.3)
    ends = [level[-1] for level in network.levels]
    assert [getattr(m, "p", None) for m in ends] == [None, None, None, 0.3, 0.3, 0.3, 0.3, None, None]
    assert all(type(m) is nn.Dropout for m in ends[3:7])
