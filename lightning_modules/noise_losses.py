"""Losses that survive labels of which some are wrong, of whatever class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.annotation import VOID
from lightning_modules.losses import labelled_mean, with_class_0

__all__ = ["DropoutNoise", "SymmetricCrossEntropy"]


class DropoutNoise(nn.Module):
    """Cross entropy behind a layer that learns how labels are wrong (Jindal, Nokleby and Chen 2017).

    q = softmax(W p) is what the layer makes of the network's probabilities p, and -ln q_y the loss. W is the identity
    at first; dropout on it keeps it from learning the network's work. The layer belongs to the loss: queries ask for p,
    and so does evaluation, with -ln p_y.

    Args:
        num_classes: C; 2 for one logit.
        rate: Of dropout, from 0 to below 1.

    Raises:
        ValueError: If the rate is another number.
    """

    def __init__(self, num_classes: int, rate: float = 0.1) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of DropoutNoise must be at least 0 and below 1, got {rate}")
        self.rate = rate
        self.weight = nn.Parameter(torch.eye(num_classes))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: N x C x ...
            targets: N x ..., classes 0 to C - 1 (0 and 1 if C is 1) or `VOID`.

        Returns:
            A scalar; 0 for a batch without a label.

        Raises:
            ValueError: If there are more or fewer logits than classes.
        """
        logits = with_class_0(logits)
        if logits.shape[1] != len(self.weight):
            raise ValueError(
                f"DropoutNoise has a layer of {len(self.weight)} classes, got logits of {logits.shape[1]}; set "
                f"model.loss.num_classes to {logits.shape[1]}"
            )
        if self.training:
            weight = F.dropout(self.weight, self.rate)
            logits = torch.einsum("ij,nj...->ni...", weight.to(logits.dtype), logits.softmax(dim=1))
        return labelled_mean(F.cross_entropy(logits, targets, ignore_index=VOID, reduction="none"), targets)


class SymmetricCrossEntropy(nn.Module):
    """alpha (-ln p_y) + beta (-A) (1 - p_y): cross entropy, and its reverse (Wang et al. 2019).

    The reverse one takes the prediction for the truth and the label for the prediction; it is bounded, so that a wrong
    label pulls only so hard.

    Args:
        alpha: Weight of cross entropy, at least 0.
        beta: Weight of the reverse one, at least 0.
        log_zero: A, which stands for the logarithm of 0, the probability that a label gives to other classes; below 0.

    Raises:
        ValueError: If one of them is another number.
    """

    def __init__(self, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0) -> None:
        super().__init__()
        if min(alpha, beta) < 0 or log_zero >= 0:
            raise ValueError(
                "SymmetricCrossEntropy needs weights of at least 0 and a log_zero below 0, got "
                f"alpha {alpha}, beta {beta} and log_zero {log_zero}"
            )
        self.alpha = alpha
        self.beta = beta
        self.log_zero = log_zero

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: N x C x ...
            targets: N x ..., classes 0 to C - 1 (0 and 1 if C is 1) or `VOID`.

        Returns:
            A scalar; 0 for a batch without a label.
        """
        plain = F.cross_entropy(with_class_0(logits), targets, ignore_index=VOID, reduction="none")
        reverse = -self.log_zero * -torch.expm1(-plain)
        return labelled_mean(self.alpha * plain + self.beta * reverse, targets)
