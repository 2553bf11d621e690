"""What a run's page shows beside its units: the curve, the classes, the scores of the pool, and who waits."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import yaml

from records.files import read_json
from records.run_directory import RunDirectory
from reports.learning_curve import LOWER_IS_BETTER, main_metric
from reports.page.frame import Fact
from reports.page.gallery import History

__all__ = [
    "candidates",
    "class_scores",
    "curve_data",
    "histograms",
    "labelled_classes",
    "run_facts",
    "score_words",
    "stop_words",
    "waiting_table",
]

_BINS = 40
_COSTS = {
    "labelled_units": "labelled units",
    "labelled_pixels": "labelled pixels",
    "labelled_objects": "labelled objects",
    "labelled_clicks": "clicks",
    "labelled_seconds": "seconds of labelling",
    "cycle": "cycle",
}
_NO_SCORES = ("last/", "labelled_")
_WRITTEN = {"miou": "mIoU", "iou": "IoU", "mc": "MC", "auroc": "AUROC", "fw": "frequency-weighted"}


def run_facts(run: RunDirectory, history: History) -> list[Fact]:
    """What the head of the page says: strategy, network, data, seed and time.

    Args:
        run: The run.
        history: Its history.
    """
    settings = _settings(run)
    strategies = dict.fromkeys(e.strategy for e in history.events if e.kind == "queried" and e.strategy)
    facts = {
        "strategy": ", ".join(strategies),
        "network": _class_name(settings, "model", "init_args", "network"),
        "data": _class_name(settings, "data", "source"),
        "seed": settings.get("seed_everything"),
        "last change": f"{history.events[-1].at[:16].replace('T', ' ')} UTC" if history.events else "",
    }
    return [Fact(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def candidates(run: RunDirectory) -> int | None:
    """How many units of the pool each query scores; None for all of them.

    Args:
        run: The run.
    """
    strategy = _settings(run).get("strategy")
    return strategy.get("candidates") if isinstance(strategy, dict) else None


def score_words(name: str) -> str:
    """A score's name as people write it: mIoU for val/miou, "IoU of road" for val/iou/road.

    Args:
        name: Of a column of the learning curve; one of another split than val stays as it is.
    """
    split, _, rest = name.partition("/")
    score, _, of_class = rest.partition("/")
    if split != "val" or not score:
        return name
    words = " ".join(_WRITTEN.get(word, word) for word in score.split("_"))
    return f"{words} of {of_class}" if of_class else words


def curve_data(curve: pd.DataFrame) -> dict[str, Any]:
    """The learning curve for the page's scripts.

    Args:
        curve: From `reports.learning_curve.read_curve`.

    Returns:
        costs: pairs of column and name, what the curve can be drawn over; metrics: columns; names: theirs; monitor: the
        one to begin with; columns: their values.
    """
    costs = [[c, name] for c, name in _COSTS.items() if c in curve and curve[c].notna().any()]
    numbers = [c for c in curve if pd.api.types.is_numeric_dtype(curve[c])]
    metrics = [c for c in numbers if "/" in c and not c.startswith(_NO_SCORES)]
    monitor = main_metric(curve)
    metrics.sort(key=lambda c: (c != monitor, c.count("/") > 1))
    kept = {c for c, _ in costs} | {*metrics}
    return {
        "costs": costs,
        "metrics": metrics,
        "names": [score_words(c) for c in metrics],
        "monitor": monitor,
        "lower": [c for c in metrics if c.endswith(LOWER_IS_BETTER)],
        "columns": {c: curve[c].tolist() for c in curve if c in kept},
    }


def class_scores(curve: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The scores of classes over the cycles, by the name of the score.

    Args:
        curve: From `reports.learning_curve.read_curve`.

    Returns:
        A row per class: class, cycle N, ..., and change from the first cycle to the last.
    """
    found: dict[str, dict[str, pd.Series]] = {}
    for column in curve:
        parts = column.split("/", 2)
        if len(parts) == 3 and parts[0] == "val":
            found.setdefault(parts[1], {})[parts[2]] = curve[column]
    names = [f"cycle {number}" for number in curve["cycle"]]
    tables = {}
    for score, classes in found.items():
        table = pd.DataFrame([values.tolist() for values in classes.values()], columns=names, dtype=float)
        table.insert(0, "class", list(classes))
        if len(names) > 1:
            table["change"] = table[names[-1]] - table[names[0]]
        tables[score] = table
    return tables


