"""Every YAML, found by glob, runs with tiny limits; headers say what they must."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import cli
from datamodules.sources.synthetic import draw_scene
from lightning_modules.networks import DeepLabV3Plus
from pipelines import study
from tests.conftest import ROOT, fake_cifar10, fake_cifar100, fake_mnist, one_after_another

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
STUDIES = [path for path in CONFIGS if "grid" in yaml.safe_load(path.read_text())]
LIMITS = [
    "--cycles", "2", "--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1",
    "--trainer.max_steps", "-1", "--trainer.val_check_interval", "1.0",
    "--trainer.accelerator", "cpu", "--trainer.precision", "32-true",
    "--data.batch_size", "2", "--data.eval_batch_size", "4",
    "--strategy.budget", "2", "--strategy.predictor.num_samples", "2", "--strategy.pictures", "1",
    "--wandb.mode", "disabled",
]  # fmt: skip
READ_ONE_BY_ONE = ["--data.num_workers", "0", "--data.crop_size", "[32,48]"]
FEWER = {
    "SyntheticRoads": [
        "--data.source.num_train", "8", "--data.source.num_val", "2", "--data.source.size", "[32,48]", *READ_ONE_BY_ONE,
    ],
    "CamVid": READ_ONE_BY_ONE,
    "Cityscapes": READ_ONE_BY_ONE,
    "Folder": READ_ONE_BY_ONE,
    "MultiAnnotatorFolder": ["--data.source.folds", "2", *READ_ONE_BY_ONE],
    "SyntheticAnnotators": [
        "--data.source.num_images", "8", "--data.source.size", "[32,48]", "--data.source.folds", "2", *READ_ONE_BY_ONE,
    ],
    "ClassFolders": ["--data.image_size", "[32,48]", *READ_ONE_BY_ONE],
    "Digits": ["--data.source.num_train", "60", "--data.source.num_val", "20"],
    "CIFAR10": ["--data.source.num_train", "60", "--data.source.num_val", "20", "--data.source.held_out", "0"],
}  # fmt: skip
EMBEDDED = ("SyntheticRoads", "SyntheticAnnotators", "Digits")
SMALLER = {
    "FCN8s": ["--model.network.width", "0.03", "--model.network.batch_norm", "true"],
    "DeepLabV3Plus": ["--model.network.encoder", "resnet18", "--model.network.decoder_channels", "16"],
    "DRND22": [],
    "ResNet18": [],
    "TwoLayerNet": ["--model.network.width", "8"],
}


def fake_data(kind: str, root: Path) -> list[str]:
    """The real layout of a data set: 6 training and 2 validation scenes, 8 that two people drew, or some noise."""
    if kind == "MultiAnnotatorFolder":
        for i in range(8):
            image, mask = draw_scene(i, 32, 48)
            # the second drawings are of another pixel here and there, as they would be
            drawings = {f"masks/{p}": np.roll(mask > 1, p == "bo", axis=0) for p in ("ann", "bo")}
            drawings |= {f"masks_amira/{p}": np.roll(mask > 1, 2, axis=1) for p in ("ann", "bo")}
            for folder, values in {
                "images": image,
                **{k: 255 * v.astype(np.uint8) for k, v in drawings.items()},
            }.items():
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(root / folder / f"cell{i}.png")
        (root / "classes.txt").write_text("background\nthing\n")
        return ["--data.source.root", str(root)]
    if kind == "CIFAR10":
        fake_cifar10(root)
        return ["--data.source.root", str(root)]
    if kind == "ClassFolders":
        for number, (split, name) in enumerate((s, n) for s in ("train", "val") for n in ("benign", "malignant")):
            for i in range(3):
                path = root / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw_scene(10 * number + i, 32, 48)[0]).save(path)
        return ["--data.source.root", str(root)]
    for split, count in (("train", 6), ("val", 2)):
        for i in range(count):
            image, mask = draw_scene(i + 50 * (split == "val"), 32, 48)
            if kind == "Cityscapes":
                image_path = root / "leftImg8bit" / split / "town" / f"town_{i:06d}_leftImg8bit.png"
                mask_path = root / "gtFine" / split / "town" / f"town_{i:06d}_gtFine_labelIds.png"
                mask = np.array([7, 26, 23, 21, 17], dtype=np.uint8)[np.minimum(mask, 4)]
                instances = mask_path.with_name(mask_path.name.replace("_labelIds", "_instanceIds"))
                instances.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint16)).save(instances)
            else:
                image_path = root / split / "images" / f"{split}{i}.png"
                mask_path = root / split / "masks" / f"{split}{i}.png"
                mask = np.minimum(mask, 1) if kind == "Folder" else mask
            for path, values in ((image_path, image), (mask_path, mask)):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    if kind == "Folder":
        (root / "classes.txt").write_text("background\nroad\n")
    arguments = ["--data.source.root", str(root)]
    return arguments + (["--data.oracle.folder", str(root / "train" / "masks")] if kind == "Folder" else [])


@pytest.mark.parametrize("config", [p for p in CONFIGS if p not in STUDIES], ids=lambda p: p.stem)
def test_config_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = yaml.safe_load(config.read_text())
    kind = settings["data"]["source"]["class_path"].rpartition(".")[2]
    network = settings["model"]["init_args"]["network"]
    arguments = list(FEWER[kind])
    if kind == "CIFAR10":
        # the fake files cannot have the real checksums
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    if kind not in EMBEDDED:
        arguments += fake_data(kind, tmp_path / "data")
    if "initial" in settings["data"]:
        arguments += ["--data.initial.size", "2"]
    first = 2
    if settings["data"].get("initial", {}).get("class_path") == "datamodules.initial.PerClass":
        first = 20
    arguments += SMALLER[network["class_path"].rpartition(".")[2]]
    if "weights" in network["init_args"]:
        arguments += ["--model.network.weights", "null"]
    if "people" in settings["data"]["source"].get("init_args", {}):
        # the fake ones have other names
        arguments += ["--data.source.people", "null"]
    run_dir = tmp_path / "run"
    where = ["--run_dir", str(run_dir), "--initial_models", str(tmp_path / "initial")]
    cli.main(["fit", "--config", str(config), *LIMITS, *arguments, *where])
    labelled = pd.read_csv(run_dir / "learning_curve.csv")["labelled_units"].tolist()
    if kind in ("MultiAnnotatorFolder", "SyntheticAnnotators") and "initial" not in settings["data"]:
        # everything outside the fold is labelled from the start, so there is nothing to query
        assert len(labelled) == 1
        assert 1 <= labelled[0] < 8
    else:
        assert labelled == ([6] if kind == "Folder" else [first, first + 2])


def test_cityscapes_trains_the_network_of_the_thesis() -> None:
    settings = yaml.safe_load((ROOT / "configs" / "cityscapes_deeplabv3plus_bald.yaml").read_text())
    with torch.device("meta"):
        network = DeepLabV3Plus(**settings["model"]["init_args"]["network"]["init_args"] | {"weights": None}).eval()
        deepest = network.model.encoder(torch.empty(1, 3, 64, 64))[-1]
    assert deepest.shape == (1, 2048, 4, 4)
    # resnet_v1_50_beta's first layers are three 3 x 3 convolutions
    stem = [m for m in network.model.encoder.model.conv1 if isinstance(m, nn.Conv2d)]
    assert [(m.kernel_size, m.out_channels) for m in stem] == [((3, 3), 64), ((3, 3), 64), ((3, 3), 128)]
    # the thesis's 0.9 is a keep rate; 0.5 is both
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert settings["strategy"]["predictor"]["init_args"]["rate"] == 0.5


FINER = {
    "RandomCrops": ["--data.partition.height", "16", "--data.partition.width", "16"],
    "Superpixels": ["--data.partition.count", "6"],
}


def class_name(settings: dict[str, Any]) -> str:
    return str(settings["class_path"]).rpartition(".")[2]


@pytest.mark.parametrize("config", [p for p in STUDIES if "cityscapes" in p.stem], ids=lambda p: p.stem)
def test_a_study_of_cityscapes_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of its strategies tiny; all of them are read."""
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    settings = yaml.safe_load(config.read_text())
    initial = class_name(settings["data"]["initial"])
    cycles, variants = min(2, settings["cycles"]), settings["grid"].get("vary", {})
    network = settings["model"]["init_args"]["network"]
    arguments = [*LIMITS, *READ_ONE_BY_ONE, *fake_data("Cityscapes", tmp_path / "data"), "--data.initial.size", "2"]
    arguments += [*SMALLER[class_name(network)], "--grid.seeds", "1", "--cycles", str(cycles)]
    if "weights" in network["init_args"]:
        arguments += ["--model.network.weights", "null"]
    if "partition" in settings["data"]:
        arguments += FINER[class_name(settings["data"]["partition"])]
    command = ["study", "--config", str(config), "--run_dir", str(tmp_path / "run"), *arguments]
    strategies = settings["grid"]["strategies"]
    assert len(cli.jobs_of(command)) == len(strategies) * int(np.prod([len(v) for v in variants.values()]))
    few = {name: strategies[name] for name in ("random", "entropy-counted", "variance") if name in strategies}
    some = {name: values[:2] for name, values in variants.items()}
    where = ["--run_dir", str(tmp_path / "few"), "--grid.strategies", json.dumps(few), "--grid.at_once", "1"]
    cli.main([*command, *where, "--grid.vary", json.dumps(some)])
    labelled = pd.read_csv(tmp_path / "few" / "study.csv")["labelled_units"].tolist()
    first = labelled[0] if initial == "RandomImages" else 2
    assert labelled == [first, first + 2][:cycles] * 2


