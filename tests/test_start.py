"""From images and no label to a second cycle, through the command line: nothing ends in a dead end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import cli
from datamodules.sources.class_folders import ClassFolders
from datamodules.sources.folder import Folder
from records.ledger import Ledger
from tests.conftest import TINY, TINY_DIGITS

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]
Said = pytest.CaptureFixture[str]


def settings(tmp_path: Path, base: dict[str, Any], source: str, oracle: dict[str, Any], **network: object) -> Path:
    """A YAML of two cycles of one epoch; people answer."""
    model = yaml.safe_load(yaml.safe_dump(base["model"]))
    model["init_args"]["network"]["init_args"].update(network)
    data = {
        "source": {"class_path": f"datamodules.sources.{source}", "init_args": {"root": str(tmp_path / "mine")}},
        "oracle": oracle, "batch_size": 4, "flip": 0.0,
    }  # fmt: skip
    trainer = {"max_epochs": 1, "accelerator": "cpu", "enable_model_summary": False}
    path = tmp_path / "mine.yaml"
    whole = {**base, "model": model, "data": data, "cycles": 2, "trainer": trainer, "run_dir": str(tmp_path / "run")}
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.fixture(autouse=True)
def without_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than these fits."""
    monkeypatch.setitem(cli.REPORTS, "curve", "reports.learning_curve:write_curve")


@pytest.fixture
def undrawn(tmp_path: Path, fake_pair: Pair, save_image: Callable[..., Path]) -> dict[str, np.ndarray]:
    """12 images of 3 classes below `mine` and no mask; returns the masks that people will draw."""
    masks = {}
    for i in range(12):
        image, masks[f"im{i:02d}"] = fake_pair(i, classes=3)
        save_image(tmp_path / "mine" / "images" / f"im{i:02d}.png", image)
    (tmp_path / "mine" / "classes.txt").write_text("dark\nmiddle\nbright\n")
    return masks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    oracle = {"class_path": "datamodules.oracle.FolderOracle", "init_args": {"folder": str(tmp_path / "drawn")}}
    return settings(tmp_path, TINY, "folder.Folder", oracle, num_classes=3)


def draw(tmp_path: Path, masks: dict[str, np.ndarray], names: Sequence[str]) -> None:
    (tmp_path / "drawn").mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(masks[name]).save(tmp_path / "drawn" / f"{name}.png")


def refused(capsys: Said, *command: str) -> str:
    with pytest.raises(SystemExit):
        cli.main(list(command))
    return capsys.readouterr().err


