"""Writes pictures of units in layers (`callbacks.layers`) to the files of a gallery (`records.gallery`)."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pytorch_lightning.utilities import rank_zero_warn

from acquisition.annotation import VOID
from callbacks.layers import ClassLayers, image_layer, nearest, outline_layer, thumb, value_layer
from datamodules.pool import Pool
from records.files import replacing, write_json
from records.gallery import GalleryDirectory
from records.run_directory import RunDirectory

__all__ = ["Painter", "add_annotations", "drawn_or_warned"]

_SMALL = 1
"""PNG compression of layers that noise fills; masks take a little more time and become much smaller."""
_SMALLER = 3


class Painter:
    """Writes the files of units, image by image.

    Args:
        files: Where.
        pool: Whose units they are.
        table: number, unit_id, kind, score and rank of the units.
        largest: The value that is brightest; None where there are no values.
        notes: A folder in which all processes leave the predicted classes until the table is written.
    """

    def __init__(
        self, files: GalleryDirectory, pool: Pool, table: pd.DataFrame, largest: float | None, notes: Path
    ) -> None:
        self.files, self.pool, self.largest, self.notes = files, pool, largest, notes
        self.table = table.assign(image_id=[pool.image_of(unit_id) for unit_id in table["unit_id"]])
        self._places = self.table.groupby("image_id").indices
        self.layers = ClassLayers(pool.source.class_names)
        self.known = _KnownTruth(pool)

    def missing(self) -> list[str]:
        """Ids of the images of units without a picture."""
        found = [not self.files.thumb(number).is_file() for number in self.table["number"]]
        return list(dict.fromkeys(self.table[found]["image_id"]))

    def paint(self, image_id: str, prediction: np.ndarray | None = None, values: np.ndarray | None = None) -> None:
        """Write every layer of the units of an image; where several units have one, as links to a file.

        Args:
            image_id: The image.
            prediction: Predicted classes, H x W in any size, or the class of a classified image; None if nobody asked.
            values: Acquisition values, H x W in any size; other shapes and None give no layer.
        """
        with drawn_or_warned(f"the picture of {image_id!r}"):
            self._paint(image_id, prediction, values)

    def _paint(self, image_id: str, prediction: np.ndarray | None, values: np.ndarray | None) -> None:
        rows = self.table.iloc[self._places[image_id]]
        pixels = self.pool.source.read_image(image_id)
        image = image_layer(pixels)
        size = image.height, image.width
        numbers = rows["number"].tolist()
        _save_all([self.files.image(n) for n in numbers], _jpeg(image, 88))
        if prediction is not None and prediction.ndim == 2:
            classes = self.layers(prediction, size)
            _save_all([self.files.prediction(n) for n in numbers], _png(classes, _SMALLER))
        if values is not None and values.ndim == 2 and self.largest is not None:
            shown = value_layer(values, self.largest, size)
            _save_all([self.files.uncertainty(n) for n in numbers], _png(shown, _SMALL))
        self._annotate(image_id, rows, size)
        whole = rows["unit_id"].tolist() == [image_id] * len(rows)
        index = None if whole else self.pool.units.index_map(image_id, pixels.shape[:2])
        if prediction is not None:
            # before the thumbs, behind which nothing of a unit is missing
            found = {u: _classes_in(prediction, self._region(u, index)) for u in rows["unit_id"].unique()}
            write_json(self.notes / f"predicted-{uuid.uuid4().hex[:8]}.json", found)
        for unit_id, same in rows.groupby("unit_id", sort=False)["number"]:
            region = self._region(str(unit_id), index)
            if region is not None:
                line = outline_layer(nearest(region, size))
                _save_all([self.files.region(n) for n in same], _png(line, _SMALLER))
            _save_all([self.files.thumb(n) for n in same], _jpeg(thumb(image, region), 80))

    def _region(self, unit_id: str, index: np.ndarray | None) -> np.ndarray | None:
        return None if index is None else index == self.pool.units.location[unit_id][1]

    def _annotate(self, image_id: str, rows: pd.DataFrame, size: tuple[int, int]) -> None:
        """Write the layer of those units whose labels are known."""
        if self.pool.source.target != "mask":
            return
        known = [row.number for row in rows.itertuples() if self.known.has(row.unit_id)]
        if known:
            mask = self.layers(self.known.read(image_id), size)
            _save_all([self.files.truth(number) for number in known], _png(mask, _SMALLER))

    def write_table(self, values_name: str) -> None:
        """Write the table of the units that have a picture.

        Args:
            values_name: Name of the acquisition function.
        """
        pool, names, predicted = self.pool, self.pool.source.class_names, dict[str, list[int]]()
        for path in self.notes.glob("predicted-*.json"):
            predicted |= json.loads(path.read_text())
        table = self.table[[self.files.thumb(number).is_file() for number in self.table["number"]]]
        parts = [u for u, i in zip(table["unit_id"], table["image_id"], strict=True) if u != i]
        boxes = {region.unit_id: region.box for region in pool.units.regions_of(list(dict.fromkeys(parts)))}
        sides = [boxes.get(unit_id, (None,) * 4) for unit_id in table["unit_id"]]
        corners = pd.DataFrame(sides, columns=["top", "left", "height", "width"], index=table.index, dtype="Int64")
        classified = pool.source.target == "label"
        said = [[names[c] for c in predicted.get(unit_id, ())] for unit_id in table["unit_id"]]
        more = {
            "predicted": ["".join(found) if classified else "" for found in said],
            "truth": [self.known.name(unit_id) if classified else "" for unit_id in table["unit_id"]],
            "classes": [json.dumps(found) if found else "" for found in said],
            "values_name": values_name,
        }
        self.files.write_units(pd.concat([table, corners], axis=1).assign(**more))


class _KnownTruth:
    """What may be shown of a unit's label: the data set's own in a simulation, or else what people have said."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.labelled = set() if pool.oracle.knows_truth else set(pool.ledger.labelled())

    def has(self, unit_id: str) -> bool:
        if self.pool.oracle.knows_truth:
            return self.pool.source.is_annotated(self.pool.image_of(unit_id))
        return unit_id in self.labelled

    def read(self, image_id: str) -> np.ndarray:
        if not self.pool.oracle.knows_truth:
            return self.pool.read_drawn(image_id)
        return np.asarray(self.pool.source.read_annotation(image_id))

    def name(self, unit_id: str) -> str:
        """The class of a classified image; empty where nobody has said it."""
        if not self.has(unit_id):
            return ""
        image_id = self.pool.image_of(unit_id)
        people = not self.pool.oracle.knows_truth
        found = self.pool.read_class(image_id) if people else int(self.pool.source.read_annotation(image_id))
        return "void" if found == VOID else self.pool.source.class_names[found]


