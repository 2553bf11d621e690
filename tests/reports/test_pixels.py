"""Figures 2.4 and 2.13 of Chen 2020: tables against numbers worked by hand, and what is drawn."""

from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import QuadMesh

from records.files import RunDirectoryError
from records.pixels import PixelValues, read_pixels, write_pixels
from records.run_directory import RunDirectory
from reports.distributions import bounds_table, random_logits
from reports.pixels import cut_shares, draw_joint, draw_odin, joint_table, odin_table

CERTAIN, TWO, THREE, SPREAD = [1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0.62, 0.19, 0.19]


def table_of(*distributions: list[float]) -> pd.DataFrame:
    return bounds_table(torch.tensor(distributions, dtype=torch.float64).log())


def values_of(classes: int = 3) -> PixelValues:
    logits = np.zeros((classes, 2, 2), np.float32)
    odin = np.array([[[0, 0.5], [0.25, 0.25]], [[0.1, 0.1], [0.1, 0.5]]], np.float32)
    return PixelValues(
        image=np.zeros((2, 2, 3), np.uint8),
        logits=logits,
        prediction=np.array([[0, classes - 1], [classes - 1, 1]]),
        odin=odin,
        settings=np.array([[10, 0], [1, 0.0014]]),
        class_names=np.array([f"class {c}" for c in range(classes)]),
    )


def test_shares_beyond_the_cuts() -> None:
    shares = cut_shares(table_of(CERTAIN, TWO, THREE, SPREAD)).set_index("beyond")
    # two equal classes lie on both cuts; the fourth has entropy 0.93 and a largest probability of 0.62
    assert shares["pixels"].to_dict() == {"entropy": 2, "max_softmax": 1, "both": 1, "neither": 2}
    assert shares["share"].to_dict() == {"entropy": 0.5, "max_softmax": 0.25, "both": 0.25, "neither": 0.5}
    assert shares.loc["entropy", "cut"] == pytest.approx(log(2))
    assert shares.loc["max_softmax", "cut"] == 0.5


@pytest.mark.parametrize("classes", [2, 3, 19])
def test_what_is_beyond_max_softmax_is_beyond_entropy(classes: int) -> None:
    pixels = cut_shares(bounds_table(random_logits(2000, classes))).set_index("beyond")["pixels"]
    assert pixels["both"] == pixels["max_softmax"] <= pixels["entropy"]
    assert pixels["entropy"] + pixels["neither"] == 2000


def test_the_joint_distribution_and_its_figure() -> None:
    table = table_of(CERTAIN, CERTAIN, THREE, SPREAD)
    joint = joint_table(table, classes=3)
    # bins are log 2 / 40 and 0.5 / 40 wide: entropy 1.0986 is in the 63rd bin from 0, 0.9275 in the 53rd
    expected = [(0, 0, 2), (53 * log(2) / 40, 30 / 80, 1), (63 * log(2) / 40, 53 / 80, 1)]
    np.testing.assert_allclose(joint.to_numpy(), expected)
    axes = draw_joint(joint, cut_shares(table), 3, "x").axes[0]
    (mesh,) = (c for c in axes.collections if isinstance(c, QuadMesh))
    drawn = np.ma.filled(mesh.get_array().reshape(80, -1), 0)
    assert np.nansum(drawn) == 4
    assert (drawn[0, 0], drawn[30, 53], drawn[53, 63]) == (2, 1, 1)
    legend = axes.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()][1:] == [
        "entropy = log 2: 50.0% of the pixels lie to the right",
        "1 - max-softmax = 0.5: 25.0% of the pixels lie above",
    ]


@pytest.mark.parametrize("classes", [2, 4, 8])
def test_distributions_at_either_end_have_a_bin(classes: int) -> None:
    ends = [[1.0] + [0.0] * (classes - 1), [1 / classes] * classes]
    assert joint_table(table_of(*ends), classes)["pixels"].sum() == 2


def test_the_maps_of_odin() -> None:
    values = values_of()
    table = odin_table(values)
    np.testing.assert_allclose(table, [[10, 0, 0, 0.25, 0.5], [1, 0.0014, 0.1, 0.2, 0.5]], rtol=1e-6)
    panels = [a for a in draw_odin(values, table, "x").axes if a.images]
    assert [a.get_title() for a in panels] == ["image", "prediction", "T = 10, ε = 0", "T = 1, ε = 0.0014"]
    np.testing.assert_array_equal(panels[3].images[0].get_array(), values.odin[1])
    assert panels[3].images[0].get_clim() == pytest.approx((0.1, 0.5))


def test_the_most_frequent_classes_have_colours() -> None:
    values = values_of(classes=9)
    object.__setattr__(values, "prediction", np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 8]]))
    figure = draw_odin(values, odin_table(values), "x")
    (legend,) = (found for a in figure.axes if (found := a.get_legend()))
    names = [t.get_text() for t in legend.get_texts()]
    assert names == ["class 8", *(f"class {c}" for c in range(6)), "others"]


def test_files_of_pixels(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"expected pixel values of an image in .*, got none; write them first"):
        read_pixels(run)
    values = values_of()
    write_pixels(run, "town/a.b", values)
    image_id, read = read_pixels(run)
    assert image_id == "town/a.b"
    np.testing.assert_array_equal(read.odin, values.odin)
    assert read.class_names.tolist() == ["class 0", "class 1", "class 2"]
    with pytest.raises(RunDirectoryError, match=r"expected pixel values of c in .*, got town/a.b; .* --image c"):
        read_pixels(run, "c")
    write_pixels(run, "c", values)
    with pytest.raises(RunDirectoryError, match=r"several images; give one with --image: c, town/a.b"):
        read_pixels(run)
    run.pixel_values("c").write_bytes(b"PK\x03\x04")
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        read_pixels(run, "c")
