"""Pictures of queried units: what the network saw, said, doubted, and what is true."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from datamodules.files import replacing
from datamodules.transforms import IMAGENET_MEAN, IMAGENET_STD
from datamodules.units import VOID

__all__ = ["class_colours", "draw_panel", "to_display"]


def class_colours(num_classes: int) -> np.ndarray:
    """Colours in [0, 1], (num_classes + 1) x 3: the same for every picture of a run; the last, black, is void."""
    table = colormaps["tab10" if num_classes <= 10 else "tab20"]
    return np.array([*(table(i % table.N)[:3] for i in range(num_classes)), (0, 0, 0)])


def to_display(image: np.ndarray) -> np.ndarray:
    """A normalised 3 x H x W image to H x W x 3, uint8."""
    pixels = image.transpose(1, 2, 0) * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)
    return (pixels * 255).round().clip(0, 255).astype(np.uint8)


def draw_panel(
    path: Path,
    title: str,
    image: np.ndarray,
    prediction: np.ndarray,
    values: np.ndarray,
    values_name: str,
    class_names: Sequence[str],
    truth: np.ndarray | None = None,
) -> None:
    """Draw image, prediction, acquisition map and, where it exists, truth, side by side.

    image: H x W x 3 uint8; prediction and values: H x W; truth: h x w class indices, of any size.
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
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    patches = [Patch(color=colours[i], label=name) for i, name in enumerate(class_names)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 8), fontsize=7, frameon=False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)


def _coloured(mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return colours[np.where(mask == VOID, len(colours) - 1, mask)]