def test_the_quickstart_compares_two_strategies_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That it is a fit as well is tested by the README's commands."""
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    config = str(ROOT / "configs" / "quickstart.yaml")
    arguments = [*LIMITS, *FEWER["SyntheticRoads"], *SMALLER["FCN8s"], "--data.initial.size", "2"]
    cli.main(["study", "--config", config, "--run_dir", str(tmp_path), *arguments, "--grid.seeds", "1"])
    *_, page, _, sentence = capsys.readouterr().out.splitlines()
    assert page == f"page:   {tmp_path / 'report' / 'index.html'}"
    assert sentence.startswith("bald ")
    assert "random's final val/miou of 0." in sentence
    assert sentence.endswith("(one seed, so this may be luck).")
    table = pd.read_csv(tmp_path / "study.csv")
    first = table[table["cycle"] == 0].groupby("labelled_units")["val/miou"].nunique()
    assert first.to_dict() == {2: 1}, "both strategies have one start"


TRANSFER = [p for p in STUDIES if "transfer" in p.stem]
MISSING = [p for p in STUDIES if "missing" in p.stem]


def test_transfer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fold tiny, of classes that the scenes have, which starts from the other study's weights; all are read."""
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    monkeypatch.chdir(tmp_path)
    found = fake_data("CamVid", tmp_path / "data")
    arguments = [*LIMITS, "--cycles", "1", "--data.num_workers", "0", "--data.source.source.source.root", found[1]]
    arguments += ["--data.source.source.height", "32", "--data.source.source.width", "48", *SMALLER["DeepLabV3Plus"]]
    for name, classes in (("_pretrain", ["sky", "road"]), ("", ["building", "pole", "tree"])):
        config = ROOT / "configs" / f"camvid_transfer{name}.yaml"
        grid = yaml.safe_load(config.read_text())["grid"]
        command = ["study", "--config", str(config), *arguments, "--grid.at_once", "1", "--grid.seeds", "1"]
        assert len(cli.jobs_of([*command, "--run_dir", "all"])) == len(grid["strategies"]) * 2
        fold = {"data.source.classes": classes, "model.network.num_classes": len(classes) + 1}
        few = ["--grid.variants", json.dumps({"fold2": fold})]
        few += ["--grid.baseline", "objectness", "--grid.strategies"]
        cli.main([*command, *few, json.dumps({"objectness": grid["strategies"]["objectness"]})])
    table = pd.read_csv(tmp_path / "runs" / "camvid_transfer" / "study.csv")
    assert table[["grid.variants", "variant", "strategy"]].to_numpy().tolist() == [["fold2", "fold2", "objectness"]]


