"""The few units with the highest and lowest scores, kept while scoring so that no image is read twice."""

import heapq
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from acquisition.regions import Regions
from acquisition.scored import Scored
from records.files import replacing

__all__ = ["Gallery", "saved_samples"]


class Gallery:
    """Offer it every batch, save it now and then; it holds `size` samples from either end."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._name = uuid.uuid4().hex[:8]
        self._top: list[tuple[float, str, dict[str, Any]]] = []
        self._bottom: list[tuple[float, str, dict[str, Any]]] = []

    def offer(self, batch: dict[str, Any], regions: Regions, scored: Scored) -> None:
        """Keep what belongs to the ends; passed over without values, as maps (N x H x W) or one each (N)."""
        if scored.values is None or scored.predictions is None or scored.values.ndim not in (1, 3) or not self.size:
            return
        images = regions.places[:, 0].long().tolist()
        for unit, (unit_id, i, score) in enumerate(zip(regions.unit_ids, images, scored.scores.tolist(), strict=True)):
            for heap, key in ((self._top, score), (self._bottom, -score)):
                if len(heap) == self.size and key <= heap[0][0]:
                    continue
                sample = {
                    "image": batch["image"][i].float().numpy(),
                    "prediction": scored.predictions[i].cpu().numpy(),
                    "values": scored.values[i].float().cpu().numpy(),
                    "region": (regions.index[i] == unit).cpu().numpy(),
                }
                push = heapq.heappush if len(heap) < self.size else heapq.heapreplace
                push(heap, (key, unit_id, sample))

    def save(self, folder: Path) -> None:
        """Write the samples held now over those saved before; a killed process leaves whole files only."""
        for number, (_, unit_id, sample) in enumerate([*self._top, *self._bottom]):
            with replacing(folder / f"gallery-{self._name}-{number}.npz") as beside:
                np.savez(beside, unit_id=unit_id, **sample)


def saved_samples(folder: Path) -> Iterator[tuple[str, Path]]:
    """Unit ids and files of everything that galleries saved into a folder."""
    for path in sorted(folder.glob("gallery-*.npz")):
        with np.load(path) as content:
            yield str(content["unit_id"]), path
