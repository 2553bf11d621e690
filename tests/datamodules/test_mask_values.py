"""Values and colours of mask files stand for classes, exactly, whoever drew them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from acquisition.annotation import UNANSWERED, VOID
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError, read_values
from datamodules.mask_values import MaskValues, Value, as_setting
from datamodules.oracle import FolderOracle
from datamodules.partitions import Grid
from datamodules.sources.camvid import CamVid
from datamodules.sources.cityscapes import Cityscapes
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from datamodules.sources.resized import Resized
from datamodules.sources.some_classes import SomeClasses
from datamodules.sources.synthetic import SyntheticRoads
from pipelines.settings import parse_yaml

Save = Callable[..., Path]
NAMES = ["background", "cell", "no"]

GREY = st.integers(0, 65_535)
COLOUR = st.tuples(*[st.integers(0, 255)] * 3)
MEANING = st.sampled_from([0, 1, 2, VOID, UNANSWERED])


def drawn_with(values: list[Value], seed: int) -> np.ndarray:
    """A random mask of some values: 5 x 7, or 5 x 7 x 3."""
    chosen = np.random.default_rng(seed).integers(len(values), size=(5, 7))
    pixels = np.array(values)[chosen]
    return pixels.astype(np.uint8 if pixels.ndim == 3 or pixels.max() < 256 else np.uint16)


@given(
    mapping=st.dictionaries(GREY, MEANING, min_size=1) | st.dictionaries(COLOUR, MEANING, min_size=1),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_pixel_becomes_the_class_of_its_value(mapping: dict[Value, int], seed: int) -> None:
    written = drawn_with(list(mapping), seed)
    decoded = MaskValues(mapping, NAMES).decode(written, "m.png")
    flat = written.reshape(35, -1).tolist()
    expected = [mapping[tuple(v) if len(v) == 3 else v[0]] for v in flat]  # type: ignore[index]
    assert decoded.ravel().tolist() == expected
    # what is read from settings as text is the same mapping
    again: dict[int | str, int | str] = parse_yaml(as_setting(dict(mapping)))
    np.testing.assert_array_equal(MaskValues(again, NAMES).decode(written, "m.png"), decoded)


@given(st.lists(GREY, min_size=5, max_size=5, unique=True) | st.lists(COLOUR, min_size=5, max_size=5, unique=True))
def test_what_is_written_for_people_is_read_again(values: list[Value]) -> None:
    meaning = MaskValues(dict(zip(values, [0, 1, 2, "void", "unanswered"], strict=True)), NAMES)
    mask = np.random.default_rng(0).choice([0, 1, 2, VOID, UNANSWERED], size=(6, 4)).astype(np.uint8)
    written = meaning.encode(mask)
    assert written.dtype == (np.uint16 if isinstance(values[0], int) and max(values) > 255 else np.uint8)  # type: ignore[type-var]
    np.testing.assert_array_equal(meaning.decode(written, "m.png"), mask)


@pytest.mark.parametrize("key", ["128,64,128", "[128, 64, 128]", "#804080", "(128, 64, 128)", (128, 64, 128)])
def test_ways_to_write_a_colour(key: object) -> None:
    values = MaskValues({key: "cell", 0: "void"}, NAMES)
    mask = np.array([[[128, 64, 128], [0, 0, 0], [254, 254, 254]]], np.uint8)
    assert values.decode(mask, "m.png").tolist() == [[1, VOID, UNANSWERED]]
    assert values.listed == "[128, 64, 128] cell, [0, 0, 0] void, [254, 254, 254] for what is not drawn yet"


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, "names no value; leave it out"),
        ({0: 0, "0": 1}, "names 0 twice"),
        ({"0,0,0": 0, 0: 1}, "a grey value and the same as a colour"),
        ({"0,0,256": 0}, "such as .*'#804080', got '0,0,256'"),
        ({65_536: 0}, "0 to 65535, or colours.*got 65536"),
        ({-1: 0}, "got -1"),
        ({0: 3}, "one of background, cell, no, or 0 to 2, void or unanswered, got 3; correct it, or list the class"),
        ({0: "cow"}, "got 'cow'"),
        ({300: 0, "1,2,3": 1}, "names colours, so grey values go up to 255, got 300"),
    ],
)
def test_mappings_that_mean_nothing(mapping: dict[int | str, int | str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        MaskValues(mapping, NAMES)


def test_a_value_that_is_not_named(tmp_path: Path, save_image: Save) -> None:
    grey = MaskValues({0: 0, 255: 1}, NAMES)
    path = save_image(tmp_path / "m.png", np.array([[0, 255, 7, 7, 9]], np.uint8))
    with pytest.raises(DataError, match=r"m\.png holds 7 \(2 pixels\) and 1 other values, which.*; add '7: CLASS'"):
        grey.read(path)
    with pytest.raises(DataError, match=r"holds 3 .*save masks as PNG, because a JPEG changes values, or add"):
        grey.decode(np.array([[3]], np.uint8), "m.jpg")
    with pytest.raises(DataError, match=r"names no colour, got the colour \[1, 2, 3\]; name colours"):
        grey.decode(np.array([[[1, 2, 3]]], np.uint8), "m.png")
    colours = MaskValues({"0,0,0": 0}, NAMES)
    with pytest.raises(DataError, match=r"holds \[1, 2, 3\] .*add '\[1, 2, 3\]: CLASS' \(one of background"):
        colours.decode(np.array([[[1, 2, 3]]], np.uint8), "m.png")


def test_grey_saved_in_colour_and_palettes(tmp_path: Path, save_image: Save) -> None:
    mask = np.array([[0, 255, 255]], np.uint8)
    for mode in ("RGB", "L", "RGBA", "LA", "P"):
        path = save_image(tmp_path / f"{mode}.png", np.repeat(mask[..., None], 3, axis=2), mode)
        if mode != "P":
            assert MaskValues({0: 0, 255: 1}, NAMES).read(path).tolist() == [[0, 1, 1]]
        assert MaskValues({0: 0, "#ffffff": 1}, NAMES).read(path).tolist() == [[0, 1, 1]]
    glass = Image.fromarray(np.array([[[0, 0, 0, 255], [255, 0, 0, 3]]], np.uint8), "RGBA")
    glass.save(tmp_path / "glass.png")
    with pytest.raises(DataError, match=r"without transparency in .*glass\.png, got mode RGBA"):
        read_values(tmp_path / "glass.png")
    wide = save_image(tmp_path / "wide.png", np.array([[0, 65_535]], np.uint16))
    assert MaskValues({0: 0, 65_535: 1}, NAMES).read(wide).tolist() == [[0, 1]]
    with pytest.raises(DataError, match=r"colours of 8 bits in .*wide\.png"):
        MaskValues({"0,0,0": 0}, NAMES).read(wide)
    tiff = save_image(tmp_path / "wide.tif", np.array([[0, 70_000]], np.int32))
    with pytest.raises(DataError, match=r"from 0 to 65535 in .*wide\.tif, got 0 to 70000; save.*8 or 16 bits"):
        MaskValues({0: 0}, NAMES).read(tiff)


def test_what_254_means_where_it_is_named() -> None:
    values = MaskValues({0: 0, 254: 1}, NAMES)
    assert values.decode(np.array([[0, 254]], np.uint8), "m.png").tolist() == [[0, 1]]
    with pytest.raises(
        DataError, match=r"gives 254, which stands for what is not drawn yet.*add .*'VALUE: unanswered'"
    ):
        values.check_partial()
    with pytest.raises(DataError, match="no value for 'unanswered'"):
        values.encode(np.array([[UNANSWERED]], np.uint8))
    with pytest.raises(DataError, match="no value for 'cell'"):
        MaskValues({0: 0}, NAMES).encode(np.array([[1]], np.uint8))
    MaskValues({0: 0, 254: 1, 9: "unanswered"}, NAMES).check_partial()


def coloured(path: Path) -> None:
    """Rewrite a mask of `folder_root` (classes 0 to 2, void) in colour."""
    mask = np.asarray(Image.open(path))
    palette = np.zeros((256, 3), np.uint8)
    palette[[0, 1, 2, VOID]] = [(0, 0, 0), (9, 8, 7), (1, 1, 1), (255, 0, 0)]
    Image.fromarray(palette[mask]).save(path)


PALETTE: dict[int | str, int | str] = {"0,0,0": 0, "9,8,7": 1, "1,1,1": 2, "#ff0000": "void"}


def test_a_folder_in_colour_is_the_one_in_grey(folder_root: Path, tmp_path: Path) -> None:
    ids = list(Folder(str(folder_root)).images("train"))
    grey = [Folder(str(folder_root)).read_annotation(i) for i in ids]
    for path in folder_root.rglob("masks/**/*.png"):
        coloured(path)
    source = Resized(Folder(str(folder_root)), 24, 32)
    data = PoolDataModule(source, run_dir=str(tmp_path / "run"), mask_values=PALETTE)
    for image_id, mask in zip(ids, grey, strict=True):
        np.testing.assert_array_equal(data.source.read_annotation(image_id), mask)
    assert source.mask_values is None, "the data set that was given is as it was"
    data.pool.start()
    assert len(data.pool.labelled) == len(ids)
    some = SomeClasses(Folder(str(folder_root)), [list(source.class_names)[2]]).with_mask_values(PALETTE)
    assert set(np.unique(some.read_annotation(ids[0]))) <= {0, 1, VOID}
    values = some.mask_values
    assert values is not None
    assert values.decode(np.array([[[1, 1, 1], [9, 8, 7]]], np.uint8), "m.png").tolist() == [[1, 0]]


def test_people_draw_with_the_same_values(folder_root: Path, tmp_path: Path, save_image: Save) -> None:
    oracle = FolderOracle(str(tmp_path / "drawn"))
    source = Folder(str(folder_root))
    grid = Grid(24, 16)
    first = next(iter(source.images("train")))
    save_image(tmp_path / "drawn" / f"{first}.png", np.repeat(np.array([[7, 9] + [254] * 30], np.uint8), 24, axis=0))
    data = PoolDataModule(source, grid, oracle, run_dir=str(tmp_path / "run"), mask_values={7: 1, 9: 2})
    assert np.unique(data.pool.annotations.read_annotation(first)).tolist() == [1, 2, UNANSWERED]
    assert "(by data.mask_values: 7 " in oracle.instructions()
    assert "254 for what is not drawn yet)" in oracle.instructions()
    with pytest.raises(DataError, match=r"people draw parts of images here, and data\.mask_values gives 254"):
        PoolDataModule(source, grid, oracle, run_dir=str(tmp_path / "run"), mask_values={0: 0, 254: 1})


def test_several_people_in_colour(tmp_path: Path, save_image: Save) -> None:
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    for folder in ("masks/ann", "masks/bo", "again/ann"):
        # the second drawing is a copy
        save_image(tmp_path / folder / "a.png", np.array([[0, 0, 0], [0, 255, 0]], np.uint8)[mask])
    save_image(tmp_path / "images" / "a.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "classes.txt").write_text("background\nthing\nother\n")
    source = MultiAnnotatorFolder(str(tmp_path), repeats="again").with_mask_values({"0,0,0": 0, "0,255,0": "thing"})
    assert source.read_drawing("a", "bo").tolist() == mask.tolist()
    assert source.repeats("a") == {}
    assert source.num_classes == 3
    with pytest.raises(DataError, match=r"or data\.mask_values to what they hold"):
        _ = MultiAnnotatorFolder(str(tmp_path)).class_names


@pytest.mark.parametrize("source", [SyntheticRoads(), Digits(), CamVid("nowhere"), Cityscapes("nowhere")], ids=type)
def test_data_sets_that_know_their_values(source: object) -> None:
    with pytest.raises(DataError, match=r"data\.source \w+ knows that of its own or has no such files; leave it out"):
        source.with_mask_values({0: 0})  # type: ignore[attr-defined]
