"""Rules that make labels wrong: what they change, how often, and that they draw the same whenever they are asked."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from acquisition.annotation import UNANSWERED, VOID
from datamodules import corruptions
from datamodules.coarsening import Coarsen
from datamodules.corruptions import (
    Corrupted,
    Corruption,
    FlipBackground,
    FlipClass,
    FlipMissing,
    Objectness,
    PairNoise,
    PositiveUnlabelled,
    RandomCategory,
    SymmetricNoise,
    Withheld,
)
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import RandomSubset
from datamodules.oracle import HiddenTruth, WholeObjects
from datamodules.pool import Pool
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.source import Source
from datamodules.sources.synthetic_annotators import SyntheticAnnotators
from records.ledger import Queried

CLASSES = 4
EYE = np.eye(CLASSES).tolist()
RULES: list[Corruption] = [
    FlipMissing(0.5), FlipBackground(0.5), SymmetricNoise(0.5), PairNoise(0.5), PositiveUnlabelled(0.5), Objectness(),
    RandomCategory(), FlipClass([[0.7, 0.1, 0.1, 0.1], *EYE[1:]]), Coarsen(2), Coarsen(shift=1), Coarsen(shift=-1.5),
]  # fmt: skip


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a grid, each an object of one class; a row of void, one of nobody's answer, and one of no object."""
    rng = np.random.default_rng(seed)
    numbers = np.kron(np.arange(64).reshape(8, 8), np.ones((4, 4), dtype=int)).astype(np.int32)
    annotation = rng.integers(0, CLASSES, 64)[numbers].astype(np.uint8)
    annotation[0], annotation[1] = VOID, UNANSWERED
    numbers[2] = -1
    return annotation, numbers


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.short_description)
@given(seed=st.integers(0, 1000))
def test_a_rule_is_the_same_whenever_it_is_asked_and_leaves_void_alone(rule: Corruption, seed: int) -> None:
    annotation, objects = scene(seed)
    before = annotation.copy()
    changed = rule.corrupt(annotation, objects, "image", CLASSES)
    assert np.array_equal(annotation, before), "the truth is not touched"
    assert np.array_equal(changed, rule.corrupt(annotation, objects, "image", CLASSES))
    assert changed.dtype == annotation.dtype
    assert (changed[0] == VOID).all()
    assert (changed[1] == UNANSWERED).all()
    assert set(np.unique(changed[2:])) <= set(range(CLASSES))
    if not isinstance(rule, Coarsen):
        assert np.array_equal(changed[2], annotation[2]), "pixels of no object stay"
        for number in range(64):
            inside = (objects == number) & (annotation < CLASSES)
            assert len(np.unique(changed[inside])) <= 1, "objects change as a whole"


@pytest.mark.parametrize(
    ("rule", "of", "to", "share"),
    [
        (FlipMissing(0.3), 2, {0}, 0.3),
        (FlipMissing(0.3), 0, set(), 0.0),
        (FlipBackground(0.3), 0, {1, 2, 3}, 0.3),
        (FlipBackground(0.3), 2, set(), 0.0),
        (SymmetricNoise(0.3), 1, {0, 2, 3}, 0.3),
        (PairNoise(0.3), 3, {0}, 0.3),
        (PositiveUnlabelled(0.3), 2, {0}, 0.7),
        (PositiveUnlabelled(1.0), 2, set(), 0.0),
        (Withheld(0.3), 2, {VOID}, 0.7),
        (Objectness(), 3, {1}, 1.0),
        (RandomCategory(), 3, {1, 2}, 2 / 3),
        (FlipClass([[0.2, 0.8, 0, 0], EYE[1], EYE[2], EYE[3]]), 0, {1}, 0.8),
    ],
    ids=lambda value: value.short_description if isinstance(value, Corruption) else None,
)
def test_how_often_and_to_what(rule: Corruption, of: int, to: set[int], share: float) -> None:
    """Each of 4000 classified images is one object."""
    label, no_object = np.array(of, dtype=np.uint8), np.zeros((), dtype=np.int32)
    found = np.array([int(rule.corrupt(label, no_object, f"image{i}", CLASSES)) for i in range(4000)])
    assert set(found[found != of].tolist()) == to
    # four standard deviations of a share
    assert abs((found != of).mean() - share) <= 4 * (share * (1 - share) / 4000) ** 0.5 + 1e-12
    if len(to) > 1:
        counts = np.bincount(found[found != of], minlength=CLASSES)[sorted(to)]
        assert counts.min() > 0.8 * counts.max(), "all alike"


