"""When to stop asking for labels: criteria over what the finished cycles left behind.

A criterion reads files only (scores, and predictions on a fixed stop set), so every process and every later command
decides alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info

from callbacks.processes import is_first_process
from datamodules.oracle import COUNTING
from records.files import write_json
from records.run_directory import RunDirectory

__all__ = [
    "Budget",
    "CurveFlat",
    "CycleEnd",
    "History",
    "LevelReached",
    "StabilisingPredictions",
    "StoppingCriterion",
    "agreement",
    "history_of",
    "why_stop",
]

StopSetClasses = NDArray[np.int64]


@dataclass(frozen=True)
class History:
    """The finished cycles, oldest first.

    Args:
        rows: Each cycle's metrics.json.
        monitor: The score that the fits keep their best weights by.
        predictions: A cycle's classes on the stop set, or None where they were not kept.
    """

    rows: Sequence[dict[str, Any]]
    monitor: str
    predictions: Callable[[int], StopSetClasses | None] = lambda cycle: None

    def scores(self, name: str | None) -> list[float]:
        """A score over the cycles; the monitored one unless named."""
        name = name or self.monitor
        if name not in self.rows[-1]:
            known = ", ".join(sorted(k for k in self.rows[-1] if k.startswith("val/")))
            raise ValueError(f"a stopping criterion asks for the score {name!r}, got only {known}; name one of those")
        return [float(row[name]) for row in self.rows]


class StoppingCriterion(ABC):
    """Says after a cycle's fit why no more labels are needed, or nothing."""

    needs_predictions: ClassVar[bool] = False
    """Whether fits have to keep their predictions on the stop set."""

    needs_counted: Collection[str] = ()
    """What of "objects" and "clicks" has to be counted."""

    @abstractmethod
    def reason(self, history: History) -> str | None:
        """Why to stop now, as a sentence without its full stop, or None to go on."""


class Budget(StoppingCriterion):
    """So many labelled units, pixels, objects or clicks were paid for.

    Args:
        units: Labelled units at which the cycles end.
        pixels: Labelled pixels at which they end.
        objects: The most objects, where data.oracle counts them.
        clicks: The most clicks, where data.oracle counts them.
    """

    def __init__(
        self,
        units: int | None = None,
        pixels: int | None = None,
        objects: int | None = None,
        clicks: int | None = None,
    ) -> None:
        self.limits = {"units": units, "pixels": pixels, "objects": objects, "clicks": clicks}
        if all(limit is None for limit in self.limits.values()):
            raise ValueError("the criterion Budget needs units, pixels, objects or clicks, got none; give one")
        self.needs_counted = [name for name in COUNTING if self.limits[name] is not None]

    def reason(self, history: History) -> str | None:
        """Compare with the labels that the last fit had."""
        for name, limit in self.limits.items():
            used = history.rows[-1].get(f"labelled_{name}")
            if limit is not None and used is not None and used >= limit:
                return f"{used} {name} are labelled and the budget is {limit}"
        return None


class LevelReached(StoppingCriterion):
    """The score, larger is better, has reached a level.

    Args:
        level: The score at which the cycles end.
        score: Its name, such as val/miou; the monitored one unless given.
    """

    def __init__(self, level: float, score: str | None = None) -> None:
        self.level = level
        self.score = score

    def reason(self, history: History) -> str | None:
        """Compare the last cycle's score."""
        last = history.scores(self.score)[-1]
        name = self.score or history.monitor
        return f"{name} is {last:.4f} and the level {self.level:g}" if last >= self.level else None


class CurveFlat(StoppingCriterion):
    """The best score of the last `cycles` cycles is less than `epsilon` above the best one before them.

    Args:
        epsilon: The least gain that counts, in the score's own unit, 0 or more.
        cycles: How many cycles have that long to gain it, at least 1.
        score: The score's name, such as val/miou; the monitored one unless given.
    """

    def __init__(self, epsilon: float = 0.005, cycles: int = 3, score: str | None = None) -> None:
        if cycles < 1 or epsilon < 0:
            raise ValueError(f"CurveFlat needs cycles >= 1 and epsilon >= 0, got {cycles} and {epsilon}")
        self.epsilon = epsilon
        self.cycles = cycles
        self.score = score

    def reason(self, history: History) -> str | None:
        """Compare the last cycles with all before."""
        scores = history.scores(self.score)
        if len(scores) <= self.cycles:
            return None
        gain = max(scores[-self.cycles :]) - max(scores[: -self.cycles])
        if gain >= self.epsilon:
            return None
        name = self.score or history.monitor
        return f"{name} gained {gain:+.4f} over the last {self.cycles} cycles, less than {self.epsilon:g}"


