"""Assignment of units to annotators: hard ones to the experienced, some drawn twice, a few drawn by everybody."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy

from acquisition.routing import Action
from acquisition.seeding import uniform_for

__all__ = ["assign_units", "misfit"]

_DOUBLE_SHARE = 0.2
_GROUPS = 400
"""Number of groups of similar difficulty in the linear programme; with no more units than this it is exact."""


def assign_units(
    scores: pd.DataFrame,
    people: pd.DataFrame,
    double_share: float | None = None,
    audit_share: float = 0.05,
    seed: int = 0,
    groups: int = _GROUPS,
) -> pd.DataFrame:
    """Assign units so that each one's predicted difficulty matches the experience of the person who draws it.

    Everybody draws a random audit set, so that people can be compared. Of the other units the hardest are drawn by two
    people. The sum of `misfit` over all annotations outside the audit set is minimal for the given capacities.

    That is a transportation problem: groups of units of similar difficulty supply annotations, people take up to their
    capacity, and nobody takes more annotations from a group than it has units, which suffices for two different people
    per unit (Gale 1957, Ryser 1957). Its linear programme, solved by HiGHS, has integral vertices. With 400 groups it
    stays small for any number of units; one variable per unit and person would not fit into memory.

    Units that a query has routed (`acquisition.routing.Action`) go where it says: to a second person, whatever their
    difficulty, or to the most experienced person whose capacity is not used up.

    Args:
        scores: Columns unit_id and score, higher for harder units; with a column action, each unit's.
        people: Columns annotator, experience (higher for more) and capacity (units at most, for all purposes together).
        double_share: Number of units that two people draw, as a share of all units: the hardest, instead of those that
            action says. 0.2 where there are no actions.
        audit_share: Number of units that everybody draws, as a share of all units; chosen by hash of (seed, unit id).
        seed: Seed of the audit set and of the order of units with equal scores.
        groups: Most groups of similar difficulty.

    Returns:
        Columns unit_id, annotator, purpose (first, second, audit), predicted_difficulty and rank (1 is the hardest).
        Every unit has the purpose first exactly once.

    Raises:
        ValueError: A share is not between 0 and 1, or the capacities do not suffice.
    """
    routed = "action" in scores and double_share is None
    double_share = _DOUBLE_SHARE if double_share is None else double_share
    for name, share in (("double_share", double_share), ("audit_share", audit_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {share}")
    units = _ranked(scores, seed)
    people = people.sort_values(["experience", "annotator"], ascending=[False, True], ignore_index=True)
    person_ranks = _centred_ranks(people["experience"])
    names = people["annotator"].to_numpy(object)
    audited = _audited(units["unit_id"], round(audit_share * len(units)), seed)
    rest = units[~audited]
    handed = [_audits(units[audited], names, person_ranks, seed)]
    if "action" in scores:
        special = _for_experts(rest.loc[rest["action"] == Action.EXPERT, "unit_id"], people, int(audited.sum()))
        handed.append(special)
        taken = special["annotator"].value_counts()
        people = people.assign(capacity=people["capacity"] - people["annotator"].map(taken).fillna(0).astype(int))
        rest = rest[rest["action"] != Action.EXPERT]
    doubles = min(round(double_share * len(units)), len(rest))
    if routed:
        # what two people draw stands first, the hardest first there and behind
        rest = rest.sort_values("action", key=lambda a: a != Action.SECOND, kind="stable")
        doubles = int((rest["action"] == Action.SECOND).sum())
    capacity = _checked_capacity(people, int(audited.sum()), len(rest), doubles)
    if len(rest):
        counts, bounds = _transport(rest["relative_rank"].to_numpy(), person_ranks, capacity, doubles, groups)
        for taken, start, stop in zip(counts, bounds[:-1], bounds[1:], strict=True):
            handed.append(_shared_out(rest["unit_id"].to_numpy(object)[start:stop], np.repeat(names, taken)))
    table = pd.concat(handed, ignore_index=True).merge(units, on="unit_id")
    order = pd.Categorical(table["purpose"], ["first", "second", "audit"])
    table = table.assign(order=order).sort_values(["rank", "order", "annotator"], ignore_index=True)
    return table[["unit_id", "annotator", "purpose", "predicted_difficulty", "rank"]]


def misfit(difficulty_rank: np.ndarray, experience_rank: np.ndarray) -> np.ndarray:
    """Cost of each possible assignment: the squared difference of relative ranks.

    Ranks make difficulty and experience comparable, which have no common scale. With squares an optimal assignment
    gives a more experienced person no easier unit than a less experienced one.

    Args:
        difficulty_rank: Relative ranks of N units: mid-ranks scaled to (0, 1), higher for harder units.
        experience_rank: Relative ranks of P people, higher for more experienced ones.

    Returns:
        Costs, N x P.
    """
    return np.asarray((difficulty_rank[:, None] - experience_rank[None, :]) ** 2)


def _centred_ranks(values: Sequence[float]) -> np.ndarray:
    return np.asarray((scipy.stats.rankdata(values) - 0.5) / len(values))


def _ranked(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Units with their ranks, hardest first; units of equal score in the order of their hashes."""
    draws = [uniform_for(seed, "order", u) for u in scores["unit_id"]]
    units = pd.DataFrame(
        {
            "unit_id": scores["unit_id"].astype(str),
            "predicted_difficulty": scores["score"].astype(float),
            "relative_rank": _centred_ranks(scores["score"]),
            "draw": draws,
        }
    )
    if "action" in scores:
        units["action"] = scores["action"].to_numpy()
    units = units.sort_values(["predicted_difficulty", "draw"], ascending=[False, True], ignore_index=True)
    return units.assign(rank=np.arange(1, len(units) + 1)).drop(columns="draw")


