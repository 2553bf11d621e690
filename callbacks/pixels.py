"""What a network says of the pixels of one image, for the figures 2.4 and 2.13 of Chen 2020."""

from difflib import get_close_matches
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from tqdm.auto import tqdm

from acquisition import functional
from acquisition.functions import ODIN
from acquisition.predictors import MCDropout
from callbacks.batches import batch_images
from datamodules.datamodule import PoolDataModule
from records.pixels import PixelValues, write_pixels
from records.run_directory import RunDirectory

__all__ = ["ODIN_SETTINGS", "PixelWriter"]

ODIN_SETTINGS = ((10, 0), (100, 0), (1000, 0), (1, 0.0014), (1000, 0.0014))
"""Temperature and epsilon of the maps of Chen 2020, figure 2.4."""


class PixelWriter(Callback):
    """When a prediction starts, writes the logits and ODIN values of one image into the run directory.

    Args:
        datamodule: Whose image it is.
        image_id: An image of the train split, labelled or not; None for that of the pool with the lowest mean entropy.

    Raises:
        ValueError: There is no such image, or images have one class each.
    """

    def __init__(self, datamodule: PoolDataModule, image_id: str | None = None) -> None:
        if datamodule.source.target != "mask":
            raise ValueError(
                f"pixels needs a segmentation, but {type(datamodule.source).__name__} has one class per image"
            )
        known = datamodule.pool.units.images("train")
        if image_id is not None and image_id not in known:
            like = get_close_matches(image_id, known, cutoff=0) or known[:3]
            raise ValueError(
                f"the train split has no image {image_id!r} among its {len(known)}; give an id such as "
                f"{', '.join(like)}, or leave out --image for the most certain one of the pool"
            )
        self.datamodule = datamodule
        self.image_id = image_id

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the network, one pass for the logits and one or two for each map."""
        if trainer.world_size > 1:
            raise ValueError(f"pixels looks at one image, got {trainer.world_size} processes; set --trainer.devices 1")
        self.datamodule.trainer = trainer
        network: torch.nn.Module = pl_module.network  # type: ignore[assignment]
        predictions = MCDropout().on(network, seed=0, cycle=0)
        run = RunDirectory(self.datamodule.pool.run_dir)

        with trainer.precision_plugin.forward_context():
            image_id, found = self.image_id, ""
            if image_id is None:
                image_id, mean = self._most_certain(predictions, pl_module)
                found = f", the lowest mean entropy of the pool ({mean:.4g} nats)"
            (batch,) = self.datamodule.pool_dataloader([image_id])
            images = batch_images(pl_module, batch)
            logits = predictions.logits(images).float()
            functions = [ODIN(temperature, epsilon) for temperature, epsilon in ODIN_SETTINGS]
            maps = [f.values(predictions.logits(images, f.moved).float()) for f in functions]
        values = PixelValues(
            image=self.datamodule.to_display(batch["image"][0].numpy()),
            logits=logits[0].cpu().numpy(),
            prediction=functional.predicted_class(logits)[0].cpu().numpy(),
            odin=torch.cat(maps).cpu().numpy(),
            settings=np.array(ODIN_SETTINGS, dtype=float),
            class_names=np.array(self.datamodule.source.class_names),
        )
        write_pixels(run, image_id, values)
        rank_zero_info(
            f"{run.pixel_values(image_id)}: {image_id}{found}; draw it with analyse --name pixels (or odin) "
            f"--run_dir {run.path} --image {image_id}"
        )

    def _most_certain(self, predictions: Any, module: pl.LightningModule) -> tuple[str, float]:
        """The image of the pool with the lowest mean entropy, and that; of all images where the pool is empty."""
        units = self.datamodule.pool.units
        image_ids = units.images_of(self.datamodule.pool.unlabelled) or units.images("train")
        means: dict[str, float] = {}
        for batch in tqdm(self.datamodule.pool_dataloader(image_ids), desc="entropy", unit="batch", disable=None):
            probabilities = functional.class_probabilities(predictions.logits(batch_images(module, batch)))
            entropies = functional.entropy(probabilities).double().flatten(1).mean(dim=1)
            means |= dict(zip(batch["image_id"], entropies.tolist(), strict=True))
        lowest = min(means, key=lambda i: means[i])
        return lowest, means[lowest]
