"""How well the verb suspects finds masks that were changed on purpose, beside cleanlab and beside plain loss.

    python benchmarks/suspects.py find --data ../shared/data --work WORK --sets nuclei camvid --rates 0.05 0.1
    python benchmarks/suspects.py redraw --data ../shared/data --work WORK --sets nuclei --seeds 0 1
    python benchmarks/suspects.py memory --work WORK --counts 100 1000 10000

`rate` is the share of training IMAGES whose mask is changed, drawn from (seed, image id): of nuclei half of the objects
are missing there, of CamVid a fifth of the objects (connected parts) have another class. Images of the share in which
no pixel changes, at the size on which networks work, count as right. Masks are such as people would have drawn: a
FolderOracle's, so that nothing of the data set's own masks is read but for validation.

cleanlab (2.9) is optional: --cleanlab names the folder that it was installed into (pip install --target). It knows no
void: there its labels are the predictions, which it never suspects.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cli
from acquisition.annotation import VOID
from acquisition.predictors import MCDropout
from acquisition.seeding import derive_seed, uniform_for
from annotators.suspicion import SCORES
from datamodules.corruptions import Corruption, FlipMissing, SymmetricNoise
from datamodules.datamodule import PoolDataModule
from datamodules.oracle import FolderOracle
from datamodules.sources.camvid import CamVid
from datamodules.sources.folder import Folder
from datamodules.sources.source import Source
from datamodules.transforms import JointTransform, eval_transform
from lightning_modules.networks import DeepLabV3Plus
from lightning_modules.segmentation import SegmentationModule
from pipelines.suspect_ranking import held_out, rank_suspects
from pipelines.suspects import Suspicion, labelled_folds
from records.files import replacing, write_table
from records.ledger import Labelled, Ledger
from records.run_directory import RunDirectory
from records.study_directory import SuspectsDirectory

SIZE = (96, 128)
SOURCES: dict[str, tuple[type[Source], str, int, Corruption]] = {
    "nuclei": (Folder, "nuclei_dsb2018", 2, FlipMissing(0.5)),
    "camvid": (CamVid, "camvid", 11, SymmetricNoise(0.2)),
}


def settings_of(name: str, data: Path, run: Path, steps: int, folds: int, seed: int) -> dict[str, Any]:
    """A run's settings; its masks lie in run/masks."""
    source, folder, classes, _ = SOURCES[name]
    network = {
        "num_classes": classes, "encoder": "tu-tf_efficientnet_lite0", "decoder_channels": 96, "dropout": 0.1,
        "weights": str((data / "weights" / "tf_efficientnet_lite0.safetensors").resolve()),
    }  # fmt: skip
    return {
        "seed_everything": seed,
        "model": {
            "class_path": "lightning_modules.segmentation.SegmentationModule",
            "init_args": {
                "network": {"class_path": "lightning_modules.networks.DeepLabV3Plus", "init_args": network},
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}},
                "scheduler": {"class_path": "torch.optim.lr_scheduler.PolynomialLR", "init_args": {"power": 0.9}},
            },
        },
        "data": {
            "source": {
                "class_path": f"{source.__module__}.{source.__name__}",
                "init_args": {"root": str((data / folder).resolve())},
            },
            "oracle": {
                "class_path": "datamodules.oracle.FolderOracle",
                "init_args": {"folder": str((run / "masks").resolve())},
            },
            "image_size": list(SIZE),
            "batch_size": 8,
            "eval_batch_size": 16,
        },
        "strategy": {"acquisition": {"class_path": "acquisition.functions.Random"}, "pictures": 0},
        "suspicion": {"folds": folds, "at_once": 1, "pictures": 12},
        "wandb": {"mode": "disabled"},
        "trainer": {
            "max_epochs": -1, "max_steps": steps, "check_val_every_n_epoch": None, "val_check_interval": steps,
            "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
        },
    }  # fmt: skip