def _for_experts(unit_ids: pd.Series, people: pd.DataFrame, audits: int) -> pd.DataFrame:
    """Each unit to the most experienced person who has capacity left beside the audit set."""
    left = np.maximum(people["capacity"].to_numpy(int) - audits, 0)
    if len(unit_ids) > left.sum():
        raise ValueError(
            f"{len(unit_ids)} images are for an expert, but all people together can draw only {left.sum()} besides "
            f"{audits} audit images each; raise capacities or lower --audit_share"
        )
    names = np.repeat(people["annotator"].to_numpy(object), left)[: len(unit_ids)]
    return pd.DataFrame({"unit_id": unit_ids.to_numpy(object), "annotator": names, "purpose": "first"})


def _audited(unit_ids: Sequence[str], number: int, seed: int) -> np.ndarray:
    draws = np.array([uniform_for(seed, "audit", u) for u in unit_ids])
    chosen = np.zeros(len(draws), dtype=bool)
    chosen[np.argsort(draws, kind="stable")[:number]] = True
    return chosen


def _checked_capacity(people: pd.DataFrame, audits: int, singles: int, doubles: int) -> np.ndarray:
    """Capacities after the audit; a ValueError gives the number of images for which there is none."""
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
            f"{needed} annotations are needed besides {audits} audit images each ({singles} images, {doubles} of "
            f"them by two people), but the annotators can make only {possible}: {needed - possible} are missing; raise "
            "capacities, add people, or lower --double_share or --audit_share"
        )
    return left


def _transport(
    unit_ranks: np.ndarray, people: np.ndarray, capacity: np.ndarray, doubles: int, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The number of annotations per group and person (groups x people), and the groups' bounds.

    unit_ranks: relative ranks, hardest first; the first `doubles` units are drawn twice.
    """
    units = len(unit_ranks)
    edges = np.linspace(0, units, min(groups, units) + 1).round().astype(int)
    bounds = np.unique(np.append(edges, doubles))
    size = np.diff(bounds)
    supply = size * np.where(bounds[:-1] < doubles, 2, 1)
    middle = np.add.reduceat(unit_ranks, bounds[:-1]) / size
    rows, columns = len(size), len(people)
    result = scipy.optimize.linprog(
        misfit(middle, people).ravel(),
        A_eq=scipy.sparse.kron(scipy.sparse.eye_array(rows), np.ones((1, columns)), format="csr"),
        b_eq=supply,
        A_ub=scipy.sparse.kron(np.ones((1, rows)), scipy.sparse.eye_array(columns), format="csr"),
        b_ub=capacity,
        bounds=np.stack([np.zeros(rows * columns), np.repeat(size, columns)], axis=1),
        method="highs-ds",
    )
    if not result.success:
        raise RuntimeError(f"the solver found no way to assign {units} units to {columns} people: {result.message}")
    return np.round(result.x).astype(int).reshape(rows, columns), bounds


def _shared_out(unit_ids: np.ndarray, people: np.ndarray) -> pd.DataFrame:
    """Assign a group's units to its annotations, the most experienced people first, and go round again for second ones.

    Nobody has more annotations than there are units, so nobody gets a unit twice (the wrap-around rule, McNaughton
    1959).
    """
    purposes = np.repeat(["first", "second"], len(unit_ids))[: len(people)]
    return pd.DataFrame({"unit_id": np.resize(unit_ids, len(people)), "annotator": people, "purpose": purposes})


def _audits(units: pd.DataFrame, names: np.ndarray, person_ranks: np.ndarray, seed: int) -> pd.DataFrame:
    """Assign the audit set to everybody; the best fit is the first, chosen by hash among equals."""
    rows = []
    for unit_id, fit in zip(units["unit_id"], misfit(units["relative_rank"].to_numpy(), person_ranks), strict=True):
        equal = np.flatnonzero(fit == fit.min())
        first = min(equal, key=lambda k: uniform_for(seed, "first", unit_id, names[k]))
        rows += [(unit_id, n, "first" if k == first else "audit") for k, n in enumerate(names)]
    return pd.DataFrame(rows, columns=["unit_id", "annotator", "purpose"])
