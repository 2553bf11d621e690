"""How long a study takes: stacked, as one Lightning fit after another, and with baal's loop (pip install baal==2.1.0).

    python benchmarks/study.py --root FOLDER_OF_FASHION_MNIST_IDX_FILES [--cycles 2] [--with_baal]

The work is that of configs/fashion_mnist_strategies.yaml: 6 strategies x 4 seeds, width 16, 2000 images and 300 more
per cycle, 20 epochs, batches of 32. Stacked it runs whole. The other two run one (strategy, seed) for a few
cycles; seconds per training step, query and evaluation included, times the steps of the whole work extrapolate to all
480 fits in one process, and the table says so. Wall time; starting Python is counted for the stacked study only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "fashion_mnist_strategies.yaml"
INITIAL, BUDGET, EPOCHS, BATCH, CYCLES, RUNS = 2000, 300, 20, 32, 20, 24
sys.path.insert(0, str(ROOT))


def steps(cycles: int) -> int:
    """Training steps of one run."""
    return sum(-(-(INITIAL + BUDGET * cycle) // BATCH) * EPOCHS for cycle in range(cycles))


def stacked(root: str, folder: Path) -> float:
    """The whole study by the command line."""
    start = time.perf_counter()
    command = ["study", "--config", str(CONFIG), "--data.source.root", root, "--run_dir", str(folder)]
    subprocess.run([sys.executable, str(ROOT / "cli.py"), *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def one_by_one(root: str, folder: Path, cycles: int) -> float:
    """One run as ordinary fits, in this process."""
    import cli

    start = time.perf_counter()
    cli.main(
        ["fit", "--config", str(CONFIG), "--data.source.root", root, "--run_dir", str(folder), "--cycles", str(cycles),
         "--trainer.enable_progress_bar", "false", "--strategy.pictures", "1"]
    )  # fmt: skip
    return time.perf_counter() - start


def with_baal(root: str, cycles: int) -> float:
    """One run with baal's dataset, model wrapper and loop; margin as its heuristic, no workers."""
    import torch
    from baal.active import ActiveLearningDataset
    from baal.active.active_loop import ActiveLearningLoop
    from baal.active.heuristics import Margin
    from baal.modelwrapper import ModelWrapper, TrainingArgs
    from torch.utils.data import TensorDataset

    from datamodules.sources.mnist import FashionMNIST
    from lightning_modules.networks import TwoLayerNet

    data = FashionMNIST(root)
    train, test = (TensorDataset(*data.tensors(split)[:2]) for split in ("train", "val"))
    start = time.perf_counter()
    dataset = ActiveLearningDataset(train)
    dataset.label_randomly(INITIAL)
    for _ in range(cycles):
        torch.manual_seed(0)
        network = TwoLayerNet(width=16)
        arguments = TrainingArgs(
            criterion=torch.nn.CrossEntropyLoss(),
            optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
            batch_size=BATCH,
            epoch=EPOCHS,
            use_cuda=False,
            workers=0,
            replicate_in_memory=False,
        )
        wrapper = ModelWrapper(network, arguments)
        wrapper.train_on_dataset(dataset)
        wrapper.test_on_dataset(test)
        loop = ActiveLearningLoop(
            dataset, wrapper.predict_on_dataset, heuristic=Margin(), query_size=BUDGET, iterations=1
        )
        loop.step()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--cycles", type=int, default=2, help="of the loops that are extrapolated")
    parser.add_argument("--with_baal", action="store_true")
    parser.add_argument("--stacked_seconds", type=float, help="measured before, instead of running the study")
    options = parser.parse_args()
    whole, part = RUNS * steps(CYCLES), steps(options.cycles)
    with tempfile.TemporaryDirectory() as folder:
        seconds = {"stacked": options.stacked_seconds or stacked(options.root, Path(folder) / "stacked")}
        seconds["one by one"] = one_by_one(options.root, Path(folder) / "one", options.cycles) / part * whole
        if options.with_baal:
            seconds["baal"] = with_baal(options.root, options.cycles) / part * whole
    print(f"{RUNS * CYCLES} fits, {whole} training steps; not stacked: extrapolated from {part} steps")
    for name, value in seconds.items():
        print(f"{name:12s} {value:9.0f} s  {value / seconds['stacked']:6.1f} x")


if __name__ == "__main__":
    main()
