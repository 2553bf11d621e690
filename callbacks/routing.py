"""Where queried units go, and why: two more columns of queried.csv."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from pytorch_lightning.utilities import rank_zero_info

from acquisition.features import Feature
from acquisition.numbers import exact
from acquisition.racing import Race
from acquisition.routing import Action, Route, checked_prices, disputed_classes, on_one_scale, route
from acquisition.seeding import uniform_for
from callbacks.choice import Features
from datamodules.pool import Pool
from datamodules.reliability import Reliability, relative_error, reliabilities
from datamodules.sources.several_annotators import SeveralAnnotators

__all__ = ["Routing", "features_for"]

_MOST_IMAGES = 100  # to compare people on: all drawings of each are read


@dataclass(frozen=True)
class Routing:
    """Says of each queried unit whether one person shall label it, a second one too, an expert, or whether the
    guidelines need a line first: the columns action and reason of queried.csv (see `acquisition.routing.route`).

    What is queried stays the same. Needs an acquisition that draws MC samples, whose statistics give both
    uncertainties in the same pass: what the network does not know (epistemic variance), and how far it expects people
    to differ (aleatoric variance), each the mean over a unit's pixels. Where three people or more have drawn images
    that are labelled throughout, each is compared with the majority of the others there: the most reliable is the
    expert, the others are second people in turn, and the expert's relative error is measured. A data set that wraps
    another has no people.

    Args:
        budget: Labels per queried unit, on average; one unit may get more than another.
        prices: Of the actions label, second, expert and guidelines, in labels; 1, 1, 3 and, once for a class, 5 unless
            given. A second person's is paid beside the first label's, an expert's in its place.
        mended: Share of a disagreement that a line in the guidelines mends, where the network knows it well.
        expert_error: An expert's error as a share of other people's, where nobody could be compared.

    Raises:
        ValueError: If an action is unknown, a price negative, or the budget below the price of a label.
    """

    budget: float = 2.0
    prices: dict[str, float] | None = None
    mended: float = 0.5
    expert_error: float = 0.25

    def __post_init__(self) -> None:
        costs = checked_prices(self.prices)
        if not costs[Action.LABEL] <= self.budget < float("inf"):
            raise ValueError(
                "strategy.routing.budget is in labels per queried unit and must pay for the cheapest action, a label "
                f"at {exact(costs[Action.LABEL])}, got {exact(self.budget)}"
            )
        # whoever is refused here has not trained yet
        route(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), 0, self.prices, self.mended, self.expert_error)

    def columns(self, pool: Pool, ranked: pd.DataFrame, features: Features) -> pd.DataFrame:
        """Route the queried units.

        Args:
            pool: Whose units they are.
            ranked: unit_id and selected of all that were scored.
            features: The variances of their MC samples.

        Returns:
            action and reason of the selected units, in their order.
        """
        variances = np.asarray(features.of_pool(Feature.VARIANCES, ranked["unit_id"].tolist()), dtype=float)
        network, people, classes = variances[:, 0], variances[:, 1:].sum(axis=1), disputed_classes(variances[:, 1:])
        usual, scaled = (float(np.median(network)), float(np.median(people))), on_one_scale(network, people)
        chosen = ranked["selected"].to_numpy(bool)
        network, people, classes, scaled = network[chosen], people[chosen], classes[chosen], scaled[chosen]
        known = self._known_people(pool)
        error = min(relative_error(known), 1.0) if known else self.expert_error
        budget = self.budget * len(network)
        found = route(scaled, people, classes, budget, self.prices, self.mended, error)
        counts = ", ".join(f"{a.value} {found.actions.count(a)}" for a in Action if a in found.actions)
        rank_zero_info(f"Routing: {counts}; {exact(round(found.spent, 6))} of {exact(round(budget, 6))} labels.")
        facts = _facts(network, people, usual)
        names = [pool.source.class_names[c] for c in classes]
        asked = _asked(found, names, [c in found.guided for c in classes], known)
        reasons = [f"{f} about class {n} {p}: {a}" for (f, p), n, a in zip(facts, names, asked, strict=True)]
        return pd.DataFrame({"action": [a.value for a in found.actions], "reason": reasons})

    def _known_people(self, pool: Pool) -> list[Reliability]:
        """People who can be compared on labelled images, the most reliable first; none, or at least three."""
        if not isinstance(pool.source, SeveralAnnotators):
            return []
        labelled = set(pool.ledger.training())
        # of an image in parts the others are nobody's to look at yet
        images = [i for i in pool.units.images_of(labelled) if labelled.issuperset(pool.units.of_image[i])]
        some = sorted(images, key=lambda i: uniform_for(pool.seed, "reliability", i))[:_MOST_IMAGES]
        found = reliabilities(pool.source, some)
        return found if len(found) > 2 else []


def features_for(routing: Routing | None, race: Race | None) -> frozenset[Feature]:
    """What a strategy has to hand on beside its scores.

    Args:
        routing: The strategy's; None for none.
        race: Likewise.

    Raises:
        ValueError: If both are asked for.
    """
    if routing is not None and race is not None:
        raise ValueError(
            "routing compares variances of equally many MC samples, which a race does not draw; set strategy.race or "
            "strategy.routing to null"
        )
    return frozenset() if routing is None else frozenset({Feature.VARIANCES})


def _facts(network: np.ndarray, people: np.ndarray, usual: tuple[float, float]) -> Iterator[tuple[str, str]]:
    """How sure the network is and how far people differ, beside the median of what was scored."""
    for n, p in zip(network, people, strict=True):
        sure, agree = n <= usual[0], p <= usual[1]
        yield (
            f"the network is {'sure' if sure else 'unsure'} ({n:.2g}, usually {usual[0]:.2g}) "
            f"{'and' if sure == agree else 'but'} people {'agree' if agree else 'disagree'}",
            f"({p:.2g}, usually {usual[1]:.2g})",
        )


def _asked(found: Route, names: Sequence[str], guided: Sequence[bool], known: Sequence[Reliability]) -> Iterator[str]:
    """What is to be done, and by whom where that is known: second people take turns."""
    expert = f"{known[0].annotator}, the most reliable ({known[0].balanced:.2f})" if known else "an expert"
    seconds = cycle([f"a second person, {p.annotator} ({p.balanced:.2f})," for p in known[1:]] or ["a second person"])
    helped = Counter(names)
    for action, name, line in zip(found.actions, names, guided, strict=True):
        by_line = ", by the new line in the guidelines" if line else ""
        match action:
            case Action.LABEL:
                yield "a label will do"
            case Action.SECOND:
                yield f"have {next(seconds)} draw it too{by_line}"
            case Action.EXPERT:
                yield f"give it to {expert}"
            case Action.GUIDELINES:
                yield (
                    f"write a line about class {name} in the guidelines first, worth it for {helped[name]} units here, "
                    "then label it"
                )
