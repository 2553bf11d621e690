"""Processes that a launcher starts together decide together: two threads play them, each with its own trainer."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines import cycles, initial_models, single
from pipelines.cycles import Experiment, Run, run_cycles
from pipelines.single import LightningFitter
from pipelines.stopping import CycleEnd
from records.files import write_json
from records.ledger import Ledger, Queried


class Together:
    """The part of a strategy that a meeting needs, for two threads."""

    def __init__(self) -> None:
        self.barriers = threading.Barrier(2, timeout=5)
        self.said: object = None

    def setup_environment(self) -> None:
        pass

    def barrier(self, name: str) -> None:
        self.barriers.wait()

    def broadcast(self, said: object) -> object:
        if cycles.is_first_process():
            self.said = said
        self.barriers.wait()
        return self.said


Made = tuple[int, str, int]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Made]]:
    """Runs two cycles in two processes; returns what each did: (rank, what, cycle)."""
    rank = threading.local()
    for module in (cycles, single):
        monkeypatch.setattr(module, "is_first_process", lambda: rank.number == 0)
    run_dir, strategy, did = tmp_path / "run", Together(), list[Made]()

    class Labels:
        def __init__(self) -> None:
            self.ledger = Ledger(run_dir / "ledger.sqlite")
            self.oracle = SimpleNamespace(knows_truth=True)

        def start(self) -> None:
            if not self.ledger.labelled():
                self.ledger.start([("a", 1)])

        def collect(self) -> None:
            waiting = self.ledger.waiting(self.ledger.cycle)
            if waiting:
                self.ledger.label(self.ledger.cycle, [(u, 1) for u in waiting], close_cycle=True)

    def make(cycle: int, last: bool) -> Experiment:
        mine = rank.number
        pool = Labels()
        data = SimpleNamespace(pool=pool, initial_run=None)

        def fit(*args: object, **options: object) -> None:
            did.append((mine, "fit", cycle))

        def query(*args: object, **options: object) -> None:
            did.append((mine, "query", cycle))
            if mine == 0:
                pool.ledger.query(cycle, "s", [Queried("b", 1.0, 1)], [("b", 1)])
            strategy.barrier("labelled")

        trainer: Any = SimpleNamespace(
            world_size=2, strategy=strategy, loggers=[], fit=fit, query=query, interrupted=False
        )
        did.append((mine, "make", cycle))
        end, rest = CycleEnd(run_dir, cycle, last), SimpleNamespace()
        return Experiment(rest, data, rest, end, trainer)  # type: ignore[arg-type]

    def run(late: float = 0.0, **options: Any) -> list[Made]:
        errors: list[BaseException] = []

        def process(number: int) -> None:
            rank.number = number
            time.sleep(late * number)
            try:
                list(run_cycles([Run(run_dir, make)], LightningFitter(**options), 2))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=process, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        return did

    return run


def finished(folder: Path) -> None:
    folder.mkdir(parents=True)
    torch.save({"state_dict": {}}, folder / "best.ckpt")
    write_json(folder / "metrics.json", {"cycle": 0, "labelled_units": 1, "labelled_pixels": 1})


def test_all_query_where_the_first_finds_an_initial_model(
    job: Callable[..., list[Made]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "models" / initial_models.experiment_key({}, ["a"]))
    copy = initial_models._copy_model
    # the others come to look while the first still copies, and its lock is taken at first
    monkeypatch.setattr(initial_models, "_copy_model", lambda *where: (time.sleep(0.1), copy(*where)))
    monkeypatch.setattr(initial_models, "_PATIENCE", 0.01)
    acquired = initial_models._acquired
    answers = iter([False, False])
    monkeypatch.setattr(initial_models, "_acquired", lambda *lock: next(answers, True) and acquired(*lock))
    did = job(initial_models=tmp_path / "models")
    for rank in (0, 1):
        assert [(what, cycle) for number, what, cycle in did if number == rank and what != "make"] == [
            ("query", 0),
            ("fit", 1),
        ]


def test_a_process_that_comes_late_sees_the_cycle_that_the_first_closes(
    job: Callable[..., list[Made]], tmp_path: Path
) -> None:
    finished(tmp_path / "run" / "cycles" / "00")
    ledger = Ledger(tmp_path / "run" / "ledger.sqlite")
    ledger.start([("a", 1)])
    ledger.query(0, "s", [Queried("b", 1.0, 1)], [])
    did = job(late=0.1)
    for rank in (0, 1):
        assert [made[1:] for made in did if made[0] == rank] == [("make", 0), ("make", 1), ("fit", 1)]
