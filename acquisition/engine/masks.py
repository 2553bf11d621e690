"""Dropout masks that belong to the sampled network, and the functions that they stand in for.

A mask depends on (key, layer, t), the rate and the shape of one image's features: never on the batch. Layers are
named by the innermost module that ran the dropout and by how many it had run before in the same pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.seeding import generator_for

__all__ = ["ALPHA", "DROPOUTS", "DropoutOp", "MaskKey"]

_BY_ELEMENT = (F.dropout, torch.dropout, torch.dropout_)
_BY_FEATURE = (F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout, torch.feature_dropout_)
_ALPHA_BY_ELEMENT = (F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_)
_ALPHA_BY_FEATURE = (F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_)

ALPHA = frozenset(_ALPHA_BY_ELEMENT + _ALPHA_BY_FEATURE)
DROPOUTS: dict[Callable[..., Any], bool] = {
    func: by_feature
    for functions, by_feature in (
        (_BY_ELEMENT + _ALPHA_BY_ELEMENT, False),
        (_BY_FEATURE + _ALPHA_BY_FEATURE, True),
    )
    for func in functions
}
"""Every torch function that is dropout, and whether it drops whole features (channels)."""

# The value that SELU approaches for large negative inputs; alpha dropout sets what is dropped to it.
_SELU_FLOOR = -1.7580993408473766


@dataclass(frozen=True)
class MaskKey:
    """What masks are drawn from beside layer and t: and the image where each has its own."""

    key: tuple[object, ...]
    image_ids: tuple[str, ...] | None = None

    def keep(self, layer: str, t: int, shape: Sequence[int], rate: float) -> Tensor:
        """Booleans of shape 1 x shape, or one row per image; False with the probability rate (to 1/65536)."""
        images = [()] if self.image_ids is None else [(i,) for i in self.image_ids]
        size, threshold = prod(shape), round(rate * 65536) - 32768
        if threshold > 32767:
            return torch.zeros(len(images), *shape, dtype=torch.bool)
        rows = []
        for image in images:
            # Sixteen bits decide, four to a 64-bit draw: drawing is a visible part of a sample's time.
            draws = torch.empty((size + 3) // 4, dtype=torch.int64)
            draws.random_(-(2**63), None, generator=generator_for(*self.key, layer, t, *image))
            rows.append(draws.view(torch.int16)[:size] >= threshold)
        return torch.stack(rows).view(len(images), *shape) if len(rows) > 1 else rows[0].view(1, *shape)


@dataclass(frozen=True)
class DropoutOp:
    """One dropout of the network.

    Args:
        layer: Its name.
        rate: Probability to drop.
        shape: The mask's, for one image.
        images: How many images one pass holds; 0 where the input is no batch (a weight) and the mask has its whole
            shape.
        alpha: Keep mean and variance under SELU.
        scale: Divide what is kept by 1 - rate.
    """

    layer: str
    rate: float
    shape: tuple[int, ...]
    images: int
    alpha: bool = False
    scale: bool = True

    @classmethod
    def for_input(
        cls, x: Tensor, layer: str, rate: float, images: int, by_feature: bool, alpha: bool, path: bool, scale: bool
    ) -> "DropoutOp":
        """The dropout that masks x, which has images on axis 0, or a whole multiple of them (windows of each image)."""
        if isinstance(x, torch.nn.Parameter):
            return cls(layer, rate, tuple(x.shape), 0, alpha, scale)
        if x.ndim == 0 or x.shape[0] % images:
            raise ValueError(
                f"dropout layer {layer!r} must see the images of a batch on axis 0: expected a multiple of {images}, "
                f"got shape {tuple(x.shape)}; put the batch first in the network"
            )
        per_image = x.shape[0] // images
        rest = tuple(x.shape[1:])
        if path:
            rest = (1,) * len(rest)
        elif by_feature:
            rest = rest[:1] + (1,) * len(rest[1:])
        return cls(layer, rate, (per_image, *rest), images, alpha, scale)

    def factors(self, masks: MaskKey, t: int, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """What sample t multiplies by, and what it adds then (None: nothing); the first axis is the image's, or 1."""
        if self.images == 0:
            masks = MaskKey(masks.key)
        keep = masks.keep(self.layer, t, self.shape, self.rate).flatten(0, 1 if self.images else 0)
        if self.images == 0:
            keep = keep[0]
        elif self.shape[0] > 1 and masks.image_ids is None:
            keep = keep.repeat(self.images, *(1,) * (keep.ndim - 1))
        if keep.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
            keep = keep.contiguous(memory_format=torch.channels_last)
        keep = keep.to(device=like.device, non_blocking=True)
        multiplier = keep.to(like.dtype)
        if not self.alpha:
            return (multiplier.mul_(1 / (1 - self.rate)) if self.scale and self.rate < 1 else multiplier), None
        if self.rate == 1:
            return multiplier, None
        a = ((_SELU_FLOOR**2 * self.rate + 1) * (1 - self.rate)) ** -0.5
        offset = (~keep).to(like.dtype).mul_(a * _SELU_FLOOR).sub_(a * _SELU_FLOOR * self.rate)
        return multiplier.mul_(a), offset

    def __call__(self, x: Tensor, masks: MaskKey, t: int, inplace: bool = False) -> Tensor:
        """X as sample t sees it."""
        multiplier, offset = self.factors(masks, t, x)
        x = x.mul_(multiplier) if inplace else x * multiplier
        return x if offset is None else x.add_(offset)
