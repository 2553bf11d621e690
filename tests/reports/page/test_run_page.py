"""A run's page: its units are the ledger's, and it is drawn from files alone."""

import base64
import hashlib
import json
import math
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from records.files import RunDirectoryError
from records.gallery import GalleryDirectory
from records.ledger import Ledger
from records.run_directory import RunDirectory
from reports.learning_curve import read_curve
from reports.page.frame import as_json, bring_file
from reports.page.gallery import bring_pictures, read_history, shown_units
from reports.page.run_data import (
    class_scores,
    curve_data,
    histograms,
    labelled_classes,
    score_words,
    stop_words,
    waiting_table,
)
from reports.page.run_page import write_run_page
from reports.page.tables import as_text, page_table
from reports.report import draw_run, report
from tests.reports.page.elements import Elements
from tests.reports.page.runs import CLASSES, HOSTILE, make_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with its page; tests do not change it."""
    run = make_run(tmp_path_factory.mktemp("runs") / "a & <b>")
    write_run_page(run.path)
    return run


def data_of(run: RunDirectory) -> dict:
    scripts = Elements(run.report_page).named("script")
    return json.loads(next(text for attributes, text in scripts if attributes.get("id") == "data"))


def test_queried_units_are_the_ledgers(whole: RunDirectory) -> None:
    units = data_of(whole)["units"]
    rows = list(
        zip(*(units[c] for c in ("kind", "cycle", "unit_id", "score", "rank", "state", "labelled")), strict=True)
    )
    ledger = Ledger(whole.ledger)
    labelled = {e.unit_id: e.cycle for e in ledger.events() if e.kind == "labelled"}
    queried = [(q, cycle) for cycle in (0, 1) for q in ledger.queried(cycle)]
    ledger.close()
    assert [r[1:] for r in rows if r[0] == "queried"] == [
        (cycle, q.unit_id, q.score, q.rank, "labelled" if q.unit_id in labelled else "waiting", labelled.get(q.unit_id))
        for q, cycle in queried
    ]
    assert [sum(r[0] == kind for r in rows) for kind in ("queried", "control", "lowest")] == [12, 12, 12]
    assert {*HOSTILE} <= {*units["unit_id"]}


def test_a_query_that_the_ledger_does_not_know_is_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", pictures=False)
    gallery = GalleryDirectory(run.cycle(1).gallery)
    unit = {
        "image_id": "i",
        "score": 1.0,
        "rank": 1,
        "predicted": "",
        "truth": "",
        "classes": "",
        "values_name": "BALD",
    }
    rows = [
        unit | {"number": 0, "unit_id": "lost", "kind": "queried"},
        unit | {"number": 1, "unit_id": "c", "kind": "control"},
    ]
    gallery.write_units(pd.DataFrame(rows).assign(top=None, left=None, height=None, width=None))
    units = shown_units(run, read_history(run))
    assert "lost" not in set(units["unit_id"])
    assert units.loc[units["kind"] == "control", ["unit_id", "box", "state"]].values.tolist() == [
        ["c", None, "not labelled"]
    ]


def test_pictures_come_along_and_new_ones_do_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", cycles=1)
    cycle, gallery = run.cycle(0), GalleryDirectory(run.cycle(0).gallery)
    there = bring_pictures(run, cycle)
    assert sorted(there[0]) == ["image", "prediction", "region", "thumb", "truth", "uncertainty"]
    assert "truth" not in there[1]
    folder = run.report_pictures(cycle)
    assert {p.name for p in folder.iterdir()} == {p.name for p in gallery.path.iterdir()} - {"units.csv", "about.json"}
    # what people have drawn since is a new file, and one that is drawn further a file of the same name
    gallery.truth(1).write_bytes(gallery.truth(0).read_bytes())
    gallery.truth(0).unlink()
    gallery.truth(0).write_bytes(b"new")
    assert "truth" in bring_pictures(run, cycle)[1]
    assert (folder / gallery.truth(0).name).read_bytes() == b"new"
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_files_are_copied_where_links_are_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    run = make_run(tmp_path / "run", cycles=1)
    bring_pictures(run, run.cycle(0))
    before = {p: p.stat().st_ino for p in run.report_pictures(run.cycle(0)).iterdir()}
    bring_pictures(run, run.cycle(0))
    assert {p: p.stat().st_ino for p in before} == before
    (tmp_path / "a b#.png").write_bytes(b"1")
    assert bring_file(tmp_path / "a b#.png", tmp_path / "there") == "a%20b%23.png"


def test_nothing_in_a_page_is_taken_for_markup(whole: RunDirectory) -> None:
    text = whole.report_page.read_text()
    assert not [h for h in HOSTILE if h in text]
    assert "<b>car" not in text
    assert "a &amp; &lt;b&gt;" in text
    assert "\u2028" not in text
    page = Elements(whole.report_page)
    assert not [a for _, attributes, _ in page.found for a in attributes if a.startswith("on")]


def test_the_policy_allows_the_scripts_of_the_page_and_no_network(whole: RunDirectory) -> None:
    page = Elements(whole.report_page)
    policy = next(a["content"] for a, _ in page.named("meta") if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    scripts = [text for attributes, text in page.named("script") if attributes.get("type") is None]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert not [a for _, attributes, _ in page.found for a in attributes.values() if a and re.match("(https?:)?//", a)]


def test_the_same_files_give_the_same_page(whole: RunDirectory, tmp_path: Path) -> None:
    copy = tmp_path / whole.path.name
    shutil.copytree(whole.path, copy, ignore=shutil.ignore_patterns("report"))
    assert write_run_page(copy).read_bytes() == whole.report_page.read_bytes()


def test_a_run_without_gallery_has_rows_without_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", pictures=False)
    write_run_page(run.path)
    data = data_of(run)
    assert data["units"]["layers"] == [0] * 12
    assert data["units"]["number"] == [None] * 12


def test_a_run_before_its_first_query_has_a_curve_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", pictures=False)
    run.remove_ledger()
    for cycle in run.cycles():
        cycle.scores.unlink()
    write_run_page(run.path)
    data = data_of(run)
    assert data["units"]["unit_id"] == []
    assert data["histograms"] == []
    assert not run.ledger.exists()


def test_a_query_without_a_fit_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", cycles=1)
    run.cycle(0).metrics.unlink()
    run.cycle(0).labelled_classes.unlink()
    report(str(run.path))
    assert data_of(run)["curve"] is None
    with pytest.raises(ValueError, match=r"finished cycle below .* or a query, got none; run fit first"):
        report(str(tmp_path))


def test_a_damaged_gallery_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", cycles=1)
    gallery = GalleryDirectory(run.cycle(0).gallery)
    gallery.units.write_text("number,kind\n1,queried\n")
    with pytest.raises(RunDirectoryError, match=r"units.csv cannot be read .*without pictures"):
        write_run_page(run.path)
    with pytest.warns(UserWarning, match="could not be drawn .*dropquery report"):
        curve = draw_run(run.path)
    assert len(curve) == 1


def test_the_curve_is_drawn_over_what_was_counted(whole: RunDirectory) -> None:
    curve = curve_data(read_curve(whole.path))
    assert curve["costs"] == [
        ["labelled_units", "labelled units"],
        ["labelled_pixels", "labelled pixels"],
        ["cycle", "cycle"],
    ]
    assert curve["monitor"] == curve["metrics"][0] == "val/miou"
    assert curve["columns"]["labelled_units"] == [5, 11]
    assert curve["lower"] == ["val/loss"]
    names = dict(zip(curve["metrics"], curve["names"], strict=True))
    assert (names["val/miou"], names["val/iou/sky"], names["val/loss"]) == ("mIoU", "IoU of sky", "loss")
    assert score_words("val/mc_pixel_accuracy") == "MC pixel accuracy"
    assert score_words("test/miou") == "test/miou"


def test_classes_by_cycle(whole: RunDirectory) -> None:
    scores = class_scores(read_curve(whole.path))
    assert list(scores) == ["iou"]
    for i, row in enumerate(scores["iou"].itertuples(index=False)):
        assert tuple(row) == (
            CLASSES[i],
            pytest.approx(0.4 - 0.1 * i),
            pytest.approx(0.5 - 0.1 * i),
            pytest.approx(0.1),
        )
    counted, table = labelled_classes(whole) or ("", pd.DataFrame())
    assert counted == "pixels"
    assert table.values.tolist() == [[CLASSES[0], 250, 550], [CLASSES[1], 150, 330], [CLASSES[2], 100, 220]]


def test_histograms_count_every_unit_of_the_pool(whole: RunDirectory) -> None:
    first, second = histograms(whole)
    assert sum(first["pool"]) + sum(first["queried"]) == first["size"] == 60
    assert sum(first["queried"]) == 6
    scores = whole.cycle(0).read_scores()
    assert first["cut"] == scores.loc[scores["selected"], "score"].min()
    assert first["above"] == 0
    assert (second["cycle"], second["size"], second["left"]) == (1, 54, 48)


def test_what_is_left_of_candidates_is_not_called_the_pool(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", pictures=False)
    assert "left in the pool" in write_run_page(run.path).read_text()
    run.config.write_text("strategy: {candidates: 54}\n")
    text = write_run_page(run.path).read_text()
    assert "<dt>candidates left</dt><dd>48 " in text
    assert "left in the pool</dt>" not in text


def test_equal_and_missing_scores_have_a_histogram(tmp_path: Path) -> None:
    cycle = RunDirectory(tmp_path).cycle(0)
    table = pd.DataFrame(
        {"unit_id": list("abc"), "score": [2.0, 2.0, math.nan], "rank": [1, 2, 3], "selected": [False, True, False]}
    )
    cycle.write_scores(table)
    (found,) = histograms(RunDirectory(tmp_path))
    assert (sum(found["pool"]), sum(found["queried"]), found["low"], found["high"]) == (1, 1, 2, 2)
    cycle.write_scores(table.assign(score=math.nan))
    assert histograms(RunDirectory(tmp_path)) == []


def test_who_waits(whole: RunDirectory) -> None:
    history = read_history(whole)
    assert len(history.waiting) == 3
    assert set(history.waiting.values()) == {1}
    assert waiting_table(history).values.tolist() == [["ann", 1, 0, 1, 0, 0], ["bob", 1, 0, 0, 0, 0]]
    units = shown_units(whole, history)
    drawn = units[(units["kind"] == "queried") & (units["drawings"].str.len() > 0)]
    assert drawn["drawings"].tolist() == [[["ann", "rejected"], ["bob", "assigned"]], [["ann", "assigned"]]]


def test_a_criterion_that_ended_the_run_is_named_until_it_goes_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert stop_words(run, None) == ""
    run.stopped.write_text(json.dumps({"cycle": 1, "criterion": "Budget", "reason": "20 units are labelled"}))
    assert (
        stop_words(run, pd.DataFrame({"cycle": [0, 1]})) == "Budget ended the run after cycle 1: 20 units are labelled."
    )
    assert stop_words(run, pd.DataFrame({"cycle": [0, 1, 2]})) == ""


def test_data_cannot_end_its_script() -> None:
    content = {"a": ["</script><!--", "\u2028", 1.5, math.nan, -math.inf, None, True], "b": {1: "'\"&"}}
    text = as_json(content)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": ["</script><!--", "\u2028", 1.5, None, None, None, True], "b": {"1": "'\"&"}}


def test_tables_are_aligned_sorted_and_shaded() -> None:
    table = pd.DataFrame(
        {"name": ["a", "b", "c"], "n": [1, 20000, 3], "x": [0.5, math.nan, 0.25], "y": [1.0, 0.75, 0.0]}
    )
    page = page_table(table, "Words.", {"n": "units"}, shaded=["x", "y"], digits=3)
    assert (page.titles, page.numeric, page.caption) == (
        ["name", "units", "x", "y"],
        [False, True, True, True],
        "Words.",
    )
    assert [[c.text for c in row] for row in page.rows] == [
        ["a", "1", "0.500", "1.000"], ["b", "20\u202f000", "", "0.750"], ["c", "3", "0.250", "0.000"],
    ]  # fmt: skip
    assert [row[3].share for row in page.rows] == [1, 0.75, 0]
    assert [row[2].order for row in page.rows] == [0.5, None, 0.25]
    assert [as_text(v) for v in (None, True, 3.0, 1234567, 0.000123456, math.inf, "NA")] == [
        "", "True", "3", "1\u202f234\u202f567", "0.0001235", "inf", "NA",
    ]  # fmt: skip
