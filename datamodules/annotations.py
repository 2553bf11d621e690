"""Who says what is in an image: annotation sources, and what of them trains."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.checks import check_mask
from datamodules.files import DataError, read_mask
from datamodules.mask_values import MaskValues
from datamodules.texts import read_text, unshielded

if TYPE_CHECKING:
    from datamodules.partitions import Partition
    from datamodules.sources.source import Source

__all__ = ["AnnotationSource", "ClassTable", "FirstToSay", "LabelledUnits", "MaskFolder", "class_index"]


class AnnotationSource(ABC):
    """Reads one image's annotation: a mask, or for classified images one class.

    A mask is H x W, uint8, of the image's size; one class is an array of no dimension. Their values are class indices,
    `VOID` or `UNANSWERED`.
    """

    @abstractmethod
    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        """What is said of an image.

        Args:
            image_id: The image.
            draw: Seed and epoch of training, for a source whose annotations take turns; None in evaluation.

        Raises:
            DataError: If nothing is said of it, or the file is not what it should be.
        """

    def is_annotated(self, image_id: str) -> bool:
        """Whether anything is said of an image; found out without reading it."""
        return True

    def annotation_path(self, image_id: str) -> Path | None:
        """The annotation's file, where there is one."""
        return None

    def annotation_files(self, image_id: str) -> Sequence[Path]:
        """The files behind an image's annotation; more than one where several people have drawn it."""
        path = self.annotation_path(image_id)
        return [] if path is None else [path]

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        """Number of the person whose annotation `read_annotation` gives for the same arguments, from 0.

        None where that is no single person's, or nobody counts people.
        """
        return None


class MaskFolder(AnnotationSource):
    """Masks that people draw, as FOLDER/IMAGE_ID.png: class indices, 255 for void, 254 where nothing is drawn yet.

    Args:
        folder: Where they appear.
        values: Which of their values are which class, where they are no class indices.
    """

    def __init__(self, folder: Path, values: MaskValues | None = None) -> None:
        self.folder = folder
        self.values = values

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        path = self._path(image_id)
        return self.values.read(path) if self.values else read_mask(path)

    def is_annotated(self, image_id: str) -> bool:
        return self._path(image_id).is_file()

    def annotation_path(self, image_id: str) -> Path | None:
        return self._path(image_id) if self.is_annotated(image_id) else None

    def _path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.png"


class ClassTable(AnnotationSource):
    """Classes that people write into a CSV file with the columns unit_id and label; read again when it has changed.

    Args:
        path: The file, which need not be there yet.
        class_names: Names of the classes 0, 1, ...
        others: Who knows the classes of images without a row, or None if nobody does.
    """

    def __init__(self, path: Path, class_names: Sequence[str], others: AnnotationSource | None = None) -> None:
        self.path = path
        self.class_names = class_names
        self.others = others
        self._read_at = -1
        self._rows: dict[str, str] = {}

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        if written := self.rows().get(image_id):
            return np.array(class_index(written, self.class_names, image_id), dtype=np.uint8)
        if self.others is not None and self.others.is_annotated(image_id):
            return self.others.read_annotation(image_id, draw)
        raise DataError(f"the image {image_id!r} has no label; write its class into {self.path}")

    def is_annotated(self, image_id: str) -> bool:
        return image_id in self.rows() or (self.others is not None and self.others.is_annotated(image_id))

    def rows(self) -> Mapping[str, str]:
        """What is written in the file: image id to class."""
        written_at = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        if written_at != self._read_at:
            self._rows, self._read_at = self._read() if written_at else {}, written_at
        return self._rows

    def _read(self) -> dict[str, str]:
        table = csv.DictReader(io.StringIO(read_text(self.path)))
        columns = table.fieldnames or ()
        if not {"unit_id", "label"} <= set(columns):
            hint = "copy the column unit_id of queried.csv, not name" if "name" in columns else "correct its first line"
            raise DataError(
                f"expected the columns unit_id and label in {self.path}, got {', '.join(columns) or 'none'}; {hint}"
            )
        rows: dict[str, str] = {}
        for row in table:
            image_id, label = unshielded(row["unit_id"] or ""), (row["label"] or "").strip()
            if label and rows.setdefault(image_id, label) != label:
                raise DataError(f"{self.path} labels {image_id!r} twice, {rows[image_id]!r} and {label!r}; keep one")
        return rows


class FirstToSay(AnnotationSource):
    """What the first source says that says anything of an image.

    Args:
        sources: In the order in which they are asked.
    """

    def __init__(self, sources: Sequence[AnnotationSource]) -> None:
        self.sources = tuple(sources)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._asked(image_id).read_annotation(image_id, draw)

    def is_annotated(self, image_id: str) -> bool:
        return any(source.is_annotated(image_id) for source in self.sources)

    def annotation_path(self, image_id: str) -> Path | None:
        return self._asked(image_id).annotation_path(image_id)

    def annotation_files(self, image_id: str) -> Sequence[Path]:
        return self._asked(image_id).annotation_files(image_id)

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        return self._asked(image_id).drawn_by(image_id, draw)

    def _asked(self, image_id: str) -> AnnotationSource:
        return next((source for source in self.sources if source.is_annotated(image_id)), self.sources[0])


class LabelledUnits(AnnotationSource):
    """What trains: an annotation where its unit is labelled, `VOID` elsewhere.

    Args:
        annotations: Who says what is there.
        source: The images.
        partition: Their units.
        labelled: Which units of an image are labelled, as their positions in the image's index map.
    """

    def __init__(
        self,
        annotations: AnnotationSource,
        source: "Source",
        partition: "Partition",
        labelled: Mapping[str, Sequence[int]],
    ) -> None:
        self.annotations = annotations
        self.source = source
        self.partition = partition
        self.labelled = labelled

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        return self.annotations.drawn_by(image_id, draw)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        annotation = self.annotations.read_annotation(image_id, draw)
        if annotation.ndim == 0:
            return annotation
        # before it is compared with the index map
        self.check(image_id, annotation)
        index = self.partition.index_map(self.source, image_id)
        labelled = list(self.labelled[image_id])
        known = np.zeros(max(int(index.max()), *labelled) + 2, dtype=bool)  # the last: pixels of no unit, -1
        known[labelled] = True
        annotation = np.where(known[index], annotation, VOID).astype(np.uint8)
        if (annotation == UNANSWERED).any():
            raise DataError(
                f"units of {image_id!r} are labelled, but {self.annotations.annotation_path(image_id) or 'its mask'} "
                f"holds {UNANSWERED} there, which means that nobody has drawn them; put their part of the mask back"
            )
        return annotation

    def check(self, image_id: str, mask: np.ndarray) -> None:
        """Refuse a mask that is not the image's."""
        where = self.annotations.annotation_path(image_id) or image_id
        check_mask(where, self.source.size(image_id), mask, self.source.num_classes)


def class_index(label: str, names: Sequence[str], image_id: str) -> int:
    """A class as people write it (by its name or index, or "void") as its index, or `VOID`."""
    if label in names:
        return list(names).index(label)
    if label.lower() == "void":
        return VOID
    if label.isdecimal() and (int(label) < len(names) or int(label) == VOID):
        return int(label)
    raise DataError(
        f"expected the label of {image_id!r} to be one of {', '.join(names)} (or 0 to {len(names) - 1}, or void for "
        f"none of them), got {label!r}; correct it"
    )
