"""Two moons through the command line, and the curves of losses by their formulas."""

from math import exp, log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cli
from pipelines.moon_fits import loss_curves, moons_data
from pipelines.moons import moons
from records.run_directory import RunDirectory
from reports.moons import moons_table
from tests.reports.test_analyses import check_picture


def test_fit_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    with pytest.raises(SystemExit):
        cli.main(["analyse", "--name", "moons", "--run_dir", str(run), "--out", str(out)])
    assert "write it first: moons --run_dir" in capsys.readouterr().err
    cli.main(["moons", "--run_dir", str(run), "--count", "200", "--seeds", "2", "--epochs", "20"])
    table = pd.read_csv(RunDirectory(run).moons)
    samples = table[table["part"] == "sample"]
    assert (samples.groupby(["loss", "seed"]).size() == 200).all()
    given = samples.groupby(["loss", "seed"])["label"].sum()
    assert (given.drop("complete") == 50).all()
    assert (given["complete"] == 100).all()
    hidden = [set(np.flatnonzero(run["label"])) for _, run in samples[samples["loss"] == "weighted"].groupby("seed")]
    assert hidden[0] != hidden[1]
    # the loss and its pull are those of the formula
    p, label = samples["probability"], samples["label"]
    plain = -np.log(np.where(label == 1, p, 1 - p))
    unlabelled = {"complete": plain, "cross entropy": plain, "balanced": plain, "weighted": plain / 2, "exponential": p}
    pulls = {"complete": p, "cross entropy": p, "balanced": p, "weighted": p / 2, "exponential": p * (1 - p)}
    for name in unlabelled:
        own = (samples["loss"] == name) & (label == 0)
        assert np.allclose(samples.loc[own, "value"], np.asarray(unlabelled[name])[own], atol=1e-4)
        assert np.allclose(samples.loc[own, "gradient"], pulls[name][own], atol=1e-4)
    cli.main(["analyse", "--name", "moons", "--run_dir", str(run), "--out", str(out)])
    found = pd.read_csv(out / "moons.csv").set_index("loss")
    assert list(found.index) == list(unlabelled)
    assert found.loc["complete", "accuracy"] > 0.7
    check_picture(out / "moons.png")
    check_picture(out / "moons_losses.png")


def test_curves_by_formula() -> None:
    table = loss_curves()
    assert set(table["x"].round(2)) >= {-5.0, 0.0, 5.0}
    at = table[np.isclose(table["x"], 1)].set_index(["loss", "label"])
    p = 1 / (1 + exp(-2))
    plain = -log(1 - p)
    expected = {
        "cross entropy": (plain, 2 * p), "weighted": (plain / 2, p), "exponential": (p, 2 * p * (1 - p)),
        "exponential odds": (exp(2), 2 * exp(2)), "bootstrap hard": (plain / 2 - log(p) / 2, p - (1 - p)),
    }  # fmt: skip
    for name, values in expected.items():
        assert at.loc[(name, 0), ["value", "gradient"]].tolist() == pytest.approx(values)
        assert at.loc[(name, 1), ["value", "gradient"]].tolist() == pytest.approx((-log(p), -2 * (1 - p)))


def test_shares_by_hand() -> None:
    # of two hidden positives one is found, of two negatives one is taken for a positive
    rows = pd.DataFrame(
        {"truth": [1, 1, 1, 0, 0], "label": [1, 0, 0, 0, 0], "prediction": [1, 1, 0, 1, 0], "gradient": [2, 1, 3, 5, 5]}
    )
    twice = pd.concat([rows.assign(seed=seed, loss="a", part="sample") for seed in (0, 1)])
    found = moons_table(twice).iloc[0]
    names = ["seeds", "accuracy", "hidden_found", "false_positives", "pull_of_hidden"]
    assert found[names].tolist() == [2, 0.6, 0.5, 0.5, 1]


def test_data_and_mistakes(tmp_path: Path) -> None:
    points, truth = moons_data(300)
    assert points.shape == (300, 2)
    assert truth.sum() == 150
    for wrong in ({"hidden": 1}, {"count": 100}, {"seeds": 0}, {"epochs": 0}):
        with pytest.raises(ValueError, match="moons needs hidden from 0 to below 1, at least 200 points"):
            moons(str(tmp_path), **wrong)
