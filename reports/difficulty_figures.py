"""Figures on predicted and measured difficulty: scatter plots, calibration, and maps side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from records.files import write_figure

__all__ = [
    "choose_images",
    "draw_calibration",
    "draw_chosen_images",
    "draw_intervals",
    "draw_scatter",
    "draw_variance_maps",
]

_CONDITIONS = {
    "spearman": "all images",
    "spearman_given_group": "given the group",
    "spearman_given_group_and_size": "given group and size",
}

_VARIANCE_MAPS = {
    "ensemble_variance": "variance of the networks",
    "epistemic": "MC dropout variance",
    "aleatoric": "aleatoric p(1 - p)",
    "annotator_variance": "variance of the annotators",
}


def draw_scatter(images: pd.DataFrame, correlations: pd.DataFrame, predictors: Sequence[str], path: Path) -> None:
    """Draw measured difficulty over each predictor, with the least-squares line and Pearson's r, as in Wilhelmsson.

    Args:
        images: Rows of images.csv.
        correlations: From `reports.difficulty_correlations.compare_images`.
        predictors: Columns of `images`, a panel each.
        path: The file to write.
    """
    rows = -(-len(predictors) // 4)
    figure = Figure(figsize=(14, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False).ravel()
    stated = correlations[correlations["target"] == "difficulty"].set_index("predictor")
    for axes, name in zip(grid, predictors, strict=False):
        x, y = images[name].to_numpy(float), images["difficulty"].to_numpy(float)
        axes.scatter(x, y, s=14, alpha=0.7, linewidths=0)
        row = stated.loc[name]
        if np.isfinite(row["pearson"]):
            slope, offset = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, slope * ends + offset, color="C1")
            axes.set_title(
                f"r = {row['pearson']:.2f} [{row['pearson_low']:.2f}, {row['pearson_high']:.2f}]", fontsize=10
            )
        else:
            axes.set_title("r undefined", fontsize=10)
        axes.set_xlabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    for axes in grid[len(predictors) :]:
        axes.remove()
    figure.supylabel("measured difficulty")
    write_figure(path, figure)


def draw_intervals(correlations: pd.DataFrame, combinations: pd.DataFrame, path: Path) -> None:
    """Draw Spearman's correlation of every predictor and combination with the difficulty, with their intervals.

    Predicted area and the ceiling are bands, because they are what a predictor is held against.

    Args:
        correlations: From `reports.difficulty_correlations.compare_images`.
        combinations: From `reports.difficulty_combinations.compare_combinations`.
        path: The file to write.
    """
    stated = correlations[(correlations["target"] == "difficulty") & correlations["spearman"].notna()]
    rows = stated[~stated["kind"].isin(["ceiling"])].rename(columns={"predictor": "name"})
    if len(combinations):
        together = combinations[combinations["held_out"] == "all"]
        rows = pd.concat([rows, together.assign(name="held out: " + together["combination"])], ignore_index=True)
    figure = Figure(figsize=(8, 1.4 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("predicted_area", "C1"), ("repeat_difficulty", "C2")):
        for _, row in stated[stated["predictor"] == name].iterrows():
            axes.axvspan(row["spearman_low"], row["spearman_high"], color=colour, alpha=0.12, linewidth=0)
            label = "ceiling: second drawings" if row["kind"] == "ceiling" else str(name).replace("_", " ")
            axes.axvline(row["spearman"], color=colour, linewidth=1, label=label)
    places = -np.arange(len(rows), dtype=float)
    for k, (column, label) in enumerate(_CONDITIONS.items()):
        if column in rows:
            values, low, high = (rows[f"{column}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
            there = np.isfinite(values)
            y = (places - 0.2 * k)[there]
            axes.hlines(y, low[there], high[there], color=f"C{(0, 3, 4)[k]}", linewidth=1.2)
            axes.plot(values[there], y, "osD"[k], color=f"C{(0, 3, 4)[k]}", markersize=4, label=label)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(places, rows["name"].str.replace("_", " "))
    axes.set_xlabel("Spearman's correlation with measured difficulty, 95 % intervals")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    write_figure(path, figure)


def draw_calibration(calibration: pd.DataFrame, path: Path) -> None:
    """Draw mean measured over mean predicted variance per bin; on the diagonal they agree.

    Args:
        calibration: From `reports.pixel_agreement.PixelSums.calibration`.
        path: The file to write.
    """
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    limit = 1.05 * calibration[["mean_predicted", "mean_measured"]].to_numpy().max()
    axes.plot([0, limit], [0, limit], color="grey", linestyle="--", linewidth=1, label="calibrated")
    for name, rows in calibration.groupby("predictor", sort=False):
        label = f"{str(name).replace('_', ' ')}: error {rows['ece'].iloc[0]:.4f}"
        axes.plot(rows["mean_predicted"], rows["mean_measured"], marker="o", markersize=4, label=label)
    axes.set_xlabel("predicted variance")
    axes.set_ylabel("variance of the annotators")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_figure(path, figure)


def choose_images(images: pd.DataFrame, number: int, judge: str = "total") -> list[tuple[str, str]]:
    """Choose images to draw: the hardest, the easiest, and those whose rank was predicted worst.

    Args:
        images: Rows of images.csv.
        number: How many of each kind.
        judge: The predictor that ranks the images.

    Returns:
        (kind and number, image) of each.
    """
    measured, predicted = images["difficulty"].rank(), images[judge].rank()
    by_difficulty = images.loc[measured.sort_values(ascending=False, kind="stable").index, "image"].tolist()
    off = (measured - predicted).abs().sort_values(ascending=False, kind="stable")
    groups = {
        "hardest": by_difficulty[:number],
        "easiest": by_difficulty[::-1][:number],
        "misjudged": images.loc[off.index, "image"].tolist()[:number],
    }
    return [(f"{why}_{rank}", name) for why, names in groups.items() for rank, name in enumerate(names, 1)]


def draw_chosen_images(
    images: pd.DataFrame, files: dict[str, Path], folder: Path, number: int, judge: str = "total"
) -> None:
    """Draw the chosen images, each with every network's output and the predicted and measured variances.

    Pictures of an earlier report are removed.

    Args:
        images: Rows of images.csv.
        files: Predictions by image.
        folder: Folder of the pictures.
        number: How many images of each kind (see `choose_images`).
        judge: The predictor that ranks the images.
    """
    if folder.is_dir():
        for old in folder.glob("*.png"):
            old.unlink()
    table = images.set_index("image")
    for why, name in choose_images(images, number, judge):
        row = table.loc[name]
        title = f"{name}: difficulty {row['difficulty']:.4g}, {judge} uncertainty {row[judge]:.4g}"
        with np.load(files[name]) as stored:
            figure = draw_variance_maps(stored, title)
        write_figure(folder / f"{why}_{name.replace('/', '_')}.png", figure)


def draw_variance_maps(stored: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw one image's maps side by side.

    Args:
        stored: The content of predictions/NAME.npz.
        title: The figure's title.
    """
    outputs, top = stored["member_probabilities"].astype(np.float32), 1.0
    if outputs.ndim > 3:  # more than two classes: show the predicted one
        outputs, top = outputs.argmax(axis=1), outputs.shape[1] - 1.0
    tiles: list[tuple[str, np.ndarray, str, float | None]] = [("image", stored["image"], "grey", None)]
    tiles += [(f"network {n}", m, "grey", top) for n, m in zip(stored["members"], outputs, strict=True)]
    tiles += [(label, stored[key], "magma", None) for key, label in _VARIANCE_MAPS.items()]
    columns = min(6, len(tiles))
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (label, values, colours, scale) in zip(grid, tiles, strict=False):
        # a map of zeros needs a scale as well
        highest = scale or float(np.nanmax(values, initial=0)) or 1.0
        picture = axes.imshow(values, cmap=colours, **({} if label == "image" else {"vmin": 0, "vmax": highest}))
        axes.set_title(label, fontsize=9)
        if label != "image":
            figure.colorbar(picture, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    for axes in grid:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure
