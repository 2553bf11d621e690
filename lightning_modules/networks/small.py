"""Small classifiers from the literature: images, N x channels x H x W, to logits, N x C."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

__all__ = ["GalCNN", "SmallVGG", "TwoLayerNet"]


class TwoLayerNet(nn.Module):
    """Two dense layers (Chen 2020, section 3.1): flatten, `width` rectified units, C logits.

    Args:
        num_classes: Logits per image, C.
        width: Units of the hidden layer.
        image_shape: (channels, height, width) of the images.
        dropout: Dropout rate after the hidden layer; 0 as in chapter 3 of Chen 2020, which uses no MC dropout.
    """

    score_layers = ("head",)
    """The layers that depend on the number of classes."""

    def __init__(
        self, num_classes: int = 10, width: int = 16, image_shape: Sequence[int] = (1, 28, 28), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_shape = tuple(image_shape)
        self.hidden = nn.Linear(prod(image_shape), width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C."""
        _check_shape(images, self.image_shape)
        return self.head(self.dropout(self.relu(self.hidden(images.flatten(start_dim=1)))))


class GalCNN(nn.Module):
    """The network of Gal, Islam and Ghahramani 2017 for MNIST.

    convolution - relu - convolution - relu - max pooling - dropout - dense - relu - dropout - dense, with kernels of
    4 x 4 without padding and pooling by 2.

    Args:
        num_classes: Logits per image, C.
        image_shape: (channels, height, width) of the images.
        convolutions: Number of convolutions. 1 is a shallower network, as in the reimplementation "Implementation and
            analysis of Deep Bayesian Active Learning with Image Data" (anonymous), which does not describe the rest of
            it in its text.
        channels: Kernels of each convolution.
        width: Units of the dense layer.
        dropout: Dropout rates after the pooling and after the dense layer.
        dropout_everywhere: Whether dropout follows every layer but the last, each convolution too, with the rate that
            stands after the pooling. The weights keep their names.

    Raises:
        ValueError: There is no convolution, or the images are too small for so many.
    """

    score_layers = ("head",)
    """The layers that depend on the number of classes."""

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: Sequence[int] = (1, 28, 28),
        convolutions: int = 2,
        channels: int = 32,
        width: int = 128,
        dropout: Sequence[float] = (0.25, 0.5),
        dropout_everywhere: bool = False,
    ) -> None:
        super().__init__()
        depth, rows, columns = image_shape
        rows, columns = ((side - 3 * convolutions) // 2 for side in (rows, columns))
        if convolutions < 1 or min(rows, columns) < 1:
            raise ValueError(
                f"GalCNN needs at least 1 convolution and images that survive them, got {convolutions} for "
                f"{' x '.join(map(str, image_shape))}; use fewer convolutions or larger images"
            )
        self.num_classes = num_classes
        self.image_shape = tuple(image_shape)
        layers: list[nn.Module] = []
        for number in range(convolutions):
            # the pooling behind the last one has its own
            dropped = dropout_everywhere and number < convolutions - 1
            after = nn.Sequential(nn.ReLU(), nn.Dropout(dropout[0])) if dropped else nn.ReLU()
            layers += [nn.Conv2d(channels if number else depth, channels, 4), after]
        self.features = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Dropout(dropout[0]))
        self.hidden = nn.Sequential(nn.Linear(channels * rows * columns, width), nn.ReLU(), nn.Dropout(dropout[1]))
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C."""
        _check_shape(images, self.image_shape)
        return self.head(self.hidden(self.features(images).flatten(start_dim=1)))


class SmallVGG(nn.Module):
    """Blocks of two convolutions, each block with more kernels, and two dense layers, for images such as CIFAR-10's.

    block: 2 x (convolution of 3 x 3, leaky relu of slope 0.2) - max pooling by 2 - dropout; then dense - relu - dropout
    - dense. Weights are drawn as by He et al. 2015, biases are 0 at first.

    Args:
        num_classes: Logits per image, C.
        image_shape: (channels, height, width) of the images.
        channels: Kernels of each block's convolutions.
        width: Units of the dense layer.
        dropout: Dropout rates after each block and after the dense layer.

    Raises:
        ValueError: There is no block, the rates are more or fewer, or the images are too small for so many blocks.
    """

    score_layers = ("head",)
    """The layers that depend on the number of classes."""

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: Sequence[int] = (3, 32, 32),
        channels: Sequence[int] = (32, 64, 128),
        width: int = 512,
        dropout: Sequence[float] = (0.2, 0.3, 0.4, 0.5),
    ) -> None:
        super().__init__()
        depth, rows, columns = image_shape
        rows, columns = (side // 2 ** len(channels) for side in (rows, columns))
        if not channels or min(rows, columns) < 1:
            raise ValueError(
                f"SmallVGG needs at least 1 block and images that survive them, got {len(channels)} for "
                f"{' x '.join(map(str, image_shape))}; use fewer channels or larger images"
            )
        if len(dropout) != len(channels) + 1:
            raise ValueError(
                f"SmallVGG needs a dropout rate for each of {len(channels)} blocks and the dense layer, got "
                f"{len(dropout)} rates"
            )
        self.num_classes = num_classes
        self.image_shape = tuple(image_shape)
        layers: list[nn.Module] = []
        for before, after, rate in zip((depth, *channels), channels, dropout, strict=False):
            for inputs in (before, after):
                layers += [nn.Conv2d(inputs, after, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.MaxPool2d(2), nn.Dropout(rate)]
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Linear(channels[-1] * rows * columns, width), nn.ReLU(), nn.Dropout(dropout[-1]))
        self.head = nn.Linear(width, num_classes)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C."""
        _check_shape(images, self.image_shape)
        return self.head(self.hidden(self.features(images).flatten(start_dim=1)))


def _check_shape(images: Tensor, expected: tuple[int, ...]) -> None:
    if images.shape[1:] != expected:
        raise ValueError(
            f"the network expects images of {' x '.join(map(str, expected))}, got "
            f"{' x '.join(map(str, images.shape[1:]))}; set model.network.image_shape"
        )