def write_masks(name: str, data: Path, folder: Path, rate: float, seed: int) -> set[str]:
    """Masks as somebody careless would have drawn them; returns the images whose mask differs from the truth."""
    source, changed = source_of(name, data), set()
    corruption = SOURCES[name][3]
    corruption.seed = seed  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    for image_id in source.images("train"):
        mask = source.read_annotation(image_id)
        if uniform_for(seed, "careless", image_id) < rate:
            drawn = corruption.corrupt(mask, source.read_instances(image_id), image_id, source.num_classes)
            changed |= {image_id} if (shrunk(drawn) != shrunk(mask)).any() else set()
            mask = drawn
        write_mask(folder, image_id, mask)
    return changed


def source_of(name: str, data: Path) -> Source:
    kind, folder, *_ = SOURCES[name]
    return kind(str(data / folder))  # type: ignore[call-arg]


def shrunk(mask: np.ndarray) -> np.ndarray:
    """A mask as networks learn from it."""
    return _transform().resize(mask)


@cache
def _transform() -> JointTransform:
    return eval_transform(SIZE)


def write_mask(folder: Path, image_id: str, mask: np.ndarray) -> None:
    path = folder / f"{image_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def begin(name: str, data: Path, run: Path) -> PoolDataModule:
    """The run's data, all of it labelled by its folder of masks."""
    oracle = FolderOracle(str(run / "masks"))
    options = {"image_size": SIZE, "batch_size": 8, "eval_batch_size": 16}
    datamodule = PoolDataModule(source_of(name, data), oracle=oracle, run_dir=str(run), **options)
    datamodule.pool.start()
    return datamodule


def suspects(name: str, options: argparse.Namespace, rate: float, seed: int) -> tuple[Path, set[str], PoolDataModule]:
    run = options.work / f"{name}-{rate:g}-{seed}"
    known = run / "changed.json"
    if not known.is_file():
        changed = write_masks(name, options.data, run / "masks", rate, seed)
        with replacing(known) as beside:
            beside.write_text(json.dumps(sorted(changed)))
    datamodule = begin(name, options.data, run)
    settings = settings_of(name, options.data, run, options.steps, options.folds, seed)
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))
    cli.main(["suspects", "--config", str(run / "settings.yaml"), "--run_dir", str(run)])
    return run, set(json.loads(known.read_text())), datamodule


def cleanlab_scores(
    name: str, options: argparse.Namespace, datamodule: PoolDataModule, run: Path, seed: int
) -> dict[str, dict[str, float]]:
    """What cleanlab says of the same predictions: 1 - softmin quality, and the share of pixels that are issues."""
    sys.path.append(str(options.cleanlab))
    from cleanlab.segmentation.filter import find_label_issues
    from cleanlab.segmentation.rank import get_label_quality_scores

    datamodule.seed = seed
    network = DeepLabV3Plus(SOURCES[name][2], "tu-tf_efficientnet_lite0", decoder_channels=96, dropout=0.1)
    module = SegmentationModule(network, optimizer=torch.optim.Adam)
    seen = list(held_out(datamodule, Suspicion(folds=options.folds), module, torch.device("cpu")))
    probs = np.stack([one.probs for one in seen])
    labels = np.stack([np.where(one.label == VOID, one.probs.argmax(axis=0), one.label) for one in seen])
    if options.keep:
        known = np.stack([one.label != VOID for one in seen])
        ids = np.array([one.image_id for one in seen])
        path = run / "out-of-fold.npz"
        np.savez(path, probs=probs.astype(np.float16), labels=labels.astype(np.uint8), known=known, ids=ids)
    quality, _ = get_label_quality_scores(labels, probs, method="softmin", verbose=False)
    issues = find_label_issues(labels, probs, downsample=1, n_jobs=1, verbose=False).mean(axis=(1, 2))
    ids = [one.image_id for one in seen]
    softmins = dict(zip(ids, (1 - quality).tolist(), strict=True))
    return {"cleanlab softmin": softmins, "cleanlab issues": dict(zip(ids, issues.tolist(), strict=True))}


