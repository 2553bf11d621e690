"""Acquisition functions as classes that a config can name: what makes a unit worth labelling."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from acquisition import functional
from acquisition.aggregation import Aggregation
from acquisition.checkpoints import load_network
from acquisition.engine import frozen, logits_of
from acquisition.kinds import AcquisitionFunction, DeterministicAcquisition, MonteCarloAcquisition, UnitAcquisition
from acquisition.numbers import exact
from acquisition.predictors import Predictions
from acquisition.scored import Question, Scored
from acquisition.seeding import uniform_for
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = [
    "BALD",
    "ODIN",
    "Entropy",
    "Expert",
    "Inverse",
    "LearningLoss",
    "Margin",
    "MaxSoftmax",
    "MeanEntropy",
    "MeanStd",
    "MeanVariance",
    "PredictsLoss",
    "Random",
    "VariationRatio",
    "VoteEntropy",
]


class Random(UnitAcquisition):
    """Uniform in [0, 1), drawn from (seed, cycle, unit id): the baseline of every comparison."""

    def unit_scores(self, unit_ids: Sequence[str], seed: int, cycle: int) -> Tensor:
        return torch.tensor([uniform_for(seed, cycle, "random", u) for u in unit_ids], dtype=torch.float64)


class Entropy(DeterministicAcquisition):
    """Entropy of the softmax, in nats (Chen 2020, eq. 1.1)."""

    def values(self, logits: Tensor) -> Tensor:
        return functional.entropy(functional.class_probabilities(logits))


class MaxSoftmax(DeterministicAcquisition):
    """One minus the largest probability (Chen 2020, eq. 1.2)."""

    def values(self, logits: Tensor) -> Tensor:
        return functional.max_softmax(functional.class_probabilities(logits))


class Margin(DeterministicAcquisition):
    """One minus the gap between the two largest probabilities (Chen 2020, eq. 1.3)."""

    def values(self, logits: Tensor) -> Tensor:
        return functional.margin(functional.class_probabilities(logits))


class ODIN(DeterministicAcquisition):
    """Max-softmax at a temperature, after a step of epsilon on the input (Chen 2020, eq. 1.4 to 1.6).

    Args:
        temperature: Above 0. Chen 2020 found 0.1 and 0.01 best on Fashion-MNIST (section 3.1.3), and 1 best on
            Cityscapes (section 2.2.1).
        epsilon: In units of the normalised input; 0.0014 did harm there.

    Raises:
        ValueError: If the temperature is not above 0, or epsilon is negative.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.0) -> None:
        if temperature <= 0 or epsilon < 0:
            raise ValueError(f"ODIN needs temperature > 0 and epsilon >= 0, got {temperature} and {epsilon}")
        self.temperature = temperature
        self.epsilon = epsilon

    @property
    def name(self) -> str:
        step = f",eps={exact(self.epsilon)}" if self.epsilon else ""
        return f"ODIN(T={exact(self.temperature)}{step})"

    def values(self, logits: Tensor) -> Tensor:
        return functional.odin(logits, self.temperature)

    def moved(self, network: nn.Module, images: Tensor) -> Tensor:
        if not self.epsilon:
            return images
        with torch.enable_grad():
            leaf = images.detach().clone().requires_grad_()
            return functional.odin_perturbation(leaf, logits_of(network(leaf)), self.temperature, self.epsilon)


class BALD(MonteCarloAcquisition):
    """Mutual information between the label and the network's weights, in nats (Chen 2020, eq. 1.7)."""

    min_samples = 2
    needs = frozenset({Statistic.MEAN, Statistic.EXPECTED_ENTROPY})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.bald(statistics[Statistic.MEAN], statistics[Statistic.EXPECTED_ENTROPY])


class VoteEntropy(MonteCarloAcquisition):
    """Entropy of the samples' votes, in nats (Chen 2020, eq. 1.8)."""

    min_samples = 2
    needs = frozenset({Statistic.VOTE_FRACTIONS})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.vote_entropy(statistics[Statistic.VOTE_FRACTIONS])


class VariationRatio(MonteCarloAcquisition):
    """One minus the largest probability of the MC mean (Gal et al. 2017, section 4)."""

    needs = frozenset({Statistic.MEAN})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.variation_ratio(statistics[Statistic.MEAN])


class MeanEntropy(MonteCarloAcquisition):
    """Entropy of the MC mean, in nats (Gal et al. 2017, section 4, "Max Entropy")."""

    needs = frozenset({Statistic.MEAN})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.entropy(statistics[Statistic.MEAN])


class MeanVariance(MonteCarloAcquisition):
    """Variance over the samples, averaged over the classes (SuperAnnotate 2020)."""

    min_samples = 2
    needs = frozenset({Statistic.MEAN, Statistic.MEAN_SQUARES})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.mean_variance(statistics[Statistic.MEAN], statistics[Statistic.MEAN_SQUARES])


