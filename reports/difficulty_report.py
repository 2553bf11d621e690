"""The text of the report on predicted and measured difficulty: what the numbers show, and what they do not."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

__all__ = ["combinations_text", "comparison_text", "report_text"]


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
        "given group": "spearman_given_group",
        "given both": "spearman_given_group_and_size",
        "AUROC of pixels": "auroc_pooled",
    }
    table = comparison[["predictor", "kind", "images"]].copy()
    for title, column in shown.items():
        if column not in comparison:
            continue
        table[title] = [_interval(row, column) for _, row in comparison.iterrows()]
    return str(table.to_string(index=False))


def combinations_text(combinations: pd.DataFrame) -> str:
    """Format the combined predictors as a table for a terminal: statistic [95% interval].

    Args:
        combinations: From `reports.difficulty_combinations.compare_combinations`.
    """
    table = combinations[["combination", "held_out", "images"]].copy()
    for title, column in (("Spearman, held out", "spearman"), ("Spearman - area's", "spearman_minus_area")):
        table[title] = [_interval(row, column) for _, row in combinations.iterrows()]
    return str(table.to_string(index=False))


def report_text(tables: Mapping[str, pd.DataFrame], images: int, draws: int) -> str:
    """Write the text of report.md: every predictor's result, and what it does not show.

    Args:
        tables: By the names of their files (`reports.difficulty.write_difficulty_report`), and networks if it is known
            how good they are.
        images: Number of images.
        draws: Number of the bootstrap's resamples.
    """
    correlations, pixels = tables["correlations"], tables["pixels"]
    precision, calibration = tables["precision_at_k"], tables["calibration"]
    blocks = [
        "# Predicted and measured annotation difficulty",
        f"{images} images. Square brackets: 95 % BCa bootstrap intervals over {draws} resamples of the images "
        "(percentile intervals where BCa is undefined). They hold for each number alone, not for the "
        "best of several. Whatever came out is reported as it is.",
        *_networks(tables.get("networks")),
    ]
    for target, rows in correlations.groupby("target", sort=False):
        blocks += [f"## {_plain(target)}", "\n".join(f"- {_sentence(row)}" for _, row in rows.iterrows())]
        if target == "difficulty":
            blocks += [_ceiling(rows)]
    blocks += [
        "The best trivial predictor is the better of predicted area and predicted boundary length on these same "
        "images, turned round (small is hard) where that is better; both favour it. "
        "`Given size`: the correlation of what a linear fit on both leaves.",
        *_parts(tables["parts"]),
        *_combinations(tables["combinations"]),
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
    return f"{text} {against}; {left}.{_given_group(row)}"


def _given_group(row: pd.Series) -> str:
    if "spearman_given_group" not in row:
        return ""
    found = _verdict(
        row, "spearman_given_group_and_size", "says something that neither says", "goes against the difficulty then",
        "not shown to say more than both",
    )  # fmt: skip
    return f" Given the group {_interval(row, 'spearman_given_group')}. {found}."


def _networks(networks: pd.DataFrame | None) -> list[str]:
    if networks is None:
        return []
    lines = []
    for name, rows in networks.groupby("network", sort=False):
        own, most = (_mean(rows[f"iou_with_{whose}"], rows[f"images_{whose}"]) for whose in ("own", "majority"))
        folds = ", ".join(f"{v:.2f}" for v in rows["iou_with_majority"])
        theirs = "" if np.isnan(own) else f"; {own:.2f} with that person's own masks"
        lines.append(f"- {name}: IoU {most:.2f} with the majority of people (by fold {folds}){theirs}")
    return ["## Have the networks learned? Images that they did not train on", "\n".join(lines)]


def _mean(scores: pd.Series, images: pd.Series) -> float:
    """A mean over images from those of folds; NaN without any."""
    return float((scores * images).sum() / images.sum()) if images.sum() else float("nan")


def _parts(parts: pd.DataFrame) -> list[str]:
    if parts.empty:
        return []
    blocks = ["## Within groups and folds: Spearman with the difficulty"]
    for part, rows in parts.groupby("part", sort=False):
        names = list(dict.fromkeys(rows["name"]))
        sizes = rows.groupby("name")["images"].max()
        lines = [f"| predictor | {' | '.join(f'{part} {n} ({sizes[n]} images)' for n in names)} |"]
        lines += ["|---" * (len(names) + 1) + "|"]
        for predictor, of in rows[rows["predictor"] != "constant"].groupby("predictor", sort=False):
            cells = {r["name"]: _interval(r, "spearman") for _, r in of.iterrows()}
            lines.append(f"| {_plain(predictor)} | {' | '.join(cells.get(n, '') for n in names)} |")
        blocks.append("\n".join(lines))
    return blocks


def _combinations(combinations: pd.DataFrame) -> list[str]:
    if combinations.empty:
        return []
    lines = []
    for _, row in combinations[combinations["held_out"] == "all"].iterrows():
        said = f"- {row['combination']}: Spearman {_interval(row, 'spearman')}"
        if row["combination"] != "area":
            said += ". " + _verdict(
                row, "spearman_minus_area", "better than area alone", "worse than area alone",
                "not shown to differ from area alone",
            )  # fmt: skip
        lines.append(said)
    return [
        "## Combined predictors, on images that they were not fitted on",
        "\n".join(lines),
        "A linear regression of ranks, fitted for every fold on the images of the other folds. The intervals are over "
        "the held-out images, for the regressions as they were fitted.",
    ]


def _verdict(row: pd.Series, column: str, above: str, below: str, neither: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    words = above if low > 0 else below if high < 0 else neither
    label = {"spearman_given_size": "Given size", "spearman_given_group_and_size": "Given group and size"}.get(
        column, "Difference"
    )
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
