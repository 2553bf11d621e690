"""Scores of the mean of MC samples: what they are, that they change nothing else, and how a fit comes by them."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy

import cli
from acquisition.annotation import VOID
from acquisition.engine import Sampler
from acquisition.predictors import MCDropout
from callbacks.mc_evaluation import MCEvaluation, MCScores
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.sources.digits import Digits
from datamodules.sources.synthetic import SyntheticRoads
from lightning_modules.base import NetworkModule
from lightning_modules.classification import ClassificationModule
from lightning_modules.metrics import PresentAUROC, segmentation_metrics
from lightning_modules.networks import TwoLayerNet
from lightning_modules.segmentation import SegmentationModule
from reports.learning_curve import curve_text
from tests.callbacks.test_cycle import Killed, dies_after
from tests.conftest import TINY, TINY_DIGITS
from tests.pipelines.test_cycles import history

SAMPLES, SEED = 5, 3
ON = ["--mc_evaluation", "MCDropout", "--mc_evaluation.num_samples", str(SAMPLES)]


@pytest.fixture
def of_roads(tmp_path: Path, tiny_network: Callable[..., nn.Module]) -> tuple[NetworkModule, PoolDataModule]:
    source = SyntheticRoads(num_train=4, num_val=5, num_test=3, size=(32, 48))
    data = PoolDataModule(source, run_dir=str(tmp_path / "data"), initial=RandomSubset(2), eval_batch_size=2)
    return SegmentationModule(tiny_network(5)), data


@pytest.fixture
def of_digits(tmp_path: Path) -> tuple[NetworkModule, PoolDataModule]:
    data = PoolDataModule(
        Digits(num_train=20, num_val=50), run_dir=str(tmp_path / "data"), initial=RandomSubset(8), eval_batch_size=20,
        allow_missing_classes=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return ClassificationModule(TwoLayerNet(10, 32, (1, 8, 8), dropout=0.5)), data


def evaluated(module: NetworkModule, data: PoolDataModule, verb: str = "validate", **sampling: Any) -> dict[str, float]:
    """What validate or test says, with MC evaluation unless there are no samples."""
    callback = MCEvaluation(MCDropout(SAMPLES, **sampling), SEED)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[callback],
        use_distributed_sampler=False,
    )  # fmt: skip
    (scores,) = getattr(trainer, verb)(module, data, verbose=False)
    return dict(scores)


def ours(scores: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in scores.items() if "/mc_" in k}


def full_passes(module: NetworkModule, data: PoolDataModule, test: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Probabilities and classes image by image: the mean over whole passes, one by one."""
    sampler = Sampler(module.network, (SEED, "evaluation"))
    for batch in data.test_dataloader() if test else data.val_dataloader():
        for image, target in zip(batch["image"], batch[module.target], strict=True):
            passes = [logits.double().softmax(dim=1) for logits in sampler.full_passes(image[None], SAMPLES)]
            yield torch.stack(passes).mean(dim=0), target[None]


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_segmentation_is_scored_by_the_mean_of_whole_passes(
    of_roads: tuple[NetworkModule, PoolDataModule], verb: str
) -> None:
    module, data = of_roads
    got, confusion = evaluated(module, data, verb), torch.zeros(5, 5)
    for probs, mask in full_passes(module, data, test=verb == "test"):
        known = mask != VOID
        confusion.index_put_((mask[known], probs.argmax(dim=1)[known]), torch.ones(()), accumulate=True)
    split = {"validate": "val", "test": "test"}[verb]
    scores = {f"{split}/mc_{k}": float(v) for k, v in segmentation_metrics(confusion).items() if v.ndim == 0}
    assert {"miou", "pixel_accuracy"} <= {k.partition("mc_")[2] for k in scores}
    # of 7680 pixels one or two may be ties but for rounding
    assert ours(got) == pytest.approx(scores, abs=1e-3)
    assert got[f"{split}/mc_miou"] != got[f"{split}/miou"]