def _classes_in(prediction: np.ndarray, region: np.ndarray | None) -> list[int]:
    """Classes with at least a hundredth of a region's pixels, most first."""
    if prediction.ndim and region is not None:
        inside = nearest(region, prediction.shape)
        prediction = prediction[inside] if inside.any() else prediction[:0]
    counts = np.bincount(prediction.ravel())
    return [int(c) for c in np.argsort(-counts, kind="stable") if counts[c] >= max(1, 0.01 * counts.sum())]


def add_annotations(pool: Pool) -> None:
    """Add what people have drawn or said since to the pictures of their units; called when answers are collected.

    Args:
        pool: Of the run.
    """
    if pool.oracle.knows_truth:
        return
    known = _KnownTruth(pool)
    for cycle in RunDirectory(pool.run_dir).cycles():
        files = GalleryDirectory(cycle.gallery)
        with drawn_or_warned(f"what people have drawn of cycle {cycle.number}"):
            table = files.read_units()
            if pool.source.target == "mask":
                _add_masks(files, pool, known, table[table["unit_id"].map(known.has).astype(bool)])
                continue
            said = [known.name(unit_id) for unit_id in table["unit_id"]]
            if said != table["truth"].tolist():
                files.write_units(table.assign(truth=said))


def _add_masks(files: GalleryDirectory, pool: Pool, known: _KnownTruth, rows: pd.DataFrame) -> None:
    layers = ClassLayers(pool.source.class_names)
    for image_id, units in rows.groupby("image_id"):
        path = pool.annotations.annotation_path(str(image_id))
        drawn_at = path.stat().st_mtime_ns if path else 0
        old = [files.truth(n) for n in units["number"] if not _is_newer(files.truth(n), drawn_at)]
        if old:
            with Image.open(files.image(units["number"].iloc[0])) as image:
                size = image.height, image.width
            _save_all(old, _png(layers(known.read(str(image_id)), size), _SMALLER))


def _is_newer(path: Path, than: int) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= than


def _jpeg(image: Image.Image, quality: int) -> Callable[[Path], None]:
    return lambda path: image.save(path, quality=quality)


def _png(layer: Image.Image, compression: int) -> Callable[[Path], None]:
    return lambda path: layer.save(path, compress_level=compression)


def _save_all(paths: Sequence[Path], save: Callable[[Path], None]) -> None:
    """Save a picture under several names, as one file where the file system can."""
    first, *more = paths
    with replacing(first) as beside:
        save(beside)
    for path in more:
        _link(first, path)


def _link(source: Path, target: Path) -> None:
    with replacing(target) as beside:
        beside.unlink(missing_ok=True)
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)


@contextmanager
def drawn_or_warned(what: str) -> Iterator[None]:
    """Turn what goes wrong with a picture into a warning.

    Args:
        what: What is drawn, for the warning.
    """
    try:
        yield
    except Exception as error:  # decoders and networks raise whatever they stumble over
        rank_zero_warn(f"{what} could not be drawn, and the query goes on without: {error}")
