"""From a batch of images to a score per unit."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acquisition import functional
from acquisition.aggregation import Aggregation, Mean
from acquisition.checkpoints import Ensemble, matching_checkpoints
from acquisition.engine import MCDropout, frozen, logits_of
from acquisition.features import Feature, embeddings_of
from acquisition.functions import (
    ODIN,
    AcquisitionFunction,
    DeterministicAcquisition,
    Expert,
    Inverse,
    MonteCarloAcquisition,
    TruthAcquisition,
    UnitAcquisition,
)
from acquisition.identity import Described
from acquisition.regions import Regions
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = ["Scored", "Scorer"]


@dataclass(frozen=True)
class Scored:
    """A batch of N images with U units, scored.

    scores: U, float64. spreads: U, the standard error of each score against infinitely many MC samples, or None
    where it was not asked for. values and predicted classes: N x ..., or None where the network was not asked.
    features: U x ..., those that the scorer was asked for.
    """

    scores: Tensor
    spreads: Tensor | None = None
    values: Tensor | None = None
    predictions: Tensor | None = None
    features: Mapping[Feature, Tensor] = field(default_factory=dict)


class Scorer(Described):
    """From a batch of images to a score per unit.

    Args:
        acquisition: What is uncertain.
        aggregation: How pixels become a score.
        num_samples: T, MC samples where the acquisition draws any.
        dropout_rate: One rate for all dropout layers during the query, or None for the training rates (see
            `acquisition.engine`).
        per_unit_masks: Every unit its own masks instead of shared ones.
        at_output_stride: Take MC values before the network's last bilinear upsampling, where it ends in one:
            approximate and cheaper.
        ensemble: Checkpoints, as paths or patterns (see `matching_checkpoints`), of networks that take the place of
            the T MC samples.
        features: What to hand on beside the scores.

    Raises:
        ValueError: If these do not go together.
    """

    def __init__(
        self,
        acquisition: AcquisitionFunction,
        aggregation: Aggregation | None = None,
        num_samples: int = 10,
        dropout_rate: float | None = None,
        per_unit_masks: bool = False,
        at_output_stride: bool = False,
        ensemble: Sequence[str] = (),
        features: Collection[Feature] = (),
    ) -> None:
        self.sign = 1
        self.expert: Expert | None = None
        self._wrapped = acquisition
        while isinstance(acquisition, Inverse | Expert):
            if isinstance(acquisition, Inverse):
                self.sign = -self.sign
            elif self.expert is None:
                self.expert = acquisition
            else:
                raise ValueError(f"one Expert is asked, got {self._wrapped.name}; leave one out")
            acquisition = acquisition.acquisition
        if num_samples < acquisition.min_samples:
            raise ValueError(
                f"num_samples must be at least {acquisition.min_samples} for {acquisition.name}, got {num_samples}"
            )
        if aggregation is not None and isinstance(acquisition, TruthAcquisition):
            raise ValueError(f"{acquisition.name} scores whole units and takes no aggregation, got {aggregation.name}")
        self.acquisition = acquisition
        self.aggregation = aggregation or Mean()
        self.num_samples = num_samples
        self.dropout_rate = dropout_rate
        self.per_unit_masks = per_unit_masks
        self.at_output_stride = at_output_stride
        self.ensemble = tuple(ensemble)
        self.features = frozenset(features)
        if self.ensemble and not self.draws_samples:
            raise ValueError(f"an ensemble takes the place of MC samples, but {acquisition.name} draws none")
        if self.ensemble and (self.expert or dropout_rate is not None or per_unit_masks or at_output_stride):
            raise ValueError(
                "an ensemble has no dropout and no expert; leave out dropout_rate, per_unit_masks, at_output_stride "
                "and Expert"
            )
        if Feature.LOG_PROBS in self.features and (not self.draws_samples or at_output_stride or per_unit_masks):
            raise ValueError(
                "log-probabilities of sampled networks need an acquisition that draws MC samples, with shared masks, "
                f"got {acquisition.name}; choose acquisition.functions.BALD without per_unit_masks and at_output_stride"
            )
        self._sampler: MCDropout | None = None
        self._members: tuple[int, Ensemble] | None = None
        self._trained_expert: tuple[nn.Module, nn.Module] | None = None

    @property
    def name(self) -> str:
        """The acquisition function's name and the aggregation's; "oracle:" says that truth of the pool is used."""
        acquisition = self.acquisition.name
        if self.expert is not None:
            acquisition = f"Expert({acquisition})"
        if self.sign < 0:
            acquisition = f"Inverse({acquisition})"
        if self.ensemble:
            acquisition = f"Ensemble({acquisition})"
        whole = isinstance(self.acquisition, TruthAcquisition)
        return ("oracle:" if self.is_oracle else "") + acquisition + ("" if whole else f"-{self.aggregation.name}")

    @property
    def is_oracle(self) -> bool:
        """Whether this is an oracle strategy, which profits from labels of the pool."""
        return self.acquisition.uses_truth or self.expert is not None

    @property
    def reads_truth(self) -> bool:
        """Whether a call needs the truth of its units."""
        return isinstance(self.acquisition, TruthAcquisition)

    @property
    def needs_network(self) -> bool:
        """Whether images have to be read at all."""
        return bool(self.features) or not isinstance(self.acquisition, UnitAcquisition)

    @property
    def draws_samples(self) -> bool:
        """Whether MC samples, or the members of an ensemble, are asked."""
        return isinstance(self.acquisition, MonteCarloAcquisition)

    def checkpoints(self, cycle: int) -> list[Path]:
        """Files of networks other than the one that learns, on which the scores depend."""
        if self.expert is not None:
            return [self.expert.checkpoint]
        return matching_checkpoints(self.ensemble, cycle)

    def sampler(self, network: nn.Module, seed: int, cycle: int) -> MCDropout:
        """The MC sampler of a query, the same one for all its batches: it keeps packed weights and what it checked."""
        network = self._asked(network)
        kept = self._sampler
        if kept is None or kept.network is not network or kept.key != (seed, cycle):
            kept = MCDropout(network, (seed, cycle), self.dropout_rate, self.per_unit_masks, self.at_output_stride)
            self._sampler = kept
        return kept

    def members(self, network: nn.Module, cycle: int) -> Ensemble:
        """The ensemble of a query, its checkpoints read once."""
        kept = self._members
        if kept is None or kept[0] != cycle or kept[1].network is not network:
            paths = matching_checkpoints(self.ensemble, cycle)
            if len(paths) < 2:
                raise ValueError(
                    f"an ensemble must have at least 2 members, got {paths[0]} alone; give more checkpoints"
                )
            kept = self._members = cycle, Ensemble(network, paths)
        return kept[1]

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        regions: Regions,
        seed: int,
        cycle: int,
        num_samples: int | None = None,
        groups: int = 1,
        truth: Tensor | None = None,
    ) -> Scored:
        """Score the U units of N images.

        network: from images, N x 3 x H x W, to logits, N x C x H x W or N x C. num_samples: fewer than the scorer's,
        for a race; groups: above 1, the spread of the scores over so many parts of the samples is measured too, or
        over as many as the members of an ensemble allow. truth: classes or void, N x H x W or N, for an acquisition
        that compares with it and for no other.
        """
        acquisition = self.acquisition
        asked = self._asked(network)
        spreads = None
        features: dict[Feature, Tensor] = {}
        if isinstance(acquisition, UnitAcquisition):
            scores = self.sign * acquisition.unit_scores(regions.unit_ids, seed, cycle)
            return Scored(scores, features=self._passive_features(network, images, regions))
        if isinstance(acquisition, MonteCarloAcquisition):
            parts, log_probs = self._sampled(network, images, regions, seed, cycle, num_samples, groups)
            if groups > 1:
                each = torch.stack([self.aggregation(acquisition.values(part), regions) for part in parts])
                spreads = (each.std(dim=0) / len(parts) ** 0.5).cpu()
            statistics = StreamingStatistics.merged(parts)
            mean = statistics[Statistic.MEAN]
            # NaN has a vote like any number; the mean remembers it
            values = acquisition.values(statistics).where(torch.isfinite(mean.sum(dim=1)), torch.nan)
            predictions = mean.argmax(dim=1)
            scores = self.aggregation(values, regions)
            features = {Feature.LOG_PROBS: log_probs} if log_probs is not None else {}
        else:
            epsilon = acquisition.epsilon if isinstance(acquisition, DeterministicAcquisition) else 0.0
            logits = _deterministic_logits(asked, images, acquisition if epsilon else None)
            predictions = functional.predicted_class(logits)
            if isinstance(acquisition, DeterministicAcquisition):
                values = acquisition.values(logits)
                scores = self.aggregation(values, regions)
            else:
                assert isinstance(acquisition, TruthAcquisition)
                if truth is None:
                    raise ValueError(f"{acquisition.name} compares with the truth, got none; give truth")
                values = acquisition.values(logits, truth.to(logits.device))
                # what is no number cannot be right or wrong either
                values = values.where(torch.isfinite(logits.sum(dim=1)), torch.nan)
                scores = acquisition.scores(logits, truth.to(logits.device), regions)
        finite = torch.isfinite(values.flatten(start_dim=1).sum(dim=1) if values.ndim > 1 else values)
        if not finite.all():
            bad = regions.image_ids[int(torch.nonzero(~finite)[0])]
            raise ValueError(
                f"the network's output for image {bad!r} has NaN or infinite values, so it cannot be scored; "
                "train with a smaller learning rate or full precision, or choose an earlier checkpoint"
            )
        features |= self._passive_features(network, images, regions)
        return Scored(self.sign * scores.cpu(), spreads, values, predictions, features)

    def _asked(self, network: nn.Module) -> nn.Module:
        """The expert, or the network that learns."""
        if self.expert is None:
            return network
        if self._trained_expert is None or self._trained_expert[0] is not network:
            self._trained_expert = network, self.expert.trained(network)
        return self._trained_expert[1]

    def _sampled(
        self,
        network: nn.Module,
        images: Tensor,
        regions: Regions,
        seed: int,
        cycle: int,
        num_samples: int | None,
        groups: int,
    ) -> tuple[list[StreamingStatistics], Tensor | None]:
        """Statistics of each group of samples, and N x T x C log-probabilities if they are asked for."""
        assert isinstance(self.acquisition, MonteCarloAcquisition)
        needs = self.acquisition.needs | {Statistic.MEAN}
        samples = num_samples or self.num_samples
        outputs: Iterable[Any]
        if self.ensemble:
            members = self.members(network, cycle)
            samples, outputs = len(members.paths), members.samples(images)
        elif Feature.LOG_PROBS in self.features:
            outputs = self.sampler(network, seed, cycle).samples(images, samples, regions.image_ids)
        else:
            sampler = self.sampler(network, seed, cycle)
            return sampler.grouped_statistics(images, samples, needs, groups, regions.image_ids), None
        parts = min(groups, samples // self.acquisition.min_samples)
        if parts < min(groups, 2):
            raise ValueError(
                f"the spread of {self.acquisition.name} needs two parts of at least {self.acquisition.min_samples} "
                f"samples, got {samples} in all; give more checkpoints or samples, or ask for no spread"
            )
        statistics = [StreamingStatistics(needs) for _ in range(parts)]
        kept = []
        for number, output in enumerate(outputs):
            logits = logits_of(output)
            statistics[number * len(statistics) // samples].update_logits(logits[None])
            if Feature.LOG_PROBS in self.features:
                kept.append(
                    functional.class_log_probabilities(
                        _one_per_unit(logits, regions, "the joint distribution of units")
                    )
                )
        return statistics, torch.stack(kept, dim=1) if kept else None

    def _passive_features(self, network: nn.Module, images: Tensor, regions: Regions) -> dict[Feature, Tensor]:
        """Features of the network that learns with dropout off."""
        wanted = self.features - {Feature.LOG_PROBS}
        if not wanted:
            return {}
        with embeddings_of(network) as embeddings:
            logits = _deterministic_logits(network, images)
        features = {}
        if Feature.EMBEDDING in wanted:
            features[Feature.EMBEDDING] = embeddings.pooled(regions)
        if Feature.PROBS in wanted:
            features[Feature.PROBS] = functional.class_probabilities(_one_per_unit(logits, regions, "BADGE's gradient"))
        return features


def _one_per_unit(logits: Tensor, regions: Regions, what: str) -> Tensor:
    """Rows of the units, each of which has its image's."""
    if logits.ndim != 2:
        shape = " x ".join(map(str, logits.shape[1:]))
        raise ValueError(
            f"{what} needs one prediction per unit, N x C, got N x {shape} from a network with dense predictions; "
            "choose CoreSet, or a selection by scores"
        )
    return logits[regions.places[:, 0].long().to(logits.device)]


def _deterministic_logits(network: nn.Module, images: Tensor, stepping: AcquisitionFunction | None = None) -> Tensor:
    """Logits with dropout off; after ODIN's step on the input, where one is given."""
    with frozen(network), torch.inference_mode(False):
        if stepping is not None:
            assert isinstance(stepping, ODIN)
            with torch.enable_grad():
                leaf = images.detach().clone().requires_grad_()
                images = functional.odin_perturbation(leaf, network(leaf), stepping.temperature, stepping.epsilon)
        with torch.no_grad():
            return logits_of(network(images))
