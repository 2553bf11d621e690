"""Images that several people drew: whose mask is trained on, which fold, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datamodules.multi_annotator import MultiAnnotatorFolder
from datamodules.units import VOID, DataError

from datamodules.oracle import FolderOracle
from datamodules.votes import majority

NAMES = [f"cell{i:02d}" for i in range(20)]


def disc(index: int, radius: float, size: int = 24) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (np.hypot(rows - 8 - index % 8, columns - 12) < radius).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """Three people of growing radius; carl has drawn every second image only; anna has drawn twice."""
    root = tmp_path / "cells"
    for i, name in enumerate(NAMES):
        save_image(root / "images" / f"{name}.png", np.repeat(60 + 120 * disc(i, 5)[..., None], 3, axis=2))
        for who, radius in (("anna", 4), ("bert", 5), ("carl", 6)):
            if who != "carl" or i % 2 == 0:
                save_image(root / "masks" / who / f"{name}.png", 255 * disc(i, radius))
        # every fourth "second drawing" is the first again
        save_image(root / "masks_again" / "anna" / f"{name}.png", 255 * disc(i, 4 if i % 4 == 0 else 3))
    (root / "classes.txt").write_text("background\ncell\n")
    return root


@pytest.fixture
def make(root: Path, tmp_path: Path) -> Callable[..., MultiAnnotatorFolder]:
    return lambda **kwargs: MultiAnnotatorFolder(str(root), run_dir=str(tmp_path / "run"), **kwargs)


Make = Callable[..., MultiAnnotatorFolder]


def ids(units: Any) -> set[str]:
    return {u.unit_id for u in units}


def test_folds_are_a_partition_by_name(make: Make, root: Path) -> None:
    folds = [make(fold=k, folds=3) for k in range(3)]
    held_out = [ids(f.find_units("val")) for f in folds]
    assert sorted(name for fold in held_out for name in fold) == NAMES
    for k, data in enumerate(folds):
        assert ids(data.find_units("train")) == set(NAMES) - held_out[k]
        assert {data.fold_of(name) for name in held_out[k]} == {k}
        assert data.find_units("test") == []
        assert ids(make(fold=k, folds=3, seed=9).find_units("val")) == held_out[k]
    # an image more moves none of the others
    shutil.copy(root / "images" / "cell00.png", root / "images" / "cell99.png")
    shutil.copy(root / "masks" / "anna" / "cell00.png", root / "masks" / "anna" / "cell99.png")
    assert ids(make(fold=1, folds=3).find_units("val")) - {"cell99"} == held_out[1]


def test_missing_is_not_background(make: Make, root: Path) -> None:
    carl = make(annotator="carl", folds=2)
    assert ids(carl.find_units("train")) | ids(carl.find_units("val")) == set(NAMES[::2])
    with pytest.raises(DataError, match=r"'carl' has not drawn 'cell01'; those who have: anna, bert"):
        carl.read_annotation("cell01", "carl")
    assert list(carl.annotations("cell01")) == ["anna", "bert"]
    assert list(carl.annotations("cell02")) == ["anna", "bert", "carl"]
    # an image that nobody has drawn is an image still, in no split
    shutil.copy(root / "images" / "cell00.png", root / "images" / "blank.png")
    data = make()
    assert "blank" in ids(data.images())
    assert "blank" not in ids(data.find_units("train")) | ids(data.find_units("val"))


def test_evaluation_is_the_same_for_everybody(make: Make, root: Path) -> None:
    (root / "masks" / "bert" / "cell01.png").unlink()
    (root / "masks" / "bert" / "cell03.png").unlink()
    for fold in range(2):
        expected = {n for n in NAMES if make(folds=2).fold_of(n) == fold} - {"cell01", "cell03"}
        found = [make(folds=2, annotator=a).evaluation_units(fold) for a in ("majority", "random", "carl")]
        assert [ids(f) for f in found] == [expected] * 3
        assert all(u.mask is None for u in found[0])


def test_whose_mask(make: Make) -> None:
    anna, most, someone = (make(annotator=a) for a in ("anna", "majority", "random"))
    unit = next(u for u in anna.find_units("train") if u.unit_id in NAMES[::2])
    drawn = anna.annotations(unit.unit_id)
    assert np.array_equal(anna.read_mask(unit), disc(int(unit.unit_id[4:]), 4))
    assert np.array_equal(anna.read_training_mask(unit, 5), anna.read_mask(unit))
    # anna within bert within carl: the middle one is the majority
    assert np.array_equal(most.read_mask(unit), drawn["bert"])
    assert np.array_equal(someone.read_mask(unit), drawn["bert"])
    pair = next(u for u in most.find_units("train") if u.unit_id in NAMES[1::2])
    two = most.annotations(pair.unit_id)
    assert np.array_equal(most.read_mask(pair) == VOID, two["anna"] != two["bert"])


def test_random_annotators_take_turns(make: Make) -> None:
    data, other = make(annotator="random"), make(annotator="random", seed=1)
    drawn: dict[str, int] = dict.fromkeys(data.annotators, 0)
    differs = 0
    for unit in data.find_units("train"):
        people = data.annotations(unit.unit_id)
        for epoch in range(20):
            mask = data.read_training_mask(unit, epoch)
            (who,) = [a for a, m in people.items() if np.array_equal(m, mask)]
            drawn[who] += 1
            assert np.array_equal(mask, make(annotator="random").read_training_mask(unit, epoch))
            differs += not np.array_equal(mask, other.read_training_mask(unit, epoch))
    total = sum(drawn.values())
    assert 0.33 < drawn["anna"] / total < 0.51
    assert 0.10 < drawn["carl"] / total < 0.24
    assert differs > total / 4


def test_the_loader_draws_by_epoch_and_validates_on_the_majority(make: Make) -> None:
    data = make(annotator="random", batch_size=4, flip=0.0)
    data.start()
    loader = data.train_dataloader()

    def areas(epoch: int) -> dict[str, int]:
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return {u: int(m.sum()) for b in loader for u, m in zip(b["unit_id"], b["mask"], strict=True)}

    first = areas(0)
    assert areas(0) == first
    assert sum(areas(1)[u] != a for u, a in first.items()) > len(first) / 4
    for batch in data.val_dataloader():
        for unit_id, mask in zip(batch["unit_id"], batch["mask"], strict=True):
            assert np.array_equal(mask, majority(list(data.annotations(unit_id).values())))


def test_sizes_of_annotations(make: Make) -> None:
    data = make(image_size=(12, 16), annotator="carl", flip=0.0)
    unit = data.evaluation_units(0)[0]
    batch = next(b for b in data.val_dataloader())
    position = batch["unit_id"].index("cell04") if "cell04" in batch["unit_id"] else 0
    small = data.annotations(batch["unit_id"][position], resized=True)["carl"]
    assert small.dtype == np.uint8
    assert np.array_equal(small, batch["mask"][position])
    assert data.annotations(unit.unit_id)["anna"].shape == (24, 24)
    assert make().annotations(unit.unit_id, resized=True)["anna"].shape == (24, 24)


def test_second_drawings(make: Make) -> None:
    data = make(repeats="masks_again")
    assert data.repeats_of("cell04") == {}  # a copy of the first
    assert list(data.repeats_of("cell05")) == ["anna"]
    assert np.array_equal(data.repeats_of("cell05")["anna"], disc(5, 3))
    assert data.repeats_of("cell05", resized=True)["anna"].shape == (24, 24)
    assert make().repeats_of("cell05") == {}
    assert sum(bool(data.repeats_of(n)) for n in NAMES) == 15


def test_class_indices(make: Make, root: Path, save_image: Callable[..., Path]) -> None:
    for who in ("anna", "bert"):
        for name in NAMES:
            mask = disc(0, 5) + disc(4, 3)
            mask[0] = VOID
            save_image(root / "masks" / who / f"{name}.png", mask)
    shutil.rmtree(root / "masks" / "carl")
    with pytest.raises(
        DataError, match=r"mask values 0 and 255 \(data.foreground\), got 2 in .*set data.foreground to"
    ):
        make().annotations("cell00")
    (root / "classes.txt").write_text("background\ncell\nnucleus\n")
    with pytest.raises(DataError, match=r"data.foreground 255 means masks of two classes, but .* lists 3"):
        _ = make().class_names
    data = make(foreground=None)
    assert set(np.unique(data.annotations("cell00")["anna"])) == {0, 1, 2, VOID}
    data.start()
    assert set(next(iter(data.train_dataloader()))["mask"].unique().tolist()) == {0, 1, 2, VOID}


def test_an_oracle_may_answer_with_a_file_of_its_own(make: Make, tmp_path: Path, save_image: Any) -> None:
    data = make(oracle=FolderOracle(str(tmp_path / "drawn")), annotator="random")
    name = data.find_units("train")[0].unit_id
    save_image(tmp_path / "drawn" / f"{name}.png", disc(3, 2))
    data.start()
    (unit,) = data.labelled_units
    assert np.array_equal(data.read_training_mask(unit, 7), disc(3, 2))


def test_settings_that_cannot_be(make: Make) -> None:
    with pytest.raises(ValueError, match=r"folds must be at least 2.*got 1"):
        make(folds=1)
    for fold in (-1, 5):
        with pytest.raises(ValueError, match=rf"fold must be from 0 to 4 \(data.folds is 5\), got {fold}"):
            make(fold=fold)
    for repeats in ("../masks", "", "..", ".", "/etc"):
        with pytest.raises(ValueError, match=r"repeats names a folder directly below data.root"):
            make(repeats=repeats)
    with pytest.raises(ValueError, match="foreground must be from 1 to 255"):
        make(foreground=0)
    with pytest.raises(DataError, match=r"'majority', 'random' or one of anna, bert, carl, got 'dora'"):
        make(annotator="dora").find_units("train")
    empty = next(k for k in range(200) if 0 not in {make(folds=200).fold_of(n) - k for n in NAMES})
    with pytest.raises(DataError, match=rf"at least one image in fold {empty} of 200 .* 'majority', got none of 20"):
        make(folds=200, fold=empty).find_units("val")
    assert make(folds=200).evaluation_units(empty) == []


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "cell00/../cell01", "cell20"])
def test_ids_are_looked_up_never_opened(make: Make, name: str) -> None:
    data = make(repeats="masks_again")
    for ask in (data.annotations, data.repeats_of, lambda n: data.read_annotation(n, "anna")):
        with pytest.raises(DataError, match=r"expected the id of an image in .*images, such as 'cell00', got"):
            ask(name)


def test_folders_that_cannot_be(make: Make, root: Path, save_image: Callable[..., Path]) -> None:
    (root / "masks" / "emil").mkdir()
    with pytest.raises(DataError, match=r"annotator folder .*emil has no mask; add masks or remove the folder"):
        _ = make().annotators
    save_image(root / "masks" / "emil" / "Cell00.png", disc(0, 4))
    with pytest.raises(DataError, match=r"emil/Cell00\.png has no image of its name in .*images \(there is 'cell00'\)"):
        _ = make().annotators
    shutil.move(root / "masks" / "emil", root / "masks" / "random")
    shutil.move(root / "masks" / "random" / "Cell00.png", root / "masks" / "random" / "cell00.png")
    with pytest.raises(DataError, match="no annotator may be called 'random'"):
        make().find_units("train")
    for who in ("random", "bert", "carl"):
        shutil.rmtree(root / "masks" / who)
    with pytest.raises(DataError, match=r"at least two annotators below .*masks, got anna; variance needs two"):
        _ = make().annotators
    shutil.rmtree(root / "masks")
    with pytest.raises(DataError, match=r"expected a folder for each annotator in .*masks, got no such folder"):
        _ = make().annotators
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"class names at .*classes\.txt, one a line, got no such file"):
        _ = make().class_names


def test_repeats_of_a_stranger(make: Make, root: Path) -> None:
    shutil.move(root / "masks_again" / "anna", root / "masks_again" / "anne")
    with pytest.raises(DataError, match=r"anne repeats nobody's masks; name it after one of anna, bert, carl"):
        make(repeats="masks_again").repeats_of("cell01")


def test_a_mask_of_another_size(make: Make, root: Path, save_image: Callable[..., Path]) -> None:
    save_image(root / "masks" / "bert" / "cell05.png", 255 * disc(0, 4, size=20))
    with pytest.raises(DataError, match=r"image's size 24 x 24, got 20 x 20 in .*bert/cell05\.png; redraw or resize"):
        make().annotations("cell05")


def test_masks_without_anything(make: Make, root: Path, save_image: Callable[..., Path]) -> None:
    for name in NAMES:
        save_image(root / "masks" / "bert" / f"{name}.png", 0 * disc(0, 1))
    with pytest.raises(DataError, match=r"all \d+ masks that 'bert' drew outside fold 0 are background or void: "):
        make(annotator="bert").start()
    with pytest.warns(UserWarning, match=r"'bert' drew outside fold 0 are background or void; they count all the same"):
        make().start()
    for who in ("anna", "carl"):
        for path in (root / "masks" / who).iterdir():
            save_image(path, 0 * disc(0, 1))
    shutil.rmtree(root.parent / "run")
    with (
        pytest.warns(UserWarning, match="background or void"),
        pytest.raises(DataError, match="the majority's masks are all empty"),
    ):
        make().start()


@pytest.mark.real
def test_real_bubil(bubil: Path, tmp_path: Path) -> None:
    data = MultiAnnotatorFolder(str(bubil), repeats="masks_amira", run_dir=str(tmp_path))
    assert data.annotators == [f"person{i}" for i in range(1, 6)]
    assert len(data.images()) == 116
    assert all(len(data.annotators_of(u.unit_id)) == 5 for u in data.images())
    folds = [data.fold_of(u.unit_id) for u in data.images()]
    assert min(np.bincount(folds)) > 15
    # person2's second drawings of ds1 are byte copies (README, caveat 3)
    without = {u.unit_id for u in data.images() if "person2" not in data.repeats_of(u.unit_id)}
    assert without == {u.unit_id for u in data.images() if u.unit_id.startswith("ds1")}
    assert len(without) == 35
