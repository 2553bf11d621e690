"""Upsampling by transposed convolutions whose weights interpolate bilinearly."""

import torch
from torch import nn

__all__ = ["bilinear_upsampling"]


def bilinear_upsampling(
    channels: int, factor: int, fixed: bool = False, padded: bool = True, size: int | None = None
) -> nn.ConvTranspose2d:
    """Make a transposed convolution whose initial weights upsample bilinearly, each channel on its own.

    Args:
        channels: Channels of input and output.
        factor: Factor of the upsampling, even.
        fixed: Whether the weights stay as they are: one kernel per channel, that no gradient reaches. Else they are
            learned, and may mix channels.
        padded: Whether the output is cut to `factor` times the input; else it is larger by `factor` in both directions,
            as in Caffe's networks, which crop it later.
        size: Of the kernel, 2 x factor unless given; one of 2 x factor - 1 has its middle in a pixel.
    """
    size = size or 2 * factor
    ramp = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
    padding, groups = factor // 2 if padded else 0, channels if fixed else 1
    layer = nn.ConvTranspose2d(channels, channels, size, factor, padding, groups=groups, bias=False)
    kernel = ramp[:, None] * ramp[None, :]
    with torch.no_grad():
        if fixed:
            layer.weight.copy_(kernel.expand_as(layer.weight))
        else:
            layer.weight.zero_()
            layer.weight[range(channels), range(channels)] = kernel.to(layer.weight)
    return layer.requires_grad_(not fixed)
