"""Scores that survive the process that made them."""

from pathlib import Path

import pandas as pd
import pytest

import cli
from callbacks.query import QueryCallback
from records.shards import Shards


def test_tables_add_up_and_another_query_begins_anew(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "shards", "one")
    shards.open()
    assert shards.table(10).empty
    shards.add(10, ["a", "b"], [1.0, 2.0], [0.1, 0.2])
    shards.add(10, ["c"], [3.0], [0.3])
    shards.add(20, ["a"], [9.0], [0.0])
    shards.open()
    assert shards.table(10, ["c", "a"])["score"].tolist() == [3.0, 1.0]
    assert shards.table(20)["unit_id"].tolist() == ["a"]
    Shards(tmp_path / "shards", "two").open()
    assert shards.table(10).empty


def test_the_next_query_scores_only_what_is_missing(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["fit", "--config", str(tiny_config), "--cycles", "2"]
    cli.main([*command, "--run_dir", str(tmp_path / "whole")])
    monkeypatch.setattr("callbacks.scored._FLUSH_SECONDS", -1)  # write every batch down
    scored: list[str] = []
    real = QueryCallback._batches

    def dies_after_three(self: QueryCallback, *args: object) -> object:
        for number, batch in enumerate(real(self, *args)):
            if number == 3 and len(scored) < 13:
                raise OSError("power cut")
            scored.extend(batch["unit_id"])
            yield batch

    monkeypatch.setattr(QueryCallback, "_batches", dies_after_three)
    with pytest.raises(SystemExit):
        cli.main([*command, "--run_dir", str(tmp_path / "cut")])
    assert len(scored) == 12
    cli.main([*command, "--run_dir", str(tmp_path / "cut")])
    assert len(scored) == len(set(scored)) == 19, "nothing was scored twice"
    tables = [pd.read_parquet(tmp_path / r / "cycles" / "00" / "scores.parquet") for r in ("whole", "cut")]
    pd.testing.assert_frame_equal(*tables)