@pytest.mark.parametrize("label", [0, 3, VOID, UNANSWERED])
@pytest.mark.parametrize("rule", [r for r in RULES if not isinstance(r, Coarsen)], ids=lambda r: r.short_description)
def test_a_class_is_drawn_as_a_mask_of_one_pixel(rule: Corruption, label: int) -> None:
    mask, objects = np.full((1, 1), label, dtype=np.uint8), np.zeros((1, 1), dtype=np.int32)
    for image_id in map(str, range(20)):
        one = rule.corrupt(mask[0, 0, ...], objects[0, 0, ...], image_id, CLASSES)
        assert one.shape == ()
        assert one == rule.corrupt(mask, objects, image_id, CLASSES)


def test_withheld_labels_train_nobody(tmp_path: Path) -> None:
    oracle = HiddenTruth(corruption=Withheld(0.5))
    source = Digits(num_train=60, num_val=20)
    pool = PoolDataModule(source, oracle=oracle, run_dir=str(tmp_path), allow_missing_classes=True).pool
    pool.start()
    trains = pool.training_images()
    assert 15 < len(trains) < 45
    assert all(pool.read_class(i) == int(pool.source.read_annotation(i)) for i in trains)


def test_another_seed_or_image_draws_anew() -> None:
    annotation, objects = scene(0)
    one = FlipMissing(0.5, seed=0).corrupt(annotation, objects, "a", CLASSES)
    assert not np.array_equal(one, FlipMissing(0.5, seed=1).corrupt(annotation, objects, "a", CLASSES))
    assert not np.array_equal(one, FlipMissing(0.5, seed=0).corrupt(annotation, objects, "b", CLASSES))


def test_a_coarse_outline_has_few_corners_and_is_near() -> None:
    y, x = np.mgrid[:64, :64]
    disk = ((y - 32) ** 2 + (x - 32) ** 2 < 26**2).astype(np.uint8)
    objects = disk.astype(np.int32)
    fine, coarse = (Coarsen(t).corrupt(disk, objects, "a", 2) for t in (0.5, 6))
    assert (fine != disk).mean() < 0.01
    assert 0.01 < (coarse != disk).mean() < 0.2
    distance = np.abs(np.hypot(y - 32, x - 32) - 26)
    assert distance[coarse != disk].max() < 6 + 2


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_a_moved_boundary_is_so_far_from_the_true_one(shift: float) -> None:
    y, x = np.mgrid[:64, :64]
    distance = np.hypot(y - 32, x - 32)
    disk = (distance < 20).astype(np.uint8)
    disk[:, 60:] = VOID
    moved = Coarsen(shift=shift).corrupt(disk, np.where(disk == VOID, -1, disk).astype(np.int32), "a", 2)
    radius = np.sqrt((moved == 1).sum() / np.pi)
    assert radius == pytest.approx(20 + shift, abs=0.3)
    assert np.array_equal(moved == VOID, disk == VOID)


