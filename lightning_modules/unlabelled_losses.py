"""Losses for positive and unlabelled labels: class 0 holds negatives, and positives that nobody has labelled."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.annotation import VOID
from lightning_modules.losses import labelled_mean, with_class_0

__all__ = [
    "Bootstrap", "BootstrapHard", "BootstrapSoft", "ExponentialOdds", "ExponentialUnlabelled", "UnlabelledLoss",
    "WeightedUnlabelled",
]  # fmt: skip


class UnlabelledLoss(nn.Module, ABC):
    """Cross entropy in nats for positives, of the classes from 1 on, and another loss for class 0: give `unlabelled`.

    Averaged over what has a label. One logit is that of class 1, and class 0 has the other side of the sigmoid.

    Args:
        balanced: Weigh class 0, and all positives together, as if there were as many of either in the batch: by n / (2
            n_0) and n / (2 n_positive). A batch without one of them is not weighed.
        weight: Beside that, of class 0's terms.

    Raises:
        ValueError: If the weight is below 0.
    """

    def __init__(self, balanced: bool = True, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"the weight of class 0 must be at least 0, got {weight}")
        self.balanced = balanced
        self.weight = weight

    @abstractmethod
    def unlabelled(self, log_probs: Tensor) -> Tensor:
        """The loss of entries that are labelled 0.

        Args:
            log_probs: Logarithms of probabilities, N x C x ...

        Returns:
            N x ...
        """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: N x C x ...
            targets: N x ..., classes 0 to C - 1 (0 and 1 if C is 1) or `VOID`.

        Returns:
            A scalar; 0 for a batch without a label.
        """
        log_probs = F.log_softmax(with_class_0(logits), dim=1)
        known, negative = targets != VOID, targets == 0
        picked = log_probs.gather(1, torch.where(known, targets, 0).unsqueeze(1)).squeeze(1)
        # what is not class 0 is not shown: infinite there, it would make the gradient NaN
        shown = torch.where(negative.unsqueeze(1), log_probs, -math.log(log_probs.shape[1]))
        losses = torch.where(negative, self.weight * self.unlabelled(shown), -picked)
        total, negatives = known.sum(), (known & negative).sum()
        if self.balanced:
            # no branch on what a batch holds: many networks' batches go through here at once
            both = (negatives > 0) & (negatives < total)
            weights = torch.where(negative, total / (2 * negatives), total / (2 * (total - negatives)))
            losses = losses * torch.where(both, weights, 1.0)
        return labelled_mean(losses, targets)


class WeightedUnlabelled(UnlabelledLoss):
    """Cross entropy for class 0 too, of half the weight (Elkan and Noto 2008 weigh unlabelled samples).

    Args:
        balanced: As of `UnlabelledLoss`, like the other.
        weight: What the terms of class 0 are multiplied by.
    """

    def __init__(self, balanced: bool = True, weight: float = 0.5) -> None:
        super().__init__(balanced, weight)

    def unlabelled(self, log_probs: Tensor) -> Tensor:
        return -log_probs[:, 0]


class ExponentialUnlabelled(UnlabelledLoss):
    """One minus the probability of class 0: a confident positive that is labelled 0 hardly pulls, as -p_0 (1 - p_0).

    Cross entropy would pull it the harder, the more confident it is.
    """

    def unlabelled(self, log_probs: Tensor) -> Tensor:
        return 1 - log_probs[:, 0].exp()


class ExponentialOdds(UnlabelledLoss):
    """The odds (1 - p_0) / p_0 of class 0's being something else, which are exp(f) for the single logit f.

    The other reading of "exponential loss". Unlike `ExponentialUnlabelled`, it pulls a confident positive that is
    labelled 0 the harder, the more confident it is, as -(1 - p_0) / p_0.
    """

    def unlabelled(self, log_probs: Tensor) -> Tensor:
        return torch.expm1(-log_probs[:, 0])


class Bootstrap(UnlabelledLoss):
    """For class 0 a part of cross entropy, and for the rest what the network says itself (Reed et al. 2015).

    Args:
        beta: The part of cross entropy, from 0 to 1.
        balanced: As of `UnlabelledLoss`, like the other.
        weight: What the terms of class 0 are multiplied by.

    Raises:
        ValueError: If beta does not lie in [0, 1].
    """

    def __init__(self, beta: float = 0.5, balanced: bool = True, weight: float = 1.0) -> None:
        super().__init__(balanced, weight)
        if not 0 <= beta <= 1:
            raise ValueError(f"beta of {type(self).__name__} must lie between 0 and 1, got {beta}")
        self.beta = beta

    def unlabelled(self, log_probs: Tensor) -> Tensor:
        return -self.beta * log_probs[:, 0] + (1 - self.beta) * self.own(log_probs)

    @abstractmethod
    def own(self, log_probs: Tensor) -> Tensor:
        """What is asked for the rest.

        Args:
            log_probs: Logarithms of probabilities, N x C x ...

        Returns:
            N x ...
        """


class BootstrapHard(Bootstrap):
    """`Bootstrap` with the cross entropy of the class that the network takes for the right one."""

    def own(self, log_probs: Tensor) -> Tensor:
        return -log_probs.amax(dim=1)


class BootstrapSoft(Bootstrap):
    """`Bootstrap` with the prediction's entropy.

    Args:
        beta: The part of cross entropy.
        balanced: As of `UnlabelledLoss`, like the other.
        weight: What the terms of class 0 are multiplied by.
    """

    def __init__(self, beta: float = 0.95, balanced: bool = True, weight: float = 1.0) -> None:
        super().__init__(beta, balanced, weight)

    def own(self, log_probs: Tensor) -> Tensor:
        return -(log_probs.exp() * log_probs).sum(dim=1)
