"""Regressions on held-out images against scikit-learn's, a case worked by hand, and what must not change them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from reports.difficulty_combinations import COMBINATIONS, compare_combinations, held_out_predictions
from reports.intervals import Resampling

COLUMNS = COMBINATIONS["area + ensemble + epistemic + one pass"]
FEW = Resampling(draws=50)


def table(number: int = 30, folds: int = 3) -> pd.DataFrame:
    """Images whose difficulty is the sum of what area and ensemble know."""
    rng = np.random.default_rng(0)
    images = pd.DataFrame({c: rng.uniform(0, 1, number) for c in COLUMNS})
    images["difficulty"] = images["predicted_area"] + images["ensemble_variance"] + rng.normal(0, 0.05, number)
    return images.assign(fold=np.arange(number) % folds)


def test_one_predictor_by_hand() -> None:
    # trained on difficulties 1, 2, 3, 4 at areas 10, 20, 30, 40: shares 1/8, 3/8, 5/8, 7/8 of each, so the fit is y = x
    images = pd.DataFrame(
        {
            "fold": [0, 0, 0, 0, 1, 1, 1, 1],
            "difficulty": [1.0, 2, 3, 4, 0, 0, 0, 0],
            "predicted_area": [10.0, 20, 30, 40, 5, 20, 25, 99],
        }
    )
    # nothing is below 5; 10 and half of 20; 10 and 20; all
    assert held_out_predictions(images, ["predicted_area"])[4:] == pytest.approx([0, 3 / 8, 1 / 2, 1])
    # and from four images of one difficulty nothing is learned: half of them are easier
    assert held_out_predictions(images, ["predicted_area"])[:4] == pytest.approx([1 / 2] * 4)


def test_several_predictors_are_a_regression_of_ranks() -> None:
    images = table()
    predicted = held_out_predictions(images, COLUMNS)
    train, held_out = images[images["fold"] != 1], images[images["fold"] == 1]
    ranks = [(stats.rankdata(train[c]) - 0.5) / len(train) for c in ("difficulty", *COLUMNS)]
    fit = LinearRegression().fit(np.stack(ranks[1:], axis=1), ranks[0])
    shares = np.stack([[stats.percentileofscore(train[c], x, "mean") / 100 for x in held_out[c]] for c in COLUMNS])
    assert predicted[images["fold"] == 1] == pytest.approx(fit.predict(shares.T))


def test_a_held_out_difficulty_and_the_units_of_predictors_change_nothing() -> None:
    images = table()
    before = held_out_predictions(images, COLUMNS)
    other = images.assign(
        difficulty=images["difficulty"].where(images["fold"] != 2, 77),
        predicted_area=np.exp(5 * images["predicted_area"]),
    )
    assert held_out_predictions(other, COLUMNS)[images["fold"] == 2] == pytest.approx(before[images["fold"] == 2])


def test_combinations_are_compared_with_area() -> None:
    images = table(60)
    found = compare_combinations(images, FEW)
    assert found["combination"].tolist() == [*COMBINATIONS] * 4
    assert found["held_out"].tolist() == [h for h in ("all", "0", "1", "2") for _ in COMBINATIONS]
    overall = found[found["held_out"] == "all"].set_index("combination")
    for name, columns in COMBINATIONS.items():
        correlation = stats.spearmanr(images["difficulty"], held_out_predictions(images, columns))[0]
        assert overall.loc[name, "spearman"] == pytest.approx(correlation)
    both = overall.loc["area + ensemble"]
    assert both["spearman_minus_area"] == pytest.approx(both["spearman"] - overall.loc["area", "spearman"])
    assert both["spearman_minus_area_low"] > 0
    assert overall.loc["area", "spearman_minus_area"] == 0
    inside = images[images["fold"] == 1]
    correlation = stats.spearmanr(inside["difficulty"], held_out_predictions(images, ["predicted_area"])[inside.index])
    assert found.set_index(["held_out", "combination"]).loc[("1", "area"), "spearman"] == pytest.approx(correlation[0])


def test_without_other_folds_there_is_no_regression() -> None:
    assert compare_combinations(table(folds=1), FEW).empty
    assert compare_combinations(table().drop(columns="fold"), FEW).empty
    assert compare_combinations(table(4, folds=2), FEW).empty
