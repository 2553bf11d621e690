"""Correlations within parts and given what is known, against fits of least squares and cases worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.difficulty_correlations import PREDICTORS, TRIVIAL, compare_images, compare_parts
from reports.intervals import Resampling

FEW = Resampling(draws=20)


def table(difficulty: list[float], total: list[float], group: list[str] | None = None) -> pd.DataFrame:
    """Rows of images.csv, in which all predictors but total are noise."""
    rng, number = np.random.default_rng(0), len(difficulty)
    noise = {name: rng.uniform(1, 2, number) for name in (*PREDICTORS, *TRIVIAL)}
    columns = {"image": [str(k) for k in range(number)], "fold": [k % 2 for k in range(number)]}
    columns |= {"difficulty": difficulty, **noise, "total": total, "constant": 1.0}
    return pd.DataFrame(columns | ({} if group is None else {"group": group}))


def left(values: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    design = np.stack([np.ones(len(values)), *given], axis=1)
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])


def test_a_correlation_that_the_groups_turn_round() -> None:
    # within both groups the predictor falls where the difficulty rises; over both it rises
    images = table([1.0, 2, 3, 11, 12, 13], [3.0, 2, 1, 13, 12, 11], list("aaabbb"))
    row = compare_images(images, FEW).set_index("predictor").loc["total"]
    assert row["spearman"] == pytest.approx(stats.spearmanr(images["difficulty"], images["total"])[0])
    assert row["spearman"] > 0.5
    assert row["pearson_given_group"] == pytest.approx(-1)
    assert row["spearman_given_group"] == pytest.approx(-1)


def test_partial_correlations_are_those_of_what_fits_leave() -> None:
    rng = np.random.default_rng(1)
    measured, group = rng.normal(size=30), np.array(list("abc") * 10)
    images = table(measured.tolist(), (measured + rng.normal(size=30) + (group == "b")).tolist(), group.tolist())
    found = compare_images(images, FEW).set_index("predictor")
    size = [images[c].to_numpy() for c in ("predicted_area", "predicted_boundary_length")]
    known = [(group == g).astype(float) for g in "bc"]
    for statistic, scale in (("pearson", np.asarray), ("spearman", stats.rankdata)):
        for given, columns in (("group", known), ("group_and_size", [*known, *map(scale, size)])):
            row, key = found.loc["total"], f"{statistic}_given_{given}"
            pair = [left(scale(images[c].to_numpy()), columns) for c in ("difficulty", "total")]
            assert row[key] == pytest.approx(np.corrcoef(pair)[0, 1])
            assert row[f"{key}_low"] < row[key] < row[f"{key}_high"]
    assert np.isnan(found.loc["predicted_area", "spearman_given_group_and_size"])
    assert np.isfinite(found.loc["predicted_area", "spearman_given_group"])


@pytest.mark.parametrize("group", [None, ["a"] * 6])
def test_nothing_is_given_by_groups_where_there_are_none(group: list[str] | None) -> None:
    images = table([1.0, 2, 3, 4, 5, 6], [2.0, 1, 3, 6, 5, 4], group)
    assert not [c for c in compare_images(images, FEW) if "given_group" in c]


def test_parts_are_compared_alone() -> None:
    rng = np.random.default_rng(2)
    # a group of two images is too small to be compared
    group = ["a"] * 7 + ["b"] * 5 + ["c"] * 2
    images = table(rng.normal(size=14).tolist(), rng.normal(size=14).tolist(), group)
    images["repeat_difficulty"] = images["difficulty"] ** 3
    parts = compare_parts(images, FEW)
    assert list(dict.fromkeys(zip(parts["part"], parts["name"].astype(str), strict=True))) == [
        ("group", "a"), ("group", "b"), ("fold", "0"), ("fold", "1"),
    ]  # fmt: skip
    for (part, name), rows in parts.groupby(["part", "name"]):
        inside = images[images[part] == name]
        row = rows.set_index("predictor").loc["total"]
        assert row["images"] == len(inside)
        assert row["spearman"] == pytest.approx(stats.spearmanr(inside["difficulty"], inside["total"])[0])
        assert rows.set_index("predictor").loc["repeat_difficulty", "spearman"] == pytest.approx(1)


def test_parts_without_groups_are_the_folds() -> None:
    parts = compare_parts(table([1.0, 2, 3, 4, 5, 6], [2.0, 1, 3, 6, 5, 4]), FEW)
    assert set(parts["part"]) == {"fold"}
    assert compare_parts(table([1.0, 2, 3], [2.0, 1, 3]), FEW).empty
