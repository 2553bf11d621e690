"""Acquisition values as pure functions of probabilities.

Every function takes probabilities with the classes on axis 1 (N C, or N C H W) and returns one value per
pixel without that axis (N, or N H W); the larger the value, the more the unit is worth labelling.
Logarithms are natural: entropies are in nats. 0 log 0 is 0. Equations are numbered as in Chen 2020, "Accelerating the
training of convolutional neural networks for image segmentation with deep active learning" (University of Waterloo).
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
    "variance_parts",
    "variation_ratio",
    "vote_entropy",
]


def class_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax of logits at a temperature (Chen 2020, eq. 1.4).

    A single logit is a sigmoid and becomes the two classes [1 - p, p].

    Args:
        logits: N x C x ..., with C >= 1.
        temperature: What the logits are divided by, above 0.

    Returns:
        N x max(C, 2) x ..., summing to 1 over axis 1, in float32 or better.

    Raises:
        ValueError: If the temperature is not above 0.

    Example:
        >>> class_probabilities(torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
        tensor([[0.5000, 0.5000],
                [0.1192, 0.8808]])
        >>> class_probabilities(torch.tensor([[2.0]]))
        tensor([[0.1192, 0.8808]])
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
    """Logarithm of `class_probabilities`, finite where a probability rounds to 0.

    Args:
        logits: N x C x ..., with C >= 1.

    Returns:
        N x max(C, 2) x ..., in float32 or better.

    Example:
        >>> class_log_probabilities(torch.tensor([[0.0, 200.0]]))
        tensor([[-200.,    0.]])
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if logits.shape[1] == 1:
        return torch.cat([nn.functional.logsigmoid(-logits), nn.functional.logsigmoid(logits)], dim=1)
    return logits.log_softmax(dim=1)


def predicted_class(logits: Tensor) -> Tensor:
    """The most probable class.

    Args:
        logits: N x C x ...; a single logit is binary, and class 1 where it is above 0.

    Returns:
        N x ..., class indices.

    Example:
        >>> predicted_class(torch.tensor([[0.5, -1.0, 3.0], [2.0, 0.0, 1.0]]))
        tensor([2, 0])
        >>> predicted_class(torch.tensor([[-0.5], [0.5]]))
        tensor([0, 1])
    """
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def entropy(probs: Tensor) -> Tensor:
    """Shannon entropy in nats (Chen 2020, eq. 1.1).

    Of the mean over MC samples it is the predictive entropy (Gal et al. 2017, "Deep Bayesian active learning with image
    data").

    Args:
        probs: N x C x ..., summing to 1 over axis 1.

    Returns:
        N x ..., from 0 to log C.

    Example:
        >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        tensor([0.6931, 0.0000])
    """
    return torch.special.entr(probs).sum(dim=1)


def max_softmax(probs: Tensor) -> Tensor:
    """One minus the largest probability (Chen 2020, eq. 1.2).

    Args:
        probs: N x C x ..., summing to 1 over axis 1.

    Returns:
        N x ..., from 0 to 1 - 1/C.

    Example:
        >>> max_softmax(torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
        tensor([0.2500, 0.0000])
    """
    return 1 - probs.amax(dim=1)


