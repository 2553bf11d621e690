"""docs/extending.md: its files, written into an empty folder, and its commands, typed there with tiny limits."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cli
from records.ledger import Ledger
from tests.conftest import in_this_process
from tests.pages import ROOT, TINY, commands, files_of

PAGE = ROOT / "docs" / "extending.md"
FILES = files_of(PAGE)
FOLDER = [
    '--model.network={"class_path": "my_network.Shallow", "init_args": {"num_classes": 2}}',
    "--data.image_size=[32,32]", "--data.crop_size=[32,32]", "--data.batch_size=2", "--data.num_workers=0",
    "--strategy.budget=2", "--strategy.predictor.num_samples=2", "--strategy.pictures=0", "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu", "--wandb.mode=disabled",
]  # fmt: skip
"""What makes configs/folder_example.yaml take seconds."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of somebody who has typed in the page's files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    importlib.invalidate_caches()
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def typed(run_dir: str) -> list[str]:
    """The page's command with this run directory, the first of them."""
    return next(c for c in commands(PAGE) if f"runs/{run_dir}" in c)


def test_every_command_is_tested() -> None:
    run_dirs = [c[c.index("--run_dir") + 1] for c in commands(PAGE)]
    tested = ["mean_margin", "mean_margin_study", "shallow", "shallow", "beside", "platform"]
    assert run_dirs == [f"runs/{name}" for name in tested]
    assert set(FILES) == {
        "my_acquisition.py", "test_my_acquisition.py", "my_network.py", "my_data.py", "my_platform.py",
    }  # fmt: skip


def test_the_acquisition_function_queries(here: Path) -> None:
    cli.main([*typed("mean_margin"), *TINY, "--cycles", "2"])
    queried = [e for e in Ledger(here / "runs/mean_margin/ledger.sqlite").events() if e.kind == "queried"]
    assert {e.strategy for e in queried} == {"MeanMargin(power=2)-Mean-TopK"}
    assert all(0 <= e.score <= 1 for e in queried)


def test_the_study_compares_it(here: Path) -> None:
    with in_this_process():
        cli.main([*typed("mean_margin_study"), *TINY, "--cycles", "1", "--grid.seeds", "1"])
    study = pd.read_csv(here / "runs/mean_margin_study/study.csv")
    assert set(study["strategy"]) == {"random", "mean-margin"}


def test_its_tests_pass(here: Path) -> None:
    tests = vars(importlib.import_module("test_my_acquisition"))
    found = [test for name, test in tests.items() if name.startswith("test_")]
    assert len(found) == 2
    for test in found:
        test()


def test_the_network_is_fitted_and_looked_at(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit, doctor = (c for c in commands(PAGE) if "runs/shallow" in c)
    tiny = [option for option in TINY if "network" not in option]
    cli.main([*fit, *tiny])
    assert (here / "runs/shallow/cycles/00/best.ckpt").is_file()
    capsys.readouterr()
    cli.main([*doctor, *tiny])
    assert "dropout" in capsys.readouterr().out


def test_the_data_set_is_learned(here: Path, save_image: Callable[..., Path], fake_pair: Callable[..., tuple]) -> None:
    for number in range(12):
        image, mask = fake_pair(number, 2)
        save_image(here / f"BESIDE/cell{number}.png", image)
        save_image(here / f"BESIDE/cell{number}_mask.png", mask)
    (here / "BESIDE/val.txt").write_text("cell0\ncell1\n")
    cli.main([*typed("beside"), *FOLDER, "--cycles", "2"])
    assert pd.read_csv(here / "runs/beside/learning_curve.csv")["labelled_units"].tolist() == [4, 6]


def export(root: Path, names: list[str]) -> None:
    """A platform's COCO file in which these images have a square each."""
    square = [4.0, 4.0, 20.0, 4.0, 20.0, 16.0, 4.0, 16.0]
    numbers = range(1, len(names) + 1)
    (root / "export.json").write_text(
        json.dumps(
            {
                "images": [{"id": n, "file_name": f"{name}.png"} for n, name in zip(numbers, names, strict=True)],
                "categories": [{"id": 7, "name": "middle"}],
                "annotations": [{"image_id": n, "category_id": 7, "segmentation": [square]} for n in numbers],
            }
        )
    )


def test_the_platform_is_waited_for(
    here: Path, save_image: Callable[..., Path], fake_pair: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    for split, count in (("train", 8), ("val", 2)):
        for number in range(count):
            image, mask = fake_pair(number, 2)
            save_image(here / f"ROOT/{split}/images/{split}{number}.png", image)
            if split == "val":
                save_image(here / f"ROOT/{split}/masks/{split}{number}.png", mask)
    (here / "ROOT/classes.txt").write_text("dark\nmiddle\n")
    export(here, [f"train{number}" for number in range(4)])
    cli.main([*typed("platform"), *FOLDER])
    queried = pd.read_csv(here / "runs/platform/cycles/00/queried.csv")["unit_id"].tolist()
    assert len(queried) == 2
    assert not (here / "runs/platform/cycles/01").exists()

    export(here, [*(f"train{number}" for number in range(4)), *queried])
    cli.main([*typed("platform"), *FOLDER])
    assert pd.read_csv(here / "runs/platform/learning_curve.csv")["labelled_units"].tolist() == [4, 6]

    oracle = importlib.import_module("my_platform")
    source = importlib.import_module("datamodules.sources.folder").Folder("ROOT")
    mask = oracle.CocoExport("export.json").annotations(source).read_annotation("train0")
    assert mask[4:16, 4:20].all()
    assert mask.sum() < 18 * 14
