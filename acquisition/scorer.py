"""From a batch of images to a score per unit."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from acquisition import functional
from acquisition.aggregation import Aggregation, Mean
from acquisition.features import Feature, embeddings_of, per_unit
from acquisition.identity import Described
from acquisition.kinds import AcquisitionFunction
from acquisition.predictors import MCDropout, Predictions, Predictor
from acquisition.regions import Regions
from acquisition.scored import Question, Scored

__all__ = ["Scorer"]


class Scorer(Described):
    """From a batch of images to a score per unit.

    Args:
        acquisition: What is uncertain.
        aggregation: How pixels become a score; the mean unless given.
        predictor: How the network is asked; MC dropout with 10 samples unless given.
        features: What to hand on beside the scores.

    Raises:
        ValueError: If these do not go together.
    """

    def __init__(
        self,
        acquisition: AcquisitionFunction,
        aggregation: Aggregation | None = None,
        predictor: Predictor | None = None,
        features: Collection[Feature] = (),
    ) -> None:
        self.acquisition = acquisition
        self.aggregation = aggregation or Mean()
        self.predictor = predictor or MCDropout()
        self.features = frozenset(features)
        name = acquisition.value_name
        self.predictor.check(name, acquisition.min_samples, bool(acquisition.files))
        if aggregation is not None and acquisition.reads_truth:
            raise ValueError(f"{name} scores whole units and takes no aggregation, got {aggregation.name}")
        if Feature.LOG_PROBS in self.features and not (self.draws_samples and self.predictor.is_joint):
            raise ValueError(
                "log-probabilities of sampled networks need an acquisition that draws MC samples, with shared masks, "
                f"got {name}; choose acquisition.functions.BALD without per_image_masks and at_output_stride"
            )
        if Feature.VARIANCES in self.features:
            if not self.draws_samples:
                raise ValueError(
                    f"routing needs an acquisition that draws MC samples, got {name}; choose "
                    "acquisition.functions.BALD, or leave out strategy.routing"
                )
            self.predictor.check("routing", 2, bool(acquisition.files))
        self._kept: Predictions | None = None

    @property
    def name(self) -> str:
        """The acquisition function's name and the aggregation's; "oracle:" says that truth of the pool is used."""
        acquisition = self.predictor.named(self.acquisition.name)
        aggregation = "" if self.reads_truth else f"-{self.aggregation.name}"
        return ("oracle:" if self.is_oracle else "") + acquisition + aggregation

    @property
    def is_oracle(self) -> bool:
        """Whether this is an oracle strategy, which profits from labels of the pool."""
        return self.acquisition.uses_truth

    @property
    def reads_truth(self) -> bool:
        """Whether a call needs the truth of its images."""
        return self.acquisition.reads_truth

    @property
    def needs_network(self) -> bool:
        """Whether images have to be read at all."""
        return bool(self.features) or self.acquisition.needs_network

    @property
    def asks_learner(self) -> bool:
        """Whether scores depend on the weights of the network that learns; those of an expert do not."""
        return bool(self.features) or (self.needs_network and not self.acquisition.files)

    @property
    def draws_samples(self) -> bool:
        """Whether MC samples, or the members of an ensemble, are asked."""
        return self.acquisition.min_samples > 0

    @property
    def num_samples(self) -> int:
        """T, the samples of a query; 0 where files of the cycle say how many."""
        return self.predictor.num_samples

    def checkpoints(self, cycle: int) -> list[Path]:
        """Files of networks other than the one that learns, on which the scores depend.

        Args:
            cycle: The query's.
        """
        return [*self.acquisition.files, *self.predictor.files(cycle)]

    def predictions(self, network: nn.Module, seed: int, cycle: int) -> Predictions:
        """The predictions of a query, the same object for all its batches.

        Args:
            network: From images, N x 3 x H x W, to logits, N x C x H x W or N x C.
            seed: The query's.
            cycle: The query's.
        """
        kept = self._kept
        if kept is None or kept.network is not network or (kept.seed, kept.cycle) != (seed, cycle):
            kept = self._kept = self.predictor.on(network, seed, cycle)
        return kept

    def forget(self) -> None:
        """Forget what is kept of a query: weights and files may be others by the next."""
        self._kept = None

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

        Args:
            network: From images, N x 3 x H x W, to logits, N x C x H x W or N x C.
            images: N x 3 x H x W; not looked at where nothing asks the network.
            regions: The units.
            seed: What is drawn depends on it,
            cycle: and on the cycle.
            num_samples: Fewer MC samples than the predictor's, for a race.
            groups: Above 1, the spread of the scores over so many parts of the samples is measured too, or over as
                many as the members of an ensemble allow.
            truth: Classes or void, N x H x W or N, for an acquisition that compares with it and for no other.

        Raises:
            ValueError: If the network's output for an image is no number, or does not fit the strategy.
        """
        of_samples = (Feature.LOG_PROBS in self.features, Feature.VARIANCES in self.features)
        question = Question(images, regions, seed, cycle, num_samples, groups, truth, *of_samples)
        scored = self.acquisition.score(question, self.predictions(network, seed, cycle), self.aggregation)
        if scored.values is not None:
            _require_numbers(scored.values, regions)
        features = {**scored.features, **self._passive_features(network, question)}
        return replace(scored, scores=scored.scores.cpu(), features=features)

    def _passive_features(self, network: nn.Module, question: Question) -> dict[Feature, Tensor]:
        """Features of the network that learns with dropout off."""
        wanted = self.features - {Feature.LOG_PROBS, Feature.VARIANCES}
        if not wanted:
            return {}
        predictions = self.predictions(network, question.seed, question.cycle)
        with embeddings_of(network) as embeddings:
            logits = predictions.logits(question.images)
        features = {}
        if Feature.EMBEDDING in wanted:
            features[Feature.EMBEDDING] = embeddings.pooled(question.regions)
        if Feature.PROBS in wanted:
            rows = per_unit(logits, question.regions, "BADGE's gradient")
            features[Feature.PROBS] = functional.class_probabilities(rows)
        return features


def _require_numbers(values: Tensor, regions: Regions) -> None:
    finite = torch.isfinite(values.flatten(start_dim=1).sum(dim=1) if values.ndim > 1 else values)
    if finite.all():
        return
    bad = regions.image_ids[int(torch.nonzero(~finite)[0])]
    raise ValueError(
        f"the network's output for image {bad!r} has NaN or infinite values, so it cannot be scored; "
        "train with a smaller learning rate or full precision, or choose an earlier checkpoint"
    )