class MeanStd(MonteCarloAcquisition):
    """Standard deviation over the samples, averaged over the classes (Gal et al. 2017, section 4, "Mean STD")."""

    min_samples = 2
    needs = frozenset({Statistic.MEAN, Statistic.MEAN_SQUARES})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        return functional.mean_std(statistics[Statistic.MEAN], statistics[Statistic.MEAN_SQUARES])


@runtime_checkable
class PredictsLoss(Protocol):
    """A network that predicts its own loss on an image."""

    def with_predicted_loss(self, images: Tensor, detach: bool = False) -> tuple[Tensor, Tensor]:
        """Predict classes and losses in one pass.

        Args:
            images: N x 3 x H x W.
            detach: Whether the gradient of the predicted losses changes nothing in the network.

        Returns:
            Logits, N x C x ..., and predicted losses, N.
        """


class LearningLoss(AcquisitionFunction):
    """The loss that the network predicts for an image, with dropout off (Yoo and Kweon 2019).

    For networks that have learnt to (`PredictsLoss`), and for whole images: a part of one has no prediction of its own.
    """

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        network, regions = predictions.network, question.regions
        if not isinstance(network, PredictsLoss):
            raise ValueError(
                f"LearningLoss needs a network that predicts its own loss, got {type(network).__name__}; put it into "
                "lightning_modules.networks.LossPrediction and train it, or choose another acquisition function"
            )
        images = [regions.image_ids[number] for number in regions.places[:, 0].long().tolist()]
        part = next((u for u, image in zip(regions.unit_ids, images, strict=True) if u != image), None)
        if part is not None:
            raise ValueError(
                f"LearningLoss needs whole images as units, got {part!r}, a part of one; leave out data.partition, or "
                "choose another acquisition function"
            )
        with frozen(predictions.network), torch.inference_mode(False), torch.no_grad():
            output, predicted = network.with_predicted_loss(question.images)
        logits = logits_of(output)
        # what is no number in the logits is no query either, whatever the prediction
        predicted = predicted.where(torch.isfinite(logits.flatten(start_dim=1).sum(dim=1)), torch.nan)
        values = predicted.view(-1, *(1 for _ in logits.shape[2:])).expand(-1, *logits.shape[2:])
        scores = aggregation(predicted, regions)
        return Scored(scores, values=values, predictions=functional.predicted_class(logits))


class _Decorator(AcquisitionFunction):
    """Another acquisition function, with something changed about it."""

    def __init__(self, acquisition: AcquisitionFunction) -> None:
        self.acquisition = acquisition
        self.min_samples = acquisition.min_samples
        self.uses_truth = acquisition.uses_truth
        self.reads_truth = acquisition.reads_truth
        self.needs_network = acquisition.needs_network
        self.sign = acquisition.sign
        self.files = acquisition.files

    @property
    def name(self) -> str:
        name = f"Expert({self.value_name})" if self.files else self.value_name
        return f"Inverse({name})" if self.sign < 0 else name

    @property
    def value_name(self) -> str:
        return self.acquisition.value_name

    def asked(self, predictions: Predictions) -> Predictions:
        return self.acquisition.asked(predictions)


class Expert(_Decorator):
    """Another acquisition function, asked of a network that was trained on all the data (Chen 2020, section 3.2.2).

    An oracle strategy: the expert has seen labels of the pool. It is made when it is first asked, and leaves torch's
    random numbers as they were: strategies are paired by the initial weights of the learner.

    Args:
        checkpoint: Of the expert, such as the best.ckpt of a fit whose initial set is everything.
        acquisition: What is asked.
        network: Makes the expert's architecture where it differs from the network that learns; it may have other
            layers, not other inputs.

    Raises:
        ValueError: If what is asked is asked of an expert already.
    """

    def __init__(
        self, checkpoint: str, acquisition: AcquisitionFunction, network: Callable[[], nn.Module] | None = None
    ) -> None:
        super().__init__(acquisition)
        if acquisition.files:
            raise ValueError(f"one Expert is asked, got Expert({acquisition.name}); leave one out")
        self.uses_truth = True
        self.files = (Path(checkpoint),)
        self.network = network

    def asked(self, predictions: Predictions) -> Predictions:
        return super().asked(predictions.of(self, self.trained))

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        return self.acquisition.score(question, predictions.of(self, self.trained), aggregation)

    def trained(self, learner: nn.Module) -> nn.Module:
        """The expert with its weights.

        Args:
            learner: The network that learns, on whose device it will be.
        """
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            expert = copy.deepcopy(learner) if self.network is None else self.network()
            expert.to(next(learner.parameters(), torch.empty(0)).device)
            load_network(expert, self.files[0])
        return expert


class Inverse(_Decorator):
    """The opposite of another acquisition function: its lowest scores are queried first (Chen 2020, section 3.2.2).

    Maps keep the sign of the other function; only the unit's score changes sign.

    Args:
        acquisition: The other function.
    """

    def __init__(self, acquisition: AcquisitionFunction) -> None:
        super().__init__(acquisition)
        self.sign = -acquisition.sign

    def score(self, question: Question, predictions: Predictions, aggregation: Aggregation) -> Scored:
        scored = self.acquisition.score(question, predictions, aggregation)
        return replace(scored, scores=-scored.scores)
