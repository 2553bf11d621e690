"""What has been logged at Weights & Biases: read back from its transaction logs, and kept in the run directory.

A killed process loses the last second of what it logged, so that what was handed over is not yet what is on disk. The
transaction logs are the truth for as long as they are there; once they were uploaded and removed, the notes are.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from records.files import RunDirectoryError, read_json, write_json
from records.run_directory import RunDirectory

__all__ = ["ARTIFACTS", "PIECES", "STEP", "STUDY", "Logged", "cycle_alias", "read_log"]

PIECES = ("curve", "class_scores", "labelled_classes", "queried")
"""What a row of the history may hold of a cycle, once each."""

ARTIFACTS = ("ledger", "model")
"""Artifacts that a cycle may have, by their type."""

STUDY = "study"
"""A study's table, which is known by its digest."""

STEP = "trainer/global_step"
"""Lightning's count of a fit's steps, which begins again with each cycle."""

_RESTS = 3.0
"""Seconds without a new record after which nobody writes a transaction log any more; W&B flushes it every second."""


@dataclass
class Logged:
    """What has been logged of a run.

    Args:
        pieces: What was logged once and whole, such as "queried 3", to the folder of the process that logged it.
        steps: The last step that was logged of a fit's metric, by "CYCLE NAME".
        read: Folders whose transaction logs have been read.
        last: The number of the last row of the history; -1 where there is none.
    """

    pieces: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    last: int = -1

    @classmethod
    def of_run(cls, run_dir: Path, run_id: str) -> "Logged":
        """Read the notes, put right by the transaction logs that have not been read yet, and write them again.

        Args:
            run_dir: The run directory.
            run_id: The id of the W&B run.
        """
        run = RunDirectory(run_dir)
        try:
            notes = read_json(run.wandb_logged, "", pieces=dict, steps=dict, read=list, last=int)
            logged = cls(**{name: notes[name] for name in ("pieces", "steps", "read", "last")})
        except RunDirectoryError:
            # none yet, or damaged: the transaction logs know
            logged = cls()
        for log in sorted(run.wandb.glob(f"*run-*-{run_id}/*.wandb")):
            folder = log.parent.name
            if folder in logged.read or (found := read_log(log)) is None:
                continue
            # online the log holds no artifacts: what was handed over counts
            told = () if folder.startswith("offline") else ARTIFACTS
            kept = {p: where for p, where in logged.pieces.items() if where != folder or p.startswith(told)}
            logged.pieces = kept | dict.fromkeys(found.pieces, folder)
            for name, step in found.steps.items():
                logged.steps[name] = max(step, logged.steps.get(name, -1))
            logged.last = max(logged.last, found.last)
            logged.read.append(folder)
        logged.write(run_dir)
        return logged

    def write(self, run_dir: Path, last: int = -1) -> None:
        """Write the notes into the run directory.

        Args:
            run_dir: The run directory.
            last: The number of the last row by now.
        """
        write_json(RunDirectory(run_dir).wandb_logged, asdict(self) | {"last": max(self.last, last)})

    def note(self, row: Mapping[str, Any], folder: str = "") -> None:
        """Note what a row of the history holds.

        Args:
            row: Its content, as W&B returns it.
            folder: Of the process that logged it.
        """
        cycle, step = row.get("cycle"), row.get(STEP)
        self.last = max(self.last, int(row.get("_step", -1)))
        if "digest" in row:
            self.pieces[f"{STUDY} {row['digest']}"] = folder
        if cycle is None:
            return
        if step is None:
            names = {key.partition("/")[0].partition(".")[0] for key in row}
            self.pieces |= {f"{name} {int(cycle)}": folder for name in PIECES if name in names}
            return
        for name in row:
            if not name.startswith("_") and name not in ("cycle", STEP):
                key = f"{int(cycle)} {name}"
                self.steps[key] = max(int(step), self.steps.get(key, -1))


def cycle_alias(number: int) -> str:
    """The alias of a cycle's artifacts."""
    return f"cycle-{number:0>2}"


def read_log(path: Path) -> Logged | None:
    """Read a transaction log with W&B's own reader.

    Args:
        path: The file RUN.wandb; one that was cut short is read as far as it goes.

    Returns:
        The pieces and steps in it; None where it cannot be read.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    while True:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        # a killed process may leave W&B's own process behind, which writes what it has and ends
        if '"type":"exit"' in done.stdout or (left := path.stat().st_mtime + _RESTS - time.time()) <= 0:
            break
        time.sleep(min(left, _RESTS))
    if done.returncode:
        return None
    found = Logged()
    for line in done.stdout.splitlines():
        # most lines are the machine's load
        if not line.startswith("{") or not ('"type":"history"' in line or '"type":"artifact"' in line):
            continue
        record = json.loads(line)
        if row := record.get("history", {}).get("item"):
            found.note(row)
        artifact = record.get("artifact", {})
        for alias in artifact.get("aliases", ()):
            if artifact["type"] in ARTIFACTS and alias.startswith("cycle-"):
                found.pieces[f"{artifact['type']} {int(alias.removeprefix('cycle-'))}"] = ""
    return found
