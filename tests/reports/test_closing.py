"""What strategies saved, worked by hand, and the sentence that says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.closing import closing_sentences, curves_text, savings
from reports.study import write_study_report

Rows = Callable[..., list[dict[str, object]]]
MakeStudy = Callable[[list[dict[str, object]]], Path]

RANDOM = [[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]]
CURVES = {"random": RANDOM, "good": [[0.5, 0.75, 0.8], [0.5, 0.65, 0.8]], "bad": [[0.5, 0.5, 0.6], [0.5, 0.5, 0.72]]}


@pytest.fixture
def table(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame(rows(CURVES, variant=""))


def test_savings_by_hand(table: pd.DataFrame) -> None:
    found = savings(table, "val/accuracy", "random").set_index("strategy")
    assert list(found.index) == ["good", "bad"]
    good, bad = found.loc["good"], found.loc["bad"]
    # 10, 15 and 20 labelled units; the means are 0.5, 0.7 and 0.8: exactly at 15
    assert (good["level"], good["labels"], good["instead_of"]) == (0.7, 15, 20)
    # one seed has 0.7 at 14, the other at 15 + 5/3, rounded up
    assert (good["saved_least"], good["saved_most"]) == (3, 6)
    assert np.isnan(bad["labels"])
    # 0.72 at 20, after 0.5 at 15: 0.7 at 19.5, rounded up
    assert (bad["units"], bad["saved_least"], bad["saved_most"]) == (20, 0, 0)


def test_sentences(table: pd.DataFrame, rows: Rows) -> None:
    said = closing_sentences(savings(table, "val/accuracy", "random"), "val/accuracy", "random")
    assert said == [
        "good reached random's final val/accuracy of 0.700 with 15 labelled units instead of 20: 5 saved "
        "(mean curve of 2 seeds; each by itself saved from 3 to 6).",
        "bad did not reach random's final val/accuracy of 0.700: with 20 labelled units it had 0.660, so it saved none "
        "(mean curve of 2 seeds; each by itself saved none).",
    ]
    # a baseline that had its final score before is not said to have needed all
    one = pd.DataFrame(rows({"random": [[0.5, 0.7, 0.7]], "same": [[0.5, 0.7, 0.7]]}, variant="wide"))
    (sentence,) = closing_sentences(savings(one, "val/accuracy", "random"), "val/accuracy", "random")
    assert sentence == (
        "wide: same reached random's final val/accuracy of 0.700 with 15 labelled units instead of 15: none saved (one "
        "seed, so this may be luck)."
    )


def test_curves_stand_side_by_side_where_a_terminal_has_room(table: pd.DataFrame, rows: Rows) -> None:
    lines = curves_text(table, "val/accuracy", "random").splitlines()
    assert lines[0] == "val/accuracy"
    assert lines[1].split() == ["cycle", "labelled_units", "random", "bad", "good"]
    assert [float(word) for word in lines[3].split()] == [1, 15, 0.6, 0.5, 0.7]
    long = pd.DataFrame(rows({"random": [list(np.linspace(0.1, 0.9, 100))]}, variant=""))
    lines = curves_text(long, "val/accuracy").splitlines()
    assert [line.split()[0] for line in lines[2::11]] == ["0", "99"]
    assert not curves_text(pd.concat([table, table.assign(variant="x")]), "val/accuracy")


def test_a_study_ends_with_the_sentence(rows: Rows, make_study: MakeStudy, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(rows({"random": RANDOM, "good": CURVES["good"]}))
    write_study_report(folder)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("good reached random's final val/accuracy of 0.700 with 15 labelled units")
    assert lines[-1] in (folder / "report" / "report.md").read_text()
    assert pd.read_csv(folder / "report" / "savings.csv")["instead_of"].tolist() == [20]
    make_study(rows({"margin": RANDOM, "good": CURVES["good"]}))
    write_study_report(folder)
    assert capsys.readouterr().out.splitlines()[-1].startswith("page:   "), "there is nothing to compare with"
