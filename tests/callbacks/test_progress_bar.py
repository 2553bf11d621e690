"""Lines and bars of a fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cli
from callbacks import progress_bar
from callbacks.phases import fit_line, label_line, query_line, where_line
from callbacks.progress_bar import FitLines
from pipelines import trainer_options


def test_lines_by_hand() -> None:
    best = {"epoch": 7, "val/miou": 0.51239, "val/loss": 1.0}
    said = fit_line(2, 30, "40 epochs", 75.2, 0.25, best, "val/miou")
    assert said == "Cycle 2 fit: 30 labelled units, 40 epochs in 01:15; loss 0.2500, val/miou 0.5124 at epoch 7"
    assert fit_line(2, 30, "40 epochs", 3, None, best, "val/miou").endswith("00:03; val/miou 0.5124 at epoch 7")
    said = where_line(0, 3, 40, 3700.0, "val/miou 0.4000")
    assert said == "Cycle 0 fit: epoch 3 of 40, 1:01:40 left, val/miou 0.4000"
    assert where_line(0, 3, None, None, "") == "Cycle 0 fit: epoch 3"
    assert query_line(1, 190, None, "BALD", 7.4) == "Cycle 1 query: 190 units scored by BALD in 00:07"
    assert query_line(1, 50, 50, "BALD", 7.4) == "Cycle 1 query: 50 candidates scored by BALD in 00:07"
    assert label_line(1, 10, 0) == "Cycle 1 label: 10 queried, all labelled"
    assert label_line(1, 10, 4) == "Cycle 1 label: 10 queried, 6 labelled, 4 waiting for people"
    said = label_line(1, 3, 0, 10)
    assert said == "Cycle 1 label: 3 queried (all that was left; the budget is 10), all labelled"


def test_a_long_fit_that_no_bar_shows_says_now_and_then_how_far_it_is(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress_bar, "rank_zero_info", said.append)

    def impatient(metrics: Any) -> FitLines:
        return FitLines(metrics, first=0.0, every=0.0)

    monkeypatch.setattr(trainer_options, "FitLines", impatient)
    command = ["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), "--cycles", "1"]
    cli.main(command)
    # 5 units in batches of 4, 3 epochs
    assert [line.partition(",")[0] for line in said[:-1]] == [
        f"Cycle 0 fit: epoch {e} of 3" for e in (1, 1, 2, 2, 3, 3)
    ]
    assert all(" left" in line for line in said[:-1])
    assert "val/miou" in said[2]
    assert said[-1].startswith("Cycle 0 fit: 5 labelled units, 3 epochs in ")


def test_a_fit_that_goes_on_says_what_it_did_itself(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress_bar, "rank_zero_info", said.append)
    stop: Callable[..., None] = FitLines.on_train_batch_end

    def killed(self: FitLines, trainer: Any, *rest: Any) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("killed")
        stop(self, trainer, *rest)

    command = ["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), "--cycles", "1"]
    with monkeypatch.context() as broken:
        broken.setattr(FitLines, "on_train_batch_end", killed)
        with pytest.raises(RuntimeError, match="killed"):
            cli.main(command)
    assert not said
    cli.main(command)
    (line,) = said
    assert line.startswith("Cycle 0 fit: 5 labelled units, the last 1 of 3 epochs in ")
