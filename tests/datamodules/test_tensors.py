"""Small data in memory: splits, batches, augmentation, images of none of the classes, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datamodules.digits import Digits
from datamodules.units import VOID, DataError
from torch import Tensor

from datamodules.datasets import EpochSampler
from datamodules.doctor import examine_pool
from datamodules.initial import FromFile, PerClass, RandomSubset
from datamodules.oracle import LabelTable
from datamodules.tensors import EpochBatches, TensorPool, augmented
from records.ledger import Queried

Make = Callable[..., "Squares"]


class Squares(TensorPool):
    """60 training and 20 test images of 2 x 4 x 4 whose pixels all are their number; class = number modulo 3."""

    mean = (0.5, 0.25)
    std = (0.5, 0.25)

    @property
    def class_names(self) -> list[str]:
        return ["a", "b", "c"]

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        number = torch.arange(60 if part == "train" else 20)
        return number.to(torch.uint8)[:, None, None, None].expand(-1, 2, 4, 4), number % 3


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(kind: type[Squares] = Squares, **arguments: Any) -> Squares:
        return kind(**{"initial": PerClass(2), "batch_size": 4, "run_dir": str(tmp_path / "run"), **arguments})

    return build


def numbers(images: Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().int().tolist()


def test_tensors_are_normalised_and_named_by_their_place(make: Make) -> None:
    images, labels, unit_ids = make().tensors("train")
    assert (images.dtype, labels.dtype, images.shape) == (torch.float32, torch.int64, (60, 2, 4, 4))
    assert unit_ids[7] == "train_000007"
    assert torch.allclose(images[7, :, 0, 0], torch.tensor([(7 / 255 - 0.5) / 0.5, (7 / 255 - 0.25) / 0.25]))
    assert labels.tolist() == [i % 3 for i in range(60)]
    assert make().tensors("val")[2][0] == "test_000000"
    assert [len(x) for x in make().tensors("test")] == [0, 0, 0]


def test_held_out_images_leave_the_train_split_and_the_test_images_are_for_the_test(make: Make) -> None:
    data = make(held_out=15, num_val=10)
    train, val, test = (set(data.tensors(split)[2]) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (45, 10, 20)
    assert not train & val
    assert set(make(held_out=15, seed=5).tensors("train")[2]) == train
    assert set(make(num_train=10).tensors("train")[2]) < set(make(num_train=20).tensors("train")[2])
    with pytest.raises(DataError, match="1 to 60 images"):
        make(num_train=61).tensors("train")


def test_a_pool_batch_has_no_labels_and_every_unit_once_in_order(make: Make) -> None:
    data = make(eval_batch_size=7)
    data.start()
    batches = list(data.pool_dataloader(data.pool))
    assert all(set(b) == {"unit_id", "image"} for b in batches)
    assert [len(b["unit_id"]) for b in batches] == [7] * 7 + [5]
    assert [u for b in batches for u in b["unit_id"]] == [u.unit_id for u in data.pool]
    for batch in batches:
        assert [f"train_{n:06d}" for n in numbers(batch["image"])] == batch["unit_id"]
    assert all(u.label is None for u in data.pool)
    assert all(c.passed for c in examine_pool(data, data.pool_dataloader(data.pool)))
    failed = {c.name for c in examine_pool(data, make(flip=0.5).train_dataloader()) if not c.passed}
    assert failed == {"pool order", "pool augmentation", "labelled units in the pool", "labels of the pool"}


def test_training_batches_are_those_of_the_sampler_for_single_units(make: Make) -> None:
    data = make(seed=3)
    data.start()
    loader = data.train_dataloader()
    seen = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        order = EpochSampler(6, 4, 3)
        order.set_epoch(epoch)
        expected = [data.labelled_units[i].unit_id for _, i in order]
        batches = list(loader)
        assert [len(b["unit_id"]) for b in batches] == [4, 4]
        assert len(loader) == 2
        assert [u for b in batches for u in b["unit_id"]] == expected
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
    first.start()
    views = []
    for data, epoch in ((first, 2), (again, 2), (first, 3), (first, 2)):
        if len(views) == 3:
            # the same labelled units, so that their draws would be the same
            data.ledger.query(0, "s", [], [])
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        views.append({u: x for b in loader for u, x in zip(b["unit_id"], b["image"], strict=True)})
    assert all(torch.equal(views[0][u], views[1][u]) for u in views[0])
    for other in views[2:]:
        assert not all(torch.equal(views[0][u], other[u]) for u in views[0])


def test_images_of_none_of_the_classes_cost_a_label_and_bring_no_sample(make: Make) -> None:
    class Others(Squares):
        def read(self, part: str) -> tuple[Tensor, Tensor]:
            images, labels = super().read(part)
            return images + 100, labels

    data = make(ood=Others(), ood_count=12)
    data.start()
    foreign = [u.unit_id for u in data.pool if u.unit_id.startswith("ood_")]
    assert len(foreign) == 12
    assert len(data.pool) == 60 + 12 - 6
    data.ask([Queried(foreign[0], 1.0, 1), Queried("train_000000", 0.5, 2)], "x")
    assert data.ledger.cycle == 1
    assert foreign[0] in [u.unit_id for u in data.labelled_units]
    assert data.read_truth(foreign[0]) == VOID
    trained = {u for b in data.train_dataloader() for u in b["unit_id"]}
    assert foreign[0] not in trained
    assert len(trained) == 7
    images, labels, unit_ids = data.tensors("train")
    place = unit_ids.index(foreign[0])
    assert labels[place] == VOID
    assert numbers(images[place : place + 1]) == [100 + int(foreign[0][-6:])]
    with pytest.raises(DataError, match=r"expected images of 2 x 4 x 4 in data\.ood \(Digits\), got 1 x 8 x 8"):
        make(ood=Digits(), ood_count=3).tensors("train")
    with pytest.raises(ValueError, match="go together"):
        make(ood_count=3)


def test_people_label_by_a_table(make: Make, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    ids = tmp_path / "first.txt"
    ids.write_text("train_000000\ntrain_000001\ntrain_000002\n")
    table.write_text("unit_id,label\ntrain_000000,c\ntrain_000001,1\ntrain_000002,a\n")
    data = make(oracle=LabelTable(str(table), others=False), initial=FromFile(str(ids)))
    data.start()
    assert [u.label for u in data.labelled_units] == [2, 1, 0]
    assert data.ask([Queried("train_000005", 1.0, 1), Queried("train_000009", 1.0, 2)], "x") == [
        "train_000005",
        "train_000009",
    ]
    table.write_text(table.read_text() + "train_000005,\ntrain_000009,void\n")
    assert data.collect() == ["train_000005"]
    assert len(data.training_units) == 3
    table.write_text(table.read_text().replace("train_000005,\n", "train_000005,zebra\n"))
    with pytest.raises(DataError, match=r"'train_000005' to be one of a, b, c .* got 'zebra'"):
        data.collect()
    table.write_text("unit_id,label\ntrain_000000,c\ntrain_000000,a\n")
    with pytest.raises(DataError, match="labels 'train_000000' twice"):
        data.labelled_units  # noqa: B018
    table.write_text("name,class\n")
    with pytest.raises(DataError, match="columns unit_id and label"):
        data.labelled_units  # noqa: B018


def test_a_class_missing_from_the_initial_set_is_refused_by_name(make: Make, tmp_path: Path) -> None:
    ids = tmp_path / "first.txt"
    ids.write_text("train_000000\ntrain_000003\n")
    with pytest.raises(DataError, match=r"no image of b, c.*allow_missing_classes"):
        make(initial=FromFile(str(ids))).start()
    data = make(initial=FromFile(str(ids)), allow_missing_classes=True)
    data.start()
    assert len(data.labelled_units) == 2


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
        make(Bad, initial=RandomSubset(2), allow_missing_classes=True).start()


def test_display_undoes_the_normalisation(make: Make, tmp_path: Path) -> None:
    data = Digits(run_dir=str(tmp_path))
    shown = data.to_display(data.tensors("train")[0][3].numpy())
    position = int(data.tensors("train")[2][3][-6:])
    found = data.read("train")
    assert found is not None
    assert np.array_equal(shown, np.repeat(found[0][position].permute(1, 2, 0).numpy(), 3, axis=2))
