"""The verb assign: from tables of images and people to a table of assignments."""

from pathlib import Path

import numpy as np
import pandas as pd

from acquisition.routing import Action
from annotators.assignment import assign_units
from annotators.tables import read_table
from datamodules.files import DataError
from datamodules.texts import unshielded
from records.files import write_table

__all__ = ["assign", "read_difficulties", "read_people"]

_IDS = ("unit_id", "image", "name")
_SCORES = ("score", "total")


def assign(
    scores: Path,
    annotators: Path,
    out: Path,
    by: str | None = None,
    double_share: float | None = None,
    audit_share: float = 0.05,
    seed: int = 0,
) -> None:
    """Assign images to annotators, hard ones to the experienced, some to two people and a few to everybody.

    Args:
        scores: Table of images and their predicted difficulty: RUN/images.csv, a cycle's scores.parquet or queried.csv.
            Where it has a column action (strategy.routing), images go to a second person or to the most experienced one
            as that says.
        annotators: CSV with the columns annotator, experience (a number, more is better) and capacity (images at most).
        out: CSV to write: unit_id, annotator, purpose (first, second or audit), predicted_difficulty, rank.
        by: Column of `scores` with the predicted difficulty; score, or else total, unless given.
        double_share: Share of the images that two people draw: the hardest ones. 0.2 unless given, or where there are
            actions as many as these say.
        audit_share: Share of the images, chosen at random, that everybody draws.
        seed: Seed of the random choice.

    Raises:
        DataError: A table is missing, damaged or contradictory.
        ValueError: The shares or capacities cannot be met.
    """
    if out.resolve() in (scores.resolve(), annotators.resolve()):
        raise DataError(f"--out {out} would overwrite one of its input files; name another file")
    people = read_people(annotators)
    table = assign_units(read_difficulties(scores, by), people, double_share, audit_share, seed)
    write_table(out, table)
    counts = table.pivot_table(index="annotator", columns="purpose", aggfunc="size", fill_value=0)
    mean_rank = table.groupby("annotator")["rank"].mean().round(1).rename("mean rank")
    shown = people.set_index("annotator").join(counts).join(mean_rank).sort_values("experience", ascending=False)
    print(shown.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int)).to_string())
    print(f"\n{table['unit_id'].nunique()} images, rank 1 is the hardest; assignments: {out}")


def read_difficulties(path: Path, by: str | None = None) -> pd.DataFrame:
    """Read images and their predicted difficulty.

    Args:
        path: CSV or parquet file with a column unit_id, image or name.
        by: Column of the predicted difficulty; score, or else total, unless given.

    Returns:
        The columns unit_id and score, higher for harder images, and action if the file has that.

    Raises:
        DataError: The file is missing or damaged, a column is missing, an image has no number or two rows, or an
            action is unknown.
    """
    table = read_table(path)
    name = next((c for c in _IDS if c in table), None)
    if name is None:
        raise DataError(f"expected a column {', '.join(_IDS[:-1])} or {_IDS[-1]} in {path}, got {_listed(table)}")
    column = by if by is not None else next((c for c in _SCORES if c in table), None)
    if column is None or column not in table:
        raise DataError(
            f"expected a column of predicted difficulty, {column or ' or '.join(_SCORES)}, in {path}, got "
            f"{_listed(table)}; name one of them with --by"
        )
    if table.empty:
        raise DataError(f"{path} names no image, so there is nothing to assign")
    ids = table[name].astype("string").str.strip().map(unshielded, na_action="ignore")
    score = pd.to_numeric(table[column], errors="coerce")
    if ids.isna().any() or (ids == "").any():
        raise DataError(f"an image has no name in the column {name} of {path}; give it one")
    if bad := ids[~np.isfinite(score)].tolist():
        raise DataError(
            f"expected a number for every image in the column {column} of {path}, got none for {bad[0]!r} "
            f"({len(bad)} in all); predict again or leave these images out"
        )
    if again := ids[ids.duplicated()].tolist():
        raise DataError(f"{path} names the image {again[0]!r} more than once; leave one row for it")
    found = pd.DataFrame({"unit_id": ids.astype(str), "score": score.astype(float)})
    if "action" not in table:
        return found
    actions = table["action"].astype(str).str.strip()
    if strange := actions[~actions.isin(list(Action))].tolist():
        raise DataError(
            f"expected {', '.join(Action)} in the column action of {path}, got {strange[0]!r}; correct it, or remove "
            "the column"
        )
    return found.assign(action=actions)


def read_people(path: Path) -> pd.DataFrame:
    """Read the annotators.

    Args:
        path: CSV file with exactly the columns annotator, experience and capacity.

    Returns:
        These columns: a name, a number, and a whole number of images.

    Raises:
        DataError: The file is missing or damaged, a column is missing or unknown, or a value is not valid.
    """
    table = read_table(path)
    needed = ["annotator", "experience", "capacity"]
    missing, unknown = [c for c in needed if c not in table], [c for c in table if c not in needed]
    if missing or unknown:
        problems = [f"{word} {', '.join(c)}" for word, c in (("lacks", missing), ("has the unknown", unknown)) if c]
        raise DataError(f"expected the columns {', '.join(needed)} in {path}, which {' and '.join(problems)}")
    if table.empty:
        raise DataError(f"{path} names no annotator; add one row per person")
    names = table["annotator"].astype("string").str.strip()
    if names.isna().any() or (names == "").any():
        raise DataError(f"an annotator has no name in {path}; give one")
    if again := names[names.duplicated()].tolist():
        raise DataError(f"{path} names the annotator {again[0]!r} more than once; people need different names")
    numbers = {c: pd.to_numeric(table[c], errors="coerce") for c in needed[1:]}
    for column, values in numbers.items():
        whole = column == "experience" or (values >= 0) & (values % 1 == 0)
        if bad := names[~(np.isfinite(values) & whole)].tolist():
            kind = "number" if column == "experience" else "whole number, 0 or more,"
            raise DataError(f"expected a {kind} as {column} of {bad[0]!r} in {path}, got something else; correct it")
    return pd.DataFrame(
        {
            "annotator": names.astype(str),
            "experience": numbers["experience"],
            "capacity": numbers["capacity"].astype(int),
        }
    )


def _listed(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns)) or "no columns"