def test_from_images_without_a_mask_to_a_second_cycle(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray], capsys: Said
) -> None:
    fit, run_dir = ["fit", "--config", str(folder)], tmp_path / "run"
    held_out = Folder(str(tmp_path / "mine")).undrawn()
    assert 1 < len(held_out) < 5
    error = refused(capsys, *fit)
    assert "no unit is labelled, so there is nothing to train on, and no mask is there for the" in error
    assert "for training and" in error
    assert f"  dropquery start --config {folder}\n" in error

    cli.main(["start", "--config", str(folder), "--count", "5"])
    said = capsys.readouterr().out
    assert f"12: {12 - len(held_out)} to train on, {len(held_out)} held out for validation (im" in said
    assert "12 of 24 x 32; 12 RGB" in said
    assert "3: dark, middle, bright" in said
    assert "k-center on FCN8s's encoder with random weights" in said
    assert said.endswith(f"  2. dropquery fit --config {folder}\n")
    table = pd.read_csv(run_dir / "start.csv")
    assert table["split"].tolist() == ["train"] * 5 + ["val"] * len(held_out)
    assert set(table["unit_id"][table["split"] == "val"]) == set(held_out)
    assert table["priority"].tolist()[:5] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert table["name"].tolist() == [f"{u}.png" for u in table["unit_id"]]
    first = (run_dir / "start.csv").read_bytes()
    cli.main(["start", "--config", str(folder), "--count", "5"])
    assert (run_dir / "start.csv").read_bytes() == first
    assert Ledger(run_dir / "ledger.sqlite").events() == []

    # whoever has drawn some in another order is not sent elsewhere
    names = table["unit_id"].tolist()
    draw(tmp_path, undrawn, names[2:4])
    error = refused(capsys, *fit)
    assert "no unit is labelled" not in error
    assert "no mask is there for the" in error
    cli.main(["start", "--config", str(folder), "--count", "5"])
    assert pd.read_csv(run_dir / "start.csv")["unit_id"].tolist() == names[:2] + names[4:]
    draw(tmp_path, undrawn, names)
    capsys.readouterr()
    cli.main(["start", "--config", str(folder), "--count", "5"])
    assert "nothing: a fit can begin" in capsys.readouterr().out
    cli.main(fit)
    assert pd.read_csv(run_dir / "learning_curve.csv")["labelled_units"].tolist() == [5]
    queried = pd.read_csv(run_dir / "cycles" / "00" / "queried.csv")["unit_id"].tolist()
    assert set(queried) | set(names[:5]) | set(held_out) <= set(undrawn)
    draw(tmp_path, undrawn, queried)
    cli.main(fit)
    assert pd.read_csv(run_dir / "learning_curve.csv")["labelled_units"].tolist() == [5, 5 + len(queried)]


def test_at_random_and_with_other_numbers(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray], capsys: Said
) -> None:
    start = ["start", "--config", str(folder)]
    cli.main([*start, "--spread", "random", "--val_count", "1"])
    table = pd.read_csv(tmp_path / "run" / "start.csv")
    assert table["split"].tolist() == ["train"] * 4 + ["val"], "as many as strategy.budget"
    assert set(table["spread"]) == {"random"}
    error = refused(capsys, "fit", "--config", str(folder))
    assert ", ".join(table["unit_id"][:3]) in error, "the fit names what the list does"
    cli.main([*start, "--data.initial", "RandomSubset", "--data.initial.size", "6"])
    table = pd.read_csv(tmp_path / "run" / "start.csv")
    assert (table["split"] == "train").sum() == 6
    assert set(table["spread"]) == {"content"}
    assert "--count must be at least 1, got 0" in refused(capsys, *start, "--count", "0")


def test_parts_of_images_are_drawn_to_train_and_whole_images_to_validate(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray]
) -> None:
    grid = ["--data.partition", "datamodules.partitions.Grid", "--data.partition.height", "12"]
    cli.main(["start", "--config", str(folder), *grid, "--data.partition.width", "16", "--count", "6"])
    table = pd.read_csv(tmp_path / "run" / "start.csv")
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    assert train["pixels"].tolist() == [12 * 16] * 6
    assert all("#crop=" in unit_id for unit_id in train["unit_id"])
    assert set(val["unit_id"]) == set(Folder(str(tmp_path / "mine")).undrawn())
    assert val["pixels"].tolist() == [24 * 32] * len(val)
    shown = {p.stem for p in (tmp_path / "run" / "start" / "to_draw").glob("*.png")}
    assert shown == set(train["image_id"]) == {p.stem for p in (tmp_path / "run" / "start" / "regions").glob("*.png")}


