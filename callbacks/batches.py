"""A loader's batches as a module and a scorer take them."""

from typing import Any

import pytorch_lightning as pl
import torch

__all__ = ["batch_images", "batch_truth"]


def batch_images(module: pl.LightningModule, batch: dict[str, Any]) -> torch.Tensor:
    """A batch's images where the module is and as it likes them; none where no image was read."""
    images: torch.Tensor = batch.get("image", torch.empty(0)).to(module.device)
    if images.ndim != 4:
        return images
    return images.to(memory_format=getattr(module, "memory_format", torch.contiguous_format))


def batch_truth(batch: dict[str, Any]) -> torch.Tensor | None:
    """A batch's masks or classes, where the loader read them."""
    return batch.get("mask", batch.get("label"))
