"""Plans for handing out work: what always holds, and that no better plan exists."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from annotators.assignment import assign_units, misfit

PLACES = st.integers(0, 6).map(float)


def units(scores: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"unit_id": [f"u{k}" for k in range(len(scores))], "score": scores})


def crew(experience: list[float], capacity: list[int]) -> pd.DataFrame:
    names = [f"p{k}" for k in range(len(experience))]
    return pd.DataFrame({"annotator": names, "experience": experience, "capacity": capacity})


def total_misfit(table: pd.DataFrame, scores: pd.DataFrame, people: pd.DataFrame) -> float:
    return float(
        sum(costs(scores, people).loc[u, a] for u, a in zip(table["unit_id"], table["annotator"], strict=True))
    )


def costs(scores: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    places = [(stats.rankdata(v) - 0.5) / len(v) for v in (scores["score"], people["experience"])]
    return pd.DataFrame(misfit(*places), index=scores["unit_id"], columns=people["annotator"])


@given(
    st.lists(PLACES, min_size=1, max_size=30), st.lists(st.tuples(PLACES, st.integers(0, 40)), min_size=1, max_size=5),
    st.sampled_from([0, 0.2, 0.5, 1]), st.sampled_from([0, 0.1, 0.5]), st.integers(0, 3), st.sampled_from([4, 400]),
)  # fmt: skip
def test_what_every_plan_keeps(
    scores: list[float], people: list[tuple[float, int]], double: float, audit: float, seed: int, groups: int
) -> None:
    table, staff = units(scores), crew(*map(list, zip(*people, strict=True)))
    try:
        plan = assign_units(table, staff, double, audit, seed, groups)
    except ValueError as error:
        assert any(w in str(error) for w in ("are missing", "only annotator"))  # noqa: PT017
        return
    assert sorted(plan.loc[plan["purpose"] == "first", "unit_id"]) == sorted(table["unit_id"])
    assert not plan.duplicated(["unit_id", "annotator"]).any()
    made = plan["annotator"].value_counts()
    assert all(made.get(name, 0) <= limit for name, limit in zip(staff["annotator"], staff["capacity"], strict=True))
    audits = round(audit * len(scores))
    drawn = plan.groupby("unit_id")["annotator"].nunique()
    doubles = min(round(double * len(scores)), len(scores) - audits)
    if len(people) > 2:
        assert (drawn == len(people)).sum() == audits
        assert (drawn == 2).sum() == doubles
    seconds = plan[plan["purpose"] == "second"]
    assert len(seconds) == doubles
    # twice drawn are the hardest of those that not everybody draws
    of_audit = set(plan.loc[plan["purpose"] == "audit", "unit_id"])
    if doubles and len(people) > 1:
        rest = plan[(plan["purpose"] == "first") & ~plan["unit_id"].isin(of_audit)]
        assert set(seconds["unit_id"]) == set(rest.nsmallest(doubles, "rank")["unit_id"])
    assert (plan.drop_duplicates("unit_id").sort_values("rank")["predicted_difficulty"].diff().dropna() <= 0).all()
    assert set(plan["rank"]) == set(range(1, len(scores) + 1))


@given(
    st.lists(PLACES, min_size=1, max_size=4),
    st.lists(st.tuples(PLACES, st.integers(0, 4)), min_size=1, max_size=3),
    st.sampled_from([0, 0.5, 1]),
)
def test_no_plan_fits_better(scores: list[float], people: list[tuple[float, int]], double: float) -> None:
    table, staff = units(scores), crew(*map(list, zip(*people, strict=True)))
    try:
        plan = assign_units(table, staff, double, audit_share=0)
    except ValueError:
        plan = None
    hardest = set() if plan is None else set(plan.loc[plan["purpose"] == "second", "unit_id"])
    if plan is None:
        order = table.sort_values("score", ascending=False, kind="stable")["unit_id"]
        hardest = set(order[: round(double * len(scores))])
    cost, limits = costs(table, staff), dict(zip(staff["annotator"], staff["capacity"], strict=True))
    choices = [itertools.combinations(staff["annotator"], 1 + (u in hardest)) for u in table["unit_id"]]
    best = np.inf
    for chosen in itertools.product(*choices):
        given_out = [name for pair in chosen for name in pair]
        if all(given_out.count(name) <= limits[name] for name in limits):
            total = sum(cost.loc[u, n] for u, pair in zip(table["unit_id"], chosen, strict=True) for n in pair)
            best = min(best, total)
    if plan is None:
        assert best == np.inf
    else:
        assert total_misfit(plan, table, staff) == pytest.approx(best, abs=1e-9)


@given(
    st.lists(st.floats(0, 1), min_size=12, max_size=40, unique=True),
    st.lists(st.integers(0, 50), min_size=2, max_size=4, unique=True),
    st.lists(st.integers(0, 20), min_size=4, max_size=4),
    st.sampled_from([5, 400]),
)
def test_the_more_experienced_get_nothing_easier(
    scores: list[float], experience: list[int], room: list[int], groups: int
) -> None:
    capacity = room[: len(experience)]
    assume(sum(capacity) >= len(scores))
    plan = assign_units(units(scores), crew(list(map(float, experience)), capacity), 0, 0, groups=groups)
    years = dict(zip([f"p{k}" for k in range(len(experience))], experience, strict=True))
    hardest_first = plan.sort_values("rank")["annotator"].map(years).tolist()
    assert hardest_first == sorted(hardest_first, reverse=True)


def test_room_for_all_leaves_nobody_idle() -> None:
    plan = assign_units(units(list(range(90))), crew([1, 5, 9], [1000] * 3), 0, 0)
    assert plan["annotator"].value_counts().to_dict() == {"p0": 30, "p1": 30, "p2": 30}
    assert plan.groupby("annotator")["predicted_difficulty"].mean().is_monotonic_increasing


def test_audit_is_drawn_by_hash_not_by_difficulty_or_order() -> None:
    table, staff = units(list(np.linspace(0, 1, 200))), crew([1, 2, 3], [400] * 3)

    def audited(scores: pd.DataFrame, seed: int) -> set[str]:
        plan = assign_units(scores, staff, 0.2, 0.1, seed)
        return set(plan.loc[plan["purpose"] == "audit", "unit_id"])

    chosen = audited(table, 0)
    assert len(chosen) == 20
    assert chosen == audited(table.sample(frac=1, random_state=1), 0)
    assert chosen == audited(table.assign(score=-table["score"]), 0)
    assert chosen != audited(table, 1)
    ranks = stats.kstest([int(u[1:]) / 200 for u in chosen], "uniform")
    assert ranks.pvalue > 0.01


def test_the_order_of_the_files_changes_nothing() -> None:
    table, staff = units([0.5, 0.5, 0.1, 0.9, 0.5, 0.2]), crew([3, 1, 3], [5, 5, 5])
    plan = assign_units(table, staff, 0.5, 0.2)
    other = assign_units(table.iloc[::-1], staff.iloc[::-1], 0.5, 0.2)
    pd.testing.assert_frame_equal(plan, other)


def test_many_images_and_people_in_seconds() -> None:
    rng = np.random.default_rng(0)
    table = units(list(rng.gamma(2, 1, 20_000)))
    staff = crew(list(rng.integers(0, 20, 50).astype(float)), list(rng.integers(700, 1300, 50)))
    start = time.perf_counter()
    plan = assign_units(table, staff, 0.2, 0.01)
    assert time.perf_counter() - start < 60
    assert len(plan) == 20_000 + 4_000 + 200 * 49
    assert not plan.duplicated(["unit_id", "annotator"]).any()
    first = plan[plan["purpose"] == "first"].merge(staff, on="annotator")
    assert stats.spearmanr(first["experience"], first["predicted_difficulty"])[0] > 0.9


def test_groups_cost_little() -> None:
    rng = np.random.default_rng(1)
    table, staff = units(list(rng.gamma(2, 1, 300))), crew([1, 2, 3, 4, 5], [100, 60, 90, 90, 80])
    exact = total_misfit(assign_units(table, staff, 0.2, 0), table, staff)
    grouped = total_misfit(assign_units(table, staff, 0.2, 0, groups=60), table, staff)
    assert exact <= grouped + 1e-9
    assert grouped <= 1.05 * exact


@pytest.mark.parametrize(
    ("capacity", "shares", "words"),
    [
        ([5, 4], (0, 0), r"10 annotations .* \(10 images, 0 of them by two people\).* can make only 9: 1 are missing"),
        ([100, 1], (0.5, 0), r"15 annotations .* can make only 11: 4 are missing"),
        ([100, 3], (0, 0.5), r"everybody draws the 5 audit images, but 'p1' has capacity for only 3 \(2 are missing"),
        ([100], (0.5, 0), r"5 images are to be drawn by two people, but 'p0' is the only annotator"),
        ([100, 100], (1.5, 0), r"double_share must be between 0 and 1, got 1\.5"),
        ([100, 100], (0, -0.1), r"audit_share must be between 0 and 1, got -0\.1"),
    ],
)
def test_what_cannot_be_met(capacity: list[int], shares: tuple[float, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        assign_units(units(list(range(10))), crew(list(range(len(capacity))), capacity), *shares)


def test_one_person_alone_does_everything() -> None:
    plan = assign_units(units([1, 2, 3]), crew([1], [3]), double_share=0, audit_share=0.4)
    assert plan["purpose"].tolist() == ["first"] * 3
