"""Stacks of runs: what one run does wrong costs the others nothing."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from filelock import FileLock

from acquisition.functions import Random
from acquisition.limits import draw_candidates
from callbacks.query import QueryCallback
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.sources.digits import Digits
from lightning_modules.classification import ClassificationModule
from lightning_modules.networks import TwoLayerNet
from pipelines import stacked
from pipelines.cycles import Experiment
from pipelines.stacked import StackedRun, run_stack
from pipelines.stopping import CycleEnd


@pytest.fixture
def runs(tmp_path: Path) -> list[StackedRun]:
    """Three runs of one cycle, with seeds of their own."""

    def make(run_dir: Path, seed: int, cycle: int, last: bool) -> Experiment:
        torch.manual_seed(seed)
        network = TwoLayerNet(10, 4, (1, 8, 8))
        module = ClassificationModule(network, optimizer=partial(torch.optim.SGD, lr=0.01))
        source = Digits(num_train=20, num_val=10)
        data = PoolDataModule(
            source, run_dir=str(run_dir), seed=seed, initial=RandomSubset(8), batch_size=4, allow_missing_classes=True
        )
        return Experiment(module, data, QueryCallback(Random(), budget=2), CycleEnd(run_dir, cycle, last))

    folders = [tmp_path / str(seed) for seed in range(3)]
    return [StackedRun(f, partial(make, f, seed), seed=seed, config="a: 1") for seed, f in enumerate(folders)]


def outcome(runs: list[StackedRun]) -> list[tuple[bool, bool]]:
    """Of each, whether it says an error and whether it has its scores."""
    return [(bool(r.error), r.cycle(0).is_fitted) for r in runs]


ALONE = [(False, True), (True, False), (False, True)]


@pytest.mark.parametrize("error", [IndexError("Target 12 is out of bounds"), RuntimeError("out of memory")])
def test_a_fit_that_fails_in_the_stack_fails_alone(
    runs: list[StackedRun], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, sizes = stacked.fit_stacked, list[int]()
    bad = next(runs[1].make(0, True).module.parameters())

    def fit(networks: Any, *rest: Any) -> None:
        sizes.append(len(networks))
        if any(torch.equal(next(n.parameters()), bad) for n in networks):
            raise error
        real(networks, *rest)

    monkeypatch.setattr(stacked, "fit_stacked", fit)
    run_stack(runs, cycles=1, epochs=1)
    assert outcome(runs) == ALONE
    assert str(error) in runs[1].error
    assert sizes == [3, 1, 1, 1]


def taken(run: StackedRun) -> object:
    run.run_dir.mkdir()
    lock = FileLock(run.run_dir / ".lock")
    lock.acquire()
    return lock


def unmade(run: StackedRun) -> None:
    def make(cycle: int, last: bool) -> Experiment:
        raise TypeError("no such argument")

    run.make = make


def infinite(run: StackedRun) -> None:
    make = run.make

    def spoilt(cycle: int, last: bool) -> Experiment:
        parts = make(cycle, last)
        torch.nn.init.constant_(next(parts.module.parameters()), torch.nan)
        return parts

    run.make = spoilt


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (taken, "another process is working in"),
        (unmade, "TypeError: no such argument"),
        (infinite, "have NaN or infinite values"),
    ],
)
def test_a_run_that_cannot_be_fitted_says_why(
    runs: list[StackedRun], spoil: Callable[[StackedRun], object], words: str
) -> None:
    held = spoil(runs[1])
    run_stack(runs, cycles=1, epochs=1)
    assert outcome(runs) == ALONE, held
    assert words in runs[1].error


def test_weights_that_cannot_be_read_again_are_named(runs: list[StackedRun]) -> None:
    run_stack(runs, cycles=1, epochs=1)
    runs[1].cycle(0).best.write_bytes(b"PK")
    run_stack(runs, cycles=2, epochs=1)
    assert [bool(r.error) for r in runs] == [False, True, False]
    assert "best.ckpt is not a readable checkpoint" in runs[1].error
    assert "delete it and its metrics.json" in runs[1].error
    for name in ("best.ckpt", "metrics.json"):
        (runs[1].cycle(0).path / name).unlink()
    runs[1].error = ""
    run_stack(runs, cycles=2, epochs=1)
    assert all(r.cycle(1).is_fitted for r in runs)


def test_a_stack_scores_candidates_alone(runs: list[StackedRun]) -> None:
    run, make = runs[0], runs[0].make
    run.make = lambda cycle, last: replace(
        make(cycle, last), query=QueryCallback(Random(), budget=2, candidates=5, scores_csv="entropy_value")
    )
    run_stack([run], cycles=2, epochs=1)
    assert not run.error
    scores = run.cycle(0).read_scores()
    assert set(scores["unit_id"]) == set(draw_candidates(sorted(pool_of(run)), 5, run.seed, 0))
    assert scores["selected"].sum() == 2
    assert len(pd.read_csv(run.cycle(0).scores_csv)) == 5


def pool_of(run: StackedRun) -> set[str]:
    """What was not labelled when cycle 0 was queried."""
    pool = run.make(0, True).datamodule.pool
    return set(pool.units.ids) - {e.unit_id for e in pool.ledger.events() if e.kind == "initial" and e.unit_id}
