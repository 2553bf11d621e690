"""The pictures that a cycle keeps of units: what they are called, and the table of which there are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from records.files import read_json, write_json, write_table

__all__ = ["COLUMNS", "KINDS", "GalleryDirectory"]

KINDS = ("queried", "control", "lowest")
"""Units that were queried, others drawn at random, and those with the lowest scores."""

COLUMNS = (
    "number", "unit_id", "image_id", "kind", "score", "rank", "top", "left", "height", "width", "predicted", "truth",
    "classes", "values_name",
)  # fmt: skip
"""Of the table: a row per picture of a unit. rank is 1 for the first choice; the box, in pixels of the image, is empty
for a whole image; predicted and truth are names of classes, where images are classified and these are known. classes is
a JSON list of the names of the classes that were predicted in the unit, most pixels first."""

_TEXTS = ("unit_id", "image_id", "kind", "predicted", "truth", "classes", "values_name")
_REMEDY = "delete its folder: pictures are for people to look at, and nothing depends on them"


@dataclass(frozen=True)
class GalleryDirectory:
    """The files of cycles/NN/gallery. Properties and methods name paths, whether or not the files exist.

    Layers of a unit have one size, so that they can be put on top of each other.

    Args:
        path: The folder (`CycleDirectory.gallery`).
    """

    path: Path

    @property
    def units(self) -> Path:
        """Table of the units; written last, so its presence means that the pictures are complete."""
        return self.path / "units.csv"

    @property
    def about(self) -> Path:
        """What all pictures have in common: name and largest of the values, classes and their colours."""
        return self.path / "about.json"

    def thumb(self, number: int) -> Path:
        """A small picture with the unit's outline; written last of a unit's files."""
        return self._file(number, "thumb.jpg")

    def image(self, number: int) -> Path:
        """The unit's image."""
        return self._file(number, "image.jpg")

    def prediction(self, number: int) -> Path:
        """Predicted classes in their colours."""
        return self._file(number, "prediction.png")

    def uncertainty(self, number: int) -> Path:
        """Acquisition values, from 0 to the largest of the cycle."""
        return self._file(number, "uncertainty.png")

    def truth(self, number: int) -> Path:
        """True classes, or what people have drawn, in their colours."""
        return self._file(number, "truth.png")

    def region(self, number: int) -> Path:
        """The unit's outline, where it is part of an image."""
        return self._file(number, "region.png")

    def read_units(self) -> pd.DataFrame:
        """The table of the units, or none of its rows where there is none."""
        if not self.units.is_file():
            return pd.DataFrame(columns=list(COLUMNS))
        # ids and classes may look like numbers, and like nothing: "1", "NA"
        return pd.read_csv(self.units, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False, na_values=[""]).fillna(
            dict.fromkeys(_TEXTS, "")
        )

    def write_units(self, table: pd.DataFrame) -> None:
        """Write the table of the units.

        Args:
            table: With columns of `COLUMNS`; those that it lacks are empty.
        """
        write_table(self.units, table.reindex(columns=list(COLUMNS)))

    def read_about(self) -> dict[str, Any]:
        """What all pictures have in common; empty where nothing is said."""
        return read_json(self.about, _REMEDY) if self.about.is_file() else {}

    def write_about(self, content: dict[str, Any]) -> None:
        """Say what all pictures have in common.

        Args:
            content: As JSON has it.
        """
        write_json(self.about, content)

    def _file(self, number: int, name: str) -> Path:
        return self.path / f"{number:05d}_{name}"