def judged(scores: pd.Series, changed: set[str]) -> dict[str, float]:
    """AUROC, and precision of the top tenth."""
    wrong = np.array([i in changed for i in scores.index])
    top = scores.to_numpy().argsort(kind="stable")[::-1][: max(1, round(len(scores) / 10))]
    return {"auroc": float(roc_auc_score(wrong, scores)), "precision": float(wrong[top].mean())}


def find(options: argparse.Namespace) -> None:
    rows = []
    for name in options.sets:
        for rate in options.rates:
            for seed in options.seeds:
                if is_there(options.out, name, rate, seed, "score"):
                    continue
                run, changed, datamodule = suspects(name, options, rate, seed)
                table = pd.read_csv(SuspectsDirectory(RunDirectory(run).suspects).ranking).set_index("unit_id")
                found = {score: table[score] for score in SCORES}
                if options.cleanlab:
                    theirs = cleanlab_scores(name, options, datamodule, run, seed)
                    found |= {k: pd.Series(v).reindex(table.index) for k, v in theirs.items()}
                for score, values in found.items():
                    rows.append(
                        {"data": name, "rate": rate, "seed": seed, "images": len(table), "changed": len(changed)}
                        | {"score": score, **judged(values, changed)}
                    )
                print(pd.DataFrame(rows[-len(found) :]).round(3).to_string(index=False), flush=True)
                append(options.out, rows[-len(found) :])


def redraw(options: argparse.Namespace) -> None:
    """Validation mIoU of a fit after true masks took the places of the top tenth's, of a random tenth's, or of none."""
    rows = []
    for name in options.sets:
        for rate in options.rates:
            for seed in options.seeds:
                if is_there(options.out, name, rate, seed, "drawn again"):
                    continue
                run, changed, datamodule = suspects(name, options, rate, seed)
                table = pd.read_csv(SuspectsDirectory(RunDirectory(run).suspects).ranking)
                ranked = table["unit_id"].tolist()
                count = max(1, round(len(ranked) / 10))
                shuffled = sorted(ranked, key=lambda i: uniform_for(seed, "redraw", i))
                ways = {
                    "none": [],
                    "random": shuffled[:count],
                    "suspects": ranked[:count],
                    "all changed": sorted(changed),
                }
                for way, again in ways.items():
                    other = options.work / f"{name}-{rate:g}-{seed}-{way.replace(' ', '-')}"
                    shutil.copytree(run / "masks", other / "masks", dirs_exist_ok=True)
                    for image_id in again:
                        write_mask(other / "masks", image_id, datamodule.source.read_annotation(image_id))
                    settings = settings_of(name, options.data, other, options.fit_steps, options.folds, seed)
                    (other / "settings.yaml").write_text(yaml.safe_dump(settings))
                    cli.main(["fit", "--config", str(other / "settings.yaml"), "--run_dir", str(other)])
                    rows.append(
                        {"data": name, "rate": rate, "seed": seed, "drawn again": way, "masks": len(again)}
                        | {"corrected": len(changed & set(again))}
                        | {"miou": RunDirectory(other).cycle(0).read_metrics()["val/miou"]}
                    )
                    print(rows[-1], flush=True)
                append(options.out, rows[-len(ways) :])


