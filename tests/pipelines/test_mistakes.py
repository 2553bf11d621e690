"""What a mistyped command line or YAML costs: a few lines that name what was meant."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import cli
from pipelines.class_names import names_below
from tests.conftest import TINY

TYPED = [
    ("fit --config t.yaml --strategy.budgett 3 --cycles 1 --modle.network.width 2 --run_dir r",
     ["budgett; did you mean --strategy.budget?", "--modle.network.width; did you mean --model.network.width?"]),
    ("fit --config t.yaml --model.network.widht 2 --strategy.budgett -1 --cycles 1 --data.crop_size 3",
     ["did you mean --model.network.width?", "did you mean --strategy.budget?", "--data.crop_size must be a list"]),
    ("fit --config t.yaml --model.network FCN8 --model.network.widht 2 --strategy.acquisition=BALDD --strategy.seed 1",
     ["did you mean FCN8s (", "did you mean BALD ("]),
    ("fit --config t.yaml --trainer.max_epohcs -1 --cycels 2", ["--trainer.max_epochs?", "--cycles?"]),
    ("fit --config t.yaml --model.optimizer.lrr 2", ["Adam has none of that name; did you mean --model.optimizer.lr?"]),
    ("fit --model.network.help FCN8s", ["--model.network.help: which class", "give --model or --config before it"]),
    ("fit --config t.yaml --budget 3", ["there is no option --budget; did you mean --strategy.budget?"]),
    ("compare --rundir x --drawss 3", ["did you mean --run_dir?", "did you mean --draws?"]),
    ("fit --config t.yaml --model.network.widht 2", ["FCN8s has none of that name; did you mean --model.network.wid"]),
    ("fit --config t.yaml --strategy.acquisition BALDD", ["no such class as BALDD; did you mean BALD ("]),
    ("fit --config t.yaml --model.network FCN8", ["did you mean FCN8s (lightning_modules.networks.fcn8s.FCN8s)"]),
    ("fit --config t.yaml --model.optimizer Adm", ["did you mean Adam ("]),
    ("fit --config t.yaml --strategy.budget x", ["--strategy.budget must be a whole number, got x"]),
    ("fit --config t.yaml --data.crop_size 3", ["--data.crop_size must be a list such as [1, 2], got 3"]),
    ("fit --config t.yaml --data.oracle.corruption Noise", ["give --data.oracle before it, one of HiddenTruth, Whole"]),
    ("fit --config t.yaml --data.root x", ["there is no option --data.root;", "below its class: --data.source.root"]),
    ("fit --config t.yaml --data.oracle.foldre x", ["a class that is not chosen yet: give --data.oracle"]),
    ("fit --config t.yaml extra", ["fit takes no 'extra' beside its options"]),
    ("fit --config t.yml", ["there is no file", "did you mean", "t.yaml?"]),
    ("fit", ["fit --config FILE", "--data.source", "`dropquery init segmentation` writes one"]),
    ("fti --config t.yaml", ["there is no verb 'fti'; did you mean fit?"]),
    ("submit --time 60 fti --config t.yaml", ["there is no verb 'fti'; did you mean fit?"]),
    ("submit --time 60 fit --config t.yaml --cyclse 2 --data.crp 3", ["did you mean --cycles?", "--data.crp"]),
    ("--config t.yaml fit", ["expected a verb before any option"]),
    ("analyse --name boundz", ["--name must be one of", "did you mean bounds?"]),
    ("assign --scoers a.csv", ["there is no option --scoers; did you mean --scores?"]),
    ("compare --draws x", ["--draws must be a whole number, got x"]),
    ("compare", ["compare needs --run_dir"]),
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def refusal(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a command, in at most five lines and with status 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main(shlex.split(command))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("dropquery: error: ")
    assert len(said.splitlines()) <= 5
    assert max(map(len, said.splitlines())) < 300
    return said


@pytest.mark.parametrize(("command", "words"), TYPED, ids=lambda v: v[:60] if isinstance(v, str) else "")
def test_a_mistake_names_what_was_meant(
    command: str, words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(command, capsys)
    assert all(w in said for w in words), said
    assert "--1" not in said, "a negative number is no option"


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("strategy", "budgett"), 3, "--strategy.budgett; did you mean --strategy.budget?"),
        (("strategy", "acquisition"), {"class_path": "acquisition.functions.BALDD"}, "did you mean BALD ("),
        (("strategy", "acquisition"), "Entropie", "no such class as Entropie; did you mean Entropy ("),
        (("model", "init_args", "network", "init_args", "num_clases"), 5, "did you mean --model.network.num_classes?"),
        (("sead_everything",), 5, "--sead_everything; did you mean --seed_everything?"),
    ],
)
def test_a_mistake_in_a_yaml(
    place: tuple[str, ...], value: Any, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(yaml.safe_dump(TINY))
    inside = settings
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    (here / "t.yaml").write_text(yaml.safe_dump(settings))
    assert words in refusal("fit --config t.yaml", capsys)


def test_short_names_of_classes_in_a_yaml(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**TINY, "strategy": {"acquisition": "BALD", "selection": "CoreSet"}}
    settings["data"] = {"source": {"class_path": "Folder", "init_args": {"root": "mine"}}}
    settings["model"] = {"class_path": "SegmentationModule", "init_args": {"network": {"class_path": "SegNet"}}}
    settings["model"]["init_args"]["network"]["init_args"] = {"num_classes": 5}
    (here / "t.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit, match="0"):
        cli.main(["fit", "--config", "t.yaml", "--print_config"])
    read = yaml.safe_load(capsys.readouterr().out)
    assert read["strategy"]["acquisition"] == {"class_path": "acquisition.functions.BALD"}
    assert read["strategy"]["selection"]["class_path"] == "acquisition.batch.CoreSet"
    assert read["data"]["source"]["class_path"] == "datamodules.sources.folder.Folder"
    assert read["model"]["init_args"]["network"]["class_path"].endswith("SegNet")


def test_classes_are_found_by_what_they_are() -> None:
    assert {"Folder", "SyntheticRoads", "MNIST"} <= {*names_below("Source")}
    assert {"BALD", "Random"} <= {*names_below("AcquisitionFunction")}
    assert not {"Source", "FileSource", "AcquisitionFunction"} & {*names_below("Source")}
    assert names_below("LightningModule") == ["ClassificationModule", "SegmentationModule"]
