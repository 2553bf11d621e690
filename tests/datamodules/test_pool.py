"""A data set that is labelled little by little."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from acquisition.annotation import UNANSWERED, VOID
from callbacks.cycle import label_counts
from datamodules.beginning import NotBegunError
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import FromFile, RandomSubset
from datamodules.oracle import FolderOracle
from datamodules.partitions import Grid, Partition, Region
from datamodules.sources.folder import Folder
from datamodules.sources.source import Source
from records.ledger import AlreadyLabelledError, Queried
from records.reviews import ReviewEvent, Reviews

TRAIN = [f"train{i}" for i in range(8)]
Save = Callable[..., Path]


def queried(*unit_ids: str) -> list[Queried]:
    return [Queried(u, 1.0, i + 1) for i, u in enumerate(unit_ids)]


Make = Callable[..., PoolDataModule]
People = Callable[..., tuple[PoolDataModule, Any]]


@pytest.fixture
def make(folder_root: Path, tmp_path: Path) -> Make:
    def build(value_range: Any = None, **arguments: Any) -> PoolDataModule:
        defaults = {"initial": RandomSubset(2), "batch_size": 2, "run_dir": str(tmp_path / "run")}
        return PoolDataModule(Folder(str(folder_root), value_range=value_range), **{**defaults, **arguments})

    return build


@pytest.fixture
def started(make: Make) -> PoolDataModule:
    data = make()
    data.pool.start()
    return data


def test_pool_and_labelled_split_share_nothing_and_miss_nothing(started: PoolDataModule) -> None:
    labelled, pool = started.pool.labelled, started.pool.unlabelled
    assert len(labelled) == 2
    assert sorted(labelled + pool) == TRAIN
    assert pool == sorted(pool)
    assert {u: label.shape for u, label in started.pool.read_labels(labelled)} == dict.fromkeys(labelled, (24 * 32,))


def test_starting_twice_changes_nothing(started: PoolDataModule) -> None:
    before = started.pool.ledger.events()
    started.pool.start()
    assert started.pool.ledger.events() == before


def test_label_moves_units_for_good(started: PoolDataModule, make: Make) -> None:
    first, second, *rest = started.pool.unlabelled
    started.pool.label([second, first])
    assert started.pool.labelled[2:] == [second, first]
    assert started.pool.unlabelled == rest
    assert started.pool.ledger.labelled_pixels() == 4 * 24 * 32
    # another process, another day
    again = make()
    again.pool.start()
    assert again.pool.labelled == started.pool.labelled
    assert again.pool.unlabelled == rest


@pytest.mark.parametrize("fault", ["labelled already", "nowhere", "wrong size", "wrong value", "broken", "twice"])
def test_label_is_all_or_none(started: PoolDataModule, folder_root: Path, save_image: Save, fault: str) -> None:
    good, bad = started.pool.unlabelled[:2]
    mask = folder_root / "train" / "masks" / f"{bad}.png"
    image = folder_root / "train" / "images" / f"{bad}.png"
    words = {
        "labelled already": "is labelled already",
        "nowhere": "'nowhere'",
        "wrong size": rf"size 24 x 32, got 5 x 5 in .*{bad}\.png; redraw or resize",
        "wrong value": rf"from 0 to 2, or 255 for void, got 7 in .*{bad}\.png",
        "broken": rf"{bad}\.png is not a readable image",
        "twice": "twice",
    }[fault]
    ask = [good, bad]
    if fault == "labelled already":
        ask = [good, started.pool.labelled[0]]
    elif fault == "nowhere":
        ask = [good, "nowhere"]
    elif fault == "wrong size":
        save_image(mask, np.zeros((5, 5), np.uint8))
    elif fault == "wrong value":
        save_image(mask, np.full((24, 32), 7, np.uint8))
    elif fault == "broken":
        image.write_bytes(b"broken")
    else:
        ask = [good, good]
    before = started.pool.ledger.events()
    with pytest.raises((DataError, AlreadyLabelledError), match=words):
        started.pool.label(ask)
    assert started.pool.ledger.events() == before
    assert good in started.pool.unlabelled


def test_masks_of_the_pool_reach_no_loader_and_broken_ones_stop_nothing(
    make: Make, folder_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "initial.txt").write_text("train0\ntrain1\n")
    for name in TRAIN[2:]:
        (folder_root / "train" / "masks" / f"{name}.png").write_bytes(b"poison: not an image")
    data = make(initial=FromFile(str(tmp_path / "initial.txt")))
    data.pool.start()
    batches = list(data.pool_dataloader(data.pool.unlabelled))
    assert [u for b in batches for u in b["image_id"]] == TRAIN[2:]
    assert all(b.keys() == {"image_id", "image", "index"} for b in batches)
    assert sum(len(b["mask"]) for b in data.train_dataloader()) == 2
    assert [u for b in data.predict_dataloader() for u in b["image_id"]] == TRAIN[2:]
    with pytest.raises(DataError, match=r"train3\.png is not a readable image"):
        data.pool.label(["train3"])


def test_the_pool_is_neither_augmented_nor_shuffled(started: PoolDataModule) -> None:
    rounds = [torch.cat([b["image"] for b in started.pool_dataloader(started.pool.unlabelled)]) for _ in range(2)]
    assert torch.equal(*rounds)
    assert rounds[0].shape == (6, 3, 24, 32)
    image = started.source.read_image(started.pool.unlabelled[0])
    plain = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(rounds[0][0].permute(1, 2, 0).numpy(), plain, atol=1e-4)


def test_validation_never_meets_training(started: PoolDataModule) -> None:
    started.pool.label(started.pool.unlabelled)
    assert started.pool.unlabelled == []
    trained = {u for b in started.train_dataloader() for u in b["image_id"]}
    validated = [u for b in started.val_dataloader() for u in b["image_id"]]
    assert trained == set(TRAIN)
    assert validated == ["val0", "val1", "val2"]
    with pytest.raises(DataError, match="val0"):
        started.pool.label(["val0"])
    # without a test split the validation split stands in
    assert [u for b in started.test_dataloader() for u in b["image_id"]] == validated


def test_ask_labels_at_once_and_closes_the_cycle(started: PoolDataModule) -> None:
    first, second, *rest = started.pool.unlabelled
    assert started.pool.ask(queried(second, first), "BALD-Mean") == []
    assert started.pool.ledger.cycle == 1
    assert started.pool.unlabelled == rest
    assert [(q.unit_id, q.rank) for q in started.pool.ledger.queried(0)] == [(second, 1), (first, 2)]
    assert {e.strategy for e in started.pool.ledger.events() if e.kind == "labelled"} == {"BALD-Mean"}


def test_ask_refuses_what_is_not_in_the_pool(started: PoolDataModule) -> None:
    before = started.pool.ledger.events()
    good, labelled = started.pool.unlabelled[0], started.pool.labelled[0]
    with pytest.raises(DataError, match="only name units of the pool, got 'val0'"):
        started.pool.ask(queried(good, "val0"), "s")
    with pytest.raises(AlreadyLabelledError, match=f"{labelled!r} is labelled already"):
        started.pool.ask(queried(good, labelled), "s")
    assert started.pool.ledger.events() == before


@pytest.fixture
def people(make: Make, folder_root: Path, tmp_path: Path) -> People:
    """A pool that people label; `draw` puts a true mask where they would."""
    answers = tmp_path / "answers"

    def draw(*unit_ids: str) -> None:
        answers.mkdir(exist_ok=True)
        for name in unit_ids:
            shutil.copy(folder_root / "train" / "masks" / f"{name}.png", answers / f"{name}.png")

    def build(partial: bool = False) -> tuple[PoolDataModule, Any]:
        draw("train0", "train1")
        data = make(oracle=FolderOracle(str(answers), partial))
        data.pool.start()
        return data, draw

    return build


def test_people_answer_when_they_like(people: People, make: Make) -> None:
    data, draw = people()
    assert data.pool.labelled in (["train0", "train1"], ["train1", "train0"])
    assert data.pool.ask(queried("train5", "train3"), "s") == ["train5", "train3"]
    assert data.pool.collect() == ["train5", "train3"]
    draw("train3")
    assert data.pool.collect() == ["train5"]
    assert data.pool.ledger.cycle == 0
    assert data.pool.labelled[2:] == ["train3"]
    draw("train5")
    assert data.pool.collect() == []
    assert data.pool.ledger.cycle == 1
    assert data.pool.collect() == []
    assert data.pool.ledger.cycle == 1
    assert [u for b in data.train_dataloader() for u in b["image_id"]].count("train5") == 1


def test_partial_answers_let_the_cycle_go_on(people: People) -> None:
    data, draw = people(partial=True)
    data.pool.ask(queried("train5", "train3"), "s")
    assert data.pool.collect() == ["train5", "train3"]
    assert data.pool.ledger.cycle == 0
    draw("train3")
    data.pool.collect()
    assert data.pool.ledger.cycle == 1
    assert "train5" in data.pool.unlabelled
    draw("train5")
    data.pool.ask(queried("train5"), "s")
    assert data.pool.ledger.cycle == 2


def test_one_unit_asked_twice_in_one_query_is_refused(people: People) -> None:
    data, _ = people()
    before = data.pool.ledger.events()
    with pytest.raises((DataError, AlreadyLabelledError), match="twice"):
        data.pool.ask(queried("train5", "train5"), "s")
    assert data.pool.ledger.events() == before


def test_a_mask_drawn_wrongly_waits_for_correction(people: People, tmp_path: Path, save_image: Save) -> None:
    data, draw = people()
    data.pool.ask(queried("train5", "train3"), "s")
    draw("train3")
    save_image(tmp_path / "answers" / "train5.png", np.full((24, 32), 9, np.uint8))
    with pytest.raises(DataError, match=r"got 9 in .*answers/train5\.png; correct the mask"):
        data.pool.collect()
    assert len(data.pool.labelled) == 2
    draw("train5")
    assert data.pool.collect() == []


def test_labels_and_images_that_have_gone(people: People, make: Make, folder_root: Path, tmp_path: Path) -> None:
    data, _ = people()
    with pytest.raises(DataError, match=r"'train6' cannot be labelled: it has no mask yet; draw their masks as"):
        data.pool.label(["train6"])
    (tmp_path / "answers" / "train1.png").unlink()
    with pytest.raises(DataError, match=r"mask of the labelled unit 'train1' has gone; put it back"):
        _ = data.pool.labelled
    (folder_root / "train" / "images" / "train1.png").unlink()
    (folder_root / "train" / "masks" / "train1.png").unlink()
    with pytest.raises(
        DataError, match=r"'train1', which the data set, divided by WholeImages, does not have; put the image back"
    ):
        _ = make(oracle=data.pool.oracle).pool.labelled


def test_a_rejected_drawing_counts_as_not_drawn(people: People, folder_root: Path, tmp_path: Path) -> None:
    data, draw = people()
    pool = data.pool
    reviews = Reviews(pool.ledger.path)

    def reject(unit_id: str) -> None:
        reviews.record([ReviewEvent(unit_id, "ann", s, "ann") for s in ("assigned", "annotated")])
        reviews.record([ReviewEvent(unit_id, "ann", "rejected", "bob")])

    pool.ask(queried("train5", "train3"), "s")
    draw("train3", "train5", "train6")
    for unit_id in ("train0", "train3", "train6"):
        reject(unit_id)
    assert pool.collect() == ["train3"]
    assert sorted(pool.labelled) == sorted(pool.training_images()) == ["train1", "train5"]
    assert "train0" not in pool.unlabelled, "it is not queried again"
    assert label_counts(pool.ledger)["labelled_units"] == 2
    with pytest.raises(DataError, match=r"'train6' cannot be labelled: its mask was rejected in review; correct it"):
        pool.label(["train6"])
    (tmp_path / "answers" / "train0.png").unlink()
    assert len(pool.labelled) == 2, "a rejected mask may be taken away"
    shutil.copy(folder_root / "train" / "masks" / "train1.png", tmp_path / "answers" / "train0.png")
    reviews.record([ReviewEvent(u, "ann", "corrected", "ann") for u in ("train0", "train3")])
    assert pool.collect() == []
    found = {i: mask for batch in data.labelled_dataloader(["train0", "train1"]) for i, mask in named_masks(batch)}
    assert torch.equal(found["train0"], found["train1"]), "the new file is read"
    for unit_id in ("train1", "train5"):
        reject(unit_id)
    reviews.record([ReviewEvent(u, "ann", "rejected", "bob") for u in ("train0", "train3")])
    with pytest.raises(DataError, match=r"every labelled unit was rejected in review \('train0' first\)"):
        pool.training_images()


def named_masks(batch: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    return list(zip(batch["image_id"], batch["mask"], strict=True))


def test_images_of_the_validation_split_are_judged_once_somebody_has_drawn_them(
    make: Make, folder_root: Path, tmp_path: Path
) -> None:
    for name in ("val0", "val1"):
        (folder_root / "val" / "masks" / f"{name}.png").unlink()
    (tmp_path / "answers").mkdir()
    oracle = FolderOracle(str(tmp_path / "answers"))
    shutil.copy(folder_root / "train" / "masks" / "train0.png", tmp_path / "answers" / "train0.png")
    data = make(oracle=oracle, initial=None)
    data.pool.start()
    assert data.pool.images("val") == ["val2"]
    shutil.copy(folder_root / "train" / "masks" / "train3.png", tmp_path / "answers" / "val0.png")
    found = dict(pair for batch in data.val_dataloader() for pair in named_masks(batch))
    assert set(found) == {"val0", "val2"}
    truth = np.asarray(Image.open(folder_root / "train" / "masks" / "train3.png"))
    assert np.array_equal(found["val0"].numpy(), truth)
    (folder_root / "val" / "masks" / "val2.png").unlink()
    (tmp_path / "answers" / "val0.png").unlink()
    # whoever goes on is told the same
    data = make(oracle=oracle, initial=None)
    with pytest.raises(NotBegunError, match=r"^no mask is there for the 3 images held out for validation, so no fit"):
        data.pool.start()
    with pytest.raises(NotBegunError, match=r"the verb start, with the same options, writes the list to draw$"):
        data.val_dataloader()


def test_nothing_to_begin_with(make: Make, tmp_path: Path) -> None:
    data = make(oracle=FolderOracle(str(tmp_path / "answers")), initial=None)
    with pytest.raises(DataError, match=r"no unit is labelled, so there is nothing to train on: draw their masks as"):
        data.pool.start()


def test_missing_masks_of_the_data_set(make: Make, folder_root: Path, tmp_path: Path) -> None:
    (folder_root / "train" / "masks" / "train4.png").unlink()
    (folder_root / "val" / "masks" / "val1.png").unlink()
    data = make(initial=RandomSubset(7))
    data.pool.start()
    # it can be trained on, but the truth could never answer a query
    with pytest.raises(DataError, match=r"HiddenTruth.* 1 of 8 images have none \('train4' first\).*FolderOracle"):
        data.pool.check_open()
    with pytest.raises(DataError, match=r"'train4' has no mask|'train4' cannot be labelled: it has no mask"):
        data.pool.label(["train4"])
    with pytest.raises(DataError, match="'val1' has no mask; draw it"):
        list(data.val_dataloader())
    masks = FolderOracle(str(folder_root / "train" / "masks"))
    with pytest.raises(DataError, match="wants 8 units but only 7 have a label"):
        make(initial=RandomSubset(8), oracle=masks, run_dir=str(tmp_path / "other")).pool.start()
    data = make(initial=RandomSubset(7), oracle=masks)
    data.pool.start()
    assert data.pool.unlabelled == ["train4"]


@pytest.mark.parametrize(
    ("split", "values", "words"),
    [
        ("train", {VOID}, r"all 8 masks of the initial set are void throughout \(value 255\), .*train0\.png first"),
        ("val", {VOID}, r"all 3 masks of the validation split are void throughout .*val0\.png first"),
        (
            "train",
            {0, VOID},
            r"8 masks of the initial set hold only 0 and 255, .*train0\.png first.*_values to '{0: 0, 255: 1}'",
        ),
        ("val", {0, VOID}, r"3 masks of the validation split hold only 0 and 255, .*val0\.png first"),
        ("train", {0}, ""),
    ],
)
def test_masks_that_teach_or_judge_nothing(
    make: Make, folder_root: Path, save_image: Save, split: str, values: set[int], words: str
) -> None:
    def draw(name: str) -> None:
        mask = np.full((24, 32), max(values), np.uint8)
        mask[0] = min(values)
        save_image(folder_root / split / "masks" / f"{name}.png", mask)

    last, *others = sorted(p.stem for p in (folder_root / split / "masks").iterdir())[::-1]
    for name in others:
        draw(name)
    make(initial=None, run_dir=str(folder_root.parent / "before")).pool.start()
    draw(last)
    data = make(initial=None)
    if not words:
        data.pool.start()
        return
    with pytest.raises(DataError, match=words):
        data.pool.start()
    assert data.pool.ledger.events() == []


def test_every_cycle_is_augmented_anew(make: Make) -> None:
    def seen() -> dict[str, torch.Tensor]:
        data = make(crop_size=[8, 8], batch_size=1)
        data.pool.start()
        return {b["image_id"][0]: b["image"] for b in data.train_dataloader()}

    first = seen()
    assert all(torch.equal(first[u], image) for u, image in seen().items())
    data = make()
    data.pool.ask(queried(data.pool.unlabelled[0]), "s")
    second = seen()
    assert not any(torch.equal(second[u], image) for u, image in first.items())


def test_a_batch_may_be_larger_than_the_data_set(make: Make) -> None:
    data = make(batch_size=100, crop_size=[8, 8])
    data.pool.start()
    (batch,) = data.train_dataloader()
    assert len(batch["image"]) == 100
    assert len(set(batch["image_id"])) == 2
    (batch,) = data.val_dataloader()
    assert len(batch["image"]) == 3


def test_a_range_of_values_reaches_the_images(make: Make, folder_root: Path, save_image: Save) -> None:
    for path in (folder_root / "train" / "images").iterdir():
        save_image(path, np.full((24, 32), 4095, np.uint16))
    with pytest.raises(DataError, match=r"train\d\.png, got mode I.* set data\.source\.value_range"):
        make().pool.start()
    data = make(value_range=[0, 4095])
    data.pool.start()
    assert (data.source.read_image(data.pool.unlabelled[0]) == 255).all()
    with pytest.raises(ValueError, match=r"value_range must be two values, black and then white.*got \[5, 5\]"):
        make(value_range=[5, 5])


def test_truth_for_pictures(started: PoolDataModule, make: Make, folder_root: Path) -> None:
    name = started.pool.unlabelled[0]
    assert np.array_equal(started.pool.read_truth(name), started.source.read_annotation(name))
    (folder_root / "train" / "masks" / f"{name}.png").unlink()
    assert make().pool.read_truth(name) is None


def test_the_truth_answers_nothing_that_nobody_has_drawn(make: Make, folder_root: Path, save_image: Save) -> None:
    mask = np.ones((24, 32), np.uint8)
    mask[3, 3] = UNANSWERED
    save_image(folder_root / "train" / "masks" / "train4.png", mask)
    words = r"own mask is to answer for 'train4', but .*train4\.png holds 254 there.*FolderOracle"
    with pytest.raises(DataError, match=words):
        make(initial=RandomSubset(8)).pool.start()
    data = make(partition=Grid(9, 10), initial=RandomSubset(3))
    data.pool.start()
    # a cell that is drawn is fine
    data.pool.label(["train4#crop=9,0,9,10"])
    before = data.pool.ledger.events()
    with pytest.raises(DataError, match=r"answer for 'train4#crop=0,0,9,10', but"):
        data.pool.ask(queried("train4#crop=0,0,9,10"), "s")
    assert data.pool.ledger.events() == before


def test_the_one_unit_of_an_image_need_not_be_in_its_middle(make: Make) -> None:
    class Corner(Partition):
        def regions(self, source: Source, image_id: str) -> list[Region]:
            return [Region(f"{image_id}#corner", 9, (0, 0, 3, 3))]

        def index_map(self, source: Source, image_id: str) -> np.ndarray:
            index = np.full(source.size(image_id), -1, np.int32)
            index[:3, :3] = 0
            return index

    data = make(partition=Corner(), image_size=(2, 2))
    batch = next(iter(data.pool_dataloader(["train0"])))
    regions = data.pool.units.regions(batch["image_id"], batch["index"], {"train0#corner"})
    assert regions.places.tolist() == [[0, 1.5 / 24, 1.5 / 32]]
    whole = make().pool.units.regions(["train0"], torch.zeros(1, 1, 1, dtype=torch.int32), {"train0"})
    assert whole.places.tolist() == [[0, 0.5, 0.5]]


def test_labels_of_parts_are_read_image_by_image(folder_root: Path, tmp_path: Path) -> None:
    read: list[str] = []

    class Counted(Folder):
        def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
            read.append(image_id)
            return super().read_annotation(image_id, draw)

    source = Counted(str(folder_root))
    pool = PoolDataModule(source, Grid(8, 8), run_dir=str(tmp_path / "run")).pool
    shuffled = sorted(pool.units.ids, key=lambda unit_id: unit_id[::-1])
    labels = dict(pool.read_labels(shuffled))
    assert sorted(read) == source.images("train")
    for image_id in source.images("train"):
        mask = source.read_annotation(image_id)
        for region in Grid(8, 8).regions(source, image_id):
            y, x, h, w = region.box
            assert np.array_equal(labels[region.unit_id], mask[y : y + h, x : x + w].ravel())


def test_a_mask_called_like_a_part_is_not_passed_over(
    folder_root: Path, tmp_path: Path, save_image: Callable[..., Path]
) -> None:
    masks = tmp_path / "masks"
    save_image(masks / "train0.png", np.zeros((24, 32), dtype=np.uint8))
    pool = PoolDataModule(
        Folder(str(folder_root)), Grid(12, 16), FolderOracle(str(masks)), run_dir=str(tmp_path / "run")
    ).pool
    pool.start()
    unit = pool.unlabelled[0]
    pool.ask([Queried(unit, 1.0, 1)], "s")
    save_image(masks / f"{unit}.png", np.zeros((12, 16), dtype=np.uint8))
    with pytest.raises(DataError, match=r"mask of a whole image, train1\.png, got .*train1#crop=0,0,12,16\.png"):
        pool.collect()


def test_a_truth_that_cannot_be_is_said_before_it_is_drawn(folder_root: Path, tmp_path: Path) -> None:
    path = folder_root / "train" / "masks" / "train5.png"
    Image.fromarray(np.full((24, 32), 9, dtype=np.uint8)).save(path)
    pool = PoolDataModule(Folder(str(folder_root)), run_dir=str(tmp_path / "run")).pool
    with pytest.raises(DataError, match="expected mask values from 0 to 2, or 255 for void, got 9"):
        pool.read_truth("train5")
