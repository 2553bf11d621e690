"""Finding and reading files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from datamodules.files import DataError, find_files, image_size, read_image, read_mask
from PIL import Image

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
    with pytest.raises(DataError, match=r"expected a folder of images at .*nowhere.*check data\.source\.root"):
        find_files(tmp_path / "nowhere")


def test_links_to_folders_are_followed_and_lead_round_never(tmp_path: Path, save_image: Save) -> None:
    save_image(tmp_path / "elsewhere" / "x.png", GREY)
    root = tmp_path / "data"
    save_image(root / "a" / "y.png", GREY)
    for name, target in (("link", tmp_path / "elsewhere"), ("again", tmp_path / "elsewhere"), ("a/round", root)):
        (root / name).symlink_to(target, target_is_directory=True)
    assert list(find_files(root)) == ["a/y", "again/x", "link/x"]


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[2J", "a\u2028b", "a\udcff"])
def test_names_that_no_table_could_hold(tmp_path: Path, save_image: Save, name: str) -> None:
    save_image(tmp_path / "x.png", GREY).rename(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"holds a control character or a byte that is no text; rename it") as error:
        find_files(tmp_path)
    assert str(error.value).isprintable()


def test_names_that_are_unusual_and_fine(tmp_path: Path, save_image: Save) -> None:
    names = ["+1", "-x", "=1+1", "@a", "a\xa0b", "ünï", "図"]
    for name in names:
        save_image(tmp_path / f"{name}.png", GREY)
    assert sorted(find_files(tmp_path)) == sorted(names)


@pytest.mark.parametrize(("suffix", "kind"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32)])
def test_more_than_8_bits_need_a_range(tmp_path: Path, save_image: Save, suffix: str, kind: type) -> None:
    ramp = save_image(tmp_path / f"ramp.{suffix}", np.array([[0, 1000, 2048, 4095]], kind))
    with pytest.raises(DataError, match=r"ramp\..*, got mode I.* with values from 0 to 4095; set data\.source\.value_range"):
        read_image(ramp)
    image = read_image(ramp, (0, 4095))
    assert (image.shape, image.dtype) == ((1, 4, 3), np.uint8)
    assert image[0, :, 1].tolist() == [0, 62, 128, 255]
    assert read_image(ramp, (1000, 2048))[0, :, 2].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_of_more_than_8_bits_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"colour.{suffix}"
    cv2.imwrite(str(path), np.zeros((4, 5, 3), dtype=np.uint16))
    with pytest.raises(DataError, match=rf"colour\.{suffix}, got colour of 16 bits"):
        read_image(path)


def test_floating_point_images_need_a_range(tmp_path: Path, save_image: Save) -> None:
    path = save_image(tmp_path / "float.tif", np.array([[0, 0.5, 1]], np.float32))
    with pytest.raises(DataError, match=r"float\.tif, got mode F with values from 0 to 1; set data\.source\.value_range"):
        read_image(path)
    assert read_image(path, (0, 1))[0, :, 0].tolist() == [0, 128, 255]
    path = save_image(tmp_path / "nan.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(DataError, match=r"nan\.tif, got mode F with values from nan to nan"):
        read_image(path, (0, 1))
    with pytest.raises(DataError, match=r"one channel of class indices in .*nan\.tif, got mode F"):
        read_mask(path)


def test_a_decompression_bomb(tmp_path: Path, save_image: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_image(tmp_path / "bomb.png", np.zeros((30, 30), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    for read in (read_image, read_mask, image_size):
        with pytest.raises(DataError, match=r"bomb\.png is too large to be read safely .*cut it"):
            read(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK"])
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
