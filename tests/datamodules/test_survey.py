"""What masks hold is counted, and what they cannot mean is refused with the setting that they need."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import UNANSWERED, VOID
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.oracle import FolderOracle
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from datamodules.sources.synthetic import SyntheticRoads
from datamodules.survey import survey
from datamodules.survey_checks import check_survey

Write = Callable[..., Folder]


@pytest.fixture
def write(tmp_path: Path, save_image: Callable[..., Path]) -> Write:
    """(masks of the train split, masks of the validation split, names) to a folder of them."""

    def folder(train: list[np.ndarray], val: list[np.ndarray], names: str = "background cell") -> Folder:
        for split, masks in (("train", train), ("val", val)):
            for i, mask in enumerate(masks):
                save_image(tmp_path / split / "images" / f"{i}.png", np.zeros((*mask.shape[:2], 3), np.uint8))
                save_image(tmp_path / split / "masks" / f"{i}.png", mask)
        (tmp_path / "classes.txt").write_text(names.replace(" ", "\n"))
        return Folder(str(tmp_path))

    return folder


def row(*values: object, kind: type = np.uint8) -> np.ndarray:
    return np.array([values], dtype=kind)


RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)


def test_a_survey_counts_what_stands_in_the_files(write: Write) -> None:
    found = survey(write([row(0, 1, 1), row(0, UNANSWERED, VOID)], [row(0, 0, 0)]))
    assert found.pixels == {0: 5, 1: 2, UNANSWERED: 1, VOID: 1}
    assert found.classes == found.pixels
    assert (found.count, found.read, found.undrawn, found.complete) == (3, 3, 0, True)
    assert found.void_share == 1 / 8
    assert (found.missing, found.unknown, found.proposed, found.unreadable) == ([], [], None, {})
    assert found.first[1].name == "0.png"


@pytest.mark.parametrize(
    ("masks", "names", "setting"),
    [
        ([row(0, 255)], "a b", "{0: 0, 255: 1}"),
        ([row(0, 65_535, kind=np.uint16)], "a b", "{0: 0, 65535: 1}"),
        ([row(0, 1, 255)], "a b c", "{0: 0, 1: 1, 255: 2}"),
        ([row(1, 2, 255)], "a b", "{1: 0, 2: 1, 255: void}"),
        ([row(0, 127, 254, 255)], "a b c", "{0: 0, 127: 1, 255: 2}"),
        ([row(0, 1, 255)], "a b", None),
        ([row(0, 7)], "a b c", None),
        ([row(BLACK, RED)], "a b", "{[0, 0, 0]: a, [255, 0, 0]: b}"),
        ([row(BLACK, RED, BLUE)], "a no", '{[0, 0, 0]: a, [0, 0, 255]: "no", [255, 0, 0]: void}'),
    ],
)
def test_the_setting_that_is_proposed(write: Write, masks: list[np.ndarray], names: str, setting: str | None) -> None:
    assert survey(write(masks, masks, names)).setting == setting


@pytest.mark.parametrize(
    ("train", "val", "names", "words"),
    [
        (
            [row(0, 255)], [row(0, 255)], "background cell",
            r"2 masks hold only 0 and 255.*'\{0: 0, 255: 1\}' if 255 is meant as 'cell'",
        ),
        (
            [row(0, 7)], [row(0, 7)], "background cell",
            r"from 0 to 1, or 255 for void, got 7 in .*0\.png \(the values 0, 7 in.*_values to '\{0: 0, 7: 1\}'",
        ),
        ([row(0, 7)], [row(0, 1)], "a b c d", r"got 7 in .*set data\.mask_values to '\{0: 0, 1: 1, 7: CLASS\}'"),
        (
            [row(BLACK, RED)], [row(BLACK)], "sky road",
            r"got mode RGB, .*0\.png first, with the colours \[0, 0, 0\], \[255, 0, 0\]; set data\.mask_values to "
            r"'\{\[0, 0, 0\]: sky, \[255, 0, 0\]: road\}', with the right class",
        ),
        (
            [row(0, 1)], [row(1, 0)], "a b c",
            r"classes\.txt lists 'c', but the 2 masks hold no pixel of that \(the values 0, 1\); correct.*"
            r"allow_missing_classes to true",
        ),
        ([row(0, 1, 255)], [row(1, 0)], "a b c", r"lists 'c'.*set data\.mask_values to '\{0: 0, 1: 1, 255: 2\}'"),
        (
            [row(*[255] * 250, 0, 1)], [row(*[255] * 250)], "a b",
            r"99\.6% of the 2 masks is void \(data\.max_void allows 99\.0%\).*set data\.max_void to 1 if so little",
        ),
        ([row(*range(600), kind=np.uint16)], [row(0, 1)], "a b", r"got 0 to 599, 600 values and more, in .*0\.png"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_meant(
    write: Write, train: list[np.ndarray], val: list[np.ndarray], names: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        PoolDataModule(write(train, val, names), run_dir=str(tmp_path / "run")).pool.start()


def test_ways_out(write: Write, tmp_path: Path) -> None:
    missing = write([row(0, 1)], [row(1, 0)], "a b c")
    PoolDataModule(missing, run_dir=str(tmp_path / "run"), allow_missing_classes=True).pool.start()
    sparse = write([row(*[255] * 250, 0, 1)], [row(*[255] * 250, 1)], "a b")
    PoolDataModule(sparse, run_dir=str(tmp_path / "sparse"), max_void=1).pool.start()
    with pytest.raises(DataError, match=r"data\.max_void is a share: expected 0 to 1, got 2"):
        PoolDataModule(sparse, run_dir=str(tmp_path / "sparse"), max_void=2)
    binary = write([row(0, 255)], [row(0, 255)])
    PoolDataModule(binary, run_dir=str(tmp_path / "binary"), mask_values={0: 0, 255: 1}).pool.start()
    void = write([row(0, 9, 255)], [row(0, 255)])
    named: dict[int | str, int | str] = {0: 0, 9: 1, 255: "void"}
    PoolDataModule(void, run_dir=str(tmp_path / "void"), mask_values=named).pool.start()
    binary = write([row(0, 255)], [row(0, 255)])
    with pytest.raises(DataError, match=r"holds 255 \(2 pixels in all\), which data\.mask_values .*add '255: CLASS'"):
        PoolDataModule(binary, run_dir=str(tmp_path / "other"), mask_values={0: 0, 1: 1}).pool.start()


def test_a_class_that_people_have_not_drawn_yet_is_fine(write: Write, tmp_path: Path) -> None:
    source = write([row(0, 1), row(0, 1), row(1, 1)], [row(0, 1)], "a b c")
    (tmp_path / "train" / "masks" / "2.png").unlink()
    oracle = FolderOracle(str(tmp_path / "train" / "masks"))
    data = PoolDataModule(source, oracle=oracle, run_dir=str(tmp_path / "run"))
    found = survey(source, data.pool.annotations)
    assert (found.undrawn, found.complete, found.missing) == (1, False, ["c"])
    data.pool.start()


def test_a_sample_says_that_it_is_one(write: Write) -> None:
    source = write([row(0, 1)] * 9 + [row(0, 2)], [row(0, 1)], "a b c")
    found = survey(source, most=3)
    assert (found.read, found.count, found.complete) == (3, 11, False)
    check_survey(found, source, False, 0.99)


def test_masks_that_cannot_be_read_are_named(write: Write, tmp_path: Path) -> None:
    source = write([row(0, 1), row(0, 1)], [row(0, 1)])
    (tmp_path / "train" / "masks" / "1.png").write_text("no picture")
    found = survey(source)
    assert list(found.unreadable) == ["1"]
    assert (found.read, found.complete) == (2, False)


def test_data_sets_without_files_of_values(tmp_path: Path) -> None:
    found = survey(SyntheticRoads(4, 2, size=(16, 24)))
    assert found.pixels == {}
    assert sum(found.classes.values()) == 6 * 16 * 24
    with pytest.raises(DataError, match="Digits has one class per image and no masks"):
        survey(Digits())
    assert not MultiAnnotatorFolder(str(tmp_path)).has_plain_masks
    assert MultiAnnotatorFolder(str(tmp_path), foreground=None).has_plain_masks


def test_a_data_set_that_reads_masks_in_its_own_way_knows_its_values(write: Write, tmp_path: Path) -> None:
    write([row(0, 40)] * 2, [row(0, 40)])

    class Tens(Folder):
        def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
            return super().read_annotation(image_id, draw) // 40

    source = Tens(str(tmp_path))
    assert not source.has_plain_masks
    check_survey(survey(source), source, False, 0.99)
    with pytest.raises(DataError, match="knows that of its own"):
        source.with_mask_values({0: 0, 40: 1})
