"""FCN-8s on VGG16 (Long, Shelhamer, Darrell 2015)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from lightning_modules.networks.upsampling import bilinear_upsampling
from lightning_modules.networks.vgg16 import check_vgg16_weights, load_vgg16, scaled, vgg16_stages
from lightning_modules.networks.weights import wanted_weights

__all__ = ["FCN8s"]


class FCN8s(nn.Module):
    """Fully convolutional VGG16 with skip connections from pool3 and pool4.

    Inputs of any size: they are padded on the right and bottom to a multiple of 32, and the logits are cropped. With
    `padding` the network is that of Long et al.'s own Caffe files: 100 pixels of zeros on each side, convolutions of
    the head and upsampling without padding, pooling that rounds up, and features that are cropped to match.

    Args:
        num_classes: Logits per pixel, C; 1 means binary with a sigmoid.
        width: Factor of every channel count (64 to 512, and 4096 in fc6 and fc7).
        dropout: Dropout rate after fc6 and fc7.
        batch_norm: Whether batch norm follows every convolution of the encoder; with it small widths can be trained
            from scratch.
        weights: "imagenet" loads torchvision's VGG16, with fc6 and fc7 from its classifier (width 1 only); None starts
            from random weights.
        in_channels: Channels of the images.
        channel_dropout: Whether dropout drops whole channels (Tompson et al. 2015), as the reimplementation in PyTorch
            by K. Wada does, instead of single elements.
        padding: Pixels of zeros around the image, 0 or 100; 100 as in the original.

    Raises:
        ValueError: The weights are unknown or do not fit the width or the channels.
        WeightsUnavailableError: The weights could not be downloaded.
    """

    feature_layer = "score_fc7"
    """The layer whose input is an image's embedding (`acquisition.features`); the layers of the skips run later."""
    encoder_output = "fc6"
    """The layer whose input is what the encoder gives."""
    score_layers = ("score_fc7", "score_pool4", "score_pool3", "up_fc7", "up_pool4", "up_pool3")
    """The layers that depend on the number of classes."""

    def __init__(
        self,
        num_classes: int,
        width: float = 1.0,
        dropout: float = 0.5,
        batch_norm: bool = False,
        weights: str | None = None,
        in_channels: int = 3,
        channel_dropout: bool = False,
        padding: Literal[0, 100] = 0,
    ) -> None:
        super().__init__()
        weights = wanted_weights(weights)
        check_vgg16_weights(weights, width, in_channels)
        if padding not in (0, 100):
            raise ValueError(f"expected padding 0 or 100, got {padding}: only for 100 is known how the layers overlap")
        self.num_classes = num_classes
        self.padding = padding
        padded = not padding
        stages = [
            nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=not padded))
            for layers in vgg16_stages(in_channels, width, batch_norm)
        ]
        self.stages = nn.ModuleList(stages)
        hidden = scaled(4096, width)
        drop = nn.Dropout2d if channel_dropout else nn.Dropout
        fc6 = nn.Conv2d(scaled(512, width), hidden, 7, padding=3 if padded else 0)
        self.fc6 = nn.Sequential(fc6, nn.ReLU(inplace=True), drop(dropout))
        self.fc7 = nn.Sequential(nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True), drop(dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.score_fc7 = nn.Conv2d(hidden, num_classes, 1)
        self.score_pool4 = nn.Conv2d(scaled(512, width), num_classes, 1)
        self.score_pool3 = nn.Conv2d(scaled(256, width), num_classes, 1)
        # as in Long et al. 2015 the skips start at zero, so that the network starts as FCN-32s
        for skip in (self.score_pool4, self.score_pool3):
            nn.init.zeros_(skip.weight)
            assert skip.bias is not None
            nn.init.zeros_(skip.bias)
        self.up_fc7 = bilinear_upsampling(num_classes, 2, padded=padded)
        self.up_pool4 = bilinear_upsampling(num_classes, 2, padded=padded)
        self.up_pool3 = bilinear_upsampling(num_classes, 8, padded=padded)
        if weights:
            self._load_vgg16(batch_norm)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        if self.padding:
            return self._padded(images)
        right, bottom = -width % 32, -height % 32
        pool3, pool4, x = self._pools(F.pad(images, (0, right, 0, bottom)) if right or bottom else images)
        x = self.up_fc7(self.score_fc7(self.fc7(self.fc6(x))))
        x = self.up_pool4(x + self.score_pool4(pool4))
        x = self.up_pool3(x + self.score_pool3(pool3))
        return x[..., :height, :width] if right or bottom else x

    def _padded(self, images: Tensor) -> Tensor:
        # the offsets of Long et al.'s files; the first convolution adds the last of the 100 pixels itself
        pool3, pool4, x = self._pools(F.pad(images, (self.padding - 1,) * 4))
        x = self.up_fc7(self.score_fc7(self.fc7(self.fc6(x))))
        x = self.up_pool4(x + _cropped(self.score_pool4(pool4), x, 5))
        x = self.up_pool3(x + _cropped(self.score_pool3(pool3), x, 9))
        return _cropped(x, images, 31)

    def _pools(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The features after the last three poolings."""
        pools = []
        for stage in self.stages:
            x = stage(x)
            pools.append(x)
        return pools[2], pools[3], pools[4]

    def _load_vgg16(self, batch_norm: bool) -> None:
        source = load_vgg16(self.stages, batch_norm)
        for target, index in ((self.fc6[0], 0), (self.fc7[0], 3)):
            dense = source.classifier[index].state_dict()
            target.load_state_dict({"weight": dense["weight"].view(target.weight.shape), "bias": dense["bias"]})


def _cropped(x: Tensor, like: Tensor, offset: int) -> Tensor:
    height, width = like.shape[-2:]
    return x[..., offset : offset + height, offset : offset + width]
