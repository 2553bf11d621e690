"""Predictions as files: masks, or a table of classes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import torch.distributed
from PIL import Image
from pytorch_lightning.callbacks import BasePredictionWriter, Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn
from torch.utils.hooks import RemovableHandle

from acquisition.functional import predicted_class
from datamodules.files import replacing
from datamodules.masks import MaskPool
from lightning_modules.classification import ClassificationModule

__all__ = ["ClassWriter", "MaskWriter", "StopSetPredictions", "prediction_writer", "read_stop_set"]

_STOP_SET = "stop_set"


def prediction_writer(module: pl.LightningModule, folder: Path) -> BasePredictionWriter:
    """What writes the predictions of a module into a folder."""
    return ClassWriter(folder) if isinstance(module, ClassificationModule) else MaskWriter(folder)


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
        datamodule: MaskPool = trainer.datamodule  # type: ignore[attr-defined]
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
        self.classes.append(predicted_class(logits).flatten().to("cpu", torch.int16).numpy())


def read_stop_set(cycle_dir: Path) -> np.ndarray | None:
    """All processes' predictions of a cycle on the stop set, in one order; None where none were kept."""
    parts = [np.load(p) for p in sorted((cycle_dir / _STOP_SET).glob("[0-9]*.npy"))]
    return np.concatenate(parts).astype(np.int64) if parts else None


class ClassWriter(BasePredictionWriter):
    """Writes folder/classes.csv: unit_id, class, probability of that class, and p_NAME for every class.

    In the order of the unit ids, so that it does not tell how many processes predicted.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self._parts: list[pd.DataFrame] = []

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
        names: list[str] = pl_module.class_names  # type: ignore[assignment]
        probabilities = prediction["probabilities"].cpu()
        classes = prediction["prediction"].cpu()
        table = pd.DataFrame(
            {
                "unit_id": prediction["unit_id"],
                "class": [names[i] for i in classes.tolist()],
                "probability": probabilities.gather(1, classes[:, None])[:, 0].numpy(),
            }
        )
        self._parts.append(table.join(pd.DataFrame(probabilities.numpy(), columns=[f"p_{name}" for name in names])))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = self._parts
        if trainer.world_size > 1:
            everyone: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(everyone, parts)
            parts = [table for share in everyone for table in share]
        if trainer.is_global_zero and parts:
            with replacing(self.folder / "classes.csv") as beside:
                pd.concat(parts).sort_values("unit_id").to_csv(beside, index=False)
        self._parts = []
