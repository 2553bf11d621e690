"""Shared fixtures: a tiny experiment as a config, and the command line in this process or another."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import cli
from pipelines import study, trainer
from pipelines.jobs import Job, Outcome
from tests import forked

ROOT = Path(__file__).parent.parent
CAMVID = ROOT.parent / "shared" / "data" / "camvid"
BUBIL = CAMVID.parent / "bubil_multiannotator"
NUCLEI = CAMVID.parent / "nuclei_dsb2018"

TINY: dict[str, Any] = {
    "seed_everything": 3,
    "cycles": 3,
    "model": {
        "class_path": "lightning_modules.segmentation.SegmentationModule",
        "init_args": {
            "network": {
                "class_path": "lightning_modules.networks.FCN8s",
                "init_args": {"num_classes": 5, "width": 0.03, "batch_norm": True},
            },
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
            "scheduler": {"class_path": "torch.optim.lr_scheduler.PolynomialLR", "init_args": {"power": 0.9}},
        },
    },
    "data": {
        "source": {
            "class_path": "datamodules.sources.synthetic.SyntheticRoads",
            "init_args": {"num_train": 24, "num_val": 6, "num_test": 4, "size": [32, 48]},
        },
        "initial": {"class_path": "datamodules.initial.RandomSubset", "init_args": {"size": 5}},
        "crop_size": [32, 32],
        "batch_size": 4,
    },
    "strategy": {
        "acquisition": {"class_path": "acquisition.functions.BALD"},
        "budget": 4,
        "predictor": {"class_path": "acquisition.predictors.MCDropout", "init_args": {"num_samples": 3}},
        "pictures": 0,
        "gallery": 0,
    },
    "wandb": {"mode": "disabled"},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "enable_model_summary": False},
}


TINY_DIGITS: dict[str, Any] = {
    **TINY,
    "cycles": 2,
    "model": {
        "class_path": "lightning_modules.classification.ClassificationModule",
        "init_args": {
            "network": {
                "class_path": "lightning_modules.networks.TwoLayerNet",
                "init_args": {"num_classes": 10, "width": 32, "image_shape": [1, 8, 8], "dropout": 0.5},
            },
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        },
    },
    "data": {
        "source": {"class_path": "datamodules.sources.digits.Digits", "init_args": {"num_train": 200}},
        "initial": {"class_path": "datamodules.initial.PerClass", "init_args": {"size": 2}},
        "batch_size": 10,
        "eval_batch_size": 100,
    },
    "trainer": {"max_epochs": 20, "check_val_every_n_epoch": 10, "accelerator": "cpu", "enable_model_summary": False},
}


@pytest.fixture
def tiny_digits(tmp_path: Path) -> Path:
    """A YAML of two cycles of classification."""
    path = tmp_path / "digits.yaml"
    path.write_text(yaml.safe_dump(TINY_DIGITS))
    return path


def fake_cifar10(root: Path, per_batch: int = 20) -> np.ndarray:
    """Noise in torchvision's layout, classes going round; returns the pixels of all six files, in order."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, size=(6 * per_batch, 3072), dtype=np.uint8)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        rows = slice(per_batch * number, per_batch * (number + 1))
        labels = [(number + i) % 10 for i in range(per_batch)]
        (folder / name).write_bytes(pickle.dumps({"data": pixels[rows], "labels": labels}))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return pixels


def fake_cifar100(root: Path, count: int = 100) -> np.ndarray:
    """Noise in torchvision's layout, classes going round; returns the pixels of both files, in order."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, size=(2 * count, 3072), dtype=np.uint8)
    for number, name in enumerate(("train", "test")):
        rows = slice(count * number, count * (number + 1))
        labels = [i % 100 for i in range(count)]
        (folder / name).write_bytes(pickle.dumps({"data": pixels[rows], "fine_labels": labels}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    return pixels


def one_after_another(
    jobs: Sequence[Job], log_dir: Path, at_once: int | None = None, retries: int = 1
) -> list[Outcome]:
    """`run_jobs` in this process."""
    outcomes = []
    for job in jobs:
        reason = ""
        try:
            cli.main(list(job.arguments))
        except SystemExit:
            reason = "it failed"
        outcomes.append(Outcome(job, "failed" if reason else "finished", 1, 0.0, log_dir / f"{job.name}.log", reason))
    return outcomes


@contextmanager
def in_this_process() -> Iterator[None]:
    """Studies and ensembles without processes of their own and without reports, which cost more than tiny runs do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (study, trainer):
            patch.setattr(module, "run_jobs", one_after_another)
        patch.setattr("reports.difficulty.compare", lambda run_dir: None)
        patch.setattr("reports.study.write_study_report", lambda run_dir, full_score: None)
        yield


