"""Sizes that are left out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.partitions import Points, RandomCrops
from datamodules.size_defaults import Sizes, default_sizes
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.synthetic import SyntheticRoads

Write = Callable[[Sequence[tuple[int, int]]], Folder]


@pytest.fixture
def write(tmp_path: Path, save_image: Callable[..., Path]) -> Write:
    """Sizes to a folder of blank images."""

    def folder(sizes: Sequence[tuple[int, int]]) -> Folder:
        for i, size in enumerate(sizes):
            save_image(tmp_path / "train" / "images" / f"{i:04d}.png", np.zeros((*size, 3), np.uint8))
        return Folder(str(tmp_path))

    return folder


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        ([(100, 130)] * 9, {}, Sizes(8)),
        ([(100, 130)] * 3, {}, Sizes(2)),
        ([(640, 480)] * 9, {}, Sizes(4)),
        ([(1024, 2048)] * 9, {}, Sizes(8, (320, 640), None, "images of 1024 x 2048")),
        ([(1024, 2048)] * 9, {"crop_size": (512, 512)}, Sizes(8)),
        ([(1024, 2048)] * 9, {"image_size": (512, 1024)}, Sizes(4)),
        ([(90, 130)] * 5 + [(10, 10)] * 4, {}, Sizes(8, (96, 128), None, "images of 10 x 10 to 90 x 130")),
        ([(90, 130), (10, 10)] * 4, {"crop_size": (8, 8)}, Sizes(8, None, 1, "images of 10 x 10 to 90 x 130")),
        ([(90, 130), (10, 10)] * 4, {"image_size": (64, 64)}, Sizes(8)),
    ],
)
def test_sizes_that_run(write: Write, sizes: list[tuple[int, int]], given: dict[str, Any], expected: Sizes) -> None:
    source = write(sizes)
    assert default_sizes(source, **given) == expected
    assert default_sizes(source, RandomCrops(4, 4), **given) == expected


def test_units_that_would_be_lost_keep_their_images(write: Write) -> None:
    found = default_sizes(write([(40, 30), (20, 30)] * 4), Points(4))
    assert (found.image_size, found.eval_batch_size) == (None, 1)


def test_data_sets_without_files() -> None:
    assert default_sizes(Digits()) == Sizes(8)
    assert default_sizes(SyntheticRoads(size=(64, 96))) == Sizes(8)


def test_a_folder_without_images_is_left_to_whoever_reads_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert default_sizes(Folder(str(tmp_path))) == Sizes(8)


def test_sizes_stay_when_people_draw(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    for i in range(12):
        save_image(tmp_path / "images" / f"{i}.png", np.zeros((100 + 40 * (i % 3), 130, 3), np.uint8))
    before = default_sizes(Folder(str(tmp_path)))
    held_out = Folder(str(tmp_path)).undrawn()
    assert held_out
    for name in held_out:
        save_image(tmp_path / "masks" / f"{name}.png", np.zeros((100 + 40 * (int(name) % 3), 130), np.uint8))
    after = Folder(str(tmp_path))
    assert not after.undrawn()
    assert default_sizes(after) == before
