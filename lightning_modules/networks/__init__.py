"""Networks as plain `nn.Module`s: images, N x 3 x H x W, to logits, N x C x H x W. No Lightning here."""

from lightning_modules.networks.deeplabv3plus import DeepLabV3Plus
from lightning_modules.networks.fcn8s import FCN8s

__all__ = ["DeepLabV3Plus", "FCN8s"]
