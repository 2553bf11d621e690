"""Pictures of scored units: image, prediction, acquisition values and, if known, truth."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from pytorch_lightning.utilities import rank_zero_warn

from acquisition.annotation import UNANSWERED, VOID
from datamodules.datamodule import PoolDataModule
from records.files import write_figure

__all__ = ["class_colours", "draw_ends", "draw_panel", "draw_sheet", "draw_suspect"]

_POINT = 4
"""A region of so few pixels gets a ring around it: nobody would find its outline."""

_LONGEST = 160
"""Most bytes of a unit id in a file name: file systems allow 255, and prefix and temporary names need some."""


def class_colours(num_classes: int) -> np.ndarray:
    """Colours of the classes, the same in every picture of a run.

    Up to ten are those of Petroff 2021, "Accessible color sequences for data visualization", which colour-blind people
    tell apart.

    Args:
        num_classes: Number of classes C.

    Returns:
        RGB values in [0, 1], (C + 1) x 3; the last colour, black, is that of void.
    """
    colours = color_sequences["petroff10" if num_classes <= 10 else "tab20"]
    return np.array([*(colours[i % len(colours)] for i in range(num_classes)), (0, 0, 0)])


def draw_ends(
    folder: Path,
    table: pd.DataFrame,
    saved: Mapping[str, Path],
    count: int,
    values_name: str,
    datamodule: PoolDataModule,
) -> None:
    """Draw the units with the highest and the lowest scores: maps one by one, classified images on one sheet.

    A picture that cannot be drawn gives a warning, because the query must not fail for it.

    Args:
        folder: Folder of the pictures.
        table: The ranked pool: unit_id, score, rank, selected.
        saved: Files with image, prediction and values by unit id (`callbacks.gallery`); only these units are drawn.
        count: How many units of each kind.
        values_name: Name of the acquisition function.
        datamodule: Gives class names, truth and the images' colours.
    """
    # among units with equal scores the gallery keeps those scored first, which need not rank first
    kept = table[table["unit_id"].isin(list(saved))].sort_values(["score", "rank"], ascending=[False, True])
    for end, rows in (("top", kept.head(count)), ("bottom", kept.tail(count)[::-1])):
        with _warned(f"the pictures of the {end} units"):
            found = [(row, _load(saved[row.unit_id])) for row in rows.itertuples()]
            if found and found[0][1]["values"].ndim == 0:
                draw_sheet(folder / f"{end}.png", [_tile(row, sample, datamodule) for row, sample in found])
                continue
            for number, (row, sample) in enumerate(found, start=1):
                mark = "queried" if row.selected else "not queried"
                with _warned(f"the picture of {row.unit_id!r}"):
                    draw_panel(
                        folder / f"{end}-{number}_{_file_name(row.unit_id)}.png",
                        f"{row.unit_id}: score {row.score:.4g}, rank {row.rank} of {len(table)}, {mark}",
                        datamodule.to_display(sample["image"]),
                        sample["prediction"],
                        sample["values"],
                        values_name,
                        datamodule.source.class_names,
                        datamodule.pool.read_truth(row.unit_id),
                        sample["region"],
                    )


def draw_sheet(path: Path, tiles: Sequence[tuple[np.ndarray, str]]) -> None:
    """Draw images on one sheet, each under its caption.

    Args:
        path: The file to write.
        tiles: (image, H x W x 3 uint8, and caption) of each.
    """
    columns = min(len(tiles), 5)
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (image, caption) in zip(axes.flat, tiles, strict=False):
        axis.imshow(image)
        axis.set_title(caption, fontsize=7, parse_math=False)
    write_figure(path, figure)


def draw_panel(
    path: Path,
    title: str,
    image: np.ndarray,
    prediction: np.ndarray,
    values: np.ndarray,
    values_name: str,
    class_names: Sequence[str],
    truth: np.ndarray | None = None,
    region: np.ndarray | None = None,
) -> None:
    """Draw image, prediction, acquisition values and, if known, truth side by side.

    Args:
        path: The file to write.
        title: The figure's title.
        image: H x W x 3 uint8.
        prediction: Predicted classes, H x W.
        values: Acquisition values, H x W, not negative.
        values_name: Name of the acquisition function.
        class_names: One name per class.
        truth: True classes or void, in any size; None if unknown.
        region: The unit's pixels, in any size, to be outlined; None, or 1 x 1, for the whole image.
    """
    colours = class_colours(len(class_names))
    panels = 3 if truth is None else 4
    height = 3.2 * image.shape[0] / image.shape[1] + 1.1
    figure = Figure(figsize=(3.4 * panels, height), layout="constrained")
    axes = figure.subplots(1, panels)
    axes[0].imshow(image)
    axes[1].imshow(_coloured(prediction, colours))
    shown = axes[2].imshow(values, cmap="magma", vmin=0)
    figure.colorbar(shown, ax=axes[2], fraction=0.046, shrink=0.8)
    names = ["image", "prediction", values_name, "truth"]
    if truth is not None:
        axes[3].imshow(_coloured(truth, colours))
    for axis, name in zip(axes, names, strict=False):
        if region is not None and region.size > 1:
            _outline(axis, region)
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    _write(path, figure, title, class_names, colours)


def draw_suspect(
    path: Path,
    title: str,
    image: np.ndarray,
    given: np.ndarray,
    prediction: np.ndarray,
    evidence: np.ndarray,
    class_names: Sequence[str],
    box: Sequence[float],
) -> None:
    """Draw image, given label, prediction and what speaks against the label side by side.

    Args:
        path: The file to write.
        title: The figure's title.
        image: H x W x 3 uint8.
        given: Classes or void, H x W.
        prediction: Predicted classes, H x W.
        evidence: How much speaks against the label, H x W in [0, 1].
        class_names: One name per class.
        box: Top, left, height and width of what is most suspicious, in pixels of the image.
    """
    colours = class_colours(len(class_names))
    figure = Figure(figsize=(13.6, 3.2 * image.shape[0] / image.shape[1] + 1.1), layout="constrained")
    axes = figure.subplots(1, 4)
    shown = (image, _coloured(given, colours), _coloured(prediction, colours), evidence)
    top, left, height, width = box
    for axis, values, name in zip(axes, shown, ("image", "given label", "prediction", "suspicion"), strict=True):
        drawn = axis.imshow(values, cmap="magma", vmin=0, vmax=1)
        for colour, line in (("black", 2.5), ("white", 1.2)):
            corner = (left - 0.5, top - 0.5)
            axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line))
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes[3], fraction=0.046, shrink=0.8)
    _write(path, figure, title, class_names, colours)


def _write(path: Path, figure: Figure, title: str, class_names: Sequence[str], colours: np.ndarray) -> None:
    figure.suptitle(title, fontsize=10, parse_math=False)
    patches = [Patch(color=colours[i], label=name) for i, name in enumerate(class_names)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 8), fontsize=7, frameon=False)
    write_figure(path, figure)


def _outline(axis: Axes, region: np.ndarray) -> None:
    """Draw a line around a region on a picture that may have another size."""
    height, width = axis.images[0].get_size()
    rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), region.shape, strict=True))
    # a border, so that the line is closed where the region meets the picture's edge
    inside = np.pad(region[rows[:, None], columns], 1).astype(float)
    y, x = np.arange(-1, height + 1), np.arange(-1, width + 1)
    for colour, line in (("black", 2.5), ("white", 1.2)):
        axis.contour(x, y, inside, levels=[0.5], colors=colour, linewidths=line)
    if 0 < inside.sum() <= _POINT:
        row, column = np.argwhere(inside).mean(axis=0) - 1
        for colour, line in (("black", 3.0), ("white", 1.5)):
            axis.scatter(column, row, s=150, facecolors="none", edgecolors=colour, linewidths=line)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


@contextmanager
def _warned(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        rank_zero_warn(f"{what} could not be drawn, and the query goes on without: {error}")


def _file_name(unit_id: str) -> str:
    name = unit_id.replace("/", "_")
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.blake2b(unit_id.encode(), digest_size=4).hexdigest()
    return f"{name.encode()[:_LONGEST].decode(errors='ignore')}-{digest}"


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as content:
        return dict(content)


def _tile(row: Any, sample: dict[str, np.ndarray], datamodule: PoolDataModule) -> tuple[np.ndarray, str]:
    truth, names = datamodule.pool.read_truth(row.unit_id), datamodule.source.class_names
    true = "unknown" if truth is None else "none of them" if truth == VOID else names[int(truth)]
    predicted = names[int(sample["prediction"])]
    mark = "queried" if row.selected else "not queried"
    caption = f"{row.unit_id}\n{row.score:.4g}, rank {row.rank}, {mark}\npredicted {predicted}\ntrue {true}"
    return datamodule.to_display(sample["image"]), caption


def _coloured(mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return colours[np.where((mask == VOID) | (mask == UNANSWERED), len(colours) - 1, mask)]
