"""Every file of a run has one name, and cycles one order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from records.files import RunDirectoryError
from records.run_directory import CycleDirectory, RunDirectory
from records.study_directory import StudyDirectory
from reports.analyses import read_cycle_scores
from reports.learning_curve import read_curve


def metrics(cycle: int) -> dict[str, float]:
    return {"cycle": cycle, "labelled_units": 10 + cycle, "val/miou": 0.5}


def test_the_names_are_the_public_contract(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    cycle = run.cycle(7)
    named = [
        run.config, run.ledger, run.learning_curve, cycle.best, cycle.metrics, cycle.scores, cycle.queried, cycle.maps,
        cycle.region_map("a/b"), cycle.polygons, cycle.template("c"),
        run.report, run.member("ann", 1).cycle(0).last, run.prediction("a/b"), StudyDirectory(tmp_path).part(0, 2).done,
        run.label_map("0f"), run.label_map_table, run.report_page, run.report_pictures(cycle),
    ]  # fmt: skip
    assert [p.relative_to(tmp_path).as_posix() for p in named] == [
        "config.yaml", "ledger.sqlite", "learning_curve.csv", "cycles/07/best.ckpt", "cycles/07/metrics.json",
        "cycles/07/scores.parquet", "cycles/07/queried.csv", "cycles/07/maps",
        "cycles/07/regions/a/b.png", "cycles/07/regions.json", "cycles/07/to_draw/c.png", "report",
        "members/ann/fold-1/cycles/00/last.ckpt", "predictions/a/b.npz", "jobs/part-0-of-2/done.json",
        "label_maps/0f.npz", "label_maps.json", "report/index.html", "report/pictures/07",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [], "a name makes nothing"


def test_cycles_come_in_numeric_order(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert (run.cycles(), run.metrics()) == ([], [])
    for number in (100, 9, 10, 99, 101):
        run.cycle(number).write_metrics(metrics(number))
        run.cycle(number).write_scores(pd.DataFrame({"unit_id": ["a"], "score": 1.0, "rank": 1, "selected": True}))
    run.cycle(102).path.mkdir()
    for stray in ("9", "²", "notes", ".09"):
        (tmp_path / "cycles" / stray).mkdir()
    (tmp_path / "cycles" / "08").write_text("a file")
    assert [c.number for c in run.cycles()] == [9, 10, 99, 100, 101, 102]
    assert [row["cycle"] for row in run.metrics()] == [9, 10, 99, 100, 101]
    assert read_curve(tmp_path)["cycle"].tolist() == list(read_cycle_scores(tmp_path)) == [9, 10, 99, 100, 101]


def test_a_cycle_goes_from_nothing_to_fitted(tmp_path: Path) -> None:
    cycle = RunDirectory(tmp_path).cycle(0)
    assert not cycle.is_begun
    cycle.path.mkdir(parents=True)
    assert not cycle.is_begun
    cycle.last.write_bytes(b"")
    assert (cycle.is_begun, cycle.is_fitted) == (True, False)
    cycle.write_metrics(metrics(0))
    assert cycle.is_fitted
    assert cycle.read_metrics() == metrics(0)
    cycle.metrics.write_text("{}")
    with pytest.raises(RunDirectoryError, match=r"expected cycle of type int in .*metrics\.json"):
        cycle.read_metrics()


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    cycle = CycleDirectory(tmp_path)
    table = pd.DataFrame(
        {"score": [1.5, 2.5], "unit_id": ["b", "a"], "selected": [True, False], "rank": [1, 2], "t": 0}
    )
    cycle.write_scores(table.iloc[[1, 0]])
    assert cycle.read_scores().to_dict("list") == {
        "unit_id": ["a", "b"], "score": [2.5, 1.5], "rank": [2, 1], "selected": [False, True],
    }  # fmt: skip
    assert list(cycle.read_scores("score")) == ["score"]
    assert cycle.read_stop_set() is None
    cycle.write_stop_set(np.array([1, 2], np.int16))
    assert cycle.read_stop_set().tolist() == [1, 2]  # type: ignore[union-attr]


def test_the_folders_of_a_run_are_those_that_are_there(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.cycle(3).shards.mkdir(parents=True)
    run.cycle(3).best.write_bytes(b"")
    pictures = run.report_pictures(run.cycle(3))
    pictures.mkdir(parents=True)
    assert run.folders() == [tmp_path, run.cycle(3).path, run.cycle(3).shards, run.report, pictures]


def test_a_study_knows_its_fitted_runs(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    done, begun = (tmp_path / "runs" / "all" / name / "seed-0" for name in ("random", "bald"))
    RunDirectory(done).cycle(0).write_metrics(metrics(0))
    RunDirectory(begun).cycle(0).path.mkdir(parents=True)
    assert study.runs() == [RunDirectory(done)]


def test_the_runs_of_a_study_share_their_label_maps(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path / "study")
    run = RunDirectory(study.path / "runs" / "default" / "bald" / "0")
    # no study, only a folder of that name
    assert run.label_maps == run.path / "label_maps"
    study.path.mkdir()
    study.config.write_text("")
    assert run.label_maps == study.label_maps == study.path / "label_maps"
    assert run.label_map_table.parent == run.path
    run.label_maps.mkdir()
    run.path.mkdir(parents=True)
    # another machine may be writing a run's there
    assert run.folders() == [run.path]
    assert study.folders() == [study.path, study.label_maps]
