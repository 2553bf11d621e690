"""What the doctor says of pool loaders."""

from pathlib import Path

from datamodules.synthetic import SyntheticRoads
from torch.utils.data import DataLoader

from datamodules.doctor import examine_pool
from datamodules.initial import RandomSubset


def test_the_pool_is_well_and_training_data_is_not(tmp_path: Path) -> None:
    data = SyntheticRoads(num_train=8, num_val=2, size=(32, 48), run_dir=str(tmp_path), initial=RandomSubset(3))
    data.start()
    assert all(c.passed for c in examine_pool(data, data.pool_dataloader(data.pool)))
    failed = {c.name: c.found for c in examine_pool(data, data.train_dataloader()) if not c.passed}
    assert failed["pool order"] == "shuffled"
    assert "HorizontalFlip" in failed["pool augmentation"]
    assert failed["labelled units in the pool"].endswith("and 2 more")
    assert failed["labels of the pool"].startswith("opened")
    (check,) = examine_pool(data, DataLoader([1, 2, 3]))
    assert not check.passed
