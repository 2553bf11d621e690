"""Small data in memory: splits, names and images of another data set."""

import pytest
import torch

from acquisition.annotation import VOID
from datamodules.files import DataError
from datamodules.sources.digits import Digits
from tests.datamodules.squares import Squares, numbers


def test_tensors_are_normalised_and_named_by_their_place() -> None:
    images, labels, unit_ids = Squares().tensors("train")
    assert (images.dtype, labels.dtype, images.shape) == (torch.float32, torch.int64, (60, 2, 4, 4))
    assert unit_ids[7] == "train_000007"
    assert torch.allclose(images[7, :, 0, 0], torch.tensor([(7 / 255 - 0.5) / 0.5, (7 / 255 - 0.25) / 0.25]))
    assert labels.tolist() == [i % 3 for i in range(60)]
    assert Squares().tensors("val")[2][0] == "test_000000"
    assert [len(x) for x in Squares().tensors("test")] == [0, 0, 0]


def test_held_out_images_leave_the_train_split_and_the_test_images_are_for_the_test() -> None:
    data = Squares(held_out=15, num_val=10)
    train, val, test = (set(data.tensors(split)[2]) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (45, 10, 20)
    assert not train & val
    assert set(Squares(held_out=15).images("train")) == train
    assert set(Squares(num_train=10).tensors("train")[2]) < set(Squares(num_train=20).tensors("train")[2])
    with pytest.raises(DataError, match="1 to 60 images"):
        Squares(num_train=61).tensors("train")


def test_an_image_is_found_by_its_id_whether_or_not_it_was_listed() -> None:
    source = Squares(held_out=15)
    image_id = Squares(held_out=15).images("val")[3]
    assert source.row(image_id) == ("val", 3)
    assert int(source.read_annotation(image_id)) == int(image_id[-6:]) % 3
    assert source.size(image_id) == (4, 4)
    with pytest.raises(DataError, match=r"Squares has no image 'train_000060'; check the id"):
        source.row("train_000060")


def test_images_of_another_data_set_are_of_none_of_the_classes() -> None:
    source = Squares(ood=Squares(), ood_count=12)
    images, labels, image_ids = source.tensors("train")
    foreign = [i for i in image_ids if i.startswith("ood_train_")]
    assert len(foreign) == 12
    assert len(image_ids) == 72
    assert labels[-12:].tolist() == [VOID] * 12
    assert numbers(images[-12:]) == [int(i[-6:]) for i in foreign]
    assert not any(i.startswith("ood_") for i in source.images("val"))
    with pytest.raises(DataError, match=r"expected images of 2 x 4 x 4 in data\.source\.ood \(Digits\), got 1 x 8 x 8"):
        Squares(ood=Digits(), ood_count=3).tensors("train")
    for half in ({"ood_count": 3}, {"ood": Squares()}):
        with pytest.raises(ValueError, match="go together"):
            Squares(**half)
