"""What people get beside queried.csv where they label parts of images: where the parts are, and a mask to draw into."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from acquisition.annotation import UNANSWERED
from datamodules.outlines import outlines
from datamodules.pool import Pool
from records.files import replacing, write_text
from records.run_directory import CycleDirectory

__all__ = ["hand_out"]

_MOST = np.iinfo(np.uint16).max


def hand_out(pool: Pool, directory: CycleDirectory, unit_ids: Sequence[str]) -> None:
    """Show the queried parts of images; nothing is written of whole images, which need no showing.

    One label picture per image (0 where not queried, then 1, 2, ... in the order of rank; 8 or 16 bits of grey, in
    which units behind the 65 535th of an image share its number), the outlines as polygons, and where people answer a
    mask to complete, in the values that they draw with: what is drawn already, `UNANSWERED` elsewhere. An image on
    which nobody has to draw gets none.

    Args:
        pool: Whose units they are.
        directory: The open cycle's.
        unit_ids: The queried units in the order of rank.
    """
    # of a query that was cut and may have chosen others
    directory.polygons.unlink(missing_ok=True)
    for folder in (directory.regions, directory.to_draw):
        shutil.rmtree(folder, ignore_errors=True)
    parts: dict[str, list[str]] = {}
    for unit_id in unit_ids:
        image_id = pool.units.image_of(unit_id)
        if unit_id != image_id:
            parts.setdefault(image_id, []).append(unit_id)
    if not parts:
        return
    polygons = {}
    for image_id, units in parts.items():
        ranks = _ranks(pool, image_id, units)
        _save(directory.region_map(image_id), ranks.astype(np.uint8 if len(units) < 256 else np.uint16))
        polygons[image_id] = _polygons(pool, image_id, units, ranks)
        if not pool.oracle.knows_truth:
            drawn = pool.read_drawn(image_id)
            if (drawn[ranks > 0] == UNANSWERED).any():
                values = pool.source.mask_values
                _save(directory.template(image_id), values.encode(drawn) if values else drawn)
    write_text(directory.polygons, json.dumps(polygons))


def _ranks(pool: Pool, image_id: str, units: Sequence[str]) -> np.ndarray:
    """H x W: 1, 2, ... where the units are, 0 elsewhere."""
    index = pool.units.index_map(image_id, pool.source.size(image_id))
    numbers = np.zeros(len(pool.units.of_image[image_id]) + 1, dtype=np.int64)  # the last: pixels of no unit, -1
    for rank, unit_id in enumerate(units, start=1):
        numbers[pool.units.location[unit_id][1]] = min(rank, _MOST)
    found: np.ndarray = numbers[index]
    return found


def _polygons(pool: Pool, image_id: str, units: Sequence[str], ranks: np.ndarray) -> Mapping[str, Any]:
    """The units' outlines as SuperAnnotate's JSON has them: without a class, points as x1, y1, x2, y2, ..."""
    instances = []
    for rank, region in enumerate(pool.units.regions_of(units), start=1):
        row, column, height, width = region.box
        inside = ranks[row : row + height, column : column + width] == min(rank, _MOST)
        for points in outlines(inside):
            moved = points + np.array([column, row])
            instances.append({"type": "polygon", "points": moved.ravel().tolist()})
    path, (height, width) = pool.source.path(image_id), ranks.shape
    return {
        "metadata": {"name": path.name if path else image_id, "width": width, "height": height},
        "instances": instances,
    }


def _save(path: Path, values: np.ndarray) -> None:
    with replacing(path) as beside:
        Image.fromarray(values).save(beside)
