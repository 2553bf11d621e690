"""FCN-AlexNet, at stride 32 (Long, Shelhamer, Darrell 2015)."""

from torch import Tensor, nn

from lightning_modules.networks.upsampling import bilinear_upsampling
from lightning_modules.networks.vgg16 import scaled

__all__ = ["FCNAlexNet"]

_PADDING = 100
_OFFSET = 18
"""Pixels by which the upsampled logits are larger at the top and left, by the sizes and strides of all layers."""


class FCNAlexNet(nn.Module):
    """Fully convolutional AlexNet without skip connections, layer by layer that of Long et al.'s Caffe files.

    100 pixels of zeros on each side, two groups in the second, fourth and fifth convolution, response normalisation
    behind the first two poolings, pooling that rounds up, and logits upsampled by a fixed bilinear kernel of 63 x 63
    and cropped. Inputs of any size. Weights are drawn as by Glorot and Bengio 2010, biases are 0 at first; ImageNet
    weights of this variant of AlexNet exist as a Caffe file alone, and are not offered.

    Args:
        num_classes: Logits per pixel, C; 1 means binary with a sigmoid.
        width: Factor of every channel count (96, 256, 384, 384, 256, and 4096 in fc6 and fc7).
        dropout: Dropout rate after fc6 and fc7, element by element.
        in_channels: Channels of the images.
    """

    feature_layer = "score"
    """The layer whose input is an image's embedding (`acquisition.features`)."""
    score_layers = ("score", "up")
    """The layers that depend on the number of classes."""

    def __init__(self, num_classes: int, width: float = 1.0, dropout: float = 0.5, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        # even, for the groups
        first, second, third, fourth, fifth = (2 * scaled(c // 2, width) for c in (96, 256, 384, 384, 256))
        hidden = scaled(4096, width)
        self.features = nn.Sequential(
            *_convolution(in_channels, first, 11, stride=4, padding=_PADDING),
            *_normalised_pooling(),
            *_convolution(first, second, 5, padding=2, groups=2),
            *_normalised_pooling(),
            *_convolution(second, third, 3, padding=1),
            *_convolution(third, fourth, 3, padding=1, groups=2),
            *_convolution(fourth, fifth, 3, padding=1, groups=2),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.fc6 = nn.Sequential(*_convolution(fifth, hidden, 6), nn.Dropout(dropout))
        self.fc7 = nn.Sequential(*_convolution(hidden, hidden, 1), nn.Dropout(dropout))
        self.score = nn.Conv2d(hidden, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.up = bilinear_upsampling(num_classes, 32, fixed=True, padded=False, size=63)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        x = self.up(self.score(self.fc7(self.fc6(self.features(images)))))
        return x[..., _OFFSET : _OFFSET + height, _OFFSET : _OFFSET + width]


def _convolution(
    in_channels: int, channels: int, size: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, channels, size, stride, padding, groups=groups), nn.ReLU(inplace=True)


def _normalised_pooling() -> tuple[nn.Module, nn.Module]:
    # as in Caffe, the sum of squares is divided by the window's size
    return nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
