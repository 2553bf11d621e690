"""The text of the report on predicted and measured difficulty: what the numbers show, and what they do not."""

import numpy as np
import pandas as pd

__all__ = ["comparison_text", "report_text"]


def comparison_text(comparison: pd.DataFrame) -> str:
    """Format the comparison as a table for a terminal: statistic [95% interval].

    Args:
        comparison: From `reports.difficulty.write_difficulty_report`.
    """
    shown = {
        "Spearman": "spearman",
        "Pearson": "pearson",
        "Spearman - best trivial": "spearman_minus_trivial",
        "Spearman given size": "spearman_given_size",
        "AUROC of pixels": "auroc_pooled",
    }
    table = comparison[["predictor", "kind", "images"]].copy()
    for title, column in shown.items():
        table[title] = [_interval(row, column) for _, row in comparison.iterrows()]
    return str(table.to_string(index=False))


def report_text(
    correlations: pd.DataFrame,
    pixels: pd.DataFrame,
    precision: pd.DataFrame,
    calibration: pd.DataFrame,
    images: int,
    draws: int,
) -> str:
    """Write the text of report.md: every predictor's result, and what it does not show.

    Args:
        correlations: From `reports.difficulty.compare_images`.
        pixels: From `reports.pixel_agreement.PixelSums.table`.
        precision: From `reports.difficulty.precision_at_k`.
        calibration: From `reports.pixel_agreement.PixelSums.calibration`.
        images: Number of images.
        draws: Number of the bootstrap's resamples.
    """
    blocks = [
        "# Predicted and measured annotation difficulty",
        f"{images} images. Square brackets: 95 % BCa bootstrap intervals over {draws} resamples of the images "
        "(percentile intervals where BCa is undefined). They hold for each number alone, not for the "
        "best of several. Whatever came out is reported as it is.",
    ]
    for target, rows in correlations.groupby("target", sort=False):
        blocks += [f"## {_plain(target)}", "\n".join(f"- {_sentence(row)}" for _, row in rows.iterrows())]
        if target == "difficulty":
            blocks += [_ceiling(rows)]
    blocks += [
        "The best trivial predictor is the better of predicted area and predicted boundary length on these same "
        "images, turned round (small is hard) where that is better; both favour it. "
        "`Given size`: the correlation of what a linear fit on both leaves.",
        "## Pixels: do people disagree here?",
        "\n".join(
            f"- {_plain(r['map'])}: AUROC {_interval(r, 'auroc_pooled')} over all pixels, "
            f"{_interval(r, 'auroc_mean')} in the mean over {r['images_with_auroc']} images; Pearson with the "
            f"annotators' variance {_interval(r, 'pearson_pooled')}"
            for _, r in pixels.iterrows()
        ),
        "`boundary nearness` is the trivial map: it knows only where the predicted outline runs.",
        "## Among the hardest images",
        "\n".join(
            f"- {_plain(r['predictor'])}: {r['precision']:.2f} [{r['low']:.2f}, {r['high']:.2f}] of the {r['k']} "
            f"hardest (chance: {r['chance']:.2f})"
            for _, r in precision[precision["target"] == "difficulty"].iterrows()
        ),
        "## Predicted variance as a number",
        "\n".join(
            f"- {_plain(r['predictor'])}: {r['ece']:.4f} [{r['ece_low']:.4f}, {r['ece_high']:.4f}] expected "
            "calibration error, in units of variance"
            for _, r in calibration.drop_duplicates("predictor").iterrows()
        ),
    ]
    return "\n\n".join(b for b in blocks if b) + "\n"


def _sentence(row: pd.Series) -> str:
    name = _plain(row["predictor"])
    if np.isnan(row["spearman"]):
        return (
            f"{name} ({row['kind']}): no correlation is defined, because it or the target is the same for all images."
        )
    text = (
        f"{name} ({row['kind']}): Spearman {_interval(row, 'spearman')}, Pearson {_interval(row, 'pearson')} on "
        f"{row['images']} images."
    )
    if row["kind"] != "predictor":
        return text
    trivial = _plain(row["spearman_best_trivial"])
    against = _verdict(
        row, "spearman_minus_trivial", f"better than {trivial}", f"worse than {trivial}",
        f"not shown to differ from {trivial}",
    )  # fmt: skip
    left = _verdict(
        row, "spearman_given_size", "says something that size does not",
        "goes against the difficulty once size is known",
        "not shown to say more than size",
    )  # fmt: skip
    return f"{text} {against}; {left}."


def _verdict(row: pd.Series, column: str, above: str, below: str, neither: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    words = above if low > 0 else below if high < 0 else neither
    label = "Given size" if column.endswith("given_size") else "Difference"
    return f"{label} {_interval(row, column)}: {words}"


def _ceiling(rows: pd.DataFrame) -> str:
    ceiling = rows[rows["kind"] == "ceiling"]
    if ceiling.empty:
        return (
            "There are no second drawings by the same people, so how well difficulty could be predicted is not known."
        )
    row = ceiling.iloc[0]
    text = (
        f"The same people's second drawings agree with the first as far as Pearson {_interval(row, 'pearson')} on "
        f"{row['images']} images: the measured difficulty itself is no more repeatable than that."
    )
    if row["pearson"] > 0:
        text += (
            f" A predictor without any noise could reach its square root, {np.sqrt(row['pearson']):.2f}, if both "
            "drawings were equally noisy (Spearman 1904)."
        )
    return text


def _interval(row: pd.Series, column: str) -> str:
    value, low, high = row[column], row[f"{column}_low"], row[f"{column}_high"]
    return "undefined" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _plain(name: object) -> str:
    return str(name).replace("_", " ")
