"""What the doctor says of pool loaders."""

from pathlib import Path

from torch.utils.data import DataLoader

from datamodules.datamodule import PoolDataModule
from datamodules.doctor import examine_pool
from datamodules.initial import RandomSubset
from datamodules.sources.synthetic import SyntheticRoads


def test_the_pool_is_well_and_training_data_is_not(tmp_path: Path) -> None:
    source = SyntheticRoads(num_train=8, num_val=2, size=(32, 48))
    data = PoolDataModule(source, run_dir=str(tmp_path), initial=RandomSubset(3))
    data.prepare_data()
    pool = data.pool
    assert all(c.passed for c in examine_pool(pool, data.pool_dataloader(pool.unlabelled), pool.unlabelled))
    checks = examine_pool(pool, data.train_dataloader(), pool.labelled)
    failed = {c.name: c.found for c in checks if not c.passed}
    assert failed["pool order"] == "shuffled"
    assert "HorizontalFlip" in failed["pool augmentation"]
    assert failed["labelled units in the pool"].endswith("and 2 more")
    assert failed["labels of the pool"].startswith("opened")
    (check,) = examine_pool(pool, DataLoader([1, 2, 3]), [])
    assert not check.passed
