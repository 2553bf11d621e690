"""Acquisition functions as classes that a config can name, and the scorer that turns images into scores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from acquisition import functional
from acquisition.aggregation import Aggregation, Mean
from acquisition.mc_dropout import MCDropout, frozen
from acquisition.seeding import uniform_for
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = [
    "BALD",
    "ODIN",
    "AcquisitionFunction",
    "Entropy",
    "Inverse",
    "Margin",
    "MaxSoftmax",
    "MeanEntropy",
    "MeanVariance",
    "Random",
    "Scored",
    "Scorer",
    "VariationRatio",
    "VoteEntropy",
]


class AcquisitionFunction:
    """What makes a unit worth labelling. Subclass one of the three kinds below, not this."""

    min_samples: ClassVar[int] = 0
    """The fewest MC samples with which the value means something; 0 where none are drawn."""

    @property
    def name(self) -> str:
        """The name in ledgers, tables and figures."""
        return type(self).__name__


class UnitAcquisition(AcquisitionFunction, ABC):
    """Knows a unit by its id alone; the network is not asked."""

    @abstractmethod
    def unit_scores(self, unit_ids: Sequence[str], seed: int, cycle: int) -> Tensor:
        """Scores in float64, one per id."""


class DeterministicAcquisition(AcquisitionFunction, ABC):
    """Uses one pass with dropout off."""

    epsilon: float = 0.0
    """Size of a step on the input before the pass; 0 for none (see `ODIN`)."""

    @abstractmethod
    def values(self, logits: Tensor) -> Tensor:
        """Logits, N x C x ..., to values, N x ...."""


class MonteCarloAcquisition(AcquisitionFunction, ABC):
    """Uses sums over T stochastic passes."""

    min_samples = 1
    needs: ClassVar[frozenset[Statistic]]

    @abstractmethod
    def values(self, statistics: StreamingStatistics) -> Tensor:
        """The statistics named in `needs` to values, N x ...."""


class Random(UnitAcquisition):
    """Uniform in [0, 1), drawn from (seed, cycle, unit id): the baseline of every comparison."""

    def unit_scores(self, unit_ids: Sequence[str], seed: int, cycle: int) -> Tensor:
        return torch.tensor([uniform_for(seed, cycle, "random", u) for u in unit_ids], dtype=torch.float64)


class Entropy(DeterministicAcquisition):
    """Entropy of the softmax, in nats (1.1)."""

    def values(self, logits: Tensor) -> Tensor:
        return functional.entropy(functional.class_probabilities(logits))


class MaxSoftmax(DeterministicAcquisition):
    """One minus the largest probability (1.2)."""

    def values(self, logits: Tensor) -> Tensor:
        return functional.max_softmax(functional.class_probabilities(logits))


class Margin(DeterministicAcquisition):
    """One minus the gap between the two largest probabilities (1.3)."""

    def values(self, logits: Tensor) -> Tensor:
        return functional.margin(functional.class_probabilities(logits))


class ODIN(DeterministicAcquisition):
    """Max-softmax at a temperature, after a step of epsilon on the input (1.4 to 1.6).

    temperature: above 0; the thesis found 0.1 and 0.01 best. epsilon: in units of the normalised input; the
    thesis tried 0.0014 and found it harmful.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.0) -> None:
        if temperature <= 0 or epsilon < 0:
            raise ValueError(f"ODIN needs temperature > 0 and epsilon >= 0, got {temperature} and {epsilon}")
        self.temperature = temperature
        self.epsilon = epsilon

    @property
    def name(self) -> str:
        step = f",eps={self.epsilon:g}" if self.epsilon else ""
        return f"ODIN(T={self.temperature:g}{step})"

    def values(self, logits: Tensor) -> Tensor:
        return functional.odin(logits, self.temperature)


class BALD(MonteCarloAcquisition):
    """Mutual information between the label and the network's weights, in nats (1.7)."""

    min_samples = 2
    needs = frozenset({Statistic.MEAN, Statistic.EXPECTED_ENTROPY})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.bald(statistics[Statistic.MEAN], statistics[Statistic.EXPECTED_ENTROPY])


class VoteEntropy(MonteCarloAcquisition):
    """Entropy of the samples' votes, in nats (1.8)."""

    min_samples = 2
    needs = frozenset({Statistic.VOTE_FRACTIONS})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.vote_entropy(statistics[Statistic.VOTE_FRACTIONS])


class VariationRatio(MonteCarloAcquisition):
    """One minus the largest probability of the MC mean (seed 004)."""

    needs = frozenset({Statistic.MEAN})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.variation_ratio(statistics[Statistic.MEAN])


class MeanEntropy(MonteCarloAcquisition):
    """Entropy of the MC mean, in nats (seeds 001 and 004)."""

    needs = frozenset({Statistic.MEAN})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.entropy(statistics[Statistic.MEAN])


class MeanVariance(MonteCarloAcquisition):
    """Variance over the samples, averaged over the classes (seed 001)."""

    min_samples = 2
    needs = frozenset({Statistic.MEAN, Statistic.MEAN_SQUARES})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.mean_variance(statistics[Statistic.MEAN], statistics[Statistic.MEAN_SQUARES])


class Inverse(AcquisitionFunction):
    """The opposite of another acquisition function: its lowest scores are queried first (thesis 3.2.2).

    Maps keep the sign of the wrapped function; only the unit's score changes sign.
    """

    def __init__(self, acquisition: AcquisitionFunction) -> None:
        self.acquisition = acquisition

    @property
    def name(self) -> str:
        return f"Inverse({self.acquisition.name})"


