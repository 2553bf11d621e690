"""Learning curves: table, figure and area."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports.learning_curve import (
    area_under_learning_curve,
    curve_summary,
    main_metric,
    normalised_area,
    read_curve,
    refresh_curve,
    write_curve,
)
from reports.report import report

# Tables 2.1 and 2.2 of Chen 2020, rows that query whole images: ALC, normalised ALC
WHOLE_IMAGES = {
    "Random": (238.0, 145.7),
    "Entropy": (255.0, 215.4),
    "Entropy above log 2": (256.5, 221.7),
    "Margin": (253.0, 207.3),
    "Margin above 0.8": (254.6, 213.7),
    "Margin above 0.9": (254.1, 211.6),
    "Max Softmax": (253.8, 210.6),
    "Max Softmax above 0.5": (254.9, 214.9),
    "ODIN T=0.1": (253.4, 208.9),
    "ODIN T=10": (249.5, 192.8),
    "ODIN T=100": (251.7, 201.9),
    "ODIN T=0.01": (252.7, 205.9),
    "ODIN T=1000": (252.0, 203.1),
    "ODIN T=1000 eps=0.0014": (247.9, 186.4),
    "BALD": (255.5, 217.7),
}
# rows that query crops
CROPS = {
    "Random": (212.6, 233.5),
    "Entropy": (215.6, 256.8),
    "Entropy above log 2": (215.6, 257.2),
    "Margin": (215.2, 253.9),
    "Margin above 0.8": (215.6, 257.1),
    "Max Softmax": (215.2, 254.2),
    "Max Softmax above 0.5": (215.8, 258.6),
    "ODIN T=0.1": (215.8, 258.8),
}


def test_area_by_hand() -> None:
    # trapezoids: 10 wide and (0.2 + 0.4) / 2 high, 20 wide and (0.4 + 0.5) / 2 high
    assert area_under_learning_curve([10, 20, 40], [0.2, 0.4, 0.5]) == pytest.approx(10 * 0.3 + 20 * 0.45)
    assert area_under_learning_curve([50, 450], [0.6, 0.6]) == pytest.approx(240)
    assert area_under_learning_curve([50], [0.6]) == 0


def test_a_summary_by_hand() -> None:
    curve = pd.DataFrame(
        {"cycle": [0, 1, 2], "labelled_units": [10, 20, 40], "labelled_pixels": [100, 250, 300]}
        | {"val/miou": [0.2, 0.5, 0.4], "monitor": "val/miou"}
    )
    score = {"score_name": "val/miou", "best_score": 0.5, "best_cycle": 1}
    area = {"alc": pytest.approx(10 * 0.35 + 20 * 0.45)}
    assert curve_summary(curve) == score | area
    # (score - 0.2) / 0.4: 0, 0.75, 0.5
    normalised = {"alc_normalised": pytest.approx(10 * 0.375 + 20 * 0.625)}
    assert curve_summary(curve, full_score=0.6) == score | area | normalised | {"target": 0.6}
    reached = {"target": 0.4, "labels_to_target": 20, "pixels_to_target": 250}
    assert curve_summary(curve, full_score=0.6, target=0.4) == score | area | normalised | reached
    assert curve_summary(curve.head(1)) == score | {"best_score": 0.2, "best_cycle": 0}


def test_normalised_area_by_hand() -> None:
    # (score - 0.2) / (0.6 - 0.2): 0, 0.5, 1
    assert normalised_area([10, 20, 40], [0.2, 0.4, 0.6], 0.6) == pytest.approx(10 * 0.25 + 20 * 0.75)
    assert normalised_area([10, 20, 40], [0.2, 0.4, 0.6], 1.0) == pytest.approx(10 * 0.125 + 20 * 0.375)
    assert normalised_area([10, 20], [0.3, 0.3], 0.6) == 0
    assert normalised_area([10], [0.3], 0.6) == 0
    assert np.isnan(normalised_area([10, 20], [0.6, 0.7], 0.6)), "it began where it should end"
    with pytest.raises(ValueError, match="full_score must lie above 0 and not above 1, as metrics do, got 75"):
        normalised_area([10, 20], [0.3, 0.3], 75)


@pytest.mark.parametrize(
    ("table", "images", "first", "full"),
    # section 2.1 says about 51 % and 75 %
    [(WHOLE_IMAGES, 400, 0.506, 0.75), (CROPS, 350, 0.522, 0.65)],
    ids=["whole images", "crops"],
)
def test_every_row_of_the_published_tables(
    table: dict[str, tuple[float, float]], images: int, first: float, full: float
) -> None:
    alc, normalised = np.array(list(table.values())).T
    # normalised = (ALC / images - first) / (full - first) * images is a line in ALC
    slope, offset = np.polyfit(alc, normalised, 1)
    fitted = -offset / slope / images
    assert fitted == pytest.approx(first, abs=0.002)
    assert fitted + 1 / slope == pytest.approx(full, abs=0.002)
    first, full = fitted, fitted + 1 / slope
    assert len(table) == (15 if table is WHOLE_IMAGES else 8)
    for name, (area, row) in table.items():
        # a curve of three cycles that has this area
        units, middle = [50, 50 + images / 2, 50 + images], first + 1.2 * (area / images - first)
        curve = [first, middle, 4 * area / images - first - 2 * middle]
        assert area_under_learning_curve(units, curve) == pytest.approx(area)
        # both tables are rounded to 0.05 either way
        rounding = 0.05 / (full - first) + 0.05
        assert normalised_area(units, curve, full) == pytest.approx(row, abs=rounding), name


def test_one_rule_for_the_score_that_is_shown() -> None:
    scores = pd.DataFrame({"val/loss": [0.1], "val/miou": [0.5], "val/dice": [0.6], "val/accuracy": [0.7]})
    assert main_metric(scores) == "val/accuracy"
    assert main_metric(scores.assign(monitor="val/miou")) == "val/miou"
    for other in ("last", "val/loss", "train/loss", np.nan):
        assert main_metric(scores.assign(monitor=other)) == "val/accuracy"
    assert main_metric(scores.assign(monitor="val/miou"), "val/loss") == "val/loss"
    assert main_metric(scores[["val/loss", "val/dice"]]) == "val/dice"
    assert main_metric(scores[["val/loss"]].assign(monitor="val/loss")) == "val/loss"
    with pytest.raises(ValueError, match="expected a metric among val/miou, val/dice, val/accuracy, got val/iou"):
        main_metric(scores, "val/iou")


def test_a_normalised_area_only_against_a_stated_full_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", [0.25, 0.5])
    report(str(run))
    assert "ALC 1.875, labelled units x val/miou" in capsys.readouterr().out
    report(str(run), full_score=0.75)
    assert "ALC 1.875, normalised 1.250 (1 is 0.75), labelled units x val/miou" in capsys.readouterr().out


def make_run(folder: Path, scores: list[float]) -> Path:
    for cycle, score in reversed(list(enumerate(scores))):
        path = folder / "cycles" / f"{cycle:02d}" / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"cycle": cycle, "labelled_units": 10 + 5 * cycle, "labelled_pixels": 100, "val/miou": score}
        path.write_text(json.dumps(row))
    # a cycle that is not finished has no metrics yet
    (folder / "cycles" / f"{len(scores):02d}").mkdir(exist_ok=True)
    return folder


def test_a_curve_from_a_run_directory(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [0.25, 0.5, 0.375])
    write_curve(run)
    table = pd.read_csv(run / "learning_curve.csv")
    assert table["cycle"].tolist() == [0, 1, 2]
    assert table["labelled_units"].tolist() == [10, 15, 20]
    assert table["val/miou"].tolist() == [0.25, 0.5, 0.375]
    pd.testing.assert_frame_equal(table, read_curve(run))
    with Image.open(run / "learning_curve.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 300
    # matplotlib's blue line is on it
    assert (np.abs(pixels.astype(int) - [31, 119, 180]).max(axis=2) < 5).sum() > 200
    assert {p.name for p in run.iterdir()} == {"cycles", "learning_curve.csv", "learning_curve.png"}


def test_cycles_after_the_hundredth_stay_in_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [i / 200 for i in range(102)])
    assert read_curve(run)["cycle"].tolist() == list(range(102))


def test_a_curve_is_drawn_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [0.25])
    assert len(write_curve(run)) == 1
    before = (run / "learning_curve.png").read_bytes()
    (run / "cycles" / "01" / "metrics.json").write_text(
        json.dumps({"cycle": 1, "labelled_units": 15, "labelled_pixels": 100, "val/miou": 0.5})
    )
    assert len(write_curve(run)) == 2
    assert len(pd.read_csv(run / "learning_curve.csv")) == 2
    assert (run / "learning_curve.png").read_bytes() != before


@pytest.mark.parametrize("picture", [True, False])
def test_what_a_kill_left_out_is_written(tmp_path: Path, picture: bool) -> None:
    run = make_run(tmp_path / "run", [0.2, 0.5])
    if picture:
        write_curve(run)
    make_run(tmp_path / "run", [0.2, 0.5, 0.6])
    refresh_curve(run)
    written = (run / "learning_curve.csv").stat()
    assert pd.read_csv(run / "learning_curve.csv")["cycle"].tolist() == [0, 1, 2]
    assert (run / "learning_curve.png").is_file() == picture
    refresh_curve(run)
    assert (run / "learning_curve.csv").stat().st_ino == written.st_ino, "what is up to date is left alone"
    make_run(tmp_path / "run", [0.2, 0.5, 0.9])
    refresh_curve(run)
    assert pd.read_csv(run / "learning_curve.csv")["val/miou"].tolist() == [0.2, 0.5, 0.9], "a cycle was fitted again"


def test_another_score(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [0.25, 0.5])
    for path in run.glob("cycles/*/metrics.json"):
        row = json.loads(path.read_text())
        row["val/accuracy"] = row.pop("val/miou")
        path.write_text(json.dumps(row))
    assert write_curve(run, "val/accuracy")["val/accuracy"].tolist() == [0.25, 0.5]


def test_a_run_without_a_finished_cycle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a finished cycle below .*cycles, got none; run fit first"):
        write_curve(tmp_path)
    assert list(tmp_path.iterdir()) == []
