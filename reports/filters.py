"""The filters of a network's first convolution, read from a checkpoint as a file of tensors."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.run_directory import RunDirectory

__all__ = ["draw_filters", "filters_table", "read_filters"]

_COLOURS = ("red", "green", "blue")


def read_filters(run_dir: Path) -> tuple[str, np.ndarray]:
    """Read the filters of the last fitted cycle's best weights; no network is made of them.

    Args:
        run_dir: Folder of a fit.

    Returns:
        Name of the first convolution in the checkpoint, and its weights, K x channels x height x width.

    Raises:
        ValueError: No cycle has been fitted, the checkpoint cannot be read, or it has no convolution of images.
    """
    fitted = [cycle for cycle in RunDirectory(run_dir).cycles() if cycle.is_fitted]
    if not fitted:
        raise ValueError(f"expected the weights of a fit below {run_dir}, got none; give the --run_dir of a fit")
    path = fitted[-1].best
    import torch  # takes a second, and only this figure needs it

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    # torch raises what the reader of the day raises: RuntimeError, EOFError, UnpicklingError, KeyError
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__}); fit again") from error
    for name, tensor in tensors.items():
        if name.startswith("network.") and tensor.ndim == 4:
            return name, tensor.float().numpy()
    raise ValueError(f"{path} has no convolution, so no filters; analyse a run whose network begins with one")


def filters_table(weights: np.ndarray) -> pd.DataFrame:
    """The weights as a table.

    Args:
        weights: K x channels x height x width.

    Returns:
        A row for each filter, row and column, with a column for each channel: red, green and blue of three.
    """
    channels = weights.shape[1]
    names = _COLOURS if channels == len(_COLOURS) else [f"channel_{k}" for k in range(channels)]
    count, _, height, width = weights.shape
    place = np.indices((count, height, width)).reshape(3, -1)
    values = weights.transpose(0, 2, 3, 1).reshape(-1, channels)
    return pd.DataFrame(
        dict(zip(("filter", "row", "column"), place, strict=True)) | dict(zip(names, values.T, strict=True))
    )


def draw_filters(weights: np.ndarray, title: str) -> Figure:
    """Draw filters as a grid, each on its own scale from its smallest weight to its largest.

    Args:
        weights: K x channels x height x width; three channels are drawn in colour, others as their mean in grey.
        title: Above the grid.
    """
    count = len(weights)
    columns = math.ceil(math.sqrt(1.5 * count))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(0.55 * columns, 0.55 * rows + 0.5), layout="constrained")
    shown = weights if weights.shape[1] == len(_COLOURS) else weights.mean(axis=1, keepdims=True)
    for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.set_axis_off()
        if k < count:
            pixels = shown[k].transpose(1, 2, 0)
            span = np.ptp(pixels) or 1.0
            axes.imshow((pixels - pixels.min()) / span, cmap="gray", interpolation="nearest")
    figure.suptitle(title, fontsize=8)
    return figure
