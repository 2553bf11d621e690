"""The page of predicted and measured difficulty: the ranking of images with small pictures, tables and figures."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from records.files import replacing
from records.run_directory import RunDirectory
from reports.page.frame import bring_file, write_page
from reports.page.tables import PageTable, as_text, page_table
from reports.sections import Section

__all__ = ["STRIP", "StripWriter", "difficulty_sections", "ranking", "write_difficulty_page"]

STRIP = ("annotator_variance", "ensemble_variance")
"""Maps that a small picture shows beside the image, in this order."""

_SIDE, _BRIGHTEST = 120, 0.25
"""Height of a small picture, in pixels, and the variance that is brightest in it: that of a coin."""

_KEPT = (
    "predictor", "kind", "images", "spearman", "spearman_low", "spearman_high", "pearson", "spearman_minus_trivial",
    "spearman_given_size", "spearman_given_group", "spearman_given_group_and_size",
)  # fmt: skip


class StripWriter:
    """Writes a small picture per image beside the page: image, variance of people, variance of networks.

    Args:
        folder: Where; what was there of an earlier report is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.addresses: list[str] = []
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, stored: Mapping[str, np.ndarray]) -> None:
        """Write the picture of the next image.

        Args:
            stored: The content of predictions/NAME.npz.
        """
        name = f"{len(self.addresses):05d}.jpg"
        tiles = [_grey_or_rgb(stored["image"])]
        for key in STRIP:
            shares = np.nan_to_num(stored[key].astype(np.float32)) / _BRIGHTEST
            tiles.append((colormaps["magma"](shares.clip(0, 1))[..., :3] * 255).round().astype(np.uint8))
        height, width = tiles[0].shape[:2]
        size = (max(1, round(width * _SIDE / height)), _SIDE)
        small = [np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BILINEAR)) for tile in tiles]
        with replacing(self.folder / name) as beside:
            Image.fromarray(np.concatenate(small, axis=1)).save(beside, quality=80)
        self.addresses.append(quote(f"{self.folder.name}/{name}"))


def ranking(images: pd.DataFrame, judge: str = "total") -> pd.DataFrame:
    """The images, the hardest first.

    Args:
        images: Rows of images.csv.
        judge: The predictor that ranks them.

    Returns:
        image, group and fold where they are known, the measured difficulty, its rank and that of the prediction (1 is
        the hardest), how far the two are apart, and the predictors that are read most.
    """
    table = images.sort_values("difficulty", ascending=False, kind="stable")
    ranks = {"rank": table["difficulty"], "predicted_rank": table[judge]}
    table = table.assign(**{name: c.rank(ascending=False, method="min").astype(int) for name, c in ranks.items()})
    table = table.assign(apart=(table["rank"] - table["predicted_rank"]).abs())
    kept = [
        "image", "group", "fold", "annotators", "difficulty", "rank", "predicted_rank", "apart", judge,
        "ensemble_variance", "epistemic", "aleatoric", "predicted_area", "mean_pairwise_iou",
    ]  # fmt: skip
    return table[[name for name in kept if name in table]]


def difficulty_sections(tables: Mapping[str, pd.DataFrame]) -> list[Section]:
    """The report's parts, in the order of their importance.

    Args:
        tables: By the names of their files (`reports.difficulty.write_difficulty_report`), and networks.
    """
    stated = tables["correlations"]
    stated = stated[stated["target"] == "difficulty"]
    others = tables["correlations"][tables["correlations"]["target"] != "difficulty"]
    sections = [
        Section(
            "predictors", "What predicts difficulty",
            "Correlations over images with what people measured, 95% intervals. minus trivial: the difference to the "
            "better of predicted area and outline; given size: what is left once both are known.",
            stated[[c for c in _KEPT if c in stated]], "intervals.png", "Spearman's correlations with their intervals",
            shaded=["spearman"],
        ),
        Section("scatter", "Image by image", figure="scatter.png", caption="measured difficulty over each predictor"),
        Section(
            "combinations", "Combined predictors",
            "Regressions of ranks, each judged on images that it was not fitted on.", tables["combinations"],
        ),
        Section(
            "pixels", "Pixels: do people disagree here?",
            "How well each map tells pixels on which people disagree from others; boundary nearness knows only where "
            "the predicted outline runs.", tables["pixels"],
        ),
        Section(
            "hardest", "Among the hardest images", "Which share of the hardest images a predictor finds.",
            tables["precision_at_k"],
        ),
        Section(
            "calibration", "Predicted variance as a number", "On the diagonal, prediction and measurement agree.",
            tables["calibration"].drop_duplicates("predictor")[["predictor", "ece", "ece_low", "ece_high"]],
            "calibration.png", "measured over predicted variance",
        ),
        Section("parts", "Within groups and folds", table=tables["parts"]),
        Section(
            "targets", "Other measures of difficulty", table=others[[c for c in ("target", *_KEPT) if c in others]],
        ),
        Section("networks", "Have the networks learned?", "On images that they did not train on.",
                tables.get("networks", pd.DataFrame())),
    ]  # fmt: skip
    return [section for section in sections if section.figure or len(section.table)]


