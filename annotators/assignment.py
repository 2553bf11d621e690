"""Who gets which image: hard ones to the experienced, some drawn twice, a few drawn by everybody."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse, stats
from scipy.optimize import linprog

from acquisition.seeding import uniform_for

__all__ = ["assign_units", "misfit"]

_GROUPS = 400
"""Groups of neighbouring difficulty that the solver sees; with no more images than this the solution is exact."""


def assign_units(
    scores: pd.DataFrame,
    people: pd.DataFrame,
    double_share: float = 0.2,
    audit_share: float = 0.05,
    seed: int = 0,
    groups: int = _GROUPS,
) -> pd.DataFrame:
    """Hand out units so that the predicted difficulty of each fits the experience of who draws it.

    scores: unit_id, score (higher: harder). people: annotator, experience (higher: more), capacity (most images, of all
    purposes together). A random audit_share, by hash of (seed, unit id), is drawn by everybody, so that people can be
    compared; of the rest, the hardest are drawn by two people, double_share of all units in number. The sum of `misfit`
    over all annotations of the rest is as small as the capacities allow.

    That is a transportation problem: groups of units of neighbouring difficulty supply annotations, people take up
    to their capacity, and nobody takes more from a group than it has units, which suffices for two different people
    per unit (Gale and Ryser 1957). Its linear programme, solved by HiGHS, has whole-number vertices; with 400 groups it
    is small whatever the number of units, where an assignment unit by unit would not fit in memory.

    Returns unit_id, annotator, purpose (first, second, audit), predicted_difficulty, rank (1 is hardest); every unit is
    first exactly once. Raises ValueError where shares or capacities cannot be met.
    """
    for name, share in (("double_share", double_share), ("audit_share", audit_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {share}")
    units = _ranked(scores, seed)
    people = people.sort_values(["experience", "annotator"], ascending=[False, True], ignore_index=True)
    place = _centred_ranks(people["experience"])
    names = people["annotator"].to_numpy(object)
    audited = _audited(units["unit_id"], round(audit_share * len(units)), seed)
    rest = units[~audited]
    doubles = min(round(double_share * len(units)), len(rest))
    capacity = _checked_capacity(people, int(audited.sum()), len(rest), doubles)
    handed = [_audits(units[audited], names, place, seed)]
    if len(rest):
        counts, bounds = _transport(rest["place"].to_numpy(), place, capacity, doubles, groups)
        for taken, start, stop in zip(counts, bounds[:-1], bounds[1:], strict=True):
            handed.append(_shared_out(rest["unit_id"].to_numpy(object)[start:stop], np.repeat(names, taken)))
    table = pd.concat(handed, ignore_index=True).merge(units, on="unit_id")
    order = pd.Categorical(table["purpose"], ["first", "second", "audit"])
    table = table.assign(order=order).sort_values(["rank", "order", "annotator"], ignore_index=True)
    return table[["unit_id", "annotator", "purpose", "predicted_difficulty", "rank"]]


def misfit(difficulty_place: np.ndarray, experience_place: np.ndarray) -> np.ndarray:
    """(place of the unit - place of the person)^2, units x people; places are mid-ranks scaled to (0, 1).

    Ranks, because neither scores nor years have a unit that the other knows. Squared, so that the best plan gives
    whoever is more experienced nothing easier, and leaves nobody idle where there is room for all.
    """
    return np.asarray((difficulty_place[:, None] - experience_place[None, :]) ** 2)


def _centred_ranks(values: Sequence[float]) -> np.ndarray:
    return np.asarray((stats.rankdata(values) - 0.5) / len(values))


def _ranked(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Hardest first; units of equal score in the order of their hashes."""
    draws = [uniform_for(seed, "order", u) for u in scores["unit_id"]]
    units = pd.DataFrame(
        {
            "unit_id": scores["unit_id"].astype(str),
            "predicted_difficulty": scores["score"].astype(float),
            "place": _centred_ranks(scores["score"]),
            "draw": draws,
        }
    ).sort_values(["predicted_difficulty", "draw"], ascending=[False, True], ignore_index=True)
    return units.assign(rank=np.arange(1, len(units) + 1)).drop(columns="draw")


def _audited(unit_ids: Sequence[str], number: int, seed: int) -> np.ndarray:
    draws = np.array([uniform_for(seed, "audit", u) for u in unit_ids])
    chosen = np.zeros(len(draws), dtype=bool)
    chosen[np.argsort(draws, kind="stable")[:number]] = True
    return chosen


def _checked_capacity(people: pd.DataFrame, audits: int, singles: int, doubles: int) -> np.ndarray:
    """What is left of each capacity after the audit; refuses with the number of images that is missing."""
    if doubles and len(people) < 2:
        raise ValueError(
            f"{doubles} images are to be drawn by two people, but {people['annotator'].iloc[0]!r} is the only "
            "annotator; add another or set --double_share 0"
        )
    left = people["capacity"].to_numpy(int) - audits
    if (left < 0).any():
        short = int(np.argmin(left))
        raise ValueError(
            f"everybody draws the {audits} audit images, but {people['annotator'].iloc[short]!r} has capacity for only "
            f"{people['capacity'].iloc[short]} ({-left[left < 0].sum()} are missing over {(left < 0).sum()} people); "
            "raise the capacity or lower --audit_share"
        )
    # one person can draw an image only once, however large the capacity
    possible, needed = int(np.minimum(left, singles).sum()), singles + doubles
    if possible < needed:
        raise ValueError(
            f"{needed} annotations are to be made beside {audits} audit images each ({singles} images, {doubles} of "
            f"them by two people), but the annotators can make only {possible}: {needed - possible} are missing; raise "
            "capacities, add people, or lower --double_share or --audit_share"
        )
    return left


def _transport(
    places: np.ndarray, people: np.ndarray, capacity: np.ndarray, doubles: int, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many annotations of each group each person makes (groups x people), and where the groups begin and end.

    places: of the units, hardest first; the first `doubles` of them are drawn twice.
    """
    units = len(places)
    edges = np.linspace(0, units, min(groups, units) + 1).round().astype(int)
    bounds = np.unique(np.append(edges, doubles))
    size = np.diff(bounds)
    supply = size * np.where(bounds[:-1] < doubles, 2, 1)
    middle = np.add.reduceat(places, bounds[:-1]) / size
    rows, columns = len(size), len(people)
    result = linprog(
        misfit(middle, people).ravel(),
        A_eq=sparse.kron(sparse.eye_array(rows), np.ones((1, columns)), format="csr"),
        b_eq=supply,
        A_ub=sparse.kron(np.ones((1, rows)), sparse.eye_array(columns), format="csr"),
        b_ub=capacity,
        bounds=np.stack([np.zeros(rows * columns), np.repeat(size, columns)], axis=1),
        method="highs-ds",
    )
    if not result.success:
        raise RuntimeError(f"the solver found no way to hand out {units} units to {columns} people: {result.message}")
    return np.round(result.x).astype(int).reshape(rows, columns), bounds


def _shared_out(unit_ids: np.ndarray, people: np.ndarray) -> pd.DataFrame:
    """Units of one group to its annotations, most experienced first; where there are two per unit, second ones go round
    again (McNaughton 1959): nobody has more annotations than there are units, so nobody meets a unit twice.
    """
    purposes = np.repeat(["first", "second"], len(unit_ids))[: len(people)]
    return pd.DataFrame({"unit_id": np.resize(unit_ids, len(people)), "annotator": people, "purpose": purposes})


def _audits(units: pd.DataFrame, names: np.ndarray, place: np.ndarray, seed: int) -> pd.DataFrame:
    """Everybody draws these; the first is who fits best, drawn by hash among equals."""
    rows = []
    for unit_id, fit in zip(units["unit_id"], misfit(units["place"].to_numpy(), place), strict=True):
        equal = np.flatnonzero(fit == fit.min())
        first = min(equal, key=lambda k: uniform_for(seed, "first", unit_id, names[k]))
        rows += [(unit_id, n, "first" if k == first else "audit") for k, n in enumerate(names)]
    return pd.DataFrame(rows, columns=["unit_id", "annotator", "purpose"])