def test_classification_is_scored_by_the_mean_of_whole_passes(of_digits: tuple[NetworkModule, PoolDataModule]) -> None:
    module, data = of_digits
    got = evaluated(module, data)
    probs, classes = (torch.cat(parts) for parts in zip(*full_passes(module, data), strict=True))
    area = PresentAUROC(10)
    area.update(probs, classes)
    assert got["val/mc_auroc"] == pytest.approx(float(area.compute()), abs=1e-5)
    accuracy = multiclass_accuracy(probs, classes, 10, average="micro")
    assert got["val/mc_accuracy"] == pytest.approx(float(accuracy), abs=1e-5)
    assert {"val/mc_balanced_accuracy", "val/mc_calibration_error"} <= set(got)


@pytest.mark.parametrize("sampling", [{}, {"per_image_masks": True}, {"rate": 0.3}])
def test_scores_do_not_depend_on_batches_and_nothing_else_changes(
    of_roads: tuple[NetworkModule, PoolDataModule], sampling: dict[str, Any]
) -> None:
    module, data = of_roads
    module.train()
    state, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    got = evaluated(module, data, **sampling)
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert all(m.training for m in module.network.modules())
    assert [m.p for m in module.network.modules() if isinstance(m, nn.Dropout2d)] == [0.5]
    drawn = torch.get_rng_state()
    data.eval_batch_size = 5
    otherwise = evaluated(module, data, **sampling)
    assert ours(otherwise) == pytest.approx(ours(got), abs=1e-5)
    data.eval_batch_size = 2
    # a validation without it draws as much
    torch.set_rng_state(random)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (plain,) = trainer.validate(module, data, verbose=False)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert plain | ours(got) == got