def test_from_classified_images_without_a_class_to_a_second_cycle(
    tmp_path: Path, save_image: Callable[..., Path], capsys: Said
) -> None:
    root, table = tmp_path / "mine", tmp_path / "labels.csv"
    truth = {}
    for i in range(14):
        image = np.full((24, 32, 3), 40 + 120 * (i % 2) + i, dtype=np.uint8)
        save_image(root / "unlabelled" / f"im{i:02d}.png", image)
        truth[f"unlabelled/im{i:02d}"] = ("dark", "bright")[i % 2]
    oracle = {"class_path": "datamodules.oracle.LabelTable", "init_args": {"path": str(table)}}
    config = settings(
        tmp_path, TINY_DIGITS, "class_folders.ClassFolders", oracle, num_classes=2, image_shape=[3, 24, 32]
    )
    (root / "classes.txt").write_text("dark\nbright\n")
    held_out = ClassFolders(str(root)).undrawn()
    assert held_out
    fit = ["fit", "--config", str(config), "--strategy.budget", "3"]
    error = refused(capsys, *fit)
    assert "no label is there for the" in error
    assert f"write their classes into {table}" in error
    cli.main(["start", "--config", str(config), "--count", "6"])
    listed = pd.read_csv(tmp_path / "run" / "start.csv")
    assert listed["split"].tolist() == ["train"] * 6 + ["val"] * len(held_out)

    def write(names: Sequence[str]) -> None:
        rows = table.read_text() if table.is_file() else "unit_id,label\n"
        table.write_text(rows + "".join(f"{name},{truth[name]}\n" for name in names))

    write(listed["unit_id"])
    cli.main(fit)
    queried = pd.read_csv(tmp_path / "run" / "cycles" / "00" / "queried.csv")["unit_id"].tolist()
    assert not set(queried) & set(held_out)
    write(queried)
    cli.main(fit)
    assert pd.read_csv(tmp_path / "run" / "learning_curve.csv")["labelled_units"].tolist() == [6, 9]


def test_weights_that_cannot_be_had_are_said(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray], capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    network = ["--model.network", "lightning_modules.networks.ResNet18", "--model.network.weights", "imagenet"]
    cli.main(["start", "--config", str(folder), *network, "--model.network.num_classes", "3", "--count", "2"])
    said = capsys.readouterr().out
    assert "ResNet18's encoder with random weights" in said
    assert "could not be downloaded (OSError: no route to host)" in said


def test_where_the_data_set_is_to_answer_and_cannot(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray], capsys: Said
) -> None:
    truth = ["--data.oracle", "datamodules.oracle.HiddenTruth", "--spread", "random"]
    cli.main(["start", "--config", str(folder), *truth])
    said = capsys.readouterr().out
    assert "let people answer: set data.oracle to datamodules.oracle.FolderOracle, and type again" in said


def test_a_share_that_holds_nothing_out(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray], capsys: Said
) -> None:
    less = ["--data.source.val_fraction", "0"]
    for verb in ("start", "fit"):
        error = refused(capsys, verb, "--config", str(folder), *less)
        assert "0 leaves none to hold out: set data.source.val_fraction to 0." in error
    share = error.partition("val_fraction to ")[2].partition(",")[0]
    assert Folder(str(tmp_path / "mine"), val_fraction=float(share)).undrawn()


def test_what_stands_in_masks_is_said(
    tmp_path: Path, folder: Path, undrawn: dict[str, np.ndarray], capsys: Said
) -> None:
    start = ["start", "--config", str(folder), "--spread", "random"]
    draw(tmp_path, undrawn, Folder(str(tmp_path / "mine")).images("train")[:2])
    cli.main(start)
    said = capsys.readouterr().out
    assert "values 0 (" in said
    assert "in 2 masks" in said
    assert "void 0.0%" in said
    (tmp_path / "mine" / "classes.txt").write_text("background\ncell\n")
    binary = {name: (mask > 1).astype(np.uint8) * 255 for name, mask in undrawn.items()}
    draw(tmp_path, binary, Folder(str(tmp_path / "mine")).images("train")[:2])
    cli.main([*start, "--model.network.num_classes", "2"])
    assert "set data.mask_values, if the values mean this: '{0: 0, 255: 1}'" in capsys.readouterr().out
    draw(tmp_path, {name: mask // 255 * 7 for name, mask in binary.items()}, list(binary)[:12])
    error = refused(capsys, *start, "--model.network.num_classes", "2")
    assert "data.mask_values" in error
