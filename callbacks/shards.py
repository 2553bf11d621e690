"""Scores on their way to the ranked list: small files that any process may add and none has to finish."""

import hashlib
import shutil
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from datamodules.files import replacing

__all__ = ["Shards", "query_fingerprint"]


class Shards:
    """A folder of tables (unit_id, score, spread), each of one number of MC samples.

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

    def add(self, samples: int, unit_ids: Sequence[str], scores: Sequence[float], spreads: Sequence[float]) -> None:
        """Add one table."""
        table = pd.DataFrame(
            {"unit_id": unit_ids, "score": np.asarray(scores, float), "spread": np.asarray(spreads, float)}
        )
        with replacing(self.folder / f"T{samples}-{uuid.uuid4().hex}.parquet") as beside:
            table.to_parquet(beside)

    def table(self, samples: int, unit_ids: Collection[str] | None = None) -> pd.DataFrame:
        """All tables of one number of samples as one; in the order of unit_ids, which must be there, if given."""
        tables = [pd.read_parquet(p) for p in sorted(self.folder.glob(f"T{samples}-*.parquet"))]
        empty = pd.DataFrame({"unit_id": pd.Series(dtype=str), "score": [], "spread": []})
        table = pd.concat(tables, ignore_index=True) if tables else empty
        table = table.drop_duplicates("unit_id").set_index("unit_id")
        return (table if unit_ids is None else table.loc[list(unit_ids)]).reset_index()

    def remove(self) -> None:
        """Delete the folder: its content stands in the ranked list."""
        shutil.rmtree(self.folder)


def query_fingerprint(network: nn.Module, *settings: object) -> str:
    """A hash of the network's weights and of settings."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
