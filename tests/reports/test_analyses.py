"""The thesis's analyses through the command line, their tables and figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cli
from reports.analyses import by_key, sweep_table
from reports.figures import draw_histograms

Rows = Callable[..., list[dict[str, object]]]
MakeStudy = Callable[[list[dict[str, object]]], Path]

RANDOM = [[0.5, 0.6, 0.7], [0.5, 0.62, 0.72]]
LATE = [[0.5, 0.55, 0.8], [0.5, 0.57, 0.82]]
NEVER = [[0.5, 0.5, 0.6], [0.5, 0.5, 0.6]]


def check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20, "not an empty page"


@pytest.mark.parametrize(("name", "columns"), [("distributions", 9), ("bounds", 2)])
def test_random_distributions(tmp_path: Path, name: str, columns: int) -> None:
    cli.main(["analyse", "--name", name, "--out", str(tmp_path), "--count", "500", "--classes", "7"])
    assert pd.read_csv(tmp_path / f"{name}.csv").shape == (500, columns)
    check_picture(tmp_path / f"{name}.png")


def test_histograms_of_a_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pools = {0: rng.normal(2, 1, 90), 1: rng.normal(1, 1, 60)}
    for cycle, scores in pools.items():
        folder = tmp_path / "run" / "cycles" / f"{cycle:02d}"
        folder.mkdir(parents=True)
        pd.DataFrame({"unit_id": map(str, range(len(scores))), "score": scores}).to_parquet(folder / "scores.parquet")
    cli.main(["analyse", "--name", "histograms", "--out", str(tmp_path / "out"), "--run_dir", str(tmp_path / "run")])
    table = pd.read_csv(tmp_path / "out" / "histograms.csv")
    np.testing.assert_allclose(table.loc[table["cycle"] == 1, "score"], pools[1])
    check_picture(tmp_path / "out" / "histograms.png")
    legend = draw_histograms(pools, "x").axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["cycle 0: 90 units", "cycle 1: 60 units"]


def test_strategies_of_a_study(rows: Rows, make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study(rows({"random": RANDOM, "margin": LATE, "entropy": NEVER}))
    cli.main(
        ["analyse", "--name", "strategies", "--run_dir", str(folder), "--out", str(tmp_path), "--only", "[margin]"]
    )
    table = pd.read_csv(tmp_path / "strategies.csv")
    assert set(table["strategy"]) == {"random", "margin"}
    last = table[(table["strategy"] == "margin") & (table["cycle"] == 2)].iloc[0]
    assert last[["labelled_units", "mean", "minimum", "maximum", "seeds"]].tolist() == [20, 0.81, 0.8, 0.82, 2]
    check_picture(tmp_path / "strategies.png")


def test_a_sweep_over_a_column(rows: Rows, make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study(
        [
            *rows({"random": RANDOM, "entropy": NEVER}, variant="width=4", width=4),
            *rows({"random": RANDOM, "entropy": LATE}, variant="width=16", width=16),
        ]
    )
    cli.main(["analyse", "--name", "sweep", "--run_dir", str(folder), "--out", str(tmp_path), "--key", "width"])
    table = pd.read_csv(tmp_path / "sweep.csv").set_index(["width", "strategy"])
    assert table.loc[(16, "entropy"), "final"] == pytest.approx(0.81)
    assert table.loc[(16, "entropy"), "final_sd"] == pytest.approx(np.std([0.8, 0.82], ddof=1))
    # mean curves: 0.05 behind at 15, 0.1 ahead at 20
    assert table.loc[(16, "entropy"), "break_even"] == pytest.approx(15 + 5 / 3)
    assert np.isnan(table.loc[(4, "entropy"), "break_even"])
    assert table.loc[(4, "random"), "alc"] == pytest.approx(5 * np.mean([1.2, 1.23]))
    for name in ("sweep", "sweep_curves"):
        check_picture(tmp_path / f"{name}.png")


def test_a_sweep_that_borrows_random(rows: Rows) -> None:
    table = pd.DataFrame(
        [
            *rows({"random": RANDOM}, variant=""),
            *rows({"entropy": LATE}, variant="stride=1", stride=1),
            *rows({"entropy": NEVER}, variant="stride=2", stride=2),
        ]
    )
    found = sweep_table(by_key(table, "stride", "random"), "val/accuracy", "stride", "random")
    assert set(zip(found["stride"], found["strategy"], strict=True)) == {
        (1, "entropy"), (1, "random"), (2, "entropy"), (2, "random"),
    }  # fmt: skip
    assert found["break_even"].notna().sum() == 1


def test_a_sweep_over_numbers_in_names(rows: Rows, make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study(rows({"random": RANDOM, "ODIN(T=0.1)": LATE, "ODIN(T=1e3)": NEVER, "ODIN(T=10)": LATE}))
    cli.main(["analyse", "--name", "sweep", "--run_dir", str(folder), "--out", str(tmp_path), "--key", "T"])
    table = pd.read_csv(tmp_path / "sweep.csv").set_index("strategy")
    assert table["T"].drop("random").to_dict() == {"ODIN(T=0.1)": 0.1, "ODIN(T=1e3)": 1000, "ODIN(T=10)": 10}
    assert np.isnan(table.loc["random", "T"])
    assert table.loc["ODIN(T=10)", "break_even"] == pytest.approx(15 + 5 / 3)
    for name in ("sweep", "sweep_curves"):
        check_picture(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("stride", {"stride-1": 1, "stride-256": 256, "Stride 4": 4}),
        ("odin", {"odin-0.0001": 1e-4, "odin_10": 10, "odin1e3": 1000}),
        ("x", {"f(x=-2)": -2, "f(x=3)": 3, "max-2": np.nan}),
    ],
)
def test_numbers_in_names(key: str, names: dict[str, float]) -> None:
    table = pd.DataFrame({"strategy": list(names), "variant": ""})
    assert by_key(table, key, None)[key].tolist() == pytest.approx(list(names.values()), nan_ok=True)


def test_mistakes(rows: Rows, make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(
        [*rows({"random": RANDOM}, variant="a", width=4), *rows({"random": RANDOM}, variant="b", width=4)]
    )
    for arguments, words in (
        (["histograms"], "reads a run directory, got none; give --run_dir"),
        (["histograms", "--run_dir", str(folder)], "expected cycles/NN/scores.parquet below"),
        (["sweep", "--run_dir", str(folder)], "give --key"),
        (["sweep", "--run_dir", str(folder), "--key", "depth"], "expected a column 'depth'"),
        (["sweep", "--run_dir", str(folder), "--key", "width"], "width does not tell the study's variants apart"),
        (["strategies", "--run_dir", str(folder), "--only", "[bald]"], "--only names bald"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["analyse", "--name", *arguments, "--out", str(tmp_path / "out")])
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
