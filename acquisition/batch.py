"""Selections that look at the batch as a whole, not at one unit at a time."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from acquisition.features import Feature
from acquisition.greedy import gradient_kmeans, joint_entropy_greedy, k_center
from acquisition.seeding import derive_seed, generator_for
from acquisition.selection import Selection, rank_units

__all__ = ["BADGE", "BatchBALD", "BatchSelection", "CoreSet", "FeatureSource"]

FeatureSource = Callable[[Feature, Sequence[str]], np.ndarray]
"""Features of the units named, in that order, one row each; may be a memory map."""


class BatchSelection(Selection):
    """Chooses greedily by features; what was not chosen follows in order of score.

    Units are looked at in order of score, ties by hash of (seed, unit id), so the choice does not depend on the order
    of the pool.

    Args:
        candidates: Choose only among so many units with the highest scores, which bounds time and memory; None for
            all.

    Raises:
        ValueError: If there are no candidates.
    """

    needs: ClassVar[frozenset[Feature]]
    """The features that `choose` is given."""
    needs_labelled: ClassVar[bool] = False
    """Whether it is given those of the labelled units too."""

    def __init__(self, candidates: int | None = None) -> None:
        if candidates is not None and candidates < 1:
            raise ValueError(f"candidates must be at least 1 unit, or null for all, got {candidates}")
        self.candidates = candidates

    @property
    def name(self) -> str:
        return type(self).__name__ + (f"(top {self.candidates})" if self.candidates else "")

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        """Refused: a batch is not chosen by scores.

        Args:
            unit_ids: Not looked at,
            scores: nor these,
            seed: nor this,
            cycle: nor this.

        Raises:
            ValueError: Always; see `order_by_features`.
        """
        raise ValueError(f"{self.name} chooses by features of the units, got scores alone; call order_by_features")

    def order_by_features(
        self,
        unit_ids: Sequence[str],
        scores: Sequence[float],
        seed: int,
        cycle: int,
        count: int,
        features: FeatureSource,
        labelled: Mapping[Feature, np.ndarray],
    ) -> list[int]:
        """Positions of all units, the chosen ones first.

        Args:
            unit_ids: The names of N units.
            scores: Their N scores.
            seed: Of ties and of what is drawn.
            cycle: So that each cycle draws anew.
            count: How many are chosen.
            features: Of any units.
            labelled: Features of the labelled units where `needs_labelled`.

        Returns:
            N positions.

        Raises:
            ValueError: If there are fewer candidates than are to be chosen.
        """
        ranked = rank_units(unit_ids, scores, seed)
        looked_at = ranked[: self.candidates]
        if len(looked_at) < min(count, len(ranked)):
            raise ValueError(
                f"{self.name} cannot choose {count} units among {len(looked_at)} candidates; raise "
                "strategy.selection.candidates to the budget or more"
            )
        names = [unit_ids[i] for i in looked_at]
        rows = self.choose({f: features(f, names) for f in self.needs}, labelled, count, seed, cycle)
        chosen = [looked_at[i] for i in rows]
        taken = set(chosen)
        return chosen + [i for i in ranked if i not in taken]

    @abstractmethod
    def choose(
        self,
        features: Mapping[Feature, np.ndarray],
        labelled: Mapping[Feature, np.ndarray],
        count: int,
        seed: int,
        cycle: int,
    ) -> list[int]:
        """Rows of the features, first choice first.

        Args:
            features: Of the candidates, in order of score.
            labelled: Of the labelled units.
            count: How many are chosen.
            seed: Of what is drawn,
            cycle: and the cycle.
        """


class CoreSet(BatchSelection):
    """k-center greedy over embeddings, from those of the labelled units on (Sener and Savarese 2018).

    For images and for dense predictions (feature maps averaged over the unit). Time: budget x N x D.

    Args:
        candidates: Choose only among so many units with the highest scores; None for all.
    """

    needs = frozenset({Feature.EMBEDDING})
    needs_labelled = True

    def choose(
        self,
        features: Mapping[Feature, np.ndarray],
        labelled: Mapping[Feature, np.ndarray],
        count: int,
        seed: int,
        cycle: int,
    ) -> list[int]:
        return k_center(features[Feature.EMBEDDING], labelled[Feature.EMBEDDING], count)


class BADGE(BatchSelection):
    """k-means++ over the gradients of the last layer (Ash et al. 2020). Time: budget x N x (C + D).

    Args:
        candidates: Choose only among so many units with the highest scores; None for all.
    """

    needs = frozenset({Feature.EMBEDDING, Feature.PROBS})

    def choose(
        self,
        features: Mapping[Feature, np.ndarray],
        labelled: Mapping[Feature, np.ndarray],
        count: int,
        seed: int,
        cycle: int,
    ) -> list[int]:
        draws = derive_seed(seed, cycle, "badge")
        return gradient_kmeans(features[Feature.PROBS], features[Feature.EMBEDDING], count, draws)


class BatchBALD(BatchSelection):
    """Greedy joint mutual information of the batch (Kirsch et al. 2019); its first choice is BALD's.

    Wants an acquisition that draws MC samples, or an ensemble. Time: budget x num_configurations x T x N x C, so
    `candidates` pays.

    Args:
        candidates: Choose only among so many units with the highest scores; None for all.
        num_configurations: Joint outcomes kept, all of them while they are no more (C to the power of the units
            chosen), and so many drawn ones afterwards.

    Raises:
        ValueError: If there are no candidates or no configurations.
    """

    needs = frozenset({Feature.LOG_PROBS})

    def __init__(self, candidates: int | None = None, num_configurations: int = 10_000) -> None:
        super().__init__(candidates)
        if num_configurations < 1:
            raise ValueError(f"num_configurations must be at least 1, got {num_configurations}")
        self.num_configurations = num_configurations

    @property
    def name(self) -> str:
        drawn = "" if self.num_configurations == 10_000 else f"({self.num_configurations} configurations)"
        return super().name + drawn

    def choose(
        self,
        features: Mapping[Feature, np.ndarray],
        labelled: Mapping[Feature, np.ndarray],
        count: int,
        seed: int,
        cycle: int,
    ) -> list[int]:
        generator = generator_for(seed, cycle, "batchbald")
        log_probs = features[Feature.LOG_PROBS]
        return [i for i, _ in joint_entropy_greedy(log_probs, count, self.num_configurations, generator)]
