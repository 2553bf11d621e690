"""ResNet-18 (He et al. 2016) from torchvision, with dropout before its last layer or after every one."""

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.models.resnet import BasicBlock

from lightning_modules.networks.weights import downloading, wanted_weights

__all__ = ["ResNet18"]


class ResNet18(nn.Module):
    """ResNet-18 with dropout on its pooled features; MC samples repeat the last layer, or all if it is everywhere.

    Args:
        num_classes: Logits per image, C; 1 means binary with a sigmoid.
        weights: "imagenet", or None for random weights.
        dropout: Dropout rate on the pooled features.
        small_images: Whether the first convolution is 3 x 3 with stride 1 and without pooling, as is usual for CIFAR's
            32 x 32 pixels; only with random weights.
        dropout_everywhere: Whether dropout of the same rate also follows each of the 17 convolutions, after its ReLU
            and, where a shortcut ends, after the sum. The weights keep their names.

    Raises:
        ValueError: The weights are unknown or do not fit `small_images`.
        WeightsUnavailableError: The weights could not be downloaded.
    """

    score_layers = ("body.fc",)
    """The layers that depend on the number of classes."""

    def __init__(
        self,
        num_classes: int,
        weights: str | None = None,
        dropout: float = 0.5,
        small_images: bool = False,
        dropout_everywhere: bool = False,
    ) -> None:
        super().__init__()
        weights = wanted_weights(weights)
        if weights not in (None, "imagenet"):
            raise ValueError(f'expected weights "imagenet" or null, got {weights!r}')
        if weights and small_images:
            raise ValueError("weights: imagenet needs the first layer of ImageNet; set small_images to false")
        self.num_classes = num_classes
        if weights:
            with downloading("ImageNet weights of ResNet-18", "network.weights: null"):
                self.body = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)
        else:
            self.body = resnet18()
        if small_images:
            self.body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.body.maxpool = nn.Identity()
        if dropout_everywhere:
            # a block runs its own after either convolution
            for part in (self.body, *(m for m in self.body.modules() if isinstance(m, BasicBlock))):
                part.relu = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.body.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x 3 x H x W, to logits, N x C."""
        if images.shape[1] != 3:
            raise ValueError(f"ResNet18 expects images of 3 channels, got {images.shape[1]}; choose another network")
        return self.body(images)
