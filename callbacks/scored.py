"""What a query writes while it scores, and reads again to choose."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acquisition.features import Feature
from acquisition.regions import Regions
from acquisition.scored import Scored
from callbacks.gallery import Gallery
from records.files import write_json
from records.shards import Shards

__all__ = ["LargestValue", "ShardFeatures", "Unsaved"]

_FLUSH_SECONDS = 30
_FLUSH_BYTES = 1 << 28


@dataclass(frozen=True)
class ShardFeatures:
    """Features as they were written beside the scores (see `callbacks.choice.Features`).

    Args:
        samples: Which of the tables of the pool: those of so many MC samples per unit.
        shards: Of the pool.
        labelled: Of the labelled units.
    """

    samples: int
    shards: Shards
    labelled: Shards

    def of_pool(self, feature: Feature, unit_ids: Sequence[str]) -> np.ndarray:
        """One row per unit of the pool, in their order: N x D."""
        return self.shards.features(self.samples, feature, unit_ids)

    def of_labelled(self, feature: Feature, unit_ids: Sequence[str]) -> np.ndarray:
        """One row per labelled unit, in their order: N x D."""
        return self.labelled.features(0, feature, unit_ids)


class LargestValue:
    """The largest acquisition value of a cycle, seen while its pool is scored, so that all pictures have one scale.

    Args:
        folder: Where processes write it down; with the shards, it goes on after a kill.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"largest-{uuid.uuid4().hex[:8]}.json"
        self._largest: float | None = None

    def offer(self, values: torch.Tensor | None) -> None:
        """See a batch's values; None where there are none."""
        if values is not None and values.numel():
            self._largest = max(float(values.max()), self._largest or 0.0)

    def save(self) -> None:
        """Write down what was seen."""
        if self._largest is not None:
            write_json(self._path, {"largest": self._largest})

    @staticmethod
    def saved(folder: Path) -> float | None:
        """The largest that any process has written down in a folder; None where none has."""
        found = [json.loads(path.read_text())["largest"] for path in folder.glob("largest-*.json")]
        return max(found, default=None)


class Unsaved:
    """What has been scored and not written down yet; writes every half minute, or when features grow large.

    Args:
        shards: Where to write.
        samples: MC samples per unit behind each score.
        gallery: Shown every batch, for the pictures.
        largest: Sees every value, for the pictures' scale.
    """

    def __init__(self, shards: Shards, samples: int, gallery: Gallery, largest: LargestValue) -> None:
        self.shards, self.samples, self.gallery, self.largest = shards, samples, gallery, largest
        self._rows: list[tuple[str, float, float]] = []
        self._features: list[dict[str, np.ndarray]] = []
        self._written = time.monotonic()

    def add(self, batch: dict[str, Any], regions: Regions, scored: Scored) -> None:
        """Keep a batch's scores, and write if it is time."""
        self.gallery.offer(batch, regions, scored)
        self.largest.offer(scored.values)
        spreads = scored.spreads if scored.spreads is not None else torch.zeros(len(scored.scores))
        self._rows += zip(regions.unit_ids, scored.scores.tolist(), spreads.tolist(), strict=True)
        if scored.features:
            self._features.append({str(f): x.float().cpu().numpy() for f, x in scored.features.items()})
        size = sum(x.nbytes for part in self._features for x in part.values())
        if time.monotonic() - self._written > _FLUSH_SECONDS or size > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows down and forget them."""
        if self._rows:
            self.gallery.save(self.shards.folder)
            self.largest.save()
            names = self._features[0] if self._features else ()
            features = {n: np.concatenate([part[n] for part in self._features]) for n in names}
            unit_ids, scores, spreads = (list(column) for column in zip(*self._rows, strict=True))
            self.shards.add(self.samples, unit_ids, scores, spreads, features)
            self._rows.clear()
            self._features.clear()
        self._written = time.monotonic()