def fake_mnist(root: Path, count: int = 60) -> None:
    """The idx files of MNIST, of noise in 10 classes."""
    generator = np.random.default_rng(0)
    for part in ("train", "t10k"):
        for kind, values in (
            ("images-idx3", generator.integers(0, 256, (count, 28, 28))),
            ("labels-idx1", np.arange(count) % 10),
        ):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            (root / f"{part}-{kind}-ubyte").write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """A YAML of three cycles that take a second each."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Path]:
    """Settings to the checkpoint of one cycle's fit with them, trained once for all tests."""
    kept: dict[str, Path] = {}

    def train(settings: dict[str, Any]) -> Path:
        key = yaml.safe_dump(settings)
        if key not in kept:
            folder = tmp_path_factory.mktemp("trained")
            (folder / "config.yaml").write_text(key)
            cli.main(
                ["fit", "--config", str(folder / "config.yaml"), "--run_dir", str(folder / "run"), "--cycles", "1"]
            )
            kept[key] = folder / "run" / "cycles" / "00" / "best.ckpt"
        return kept[key]

    return train


@pytest.fixture
def ask(tmp_path: Path, trained: Callable[[dict[str, Any]], Path]) -> Callable[..., Path]:
    """(name, *arguments, settings=TINY) to the run directory of a query by the network trained with the settings."""

    def query(name: str, *arguments: str, settings: dict[str, Any] = TINY) -> Path:
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(settings))
        weights = ["--ckpt_path", str(trained(settings))]
        cli.main(["query", "--config", str(config), "--run_dir", str(tmp_path / name), *weights, *arguments])
        return tmp_path / name

    return query


@pytest.fixture
def dropquery(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, as a user does; `fresh`: in one that imports everything itself."""

    def run(*args: object, check: bool = True, fresh: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(tmp_path / "mpl")}
        if fresh:
            command = [sys.executable, str(ROOT / "cli.py"), *map(str, args)]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300, **options
            )
        else:
            done = forked.run(args, environment, timeout=300, **options)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def camvid() -> Path:
    """The real data, where it is."""
    if not CAMVID.is_dir():
        pytest.skip(f"the real data is not at {CAMVID}")
    return CAMVID


@pytest.fixture
def nuclei() -> Path:
    """Real images of nuclei that are told apart, where they are."""
    if not NUCLEI.is_dir():
        pytest.skip(f"the real data is not at {NUCLEI}")
    return NUCLEI


@pytest.fixture
def bubil() -> Path:
    """Real images that five people drew twice, where they are."""
    if not BUBIL.is_dir():
        pytest.skip(f"the real data is not at {BUBIL}")
    return BUBIL


# what follows serves the tests of the rooms

# derandomised: a red suite is red again when it is started again
hypothesis.settings.register_profile("house", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("house")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def _save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def _fake_pair(seed: int, classes: int, height: int = 24, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, classes, size=(height // 8, width // 8))
    mask = np.kron(blocks, np.ones((8, 8), dtype=np.uint8)).astype(np.uint8)
    grey = 40 + (180 // classes) * mask.astype(int) + rng.integers(-5, 6, size=mask.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


@pytest.fixture(scope="session")
def save_image() -> Callable[..., Path]:
    """(path, array) written as an image; folders are made."""
    return _save


@pytest.fixture(scope="session")
def fake_pair() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(seed, classes) to image and mask, in blocks of 8 pixels."""
    return _fake_pair


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """A data set for `Folder`: 8 train and 3 val images of 3 classes, 24 x 32."""
    root = tmp_path / "data"
    for split, count in (("train", 8), ("val", 3)):
        for i in range(count):
            image, mask = _fake_pair(100 * (split == "val") + i, classes=3)
            _save(root / split / "images" / f"{split}{i}.png", image)
            _save(root / split / "masks" / f"{split}{i}.png", mask)
    (root / "classes.txt").write_text("dark\nmiddle\nbright\n")
    return root


class TinyNetwork(nn.Module):
    """Convolution, batch norm, dropout, convolution: everything that a query has to leave alone."""

    def __init__(self, num_classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.drop = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.body(images)))


@pytest.fixture
def tiny_network() -> Callable[..., TinyNetwork]:
    """(num_classes, dropout) to a small network that is the same every time."""

    def make(num_classes: int = 3, dropout: float = 0.5) -> TinyNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = TinyNetwork(num_classes, dropout)
            # statistics and weights away from their starting values
            with torch.no_grad():
                network.body[1].running_mean.uniform_(-0.2, 0.2)
                network.body[1].running_var.uniform_(0.5, 1.5)
                network.head.weight.mul_(6)
        return network

    return make
