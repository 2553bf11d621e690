"""Predictions as files: masks, or a table of classes."""

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
from pytorch_lightning.utilities import rank_zero_info
from torch import nn
from torch.utils.hooks import RemovableHandle

from acquisition.functional import predicted_class
from callbacks.cycle import CycleMetrics
from lightning_modules.classification import ClassificationModule
from records.files import replacing

__all__ = ["ClassWriter", "MaskWriter", "StopSetPredictions", "prediction_writer"]


def prediction_writer(module: pl.LightningModule, folder: Path) -> BasePredictionWriter:
    """What writes the predictions of a module into a folder."""
    return ClassWriter(folder) if isinstance(module, ClassificationModule) else MaskWriter(folder)


class MaskWriter(BasePredictionWriter):
    """Writes each predicted mask as folder/IMAGE_ID.png: pre-annotations for a platform.

    At the size of the image as annotators see it, whatever the network saw; in class indices, or in the values of
    `data.mask_values`, as people draw.
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
        source = trainer.datamodule.source  # type: ignore[attr-defined]
        for image_id, mask in zip(prediction["image_id"], prediction["prediction"], strict=True):
            height, width = source.size(image_id)
            classes = Image.fromarray(mask.byte().cpu().numpy()).resize((width, height), Image.Resampling.NEAREST)
            drawn = Image.fromarray(source.mask_values.encode(np.array(classes))) if source.mask_values else classes
            with replacing(self.folder / f"{image_id}.png") as beside:
                drawn.save(beside)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rank_zero_info(f"Predicted masks, one per image of the pool: {self.folder}")


class StopSetPredictions(Callback):
    """Keeps a fit's predictions on the validation images as cycles/NN/stop_set.npy, for stopping criteria.

    One class index per thing: per image of a classifier, per pixel of a coarse grid (every 8th row and column) of a
    segmentation; in the order of the image ids, so that it does not tell how many processes there were. Those of the
    best validation, as `metrics` says, which are those of the weights that are kept. They are overheard at the module's
    `network`, not computed again.
    """

    def __init__(self, metrics: CycleMetrics) -> None:
        self.metrics = metrics
        self.batch: np.ndarray = np.empty((0, 1), np.int16)
        self.classes: dict[str, np.ndarray] = {}
        self.hook: RemovableHandle | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.classes = {}
        network: nn.Module = pl_module.network  # type: ignore[assignment]
        self.hook = network.register_forward_hook(self._overhear)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.classes.update(zip(batch["image_id"], self.batch, strict=True))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.hook is not None:
            self.hook.remove()
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not self.metrics.improved:
            return
        shares = _from_everyone(trainer, self.classes)
        if trainer.is_global_zero:
            classes = {image_id: c for share in shares for image_id, c in share.items()}
            self.metrics.directory.write_stop_set(np.concatenate([classes[image_id] for image_id in sorted(classes)]))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.hook is not None:
            self.hook.remove()

    def _overhear(self, network: nn.Module, images: tuple[Any, ...], logits: torch.Tensor) -> None:
        if logits.ndim == 4:
            logits = logits[:, :, ::8, ::8]
        self.batch = predicted_class(logits).to("cpu", torch.int16).numpy().reshape(len(logits), -1)


def _from_everyone(trainer: pl.Trainer, mine: Any) -> list[Any]:
    """What each process of the job has, in every one of them."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


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
                "unit_id": prediction["image_id"],
                "class": [names[i] for i in classes.tolist()],
                "probability": probabilities.gather(1, classes[:, None])[:, 0].numpy(),
            }
        )
        self._parts.append(table.join(pd.DataFrame(probabilities.numpy(), columns=[f"p_{name}" for name in names])))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = [table for share in _from_everyone(trainer, self._parts) for table in share]
        if trainer.is_global_zero and parts:
            table = pd.concat(parts).sort_values("unit_id")
            with replacing(self.folder / "classes.csv") as beside:
                table.to_csv(beside, index=False)
            rank_zero_info(f"Predicted classes of {len(table)} images: {self.folder / 'classes.csv'}")
        self._parts = []
