"""A folder of images and masks, in either layout."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import VOID
from acquisition.seeding import uniform_for
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.sources.folder import Folder, by_another_share, pair_files

Save = Callable[..., Path]


@pytest.fixture
def flat(tmp_path: Path, fake_pair: Callable[..., tuple[np.ndarray, np.ndarray]], save_image: Save) -> Path:
    for i in range(60):
        image, mask = fake_pair(i, 2)
        save_image(tmp_path / "images" / "city" / f"{i:02d}.jpg", image)
        if i < 50:
            save_image(tmp_path / "masks" / "city" / f"{i:02d}.png", mask)
    (tmp_path / "classes.txt").write_text("one\n two \n\n")
    return tmp_path


def test_folders_per_split(folder_root: Path) -> None:
    data = Folder(str(folder_root))
    assert data.images("train") == [f"train{i}" for i in range(8)]
    assert data.images("val") == ["val0", "val1", "val2"]
    assert data.images("test") == []
    assert data.class_names == ["dark", "middle", "bright"]
    assert data.num_classes == 3
    assert (
        data.size("train0") == data.read_annotation("train0").shape == data.read_image("train0").shape[:2] == (24, 32)
    )
    assert data.path("train0") == folder_root / "train" / "images" / "train0.png"
    assert data.annotation_path("val2") == folder_root / "val" / "masks" / "val2.png"
    # whoever asks for an image need not have listed them
    assert Folder(str(folder_root)).size("val1") == (24, 32)
    with pytest.raises(DataError, match=r"Folder has no image 'train8'; check the id"):
        data.read_image("train8")


def test_images_of_two_splits_may_have_one_name(
    folder_root: Path, fake_pair: Callable[..., tuple[np.ndarray, np.ndarray]], save_image: Save
) -> None:
    image, mask = fake_pair(7, 3)
    for folder, values in (("images", image), ("masks", mask)):
        save_image(folder_root / "val" / folder / "train0.png", values)
    data = Folder(str(folder_root))
    assert data.images("val") == ["val/train0", "val0", "val1", "val2"]
    assert data.images("train")[0] == "train0"
    assert data.path("train0") != data.path("val/train0") == folder_root / "val" / "images" / "train0.png"
    assert np.array_equal(data.read_annotation("val/train0"), mask)
    assert not np.array_equal(data.read_annotation("train0"), mask)


def test_a_share_is_held_out_by_name(flat: Path) -> None:
    data = Folder(str(flat), val_fraction=0.3)
    assert data.class_names == ["one", "two"]
    train, val = (set(data.images(s)) for s in ("train", "val"))
    assert not train & val
    drawn = {f"city/{i:02d}" for i in range(50)}
    assert val <= drawn
    assert drawn <= train | val
    # a mask that people draw for a unit of the pool leaves it where it is
    for i in range(50, 60):
        (flat / "masks" / "city" / f"{i}.png").write_bytes((flat / "masks" / "city" / "00.png").read_bytes())
    assert set(Folder(str(flat), val_fraction=0.3).images("train")) == train
    for i in range(50, 60):
        (flat / "masks" / "city" / f"{i}.png").unlink()
    assert 8 <= len(val) <= 22
    again = Folder(str(flat), val_fraction=0.3)
    gone = sorted(val)[0]
    (flat / "images" / f"{gone}.jpg").unlink()
    (flat / "masks" / f"{gone}.png").unlink()
    assert set(again.images("val")) == val - {gone}
    assert set(Folder(str(flat), val_fraction=0.1).images("val")) < val


def test_held_out_images_without_a_mask_are_named(flat: Path) -> None:
    source = Folder(str(flat), val_fraction=0.3)
    undrawn = source.undrawn()
    assert undrawn
    assert not {*undrawn} & {*source.images("train"), *source.images("val")}
    assert source.read_image(undrawn[0]).ndim == 3
    (flat / "masks" / f"{undrawn[0]}.png").write_bytes((flat / "masks" / "city" / "00.png").read_bytes())
    again = Folder(str(flat), val_fraction=0.3)
    assert again.undrawn() == undrawn[1:]
    assert undrawn[0] in again.images("val")


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_another_share_is_proposed_where_a_split_is_empty(share: float) -> None:
    names, split = [f"im{i}" for i in range(3)], "val" if share == 0 else "train"
    held_out = [uniform_for("val", name) < share for name in names]
    assert not any(held_out) if split == "val" else all(held_out)
    remedy = by_another_share(names, share, split)
    other = float(re.findall(r"set data\.source\.val_fraction to ([\d.]+), or add images$", remedy)[0])
    assert 0 < sum(uniform_for("val", name) < other for name in names) < 3
    assert by_another_share([], share, split) == ""


def test_a_mask_without_an_image(folder_root: Path) -> None:
    (folder_root / "train" / "images" / "train3.png").unlink()
    with pytest.raises(DataError, match=r"train3\.png has no image of its name in .*images; rename or remove it"):
        Folder(str(folder_root)).images("train")


def test_images_without_any_masks(folder_root: Path) -> None:
    found = pair_files(folder_root / "train" / "images", folder_root / "nowhere")
    assert [file.mask for file in found.values()] == [None] * 8


def test_what_is_missing(folder_root: Path, tmp_path: Path) -> None:
    (folder_root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"class names at .*classes\.txt, one a line, got no such file; check"):
        _ = Folder(str(folder_root)).class_names
    with pytest.raises(DataError, match=r"expected a folder of images at .*elsewhere"):
        Folder(str(tmp_path / "elsewhere")).images("train")
    (tmp_path / "empty" / "train" / "images").mkdir(parents=True)
    empty = PoolDataModule(Folder(str(tmp_path / "empty")), run_dir=str(tmp_path / "run"))
    with pytest.raises(DataError, match="at least one image in the train split of Folder, got none"):
        empty.prepare_data()


def test_a_name_that_would_mean_two_images_is_refused(folder_root: Path, save_image: Save) -> None:
    flat = np.zeros((24, 32, 3), dtype=np.uint8)
    save_image(folder_root / "train" / "images" / "val" / "train0.png", flat)
    save_image(folder_root / "val" / "images" / "train0.png", flat)
    with pytest.raises(DataError, match="two images are called val/train0"):
        Folder(str(folder_root)).images("val")


def test_objects_are_those_of_the_folder_of_instances(folder_root: Path, save_image: Save) -> None:
    source = Folder(str(folder_root))
    image_id = source.images("train")[0]
    mask = source.read_annotation(image_id)
    components = source.read_instances(image_id)
    assert components.shape == mask.shape, "connected parts, where nobody tells objects apart"
    numbers = np.arange(mask.size, dtype=np.uint16).reshape(mask.shape) % 700
    path = save_image(folder_root / "train" / "instances" / f"{image_id}.png", numbers)
    told_apart = Folder(str(folder_root))
    expected = np.where(mask == VOID, -1, numbers.astype(np.int32))
    assert np.array_equal(told_apart.read_instances(image_id), expected), "more than 255 objects too"
    other = told_apart.images("train")[1]
    assert np.array_equal(told_apart.read_instances(other), source.read_instances(other)), "this one has no file"
    save_image(path, numbers[:-1])
    with pytest.raises(DataError, match=r"expected instances of the image's size .* in .*instances"):
        told_apart.read_instances(image_id)


@pytest.mark.real
def test_nuclei_are_told_apart(nuclei: Path) -> None:
    source = Folder(str(nuclei))
    for image_id in source.images("train")[:20]:
        mask, instances = source.read_annotation(image_id), source.read_instances(image_id)
        assert np.array_equal(instances > 0, mask == 1)
        assert len(np.unique(instances)) == instances.max() + 1, "background is one object more"
