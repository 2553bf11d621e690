"""Whether annotations are what they should be."""

import numpy as np
import pytest

from acquisition.annotation import UNANSWERED, VOID
from datamodules.checks import check_classes, check_content, check_mask
from datamodules.files import DataError


def masks(*values: int) -> list[np.ndarray]:
    return [np.full((2, 3), v, dtype=np.uint8) for v in values]


def test_a_mask_that_fits() -> None:
    check_mask("m.png", (2, 3), np.array([[0, 1, 2], [VOID, UNANSWERED, 0]], np.uint8), 3)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((3, 2), np.uint8), r"image's size 2 x 3, got 3 x 2 in m\.png; redraw or resize"),
        (np.full((2, 3), 3, np.uint8), r"from 0 to 2, or 255 for void, got 3 in m\.png; correct the mask"),
        (np.full((2, 3), 253, np.uint8), r"got 253 in m\.png"),
    ],
)
def test_masks_that_do_not_fit(mask: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_mask("m.png", (2, 3), mask, 3)


def test_masks_are_read_until_one_teaches_something() -> None:
    read = []

    def each() -> object:
        for mask in masks(VOID, 0, UNANSWERED, 1, 2):
            read.append(int(mask[0, 0]))
            yield mask

    check_content(each(), 5, "first.png", "initial set")  # type: ignore[arg-type]
    assert read == [VOID, 0, UNANSWERED, 1]
    check_content(masks(0, 0), 2, "first.png", "initial set")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((VOID, VOID), r"all 2 masks of the initial set are void throughout \(value 255\), first\.png first"),
        ((VOID, UNANSWERED), "void throughout"),
        (
            (VOID, 0),
            r"2 masks of the initial set hold only 0 and 255, first\.png first.*mask_values to '{0: 0, 255: 1}'",
        ),
    ],
)
def test_masks_that_teach_nothing(values: tuple[int, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_content(masks(*values), len(values), "first.png", "initial set")


def test_every_class_is_there_or_allowed_to_be_missing() -> None:
    check_classes([1, 0, VOID], "ab", allow_missing=False)
    check_classes([0], "ab", allow_missing=True)
    check_classes([0], [str(i) for i in range(254)], allow_missing=True)
    with pytest.raises(DataError, match=r"initial set of 2 has no image of b, so"):
        check_classes([0, VOID], "ab", allow_missing=False)
    for count in (1, 255):
        with pytest.raises(DataError, match=rf"2 to 254 classes, got {count}"):
            check_classes([0], [str(i) for i in range(count)], allow_missing=True)
