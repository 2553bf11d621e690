"""Predictions as files: masks, or a table of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch.distributed
from PIL import Image
from pytorch_lightning.callbacks import BasePredictionWriter

from datamodules.files import replacing
from datamodules.masks import MaskPool
from lightning_modules.classification import ClassificationModule

__all__ = ["ClassWriter", "MaskWriter", "prediction_writer"]


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
