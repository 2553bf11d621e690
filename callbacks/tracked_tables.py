"""What Weights & Biases shows of a cycle, from the files that the cycle has left."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from acquisition.annotation import VOID
from records.gallery import GalleryDirectory
from records.run_directory import CycleDirectory

if TYPE_CHECKING:
    import wandb

__all__ = ["as_table", "class_scores", "labelled_classes", "queried_units"]

_TEXTS = ("name", "unit_id", "path", "image_id", "action", "reason")


def queried_units(cycle: CycleDirectory, images: int) -> "wandb.Table":
    """Make the table of the queried units: the rows of queried.csv, the first ones with their pictures.

    Args:
        cycle: A cycle that is queried.
        images: How many rows get pictures at most, highest ranks first.

    Returns:
        The columns of queried.csv, then predicted and truth (classes of classified images), image (with the masks
        "predictions" and "ground_truth" on it) and uncertainty; None where the cycle has left no picture.
    """
    import wandb

    queried = pd.read_csv(cycle.queried, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
    shown = _shown(cycle, images)
    columns = ["predicted", "truth", "image", "uncertainty"]
    rows = queried.astype(object).to_numpy().tolist()
    rows = [
        [*row, *(shown.get(int(rank), dict.fromkeys(columns))[c] for c in columns)]
        for row, rank in zip(rows, queried["rank"], strict=True)
    ]
    # some units have a truth and others have none, which W&B takes for two kinds of image
    return wandb.Table([*queried.columns, *columns], rows, allow_mixed_types=True)


def as_table(table: pd.DataFrame) -> "wandb.Table":
    """Make a table of W&B; missing values are empty cells."""
    import wandb

    rows = table.astype(object).where(table.notna(), None)
    return wandb.Table(list(rows.columns), rows.to_numpy().tolist())


def class_scores(row: dict[str, Any]) -> pd.DataFrame:
    """The scores of each class.

    Args:
        row: A cycle's metrics.json.

    Returns:
        class, and a column for every score that classes have; empty where they have none.
    """
    scores: dict[str, dict[str, float]] = {}
    for key, value in row.items():
        split, _, rest = key.partition("/")
        metric, _, name = rest.partition("/")
        if split == "val" and name:
            scores.setdefault(name, {})[metric] = value
    return pd.DataFrame([{"class": name, **of_class} for name, of_class in scores.items()])


def labelled_classes(cycle: CycleDirectory) -> pd.DataFrame:
    """How much of each class is labelled: class, and counts; empty where the cycle has not left them."""
    path = cycle.labelled_classes
    return pd.read_csv(path, dtype={"class": str}, keep_default_na=False) if path.is_file() else pd.DataFrame()


def _shown(cycle: CycleDirectory, images: int) -> dict[int, dict[str, Any]]:
    """Further columns of the units that are shown, by rank."""
    gallery = GalleryDirectory(cycle.gallery)
    units = gallery.read_units()
    units = units[units["kind"] == "queried"].sort_values("rank").head(images)
    names = {number: str(found["name"]) for number, found in enumerate(gallery.read_about().get("classes", ()))}
    return {
        int(unit.rank): {
            "predicted": unit.predicted or None,
            "truth": unit.truth or None,
            **_pictures(gallery, int(unit.number), names),
        }
        for unit in units.itertuples()
    }


def _pictures(gallery: GalleryDirectory, number: int, names: dict[int, str]) -> "dict[str, wandb.Image | None]":
    """A unit's image with its masks, and its uncertainty; None where there is no file."""
    import wandb

    image, uncertainty = gallery.image(number), gallery.uncertainty(number)
    shown: dict[str, wandb.Image | None] = dict.fromkeys(("image", "uncertainty"))
    if image.is_file():
        with Image.open(image) as opened:
            size = opened.size
        layers = {"predictions": gallery.prediction(number), "ground_truth": gallery.truth(number)}
        labels = {**names, VOID: "void"}
        masks = {
            name: {"mask_data": _mask(path, size, len(names)), "class_labels": labels}
            for name, path in layers.items()
            if path.is_file()
        }
        shown["image"] = wandb.Image(str(image), masks=masks or None)
    if uncertainty.is_file():
        shown["uncertainty"] = wandb.Image(str(uncertainty))
    return shown


def _mask(path: Path, size: tuple[int, int], classes: int) -> np.ndarray:
    """The classes of a picture whose palette they are, VOID for what is none."""
    with Image.open(path) as opened:
        mask = np.asarray(opened if opened.size == size else opened.resize(size, Image.Resampling.NEAREST))
    return np.where(mask < classes, mask, VOID).astype(np.uint8)