@pytest.mark.parametrize("config", MISSING, ids=lambda p: p.stem)
def test_a_study_of_missing_objects_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    strategies = yaml.safe_load(config.read_text())["grid"]["strategies"]
    arguments = [*LIMITS, "--cycles", "1", "--data.num_workers", "0", "--model.network.weights", "null"]
    arguments += ["--data.source.source.root", fake_data("Folder", tmp_path / "data")[1], *SMALLER["DeepLabV3Plus"]]
    arguments += ["--data.source.height", "32", "--data.source.width", "48", "--grid.at_once", "1", "--grid.seeds", "1"]
    command = ["study", "--config", str(config), *arguments]
    assert len(cli.jobs_of([*command, "--run_dir", str(tmp_path / "all")])) == len(strategies)
    few = {name: strategies[name] for name in ("plain", "complete")}
    cli.main([*command, "--run_dir", str(tmp_path / "run"), "--grid.strategies", json.dumps(few)])
    table = pd.read_csv(tmp_path / "run" / "report" / "last_cycle.csv")
    assert set(table["metric"]) >= {"val/miou", "val/pixel_accuracy", "val/mean_accuracy", "val/fw_iou"}
    assert table.loc[table["difference"].isna(), "strategy"].unique().tolist() == ["plain"]


@pytest.mark.parametrize(
    "config", [p for p in STUDIES if "camvid" in p.stem and p not in TRANSFER], ids=lambda p: p.stem
)
def test_a_study_of_camvid_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    settings = yaml.safe_load(config.read_text())
    data, network, grid = settings["data"], settings["model"]["init_args"]["network"], settings["grid"]
    found = fake_data("CamVid", tmp_path / "data")
    if class_name(data["source"]) == "Resized":
        found = ["--data.source.height", "32", "--data.source.width", "48", "--data.source.source.root", found[1]]
    arguments = [*LIMITS, "--data.num_workers", "0", "--grid.seeds", "1", *found, "--data.initial.size", "2"]
    arguments += SMALLER.get(class_name(network), [])
    if "weights" in network["init_args"]:
        arguments += ["--model.network.weights", "null"]
    for key, smaller in (("image_size", "[32,48]"), ("crop_size", "[32,48]")):
        arguments += [f"--data.{key}", smaller] if key in data else []
    if "partition" in data:
        arguments += FINER[class_name(data["partition"])]
    strategies = grid["strategies"]
    for changes in strategies.values():
        if "size" in changes.get("data", {}).get("initial", {}).get("init_args", {}):
            changes["data"]["initial"]["init_args"]["size"] = 20
    some = {name: [2] for name in grid.get("vary", {})}
    where = ["--run_dir", str(tmp_path / "run"), "--initial_models", str(tmp_path / "initial"), "--grid.at_once", "1"]
    what = ["--grid.strategies", json.dumps(strategies), "--grid.vary", json.dumps(some)]
    cli.main(["study", "--config", str(config), *arguments, *where, *what])
    table = pd.read_csv(tmp_path / "run" / "study.csv")
    assert len(table) == 2 * len(strategies)
    units = table.groupby("strategy")["labelled_units"]
    assert (units.max() - units.min() == 2).all()
    assert set(units.min().drop("points-entropy", errors="ignore")) >= {2}


