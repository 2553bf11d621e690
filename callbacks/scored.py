"""What a query writes while it scores, and reads again to choose."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from acquisition.features import Feature
from acquisition.scored import Scored
from callbacks.gallery import Gallery
from records.shards import Shards

__all__ = ["ShardFeatures", "Unsaved"]

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


class Unsaved:
    """What has been scored and not written down yet; writes every half minute, or when features grow large.

    Args:
        shards: Where to write.
        samples: MC samples per unit behind each score.
        gallery: Shown every batch, for the pictures.
    """

    def __init__(self, shards: Shards, samples: int, gallery: Gallery) -> None:
        self.shards, self.samples, self.gallery = shards, samples, gallery
        self._rows: list[tuple[str, float, float]] = []
        self._features: list[dict[str, np.ndarray]] = []
        self._written = time.monotonic()

    def add(self, batch: dict[str, Any], scored: Scored) -> None:
        """Keep a batch's scores, and write if it is time."""
        self.gallery.offer(batch, scored)
        spreads = scored.spreads if scored.spreads is not None else torch.zeros(len(scored.scores))
        self._rows += zip(batch["unit_id"], scored.scores.tolist(), spreads.tolist(), strict=True)
        if scored.features:
            self._features.append({str(f): x.float().cpu().numpy() for f, x in scored.features.items()})
        size = sum(x.nbytes for part in self._features for x in part.values())
        if time.monotonic() - self._written > _FLUSH_SECONDS or size > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows down and forget them."""
        if self._rows:
            self.gallery.save(self.shards.folder)
            names = self._features[0] if self._features else ()
            features = {n: np.concatenate([part[n] for part in self._features]) for n in names}
            unit_ids, scores, spreads = (list(column) for column in zip(*self._rows, strict=True))
            self.shards.add(self.samples, unit_ids, scores, spreads, features)
            self._rows.clear()
            self._features.clear()
        self._written = time.monotonic()
