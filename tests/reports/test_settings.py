"""Metrics by varied settings: names, means and paired differences by hand."""

import doctest
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import cli
from reports import settings
from reports.settings import read_settings, settings_table, settings_text, short_names
from tests.reports.test_analyses import check_picture

MakeStudy = Callable[[list[dict[str, object]]], Path]


def plain(name: str, **arguments: object) -> str:
    return str({"class_path": f"some.where.{name}", "init_args": arguments})


PLAIN, HALF, FULL = plain("Plain", a=None), plain("Weighted", weight=0.5, b=1), plain("Weighted", weight=1.0, b=1)
# metrics of two seeds, by loss and rate
VALUES = {
    (PLAIN, 0.1): (0.5, 0.6), (HALF, 0.1): (0.7, 0.9), (FULL, 0.1): (0.8, 0.8),
    (PLAIN, 0.2): (0.6, 0.6), (HALF, 0.2): (0.6, 0.7), (FULL, 0.2): (0.5, 0.7),
}  # fmt: skip


def rows(strategies: tuple[str, ...] = ("random",)) -> list[dict[str, object]]:
    return [
        {
            "variant": f"loss={loss},rate={rate}", "model.loss": loss, "data.rate": rate, "strategy": strategy,
            "seed": seed, "cycle": cycle, "labelled_units": 10 + cycle, "monitor": "val/accuracy",
            # the last cycle counts
            "val/accuracy": value if cycle else 0.0, "val/macro_f1": value / 2,
        }
        for (loss, rate), values in VALUES.items()
        for strategy in strategies
        for seed, value in enumerate(values)
        for cycle in (0, 1)
    ]  # fmt: skip


def test_names() -> None:
    assert doctest.testmod(settings).attempted
    assert short_names([PLAIN, HALF, FULL]) == ["Plain", "Weighted(weight=0.5)", "Weighted(weight=1.0)"]
    assert short_names([PLAIN, HALF]) == ["Plain", "Weighted"]
    nested = [plain("FadeIn", first={"class_path": f"a.{name}", "init_args": {}}) for name in ("One", "Two")]
    assert short_names(nested) == ["FadeIn(first=One)", "FadeIn(first=Two)"]
    assert short_names(["0.001", "fast"]) == ["0.001", "fast"]


def test_means_and_differences_by_hand(make_study: MakeStudy) -> None:
    table, key = read_settings(make_study(rows()), "model.loss")
    assert key == "loss"
    found = settings_table(table, key, ["val/accuracy"]).set_index(["rate", "loss"])
    # in the order of the study
    assert list(found.index) == [
        (rate, name) for rate in ("0.1", "0.2") for name in ("Plain", "Weighted(weight=0.5)", "Weighted(weight=1.0)")
    ]
    half = found.loc[("0.1", "Weighted(weight=0.5)")]
    assert half["mean"] == pytest.approx(0.8)
    assert half["difference"] == pytest.approx(0.25)
    # differences of .2 and .3: their standard error is .05
    wide = stats.t.ppf(0.975, 1) * 0.05
    assert half[["difference_low", "difference_high"]].tolist() == pytest.approx([0.25 - wide, 0.25 + wide])
    assert found.loc[("0.2", "Plain")][["difference", "difference_low"]].isna().all()
    assert (found["seeds"] == 2).all()
    text = settings_text(found.reset_index(), key)
    assert "| 0.2 | Weighted(weight=1.0) | 0.600 [-0.671, 1.871] | +0.000 [-1.271, +1.271] |" in text


def test_the_last_varied_setting_is_the_key_and_strategies_are_a_setting(make_study: MakeStudy) -> None:
    table, key = read_settings(make_study(rows(("random", "margin"))))
    assert key == "rate"
    found = settings_table(table, key, ["val/accuracy"])
    assert list(found.columns[:3]) == ["strategy", "loss", "rate"]
    assert len(found) == 12
    one = found[(found["loss"] == "Weighted(weight=0.5)") & (found["strategy"] == "margin") & (found["rate"] == "0.2")]
    assert one["difference"].item() == pytest.approx(-0.15)


def test_through_the_command_line(make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(rows())
    cli.main(
        ["analyse", "--name", "settings", "--run_dir", str(folder), "--out", str(tmp_path / "out"), "--key", "loss"]
    )
    table = pd.read_csv(tmp_path / "out" / "settings.csv")
    assert table["metric"].unique().tolist() == ["val/accuracy", "val/macro_f1"]
    assert np.isclose(table.loc[table["metric"] == "val/macro_f1", "mean"].iloc[0], 0.275)
    assert "differences are to Plain, paired by seed" in (tmp_path / "out" / "settings.md").read_text()
    assert "| rate | loss | accuracy |" in capsys.readouterr().out
    check_picture(tmp_path / "out" / "settings.png")


def test_what_cannot_be_compared(make_study: MakeStudy) -> None:
    folder = make_study(rows())
    with pytest.raises(ValueError, match=r"expected a key of loss, rate, the settings that .* varied, got 'width'"):
        read_settings(folder, "width")
    without = [{k: v for k, v in row.items() if k not in ("model.loss", "data.rate")} for row in rows()]
    with pytest.raises(ValueError, match=r"varied no settings.*set grid\.vary"):
        read_settings(make_study(without))
