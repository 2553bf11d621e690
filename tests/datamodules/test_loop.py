"""What datamodules/loop.py takes from Lightning."""

from typing import Any

import pytorch_lightning as pl

from datamodules.loop import progress_in_epoch

_NAMES = ("fit_loop", "epoch_loop", "batch_progress", "current", "ready")


def lost(trainer: Any) -> str:
    """What Lightning no longer has, in a sentence; "" where it has all."""
    found, path = trainer, "Trainer"
    for name in _NAMES:
        if not hasattr(found, name):
            return (
                f"pytorch-lightning {pl.__version__} no longer has {path}.{name}, which datamodules/loop.py uses to "
                "resume an epoch; change datamodules/loop.py, or keep the version of constraints.txt"
            )
        found, path = getattr(found, name), f"{path}.{name}"
    return (
        "" if isinstance(found, int) else f"{path} is no number of batches, got {found!r}; change datamodules/loop.py"
    )


def test_lightning_says_where_a_fit_stands() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert not (words := lost(trainer)), words
    assert progress_in_epoch(trainer) == (0, 0)
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = 3
    assert progress_in_epoch(trainer) == (trainer.current_epoch, 3)
    assert progress_in_epoch(None) == (0, 0)


def test_what_is_lost_is_named() -> None:
    assert "no longer has Trainer.fit_loop, which datamodules/loop.py uses" in lost(object())
