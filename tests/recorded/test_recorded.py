"""Tiny runs give what was recorded before the house was founded anew.

Names, choices and ranks are equal; floats are equal to a relative 1e-4, because another machine sums in another order.
Where scores lie closer than that, their ranks are not compared; no recorded choice hangs on such a pair.
A change on purpose is recorded by `python -m tests.recorded`, and named in the changelog.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.recorded import record

pytestmark = pytest.mark.xdist_group("recorded")  # the query asks the network of the segmentation run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.mark.parametrize("run", record.LIVE, ids=lambda run: run.__name__)
def test_a_run_gives_what_was_recorded(run: Callable[[Path], Path], folder: Path) -> None:
    assert record.differences(record.read(run.__name__), record.tables(run(folder))) == []


def test_two_processes_chose_what_one_did() -> None:
    # starting two costs 10 s; tests/pipelines/test_cycles.py does it
    assert record.differences(record.read("query"), record.read("query_two_processes")) == []


def test_stacked_runs_chose_what_single_ones_did() -> None:
    assert record.differences(record.read("study_stacked"), record.read("study_single")) == []


def test_what_differs_is_said() -> None:
    recorded = record.read("segmentation")
    got = deepcopy(recorded)
    scores = got["cycles/00/scores.parquet"]
    column = scores["columns"].index("score")
    before = scores["rows"][0][column]
    scores["rows"][0][column] = before * (1 + 1e-5)
    assert record.differences(recorded, got) == []
    scores["rows"][0][column] = 1.0
    got["ledger.sqlite"]["rows"].pop()
    del got["learning_curve.csv"]
    assert sorted(d.partition(",")[0].partition(" ")[0] for d in record.differences(recorded, got)) == [
        "cycles/00/scores.parquet", "learning_curve.csv", "ledger.sqlite",
    ]  # fmt: skip
