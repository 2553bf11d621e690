"""Numbers of classes and sizes that are left out come from the data, and stay."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonargparse import Namespace
from torch import Tensor, nn

import cli
from pipelines.command_line import DropqueryCLI
from tests.conftest import TINY, TINY_DIGITS


class Own(nn.Module):
    """A network of somebody's own, which has to be told the number of classes."""

    def __init__(self, num_classes: int, depth: int = 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layer = nn.Conv2d(3, num_classes, depth)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images)
        return logits


class Read(DropqueryCLI):
    """The command line as far as it is read."""

    def run_verb(self, verb: str) -> None:
        """Nothing."""


Settings = Callable[..., Namespace]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """(experiment, network, other arguments) to the settings of a fit; no number of classes unless it is given."""

    def read(experiment: dict[str, Any], network: dict[str, Any], *arguments: str) -> Namespace:
        written = copy.deepcopy(experiment)
        written["model"]["init_args"]["network"] = network
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(written))
        args = ["fit", "--config", str(path), *arguments]
        found: Namespace = Read(args, {}).config["fit"]
        return found

    return read


def named(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": arguments}


def test_networks_that_are_not_told(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    own = settings(TINY, named("tests.pipelines.test_data_defaults.Own"))
    assert own.model.init_args.network.init_args.num_classes == 5
    small = named("lightning_modules.networks.TwoLayerNet", image_shape=[1, 8, 8])
    # its own default is 10, as is the number of digits' classes; of the scenes' it gives way
    assert settings(TINY_DIGITS, small).model.init_args.network.init_args.num_classes == 10
    assert settings(TINY, small).model.init_args.network.init_args.num_classes == 5
    inside = named("lightning_modules.networks.LossPrediction", layers=["features"], network=small)
    assert settings(TINY, inside).model.init_args.network.init_args.network.init_args.num_classes == 5
    loss = ["--model.loss", "lightning_modules.noise_losses.DropoutNoise"]
    told = settings(TINY, named("tests.pipelines.test_data_defaults.Own", num_classes=1), *loss)
    assert told.model.init_args.network.init_args.num_classes == 1
    assert told.model.init_args.loss.init_args.num_classes == 5


def test_what_is_written_stays(settings: Settings) -> None:
    small = named("lightning_modules.networks.TwoLayerNet", image_shape=[1, 8, 8], num_classes=10)
    assert settings(TINY, small).model.init_args.network.init_args.num_classes == 10
    typed = settings(TINY, named("lightning_modules.networks.TwoLayerNet"), "--model.network.num_classes", "10")
    assert typed.model.init_args.network.init_args.num_classes == 10


def test_a_data_set_that_cannot_be_read_says_so(settings: Settings, tmp_path: Path) -> None:
    folder = ["--data.source", "datamodules.sources.folder.Folder", f"--data.source.root={tmp_path}"]
    with pytest.raises(ValueError, match=r"class names at .*classes\.txt, one a line, got no such file"):
        settings(TINY, named("tests.pipelines.test_data_defaults.Own"), *folder)
    settings(TINY, named("tests.pipelines.test_data_defaults.Own", num_classes=2), *folder)


@pytest.fixture
def several_sizes(tmp_path: Path, save_image: Callable[..., Path]) -> list[str]:
    """Options of a folder with images of two sizes."""
    for i in range(9):
        pixels = np.zeros((20 + 30 * (i % 2), 40, 3), np.uint8)
        save_image(tmp_path / "data" / "images" / f"{i}.png", pixels)
        save_image(tmp_path / "data" / "masks" / f"{i}.png", pixels[..., 0] + i % 2)
    (tmp_path / "data" / "classes.txt").write_text("a\nb\n")
    return ["--data.source", "datamodules.sources.folder.Folder", f"--data.source.root={tmp_path / 'data'}"]


def test_sizes_that_are_left_out(settings: Settings, several_sizes: list[str], tmp_path: Path) -> None:
    left = {**TINY, "data": {"source": TINY["data"]["source"]}}
    network = named("tests.pipelines.test_data_defaults.Own")
    found = settings(left, network, *several_sizes).data
    assert (found.image_size, found.crop_size, found.batch_size) == ([32, 32], None, 4)
    cropped = settings(left, network, *several_sizes, "--data.crop_size", "[16,16]").data
    assert (cropped.image_size, cropped.eval_batch_size, cropped.batch_size) == (None, 1, 4)
    assert settings(left, network).data.batch_size == 8
    given = settings(left, network, *several_sizes, "--data.batch_size", "3", "--data.image_size", "[8,8]").data
    assert (given.image_size, given.batch_size, given.eval_batch_size) == ([8, 8], 3, None)
    # nothing was fitted there, so a first try does not stand in the way
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"image_size": [64, 64], "batch_size": 2}}))
    assert settings(left, network, *several_sizes, "--run_dir", str(run)).data.image_size == [32, 32]
    (run / "cycles" / "00").mkdir(parents=True)
    (run / "cycles" / "00" / "metrics.json").write_text("{}")
    begun = settings(left, network, *several_sizes, "--run_dir", str(run)).data
    assert (begun.image_size, begun.batch_size, begun.eval_batch_size) == ([64, 64], 2, None)


def test_a_fit_after_a_query_alone_has_the_sizes_of_the_query(
    settings: Settings, several_sizes: list[str], tmp_path: Path
) -> None:
    left = {**TINY, "data": {"source": TINY["data"]["source"]}}
    run = tmp_path / "run"
    (run / "cycles" / "00").mkdir(parents=True)
    (run / "cycles" / "00" / "queried.csv").write_text("name\n")
    (run / "query.yaml").write_text(yaml.safe_dump({"data": {"image_size": [64, 64], "batch_size": 2}}))
    network = named("tests.pipelines.test_data_defaults.Own")
    found = settings(left, network, *several_sizes, "--run_dir", str(run)).data
    assert (found.image_size, found.batch_size) == ([64, 64], 2)


def test_studies_and_ensembles_are_told(tmp_path: Path) -> None:
    plain = copy.deepcopy(TINY)
    del plain["model"]["init_args"]["network"]["init_args"]["num_classes"]
    config = tmp_path / "config.yaml"
    study = {"grid": {"strategies": {"random": {"acquisition": {"class_path": "acquisition.functions.Random"}}}}}
    config.write_text(yaml.safe_dump({**plain, **study}))
    assert cli.jobs_of(["study", "--config", str(config), "--run_dir", str(tmp_path / "study")])
    plain["data"]["source"] = named("datamodules.sources.synthetic_annotators.SyntheticAnnotators", num_images=6)
    del plain["data"]["initial"]
    config.write_text(yaml.safe_dump({**plain, "cycles": 1}))
    assert cli.jobs_of(["ensemble", "--config", str(config), "--run_dir", str(tmp_path / "ensemble")])
    for verb, number in (("study", 5), ("ensemble", 2)):
        kept = yaml.safe_load((tmp_path / verb / "config.yaml").read_text())
        assert kept["model"]["init_args"]["network"]["init_args"]["num_classes"] == number
