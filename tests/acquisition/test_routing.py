"""Where units go: by hand, against trying everything, and what no budget may break."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquisition.routing import PRICES, Action, disputed_classes, on_one_scale, route

LABEL, SECOND, EXPERT, GUIDELINES = Action
DEAR_LINE = {"guidelines": 1e6}


def routed(network: list[float], people: list[float], budget: float, **settings: Any) -> list[Action]:
    classes = np.array(settings.pop("classes", [1] * len(people)))
    return list(route(np.array(network), np.array(people), classes, budget, **settings).actions)


def test_by_hand_a_second_person_helps_more_per_label_and_an_expert_more_in_all() -> None:
    # of 0.4 a second drawing removes 0.2 for 1, an expert 0.3 for 2; of 0.1 these are 0.05 and 0.075
    network, people = [1.0, 1.0], [0.4, 0.1]
    for budget, expected in (
        (2, [LABEL, LABEL]),
        (2.9, [LABEL, LABEL]),
        (3, [SECOND, LABEL]),
        (4, [EXPERT, LABEL]),  # the next 0.1 for 1 comes before 0.05 for 1
        (5, [EXPERT, SECOND]),
        (6, [EXPERT, EXPERT]),
    ):
        assert routed(network, people, budget, prices=DEAR_LINE) == expected
    found = route(np.array(network), np.array(people), np.array([1, 1]), 5, DEAR_LINE)
    assert (found.spent, found.guided) == (5, ())
    assert found.removed == pytest.approx(0.3 + 0.05)


def test_by_hand_a_line_is_written_where_a_disagreement_is_known_and_shared() -> None:
    # a line removes half of 8 x 0.2 for 5 labels; second people 0.1 for each of 5 labels
    assert routed([0.0] * 8, [0.2] * 8, 13) == [GUIDELINES] * 8
    # the network does not know it: 8 x 0.2 x 0.2 x 0.5 = 0.16 against 0.5
    assert routed([0.8] * 8, [0.2] * 8, 13) == [SECOND] * 5 + [LABEL] * 3
    # fewer units share it: 4 x 0.1 for 5 labels against 4 x 0.1 for 4 labels and 0.05 for the fifth
    assert routed([0.0] * 4, [0.2] * 4, 9) == [EXPERT] + [SECOND] * 3
    # of two classes only the one that people differ about has a line
    found = route(
        np.zeros(8), np.array([0.3] * 4 + [0.01] * 4), np.array([2] * 4 + [1] * 4), 13, {"second": 9, "expert": 9}
    )
    assert found.guided == (2,)
    assert found.actions == (GUIDELINES,) * 4 + (LABEL,) * 4
    # what is left after the line buys second people by the line
    assert routed([0.0] * 20, [0.3] + [0.2] * 19, 26) == [SECOND] + [GUIDELINES] * 19


def test_an_expert_no_better_than_others_is_not_asked_and_ties_go_to_the_first() -> None:
    assert routed([1.0] * 3, [0.2] * 3, 100, prices=DEAR_LINE, expert_error=1.0) == [SECOND] * 3
    assert routed([1.0] * 3, [0.2] * 3, 100, prices=DEAR_LINE, expert_error=0.5) == [SECOND] * 3
    assert routed([1.0] * 3, [0.2] * 3, 4, prices=DEAR_LINE) == [SECOND, LABEL, LABEL]
    assert routed([1.0] * 2, [0.2, 0.0], 100, prices=DEAR_LINE | {"expert": 1}) == [EXPERT, LABEL]
    assert routed([], [], 0) == []
    assert routed([0.1], [0.0], 100) == [LABEL], "nothing to mend"


UNCERTAIN = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.7]), st.floats(0, 0.25), st.integers(0, 2)), min_size=1, max_size=8
)
PRICED = st.fixed_dictionaries({a.value: st.sampled_from([0.0, 0.5, 1.0, 3.0]) for a in Action})


def arrays(units: list[tuple[float, float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    network, people, classes = zip(*units, strict=True)
    return np.array(network), np.array(people), np.array(classes)


def cost(actions: tuple[Action, ...], guided: tuple[int, ...], prices: dict[str, float]) -> float:
    each = {
        LABEL: prices["label"],
        GUIDELINES: prices["label"],
        SECOND: prices["label"] + prices["second"],
        EXPERT: prices["expert"],
    }
    return sum(each[a] for a in actions) + len(guided) * prices["guidelines"]


@settings(max_examples=40)
@given(units=UNCERTAIN, prices=PRICED, per_unit=st.floats(0, 4), more=st.floats(0, 5))
def test_a_budget_is_kept_and_a_larger_one_removes_no_less(
    units: list[tuple[float, float, int]], prices: dict[str, float], per_unit: float, more: float
) -> None:
    network, people, classes = arrays(units)
    budget = len(units) * (prices["label"] + per_unit)
    found = route(network, people, classes, budget, prices)
    assert found.spent <= budget + 1e-6
    assert found.spent == pytest.approx(cost(found.actions, found.guided, prices))
    assert found == route(network, people, classes, budget, prices)
    assert route(network, people, classes, budget + more, prices).removed >= found.removed * (1 - 1e-6)
    assert {c for c, a in zip(classes, found.actions, strict=True) if a is GUIDELINES} <= set(found.guided)


@given(people=st.lists(st.floats(0, 0.25), min_size=2, max_size=8), per_unit=st.floats(0, 3))
def test_without_a_line_who_differs_more_is_given_no_less(people: list[float], per_unit: float) -> None:
    actions = routed([1.0] * len(people), people, len(people) * (1 + per_unit), prices=DEAR_LINE)
    given_, order = [a.name for a in actions], np.argsort(people, kind="stable")
    rank = {"LABEL": 0, "SECOND": 1, "EXPERT": 2}
    sorted_people = np.array(people)[order]
    ranks = np.array([rank[given_[i]] for i in order])
    apart = np.diff(sorted_people) > 1e-9
    assert (np.diff(ranks)[apart] >= 0).all()


@given(
    people=st.lists(st.floats(0, 0.25), min_size=1, max_size=5),
    network=st.sampled_from([0.0, 0.05]),
    extra=st.integers(0, 12),
)
def test_against_trying_everything(people: list[float], network: float, extra: int) -> None:
    """A greedy choice lacks at most its last step: as much as one unit can gain."""
    values, units = np.array(people), len(people)
    budget = units + extra
    found = route(np.full(units, network), values, np.ones(units, int), budget)
    known = np.divide(values, values + network, out=np.zeros(units), where=values + network > 0)
    best = 0.0
    for line in (False, True):
        drawn = values * (1 - 0.5 * known) if line else values
        left = {LABEL: drawn, SECOND: drawn / 2, EXPERT: 0.25 * values}
        for actions in itertools.product(left, repeat=units):
            if cost(actions, (1,) * line, {a.value: p for a, p in PRICES.items()}) <= budget:
                best = max(best, sum(values[i] - left[a][i] for i, a in enumerate(actions)))
    assert best - 0.75 * values.max() - 1e-9 <= found.removed <= best + 1e-9


def test_scales_and_classes() -> None:
    network, people = np.array([1e-4, 2e-4, 4e-4]), np.array([0.1, 0.2, 0.1])
    np.testing.assert_allclose(on_one_scale(network, people), [0.05, 0.1, 0.2])
    assert on_one_scale(np.zeros(3), people).tolist() == [0, 0, 0]
    assert len(on_one_scale(np.zeros(0), np.zeros(0))) == 0
    parts = np.array([[0.1, 0.1 - 1e-8], [0.1, 0.1 + 1e-8], [0.2, 0.1], [0.0, 0.0]])
    assert disputed_classes(parts).tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prices": {"lable": 1}}, "actions label, second, expert, guidelines, got one of 'lable'"),
        ({"prices": {"expert": -1}}, "price of expert must be a number of labels, 0 or more, got -1"),
        ({"prices": {"expert": float("nan")}}, "price of expert must be a number"),
        ({"budget": 1.5}, "must pay for a label of each of 2 units, expected 2 labels or more, got 1.5"),
        ({"mended": 1.5}, "mended must be a share between 0 and 1, got 1.5"),
        ({"expert_error": -0.5}, "expert_error must be a share"),
        ({"network": np.zeros(3)}, r"one class per unit, got shapes \[\(2,\), \(3,\)\]"),
        ({"people": np.array([0.1, np.nan])}, "uncertainty of the people must be 0 or more and finite"),
        ({"network": np.array([0.1, -0.1])}, "uncertainty of the network must be 0 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_routed(changes: dict[str, Any], says: str) -> None:
    usual = {"network": np.zeros(2), "people": np.zeros(2), "classes": np.zeros(2, int), "budget": 4}
    with pytest.raises(ValueError, match=says):
        route(**(usual | changes))
