"""Acquisition values as pure functions of probabilities.

Every function takes probabilities with the classes on axis 1 (N C, or N C H W) and returns one value per
pixel without that axis (N, or N H W); the larger the value, the more the unit is worth labelling.
Logarithms are natural: entropies are in nats. 0 log 0 is 0. Equation numbers are those of the Waterloo
thesis (Chen 2020, "Accelerating the training of convolutional neural networks for image segmentation with deep
active learning") unless another source is named.
"""

import torch
from torch import Tensor, nn

__all__ = [
    "bald",
    "class_log_probabilities",
    "class_probabilities",
    "entropy",
    "margin",
    "max_softmax",
    "mean_std",
    "mean_variance",
    "odin",
    "odin_perturbation",
    "predicted_class",
    "variation_ratio",
    "vote_entropy",
]


def class_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax at a temperature (1.4); a single logit is a sigmoid and becomes the two classes [1 - p, p].

    logits: N x C x ... with C >= 1. Returns N x max(C, 2) x ..., summing to 1 over axis 1, in float32 or better.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    logits = logits if temperature == 1 else logits / temperature
    if logits.shape[1] == 1:
        return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)
    return logits.softmax(dim=1)


def class_log_probabilities(logits: Tensor) -> Tensor:
    """Logarithm of `class_probabilities`, finite where that rounds to 0."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if logits.shape[1] == 1:
        return torch.cat([nn.functional.logsigmoid(-logits), nn.functional.logsigmoid(logits)], dim=1)
    return logits.log_softmax(dim=1)


def predicted_class(logits: Tensor) -> Tensor:
    """Logits, N x C x ..., to class indices, N x ...; one logit is binary."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def entropy(probs: Tensor) -> Tensor:
    """Shannon entropy in nats, 0 to log C (1.1). Of the MC mean it is the predictive entropy (Gal et al. 2017)."""
    return torch.special.entr(probs).sum(dim=1)


def max_softmax(probs: Tensor) -> Tensor:
    """One minus the largest probability, 0 to 1 - 1/C (1.2)."""
    return 1 - probs.amax(dim=1)


def margin(probs: Tensor) -> Tensor:
    """One minus the gap between the two largest probabilities, 0 to 1 (1.3)."""
    first, second = probs.topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def odin(logits: Tensor, temperature: float) -> Tensor:
    """One minus the largest softmax at a temperature (1.4, 1.6), from logits; at temperature 1 it is `max_softmax`.

    Taken as the sum of the others, which a low temperature leaves far below the rounding of one minus the largest:
    s / (1 + s), with s the sum of exp((logit - largest) / temperature) over the others. One prediction per unit is
    computed in float64, where few units tie at 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if logits.ndim == 2:
        logits = logits.double()
    elif logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if logits.shape[1] == 1:
        others = torch.exp(-logits.abs() / temperature)
    else:
        largest = logits.argmax(dim=1, keepdim=True)
        gaps = (logits - logits.gather(1, largest)) / temperature
        # its own gap is 0, or NaN where the largest logit is infinite
        others = gaps.exp().scatter(1, largest, gaps.gather(1, largest))
    total = others.sum(dim=1)
    return total / (1 + total)


def odin_perturbation(images: Tensor, logits: Tensor, temperature: float, epsilon: float) -> Tensor:
    """The input moved by epsilon against the sign of the gradient (1.5).

    images: N x 3 x H x W, a leaf that requires grad and from which logits were computed. epsilon is in units
    of the normalised input. A dense prediction has one log-probability per pixel; their sum is differentiated.
    """
    log_probability = class_probabilities(logits, temperature).amax(dim=1).clamp_min(1e-38).log().sum()
    (gradient,) = torch.autograd.grad(log_probability, images)
    return (images - epsilon * torch.sign(-gradient)).detach()


def bald(mean_probs: Tensor, expected_entropy: Tensor) -> Tensor:
    """BALD in nats: entropy of the mean minus mean of the entropies (1.7; Houlsby et al. 2011).

    mean_probs: N x C x ..., the mean over T MC samples. expected_entropy: N x ..., the mean over the same
    samples of each one's entropy. Never below 0 in exact arithmetic; rounding below 0 is cut off.
    """
    return (entropy(mean_probs) - expected_entropy).clamp_min(0)


def vote_entropy(vote_fractions: Tensor) -> Tensor:
    """Entropy in nats of the share of MC samples that vote for each class (1.8)."""
    return entropy(vote_fractions)


def variation_ratio(mean_probs: Tensor) -> Tensor:
    """One minus the largest probability of the MC mean, 0 to 1 - 1/C (Gal et al. 2017, section 4)."""
    return max_softmax(mean_probs)


def mean_variance(mean_probs: Tensor, mean_squares: Tensor) -> Tensor:
    """Variance over the T MC samples (divided by T), averaged over the classes. 0 to 1/4.

    SuperAnnotate 2020, "Active learning for semantic segmentation".
    """
    return (mean_squares - mean_probs.square()).clamp_min(0).mean(dim=1)


def mean_std(mean_probs: Tensor, mean_squares: Tensor) -> Tensor:
    """Standard deviation over the T MC samples (divided by T), averaged over the classes. 0 to 1/2.

    Gal et al. 2017, section 4 ("Mean STD", after Kampffmeyer et al. 2016 and Kendall et al. 2015): mean over c of
    sqrt(E[p_c^2] - E[p_c]^2).
    """
    return (mean_squares - mean_probs.square()).clamp_min(0).sqrt().mean(dim=1)
