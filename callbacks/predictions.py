"""Predictions as files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import BasePredictionWriter, Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn
from torch.utils.hooks import RemovableHandle

from datamodules.files import replacing
from datamodules.pool import PoolDataModule

__all__ = ["MaskWriter", "StopSetPredictions", "read_stop_set"]

_STOP_SET = "stop_set"


class MaskWriter(BasePredictionWriter):
    """Writes each predicted mask as folder/UNIT_ID.png, 8-bit class indices: pre-annotations for a platform.

    At the size of the image as annotators see it, whatever the network saw.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        datamodule: PoolDataModule = trainer.datamodule  # type: ignore[attr-defined]
        sizes = datamodule.sizes(prediction["unit_id"])
        for unit_id, mask, (height, width) in zip(prediction["unit_id"], prediction["prediction"], sizes, strict=True):
            image = Image.fromarray(mask.byte().cpu().numpy()).resize((width, height), Image.Resampling.NEAREST)
            with replacing(self.folder / f"{unit_id}.png") as beside:
                image.save(beside)


class StopSetPredictions(Callback):
    """Keeps a fit's predictions on the validation images as cycles/NN/stop_set/RANK.npy, for stopping criteria.

    One class index per thing: per image of a classifier, per pixel of a coarse grid (every 8th row and column) of a
    segmentation. Those of the best validation, which are those of the weights that are kept. They are overheard at the
    module's `network`, not computed again.
    """

    def __init__(self, cycle_dir: Path, monitor: str) -> None:
        self.folder = cycle_dir / _STOP_SET
        self.monitor = monitor
        self.best = -math.inf
        self.classes: list[np.ndarray] = []
        self.hook: RemovableHandle | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.classes = []
        network: nn.Module = pl_module.network  # type: ignore[assignment]
        self.hook = network.register_forward_hook(self._overhear)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.hook is not None:
            self.hook.remove()
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not self.classes:
            return
        # strictly better, as the checkpoint keeps the first of equals
        score = float(trainer.callback_metrics[self.monitor])
        if score > self.best:
            self.best = score
            with replacing(self.folder / f"{trainer.global_rank:03d}.npy") as beside:
                np.save(beside, np.concatenate(self.classes))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.hook is not None:
            self.hook.remove()

    def _overhear(self, network: nn.Module, images: tuple[Any, ...], logits: torch.Tensor) -> None:
        if logits.ndim == 4:
            logits = logits[:, :, ::8, ::8]
        classes = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
        self.classes.append(classes.flatten().to("cpu", torch.int16).numpy())


def read_stop_set(cycle_dir: Path) -> np.ndarray | None:
    """All processes' predictions of a cycle on the stop set, in one order; None where none were kept."""
    parts = [np.load(p) for p in sorted((cycle_dir / _STOP_SET).glob("[0-9]*.npy"))]
    return np.concatenate(parts).astype(np.int64) if parts else None