def test_a_small_object_grows_over_a_large_one_and_shrinks_under_it() -> None:
    annotation = np.repeat(np.array([[0, 0, 0, 0, 0, 1, 2, 2, 2]], dtype=np.uint8), 3, axis=0)
    outwards, inwards = (Coarsen(shift=s).corrupt(annotation, annotation.astype(np.int32), "a", 3) for s in (1, -1))
    assert outwards[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert inwards[1].tolist() == [0, 0, 0, 0, 0, 0, 2, 2, 2]


def two_squares() -> tuple[np.ndarray, np.ndarray]:
    """Two squares of class 1 in a background that encloses them."""
    annotation = np.zeros((40, 40), dtype=np.uint8)
    annotation[5:15, 5:15] = annotation[22:34, 20:32] = 1
    objects = annotation.astype(np.int32)
    objects[22:34, 20:32] = 2
    return annotation, objects


def test_enclosed_objects_are_drawn_before_boundaries_move() -> None:
    annotation, objects = two_squares()
    exact, drawn = (Coarsen(t, shift=-1).corrupt(annotation, objects, "a", 2) for t in (None, 1))
    assert exact.sum() == 8 * 8 + 10 * 10
    assert np.array_equal(exact, drawn)
    assert np.array_equal(Coarsen(1).corrupt(annotation, objects, "a", 2), annotation)


def test_a_part_that_cannot_be_drawn_stays() -> None:
    annotation, _ = two_squares()
    # a pixel and a square, one object
    annotation[1, 1] = 1
    annotation[22:34, 20:32] = 0
    drawn = Coarsen(2).corrupt(annotation, annotation.astype(np.int32), "a", 2)
    assert drawn[1, 1] == 1
    assert np.array_equal(drawn, annotation)
    # alone, it does not bring back the outline that the other part had
    y, x = np.mgrid[:40, :40]
    annotation = ((y - 22) ** 2 + (x - 22) ** 2 < 15**2).astype(np.uint8)
    alone = Coarsen(5).corrupt(annotation, annotation.astype(np.int32), "a", 2)
    annotation[1, 1] = 1
    both = Coarsen(5).corrupt(annotation, annotation.astype(np.int32), "a", 2)
    assert both[1, 1] == 1
    assert np.array_equal(np.delete(both.ravel(), 41), np.delete(alone.ravel(), 41))


def test_where_people_take_turns_objects_are_those_of_whoever_draws() -> None:
    source = SyntheticAnnotators(num_images=10, annotator="random")
    seen = Corrupted(source, FlipMissing(0.999))
    for image_id in source.images("train"):
        for draw in (None, (0, 0), (0, 1)):
            assert (source.read_annotation(image_id, draw) == 1).any()
            assert not (seen.read_annotation(image_id, draw) == 1).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FlipMissing(1.5), "probability from 0 to below 1, got 1.5"),
        (lambda: FlipMissing(1), "below 1, got 1"),
        (lambda: SymmetricNoise(-0.1), "from 0 to 1, got -0.1"),
        (lambda: PositiveUnlabelled(0), "kept above 0 and at most 1, got 0"),
        (lambda: Withheld(1.1), "Withheld keeps some labels: expected kept above 0 and at most 1, got 1.1"),
        (lambda: FlipClass([[0.5, 0.4], [0, 1]]), "sum to 1, got 0.9 for class 0"),
        (lambda: FlipClass([[1, 0], [1, 0]]), "leave class 1 without a label"),
        (lambda: FlipClass([[1, 0]]), r"C x C probabilities, got \(1, 2\)"),
        (lambda: FlipClass([[0.5, 0.5], [1]]), "C x C probabilities, got rows of 2, 1"),
        (lambda: FlipClass([[2, -1], [0, 1]]), "from 0 to 1, got -1 to 2"),
        (lambda: Coarsen(0), "above 0 pixels, got 0"),
        (lambda: Coarsen(), "a tolerance or a shift other than 0 pixels, got 0"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Corruption], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.fixture
def root(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """8 images of 16 squares each, half of them of class 1."""
    mask = np.kron(np.indices((4, 4)).sum(axis=0) % 2, np.ones((4, 4), dtype=int))
    # squares that touch in a corner would be one object
    mask = np.where(np.indices((16, 16)).max(axis=0) % 4 == 3, VOID, mask).astype(np.uint8)
    for i, split in enumerate(["train"] * 6 + ["val"] * 2):
        save_image(tmp_path / split / "images" / f"{i}.png", np.zeros((16, 16, 3), dtype=np.uint8))
        save_image(tmp_path / split / "masks" / f"{i}.png", mask)
    (tmp_path / "classes.txt").write_text("ground\nthing\n")
    return tmp_path


@pytest.mark.parametrize("oracle", [HiddenTruth, WholeObjects])
def test_what_trains_is_wrong_and_what_is_validated_or_drawn_is_not(root: Path, oracle: type[HiddenTruth]) -> None:
    rule = FlipMissing(0.5)
    data = PoolDataModule(
        Folder(str(root)), oracle=oracle(corruption=rule), initial=RandomSubset(4), run_dir=str(root / "run"),
        batch_size=2, flip=0.0,
    )  # fmt: skip
    pool = data.pool
    pool.start()
    trains = pool.training_annotations()
    for image_id in pool.training_images():
        truth, learned = pool.source.read_annotation(image_id), trains.read_annotation(image_id)
        assert np.array_equal(learned, rule.corrupt(truth, pool.source.read_instances(image_id), image_id, 2))
        drawn = pool.read_truth(image_id)
        assert drawn is not None
        assert np.array_equal(drawn, truth)
    things = sum(int((trains.read_annotation(i) == 1).sum()) for i in pool.training_images())
    there = sum(int((pool.source.read_annotation(i) == 1).sum()) for i in pool.training_images())
    assert 0 < things < there
    (batch,) = data.val_dataloader()
    for image_id, mask in zip(batch["image_id"], batch["mask"].numpy(), strict=True):
        assert np.array_equal(mask, pool.source.read_annotation(image_id))
    first = pool.unlabelled[0]
    pool.ask([Queried(first, 1.0, 1)], "Random")
    assert {e.strategy for e in pool.ledger.events() if e.kind == "queried"} == {"Random, labels FlipMissing(rate=0.5)"}
    assert {e.strategy for e in pool.ledger.events() if e.kind == "initial"} == {"labels FlipMissing(rate=0.5)"}
    pickle.dumps(trains)


def test_a_classified_image_is_one_object(tmp_path: Path) -> None:
    data = PoolDataModule(
        Digits(num_train=60, num_val=20), oracle=HiddenTruth(corruption=SymmetricNoise(0.5)), run_dir=str(tmp_path)
    )
    pool = data.pool
    pool.start()
    wrong = [pool.read_class(i) != int(pool.source.read_annotation(i)) for i in pool.labelled]
    assert 0.3 < np.mean(wrong) < 0.7


def test_a_matrix_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="a row for each of the 10 classes, got a matrix of 4"):
        Corrupted(Digits(num_train=60, num_val=20), FlipClass(EYE))


