"""The kinds of acquisition functions: what each asks, and how its values become scores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from acquisition import functional
from acquisition.aggregation import Aggregation
from acquisition.features import Feature, means_over, per_unit
from acquisition.identity import Described
from acquisition.predictors import Predictions
from acquisition.regions import Regions
from acquisition.scored import Question, Scored
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = [
    "AcquisitionFunction",
    "DeterministicAcquisition",
    "MonteCarloAcquisition",
    "TruthAcquisition",
    "UnitAcquisition",
]


class AcquisitionFunction(Described, ABC):
    """What makes a unit worth labelling. Subclass one of the four kinds below, or write a `score` for another question.

    What it is, its arguments say: other arguments have another name and another description, with nothing overridden.
    """

    min_samples: int = 0
    """The fewest samples with which the value means something; 0 where none are drawn."""
    uses_truth: bool = False
    """Whether it profits from labels of the pool: an oracle strategy, for simulations only."""
    reads_truth: bool = False
    """Whether it has to be given the truth of the images; it scores units itself then, without an aggregation."""
    needs_network: bool = True
    """Whether images have to be read at all."""
    sign: int = 1
    """-1 where the lowest values are queried first."""
    files: tuple[Path, ...] = ()
    """Of networks that are asked in the place of the one that learns."""

    @property
    def name(self) -> str:
        """The name in ledgers, tables and figures: other settings have another one."""
        return self.short_description

    @property
    def value_name(self) -> str:
        """The name of what the values are, whoever is asked and whichever end is queried."""
        return self.name

    def asked(self, predictions: Predictions) -> Predictions:
        """The predictions that it looks at.

        Args:
            predictions: Those of the network that learns.
        """
        return predictions

    @abstractmethod
    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        """Ask for what it needs, and score.

        Args:
            question: The images and their units.
            predictions: Of the network that learns.
            aggregation: From values to scores.

        Returns:
            Scores, and what else the question asks for; values that are no number where the network's output is none.
        """


class UnitAcquisition(AcquisitionFunction):
    """Knows a unit by its id alone; the network is not asked."""

    needs_network = False

    @abstractmethod
    def unit_scores(self, unit_ids: Sequence[str], seed: int, cycle: int) -> Tensor:
        """Scores of units.

        Args:
            unit_ids: U ids.
            seed: What is drawn depends on it,
            cycle: and on the cycle.

        Returns:
            U, in float64.
        """

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        return Scored(self.unit_scores(question.regions.unit_ids, question.seed, question.cycle))


class DeterministicAcquisition(AcquisitionFunction):
    """Uses one pass with dropout off."""

    @abstractmethod
    def values(self, logits: Tensor) -> Tensor:
        """A value per pixel, or per image.

        Args:
            logits: N x C x ...; one class means a sigmoid.

        Returns:
            N x ....
        """

    def moved(self, network: nn.Module, images: Tensor) -> Tensor:
        """The images that are passed; a subclass may move them (see `ODIN`).

        Args:
            network: In evaluation mode.
            images: N x 3 x H x W.
        """
        return images

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        logits = predictions.logits(question.images, self.moved)
        values = self.values(logits)
        scores = aggregation(values, question.regions)
        return Scored(scores, values=values, predictions=functional.predicted_class(logits))


class MonteCarloAcquisition(AcquisitionFunction):
    """Uses sums over T samples: stochastic passes, or the members of an ensemble."""

    min_samples = 1
    needs: ClassVar[frozenset[Statistic]]
    """The statistics that `values` looks at."""

    @abstractmethod
    def values(self, statistics: StreamingStatistics) -> Tensor:
        """A value per pixel, or per image.

        Args:
            statistics: Those named in `needs`.

        Returns:
            N x ....
        """

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        samples = predictions.count(question.num_samples)
        groups = min(question.groups, samples // self.min_samples)
        if groups < min(question.groups, 2):
            raise ValueError(
                f"the spread of {self.name} needs two parts of at least {self.min_samples} samples, got {samples} in "
                "all; give more checkpoints or samples, or ask for no spread"
            )
        if question.variances and samples < 2:
            raise ValueError(f"routing needs the variance of at least 2 samples, got {samples}; give more checkpoints")
        regions, kept = question.regions, list[Tensor]()

        def keep(logits: Tensor) -> None:
            rows = per_unit(logits, regions, "the joint distribution of units")
            kept.append(functional.class_log_probabilities(rows))

        needs = self.needs | {Statistic.MEAN} | ({Statistic.MEAN_SQUARES} if question.variances else set())
        parts = predictions.statistics(
            question.images, needs, samples, groups, regions.image_ids,
            keep if question.log_probs else None,
        )  # fmt: skip
        spreads = None
        if question.groups > 1:
            each = torch.stack([aggregation(self.values(part), regions) for part in parts])
            spreads = (each.std(dim=0) / len(parts) ** 0.5).cpu()
        statistics = StreamingStatistics.merged(parts)
        mean = statistics[Statistic.MEAN]
        # NaN has a vote like any number; the mean remembers it
        values = self.values(statistics).where(torch.isfinite(mean.sum(dim=1)), torch.nan)
        features = {Feature.LOG_PROBS: torch.stack(kept, dim=1)} if kept else {}
        if question.variances:
            epistemic, aleatoric = functional.variance_parts(mean, statistics[Statistic.MEAN_SQUARES])
            features[Feature.VARIANCES] = means_over(torch.cat([epistemic[:, None], aleatoric], dim=1), regions)
        return Scored(aggregation(values, regions), spreads, values, mean.argmax(dim=1), features)


class TruthAcquisition(AcquisitionFunction):
    """Compares one pass with dropout off to the truth (see `acquisition.truth`)."""

    uses_truth = True
    reads_truth = True

    @abstractmethod
    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        """A value per pixel, or per image; 0 where the truth is void.

        Args:
            logits: N x C x ....
            truth: Classes or void, N x ....

        Returns:
            N x ....
        """

    @abstractmethod
    def scores(self, logits: Tensor, truth: Tensor, regions: Regions) -> Tensor:
        """Scores of units; void pixels count in none.

        Args:
            logits: N x C x ....
            truth: Classes or void, N x ....
            regions: The units.

        Returns:
            U, in float64.
        """

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        if question.truth is None:
            raise ValueError(f"{self.name} compares with the truth, got none; give truth")
        logits = predictions.logits(question.images)
        truth = question.truth.to(logits.device)
        # what is no number cannot be right or wrong either
        values = self.values(logits, truth).where(torch.isfinite(logits.sum(dim=1)), torch.nan)
        scores = self.scores(logits, truth, question.regions)
        return Scored(scores, values=values, predictions=functional.predicted_class(logits))