def write_difficulty_page(
    run_dir: Path, images: pd.DataFrame, strips: Sequence[str], tables: Mapping[str, pd.DataFrame]
) -> Path:
    """Write report/index.html of a comparison of difficulty, and bring its figures beside it.

    Args:
        run_dir: Run directory of the verb difficulty.
        images: Rows of images.csv.
        strips: Addresses of the images' small pictures, from `StripWriter`.
        tables: By the names of their files, and networks.

    Returns:
        The page.

    Raises:
        RunDirectoryError: A file could not be written.
    """
    run = RunDirectory(run_dir)
    sections = difficulty_sections(tables)
    for section in sections:
        if section.figure:
            bring_file(run.difficulty / section.figure, run.report)
    beside = run.report_strips.name
    panels = [
        (f"{beside}/{bring_file(panel, run.report_strips)}", panel.stem.replace("_", " "))
        for panel in _panels(run.difficulty)
    ]
    ranked = ranking(images)
    addresses = pd.Series(list(strips), index=images.index)[ranked.index]
    write_page(
        run.report_page,
        "difficulty.html",
        title=run_dir.absolute().name,
        kind="difficulty",
        tiles=_tiles(images, tables),
        ranking=page_table(
            ranked,
            titles={str(c): str(c).replace("_", " ") for c in ranked},
            shaded=["difficulty"],
            pictures={"image": addresses.tolist()},
        ),
        sections=[(s, _content(s) if len(s.table) else None) for s in sections],
        panels=panels,
    )
    return run.report_page


def _content(section: Section) -> PageTable:
    table = section.table.dropna(axis=1, how="all")
    named = [c for c in ("predictor", "map", "target") if c in table]
    table = table.assign(**{c: table[c].astype(str).str.replace("_", " ") for c in named})
    titles = {str(c): str(c).replace("_", " ") for c in table}
    return page_table(table, shaded=section.shaded, titles=titles, digits=3)


def _panels(folder: Path) -> list[Path]:
    order = {"hardest": 0, "misjudged": 1, "easiest": 2}
    return sorted((folder / "panels").glob("*.png"), key=lambda p: (order.get(p.name.partition("_")[0], 3), p.name))


def _tiles(images: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str, str]]:
    stated = tables["correlations"]
    predictors = stated[(stated["target"] == "difficulty") & (stated["kind"] == "predictor")].dropna(subset="spearman")
    tiles = [("images", as_text(len(images)), "")]
    if len(predictors):
        best = predictors.loc[predictors["spearman"].idxmax()]
        words = f"{best['predictor']}, [{best['spearman_low']:.2f}, {best['spearman_high']:.2f}]".replace("_", " ")
        tiles.append(("highest Spearman correlation", f"{best['spearman']:.2f}", words))
    trivial = stated[(stated["target"] == "difficulty") & (stated["predictor"] == "predicted_area")]
    if len(trivial) and np.isfinite(trivial["spearman"].iloc[0]):
        tiles.append(("of predicted area alone", f"{trivial['spearman'].iloc[0]:.2f}", "the larger, the harder"))
    pixels = tables["pixels"].dropna(subset="auroc_pooled")
    if len(pixels):
        best = pixels.loc[pixels["auroc_pooled"].idxmax()]
        tiles.append(("highest AUROC of pixels", f"{best['auroc_pooled']:.2f}", str(best["map"]).replace("_", " ")))
    return tiles


def _grey_or_rgb(image: np.ndarray) -> np.ndarray:
    shown = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(shown).astype(np.uint8)
