"""The units that a page shows: what was queried, by the ledger, and what it is compared with, by the gallery."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from records.files import RunDirectoryError
from records.gallery import KINDS, GalleryDirectory
from records.ledger import Event, Ledger
from records.reviews import ReviewEvent, Reviews
from records.run_directory import CycleDirectory, RunDirectory
from reports.page.frame import bring_file

__all__ = ["LAYERS", "History", "bring_pictures", "gallery_data", "read_history", "shown_units"]

LAYERS = {
    name: getattr(GalleryDirectory, name)(GalleryDirectory(Path()), 0).suffix
    for name in ("thumb", "image", "prediction", "uncertainty", "truth", "region")
}
"""The pictures of a unit, and the ending of their files."""

_BOX = ("top", "left", "height", "width")
_FILE = re.compile(r"(\d{5,})_([a-z]+)\.(?:jpg|png)")
_REMEDY = "delete the folder, and the page shows these units without pictures"


@dataclass(frozen=True)
class History:
    """What happened to the units of a run.

    Args:
        events: The ledger's, in the order of recording.
        drawings: The last event of every person's drawing.
    """

    events: Sequence[Event]
    drawings: Sequence[ReviewEvent]

    @property
    def labelled(self) -> dict[str, int]:
        """The cycle in which each labelled unit was labelled."""
        return {str(e.unit_id): e.cycle for e in self.events if e.kind in ("initial", "labelled")}

    @property
    def waiting(self) -> dict[str, int]:
        """The cycle of the last query of each unit that has no label yet, in the order of the queries."""
        labelled = self.labelled
        return {str(e.unit_id): e.cycle for e in self.events if e.kind == "queried" and e.unit_id not in labelled}


def read_history(run: RunDirectory) -> History:
    """Read a run's ledger; a run without one has no history.

    Args:
        run: The run.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    if not run.ledger.is_file():
        return History([], [])
    ledger = Ledger(run.ledger)
    try:
        events = ledger.events()
    finally:
        ledger.close()
    reviews = Reviews(run.ledger)
    try:
        return History(events, reviews.latest())
    finally:
        reviews.close()


def shown_units(run: RunDirectory, history: History) -> pd.DataFrame:
    """Every queried unit, by the ledger, and the control group and the lowest scores of each cycle's gallery.

    Args:
        run: The run.
        history: Its history.

    Returns:
        The columns unit_id, image_id, cycle, kind, score, rank, state (labelled, waiting or not labelled), labelled
        (the cycle, or missing), drawings (lists of annotator and state), predicted, truth, classes (names), number (in
        the gallery, or missing) and box (top, left, height, width in pixels, or None); in the order of cycle, kind and
        rank.

    Raises:
        RunDirectoryError: A gallery's table is damaged.
    """
    labelled, drawings = history.labelled, defaultdict(list)
    for drawing in history.drawings:
        drawings[drawing.unit_id].append([drawing.annotator, drawing.state])
    queried: dict[int, list[Event]] = defaultdict(list)
    for event in history.events:
        if event.kind == "queried":
            queried[event.cycle].append(event)
    rows: list[dict[str, Any]] = []
    for number in sorted({*queried, *(cycle.number for cycle in run.cycles())}):
        pictured = _read_units(run.cycle(number))
        for event in sorted(queried[number], key=lambda e: e.rank or 0):
            own = pictured.pop(("queried", str(event.unit_id)), {})
            rows.append({**own, "unit_id": event.unit_id, "score": event.score, "rank": event.rank, "kind": "queried"})
            rows[-1]["cycle"] = number
        # what the ledger does not know was not queried, whatever a query that was killed has left behind
        others = [row for (kind, _), row in pictured.items() if kind != "queried"]
        rows += [{**row, "cycle": number} for row in sorted(others, key=lambda r: (KINDS.index(r["kind"]), r["rank"]))]
    for row in rows:
        unit = row["unit_id"]
        row["labelled"] = labelled.get(unit)
        row["state"] = "labelled" if unit in labelled else "waiting" if row["kind"] == "queried" else "not labelled"
        row["drawings"] = drawings.get(unit, [])
    columns = [
        "unit_id", "image_id", "cycle", "kind", "score", "rank", "state", "labelled", "drawings", "predicted", "truth",
        "classes", "number", "box",
    ]  # fmt: skip
    return pd.DataFrame([{c: row.get(c) for c in columns} for row in rows], columns=columns, dtype=object)


def bring_pictures(run: RunDirectory, cycle: CycleDirectory) -> dict[int, list[str]]:
    """Bring a cycle's pictures into the folder of the page; those that are there already cost next to nothing.

    Args:
        run: The run.
        cycle: A cycle.

    Returns:
        The layers that there are of each unit, by its number in the gallery.

    Raises:
        RunDirectoryError: A picture could not be written.
    """
    found: dict[int, list[str]] = defaultdict(list)
    gallery = GalleryDirectory(cycle.gallery)
    if not gallery.units.is_file():
        return found
    folder = run.report_pictures(cycle)
    there = {entry.name: entry for entry in os.scandir(folder)} if folder.is_dir() else {}
    for entry in os.scandir(gallery.path):
        match = _FILE.fullmatch(entry.name)
        if match is None or match[2] not in LAYERS:
            continue
        if entry.name not in there or not _is_same(entry, there[entry.name]):
            bring_file(Path(entry.path), folder)
        found[int(match[1])].append(match[2])
    return found


def gallery_data(run: RunDirectory, units: pd.DataFrame, pictures: Mapping[int, Mapping[int, Sequence[str]]]) -> Any:
    """What the page's scripts read of the units.

    Args:
        run: The run.
        units: From `shown_units`.
        pictures: From `bring_pictures`, by cycle.

    Returns:
        units: a list per column; image_id says nothing where it is the unit's, and layers is a sum of 2^i for the
        layers that there are; layers, their names in that order; suffixes of their files; cycles: folder of the
        pictures, name and largest of the values, what the truth is; classes: names and colours.
    """
    columns: dict[str, list[Any]] = {c: units[c].tolist() for c in units}
    # most units are whole images, whose name they have
    columns["image_id"] = [i if i != u else None for i, u in zip(columns["image_id"], columns["unit_id"], strict=True)]
    bits = {layer: bit for bit, layer in enumerate(LAYERS)}
    columns["layers"] = [
        sum(1 << bits[layer] for layer in pictures.get(cycle, {}).get(number, ())) if number is not None else 0
        for cycle, number in zip(units["cycle"], units["number"], strict=True)
    ]
    cycles: dict[int, dict[str, Any]] = {}
    colours: dict[str, str] = {}
    for number in sorted(set(units["cycle"])):
        cycle = run.cycle(number)
        about = GalleryDirectory(cycle.gallery).read_about()
        colours |= {str(c.get("name")): str(c.get("colour")) for c in about.get("classes", [])}
        cycles[number] = {
            "folder": run.report_pictures(cycle).relative_to(run.report).as_posix(),
            "values_name": about.get("values_name"),
            "max_value": about.get("max_value"),
            "truth_name": about.get("truth_name", "truth"),
        }
    named = {n: None for names in (units["predicted"], units["truth"], *units["classes"].dropna()) for n in names if n}
    return {
        "units": columns,
        "layers": list(LAYERS),
        "suffixes": LAYERS,
        "cycles": cycles,
        "classes": [{"name": name, "colour": colours.get(name)} for name in {**colours, **named}],
    }


def _is_same(source: os.DirEntry[str], brought: os.DirEntry[str]) -> bool:
    if source.inode() == brought.inode():
        return True
    # a copy keeps the time
    of_source, of_brought = source.stat(), brought.stat()
    return (of_source.st_size, of_source.st_mtime_ns) == (of_brought.st_size, of_brought.st_mtime_ns)


def _read_units(cycle: CycleDirectory) -> dict[tuple[str, str], dict[str, Any]]:
    """The gallery's rows by kind and unit id; none where the gallery is not whole."""
    gallery = GalleryDirectory(cycle.gallery)
    try:
        table = gallery.read_units()
        if strange := sorted({*table["kind"]} - {*KINDS}):
            raise ValueError(f"expected the kinds {', '.join(KINDS)}, got {strange[0]!r}")
        rows = [_unit(row) for row in table.to_dict("records")]
    except (ValueError, KeyError, OSError) as error:
        raise RunDirectoryError(f"{gallery.units} cannot be read ({error}); {_REMEDY}") from error
    return {(row["kind"], row["unit_id"]): row for row in rows}


def _unit(row: Mapping[str, Any]) -> dict[str, Any]:
    box = [row[c] for c in _BOX]
    classes = row.get("classes")
    return {
        **{name: row[name] for name in ("unit_id", "image_id", "kind")},
        **{name: row[name] or None for name in ("predicted", "truth")},
        "number": int(row["number"]),
        "score": float(row["score"]),
        "rank": int(row["rank"]),
        # not a number is not itself
        "box": [int(v) for v in box] if all(v == v for v in box) else None,
        "classes": json.loads(classes) if isinstance(classes, str) and classes else None,
    }
