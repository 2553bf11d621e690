"""Learning curves: table, figure and area."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports.learning_curve import area_under_learning_curve, normalised_area, read_curve, write_curve

# Tables 2.1 and 2.2 of thesis 002, rows that query whole images: ALC, normalised ALC
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
CROPS = {"Random": (212.6, 233.5), "Entropy": (215.6, 256.8), "ODIN T=0.1": (215.8, 258.8)}
IMAGES = 400


def test_area_by_hand() -> None:
    # trapezoids: 10 wide and (0.2 + 0.4) / 2 high, 20 wide and (0.4 + 0.5) / 2 high
    assert area_under_learning_curve([10, 20, 40], [0.2, 0.4, 0.5]) == pytest.approx(10 * 0.3 + 20 * 0.45)
    assert area_under_learning_curve([50, 450], [0.6, 0.6]) == pytest.approx(240)
    assert area_under_learning_curve([50], [0.6]) == 0


def test_normalised_area_by_hand() -> None:
    # (score - 0.2) / (0.6 - 0.2): 0, 0.5, 1
    assert normalised_area([10, 20, 40], [0.2, 0.4, 0.6]) == pytest.approx(10 * 0.25 + 20 * 0.75)
    assert normalised_area([10, 20, 40], [0.2, 0.4, 0.6], full_score=1.0) == pytest.approx(10 * 0.125 + 20 * 0.375)
    # by its own maximum, which need not be last
    assert normalised_area([0, 1, 2], [0.0, 0.5, 0.25]) == pytest.approx(0.5 + 0.75)
    assert normalised_area([10, 20], [0.3, 0.3]) == 0
    assert normalised_area([10], [0.3]) == 0


def test_the_tables_of_the_thesis_agree_with_the_definition() -> None:
    alc, normalised = np.array(list(WHOLE_IMAGES.values())).T
    # normalised = (ALC / 400 - first) / (full - first) * 400 is a line in ALC
    slope, offset = np.polyfit(alc, normalised, 1)
    first = -offset / slope / IMAGES
    full = first + 1 / slope
    # section 2.1 says about 51% and 75%
    assert first == pytest.approx(0.506, abs=0.002)
    assert full == pytest.approx(0.75, abs=0.002)
    # both tables are rounded to 0.05 either way
    rounding = 0.05 * slope + 0.05
    for name, (area, row) in WHOLE_IMAGES.items():
        curve = [first, first + 2 * (area / IMAGES - first), first + 0.5]
        # a curve of three cycles that has this area
        curve[2] = 4 * area / IMAGES - curve[0] - 2 * curve[1]
        units = [50, 50 + IMAGES / 2, 50 + IMAGES]
        assert area_under_learning_curve(units, curve) == pytest.approx(area)
        assert normalised_area(units, curve, full_score=full) == pytest.approx(row, abs=rounding), name
    # crops have another full score (section 2.2.3), so their rows are off that line
    assert all(abs(slope * area + offset - row) > 100 for area, row in CROPS.values())


def make_run(folder: Path, scores: list[float]) -> Path:
    for cycle, score in reversed(list(enumerate(scores))):
        path = folder / "cycles" / f"{cycle:02d}" / "metrics.json"
        path.parent.mkdir(parents=True)
        row = {"cycle": cycle, "labelled_units": 10 + 5 * cycle, "labelled_pixels": 100, "val/miou": score}
        path.write_text(json.dumps(row))
    # a cycle that is not finished has no metrics yet
    (folder / "cycles" / f"{len(scores):02d}").mkdir()
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
