"""Predictions of people's disagreement, pixel by pixel, before anybody has drawn the image.

All variances are those of the 0/1 masks of the classes, summed over the classes and halved; for two classes that is the
variance of the foreground, in the units of equation 2.1 of Wilhelmsson.

Reference:
    Jens Wilhelmsson, "Predicting annotation difficulty using Monte Carlo dropout", master's thesis, Chalmers (undated).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from acquisition import functional
from acquisition.engine import frozen
from acquisition.predictors import MCDropout
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = [
    "MAPS",
    "DifficultyPredictor",
    "check_predictor",
    "ensemble_variance",
    "mask_variance",
    "member_probabilities",
    "one_pass_aleatoric",
    "uncertainty_maps",
]

MAPS = (
    "ensemble_variance",
    "mask_variance",
    "epistemic",
    "aleatoric",
    "one_pass_aleatoric",
    "total",
    "entropy",
    "bald",
)
"""The predictors of disagreement with one value per pixel."""

_NEEDS = (Statistic.MEAN, Statistic.MEAN_SQUARES, Statistic.EXPECTED_ENTROPY)


def ensemble_variance(probs_MNCHW: Tensor) -> Tensor:
    """Variance over the outputs p_m of M networks, one per annotator (Wilhelmsson, equation 2.1, on probabilities).

    V = 1/2 sum_c sum_m (p_mc - mean_c)^2 / (M - 1); for two classes sum_m (p_m - mean)^2 / (M - 1).

    Args:
        probs_MNCHW: Probabilities, M x N x C x H x W, summing to 1 over C.

    Returns:
        V, N x H x W, from 0 to M / (4 (M - 1)) for two classes.

    Raises:
        ValueError: There are fewer than two networks.
    """
    if len(probs_MNCHW) < 2:
        raise ValueError(f"the variance over an ensemble needs at least 2 networks, got {len(probs_MNCHW)}")
    return probs_MNCHW.var(dim=0, correction=1).sum(dim=1) / 2


def mask_variance(probs_MNCHW: Tensor) -> Tensor:
    """Variance over the masks of M networks: equation 2.1 of Wilhelmsson on what each network would draw.

    A network draws the most probable class; for two classes the foreground where its probability is above 1/2. It is
    what `annotators.disagreement.variance_map` measures of people, and knows nothing of a network's own doubt.

    Args:
        probs_MNCHW: Probabilities, M x N x C x H x W, summing to 1 over C.

    Returns:
        V, N x H x W, from 0 to M / (4 (M - 1)) for two classes.

    Raises:
        ValueError: There are fewer than two networks.
    """
    # of equal probabilities the first one, so that 1/2 is background
    drawn = one_hot(probs_MNCHW.argmax(dim=2), probs_MNCHW.shape[2]).movedim(-1, 2)
    return ensemble_variance(drawn.to(probs_MNCHW.dtype))


def one_pass_aleatoric(probs_NCHW: Tensor) -> Tensor:
    """Bernoulli variance p (1 - p) of one pass without dropout (Wilhelmsson, equation 2.10, without its samples).

    Args:
        probs_NCHW: Probabilities, N x C x H x W, summing to 1 over C.

    Returns:
        1/2 sum_c p_c (1 - p_c), N x H x W; for two classes p (1 - p), from 0 to 1/4.
    """
    return (probs_NCHW * (1 - probs_NCHW)).sum(dim=1) / 2


def uncertainty_maps(statistics: StreamingStatistics) -> dict[str, Tensor]:
    """Uncertainty maps from one network's T MC samples p_t.

    Args:
        statistics: The samples' MEAN, MEAN_SQUARES and EXPECTED_ENTROPY.

    Returns:
        Maps by name, N x H x W each:

        - epistemic: variance over the samples, 1/2 sum_c mean_t (p_tc - mean_c)^2 (Wilhelmsson, section 2.4.2, divided
          by T so that epistemic and aleatoric variance add up).
        - aleatoric: Bernoulli variance within the samples, 1/2 sum_c mean_t p_tc (1 - p_tc) (Wilhelmsson, equation
          2.10).
        - total: the sum of both, by the law of total variance mean (1 - mean) for two classes.
        - entropy: entropy of the mean probabilities, in nats.
        - bald: mutual information in nats (`acquisition.functional.bald`).
    """
    mean, squares = statistics[Statistic.MEAN], statistics[Statistic.MEAN_SQUARES]
    epistemic, parts = functional.variance_parts(mean, squares)
    aleatoric = parts.sum(dim=1)
    return {
        "epistemic": epistemic,
        "aleatoric": aleatoric,
        "total": epistemic + aleatoric,
        "entropy": functional.entropy(mean),
        "bald": functional.bald(mean, statistics[Statistic.EXPECTED_ENTROPY]),
    }


def member_probabilities(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Probabilities of several networks, with dropout off.

    Args:
        networks: M networks, run one after another.
        images: N x channels x H x W.

    Returns:
        M x N x C x H x W, with C = 2 for a network of one logit.
    """
    outputs = []
    for network in networks:
        with frozen(network), torch.inference_mode(False), torch.no_grad():
            outputs.append(functional.class_probabilities(network(images)))
    return torch.stack(outputs)


def check_predictor(predictor: MCDropout) -> None:
    """Refuse MC samples without a variance at every pixel of the image.

    Args:
        predictor: How a network is sampled.

    Raises:
        ValueError: It draws fewer than 2 samples, or takes values at the network's output stride.
    """
    predictor.check("a variance over MC samples", 2, asks_files=False)
    if predictor.at_output_stride:
        raise ValueError(
            "maps of difficulty have a value for every pixel, but the predictor takes values at the network's output "
            "stride; set at_output_stride to false"
        )


class DifficultyPredictor:
    """Predicts disagreement from one network per annotator and from the MC samples of a single network.

    Args:
        members: Networks by annotator, at least two.
        single: The network that is sampled, usually that of the majority.
        key: What the dropout masks are drawn from: seed, purpose and fold.
        predictor: How it is sampled (see `check_predictor`).

    Raises:
        ValueError: The predictor gives no maps.
    """

    def __init__(
        self,
        members: Mapping[str, nn.Module],
        single: nn.Module,
        key: Sequence[object],
        predictor: MCDropout,
    ) -> None:
        check_predictor(predictor)
        self.members = dict(members)
        self.single = single
        self.num_samples = predictor.num_samples
        self._sampler = predictor.sampler(single, key)

    def __call__(self, images: Tensor, unit_ids: Sequence[str]) -> dict[str, Tensor]:
        """Predict a batch.

        Args:
            images: N x channels x H x W.
            unit_ids: Ids of the N images.

        Returns:
            Maps N x H x W by the names in `MAPS`, the samples' "mean" N x C x H x W and "member_probabilities"
            M x N x C x H x W.

        Raises:
            ValueError: A network's output is not finite.
        """
        probs = member_probabilities(list(self.members.values()), images)
        statistics = self._sampler.statistics(images, self.num_samples, _NEEDS, unit_ids)
        (once,) = member_probabilities([self.single], images)
        maps = {"ensemble_variance": ensemble_variance(probs), "mask_variance": mask_variance(probs)}
        maps |= {"one_pass_aleatoric": one_pass_aleatoric(once), **uncertainty_maps(statistics)}
        maps |= {"mean": statistics[Statistic.MEAN], "member_probabilities": probs}
        for name, values in maps.items():
            if not torch.isfinite(values).all():
                raise ValueError(
                    f"{name} of unit {unit_ids[0]!r} or one after it in the batch has NaN or infinite values; train "
                    "with a smaller learning rate or full precision"
                )
        return maps
