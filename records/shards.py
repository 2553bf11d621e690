"""Scores on their way to the ranked list: small files that any process may add and none has to finish."""

import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from records.files import replacing

__all__ = ["Shards"]

_NO_FEATURES: Mapping[str, np.ndarray] = MappingProxyType({})


class Shards:
    """A folder of tables (unit_id, score, spread), each of one number of MC samples, and of their units' features.

    Files are whole or absent, so whatever a process had written when it died counts, and the next query scores only
    what is missing. fingerprint: of everything that the scores depend on; files of another query are thrown away.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def open(self) -> None:
        """Make the folder ready; call it in one process, before any other method."""
        mark = self.folder / "fingerprint"
        if self.folder.exists() and (not mark.is_file() or mark.read_text() != self.fingerprint):
            shutil.rmtree(self.folder)
        with replacing(mark) as beside:
            beside.write_text(self.fingerprint)

    def add(
        self,
        samples: int,
        unit_ids: Sequence[str],
        scores: Sequence[float],
        spreads: Sequence[float],
        features: Mapping[str, np.ndarray] = _NO_FEATURES,
    ) -> None:
        """Add one table, and its units' features, one array of len(unit_ids) rows under each name."""
        table = pd.DataFrame(
            {"unit_id": unit_ids, "score": np.asarray(scores, float), "spread": np.asarray(spreads, float)}
        )
        stem = f"T{samples}-{uuid.uuid4().hex}"
        # the table last: where it is, its features are
        for name, rows in features.items():
            with replacing(self.folder / f"{stem}.{name}.npy") as beside, beside.open("wb") as file:
                np.save(file, rows)
        with replacing(self.folder / f"{stem}.parquet") as beside:
            table.to_parquet(beside)

    def table(self, samples: int, unit_ids: Collection[str] | None = None) -> pd.DataFrame:
        """All tables of one number of samples as one; in the order of unit_ids, which must be there, if given."""
        tables = [pd.read_parquet(p) for p in sorted(self.folder.glob(f"T{samples}-*.parquet"))]
        empty = pd.DataFrame({"unit_id": pd.Series(dtype=str), "score": [], "spread": []})
        table = pd.concat(tables, ignore_index=True) if tables else empty
        table = table.drop_duplicates("unit_id").set_index("unit_id")
        return (table if unit_ids is None else table.loc[list(unit_ids)]).reset_index()

    def features(self, samples: int, name: str, unit_ids: Sequence[str]) -> np.ndarray:
        """One feature of the units, which must be there, in their order: a memory map, one row each."""
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
                f"{free / 1e9:.1f} GB left; make room, or set selection.candidates"
            )
