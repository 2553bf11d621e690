"""Where a query goes: to one person, to a second one, to an expert, or into the guidelines.

Two people who draw a unit differ for two reasons that cost different things to mend. What somebody happens to draw is
averaged out by a second drawing, or avoided by an expert; what people do alike, each in a way of their own, is mended
for all of a class's units by one line in the guidelines, if somebody can say what it is about. The network that has
learned from people's labels tells how far they differ (its aleatoric variance), and how well it knows that (its
epistemic variance: Kendall and Gal 2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from acquisition.numbers import exact

__all__ = ["PRICES", "Action", "Route", "checked_prices", "disputed_classes", "on_one_scale", "route"]

_SLACK = 1e-9  # of a budget: sums of prices such as 0.1 are rounded


class Action(StrEnum):
    """What is asked for a unit.

    Example:
        >>> [action.value for action in Action]
        ['label', 'second', 'expert', 'guidelines']
    """

    LABEL = "label"
    SECOND = "second"
    EXPERT = "expert"
    GUIDELINES = "guidelines"


PRICES: Mapping[Action, float] = {Action.LABEL: 1, Action.SECOND: 1, Action.EXPERT: 3, Action.GUIDELINES: 5}
"""In labels: of a person's label, of a second person's beside it, of an expert's in its place, and of a line in the
guidelines, once for a class."""


@dataclass(frozen=True)
class Route:
    """Where U units go.

    Args:
        actions: Of each unit.
        guided: Classes whose guidelines get a line, the one first that it helps most. All units of the class profit
            that are drawn by people who need guidelines; those that nothing else is done for have that action.
        spent: What all of it costs, in labels.
        removed: By how much less is expected to be wrong than with one label for each unit: a sum over units of shares
            of their pixels.
    """

    actions: tuple[Action, ...]
    guided: tuple[int, ...]
    spent: float
    removed: float


def checked_prices(prices: Mapping[str, float] | None) -> dict[Action, float]:
    """Prices of all actions, those of `PRICES` where nothing else is said.

    Args:
        prices: By the action's name.

    Returns:
        A price for each action.

    Raises:
        ValueError: An action is unknown, or a price negative or no number.
    """
    given = dict(prices or {})
    names = [action.value for action in Action]
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"expected prices of the actions {', '.join(names)}, got one of {unknown[0]!r}; leave it out")
    for name, price in given.items():
        if not 0 <= price < float("inf"):
            raise ValueError(f"the price of {name} must be a number of labels, 0 or more, got {exact(price)}")
    return {action: float(given.get(action.value, PRICES[action])) for action in Action}


def on_one_scale(network: np.ndarray, people: np.ndarray) -> np.ndarray:
    """The network's uncertainties of a pool, times what makes their median that of people's.

    Variances over dropout masks are many times smaller than those of labels, by an amount that depends on where the
    dropout is. What counts is which units the network knows less of than usual.

    Args:
        network: Epistemic variances of the pool's units.
        people: Their aleatoric variances.

    Returns:
        The first, scaled; as they are where a median is 0.

    Example:
        >>> on_one_scale(np.array([0.0, 0.01, 0.02]), np.array([0.5, 0.1, 0.1])).tolist()
        [0.0, 0.1, 0.2]
    """
    if not len(network):
        return network
    usual = np.median(network), np.median(people)
    return network * (usual[1] / usual[0]) if min(usual) > 0 else network


def disputed_classes(parts: np.ndarray) -> np.ndarray:
    """The class that people differ most about.

    Args:
        parts: Each class's part of a unit's aleatoric variance, U x C.

    Returns:
        U classes; of equal parts, as two classes have, that of the higher index, which is drawn and no background.
    """
    large = parts >= parts.max(axis=1, keepdims=True) * (1 - 1e-3)
    return parts.shape[1] - 1 - large[:, ::-1].argmax(axis=1)


def route(
    network: np.ndarray,
    people: np.ndarray,
    classes: np.ndarray,
    budget: float,
    prices: Mapping[str, float] | None = None,
    mended: float = 0.5,
    expert_error: float = 0.25,
) -> Route:
    """Choose actions that remove most of the expected error for their price, under a budget.

    With n the network's uncertainty of a unit and p people's, k = p / (p + n) says how well the disagreement is known.
    Expected to be wrong is the share p of what one person draws, p (1 - mended k) by guidelines with a line on the
    unit's class, half of that after a second person's drawing, and p expert_error of what an expert draws.

    Every unit has one label at least. For no line in the guidelines, one, two and so on, in the order of what they
    help, what is left of the budget buys second people and experts by the error that they remove per label, up to the
    first that it does not pay for; the best number of lines is taken. So no more is spent than there is, and a larger
    budget removes no less.

    Args:
        network: Of U units, what the network does not know: its epistemic variance (see `on_one_scale`).
        people: How far people differ: the aleatoric variance, or the variance over an ensemble of people's networks.
        classes: The class that they differ about.
        budget: What all units may cost together, in labels.
        prices: Of actions, in labels (see `PRICES`).
        mended: Share of a well-known disagreement that a line in the guidelines mends.
        expert_error: An expert's error as a share of another person's.

    Returns:
        The actions, the same for the same arguments: ties go to the earlier unit and the smaller class.

    Raises:
        ValueError: If the budget does not pay for a label of each unit, or an argument is not as described.

    Example:
        People differ about the last unit alone. The network does not know it, so that no guideline is written:

        >>> network, people = np.array([0.01, 0.01, 0.2]), np.array([0.0, 0.01, 0.1])
        >>> route(network, people, np.array([1, 1, 1]), budget=5).actions[-1].value
        'expert'
        >>> route(network, people, np.array([1, 1, 1]), budget=4).actions[-1].value
        'second'
    """
    costs = checked_prices(prices)
    network, people, classes = _checked(network, people, classes, mended, expert_error)
    limit = budget + _SLACK * max(1.0, abs(budget))
    left = limit - len(people) * costs[Action.LABEL]
    if left < 0:
        raise ValueError(
            f"the budget must pay for a label of each of {len(people)} units, expected "
            f"{exact(len(people) * costs[Action.LABEL])} labels or more, got {exact(budget)}"
        )
    both = people + network
    known = np.divide(people, both, out=np.zeros_like(people), where=both > 0)
    lines = _worth_a_line(people * known * mended, classes)
    best: Route | None = None
    for count in range(len(lines) + 1):
        rest = left - count * costs[Action.GUIDELINES]
        if rest < 0:
            break
        guided = np.isin(classes, lines[:count])
        drawn = np.where(guided, people * (1 - mended * known), people)
        steps = _steps(drawn / 2, drawn - expert_error * people, costs)
        taken = _affordable(steps, rest)
        removed = float((people - drawn).sum() + steps.gain[taken].sum())
        if best is not None and removed <= best.removed * (1 + _SLACK):
            continue
        chosen = np.where(guided, Action.GUIDELINES, Action.LABEL).astype(object)
        # of two steps of one unit the second comes later
        for unit, action in zip(steps.unit[taken], steps.action[taken], strict=True):
            chosen[unit] = action
        spent = len(people) * costs[Action.LABEL] + count * costs[Action.GUIDELINES] + steps.price[taken].sum()
        best = Route(tuple(map(Action, chosen)), tuple(lines[:count].tolist()), float(spent), removed)
    assert best is not None
    return best


@dataclass(frozen=True)
class _Steps:
    """Changes of a unit's action that cost more and help more, the best per price first."""

    unit: np.ndarray
    action: np.ndarray
    price: np.ndarray
    gain: np.ndarray


