"""The page of a run."""

import warnings
from pathlib import Path

import pandas as pd

from records.run_directory import RunDirectory
from reports.learning_curve import LOWER_IS_BETTER, main_metric, read_curve
from reports.page.frame import write_page
from reports.page.gallery import History, bring_pictures, gallery_data, read_history, shown_units
from reports.page.run_data import (
    candidates,
    class_scores,
    curve_data,
    histograms,
    labelled_classes,
    run_facts,
    score_words,
    stop_words,
    waiting_table,
)
from reports.page.tables import as_text, page_table

__all__ = ["try_run_page", "write_run_page"]


def write_run_page(run_dir: Path) -> Path:
    """Write report/index.html in a run directory, and bring the pictures of its units beside it.

    The page is drawn from the files of the run alone, and the folder can be sent to others as it is.

    Args:
        run_dir: The run directory.

    Returns:
        The page.

    Raises:
        ValueError: No cycle is fitted yet, and nothing was queried.
        RunDirectoryError: A file of the run is damaged, or the page could not be written.
    """
    run = RunDirectory(run_dir)
    history = read_history(run)
    units = shown_units(run, history)
    if units.empty and not run.metrics():
        raise ValueError(f"expected a finished cycle below {run_dir}/cycles or a query, got none; run fit first")
    curve = read_curve(run_dir) if run.metrics() else None
    # pictures first: a page never shows what is not there
    pictures = {cycle.number: bring_pictures(run, cycle) for cycle in run.cycles()}
    scores = histograms(run)
    labelled = labelled_classes(run)
    per_class = {} if curve is None else class_scores(curve)
    people = waiting_table(history)
    write_page(
        run.report_page,
        "run.html",
        title=run_dir.absolute().name,
        kind="run",
        facts=run_facts(run, history),
        data={
            "curve": None if curve is None else curve_data(curve),
            "histograms": scores,
            **gallery_data(run, units, pictures),
        },
        scripts=["shared.js", "charts.js", "gallery.js", "unit.js"],
        styles=["gallery.css"],
        tiles=_tiles(curve, history, scores, candidates(run)),
        curve=None if curve is None else page_table(_curve_columns(curve)),
        class_scores=[
            (
                score_words(f"val/{name}"),
                page_table(table, shaded=[c for c in table if c not in ("class", "change")], digits=3),
            )
            for name, table in per_class.items()
        ],
        labelled=None if labelled is None else (labelled[0], page_table(labelled[1], shaded=list(labelled[1]))),
        waiting=len(history.waiting),
        people=page_table(people) if len(people) else None,
        stopped=stop_words(run, curve),
        has_scores=bool(scores),
        has_units=len(units) > 0,
    )
    return run.report_page


def try_run_page(run_dir: Path) -> None:
    """Write a run's page; where that fails, warn, for no fit should end by it.

    Args:
        run_dir: The run directory.
    """
    try:
        write_run_page(run_dir)
    except Exception as error:
        warnings.warn(
            f"the page of {run_dir} could not be drawn ({type(error).__name__}: {error}); the run goes on, and "
            f"`dropquery report {run_dir}` draws it later",
            stacklevel=2,
        )


def _tiles(
    curve: pd.DataFrame | None, history: History, scores: list[dict], drawn: int | None
) -> list[tuple[str, str, str]]:
    tiles = []
    if curve is not None:
        metric, last = main_metric(curve), curve.iloc[-1]
        better = "lower is better" if metric.endswith(LOWER_IS_BETTER) else ""
        change = f"{last[metric] - curve[metric].iloc[-2]:+.4f} since the cycle before" if len(curve) > 1 else better
        tiles.append((score_words(metric), f"{last[metric]:.4f}", change))
    labelled = history.labelled
    pixels = sum(e.pixels or 0 for e in history.events if e.kind in ("initial", "labelled"))
    tiles.append(("labelled units", as_text(len(labelled)), f"{as_text(pixels)} pixels" if pixels else ""))
    fitted = 0 if curve is None else len(curve)
    tiles.append(("cycles fitted", as_text(fitted), ""))
    if scores:
        # a query that scores some units of the pool does not say how many others there are
        what = "candidates left" if scores[-1]["size"] == drawn else "left in the pool"
        tiles.append((what, as_text(scores[-1]["left"]), f"after the query of cycle {scores[-1]['cycle']}"))
    waiting = len(history.waiting)
    tiles.append(("waiting for a label", as_text(waiting), "queried units" if waiting else "nobody has to draw"))
    return tiles


def _curve_columns(curve: pd.DataFrame) -> pd.DataFrame:
    # scores of classes have tables of their own
    return curve[[c for c in curve if c.count("/") < 2 and c != "monitor" and not c.startswith("last/")]]
