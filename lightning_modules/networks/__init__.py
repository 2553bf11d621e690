"""Networks as plain `nn.Module`s without Lightning: images to logits, N x C x H x W or N x C."""

from lightning_modules.networks.deeplabv3plus import DeepLabV3Plus
from lightning_modules.networks.drnd22 import DRND22
from lightning_modules.networks.fcn8s import FCN8s
from lightning_modules.networks.fcn_alexnet import FCNAlexNet
from lightning_modules.networks.loss_prediction import LossPrediction
from lightning_modules.networks.resnet18 import ResNet18
from lightning_modules.networks.segnet import SegNet
from lightning_modules.networks.small import GalCNN, SmallVGG, TwoLayerNet

__all__ = [
    "DRND22", "DeepLabV3Plus", "FCN8s", "FCNAlexNet", "GalCNN", "LossPrediction", "ResNet18", "SegNet", "SmallVGG",
    "TwoLayerNet",
]  # fmt: skip
