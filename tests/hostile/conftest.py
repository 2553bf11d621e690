"""The working directory of every row, and a trained run to be damaged."""

import contextlib
import shutil
from pathlib import Path

import pytest
import yaml

import cli
from tests.hostile.table import SETTINGS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of two cycles of tiny.yaml."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    with contextlib.chdir(folder):
        cli.main(["fit", "--config", "tiny.yaml", "--run_dir", "run"])
    return folder / "run"


@pytest.fixture
def run_dir(here: Path, finished: Path) -> Path:
    """A copy of the trained run, to be damaged."""
    return Path(shutil.copytree(finished, here / "run"))
