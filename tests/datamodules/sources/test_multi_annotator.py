"""Images that several people drew: whose mask is trained on, which fold, and what is refused."""

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.oracle import FolderOracle
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
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


Make = Callable[..., MultiAnnotatorFolder]


@pytest.fixture
def make(root: Path) -> Make:
    return lambda **kwargs: MultiAnnotatorFolder(str(root), **kwargs)


@pytest.fixture
def over(tmp_path: Path) -> Callable[..., PoolDataModule]:
    return lambda source, **kwargs: PoolDataModule(source, run_dir=str(tmp_path / "run"), **kwargs)


Over = Callable[..., PoolDataModule]


def test_folds_are_a_partition_by_name(make: Make, root: Path) -> None:
    folds = [make(fold=k, folds=3) for k in range(3)]
    held_out = [set(f.images("val")) for f in folds]
    assert sorted(name for fold in held_out for name in fold) == NAMES
    for k, data in enumerate(folds):
        assert set(data.images("train")) == set(NAMES) - held_out[k]
        assert {data.fold_of(name) for name in held_out[k]} == {k}
        assert data.images("test") == []
    # an image more moves none of the others
    shutil.copy(root / "images" / "cell00.png", root / "images" / "cell99.png")
    shutil.copy(root / "masks" / "anna" / "cell00.png", root / "masks" / "anna" / "cell99.png")
    assert set(make(fold=1, folds=3).images("val")) - {"cell99"} == held_out[1]


def test_missing_is_not_background(make: Make, root: Path) -> None:
    carl = make(annotator="carl", folds=2)
    assert set(carl.images("train")) | set(carl.images("val")) == set(NAMES[::2])
    with pytest.raises(DataError, match=r"'carl' has not drawn 'cell01'; those who have: anna, bert"):
        carl.read_drawing("cell01", "carl")
    assert list(carl.drawings("cell01")) == ["anna", "bert"]
    assert list(carl.drawings("cell02")) == ["anna", "bert", "carl"]
    # an image that nobody has drawn is an image still, in no split
    shutil.copy(root / "images" / "cell00.png", root / "images" / "blank.png")
    data = make()
    assert "blank" in data.all_images()
    assert "blank" not in {*data.images("train"), *data.images("val")}
    assert not data.is_annotated("blank")
    assert not carl.is_annotated("cell01")
    assert carl.is_annotated("cell02")


def test_evaluation_is_the_same_for_everybody(make: Make, root: Path) -> None:
    (root / "masks" / "bert" / "cell01.png").unlink()
    (root / "masks" / "bert" / "cell03.png").unlink()
    for fold in range(2):
        expected = {n for n in NAMES if make(folds=2).fold_of(n) == fold} - {"cell01", "cell03"}
        found = [make(folds=2, annotator=a).evaluation_images(fold) for a in ("majority", "random", "carl")]
        assert [set(f) for f in found] == [expected] * 3


def test_whose_mask(make: Make) -> None:
    anna, most, someone = (make(annotator=a) for a in ("anna", "majority", "random"))
    image_id = next(i for i in anna.images("train") if i in NAMES[::2])
    drawn = anna.drawings(image_id)
    assert np.array_equal(anna.read_annotation(image_id), disc(int(image_id[4:]), 4))
    assert np.array_equal(anna.read_annotation(image_id, (0, 5)), anna.read_annotation(image_id))
    # anna within bert within carl: the middle one is the majority
    assert np.array_equal(most.read_annotation(image_id), drawn["bert"])
    assert np.array_equal(most.read_annotation(image_id, (0, 5)), drawn["bert"])
    assert np.array_equal(someone.read_annotation(image_id), drawn["bert"])
    pair = next(i for i in most.images("train") if i in NAMES[1::2])
    two = most.drawings(pair)
    assert np.array_equal(most.read_annotation(pair) == VOID, two["anna"] != two["bert"])