class Counted(Objectness):
    """Counts how often it is asked."""

    asked = 0

    def corrupt(self, *arguments: Any) -> np.ndarray:
        self.asked += 1
        return super().corrupt(*arguments)


def test_what_a_rule_made_of_masks_is_kept_as_far_as_there_is_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Counted()
    seen = Corrupted(Folder(str(root)), rule)
    for epoch in range(2):
        for image_id in ("0", "1", "2"):
            seen.read_annotation(image_id, (0, epoch))[:] = 9
    assert rule.asked == 3
    assert seen.read_annotation("0").max() < 2 or VOID in seen.read_annotation("0")
    monkeypatch.setattr(corruptions, "_KEPT_BYTES", 2 * 16 * 16)
    for image_id in ("3", "0", "3", "1"):
        seen.read_annotation(image_id)
    # of images 0 to 2 those asked for longest ago had to go
    assert rule.asked == 5
    assert len(pickle.dumps(seen)) < len(pickle.dumps(Corrupted(Folder(str(root)), Objectness()))) + 2000


def pool_of(source: Source, rule: Corruption, tmp_path: Path, **options: Any) -> Pool:
    return PoolDataModule(source, oracle=HiddenTruth(corruption=rule), run_dir=str(tmp_path / "r"), **options).pool


def test_a_corruption_that_leaves_a_class_without_a_label_is_refused(root: Path, tmp_path: Path) -> None:
    """Before a fit, in one sentence that names both."""
    rule = FlipClass([[1, 0, 0], [0.5, 0.5, 0], [1e-9, 0, 1 - 1e-9]])
    mask = np.zeros((16, 16), dtype=np.uint8)
    for k, path in enumerate(sorted((root / "train" / "masks").iterdir())):
        mask[:4, :4], mask[8:12, 8:12] = 1, 2 * (k == 0)
        Image.fromarray(mask).save(path)
    (root / "classes.txt").write_text("ground\nthing\nrare\n")
    pool_of(Folder(str(root)), rule, tmp_path).start()

    class Overlooked(FlipMissing):
        def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
            return 0 if label == 2 else label

    words = r"Overlooked\(rate=0.5\) leaves rare without a label in the initial set.*data.allow_missing_classes"
    with pytest.raises(DataError, match=words):
        pool_of(Folder(str(root)), Overlooked(0.5), tmp_path / "a").start()
    pool_of(Folder(str(root)), Overlooked(0.5), tmp_path / "b", allow_missing_classes=True).start()
    # it is meant to
    pool_of(Folder(str(root)), Objectness(), tmp_path / "c").start()


@pytest.mark.parametrize("classified", [True, False])
def test_unlabelled_data_alone_is_refused(root: Path, tmp_path: Path, classified: bool) -> None:
    source = Digits(num_train=60, num_val=20) if classified else Folder(str(root))
    name = "0" if classified else "ground"
    with pytest.raises(DataError, match=f"leaves no label in the initial set but '{name}', class 0"):
        pool_of(source, PositiveUnlabelled(1e-9), tmp_path, allow_missing_classes=True).start()


@pytest.mark.parametrize("classified", [True, False])
def test_no_label_at_all_is_refused(root: Path, tmp_path: Path, classified: bool) -> None:
    source = Digits(num_train=60, num_val=20) if classified else Folder(str(root))
    with pytest.raises(DataError, match=r"Withheld\(kept=1e-09\) leaves no label in the initial set, so there is no"):
        pool_of(source, Withheld(1e-9), tmp_path, allow_missing_classes=True).start()


def test_merged_classes_of_classified_images_may_be_missing(tmp_path: Path) -> None:
    pool = pool_of(Digits(num_train=60, num_val=20), Objectness(), tmp_path)
    pool.start()
    assert {pool.read_class(i) for i in pool.labelled} == {0, 1}
