"""Images, masks and class names that cannot be what they should be."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hostile.table import Row, run_in_process, table

FIT = "fit --config folder.yaml --run_dir run"
IMAGE, MASK, CLASSES = "data/train/images/0.png", "data/train/masks/0.png", "data/classes.txt"
PEOPLE = "--data.oracle datamodules.oracle.FolderOracle --data.oracle.folder masks"


def picture(values: np.ndarray) -> Callable[[Path], None]:
    """The function that writes an array as an image."""
    return lambda path: Image.fromarray(values).save(path)


def all_masks(value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """The function that changes every training mask, named by one of them."""

    def change(path: Path) -> None:
        for mask in path.parent.iterdir():
            Image.fromarray(value(np.asarray(Image.open(mask)))).save(mask)

    return change


def bomb(path: Path) -> None:
    """A PNG of 60 000 x 60 000 pixels in its header, and a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b""))


def renamed(name: str) -> Callable[[Path], None]:
    """The function that gives an image and its mask another name."""

    def rename(path: Path) -> None:
        for folder in ("images", "masks"):
            (path.parent.parent / folder / "0.png").rename(path.parent.parent / folder / name)

    return rename


ramp = np.arange(24 * 32).reshape(24, 32)
ROWS = [
    Row(f"{FIT} --data.source.root nowhere", "nowhere"),
    Row(FIT, "0.png", {IMAGE: picture((ramp * 5).astype(np.uint16))}),
    Row(FIT, "0.tif", {"data/train/images/0.tif": picture((ramp / 768).astype(np.float32)), IMAGE: Path.unlink}),
    Row(FIT, "0.png is not a readable image", {IMAGE: b"no image"}),
    Row(FIT, "0.png is not a readable image", {IMAGE: b""}),
    Row(FIT, "0.png is not a readable image", {IMAGE: lambda p: p.write_bytes(p.read_bytes()[:60])}),
    Row(FIT, "0.png", {IMAGE: bomb}),
    Row(FIT, "two images have one name", {"data/train/images/0.jpg": picture(np.zeros((24, 32, 3), np.uint8))}),
    Row(FIT, "control character", {IMAGE: renamed("a\nb.png")}),
    Row(FIT, "image's size 24 x 32, got 12 x 16", {MASK: all_masks(lambda m: m[::2, ::2].copy())}),
    Row(FIT, "got mode RGB", {MASK: all_masks(lambda m: np.stack([m] * 3, axis=2))}),
    Row(FIT, "got 0 to 767", {MASK: all_masks(lambda m: ramp.astype(np.uint16))}),
    Row(FIT, "expected mask values from 0 to 2, or 255 for void, got 7", {MASK: all_masks(lambda m: m * 0 + 7)}),
    Row(FIT, "void throughout", {MASK: all_masks(lambda m: m * 0 + 255)}),
    Row(FIT, "hold only 0 and 255", {MASK: all_masks(lambda m: np.where(m > 0, 255, 0).astype(np.uint8))}),
    Row(FIT, "has no image of its name", {"data/train/masks/9.png": picture(np.zeros((24, 32), np.uint8))}),
    Row(FIT, "HiddenTruth", {MASK: Path.unlink}),
    Row(f"{FIT} {PEOPLE}", "no unit is labelled", {"masks/x/y": ""}),
    Row(FIT, "classes.txt", {CLASSES: Path.unlink}),
    Row(FIT, "classes.txt", {CLASSES: ""}),
    Row(FIT, "classes.txt", {CLASSES: "dark\ndark\nbright\n"}),
    Row(FIT, "classes.txt", {CLASSES: "dark\nmiddle\nbright\n".encode("utf-16")}),
    Row(FIT, "classes.txt", {CLASSES: b"\xff\xfe\xfa"}),
    Row(FIT, "expected mask values from 0 to 1, or 255 for void, got 2", {CLASSES: "\ufeffdark\nbright\n"}),
    Row(f"{FIT} --data.initial.size 9", "wants 9 units but only 6 have a label"),
    Row(f"{FIT} --data.initial datamodules.initial.FromFile --data.initial.path data", "list of unit ids"),
    Row(f"{FIT} --data.initial datamodules.initial.FromFile --data.initial.path ids", "names 'x'", {"ids": "x\n"}),
    Row(f"{FIT} --data.source.value_range [5,5]", "value_range"),
]  # fmt: skip


@pytest.fixture
def data(here: Path, fake_pair: Callable[..., tuple[np.ndarray, np.ndarray]], save_image: Callable[..., Path]) -> Path:
    """The data set of folder.yaml: 6 training and 3 validation images."""
    for split, count in (("train", 6), ("val", 3)):
        for number in range(count):
            image, mask = fake_pair(number, classes=3)
            save_image(here / "data" / split / "images" / f"{number}.png", image)
            save_image(here / "data" / split / "masks" / f"{number}.png", mask)
    (here / CLASSES).write_text("dark\nmiddle\nbright\n")
    return here / "data"


@table(ROWS)
def test_one_sentence_and_nothing_else(row: Row, data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(row, here, capsys)
