"""FCN-8s on VGG16 (Long, Shelhamer, Darrell 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from lightning_modules.networks.weights import downloading, wanted_weights

__all__ = ["FCN8s", "bilinear_upsampling"]

_VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def bilinear_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Make a transposed convolution whose initial weights upsample bilinearly, each channel on its own.

    Args:
        channels: Channels of input and output.
        factor: Factor of the upsampling, even.
    """
    size = 2 * factor
    ramp = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
    layer = nn.ConvTranspose2d(channels, channels, size, stride=factor, padding=factor // 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = ramp[:, None] * ramp[None, :]
    return layer


class FCN8s(nn.Module):
    """Fully convolutional VGG16 with skip connections from pool3 and pool4.

    Inputs of any size: they are padded on the right and bottom to a multiple of 32, and the logits are cropped.

    Args:
        num_classes: Logits per pixel, C; 1 means binary with a sigmoid.
        width: Factor of every channel count (64 to 512, and 4096 in fc6 and fc7).
        dropout: Dropout rate after fc6 and fc7.
        batch_norm: Whether batch norm follows every convolution of the encoder; with it small widths can be trained
            from scratch.
        weights: "imagenet" loads torchvision's VGG16, with fc6 and fc7 from its classifier (width 1 only); None starts
            from random weights.
        in_channels: Channels of the images.

    Raises:
        ValueError: The weights are unknown or do not fit the width or the channels.
        WeightsUnavailableError: The weights could not be downloaded.
    """

    feature_layer = "score_fc7"
    """The layer whose input is an image's embedding (`acquisition.features`); the layers of the skips run later."""

    def __init__(
        self,
        num_classes: int,
        width: float = 1.0,
        dropout: float = 0.5,
        batch_norm: bool = False,
        weights: str | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        weights = wanted_weights(weights)
        if weights not in (None, "imagenet"):
            raise ValueError(f'expected weights "imagenet" or null, got {weights!r}')
        if weights and (width != 1 or in_channels != 3):
            raise ValueError(
                f"weights: {weights} needs width 1 and 3 input channels, got width {width} and {in_channels}; "
                "set weights to null"
            )
        self.num_classes = num_classes
        stages = []
        channels = in_channels
        for stage in _VGG16_STAGES:
            layers: list[nn.Module] = []
            for out_channels in (max(1, round(c * width)) for c in stage):
                layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out_channels))
                layers.append(nn.ReLU(inplace=True))
                channels = out_channels
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stages = nn.ModuleList(stages)
        hidden = max(1, round(4096 * width))
        self.fc6 = nn.Sequential(nn.Conv2d(channels, hidden, 7, padding=3), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.fc7 = nn.Sequential(nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True), nn.Dropout(dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.score_fc7 = nn.Conv2d(hidden, num_classes, 1)
        self.score_pool4 = nn.Conv2d(max(1, round(512 * width)), num_classes, 1)
        self.score_pool3 = nn.Conv2d(max(1, round(256 * width)), num_classes, 1)
        # as in Long et al. 2015 the skips start at zero, so that the network starts as FCN-32s
        for skip in (self.score_pool4, self.score_pool3):
            nn.init.zeros_(skip.weight)
            assert skip.bias is not None
            nn.init.zeros_(skip.bias)
        self.up_fc7 = bilinear_upsampling(num_classes, 2)
        self.up_pool4 = bilinear_upsampling(num_classes, 2)
        self.up_pool3 = bilinear_upsampling(num_classes, 8)
        if weights:
            self._load_vgg16(batch_norm)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        right, bottom = -width % 32, -height % 32
        x = F.pad(images, (0, right, 0, bottom)) if right or bottom else images
        pools = []
        for stage in self.stages:
            x = stage(x)
            pools.append(x)
        x = self.up_fc7(self.score_fc7(self.fc7(self.fc6(x))))
        x = self.up_pool4(x + self.score_pool4(pools[3]))
        x = self.up_pool3(x + self.score_pool3(pools[2]))
        return x[..., :height, :width] if right or bottom else x

    def _load_vgg16(self, batch_norm: bool) -> None:
        from torchvision.models import VGG16_BN_Weights, VGG16_Weights, vgg16, vgg16_bn

        with downloading("ImageNet weights of VGG16", "network.weights: null"):
            if batch_norm:
                source = vgg16_bn(weights=VGG16_BN_Weights.IMAGENET1K_V1)
            else:
                source = vgg16(weights=VGG16_Weights.IMAGENET1K_V1)
        kinds = (nn.Conv2d, nn.BatchNorm2d)
        loaded = [m for m in source.features if isinstance(m, kinds)]
        ours = [m for m in self.stages.modules() if isinstance(m, kinds)]
        for own, layer in zip(ours, loaded, strict=True):
            # torchvision's batch-norm variant has convolution biases, which batch norm would cancel
            own.load_state_dict(layer.state_dict(), strict=not batch_norm)
        for target, index in ((self.fc6[0], 0), (self.fc7[0], 3)):
            dense = source.classifier[index].state_dict()
            target.load_state_dict({"weight": dense["weight"].view(target.weight.shape), "bias": dense["bias"]})
