"""What a fit leaves behind: which validation is kept, through kills, moves, NaN and broken files."""

import json
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from callbacks.cycle import CycleCheckpoint, CycleMetrics, WholeCheckpoints, load_weights, read_checkpoint
from callbacks.predictions import StopSetPredictions
from callbacks.processes import LostProcessError, others_explained
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.sources.digits import Digits
from records.files import RunDirectoryError
from records.run_directory import CycleDirectory

NAN = math.nan


class Scripted(pl.LightningModule):
    """Validations score as told; the weight counts the epochs."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        self.scores = scores
        self.network = nn.Linear(1, 10)
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return -self.weight

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.network(batch["image"].mean(dim=(1, 2, 3))[:, None])
        self.log("val/score", self.scores[self.current_epoch], batch_size=len(batch["image"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=1.0)


@pytest.fixture
def data(tmp_path: Path) -> PoolDataModule:
    return PoolDataModule(
        Digits(num_train=20, num_val=20), run_dir=str(tmp_path / "data"), initial=RandomSubset(10), batch_size=10,
        eval_batch_size=30, allow_missing_classes=True,
    )  # fmt: skip


def fit(
    folder: Path, data: PoolDataModule, scores: Sequence[float], resume: bool = False, **metrics: Any
) -> dict[str, Any]:
    told = CycleMetrics(CycleDirectory(folder), "val/score", **metrics)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=len(scores),
        num_sanity_val_steps=0, plugins=[WholeCheckpoints()], callbacks=[told, CycleCheckpoint(told)],
        use_distributed_sampler=False,
    )  # fmt: skip
    last = folder / "last.ckpt"
    trainer.fit(Scripted(scores), data, ckpt_path=str(last) if resume and last.is_file() else None)
    return json.loads((folder / "metrics.json").read_text())


def kept(folder: Path) -> tuple[int, float]:
    """The epoch of the best weights, and the weight, which tells after how many epochs it was."""
    best = read_checkpoint(folder / "best.ckpt")
    return best["epoch"], float(best["state_dict"]["weight"])


@pytest.mark.parametrize(
    ("scores", "best"), [([NAN, 0.2, NAN, 0.1], 1), ([0.3, NAN, 0.3], 0), ([NAN, NAN], 0), ([0.1, 0.2], 1)]
)
def test_numbers_are_better_than_nan_and_the_last_score_stands_beside(
    data: PoolDataModule, tmp_path: Path, scores: list[float], best: int
) -> None:
    row = fit(tmp_path, data, scores)
    assert row["epoch"] == best
    assert kept(tmp_path) == (best, best + 1)
    assert row["last/epoch"] == len(scores) - 1
    np.testing.assert_equal(
        [row["val/score"], row["last/val/score"]], [np.float32(scores[best]), np.float32(scores[-1])]
    )


def test_the_last_validation_may_choose(data: PoolDataModule, tmp_path: Path) -> None:
    row = fit(tmp_path, data, [0.5, 0.3], keeps_last=True)
    assert (row["epoch"], row["last/epoch"], row["val/score"]) == (1, 1, np.float32(0.3))
    assert kept(tmp_path) == (1, 2)


class Killed(BaseException):
    """As a kill: nothing after it happens."""


def dies_after(event: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the process die when so many files have been written; returns which have."""
    written: list[str] = []
    save = WholeCheckpoints.save_checkpoint

    def dying(self: WholeCheckpoints, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path, storage_options)
        written.append(Path(path).name)
        if len(written) == event:
            raise Killed

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", dying)
    return written