@pytest.mark.parametrize("config", [p for p in STUDIES if "unlabelled" in p.stem], ids=lambda p: p.stem)
def test_a_study_of_positive_and_unlabelled_labels_runs(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first and last loss on half of the labels, with the first value of what else varies."""
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    settings = yaml.safe_load(config.read_text())
    fake_mnist(tmp_path)
    fake_cifar10(tmp_path)
    fake_cifar100(tmp_path)
    arguments = [*LIMITS, "--data.allow_missing_classes", "true", "--grid.seeds", "1", "--grid.at_once", "1"]
    arguments += [f"--data.source.{part}.root={tmp_path}" for part in ("positive", "negative")]
    arguments += ["--data.initial=datamodules.initial.RandomSubset", "--data.initial.size=20", "--cycles=1"]
    arguments += ["--data.source.num_train=60", "--data.source.num_val=20"]
    if class_name(settings["model"]["init_args"]["network"]) == "SmallVGG":
        arguments += ["--model.network.channels", "[2,2,2]", "--model.network.width", "8"]
    varied = settings["grid"]["vary"]
    vary = {name: values[:1] for name, values in varied.items()}
    vary |= {"data.oracle.corruption": varied["data.oracle.corruption"][1:2], "model.loss": varied["model.loss"][::3]}
    where = ["--run_dir", str(tmp_path / "run"), "--grid.vary", json.dumps(vary)]
    cli.main(["study", "--config", str(config), *arguments, *where])
    table = pd.read_csv(tmp_path / "run" / "study.csv")
    assert table["labelled_units"].tolist() == [20, 20]
    assert table["val/macro_f1"].between(0, 1).all()


@pytest.mark.parametrize(
    "config",
    [
        p
        for p in STUDIES
        if p.stem.split("_")[0] not in ("camvid", "cityscapes", "quickstart")
        and "unlabelled" not in p.stem
        and p not in MISSING
    ],
    ids=lambda p: p.stem,
)
def test_study_config_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    settings = yaml.safe_load(config.read_text())
    fake_mnist(tmp_path)
    initial = settings["data"]["initial"]["class_path"].rpartition(".")[2]
    arguments = [*LIMITS, "--data.source.root", str(tmp_path), "--data.allow_missing_classes", "true"]
    for checkpoint in sorted({s for s in texts([settings["strategy"], settings["grid"]]) if s.endswith("best.ckpt")}):
        all_labelled = ["--cycles", "1", "--data.initial", "datamodules.initial.AllAnswered"]
        expert = ["--run_dir", checkpoint.partition("/cycles/")[0]]
        cli.main(["fit", "--config", str(config), *arguments, *all_labelled, *expert])
    if initial == "RandomSubset":
        arguments += ["--data.initial.size", "10"]
    if initial == "FromFile":
        # what the strategy of the file queries before anything is fitted
        query = ["--run_dir", settings["data"]["initial"]["init_args"]["path"].partition("/cycles/")[0]]
        cli.main(["query", "--config", str(config), *arguments, *query, "--strategy.budget", "10"])
    few = ["--grid.seeds", "1", "--grid.at_once", "1", "--run_dir", "run"]
    cli.main(["study", "--config", str(config), *arguments, *few])
    table = pd.read_csv(tmp_path / "run" / "study.csv")
    runs = len(settings["grid"]["strategies"]) * int(
        np.prod([len(v) for v in settings["grid"].get("vary", {}).values()])
    )
    first = 20 if initial == "PerClass" else 10
    assert table["labelled_units"].tolist() == [first, first + 2] * runs


def texts(settings: object) -> Iterator[str]:
    """All strings among the values of nested settings."""
    if isinstance(settings, (dict, list)):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from texts(value)
    elif isinstance(settings, str):
        yield settings


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.stem)
def test_header_says_source_expectation_duration_and_command(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    for word in ("Source:", "Expected:", "Duration:", "Command:"):
        assert any(line.startswith(f"# {word}") for line in header), f"{config.name} has no {word}"
    assert any(f"--config configs/{config.name}" in line for line in header)
