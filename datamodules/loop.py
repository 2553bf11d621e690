"""Where Lightning's training loop stands, by names that may change with its version."""

import pytorch_lightning as pl

__all__ = ["progress_in_epoch"]


def progress_in_epoch(trainer: pl.Trainer | None) -> tuple[int, int]:
    """The epoch that the fit is in and how many of its batches it has seen: more than 0 where it was resumed."""
    if trainer is None:
        return 0, 0
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready
