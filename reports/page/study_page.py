"""The page of a study: its report, and a row for each run that leads to the run's own page."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory
from reports.page.frame import Fact, write_page
from reports.page.tables import PageTable, as_text, page_table
from reports.sections import Section

__all__ = ["study_runs", "write_study_page"]

_RUN = ["variant", "strategy", "seed"]


def write_study_page(
    run_dir: Path,
    table: pd.DataFrame,
    jobs: pd.DataFrame,
    metric: str,
    baseline: str | None,
    notes: Sequence[str],
    sections: Sequence[Section],
) -> Path:
    """Write report/index.html of a study, in whose folder its figures lie.

    Args:
        run_dir: The study's folder.
        table: From `reports.study_table.read_study`.
        jobs: The columns name, state and reason of jobs.csv.
        metric: The metric that is reported.
        baseline: The strategy that the others are compared with.
        notes: What has to be known before all tables.
        sections: The report.

    Returns:
        The page.

    Raises:
        RunDirectoryError: The page could not be written.
    """
    study = StudyDirectory(run_dir)
    runs = study_runs(study, table, jobs, metric)
    addresses = [_address(study, study.run(_name(row))) for row in runs.to_dict("records")]
    shown = runs if runs["variant"].any() else runs.drop(columns="variant")
    shown = shown.drop(columns=[c for c in ("state", "reason") if not shown[c].any()])
    known = {p.name for p in study.report.glob("*.png")} - {s.figure for s in sections}
    write_page(
        study.report_page,
        "study.html",
        title=run_dir.absolute().name,
        kind="study",
        facts=[Fact("score", metric), Fact("compared with", baseline)] if baseline else [Fact("score", metric)],
        tiles=_tiles(runs, table),
        notes=[_lines(note) for note in notes if note],
        sections=[(s, _content(s.table, s.shaded) if len(s.table) else None) for s in sections],
        runs=page_table(shown, links={"strategy": addresses}, shaded=["last"]),
        linked=any(addresses),
        figures=sorted((quote(name), name.removesuffix(".png").replace("_", " ")) for name in known),
    )
    return study.report_page


def study_runs(study: StudyDirectory, table: pd.DataFrame, jobs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run.

    Args:
        study: The study's folder.
        table: From `reports.study_table.read_study`.
        jobs: The columns name, state and reason of jobs.csv.
        metric: The metric that is reported.

    Returns:
        variant, strategy, seed, cycles, labelled units, first, best and last score; state and reason, where jobs.csv
        tells them of the run.
    """
    rows = []
    for key, run in table.groupby(_RUN, sort=False):
        scores = run.sort_values("cycle")[metric]
        last = run.loc[run["cycle"].idxmax()]
        counts = {"cycles": run["cycle"].nunique(), "labelled units": last["labelled_units"]}
        ends = {"first": scores.iloc[0], "best": scores.max(), "last": scores.iloc[-1]}
        rows.append(dict(zip(_RUN, key, strict=True)) | counts | ends)
    runs = pd.DataFrame(rows)
    names = [_name(row) for row in rows]
    told = jobs.set_index(jobs["name"].str.replace(r"^runs/", "", regex=True))[["state", "reason"]]
    told = told[~told.index.duplicated()].reindex(names).fillna("").reset_index(drop=True)
    return pd.concat([runs, told], axis=1)


def _name(row: dict[str, object]) -> str:
    return f"{row['variant'] or 'base'}/{row['strategy']}/seed-{row['seed']}"


def _content(table: pd.DataFrame, shaded: Sequence[str]) -> PageTable:
    """A table without the columns in which every row is empty."""
    kept = table[[c for c in table if table[c].notna().any() and (table[c].astype(str) != "").any()]]
    return page_table(kept, shaded=shaded, titles={str(c): str(c).replace("_", " ") for c in kept})


def _address(study: StudyDirectory, run: RunDirectory) -> str:
    """Where a run's page stands, from the study's; empty where it has none."""
    if not run.report_page.is_file():
        return ""
    return quote(Path(os.path.relpath(run.report_page, study.report)).as_posix())


def _tiles(runs: pd.DataFrame, table: pd.DataFrame) -> list[tuple[str, str, str]]:
    variants = runs["variant"].nunique()
    least, most = int(table["labelled_units"].min()), int(table["labelled_units"].max())
    return [
        ("runs", as_text(len(runs)), f"of {variants} variants" if variants > 1 else ""),
        ("strategies", as_text(runs["strategy"].nunique()), ""),
        ("seeds", as_text(runs["seed"].nunique()), "" if runs["seed"].nunique() > 1 else "no intervals, no tests"),
        ("cycles", as_text(int(runs["cycles"].max())), ""),
        ("labelled units", as_text(most), f"from {as_text(least)}" if least < most else ""),
    ]


def _lines(note: str) -> tuple[list[str], list[str]]:
    """A note's sentences, and the items of its list."""
    lines = [line for line in note.splitlines() if line]
    items = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    return [line for line in lines if not line.startswith("- ")], items
