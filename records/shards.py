"""Scores of a query in progress: small tables that any process may add, so that no work is lost."""

import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from records.files import replacing, write_text

__all__ = ["Shards"]

_NO_FEATURES: Mapping[str, np.ndarray] = MappingProxyType({})


class Shards:
    """A folder of shards: tables with the columns unit_id, score and spread, and arrays of the units' features.

    Each shard holds scores from one number of MC samples. Files are complete or absent, so all that a process had
    written when it died counts, and the next query scores only the missing units.

    Args:
        folder: Where the shards are.
        fingerprint: Identifies everything that the scores depend on; `open` discards shards with another one.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def open(self) -> None:
        """Create the folder and discard shards of another query; call it in one process, before any other method."""
        mark = self.folder / "fingerprint"
        if self.folder.exists() and (not mark.is_file() or mark.read_text() != self.fingerprint):
            shutil.rmtree(self.folder)
        write_text(mark, self.fingerprint)

    def add(
        self,
        samples: int,
        unit_ids: Sequence[str],
        scores: Sequence[float],
        spreads: Sequence[float],
        features: Mapping[str, np.ndarray] = _NO_FEATURES,
    ) -> None:
        """Add one shard.

        Args:
            samples: Number of MC samples T behind the scores.
            unit_ids: The N units.
            scores: Their scores.
            spreads: Standard error of each score against infinitely many MC samples; 0 where it was not measured.
            features: Arrays of N rows by name.
        """
        table = pd.DataFrame(
            {"unit_id": unit_ids, "score": np.asarray(scores, float), "spread": np.asarray(spreads, float)}
        )
        stem = f"T{samples}-{uuid.uuid4().hex}"
        # the table is written last, so its presence means that the features are complete
        for name, rows in features.items():
            with replacing(self.folder / f"{stem}.{name}.npy") as beside, beside.open("wb") as file:
                np.save(file, rows)
        with replacing(self.folder / f"{stem}.parquet") as beside:
            table.to_parquet(beside)

    def table(self, samples: int, unit_ids: Collection[str] | None = None) -> pd.DataFrame:
        """The scores from one number of MC samples, in one table.

        Args:
            samples: Number of MC samples T.
            unit_ids: The units to return, in this order; all of them unless given.

        Returns:
            The columns unit_id, score and spread.

        Raises:
            KeyError: A unit has no score yet.
        """
        tables = [pd.read_parquet(p) for p in sorted(self.folder.glob(f"T{samples}-*.parquet"))]
        empty = pd.DataFrame({"unit_id": pd.Series(dtype=str), "score": [], "spread": []})
        table = pd.concat(tables, ignore_index=True) if tables else empty
        table = table.drop_duplicates("unit_id").set_index("unit_id")
        return (table if unit_ids is None else table.loc[list(unit_ids)]).reset_index()

    def features(self, samples: int, name: str, unit_ids: Sequence[str]) -> np.ndarray:
        """A feature of some units.

        Args:
            samples: Number of MC samples T of the shards.
            name: The feature's name.
            unit_ids: The N units.

        Returns:
            A memory map of N rows, in the order of `unit_ids`.

        Raises:
            ValueError: A unit has no such feature.
            OSError: The disk has no room for the memory map.
        """
        row_of = {u: i for i, u in enumerate(unit_ids)}
        path = self.folder / f"{name}.npy"
        merged: np.memmap | None = None
        for table in sorted(self.folder.glob(f"T{samples}-*.parquet")):
            there = pd.read_parquet(table, columns=["unit_id"])["unit_id"]
            found = [(i, row_of.pop(u)) for i, u in enumerate(there) if u in row_of]
            if not found:
                continue
            part = np.load(table.with_suffix(f".{name}.npy"), mmap_mode="r")
            if merged is None:
                shape = (len(unit_ids), *part.shape[1:])
                self._check_room(int(np.prod(shape)) * part.itemsize, len(unit_ids))
                merged = np.lib.format.open_memmap(path, mode="w+", dtype=part.dtype, shape=shape)
            taken, rows = map(list, zip(*found, strict=True))
            merged[rows] = part[taken]
        if merged is None or row_of:
            raise ValueError(f"{len(row_of)} units have no {name} in {self.folder}; start the same query again")
        return merged

    def _check_room(self, size: int, units: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise OSError(
                f"the features of {units} units take {size / 1e9:.1f} GB beside their shards, but {self.folder} has "
                f"{free / 1e9:.1f} GB left; make room, or set strategy.selection.candidates"
            )