def test_a_network_with_one_logit() -> None:
    class OneLogit(nn.Module):
        num_classes = 1

        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.dense = nn.Linear(64, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.dense(self.drop(images.flatten(1)))

    torch.manual_seed(0)
    module, images = ClassificationModule(OneLogit()), torch.randn(6, 1, 8, 8)
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    scores = MCScores(MCDropout(4), module, 0)
    passes = list(Sampler(module.network, (0, "evaluation")).full_passes(images, 4))
    classes = (torch.cat(passes, dim=1).sigmoid().mean(dim=1) > 0.5).long()
    scores.add({"image": images, "image_id": list("abcdef"), "label": classes})
    assert scores.compute("val")["val/mc_accuracy"] == 1


def test_what_cannot_be_evaluated_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1 for mc_evaluation, got 0"):
        MCEvaluation(MCDropout(0), 0)
    with pytest.raises(ValueError, match="got at_output_stride true; leave it out"):
        MCEvaluation(MCDropout(at_output_stride=True), 0)
    config = tmp_path / "digits.yaml"
    config.write_text(yaml.safe_dump(TINY_DIGITS))
    command = ["fit", "--config", str(config), "--run_dir", str(tmp_path / "run"), "--strategy.acquisition", "Random"]
    with pytest.raises(SystemExit):
        cli.main([*command, *ON, "--model.network.dropout", "0"])
    assert "at least one active dropout layer" in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run directories of two cycles with MC evaluation (on) and without (off)."""
    folder = tmp_path_factory.mktemp("fits")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    for name, extra in (("on", ON), ("off", [])):
        cli.main(command(folder, name, *extra))
    return folder


def command(folder: Path, name: str, *extra: str) -> list[str]:
    return ["fit", "--config", str(folder / "tiny.yaml"), "--run_dir", str(folder / name), "--cycles", "2", *extra]


def row(run_dir: Path, cycle: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "cycles" / f"{cycle:02d}" / "metrics.json").read_text())
    return found


def test_a_fit_has_the_scores_in_its_curve_and_is_the_same_fit(fits: Path) -> None:
    on, off = (pd.read_csv(fits / name / "learning_curve.csv") for name in ("on", "off"))
    added = [c for c in on if c.startswith("val/mc_")]
    assert {"val/mc_miou", "val/mc_pixel_accuracy"} <= set(added)
    assert on[added].notna().all(axis=None)
    assert on.drop(columns=added).equals(off)
    assert "last/val/miou  val/mc_miou" in curve_text(on, fits / "on")
    assert history(fits / "on") == history(fits / "off")
    for cycle in (0, 1):
        best = [torch.load(fits / n / "cycles" / f"0{cycle}" / "best.ckpt")["state_dict"] for n in ("on", "off")]
        assert all(torch.equal(v, best[1][k]) for k, v in best[0].items())


def test_validate_says_of_the_kept_weights_what_the_fit_said(
    fits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, float]] = []
    compute = MCScores.compute

    def overheard(self: MCScores, split: str) -> dict[str, float]:
        said.append(compute(self, split))
        return said[-1]

    monkeypatch.setattr(MCScores, "compute", overheard)
    checkpoint = fits / "on" / "cycles" / "01" / "best.ckpt"
    rest = ["--config", str(fits / "tiny.yaml"), "--run_dir", str(fits / "on"), "--ckpt_path", str(checkpoint), *ON]
    cli.main(["validate", *rest])
    cli.main(["test", *rest])
    assert "val/mc_miou" in capsys.readouterr().out
    assert said[0] == pytest.approx(ours(row(fits / "on", 1)), abs=1e-6)
    assert "test/mc_miou" in said[1]


def dies_evaluating(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: MCScores, split: str) -> dict[str, float]:
        raise Killed

    monkeypatch.setattr(MCScores, "compute", die)


def dies_in_mid_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    # best.ckpt and last.ckpt of the first of three epochs
    dies_after(2, monkeypatch)


@pytest.mark.parametrize("die", [dies_evaluating, dies_in_mid_fit])
def test_a_fit_that_was_cut_ends_the_same(
    fits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, die: Callable[[pytest.MonkeyPatch], None]
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    with monkeypatch.context() as patched:
        die(patched)
        with pytest.raises(Killed):
            cli.main(command(tmp_path, "cut", *ON))
    cycle = tmp_path / "cut" / "cycles" / "00"
    assert (cycle / "last.ckpt").exists()
    assert not (cycle / "metrics.json").exists(), "the fit is not done before its scores are there"
    cli.main(command(tmp_path, "cut", *ON))
    assert row(tmp_path / "cut") == row(fits / "on")
    assert history(tmp_path / "cut") == history(fits / "on")


def test_an_experiment_may_begin_with_it_later(fits: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    cli.main(command(tmp_path, "run", "--cycles", "1"))
    cli.main(command(tmp_path, "run", *ON))
    curve = pd.read_csv(tmp_path / "run" / "learning_curve.csv")
    assert curve["val/mc_miou"].notna().tolist() == [False, True]
    assert curve["val/mc_miou"][1] == row(fits / "on", 1)["val/mc_miou"]


def test_two_processes_say_of_their_fit_what_one_says(fits: Path, dropquery: Callable[..., Any]) -> None:
    rest = [*ON, "--cycles", "1", "--trainer.max_epochs", "1", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    said = dropquery(*command(fits, "two", *rest), fresh=True).stderr
    assert said.count("Cycle 0 fit: ") == 1
    assert "GLOBAL_RANK" not in said
    weights = ["--ckpt_path", fits / "two" / "cycles" / "00" / "best.ckpt"]
    again = dropquery("validate", "--config", fits / "tiny.yaml", "--run_dir", fits / "again", *weights, *ON)
    (line,) = [line for line in again.stdout.splitlines() if "val/mc_miou" in line]
    assert float(line.strip("│ \n").split()[-1]) == pytest.approx(row(fits / "two")["val/mc_miou"], abs=1e-6)
