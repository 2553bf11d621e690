"""The verb pixels: from a trained network to the figures 2.4 and 2.13, through the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import cli
from acquisition import functional
from acquisition.checkpoints import load_network
from callbacks.pixels import ODIN_SETTINGS
from datamodules.datamodule import PoolDataModule
from datamodules.sources.synthetic import SyntheticRoads
from lightning_modules.networks import FCN8s
from records.pixels import read_pixels
from records.run_directory import RunDirectory
from tests.conftest import TINY, TINY_DIGITS

Train = Callable[[dict[str, Any]], Path]


@pytest.fixture
def fitted(trained: Train) -> tuple[Path, list[str]]:
    """Run directory of a fit, and the arguments of a verb that reads it."""
    best = trained(TINY)
    run_dir = best.parents[2]
    config = run_dir.parent / "config.yaml"
    return run_dir, ["--config", str(config), "--run_dir", str(run_dir), "--ckpt_path", str(best)]


@pytest.fixture
def network(fitted: tuple[Path, list[str]]) -> FCN8s:
    network = FCN8s(num_classes=5, width=0.03, batch_norm=True)
    load_network(network, RunDirectory(fitted[0]).cycle(0).best)
    return network.eval()


def test_from_weights_to_figures(fitted: tuple[Path, list[str]], network: FCN8s, tmp_path: Path) -> None:
    run_dir, arguments = fitted
    cli.main(["pixels", *arguments, "--image", "train_000003"])
    _, values = read_pixels(RunDirectory(run_dir), "train_000003")
    source = SyntheticRoads(num_train=24, num_val=6, num_test=4, size=[32, 48])
    np.testing.assert_array_equal(values.image, source.read_image("train_000003"))

    (batch,) = PoolDataModule(source, run_dir=str(tmp_path / "other")).pool_dataloader(["train_000003"])
    images = batch["image"].requires_grad_()
    logits = network(images)
    np.testing.assert_allclose(values.logits, logits[0].detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(values.prediction, logits[0].argmax(0))
    # a step towards more certainty, in the sign of the gradient of the largest log-probability
    (gradient,) = torch.autograd.grad(logits.log_softmax(1).amax(1).sum(), images)
    with torch.no_grad():
        moved = network(images + 0.0014 * gradient.sign())
    expected = 1 - moved.softmax(1).amax(1)[0]
    number = ODIN_SETTINGS.index((1, 0.0014))
    np.testing.assert_allclose(values.odin[number], expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(values.odin[number], functional.odin(logits, 1)[0].detach(), rtol=1e-3, atol=1e-5)

    for name in ("pixels", "odin"):
        cli.main(
            ["analyse", "--name", name, "--run_dir", str(run_dir), "--image", "train_000003", "--out", str(tmp_path)]
        )
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    assert pd.read_csv(tmp_path / "pixels.csv")["pixels"].sum() == 32 * 48
    shares = pd.read_csv(tmp_path / "pixels_shares.csv").set_index("beyond")["share"]
    assert shares["max_softmax"] == pytest.approx(float((logits.softmax(1).amax(1) < 0.5).double().mean()))
    odin = pd.read_csv(tmp_path / "odin.csv")
    assert list(zip(odin["temperature"], odin["epsilon"], strict=True)) == list(ODIN_SETTINGS)
    assert odin["maximum"][2] == pytest.approx(functional.odin(logits.detach(), 1000).max().item())


def test_the_most_certain_image_is_found(
    fitted: tuple[Path, list[str]], network: FCN8s, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a run directory without a ledger: the whole train split is the pool
    cli.main(["pixels", *fitted[1], "--run_dir", str(tmp_path / "new")])
    data = PoolDataModule(SyntheticRoads(num_train=24, num_val=6, num_test=4, size=[32, 48]), run_dir=str(tmp_path))
    with torch.no_grad():
        means = {
            image_id: float(functional.entropy(network(batch["image"]).softmax(1))[i].mean())
            for batch in data.pool_dataloader(data.pool.units.images("train"))
            for i, image_id in enumerate(batch["image_id"])
        }
    image_id, _ = read_pixels(RunDirectory(tmp_path / "new"))
    assert means[image_id] == pytest.approx(min(means.values()), abs=1e-5)


def test_mistakes(
    fitted: tuple[Path, list[str]], trained: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, arguments = fitted
    digits = tmp_path / "digits.yaml"
    digits.write_text(yaml.safe_dump(TINY_DIGITS))
    new = ["--run_dir", str(tmp_path / "new")]
    for words, mistake in (
        ("no image 'train_03' among its 24; give an id such as train_0000", [*arguments, "--image", "train_03"]),
        ("pixels needs trained weights, got no --ckpt_path", [*arguments[:2], *new]),
        ("got no such file", [*arguments[:2], *new, "--ckpt_path", str(tmp_path / "none.ckpt")]),
        ("Digits has one class per image", ["--config", str(digits), *new, "--ckpt_path", str(trained(TINY_DIGITS))]),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            cli.main(["pixels", *mistake])
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["analyse", "--name", "odin", *new, "--out", str(tmp_path / "out")])
    assert "write them first with the verb pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
