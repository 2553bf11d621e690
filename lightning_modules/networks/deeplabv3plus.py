"""DeepLabv3+ (Chen et al. 2018), from segmentation-models-pytorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from lightning_modules.networks.weights import downloading, is_file, load_encoder, wanted_weights

__all__ = ["DeepLabV3Plus"]


class DeepLabV3Plus(nn.Module):
    """Encoder with atrous spatial pyramid pooling and a decoder at stride 4.

    Inputs of any size: they are padded on the right and bottom to a multiple of 16, and the logits are cropped.

    Args:
        num_classes: Logits per pixel, C; 1 means binary with a sigmoid.
        encoder: A name that segmentation-models-pytorch knows, such as resnet18, resnet50 or mobilenet_v2.
        weights: "imagenet", another name that the encoder offers, None for random weights, or the path of a
            .safetensors file of the encoder's classifier, under timm's names for a "tu-" encoder such as
            tu-tf_efficientnet_lite0, and under torchvision's for others.
        output_stride: Stride of the encoder's last features.
        atrous_rates: Rates of the pyramid; Chen et al. 2018 and Chen 2020 use 6, 12, 18 at stride 16.
        decoder_channels: Channels of pyramid and decoder.
        dropout: Dropout rate after the pyramid's projection.
        in_channels: Channels of the images.

    Raises:
        ValueError: There are no such weights, or the file of weights is missing, broken or another network's.
        WeightsUnavailableError: The weights could not be downloaded.
    """

    encoder_output = "model.decoder.aspp"
    """The layer whose input is what the encoder gives."""
    score_layers = ("model.segmentation_head",)
    """The layers that depend on the number of classes."""

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
        if weights is None or is_file(weights):
            self.model = build(None)
            if weights is not None:
                # smp wraps timm's encoders, and inherits from torchvision's
                inner = self.model.get_submodule("encoder")
                load_encoder(getattr(inner, "model", inner), Path(weights), encoder)
        else:
            with downloading(f"weights {weights!r} of encoder {encoder!r}", "network.weights: null"):
                self.model = build(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W."""
        height, width = images.shape[-2:]
        right, bottom = -width % 16, -height % 16
        if not right and not bottom:
            # the MC engine can fuse the upsampling with the softmax if it is the last operation
            logits: Tensor = self.model(images)
            return logits
        logits = self.model(F.pad(images, (0, right, 0, bottom)))
        return logits[..., :height, :width]
