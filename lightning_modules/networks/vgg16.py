"""The convolutions of VGG16 (Simonyan and Zisserman 2015), the encoder of several networks."""

from collections.abc import Iterable

import torch
from torch import nn
from torchvision import models

from lightning_modules.networks.weights import downloading

__all__ = ["check_vgg16_weights", "convolutions", "load_vgg16", "scaled", "vgg16_stages"]

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_KINDS = (nn.Conv2d, nn.BatchNorm2d)


def scaled(channels: int, width: float) -> int:
    """Channels of a layer in a network of another width, at least 1.

    Args:
        channels: Channels at width 1.
        width: Factor.
    """
    return max(1, round(channels * width))


def convolutions(in_channels: int, out_channels: Iterable[int], batch_norm: bool) -> list[nn.Module]:
    """Make convolutions of 3 x 3, each with batch norm, if wanted, and a ReLU behind it.

    Args:
        in_channels: Channels of the first one's input.
        out_channels: Channels of each one's output.
        batch_norm: Whether batch norm follows every convolution, which then has no bias.

    Returns:
        The layers, in their order.
    """
    layers: list[nn.Module] = []
    for channels in out_channels:
        layers.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True))
        in_channels = channels
    return layers


def vgg16_stages(in_channels: int, width: float, batch_norm: bool) -> list[list[nn.Module]]:
    """Make the 13 convolutions in five stages, without the pooling behind each.

    Args:
        in_channels: Channels of the images.
        width: Factor of every channel count (64 to 512).
        batch_norm: Whether batch norm follows every convolution.

    Returns:
        The layers of each stage.
    """
    stages = []
    for stage in _STAGES:
        channels = [scaled(c, width) for c in stage]
        stages.append(convolutions(in_channels, channels, batch_norm))
        in_channels = channels[-1]
    return stages


def check_vgg16_weights(weights: str | None, width: float, in_channels: int) -> None:
    """Refuse weights that VGG16 does not have, or that do not fit.

    Args:
        weights: "imagenet" or None.
        width: The network's.
        in_channels: The network's.

    Raises:
        ValueError: The weights are unknown or do not fit the width or the channels.
    """
    if weights not in (None, "imagenet"):
        raise ValueError(f'expected weights "imagenet" or null, got {weights!r}')
    if weights and (width != 1 or in_channels != 3):
        raise ValueError(
            f"weights: {weights} needs width 1 and 3 input channels, got width {width} and {in_channels}; "
            "set weights to null"
        )


def load_vgg16(stages: nn.Module, batch_norm: bool) -> models.VGG:
    """Load torchvision's ImageNet weights into stages of width 1.

    Args:
        stages: A module that holds the convolutions (and norms) of `vgg16_stages` and no others.
        batch_norm: Whether they have batch norm.

    Returns:
        Torchvision's VGG16, for who needs its classifier too.

    Raises:
        WeightsUnavailableError: The weights could not be downloaded.
    """
    with downloading("ImageNet weights of VGG16", "network.weights: null"):
        if batch_norm:
            source = models.vgg16_bn(weights=models.VGG16_BN_Weights.IMAGENET1K_V1)
        else:
            source = models.vgg16(weights=models.VGG16_Weights.IMAGENET1K_V1)
    loaded = [m for m in source.features if isinstance(m, _KINDS)]
    ours = [m for m in stages.modules() if isinstance(m, _KINDS)]
    bias = None
    for own, layer in zip(ours, loaded, strict=True):
        own.load_state_dict(layer.state_dict(), strict=not batch_norm)
        if isinstance(own, nn.BatchNorm2d) and bias is not None:
            # torchvision's convolutions have a bias before the norm and ours have none: the mean moves by it
            assert own.running_mean is not None
            with torch.no_grad():
                own.running_mean.sub_(bias)
        bias = layer.bias
    return source
