"""Predicted masks as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import BasePredictionWriter

from datamodules.files import replacing

__all__ = ["MaskWriter"]


class MaskWriter(BasePredictionWriter):
    """Writes each predicted mask as folder/UNIT_ID.png, 8-bit class indices: pre-annotations for a platform."""

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
        for unit_id, mask in zip(prediction["unit_id"], prediction["prediction"], strict=True):
            with replacing(self.folder / f"{unit_id}.png") as beside:
                Image.fromarray(mask.byte().cpu().numpy()).save(beside)
