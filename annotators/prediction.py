"""What networks predict of people's disagreement, pixel by pixel, before anybody has drawn anything.

Everything is a variance of the label's indicator, in the units of equation 2.1 of seed 000: with C classes, half the
sum over the classes of each one's variance, which for two classes is the variance of the foreground alone.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from acquisition import functional
from acquisition.engine import Sampler, frozen
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = ["MAPS", "DifficultyPredictor", "ensemble_variance", "member_probabilities", "uncertainty_maps"]

MAPS = ("ensemble_variance", "epistemic", "aleatoric", "total", "entropy", "bald")
"""The predictors that have one value per pixel."""

_NEEDS = (Statistic.MEAN, Statistic.MEAN_SQUARES, Statistic.EXPECTED_ENTROPY)


def ensemble_variance(probs_MNCHW: Tensor) -> Tensor:
    """Variance over the outputs p_m of M networks, one per annotator: equation 2.1 of seed 000 on soft masks.

    V = 1/2 sum_c sum_m (p_mc - mean_c)^2 / (M - 1); for two classes sum_m (p_m - mean)^2 / (M - 1).
    probs: M x N x C x H x W, summing to 1 over C. Returns N x H x W, from 0 to M / (4 (M - 1)) for two classes.
    """
    if len(probs_MNCHW) < 2:
        raise ValueError(f"the variance over an ensemble needs at least 2 networks, got {len(probs_MNCHW)}")
    return probs_MNCHW.var(dim=0, correction=1).sum(dim=1) / 2


def uncertainty_maps(statistics: StreamingStatistics) -> dict[str, Tensor]:
    """What one network's MC samples p_t say: N x H x W each, from sums over T samples.

    epistemic: 1/2 sum_c mean_t (p_tc - mean_c)^2, the variance over the samples (seed 000, 2.4.2; divided by T, so
    that the parts add up). aleatoric: 1/2 sum_c mean_t p_tc (1 - p_tc), the Bernoulli variance p (1 - p) that is
    left within each sample (2.10). total: their sum, which by the law of total variance is mean (1 - mean) for two
    classes. entropy: of the mean. bald: in nats, as `acquisition.functional.bald`.
    """
    mean, squares = statistics[Statistic.MEAN], statistics[Statistic.MEAN_SQUARES]
    epistemic = (squares - mean.square()).clamp_min(0).sum(dim=1) / 2
    aleatoric = (mean - squares).clamp_min(0).sum(dim=1) / 2
    return {
        "epistemic": epistemic,
        "aleatoric": aleatoric,
        "total": epistemic + aleatoric,
        "entropy": functional.entropy(mean),
        "bald": functional.bald(mean, statistics[Statistic.EXPECTED_ENTROPY]),
    }


def member_probabilities(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Outputs of several networks with dropout off, M x N x C x H x W (C at least 2), one network after another."""
    outputs = []
    for network in networks:
        with frozen(network), torch.inference_mode(False), torch.no_grad():
            outputs.append(functional.class_probabilities(network(images)))
    return torch.stack(outputs)


class DifficultyPredictor:
    """The maps of a batch, from one network per annotator and from one network's MC samples.

    members: networks of annotators by name, at least two. single: the network that is sampled, usually the
    majority's. key: what the dropout masks are drawn from, a seed and a fold. num_samples: T, at least 2.
    dropout_rate: at query time, or None for the training rates.
    """

    def __init__(
        self,
        members: Mapping[str, nn.Module],
        single: nn.Module,
        key: Sequence[object],
        num_samples: int,
        dropout_rate: float | None = None,
    ) -> None:
        if num_samples < 2:
            raise ValueError(f"num_samples must be at least 2 for a variance over MC samples, got {num_samples}")
        self.members = dict(members)
        self.num_samples = num_samples
        self._sampler = Sampler(single, key, dropout_rate)

    def __call__(self, images: Tensor, unit_ids: Sequence[str]) -> dict[str, Tensor]:
        """Maps N x H x W by the names in `MAPS`, "mean" N x C x H x W and "member_probabilities" M x N x C x H x W."""
        probs = member_probabilities(list(self.members.values()), images)
        statistics = self._sampler.statistics(images, self.num_samples, _NEEDS, unit_ids)
        maps = {"ensemble_variance": ensemble_variance(probs), **uncertainty_maps(statistics)}
        maps |= {"mean": statistics[Statistic.MEAN], "member_probabilities": probs}
        for name, values in maps.items():
            if not torch.isfinite(values).all():
                raise ValueError(
                    f"{name} of unit {unit_ids[0]!r} or one after it in the batch has NaN or infinite values; train "
                    "with a smaller learning rate or full precision"
                )
        return maps