def test_random_annotators_take_turns(make: Make) -> None:
    data = make(annotator="random")
    drawn: dict[str, int] = dict.fromkeys(data.annotators, 0)
    differs = 0
    for image_id in data.images("train"):
        people = data.drawings(image_id)
        for epoch in range(20):
            mask = data.read_annotation(image_id, (0, epoch))
            (who,) = [a for a, m in people.items() if np.array_equal(m, mask)]
            drawn[who] += 1
            assert np.array_equal(mask, make(annotator="random").read_annotation(image_id, (0, epoch)))
            differs += not np.array_equal(mask, data.read_annotation(image_id, (1, epoch)))
    total = sum(drawn.values())
    assert 0.33 < drawn["anna"] / total < 0.51
    assert 0.10 < drawn["carl"] / total < 0.24
    assert differs > total / 4


def test_the_loader_draws_by_epoch_and_validates_on_the_majority(make: Make, over: Over) -> None:
    source = make(annotator="random")
    data = over(source, batch_size=4, flip=0.0)
    data.prepare_data()
    loader = data.train_dataloader()

    def areas(epoch: int) -> dict[str, int]:
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return {i: int(m.sum()) for b in loader for i, m in zip(b["image_id"], b["mask"], strict=True)}

    first = areas(0)
    assert areas(0) == first
    assert sum(areas(1)[i] != a for i, a in first.items()) > len(first) / 4
    for batch in data.val_dataloader():
        for image_id, mask in zip(batch["image_id"], batch["mask"], strict=True):
            assert np.array_equal(mask, majority(list(source.drawings(image_id).values())))


def test_sizes_of_drawings(make: Make, over: Over) -> None:
    source = make(annotator="carl")
    data = over(source, image_size=(12, 16), flip=0.0)
    batch = next(iter(data.val_dataloader()))
    drawn = source.drawings(batch["image_id"][0])
    small = data.resized(drawn)
    assert small.keys() == drawn.keys()
    assert small["carl"].dtype == np.uint8
    assert np.array_equal(small["carl"], batch["mask"][0])
    assert drawn["anna"].shape == over(source).resized(drawn)["anna"].shape == (24, 24)
    assert data.resized({}) == {}


def test_second_drawings(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    data = make(repeats="masks_again")
    with caplog.at_level(logging.INFO, "datamodules"):
        assert data.repeats("cell04") == {}  # a copy of the first
    assert re.search(r"5 masks in .*masks_again are copies of the first drawing: left out", caplog.text)
    assert list(data.repeats("cell05")) == ["anna"]
    assert np.array_equal(data.repeats("cell05")["anna"], disc(5, 3))
    assert make().repeats("cell05") == {}
    assert sum(bool(data.repeats(n)) for n in NAMES) == 15


def test_class_indices(make: Make, root: Path, save_image: Callable[..., Path], over: Over) -> None:
    for who in ("anna", "bert"):
        for name in NAMES:
            mask = disc(0, 5) + disc(4, 3)
            mask[0] = VOID
            save_image(root / "masks" / who / f"{name}.png", mask)
    shutil.rmtree(root / "masks" / "carl")
    with pytest.raises(
        DataError, match=r"mask values 0 and 255 \(data.source.foreground\), got 2 in .*set data.source.foreground to"
    ):
        make().drawings("cell00")
    (root / "classes.txt").write_text("background\ncell\nnucleus\n")
    with pytest.raises(DataError, match=r"data.source.foreground 255 means masks of two classes, but .* lists 3"):
        _ = make().class_names
    data = make(foreground=None)
    assert set(np.unique(data.drawings("cell00")["anna"])) == {0, 1, 2, VOID}
    module = over(data)
    module.prepare_data()
    assert set(next(iter(module.train_dataloader()))["mask"].unique().tolist()) == {0, 1, 2, VOID}


def test_an_oracle_may_answer_with_a_file_of_its_own(make: Make, over: Over, tmp_path: Path, save_image: Any) -> None:
    source = make(annotator="random")
    data = over(source, oracle=FolderOracle(str(tmp_path / "drawn")))
    name = source.images("train")[0]
    save_image(tmp_path / "drawn" / f"{name}.png", disc(3, 2))
    data.prepare_data()
    assert data.pool.labelled == [name]
    assert np.array_equal(data.pool.training_annotations().read_annotation(name, (0, 7)), disc(3, 2))


def test_settings_that_cannot_be(make: Make) -> None:
    with pytest.raises(ValueError, match=r"folds must be at least 2.*got 1"):
        make(folds=1)
    for fold in (-1, 5):
        with pytest.raises(ValueError, match=rf"fold must be from 0 to 4 \(data.source.folds is 5\), got {fold}"):
            make(fold=fold)
    for repeats in ("../masks", "", "..", ".", "/etc"):
        with pytest.raises(ValueError, match=r"repeats names a folder directly below data.source.root"):
            make(repeats=repeats)
    with pytest.raises(ValueError, match="foreground must be from 1 to 255"):
        make(foreground=0)
    with pytest.raises(
        DataError, match=r"'majority', 'random', 'staple', 'dawid_skene' or one of anna, bert, carl, got 'dora'"
    ):
        make(annotator="dora").images("train")
    empty = next(k for k in range(200) if 0 not in {make(folds=200).fold_of(n) - k for n in NAMES})
    with pytest.raises(DataError, match=rf"at least one image in fold {empty} of 200 .* 'majority', got none of 20"):
        make(folds=200, fold=empty).images("val")
    assert make(folds=200).evaluation_images(empty) == []


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "cell00/../cell01", "cell20"])
def test_ids_are_looked_up_never_opened(make: Make, name: str) -> None:
    data = make(repeats="masks_again")
    for ask in (data.drawings, data.repeats, data.read_image, lambda n: data.read_drawing(n, "anna")):
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
        make().images("train")
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


def test_repeats_a_stranger(make: Make, root: Path) -> None:
    shutil.move(root / "masks_again" / "anna", root / "masks_again" / "anne")
    with pytest.raises(DataError, match=r"anne repeats nobody's masks; name it after one of anna, bert, carl"):
        make(repeats="masks_again").repeats("cell01")


def test_a_mask_of_another_size(make: Make, root: Path, save_image: Callable[..., Path]) -> None:
    save_image(root / "masks" / "bert" / "cell05.png", 255 * disc(0, 4, size=20))
    with pytest.raises(DataError, match=r"image's size 24 x 24, got 20 x 20 in .*bert/cell05\.png; redraw or resize"):
        make().drawings("cell05")


def test_masks_without_anything(make: Make, over: Over, root: Path, save_image: Callable[..., Path]) -> None:
    for name in NAMES:
        save_image(root / "masks" / "bert" / f"{name}.png", 0 * disc(0, 1))
    with pytest.raises(DataError, match=r"all \d+ masks that 'bert' drew outside fold 0 are background or void: "):
        over(make(annotator="bert")).prepare_data()
    with pytest.warns(UserWarning, match=r"'bert' drew outside fold 0 are background or void; they count all the same"):
        over(make()).prepare_data()
    for who in ("anna", "carl"):
        for path in (root / "masks" / who).iterdir():
            save_image(path, 0 * disc(0, 1))
    shutil.rmtree(root.parent / "run")
    with (
        pytest.warns(UserWarning, match="background or void"),
        pytest.raises(DataError, match="the majority's masks are all empty"),
    ):
        over(make()).prepare_data()


@pytest.mark.real
def test_real_bubil(bubil: Path) -> None:
    data = MultiAnnotatorFolder(str(bubil), repeats="masks_amira")
    assert data.annotators == [f"person{i}" for i in range(1, 6)]
    assert len(data.all_images()) == 116
    assert all(len(data.annotators_of(i)) == 5 for i in data.all_images())
    folds = [data.fold_of(i) for i in data.all_images()]
    assert min(np.bincount(folds)) > 15
    # person2's second drawings of ds1 are byte copies (README, caveat 3)
    without = {i for i in data.all_images() if "person2" not in data.repeats(i)}
    assert without == {i for i in data.all_images() if i.startswith("ds1")}
    assert len(without) == 35
