"""A folder of images and masks, in either layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datamodules.folder import Folder, pair_files
from datamodules.units import DataError

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
    assert [u.unit_id for u in data.find_units("train")] == [f"train{i}" for i in range(8)]
    assert [u.unit_id for u in data.find_units("val")] == ["val0", "val1", "val2"]
    assert data.find_units("test") == []
    assert data.class_names == ["dark", "middle", "bright"]
    assert data.num_classes == 3
    unit = data.find_units("train")[0]
    assert data.size(unit) == data.read_mask(unit).shape == data.read_image(unit).shape[:2] == (24, 32)


def test_a_share_is_held_out_by_name(flat: Path) -> None:
    data = Folder(str(flat), val_fraction=0.3)
    assert data.class_names == ["one", "two"]
    train, val = ({u.unit_id for u in data.find_units(s)} for s in ("train", "val"))
    assert not train & val
    drawn = {f"city/{i:02d}" for i in range(50)}
    assert val <= drawn
    assert drawn <= train | val
    # a mask that people draw for a unit of the pool leaves it where it is
    for i in range(50, 60):
        (flat / "masks" / "city" / f"{i}.png").write_bytes((flat / "masks" / "city" / "00.png").read_bytes())
    assert {u.unit_id for u in Folder(str(flat), val_fraction=0.3).find_units("train")} == train
    for i in range(50, 60):
        (flat / "masks" / "city" / f"{i}.png").unlink()
    assert 8 <= len(val) <= 22
    again = Folder(str(flat), val_fraction=0.3, seed=5)
    assert {u.unit_id for u in again.find_units("val")} == val
    gone = sorted(val)[0]
    (flat / "images" / f"{gone}.jpg").unlink()
    (flat / "masks" / f"{gone}.png").unlink()
    assert {u.unit_id for u in again.find_units("val")} == val - {gone}
    assert {u.unit_id for u in Folder(str(flat), val_fraction=0.1).find_units("val")} < val


def test_a_mask_without_an_image(folder_root: Path) -> None:
    (folder_root / "train" / "images" / "train3.png").unlink()
    with pytest.raises(DataError, match=r"train3\.png has no image of its name in .*images; rename or remove it"):
        Folder(str(folder_root)).find_units("train")


def test_images_without_any_masks(folder_root: Path) -> None:
    units = pair_files(folder_root / "train" / "images", folder_root / "nowhere")
    assert [u.mask for u in units] == [None] * 8


def test_what_is_missing(folder_root: Path, tmp_path: Path) -> None:
    (folder_root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"class names at .*classes\.txt, one a line, got no such file; check"):
        _ = Folder(str(folder_root)).class_names
    with pytest.raises(DataError, match=r"expected a folder of images at .*elsewhere"):
        Folder(str(tmp_path / "elsewhere")).find_units("train")
    (tmp_path / "empty" / "train" / "images").mkdir(parents=True)
    empty = Folder(str(tmp_path / "empty"), run_dir=str(tmp_path / "run"))
    with pytest.raises(DataError, match="at least one image in the train split of Folder, got none"):
        empty.start()
