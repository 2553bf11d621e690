"""Batches of data in memory: augmentation, images of none of the classes, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.datasets import EpochSampler
from datamodules.doctor import examine_pool
from datamodules.files import DataError
from datamodules.initial import FromFile, PerClass, RandomSubset
from datamodules.oracle import LabelTable
from datamodules.partitions import Grid
from datamodules.sources.in_memory import TensorSource
from datamodules.sources.synthetic import SyntheticRoads
from datamodules.tensors import EpochBatches, augmented
from records.ledger import Queried
from tests.datamodules.squares import Squares, numbers

Make = Callable[..., PoolDataModule]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(source: TensorSource | None = None, **arguments: Any) -> PoolDataModule:
        defaults = {"initial": PerClass(2), "batch_size": 4, "run_dir": str(tmp_path / "run")}
        return PoolDataModule(source or Squares(), **{**defaults, **arguments})

    return build


def test_a_pool_batch_has_no_labels_and_every_image_once_in_order(make: Make) -> None:
    data = make(eval_batch_size=7)
    data.prepare_data()
    batches = list(data.pool_dataloader(data.pool.unlabelled))
    assert all(set(b) == {"image_id", "image", "index"} for b in batches)
    assert [len(b["image_id"]) for b in batches] == [7] * 7 + [5]
    assert [u for b in batches for u in b["image_id"]] == data.pool.unlabelled
    for batch in batches:
        assert [f"train_{n:06d}" for n in numbers(batch["image"])] == batch["image_id"]
    pool = data.pool
    assert all(c.passed for c in examine_pool(pool, data.pool_dataloader(pool.unlabelled), pool.unlabelled))
    failed = {c.name for c in examine_pool(pool, make(flip=0.5).train_dataloader(), pool.labelled) if not c.passed}
    assert failed == {"pool order", "pool augmentation", "labelled units in the pool", "labels of the pool"}


def test_training_batches_are_those_of_the_sampler_for_single_images(make: Make) -> None:
    data = make(seed=3)
    data.prepare_data()
    loader = data.train_dataloader()
    seen = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        order = EpochSampler(6, 4, 3)
        order.set_epoch(epoch)
        expected = [data.pool.labelled[i] for _, i in order]
        batches = list(loader)
        assert [len(b["image_id"]) for b in batches] == [4, 4]
        assert len(loader) == 2
        assert [u for b in batches for u in b["image_id"]] == expected
        for batch in batches:
            assert batch["label"].tolist() == [n % 3 for n in numbers(batch["image"])]
        seen.append(expected)
    assert seen[0] != seen[1]


def test_processes_share_an_epoch() -> None:
    shares = [torch.cat([p for _, p in EpochBatches(10, 2, 0, rank, 2)]).tolist() for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == 6
    assert set(shares[0]) | set(shares[1]) == set(range(10))


def test_augmentation_against_a_loop() -> None:
    images = torch.randn(40, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    got = augmented(images, uniform, flip=0.5, shift=2)
    flips = 0
    for image, numbers_of_image, result in zip(images, uniform.tolist(), got, strict=True):
        down, right = (int(x * 5) for x in numbers_of_image[1:])
        padded = torch.zeros(2, 9, 10)
        padded[:, 2:7, 2:8] = image
        cut = padded[:, down : down + 5, right : right + 6]
        flipped = numbers_of_image[0] < 0.5
        flips += flipped
        assert torch.equal(result, cut.flip(2) if flipped else cut)
    assert 5 < flips < 35


def test_augmentation_does_not_depend_on_the_batch_and_changes_with_epoch_and_cycle(make: Make) -> None:
    first, again = make(shift=2, seed=1), make(shift=2, seed=1, batch_size=3)
    first.prepare_data()
    views = []
    for data, epoch in ((first, 2), (again, 2), (first, 3), (first, 2)):
        if len(views) == 3:
            # the same labelled units, so that their draws would be the same
            data.pool.ledger.query(0, "s", [], [])
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        views.append({u: x for b in loader for u, x in zip(b["image_id"], b["image"], strict=True)})
    assert all(torch.equal(views[0][u], views[1][u]) for u in views[0])
    for other in views[2:]:
        assert not all(torch.equal(views[0][u], other[u]) for u in views[0])


def test_images_of_none_of_the_classes_cost_a_label_and_bring_no_sample(make: Make) -> None:
    class Others(Squares):
        def read(self, part: str) -> tuple[Tensor, Tensor]:
            images, labels = super().read(part)
            return images + 100, labels

    data = make(Squares(ood=Others(), ood_count=12))
    data.prepare_data()
    foreign = [u for u in data.pool.unlabelled if u.startswith("ood_")]
    assert len(foreign) == 12
    assert len(data.pool.unlabelled) == 60 + 12 - 6
    data.pool.ask([Queried(foreign[0], 1.0, 1), Queried("train_000000", 0.5, 2)], "x")
    assert data.pool.ledger.cycle == 1
    assert foreign[0] in data.pool.labelled
    assert data.pool.read_truth(foreign[0]) == VOID
    trained = {u for b in data.train_dataloader() for u in b["image_id"]}
    assert foreign[0] not in trained
    assert len(trained) == 7
    images, labels, unit_ids = data.source.tensors("train")
    place = unit_ids.index(foreign[0])
    assert labels[place] == VOID
    assert numbers(images[place : place + 1]) == [100 + int(foreign[0][-6:])]


def test_people_label_by_a_table(make: Make, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    ids = tmp_path / "first.txt"
    ids.write_text("train_000000\ntrain_000001\ntrain_000002\n")
    table.write_text("unit_id,label\ntrain_000000,c\ntrain_000001,1\ntrain_000002,a\n")
    data = make(oracle=LabelTable(str(table), others=False), initial=FromFile(str(ids)))
    data.prepare_data()
    assert [data.pool.read_class(u) for u in data.pool.labelled] == [2, 1, 0]
    assert data.pool.ask([Queried("train_000005", 1.0, 1), Queried("train_000009", 1.0, 2)], "x") == [
        "train_000005",
        "train_000009",
    ]
    table.write_text(table.read_text() + "train_000005,\ntrain_000009,void\n")
    assert data.pool.collect() == ["train_000005"]
    assert len(data.pool.training_images()) == 3
    table.write_text(table.read_text().replace("train_000005,\n", "train_000005,zebra\n"))
    with pytest.raises(DataError, match=r"'train_000005' to be one of a, b, c .* got 'zebra'"):
        data.pool.collect()
    table.write_text("unit_id,label\ntrain_000000,c\ntrain_000000,a\n")
    with pytest.raises(DataError, match="labels 'train_000000' twice"):
        data.pool.labelled  # noqa: B018
    table.write_text("name,class\n")
    with pytest.raises(DataError, match="columns unit_id and label"):
        data.pool.labelled  # noqa: B018


def test_a_class_missing_from_the_initial_set_is_refused_by_name(make: Make, tmp_path: Path) -> None:
    ids = tmp_path / "first.txt"
    ids.write_text("train_000000\ntrain_000003\n")
    with pytest.raises(DataError, match=r"no image of b, c.*allow_missing_classes"):
        make(initial=FromFile(str(ids))).prepare_data()
    data = make(initial=FromFile(str(ids)), allow_missing_classes=True)
    data.prepare_data()
    assert len(data.pool.labelled) == 2


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (torch.zeros(4, 1, 4, 4), torch.zeros(4), "ab", r"expected images N x 2 x H x W .* got \(4, 1, 4, 4\)"),
        (torch.zeros(4, 2, 4, 4), torch.zeros(3), "ab", "one label for each of 4 images .*got \\(3,\\)"),
        (torch.zeros(4, 2, 4, 4), torch.tensor([0, 1, 2, 0]), "ab", "labels from 0 to 1 .* got 2"),
        (torch.zeros(4, 2, 4, 4), torch.zeros(4), "a", "2 to 254 classes, got 1"),
    ],
)
def test_bad_files(make: Make, images: Tensor, labels: Tensor, names: str, message: str) -> None:
    class Bad(Squares):
        @property
        def class_names(self) -> list[str]:
            return list(names)

        def read(self, part: str) -> tuple[Tensor, Tensor]:
            return images.to(torch.uint8), labels

    with pytest.raises(DataError, match=message):
        make(Bad(), initial=RandomSubset(2), allow_missing_classes=True).prepare_data()


def test_settings_that_a_data_set_in_memory_cannot_have(make: Make, tmp_path: Path) -> None:
    for setting in ({"image_size": (4, 4)}, {"crop_size": (2, 2)}):
        with pytest.raises(DataError, match=r"Squares keeps its images in memory .* leave out data\.image_size"):
            make(**setting)
    with pytest.raises(DataError, match=r"Squares has one class per image.*expected data\.partition WholeImages"):
        make(partition=Grid(2, 2))
    with pytest.raises(DataError, match=r"data\.shift is for data sets in memory, got 2; set data\.crop_size"):
        PoolDataModule(SyntheticRoads(num_train=2, num_val=1), run_dir=str(tmp_path), shift=2)
