"""DRN-D-22 (Yu, Koltun and Funkhouser 2017, "Dilated Residual Networks")."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from lightning_modules.networks.upsampling import bilinear_upsampling

__all__ = ["DRND22"]


class DRND22(nn.Module):
    """Residual network that keeps stride 8 by dilation, with a linear head and fixed bilinear upsampling.

    Levels 0 to 8 have 16, 16, 32, 64, 128, 256, 512, 512 and 512 channels at strides 1, 1, 2, 4 and then 8. Levels 3
    to 6 are two basic blocks each, dilated by 2 in level 5 and by 4 in level 6; the others are one convolution each.
    Levels 7 (dilated by 2) and 8, without a shortcut, remove the grid that dilation leaves in the features.

    Inputs of any size: they are padded on the right and bottom to a multiple of 8, and the logits are cropped.

    Args:
        num_classes: Logits per pixel, C; 1 means binary with a sigmoid.
        dropout: Dropout rate after levels 3, 4, 5 and 6, element by element; the paper has none.
        in_channels: Channels of the images.
    """

    feature_layer = "head"
    """The layer whose input is an image's embedding (`acquisition.features`); the upsampling runs later."""
    loss_layers = (*(f"levels.{level}" for level in range(1, 9)), "head", "up")
    """The layers from which `LossPrediction` predicts the loss unless told otherwise."""
    score_layers = ("head", "up")
    """The layers that depend on the number of classes."""

    def __init__(self, num_classes: int, dropout: float = 0.5, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*_convolution(in_channels, 16, 7), nn.ReLU(inplace=True)),
                nn.Sequential(*_convolution(16, 16), nn.ReLU(inplace=True)),
                nn.Sequential(*_convolution(16, 32, stride=2), nn.ReLU(inplace=True)),
                nn.Sequential(_Block(32, 64, stride=2), _Block(64, 64), nn.Dropout(dropout)),
                nn.Sequential(_Block(64, 128, stride=2), _Block(128, 128), nn.Dropout(dropout)),
                nn.Sequential(_Block(128, 256, dilation=2), _Block(256, 256, dilation=2), nn.Dropout(dropout)),
                nn.Sequential(_Block(256, 512, dilation=4), _Block(512, 512, dilation=4), nn.Dropout(dropout)),
                nn.Sequential(*_convolution(512, 512, dilation=2), nn.ReLU(inplace=True)),
                nn.Sequential(*_convolution(512, 512), nn.ReLU(inplace=True)),
            ]
        )
        self.head = nn.Conv2d(512, num_classes, 1)
        self.up = bilinear_upsampling(num_classes, 8, fixed=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        right, bottom = -width % 8, -height % 8
        x = F.pad(images, (0, right, 0, bottom)) if right or bottom else images
        for level in self.levels:
            x = level(x)
        x = self.up(self.head(x))
        return x[..., :height, :width] if right or bottom else x


class _Block(nn.Module):
    """Basic block (He et al. 2016) with both convolutions dilated."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(in_channels, channels, stride=stride, dilation=dilation),
            nn.ReLU(inplace=True),
            *_convolution(channels, channels, dilation=dilation),
        )
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(in_channels, channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


def _convolution(
    in_channels: int, channels: int, size: int = 3, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, nn.Module]:
    padding = dilation * (size // 2)
    convolution = nn.Conv2d(in_channels, channels, size, stride, padding, dilation, bias=False)
    return convolution, nn.BatchNorm2d(channels)
