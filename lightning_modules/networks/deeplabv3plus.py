"""DeepLabv3+ (Chen et al. 2018), from segmentation-models-pytorch."""

from collections.abc import Sequence
from typing import Literal

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from lightning_modules.networks.weights import downloading, wanted_weights

__all__ = ["DeepLabV3Plus"]


class DeepLabV3Plus(nn.Module):
    """Encoder with atrous spatial pyramid pooling and a decoder at stride 4.

    num_classes: C logits per pixel; 1 means binary with a sigmoid. encoder: any name that
    segmentation-models-pytorch knows (resnet18, resnet50, mobilenet_v2, timm-...). weights: "imagenet", another
    name that the encoder offers, or None. output_stride: 8 or 16. atrous_rates: of the pyramid (the paper and
    the thesis use 6, 12, 18 at stride 16). dropout: the rate after the pyramid's projection.

    Any input size: the input is padded on the right and bottom to a multiple of 16 and the logits are cut back.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: str = "resnet50",
        weights: str | None = None,
        output_stride: Literal[8, 16] = 16,
        atrous_rates: Sequence[int] = (6, 12, 18),
        decoder_channels: int = 256,
        dropout: float = 0.5,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes

        def build(encoder_weights: str | None) -> nn.Module:
            return smp.DeepLabV3Plus(
                encoder_name=encoder,
                encoder_weights=encoder_weights,
                encoder_output_stride=output_stride,
                decoder_channels=decoder_channels,
                decoder_atrous_rates=tuple(atrous_rates),
                decoder_aspp_dropout=dropout,
                in_channels=in_channels,
                classes=num_classes,
            )

        weights = wanted_weights(weights)
        if weights is None:
            self.model = build(None)
        else:
            with downloading(f"weights {weights!r} of encoder {encoder!r}", "network.weights: null"):
                self.model = build(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Images, N x 3 x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        right, bottom = -width % 16, -height % 16
        if not right and not bottom:
            # with the upsampling as its last operation the MC engine can fuse it with the softmax
            logits: Tensor = self.model(images)
            return logits
        logits = self.model(F.pad(images, (0, right, 0, bottom)))
        return logits[..., :height, :width]
