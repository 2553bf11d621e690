"""Finding and reading files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.units import DataError, find_files, image_size, read_image, read_mask

Save = Callable[..., Path]
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_names_are_paths_without_suffix(tmp_path: Path, save_image: Save) -> None:
    for name in ("b.png", "a/b.JPG", "a/c.d.png"):
        save_image(tmp_path / name, np.zeros((2, 2, 3), dtype=np.uint8))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "folder.png").mkdir()
    found = find_files(tmp_path)
    assert list(found) == ["a/b", "a/c.d", "b"]
    assert found["a/b"] == tmp_path / "a" / "b.JPG"


def test_two_images_with_one_name(tmp_path: Path, save_image: Save) -> None:
    for suffix in ("png", "jpg"):
        save_image(tmp_path / f"x.{suffix}", GREY)
    with pytest.raises(DataError, match=r"two images have one name: .*x\.jpg and .*x\.png; rename one"):
        find_files(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder of images at .*nowhere.*check data\.root"):
        find_files(tmp_path / "nowhere")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "CMYK"])
def test_every_image_becomes_rgb(tmp_path: Path, save_image: Save, mode: str) -> None:
    path = save_image(tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}", np.full((3, 4, 3), 255, np.uint8), mode)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((3, 4, 3), np.uint8)
    assert (image == 255).all()
    assert image_size(path) == (3, 4)


def test_a_mask_keeps_the_values_in_the_file(tmp_path: Path, save_image: Save) -> None:
    grey = save_image(tmp_path / "grey.png", GREY)
    palette = Image.fromarray(GREY, mode="P")
    palette.putpalette([(7 * i) % 256 for i in range(768)])
    palette.save(tmp_path / "palette.png")
    wide = save_image(tmp_path / "wide.png", GREY.astype(np.uint16))
    for path in (grey, tmp_path / "palette.png", wide):
        mask = read_mask(path)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, GREY)
    one_bit = save_image(tmp_path / "bit.png", (GREY % 2 * 255).astype(np.uint8), "1")
    assert np.array_equal(read_mask(one_bit), GREY % 2)


def test_masks_that_are_none(tmp_path: Path, save_image: Save) -> None:
    colour = save_image(tmp_path / "colour.png", np.zeros((2, 2, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"one channel of class indices in .*colour\.png, got mode RGB; save.*grey PNG"):
        read_mask(colour)
    large = save_image(tmp_path / "large.png", np.full((2, 2), 300, dtype=np.uint16))
    with pytest.raises(DataError, match=r"class indices from 0 to 255 in .*large\.png, got 300 to 300"):
        read_mask(large)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_files_that_cannot_be_read(tmp_path: Path, save_image: Save, read: Callable[[Path], np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"none\.png is missing; put it back"):
        read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png is not a readable image .*replace the file or remove it"):
        read(tmp_path / "text.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    cut = save_image(tmp_path / "cut.png", noise)
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"cut\.png is not a readable image"):
        read(cut)
