"""Cityscapes: a fake in its layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.files import DataError
from datamodules.sources.cityscapes import Cityscapes

Save = Callable[..., Path]

# id and name to train id, as cityscapesScripts' labels.py has them; what is not named is ignored
TRAIN_IDS = {
    (7, "road"): 0, (8, "sidewalk"): 1, (11, "building"): 2, (12, "wall"): 3, (13, "fence"): 4, (17, "pole"): 5,
    (19, "traffic light"): 6, (20, "traffic sign"): 7, (21, "vegetation"): 8, (22, "terrain"): 9, (23, "sky"): 10,
    (24, "person"): 11, (25, "rider"): 12, (26, "car"): 13, (27, "truck"): 14, (28, "bus"): 15, (31, "train"): 16,
    (32, "motorcycle"): 17, (33, "bicycle"): 18,
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, save_image: Save) -> Path:
    """Each mask holds every id from 0 to 33, and the licence plate's -1 as 255."""
    ids = np.concatenate([np.arange(34), [255, 255]]).astype(np.uint8).reshape(4, 9)
    for split, cities in (("train", ("aachen", "ulm")), ("val", ("munster",)), ("test", ("berlin",))):
        for city in cities:
            name = f"{city}/{city}_000000_000019"
            grey = np.repeat((7 * ids)[..., None], 3, axis=2)
            save_image(tmp_path / "leftImg8bit" / split / f"{name}_leftImg8bit.png", grey)
            save_image(tmp_path / "gtFine" / split / f"{name}_gtFine_labelIds.png", ids)
            save_image(tmp_path / "gtFine" / split / f"{name}_gtFine_color.png", grey)
    return tmp_path


def test_images(root: Path) -> None:
    data = Cityscapes(str(root))
    assert data.images("train") == ["aachen/aachen_000000_000019", "ulm/ulm_000000_000019"]
    assert data.images("val") == ["munster/munster_000000_000019"]
    # the published test masks are dummies
    assert data.images("test") == []


def test_the_19_evaluated_classes(root: Path) -> None:
    data = Cityscapes(str(root))
    assert list(data.class_names) == [name for _, name in TRAIN_IDS]
    mask = data.read_annotation(data.images("train")[0]).ravel()
    expected = {number: train_id for (number, _), train_id in TRAIN_IDS.items()}
    assert mask.tolist() == [expected.get(i, VOID) for i in range(34)] + [VOID, VOID]


def test_the_road_reduction(root: Path) -> None:
    data = Cityscapes(str(root), classes="road")
    assert list(data.class_names) == ["background", "road"]
    mask = data.read_annotation(data.images("train")[0]).ravel()
    # road, parking, rail track; ids 0 to 6 are never labelled
    assert mask.tolist() == [VOID] * 7 + [1, 0, 1, 1] + [0] * 23 + [VOID, VOID]


def test_an_image_without_its_mask(root: Path) -> None:
    (root / "gtFine" / "val" / "munster" / "munster_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"munster_000000_000019_leftImg8bit\.png has no mask at .*gtFine_trainvaltest"):
        Cityscapes(str(root)).images("val")
    with pytest.raises(DataError, match=r"expected a folder of images at .*leftImg8bit"):
        Cityscapes(str(root / "gtFine")).images("train")


def test_published_instances(root: Path, save_image: Save) -> None:
    data = Cityscapes(str(root))
    image_id = data.images("train")[0]
    ids = np.concatenate([np.arange(34), [255, 255]]).astype(np.uint16).reshape(4, 9)
    # cars are numbered, a road is one thing
    instances = np.where(ids == 26, 26001, ids).astype(np.uint16)
    save_image(root / "gtFine" / "train" / f"{image_id}_gtFine_instanceIds.png", instances)
    found = data.read_instances(image_id).ravel()
    void = data.read_annotation(image_id).ravel() == VOID
    assert (found[void] == -1).all()
    assert found[26] == 26001
    assert found[7] == 7
    assert len(set(found[~void].tolist())) == 19
    save_image(root / "gtFine" / "train" / f"{image_id}_gtFine_instanceIds.png", instances[:2])
    with pytest.raises(DataError, match=r"instances of the image's size 4 x 9 in .*instanceIds\.png, got 2 x 9"):
        data.read_instances(image_id)
