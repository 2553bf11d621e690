"""Losses of `segmentation_models_pytorch`, called as all losses are: void does not count; one logit or many."""

from typing import Any

import torch
from segmentation_models_pytorch.losses import BINARY_MODE, MULTICLASS_MODE, DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor, nn

from acquisition.annotation import VOID

__all__ = ["Dice", "Focal", "LibraryLoss", "Tversky"]


class LibraryLoss(nn.Module):
    """One of the library's losses: as binary for one logit, over classes for many.

    Args:
        kind: The library's class.
        arguments: For it, beside mode and ignore_index.
    """

    def __init__(self, kind: type[nn.Module], **arguments: Any) -> None:
        super().__init__()
        self.binary, self.multiclass = (
            kind(mode=mode, ignore_index=VOID, **arguments) for mode in (BINARY_MODE, MULTICLASS_MODE)
        )

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: N x C x ...
            targets: N x ..., classes 0 to C - 1 (0 and 1 if C is 1) or `VOID`.

        Returns:
            A scalar; 0 for a batch without a label.
        """
        if not (targets != VOID).any():
            # the library's mean of nothing is NaN
            return logits.sum() * 0
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss: Tensor = (self.binary if logits.shape[1] == 1 else self.multiclass)(logits, targets)
        return loss


class Dice(LibraryLoss):
    """1 - 2 sum(p y) / (sum(p) + sum(y)) over a batch's pixels, averaged over classes (Milletari et al. 2016).

    For one logit that of class 1 alone. A class without a pixel in the batch counts as 0.

    Args:
        smooth: Added above and below.
        log_loss: The negative logarithm of the score in place of its difference from 1.

    Raises:
        ValueError: If smooth is below 0.
    """

    def __init__(self, smooth: float = 0.0, log_loss: bool = False) -> None:
        _check_weights("Dice", smooth=smooth)
        super().__init__(DiceLoss, smooth=smooth, log_loss=log_loss)


class Tversky(LibraryLoss):
    """`Dice` with weights: 1 - TP / (TP + alpha FP + beta FN) (Salehi et al. 2017); equal at 0.5 and 0.5.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        gamma: The mean loss is raised to this power, at least 1: below, its slope at a loss of 0 is infinite.
        smooth: Added above and below.

    Raises:
        ValueError: If gamma is below 1, or another below 0.
    """

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0, smooth: float = 0.0) -> None:
        _check_weights("Tversky", alpha=alpha, beta=beta, smooth=smooth)
        if not gamma >= 1:
            raise ValueError(f"Tversky needs gamma of 1 or more, got {gamma}; correct model.loss.gamma")
        super().__init__(TverskyLoss, alpha=alpha, beta=beta, gamma=gamma, smooth=smooth)


class Focal(LibraryLoss):
    """Cross entropy times (1 - p_t) to a power, averaged over pixels (Lin et al. 2017).

    For many logits the library takes each class against the rest, each with a sigmoid, and averages over classes: it
    does not train the softmax that predictions are made with.

    Args:
        gamma: The power: 0, or at least 1, for in between its slope is infinite where a prediction is certain.
        alpha: Weight of positives; 1 - alpha is that of negatives. None for equal weights of 1.

    Raises:
        ValueError: If gamma is below 1 and not 0, or alpha does not lie in [0, 1].
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        if not (gamma == 0 or gamma >= 1):
            raise ValueError(f"Focal needs gamma of 0, or of 1 or more, got {gamma}; correct model.loss.gamma")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(
                f"Focal needs alpha from 0 to 1, or null for equal weights, got {alpha}; correct model.loss.alpha"
            )
        super().__init__(FocalLoss, gamma=gamma, alpha=alpha)


def _check_weights(loss: str, **weights: float) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"{loss} needs {name} of 0 or more, got {value}; correct model.loss.{name}")
