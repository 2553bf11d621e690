"""Predicted masks as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import BasePredictionWriter

from datamodules.files import replacing
from datamodules.pool import PoolDataModule

__all__ = ["MaskWriter"]


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
