"""The first convolution's filters, from a checkpoint's tensors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import cli
from reports.filters import draw_filters, filters_table, read_filters


def write_run(run_dir: Path, tensors: dict[str, torch.Tensor]) -> Path:
    cycle = run_dir / "cycles" / "00"
    cycle.mkdir(parents=True)
    torch.save({"state_dict": tensors}, cycle / "best.ckpt")
    (cycle / "metrics.json").write_text('{"cycle": 0, "labelled_units": 1}')
    return run_dir


def test_filters_are_drawn_and_written_down(tmp_path: Path) -> None:
    weights = torch.randn(5, 3, 4, 4)
    tensors = {"loss.w": torch.zeros(1, 1, 1, 1), "network.b": torch.zeros(3), "network.a.weight": weights}
    run = write_run(tmp_path / "run", tensors | {"network.z.weight": torch.zeros(2, 5, 1, 1)})
    cli.main(["analyse", "--name", "filters", "--run_dir", str(run), "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "filters.csv").set_index(["filter", "row", "column"])
    assert len(table) == 5 * 16
    assert table.loc[(4, 1, 2), ["red", "green", "blue"]].tolist() == pytest.approx(weights[4, :, 1, 2].tolist())
    with Image.open(tmp_path / "filters.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_filters_of_other_channels_are_grey() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype(np.float32)
    assert list(filters_table(weights).columns[3:]) == [f"channel_{k}" for k in range(4)]
    drawn = draw_filters(weights, "x").axes[1].images[0].get_array()
    assert drawn is not None
    mean = weights[1].mean(axis=0)
    np.testing.assert_allclose(np.squeeze(drawn), (mean - mean.min()) / np.ptp(mean), rtol=1e-5)


def test_what_has_no_filters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the weights of a fit below .*, got none"):
        read_filters(tmp_path)
    with pytest.raises(ValueError, match="has no convolution, so no filters"):
        read_filters(write_run(tmp_path / "dense", {"network.w": torch.zeros(3, 3)}))
    broken = write_run(tmp_path / "broken", {})
    (broken / "cycles" / "00" / "best.ckpt").write_text("nothing")
    with pytest.raises(ValueError, match=r"best.ckpt is not a readable checkpoint"):
        read_filters(broken)