@dataclass(frozen=True)
class Scored:
    """One batch, scored.

    scores: N, float64. spreads: N, the standard error of each score against infinitely many MC samples, or None
    where it was not asked for. values and predicted classes: N x ..., or None where the network was not asked.
    """

    scores: Tensor
    spreads: Tensor | None = None
    values: Tensor | None = None
    predictions: Tensor | None = None


class Scorer:
    """From a batch of images to a score per unit.

    acquisition: what is uncertain; aggregation: how pixels become a score; num_samples: T, MC samples where the
    acquisition draws any; dropout_rate: one rate for all dropout layers during the query, or None for the
    training rates (see `acquisition.mc_dropout`); per_unit_masks: every unit its own masks instead of shared ones;
    at_output_stride: take MC values before the network's last bilinear upsampling, where it ends in one: approximate
    and cheaper.
    """

    def __init__(
        self,
        acquisition: AcquisitionFunction,
        aggregation: Aggregation | None = None,
        num_samples: int = 10,
        dropout_rate: float | None = None,
        per_unit_masks: bool = False,
        at_output_stride: bool = False,
    ) -> None:
        self.sign = 1
        while isinstance(acquisition, Inverse):
            self.sign = -self.sign
            acquisition = acquisition.acquisition
        if num_samples < acquisition.min_samples:
            raise ValueError(
                f"num_samples must be at least {acquisition.min_samples} for {acquisition.name}, got {num_samples}"
            )
        self.acquisition = acquisition
        self.aggregation = aggregation or Mean()
        self.num_samples = num_samples
        self.dropout_rate = dropout_rate
        self.per_unit_masks = per_unit_masks
        self.at_output_stride = at_output_stride
        self._sampler: MCDropout | None = None

    @property
    def name(self) -> str:
        """The acquisition function's name and the aggregation's."""
        acquisition = f"Inverse({self.acquisition.name})" if self.sign < 0 else self.acquisition.name
        return f"{acquisition}-{self.aggregation.name}"

    @property
    def needs_network(self) -> bool:
        """Whether images have to be read at all."""
        return not isinstance(self.acquisition, UnitAcquisition)

    @property
    def draws_samples(self) -> bool:
        """Whether MC samples are drawn."""
        return isinstance(self.acquisition, MonteCarloAcquisition)

    def sampler(self, network: nn.Module, seed: int, cycle: int) -> MCDropout:
        """The MC sampler of a query, the same one for all its batches: it keeps packed weights and what it checked."""
        kept = self._sampler
        if kept is None or kept.network is not network or kept.key != (seed, cycle):
            kept = MCDropout(network, (seed, cycle), self.dropout_rate, self.per_unit_masks, self.at_output_stride)
            self._sampler = kept
        return kept

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        unit_ids: Sequence[str],
        seed: int,
        cycle: int,
        num_samples: int | None = None,
        groups: int = 1,
    ) -> Scored:
        """Score N units.

        network: from images, N x 3 x H x W, to logits, N x C x H x W or N x C. num_samples: fewer than the scorer's,
        for a race; groups: above 1, the spread of the scores over so many parts of the samples is measured too.
        """
        if isinstance(self.acquisition, UnitAcquisition):
            return Scored(self.sign * self.acquisition.unit_scores(unit_ids, seed, cycle))
        spreads = None
        if isinstance(self.acquisition, DeterministicAcquisition):
            logits = _deterministic_logits(network, images, self.acquisition)
            values, predictions = self.acquisition.values(logits), _predicted_class(logits)
        else:
            acquisition = self.acquisition
            assert isinstance(acquisition, MonteCarloAcquisition)
            parts = self.sampler(network, seed, cycle).grouped_statistics(
                images, num_samples or self.num_samples, acquisition.needs | {Statistic.MEAN}, groups, unit_ids
            )
            if groups > 1:
                each = torch.stack([self.aggregation(acquisition.values(part)) for part in parts])
                spreads = (each.std(dim=0) / groups**0.5).cpu()
            statistics = StreamingStatistics.merged(parts)
            mean = statistics[Statistic.MEAN]
            # NaN has a vote like any number; the mean remembers it
            values = acquisition.values(statistics).where(torch.isfinite(mean.sum(dim=1)), torch.nan)
            predictions = mean.argmax(dim=1)
        finite = torch.isfinite(values.flatten(start_dim=1).sum(dim=1) if values.ndim > 1 else values)
        if not finite.all():
            bad = unit_ids[int(torch.nonzero(~finite)[0])]
            raise ValueError(
                f"the network's output for unit {bad!r} has NaN or infinite values, so it cannot be scored; "
                "train with a smaller learning rate or full precision, or choose an earlier checkpoint"
            )
        return Scored(self.sign * self.aggregation(values).cpu(), spreads, values, predictions)


def _predicted_class(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def _deterministic_logits(network: nn.Module, images: Tensor, acquisition: DeterministicAcquisition) -> Tensor:
    with frozen(network), torch.inference_mode(False):
        if acquisition.epsilon:
            assert isinstance(acquisition, ODIN)
            with torch.enable_grad():
                leaf = images.detach().clone().requires_grad_()
                images = functional.odin_perturbation(leaf, network(leaf), acquisition.temperature, acquisition.epsilon)
        with torch.no_grad():
            return network(images)