def test_a_fit_killed_at_any_file_keeps_the_weights_that_its_metrics_speak_of(
    data: PoolDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [0.1, 0.3, 0.2, 0.3]
    with monkeypatch.context() as patch:
        files = dies_after(0, patch)
        whole = fit(tmp_path / "whole", data, scores)
    assert files == ["best.ckpt", "last.ckpt", "best.ckpt", *["last.ckpt"] * 3]
    for event in range(1, len(files) + 1):
        folder = tmp_path / str(event)
        with monkeypatch.context() as patch:
            dies_after(event, patch)
            with pytest.raises(Killed):
                fit(folder, data, scores)
        assert fit(folder, data, scores, resume=True) == whole
        assert kept(folder) == (1, 2), files[:event]


def test_a_fit_that_was_moved_remembers_its_best(
    data: PoolDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dies_after(2, patch)
        with pytest.raises(Killed):
            fit(tmp_path / "here", data, [0.5, 0.2, 0.3])
    (tmp_path / "here").rename(tmp_path / "there")
    row = fit(tmp_path / "there", data, [0.5, 0.2, 0.3], resume=True)
    assert (row["epoch"], kept(tmp_path / "there")) == (0, (0, 1))
    assert not (tmp_path / "here").exists()


def cut(path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "cut": cut,
    "text": lambda path: path.write_text("nothing of that kind"),
    "code": lambda path: path.write_bytes(pickle.dumps({"state_dict": print})),
    "list": lambda path: torch.save([1], path),
    "no weights": lambda path: torch.save({"state_dict": 3}, path),
    "folder": Path.mkdir,
    "absent": lambda path: None,
}


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_named_with_what_to_do(tmp_path: Path, kind: str, name: str) -> None:
    BROKEN[kind](tmp_path / name)
    with pytest.raises(RunDirectoryError, match=rf"{name} is not a .*; .*delete it.*start the same command again: the"):
        WholeCheckpoints().load_checkpoint(tmp_path / name)


def test_weights_of_another_network_are_said(tmp_path: Path) -> None:
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "best.ckpt")
    with pytest.raises(RunDirectoryError, match=r"best\.ckpt holds the weights of another network; do this"):
        load_weights(Scripted([]), tmp_path / "best.ckpt", "do this")


def test_the_stop_set_tells_not_how_many_processes_there_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {f"image{i}": i % 3 for i in range(5)}

    def validate(folder: Path, ranks: int) -> list[int]:
        metrics = SimpleNamespace(directory=CycleDirectory(folder), improved=True)
        everyone = [StopSetPredictions(metrics) for _ in range(ranks)]  # type: ignore[arg-type]

        def gather(into: list[Any], mine: Any) -> None:
            into[:] = [one.classes for one in everyone]

        monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
        module = SimpleNamespace(network=nn.Identity())
        for rank in reversed(range(ranks)):
            one, names = everyone[rank], list(classes)[rank::ranks]
            trainer: Any = SimpleNamespace(
                sanity_checking=False, state=SimpleNamespace(fn="fit"), world_size=ranks, is_global_zero=rank == 0
            )
            one.on_validation_start(trainer, module)  # type: ignore[arg-type]
            module.network(torch.eye(3)[[classes[n] for n in names]])
            one.on_validation_batch_end(trainer, module, None, {"image_id": names}, 0)  # type: ignore[arg-type]
            one.on_validation_end(trainer, module)  # type: ignore[arg-type]
        found = CycleDirectory(folder).read_stop_set()
        assert found is not None
        return found.tolist()

    # a fit that was begun by three processes and made anew by two
    assert [validate(tmp_path, ranks) for ranks in (3, 2, 1)] == [[0, 1, 2, 0, 1]] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["stop_set.npy"]


def test_a_lost_process_is_told_in_one_sentence() -> None:
    gloo = "[/build/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.1]:5. This is typically ..."
    for error in (RuntimeError(gloo), torch.distributed.DistBackendError("NCCL error: remote process exited\nat ...")):
        with pytest.raises(LostProcessError, match=r"ended or does not answer \((Conn|NCCL)[^\n]*start the same"):
            with others_explained():
                raise error
    with pytest.raises(RuntimeError, match="ours"), others_explained():
        raise RuntimeError("ours")
