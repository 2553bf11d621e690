"""Loaders over a pool whose units are cells."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import RandomSubset
from datamodules.partitions import Grid
from datamodules.sources.class_folders import ClassFolders
from datamodules.sources.folder import Folder
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from records.ledger import Queried

Make = Callable[..., PoolDataModule]


@pytest.fixture
def make(folder_root: Path, tmp_path: Path) -> Make:
    """12 cells in each of 8 images, 9 of them labelled."""

    def build(**arguments: Any) -> PoolDataModule:
        defaults = {"initial": RandomSubset(9), "batch_size": 2, "run_dir": str(tmp_path / "run")}
        data = PoolDataModule(Folder(str(folder_root)), Grid(9, 10), **{**defaults, **arguments})
        data.prepare_data()
        return data

    return build


def box_of(unit_id: str) -> tuple[str, list[int]]:
    image_id, _, box = unit_id.partition("#crop=")
    return image_id, [int(n) for n in box.split(",")]


def expected_masks(data: PoolDataModule) -> dict[str, np.ndarray]:
    """The labelled cells' pixels in the true masks, by the cells' ids alone."""
    found: dict[str, np.ndarray] = {}
    for unit_id in data.pool.labelled:
        image_id, (y, x, h, w) = box_of(unit_id)
        mask = found.setdefault(image_id, np.full((24, 32), VOID, np.uint8))
        cell = (slice(y, y + h), slice(x, x + w))
        mask[cell] = data.source.read_annotation(image_id)[cell]
    return found


def test_the_initial_set_is_of_cells(make: Make) -> None:
    pool = make().pool
    labelled = pool.labelled
    assert len(set(labelled)) == 9
    assert len(pool.unlabelled) == 8 * 12 - 9
    assert sorted(labelled + pool.unlabelled) == sorted(
        u for i in pool.units.images("train") for u in pool.units.partition.unit_ids(pool.source, i)
    )
    images = [box_of(u)[0] for u in labelled]
    assert pool.training_images() == list(dict.fromkeys(images)) == pool.units.images_of(labelled)
    areas = [h * w for _, (_, _, h, w) in map(box_of, labelled)]
    assert pool.units.pixels(labelled) == areas
    assert pool.ledger.labelled_pixels() == sum(areas)


def test_nothing_but_labelled_cells_trains(make: Make) -> None:
    data = make(flip=0.0)
    expected = expected_masks(data)
    seen = {i: m for b in data.train_dataloader() for i, m in zip(b["image_id"], b["mask"], strict=True)}
    assert seen.keys() == expected.keys()
    assert len(seen) < 8
    for image_id, mask in seen.items():
        assert np.array_equal(mask, expected[image_id]), image_id


def test_augmented_batches_hold_no_class_from_elsewhere(make: Make) -> None:
    data = make(crop_size=(16, 20), flip=0.5)
    loader, expected = data.train_dataloader(), expected_masks(data)
    known = 0
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            assert batch["mask"].shape == (2, 16, 20)
            for image_id, mask in zip(batch["image_id"], batch["mask"], strict=True):
                assert set(mask.unique().tolist()) <= {*np.unique(expected[image_id]).tolist(), VOID}
            known += int((batch["mask"] != VOID).sum())
    assert known > 0


def test_a_cell_asked_for_trains_from_then_on(make: Make) -> None:
    data = make(flip=0.0)
    unit_id = data.pool.unlabelled[5]
    before = data.pool.ledger.labelled_pixels()
    assert data.pool.ask([Queried(unit_id, 1.0, 1)], "s") == []
    image_id, (y, x, h, w) = box_of(unit_id)
    assert data.pool.ledger.labelled_pixels() == before + h * w
    mask = data.pool.training_annotations().read_annotation(image_id)
    cell = (slice(y, y + h), slice(x, x + w))
    assert np.array_equal(mask[cell], data.source.read_annotation(image_id)[cell])


def test_asking_opens_no_image(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make()

    def poisoned(self: Folder, image_id: str) -> np.ndarray:
        raise AssertionError(f"somebody opened {image_id}")

    monkeypatch.setattr(Folder, "read_image", poisoned)
    unit_ids = data.pool.unlabelled[:7]
    assert data.pool.ask([Queried(u, 1.0, i + 1) for i, u in enumerate(unit_ids)], "s") == []
    data.pool.label(data.pool.unlabelled[:3])
    assert len(data.pool.labelled) == 9 + 7 + 3
    with pytest.raises(AssertionError, match="opened"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize("image_size", [None, (12, 16), (2, 2)])
def test_regions_of_a_batch_against_a_loop(make: Make, image_size: tuple[int, int] | None) -> None:
    data = make(image_size=image_size, eval_batch_size=3)
    pool = data.pool
    asked = set(pool.unlabelled[::2])
    swallowed = 0
    for batch in data.pool_dataloader(pool.units.images_of(pool.unlabelled)):
        assert batch["index"].shape[1:] == batch["image"].shape[2:]
        regions = pool.units.regions(batch["image_id"], batch["index"], asked)
        expected, places, index = [], [], torch.full_like(batch["index"], -1, dtype=torch.int64)
        for number, image_id in enumerate(batch["image_id"]):
            for k, region in enumerate(pool.units.partition.regions(pool.source, image_id)):
                if region.unit_id in asked:
                    index[number][batch["index"][number] == k] = len(expected)
                    expected.append(region.unit_id)
                    y, x, h, w = region.box
                    places.append((number, (y + h / 2) / 24, (x + w / 2) / 32))
        assert regions.unit_ids == expected
        assert regions.image_ids == batch["image_id"]
        assert torch.equal(regions.index, index)
        assert torch.equal(regions.places, torch.tensor(places, dtype=torch.float64))
        # every unit has a value, those too that the resize has left without a pixel
        height, width = batch["image"].shape[2:]
        segments = regions.segments((height, width))
        counts = segments.counts(torch.zeros(len(segments.pick(index)), dtype=torch.int64), 1)
        assert (counts > 0).all()
        swallowed += len(expected) - len(set(index[index >= 0].tolist()))
    assert (swallowed > 0) == (image_size == (2, 2))


def test_regions_of_images_without_a_unit_that_is_asked_for(make: Make) -> None:
    data = make()
    batch = next(iter(data.pool_dataloader(["train0", "train1"])))
    regions = data.pool.units.regions(batch["image_id"], batch["index"], set())
    assert (regions.unit_ids, regions.places.shape) == ([], (0, 3))
    assert (regions.index == -1).all()


def test_the_truth_is_read_for_oracle_strategies_alone(make: Make) -> None:
    data = make()
    (plain,) = data.pool_dataloader(["train0"])
    (truth,) = data.pool_dataloader(["train0"], truth=True)
    assert plain.keys() == {"image_id", "image", "index"}
    assert np.array_equal(truth["mask"][0], data.source.read_annotation("train0"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"batch_size": 0}, r"data\.batch_size must be at least 1, got 0"),
        ({"eval_batch_size": 0}, r"data\.eval_batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, r"data\.num_workers must be 0 or more processes, got -1"),
        ({"flip": 1.5}, r"data\.flip is a probability: expected 0 to 1, got 1\.5"),
        ({"image_size": (0, 4)}, r"data\.image_size must be \(height, width\)"),
    ],
)
def test_settings_that_cannot_be(make: Make, setting: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make(**setting)


def test_classified_images_are_units_as_they_are(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / "train" / name / "0.png", np.zeros((16, 16, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"one class per image.*expected data\.partition WholeImages, got Grid"):
        PoolDataModule(ClassFolders(str(tmp_path)), Grid(8, 8))


def test_a_view_sees_what_changes_a_score_and_nothing_else(bubil: Path, tmp_path: Path) -> None:
    def view(**settings: Any) -> str:
        data = PoolDataModule(MultiAnnotatorFolder(str(root)), run_dir=str(tmp_path / "run"), **settings)
        return data.view(data.pool.units.ids[:3], truth=True)

    root = shutil.copytree(bubil, tmp_path / "bubil", ignore=lambda folder, names: names[40:])
    plain = view()
    assert plain == view(crop_size=[32, 32], scale=[1, 1], flip=0.1, allow_missing_classes=True, batch_size=2)
    assert view(partition=Grid(8, 8)) != plain
    image = PoolDataModule(MultiAnnotatorFolder(str(root)), run_dir=str(tmp_path / "run")).pool.units.ids[0]
    drawn = sorted(root.glob(f"masks/*/{image}.png"))[-1]
    os.utime(drawn, ns=(1, 1))
    assert view() != plain, "one of several people has drawn it again"