def margin(probs: Tensor) -> Tensor:
    """One minus the gap between the two largest probabilities (Chen 2020, eq. 1.3).

    Args:
        probs: N x C x ..., summing to 1 over axis 1.

    Returns:
        N x ..., from 0 to 1.

    Example:
        >>> margin(torch.tensor([[0.50, 0.25, 0.25], [0.50, 0.50, 0.00]]))
        tensor([0.7500, 1.0000])
    """
    first, second = probs.topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def odin(logits: Tensor, temperature: float) -> Tensor:
    """One minus the largest softmax at a temperature (Chen 2020, eq. 1.4 and 1.6).

    At temperature 1 it is `max_softmax`. Taken as the sum of the others, which a low temperature leaves far below the
    rounding of one minus the largest: s / (1 + s), with s the sum of exp((logit - largest) / temperature) over the
    others. One prediction per unit is computed in float64, where few units tie at 0.

    Args:
        logits: N x C x ..., with C >= 1.
        temperature: What the logits are divided by, above 0.

    Returns:
        N x ..., from 0 to 1 - 1/C.

    Raises:
        ValueError: If the temperature is not above 0.

    Example:
        >>> odin(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), temperature=0.1)
        tensor([5.0000e-01, 4.2484e-18], dtype=torch.float64)
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
    """The input moved by epsilon against the sign of the gradient (Chen 2020, eq. 1.5).

    A dense prediction has one log-probability per pixel; their sum is differentiated.

    Args:
        images: N x 3 x H x W, a leaf that requires grad and from which the logits were computed.
        logits: N x C x ....
        temperature: Of the softmax whose largest probability is differentiated, above 0.
        epsilon: Size of the step in units of the normalised input.

    Returns:
        N x 3 x H x W, detached.

    Example:
        >>> images = torch.zeros(1, 3, 1, 1, requires_grad=True)
        >>> logits = (images * torch.tensor([1.0, -1.0, 0.0])[:, None, None]).sum(dim=1).flatten(1)
        >>> odin_perturbation(images, logits + 1, temperature=1.0, epsilon=0.25).flatten()
        tensor([ 0.2500, -0.2500,  0.0000])
    """
    log_probability = class_probabilities(logits, temperature).amax(dim=1).clamp_min(1e-38).log().sum()
    (gradient,) = torch.autograd.grad(log_probability, images)
    return (images - epsilon * torch.sign(-gradient)).detach()


def bald(mean_probs: Tensor, expected_entropy: Tensor) -> Tensor:
    """BALD in nats: entropy of the mean minus mean of the entropies (Chen 2020, eq. 1.7).

    The mutual information between the label and the weights: Houlsby et al. 2011, "Bayesian active learning for
    classification and preference learning". Rounding below 0 is cut off.

    Args:
        mean_probs: N x C x ..., the mean over T MC samples.
        expected_entropy: N x ..., the mean over the same samples of each one's entropy.

    Returns:
        N x ..., from 0 to log C.

    Example:
        Two samples that are sure of different classes, and two that agree that it may be either:

        >>> probs_TNC = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
        >>> expected_entropy = torch.stack([entropy(probs_NC) for probs_NC in probs_TNC]).mean(dim=0)
        >>> bald(probs_TNC.mean(dim=0), expected_entropy)
        tensor([0.6931, 0.0000])
    """
    return (entropy(mean_probs) - expected_entropy).clamp_min(0)


def vote_entropy(vote_fractions: Tensor) -> Tensor:
    """Entropy in nats of the MC samples' votes (Chen 2020, eq. 1.8).

    Args:
        vote_fractions: N x C x ..., the share of samples whose most probable class it is.

    Returns:
        N x ..., from 0 to log C.

    Example:
        >>> vote_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([0.0000, 0.6931])
    """
    return entropy(vote_fractions)


def variation_ratio(mean_probs: Tensor) -> Tensor:
    """One minus the largest probability of the MC mean (Gal et al. 2017, section 4).

    Args:
        mean_probs: N x C x ..., the mean over T MC samples.

    Returns:
        N x ..., from 0 to 1 - 1/C.

    Example:
        >>> variation_ratio(torch.tensor([[0.25, 0.75]]))
        tensor([0.2500])
    """
    return max_softmax(mean_probs)


def mean_variance(mean_probs: Tensor, mean_squares: Tensor) -> Tensor:
    """Variance over the T MC samples (divided by T), averaged over the classes.

    SuperAnnotate 2020, "Active learning for semantic segmentation".

    Args:
        mean_probs: N x C x ..., the mean over T MC samples.
        mean_squares: N x C x ..., the mean over the same samples of each probability's square.

    Returns:
        N x ..., from 0 to 1/4.

    Example:
        >>> probs_TNC = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
        >>> mean_variance(probs_TNC.mean(dim=0), probs_TNC.square().mean(dim=0))
        tensor([0.2500, 0.0000])
    """
    return (mean_squares - mean_probs.square()).clamp_min(0).mean(dim=1)


def variance_parts(mean_probs: Tensor, mean_squares: Tensor) -> tuple[Tensor, Tensor]:
    """What a label's variance is made of: what the network does not know, and what nobody can know from the image.

    The variances of the classes' 0/1 labels are halved, so that their sum over two classes is the variance of one of
    them. By the law of total variance both parts sum to 1/2 sum_c mean_c (1 - mean_c). Kendall and Gal 2017, "What
    uncertainties do we need in Bayesian deep learning for computer vision?"; Kwon et al. 2018, eq. 4.

    Args:
        mean_probs: N x C x ..., the mean over T MC samples.
        mean_squares: N x C x ..., the mean over the same samples of each probability's square.

    Returns:
        The epistemic variance, N x ..., and each class's part of the aleatoric variance, N x C x ...; over two classes
        this sums to between 0 and 1/4.

    Example:
        Two samples that are sure of different classes, and two that agree that it may be either:

        >>> probs_TNC = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
        >>> epistemic, aleatoric = variance_parts(probs_TNC.mean(dim=0), probs_TNC.square().mean(dim=0))
        >>> epistemic, aleatoric.sum(dim=1)
        (tensor([0.2500, 0.0000]), tensor([0.0000, 0.2500]))
    """
    epistemic = (mean_squares - mean_probs.square()).clamp_min(0).sum(dim=1) / 2
    return epistemic, (mean_probs - mean_squares).clamp_min(0) / 2


def mean_std(mean_probs: Tensor, mean_squares: Tensor) -> Tensor:
    """Standard deviation over the T MC samples (divided by T), averaged over the classes.

    Gal et al. 2017, section 4 ("Mean STD", after Kampffmeyer et al. 2016 and Kendall et al. 2015): mean over c of
    sqrt(E[p_c^2] - E[p_c]^2).

    Args:
        mean_probs: N x C x ..., the mean over T MC samples.
        mean_squares: N x C x ..., the mean over the same samples of each probability's square.

    Returns:
        N x ..., from 0 to 1/2.

    Example:
        >>> probs_TNC = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
        >>> mean_std(probs_TNC.mean(dim=0), probs_TNC.square().mean(dim=0))
        tensor([0.5000, 0.0000])
    """
    return (mean_squares - mean_probs.square()).clamp_min(0).sqrt().mean(dim=1)
