"""Pictures of queried units: a query is never lost for one."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from acquisition.regions import Regions
from acquisition.scored import Scored
from callbacks.choice import _platform_table
from callbacks.gallery import Gallery, saved_samples
from callbacks.pictures import draw_ends
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.partitions import Region
from datamodules.sources.synthetic import SyntheticRoads

IMAGE = np.zeros((3, 16, 24), np.float32)
LONG = f"$x_{{/{'ä' * 120}/{'b' * 200}"
"""Nested, longer than a file name may be, of more bytes than characters, and mathematics to matplotlib."""


class Roads(SyntheticRoads):
    """Scenes of which one has a truth that cannot be read."""

    def images(self, split: str) -> Sequence[str]:
        return ["broken", "a", LONG]

    def is_annotated(self, image_id: str) -> bool:
        return image_id == "broken"

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        raise DataError("the mask of 'broken' is not a readable image")


def draw(tmp_path: Path, *unit_ids: str) -> list[str]:
    """Names of the pictures of the first and the last unit, drawn from what a gallery saved."""
    gallery = Gallery(1)
    scores = torch.arange(len(unit_ids), 0, -1.0)
    flat = torch.zeros(len(unit_ids), *IMAGE.shape[1:])
    images = torch.from_numpy(np.stack([IMAGE] * len(unit_ids)))
    gallery.offer({"image": images}, Regions.whole(unit_ids), Scored(scores, values=flat, predictions=flat.long()))
    gallery.save(tmp_path)
    table = pd.DataFrame({"unit_id": unit_ids, "score": scores.numpy(), "rank": range(1, len(unit_ids) + 1)})
    saved = dict(saved_samples(tmp_path))
    data = PoolDataModule(Roads(), run_dir=str(tmp_path))
    draw_ends(tmp_path / "maps", table.assign(selected=True), saved, 1, "BALD", data)
    assert not list(tmp_path.glob(".*")), "whole files alone are left"
    return sorted(p.name for p in (tmp_path / "maps").glob("*"))


def test_a_picture_never_stops_a_query(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the picture of 'broken' could not be drawn.*goes on without: the mask of"):
        (name,) = draw(tmp_path, LONG, "broken")
    assert name.startswith("top-1_$x_{_äää")
    assert len(name.encode()) < 200


def test_a_full_disk_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be drawn"):
        assert draw(tmp_path, "a") == []


def test_no_spreadsheet_runs_a_name(tmp_path: Path) -> None:
    selected = pd.DataFrame({"unit_id": ["=1+1", "b/-c", "d"], "rank": [1, 2, 3], "score": [0.3, 0.2, -0.1]})
    files = {"=1+1": Path("=1+1.png"), "b/-c": Path("b/-c.png"), "d": None}
    regions = [Region(unit_id, 6, (0, 0, 2, 3)) for unit_id in files]
    units = SimpleNamespace(image_of=str, regions_of=lambda unit_ids: regions)
    pool: Any = SimpleNamespace(units=units, source=SimpleNamespace(path=files.get))
    table = _platform_table(pool, selected)
    assert table["image_id"].tolist() == ["'=1+1", "b/-c", "d"]
    assert table["pixels"].tolist() == [6, 6, 6]
    assert table["name"].tolist() == ["'=1+1.png", "'-c.png", "d"]
    assert table["unit_id"].tolist() == ["'=1+1", "b/-c", "d"]
    assert table["path"].tolist() == ["'=1+1.png", "b/-c.png", ""]
    assert table["score"].tolist() == [0.3, 0.2, -0.1]