def labelled_classes(run: RunDirectory) -> tuple[str, pd.DataFrame] | None:
    """What the fits of the cycles learned from, by class.

    Args:
        run: The run.

    Returns:
        What was counted (pixels or units), and a row per class: class, cycle N, ...; None where no cycle says so.
    """
    there = [c for c in run.cycles() if c.labelled_classes.is_file()]
    # a class may be called NA
    tables = {c.number: pd.read_csv(c.labelled_classes, dtype={"class": str}, keep_default_na=False) for c in there}
    if not tables:
        return None
    counted = next((name for name in ("pixels", "units") if all(name in t for t in tables.values())), None)
    if counted is None:
        return None
    columns = {f"cycle {n}": t.set_index("class")[counted] for n, t in tables.items()}
    table = pd.DataFrame(columns).fillna(0).astype(int)
    order = list(dict.fromkeys(name for t in tables.values() for name in t["class"]))
    return counted, table.loc[order].rename_axis("class").reset_index()


def histograms(run: RunDirectory) -> list[dict[str, Any]]:
    """The scores of each cycle's pool as a histogram, with the cut.

    Args:
        run: The run.

    Returns:
        Per cycle: cycle; low and high, the ends of the bins; pool and queried, the units in each bin that were left
        and taken; cut, the lowest queried score; above, how many that were left have a higher one; size, how many were
        scored; left, how many of these were not taken.
    """
    found = []
    for cycle in run.cycles():
        if not cycle.scores.is_file():
            continue
        table = cycle.read_scores("score", "selected")
        scores = table["score"].to_numpy(dtype=float)
        finite, selected = np.isfinite(scores), table["selected"].to_numpy(dtype=bool)
        if not finite.any():
            continue
        ends = (float(scores[finite].min()), float(scores[finite].max()))
        taken, left = scores[finite & selected], scores[finite & ~selected]
        cut = float(taken.min()) if taken.size else None
        # as many bins as there can be between two floats
        edges = (
            np.linspace(*ends, _BINS + 1) if ends[0] < ends[1] else np.array([ends[0], np.nextafter(ends[0], np.inf)])
        )
        found.append(
            {
                "cycle": cycle.number, "low": ends[0], "high": ends[1],
                "pool": np.histogram(left, edges)[0].tolist(), "queried": np.histogram(taken, edges)[0].tolist(),
                "cut": cut, "above": int((left > cut).sum()) if cut is not None else 0, "size": len(table),
                "left": int((~selected).sum()),
            }
        )  # fmt: skip
    return found


def waiting_table(history: History) -> pd.DataFrame:
    """For whom the run waits: the drawings of each person by state, and what nobody has been given.

    Args:
        history: The run's.

    Returns:
        The columns annotator and, in the order of the work, assigned, annotated, rejected, corrected and accepted; no
        rows where nothing waits and nobody draws.
    """
    states = ["assigned", "annotated", "rejected", "corrected", "accepted"]
    counts = Counter((d.annotator, d.state) for d in history.drawings)
    people = list(dict.fromkeys(d.annotator for d in history.drawings))
    rows = [{"annotator": p, **{s: counts[p, s] for s in states}} for p in people]
    return pd.DataFrame(rows, columns=["annotator", *states])


def stop_words(run: RunDirectory, curve: pd.DataFrame | None) -> str:
    """Which stopping criterion ended the run, and why, in a sentence; "" where none did or the run went on since.

    Args:
        run: The run.
        curve: Its learning curve, or None before the first fit.
    """
    if not run.stopped.is_file():
        return ""
    content = read_json(run.stopped, "delete it", cycle=int, criterion=str, reason=str)
    if curve is not None and int(curve["cycle"].max()) > content["cycle"]:
        return ""
    return f"{content['criterion']} ended the run after cycle {content['cycle']}: {content['reason']}."


def _settings(run: RunDirectory) -> dict[str, Any]:
    """Of the fit, or of a run that was only queried; empty where there are none."""
    path = run.config if run.config.is_file() else run.queries
    settings = yaml.safe_load(path.read_text()) if path.is_file() else None
    return settings if isinstance(settings, dict) else {}


def _class_name(settings: Any, *path: str) -> str:
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None
    named = settings.get("class_path") if isinstance(settings, dict) else None
    return str(named).rpartition(".")[2] if named else ""
