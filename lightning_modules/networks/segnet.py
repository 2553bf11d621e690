"""SegNet (Badrinarayanan, Kendall and Cipolla 2017), with the dropout of Bayesian SegNet (Kendall et al. 2017)."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from lightning_modules.networks.vgg16 import check_vgg16_weights, convolutions, load_vgg16, scaled, vgg16_stages
from lightning_modules.networks.weights import wanted_weights

__all__ = ["SegNet"]

_DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))
_WITH_DROPOUT = 3
"""Stages with dropout on each side of the middle: "Bayesian Center Encoder-Decoder" of Kendall et al. 2017."""


class SegNet(nn.Module):
    """The convolutions of VGG16, and a decoder that puts values back where the encoder's poolings found them.

    Encoder and decoder have five stages each; every convolution has batch norm and a ReLU behind it, but for the last
    one, which gives the logits.

    torch counts its unpooling among the operations without a deterministic form, although no two values here go to one
    place: with `trainer.deterministic` say "warn" and not true.

    Inputs of any size: they are padded on the right and bottom to a multiple of 32, and the logits are cropped.

    Args:
        num_classes: Logits per pixel, C; 1 means binary with a sigmoid.
        width: Factor of every channel count (64 to 512).
        dropout: Dropout rate after the three deepest stages of the encoder (behind their poolings) and of the decoder,
            element by element, as Kendall, Badrinarayanan and Cipolla 2017 found best.
        weights: "imagenet" loads the convolutions and norms of torchvision's VGG16 with batch norm into the encoder
            (width 1 only); None starts from random weights.
        in_channels: Channels of the images.

    Raises:
        ValueError: The weights are unknown or do not fit the width or the channels.
        WeightsUnavailableError: The weights could not be downloaded.
    """

    encoder_output = "pool"
    """The layer whose input is what the encoder gives, when it runs last."""
    score_layers = ("decoder.4.3",)
    """The layers that depend on the number of classes."""

    def __init__(
        self,
        num_classes: int,
        width: float = 1.0,
        dropout: float = 0.5,
        weights: str | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        weights = wanted_weights(weights)
        check_vgg16_weights(weights, width, in_channels)
        self.num_classes = num_classes
        encoder = vgg16_stages(in_channels, width, batch_norm=True)
        self.encoder = nn.ModuleList(nn.Sequential(*layers) for layers in encoder)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        decoder: list[list[nn.Module]] = []
        channels = scaled(512, width)
        for stage in _DECODER:
            wanted = [scaled(c, width) for c in stage]
            decoder.append(convolutions(channels, wanted, batch_norm=True))
            channels = wanted[-1]
        decoder[-1].append(nn.Conv2d(channels, num_classes, 3, padding=1))
        self.decoder = nn.ModuleList(nn.Sequential(*layers) for layers in decoder)
        self.encoder_dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(_WITH_DROPOUT))
        self.decoder_dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(_WITH_DROPOUT))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if weights:
            load_vgg16(self.encoder, batch_norm=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        right, bottom = -width % 32, -height % 32
        x = F.pad(images, (0, right, 0, bottom)) if right or bottom else images
        places = []
        shallow = len(self.encoder) - _WITH_DROPOUT
        for number, stage in enumerate(self.encoder):
            x, indices = self.pool(stage(x))
            places.append(indices)
            if number >= shallow:
                x = self.encoder_dropouts[number - shallow](x)
        for number, stage in enumerate(self.decoder):
            x = stage(self.unpool(x, places.pop()))
            if number < _WITH_DROPOUT:
                x = self.decoder_dropouts[number](x)
        return x[..., :height, :width] if right or bottom else x
