"""A data set seen with some of its classes."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import UNANSWERED, VOID
from datamodules.corruptions import Corrupted, RandomCategory
from datamodules.files import DataError
from datamodules.sources.camvid import CamVid
from datamodules.sources.digits import Digits
from datamodules.sources.resized import Resized
from datamodules.sources.some_classes import SomeClasses
from datamodules.sources.source import Source
from datamodules.sources.synthetic import SyntheticRoads
from datamodules.sources.synthetic_annotators import SyntheticAnnotators
from datamodules.sources.wrapper import SourceWrapper


class Four(Source):
    """One image of four classes, void and what nobody has said."""

    class_names = ("a", "b", "c", "d")
    drawable = False
    flip = 0.0

    def images(self, split: str) -> list[str]:
        return ["one"] if split == "train" else []

    def read_image(self, image_id: str) -> np.ndarray:
        return np.zeros((2, 3, 3), dtype=np.uint8)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return np.array([[0, 1, 2], [3, VOID, UNANSWERED]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("options", "mask"),
    [
        ({}, [[0, 2, 0], [1, VOID, UNANSWERED]]),
        ({"others": "void"}, [[VOID, 2, VOID], [1, VOID, UNANSWERED]]),
        ({"others": "void", "background": "a"}, [[0, 2, VOID], [1, VOID, UNANSWERED]]),
    ],
)
def test_classes_are_numbered_as_they_are_named(options: dict, mask: list) -> None:
    source = SomeClasses(Four(), ["d", "b"], **options)
    assert list(source.class_names) == ["background", "d", "b"]
    assert source.read_annotation("one").tolist() == mask
    assert source.read_annotation("one").dtype == np.uint8
    objects = source.read_instances("one")
    assert ((objects == -1) == (np.array(mask) == VOID)).all()
    assert objects[0, 1] != objects[1, 0]
    assert not source.drawable
    assert source.num_classes == 3
    pickle.dumps(source)


def test_it_is_its_data_set_otherwise() -> None:
    source = SourceWrapper(Four())
    assert (source.images("train"), source.images("val"), source.size("one")) == (["one"], [], (2, 3))
    assert source.path("one") is source.annotation_path("one") is None
    assert source.is_annotated("one")
    assert source.annotation_files("one") == []
    source.check()
    assert not source.drawable
    assert source.flip == 0
    one, other = Resized(SyntheticRoads(), 8, 8), SourceWrapper(SyntheticRoads())
    assert (one.drawable, other.drawable, other.flip) == (False, True, 0.5)


def test_objects_are_those_of_whoever_draws() -> None:
    people = SyntheticAnnotators(num_images=4, annotator="random")
    for source in (SomeClasses(people, ["cell"], background="background"), Resized(people, *people.scene_size)):
        for image_id in source.images("train"):
            for draw in ((0, epoch) for epoch in range(3)):
                objects, mask = source.read_instances(image_id, draw), source.read_annotation(image_id, draw)
                assert all(len(np.unique(mask[objects == k])) == 1 for k in np.unique(objects))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["b", "x"], "knows the classes a, b, c, d of Four, got x"),
        ([], "at least one class and each of them once, got ; set data.source.classes"),
        (["a", "a"], "each of them once, got a, a"),
    ],
)
def test_other_names_are_refused(classes: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SomeClasses(Four(), classes)


def test_background_is_no_class_to_choose() -> None:
    words = "class 0 for the background, got background among .*set data.source.background to background"
    with pytest.raises(ValueError, match=words):
        SomeClasses(SyntheticAnnotators(num_images=4), ["cell", "background"])


def test_one_class_per_image_is_refused() -> None:
    with pytest.raises(DataError, match="SomeClasses changes masks, but Digits has one class per image"):
        SomeClasses(Digits(num_train=60, num_val=20), ["1"])


@pytest.mark.real
def test_objects_of_camvid_are_connected_parts_of_the_named_classes(camvid: Path) -> None:
    source = SomeClasses(Resized(CamVid(str(camvid)), 96, 128), ["car", "tree", "pole"])
    image_id = source.images("train")[0]
    mask, objects = source.read_annotation(image_id), source.read_instances(image_id)
    wrong = Corrupted(source, RandomCategory()).read_annotation(image_id)
    assert set(np.unique(mask)) - {VOID} <= {0, 1, 2, 3}
    assert ((wrong == 0) == (mask == 0)).all()
    for number in np.unique(objects[(objects >= 0) & (mask > 0)]):
        assert len(np.unique(wrong[objects == number])) == 1
