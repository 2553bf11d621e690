"""What a run says of its phases: one line each for fit, query and label."""

from collections.abc import Mapping

from tqdm import tqdm

__all__ = ["clock", "fit_line", "label_line", "query_line", "where_line"]


def clock(seconds: float) -> str:
    """A time span as M:SS or H:MM:SS.

    Args:
        seconds: Its length.

    """
    return tqdm.format_interval(seconds)


def fit_line(
    cycle: int, labelled: int, epochs: str, seconds: float, loss: float | None, best: Mapping[str, float], monitor: str
) -> str:
    """Say how a fit ended.

    Args:
        cycle: Its number, from 0.
        labelled: Units that it was trained on.
        epochs: How many, in words.
        seconds: What they took.
        loss: Mean training loss of the last epoch; None if there was none.
        best: Epoch and scores of the validation whose weights are kept.
        monitor: The score that chose it.

    """
    kept = f"{monitor} {best[monitor]:.4f} at epoch {best['epoch']:g}"
    scores = kept if loss is None else f"loss {loss:.4f}, {kept}"
    return f"Cycle {cycle} fit: {labelled} labelled units, {epochs} in {clock(seconds)}; {scores}"


def where_line(cycle: int, epoch: int, epochs: int | None, left: float | None, score: str) -> str:
    """Say how far a long fit is.

    Args:
        cycle: Its number, from 0.
        epoch: The epoch that it is in, from 1.
        epochs: How many there are; None if nobody knows.
        left: Seconds that it will still take; None if nobody knows.
        score: The last validation's, in words; "" before the first.

    """
    of = "" if epochs is None else f" of {epochs}"
    parts = [f"epoch {epoch}{of}", "" if left is None else f"{clock(left)} left", score]
    return f"Cycle {cycle} fit: {', '.join(part for part in parts if part)}"


def query_line(cycle: int, scored: int, candidates: int | None, strategy: str, seconds: float) -> str:
    """Say what a query has scored.

    Args:
        cycle: Its number, from 0.
        scored: How many units.
        candidates: How many were to be drawn from the pool; None for the whole pool.
        strategy: By which they were scored.
        seconds: What it took.

    """
    what = "candidates" if scored == candidates else "units"
    return f"Cycle {cycle} query: {scored} {what} scored by {strategy} in {clock(seconds)}"


def label_line(cycle: int, queried: int, waiting: int, budget: int | None = None) -> str:
    """Say what became of the queried units.

    Args:
        cycle: Its number, from 0.
        queried: How many units are.
        waiting: How many of them wait for people.
        budget: What would have been queried, where the pool held no more; None where it did.

    """
    why = "" if budget is None else f" (all that was left; the budget is {budget})"
    became = f"{queried - waiting} labelled, {waiting} waiting for people" if waiting else "all labelled"
    return f"Cycle {cycle} label: {queried} queried{why}, {became}"