def _steps(second: np.ndarray, expert: np.ndarray, costs: Mapping[Action, float]) -> _Steps:
    """What leads from one label to the upper hull of (price, gain) of a unit's actions."""
    actions = sorted(
        [
            (costs[Action.SECOND], Action.SECOND, second),
            (costs[Action.EXPERT] - costs[Action.LABEL], Action.EXPERT, expert),
        ],
        key=lambda option: option[0],
    )
    (price, cheap, gain), (dear_price, dear, dear_gain) = actions
    ratio, dear_ratio = _per_price(gain, price), _per_price(dear_gain, dear_price)
    direct = (dear_gain > 0) & ((gain <= 0) | (dear_ratio >= ratio) & (dear_gain > gain))
    first = (gain > 0) & ~direct
    further = first & (dear_gain > gain)
    parts = [
        (first, cheap, price, gain),
        (direct, dear, dear_price, dear_gain),
        (further, dear, dear_price - price, dear_gain - gain),
    ]
    units = [np.flatnonzero(where) for where, *_ in parts]
    unit = np.concatenate(units)
    prices = np.concatenate([np.full(len(u), p, dtype=float) for u, (_, _, p, _) in zip(units, parts, strict=True)])
    gains = np.concatenate([g[u] for u, (_, _, _, g) in zip(units, parts, strict=True)])
    named = np.concatenate([np.full(len(u), a, dtype=object) for u, (_, a, _, _) in zip(units, parts, strict=True)])
    stage = np.concatenate([np.full(len(u), k) for k, u in enumerate(units)])
    with np.errstate(divide="ignore"):
        worth = np.where(prices > 0, gains / prices, np.inf)
    order = np.lexsort((stage, unit, -worth))
    return _Steps(unit[order], named[order], prices[order], gains[order])


def _per_price(gain: np.ndarray, price: float) -> np.ndarray:
    return gain / price if price > 0 else np.where(gain > 0, np.inf, -np.inf)


def _affordable(steps: _Steps, budget: float) -> slice:
    """Up to the first step that the budget does not pay for: a larger budget takes these and more."""
    over = np.flatnonzero(np.cumsum(steps.price) > budget)
    return slice(int(over[0]) if len(over) else len(steps.price))


def _worth_a_line(gain: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Classes whose units a line in the guidelines helps, the most first."""
    there, which = np.unique(classes, return_inverse=True)
    worth = np.bincount(which, weights=gain, minlength=len(there))
    order = np.argsort(-worth, kind="stable")
    return there[order[worth[order] > 0]]


def _checked(
    network: np.ndarray, people: np.ndarray, classes: np.ndarray, mended: float, expert_error: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for name, share in (("mended", mended), ("expert_error", expert_error)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share between 0 and 1, got {exact(share)}")
    given = np.asarray(network, dtype=float), np.asarray(people, dtype=float), np.asarray(classes)
    shapes = {values.shape for values in given}
    if len(shapes) > 1 or given[0].ndim != 1:
        raise ValueError(f"expected one uncertainty of each kind and one class per unit, got shapes {sorted(shapes)}")
    for name, values in (("network", given[0]), ("people", given[1])):
        if not ((values >= 0) & np.isfinite(values)).all():
            raise ValueError(f"the uncertainty of the {name} must be 0 or more and finite, for every unit")
    return given