def append(path: Path | None, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        before = [pd.read_csv(path, float_precision="round_trip")] if path.exists() else []
        write_table(path, pd.concat([*before, pd.DataFrame(rows).round(4)]))


def is_there(path: Path | None, name: str, rate: float, seed: int, column: str) -> bool:
    """Whether the table has these results: a command that was cut goes on where it was."""
    if path is None or not path.exists():
        return False
    table = pd.read_csv(path)
    if column not in table:
        sys.exit(f"expected a table with the column {column!r} in {path}, got another command's; name another --out")
    return bool(((table["data"] == name) & (table["rate"] == rate) & (table["seed"] == seed)).any())


def memory(options: argparse.Namespace) -> None:
    """Peak resident memory of `suspects` on made-up masks of 256 x 256, each count in a process of its own."""
    for count in options.counts:
        command = [sys.executable, __file__, "memory-of", "--work", str(options.work), "--counts", str(count)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


class MadeUp(Source):
    """Discs on a noisy ground, drawn anew whenever they are read."""

    def __init__(self, count: int, size: int = 256) -> None:
        self.count = count
        self.length = size

    @property
    def class_names(self) -> list[str]:
        return ["ground", "disc"]

    def images(self, split: str) -> list[str]:
        return [f"{split}{i}" for i in range(self.count if split == "train" else 2)]

    def size(self, image_id: str) -> tuple[int, int]:
        return self.length, self.length

    def read_image(self, image_id: str) -> np.ndarray:
        noise = np.random.default_rng(derive_seed(image_id)).integers(0, 60, (self.length, self.length), np.uint8)
        return np.repeat((noise + 120 * self.read_annotation(image_id))[..., None], 3, axis=2)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        generator, where = np.random.default_rng(derive_seed(image_id, "discs")), np.arange(self.length)
        mask = np.zeros((self.length, self.length), dtype=np.uint8)
        for row, column in generator.integers(0, self.length, (6, 2)):
            mask |= ((where[:, None] - row) ** 2 + (where - column) ** 2 < (self.length / 12) ** 2).astype(np.uint8)
        return mask


def small_network() -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, padding=1), nn.ReLU(), nn.Dropout2d(0.2), nn.Conv2d(4, 2, 1), nn.Upsample(scale_factor=2)
    )
    network.num_classes = 2  # type: ignore[assignment]
    return network


def memory_of(options: argparse.Namespace) -> None:
    """Fits are ordinary ones, of any number of images, and are left out: their networks are not trained here."""
    (count,) = options.counts
    run = RunDirectory(options.work / f"memory-{count}")
    shutil.rmtree(run.path, ignore_errors=True)
    datamodule = PoolDataModule(MadeUp(count), run_dir=str(run.path), eval_batch_size=16)
    datamodule.pool.start()
    module = SegmentationModule(small_network(), optimizer=torch.optim.Adam)
    suspicion = Suspicion(folds=2, pictures=2, predictor=MCDropout(num_samples=2))
    for fold, images in enumerate(labelled_folds(datamodule, suspicion.folds)):
        own = SuspectsDirectory(run.suspects).fold(fold)
        held = set(images)
        units = [Labelled(i, 1) for i in datamodule.pool.labelled if i not in held]
        own.cycle(0).path.mkdir(parents=True)
        with closing(Ledger(own.ledger)) as ledger:
            ledger.start(units)
        torch.save({"state_dict": module.state_dict()}, own.cycle(0).best)
        own.cycle(0).write_metrics({"cycle": 0, "labelled_units": len(units)})
    before, begun = peak(), time.monotonic()
    table = rank_suspects(datamodule, suspicion, module, torch.device("cpu"))
    seconds = time.monotonic() - begun
    print(f"{len(table)} masks: peak {peak():.0f} MiB, {before:.0f} MiB before the first; {seconds:.0f} s", flush=True)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["find", "redraw", "memory", "memory-of"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--out", type=Path, help="CSV to which results are appended")
    parser.add_argument("--sets", nargs="+", default=["nuclei", "camvid"], choices=list(SOURCES))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--fit-steps", type=int, default=150)
    parser.add_argument("--cleanlab", type=Path, help="folder in which cleanlab is installed")
    parser.add_argument("--keep", action="store_true", help="keep the predictions")
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 1000, 10000])
    options = parser.parse_args()
    {"find": find, "redraw": redraw, "memory": memory, "memory-of": memory_of}[options.what](options)


if __name__ == "__main__":
    main()
