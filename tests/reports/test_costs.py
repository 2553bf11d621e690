"""Strategies compared over what their labels cost, worked by hand."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.costs import cost_columns, cost_table
from reports.study import write_study_report


def study(**clicks: list[list[int]]) -> pd.DataFrame:
    """Accuracies 0.2, 0.4, 0.6 in the cycles of every run, 0.1 more in seed 1; each strategy spends other clicks."""
    rows = []
    for strategy, seeds in clicks.items():
        for seed, spent in enumerate(seeds):
            for cycle, cost in enumerate(spent):
                row = {"variant": "", "strategy": strategy, "seed": seed, "cycle": cycle, "labelled_units": cycle + 1}
                rows.append(row | {"labelled_clicks": cost, "val/accuracy": 0.2 * (cycle + 1) + 0.1 * seed})
    return pd.DataFrame(rows)


def test_the_table_by_hand() -> None:
    table = study(random=[[0, 100, 200], [0, 100, 200]], cheap=[[0, 50, 100], [0, 50, 100]], far=[[0, 200, 400]] * 2)
    found = cost_table(table, "val/accuracy", ["labelled_clicks"], "random").set_index("strategy")
    assert list(found.index) == ["cheap", "far"], "best first"
    assert (found["first"] == 0).all()
    assert found["last"].tolist() == [100, 200], "what both have in common"
    # from 0 to 100 clicks random rises from 0.2 to 0.4 and cheap from 0.2 to 0.6; seed 1 is 0.1 above
    assert found.loc["cheap", "baseline"] == pytest.approx((0.3 + 0.4) / 2)
    assert found.loc["cheap", "mean"] == pytest.approx((0.4 + 0.5) / 2)
    assert found.loc["cheap", "difference"] == pytest.approx(0.1)
    assert found.loc["cheap", ["low", "high"]].tolist() == pytest.approx([0.1, 0.1]), "the same in both seeds"
    # to 200 clicks: random to 0.6, far to 0.4
    assert found.loc["far", "difference"] == pytest.approx(-0.1)


def test_costs_are_looked_at_where_they_tell_more_than_units() -> None:
    alike = study(random=[[0, 10, 20], [0, 10, 20]], bald=[[0, 10, 20], [0, 10, 20]])
    assert cost_columns(alike) == []
    assert cost_columns(study(random=[[0, 10, 20]], bald=[[0, 11, 20]])) == ["labelled_clicks"]
    uncounted = alike.assign(labelled_clicks=np.nan)
    assert cost_columns(uncounted) == []


def test_what_has_no_cost_in_common_is_told() -> None:
    table = study(random=[[0, 100, 200]], points=[[0, 50, 100]], later=[[500, 600, 700]])
    table.loc[table["strategy"] == "points", "labelled_clicks"] = np.nan
    found = cost_table(table, "val/accuracy", ["labelled_clicks"], "random")
    assert found["strategy"].tolist() == ["later"], "nobody counted those of the points"
    assert (found["first"] > found["last"]).all()
    assert found[["mean", "difference"]].isna().all(axis=None)


def test_every_variant_is_compared() -> None:
    table = study(random=[[0, 100, 200]] * 2, cheap=[[0, 50, 100]] * 2)
    both = pd.concat([table.assign(variant=name) for name in ("a", "b")])
    found = cost_table(both, "val/accuracy", ["labelled_clicks"], "random")
    assert found["variant"].tolist() == ["a", "b"]
    assert found["difference"].tolist() == pytest.approx([0.1, 0.1])


def test_the_report_shows_them(tmp_path: Path) -> None:
    study(random=[[0, 100, 200]] * 2, cheap=[[0, 50, 100]] * 2).to_csv(tmp_path / "study.csv", index=False)
    write_study_report(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "## What labels cost" in text
    assert re.search(r"\| labelled_clicks \| cheap \| 2 \|", text)
    assert (tmp_path / "report" / "costs.png").stat().st_size > 5000
    assert len(pd.read_csv(tmp_path / "report" / "costs.csv")) == 1