class StabilisingPredictions(StoppingCriterion):
    """Successive cycles' networks agree on a fixed stop set (Bloodgood and Vijay-Shanker 2009).

    Cohen's kappa between a cycle's predictions on the validation images and those of the cycle before is above
    `threshold` (0.99 in the paper) `cycles` times in a row (3); that is stricter than an
    average over as many. No label of the stop set is used. Cycles whose predictions were not kept, such as a shared
    initial model's, agree with nothing.

    Args:
        threshold: Cohen's kappa above which two networks agree, from 0 to below 1.
        cycles: How many times in a row they have to, at least 1.
    """

    needs_predictions = True

    def __init__(self, threshold: float = 0.99, cycles: int = 3) -> None:
        if cycles < 1 or not 0 <= threshold < 1:
            raise ValueError(
                f"StabilisingPredictions needs cycles >= 1 and a threshold from 0 to below 1, got {cycles} and "
                f"{threshold}"
            )
        self.threshold = threshold
        self.cycles = cycles

    def reason(self, history: History) -> str | None:
        """Compare the last `cycles` pairs of successive cycles."""
        numbers = [row["cycle"] for row in history.rows][-self.cycles - 1 :]
        kept = [history.predictions(n) for n in numbers]
        kappas = [agreement(a, b) for a, b in pairwise(kept)]
        if len(kappas) < self.cycles or any(k is None or k <= self.threshold for k in kappas):
            return None
        values = ", ".join(f"{k:.4f}" for k in kappas)
        return f"successive predictions agree with kappa {values}, above {self.threshold:g}"


def agreement(first: StopSetClasses | None, second: StopSetClasses | None) -> float | None:
    """Cohen's kappa of two networks' classes for the same things; None where they cannot be compared.

    Where both give everything the same class, chance explains all and kappa is 0/0; they agree, so it is 1 here.
    """
    if first is None or second is None or first.shape != second.shape or not first.size:
        return None
    if (first == first[0]).all() and (second == first).all():
        return 1.0
    from sklearn.metrics import cohen_kappa_score  # it takes most of a second to import

    return float(cohen_kappa_score(first, second))


def history_of(run_dir: Path, cycle: int) -> History:
    """What the finished cycles of a run directory left behind.

    Args:
        run_dir: The run.
        cycle: The last one to look at, which is finished.

    Returns:
        Cycles 0 to `cycle`, with the score by which the last of them chose its best weights.

    """
    run = RunDirectory(run_dir)
    rows = [c.read_metrics() for c in run.cycles() if c.is_fitted and c.number <= cycle]
    return History(rows, str(rows[-1]["monitor"]), lambda c: run.cycle(c).read_stop_set())


def why_stop(criteria: Sequence[StoppingCriterion], history: History) -> dict[str, str] | None:
    """The first criterion that fires, and its reason; None where all would go on.

    Args:
        criteria: Asked in this order.
        history: What they look at.

    Returns:
        Its class's name as `criterion`, and `reason`.

    """
    for criterion in criteria:
        if reason := criterion.reason(history):
            return {"criterion": type(criterion).__name__, "reason": reason}
    return None


@dataclass(frozen=True)
class CycleEnd:
    """Decides whether a cycle's fit ends with a query: made with the fit's other parts, and asked once, by whoever
    queries.

    Args:
        run_dir: The run.
        cycle: Which cycle.
        last: Whether it is the run's last, which does not query, for its labels would not be used.
        criteria: The first that fires ends the run.
    """

    run_dir: Path
    cycle: int
    last: bool
    criteria: Sequence[StoppingCriterion] = ()

    @property
    def may_query(self) -> bool:
        """Whether a later fit would use the labels."""
        return not self.last

    def queries(self) -> bool:
        """Whether the fit ends with a query: every process of a job answers alike, by the files of the run.

        Where a criterion fires, the first process says so in stopped.json.
        """
        if not self.may_query:
            return False
        stopped = why_stop(self.criteria, history_of(self.run_dir, self.cycle)) if self.criteria else None
        if stopped is None:
            return True
        if is_first_process():
            write_json(RunDirectory(self.run_dir).stopped, {"cycle": self.cycle, **stopped})
        rank_zero_info(f"Stopped after cycle {self.cycle} by {stopped['criterion']}: {stopped['reason']}.")
        return False
