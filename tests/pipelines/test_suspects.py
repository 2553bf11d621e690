"""Networks that have not learned from a label judge it: fitted, killed, stale, refused, and on every kind of unit."""

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

import cli
from acquisition.annotation import VOID
from annotators.suspicion import SCORES
from datamodules.corruptions import Corrupted, Corruption, SymmetricNoise
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.oracle import HiddenTruth
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from datamodules.sources.synthetic import SyntheticRoads
from lightning_modules.networks import FCN8s
from lightning_modules.segmentation import SegmentationModule
from pipelines import trainer, trainer_options
from pipelines.jobs import Job, Outcome
from pipelines.run_access import working_in
from pipelines.suspect_ranking import check_samples, held_out
from pipelines.suspects import Suspicion, fold_jobs, labelled_folds
from pipelines.trainer import QueryTrainer
from records.files import RunDirectoryError
from records.ledger import Ledger
from records.run_directory import RunDirectory
from records.study_directory import SuspectsDirectory
from tests.conftest import TINY, TINY_DIGITS, in_this_process
from tests.pipelines.test_cycles import Crash

pytestmark = pytest.mark.xdist_group("suspects")  # they share fitted folds

SAMPLED = {"class_path": "acquisition.predictors.MCDropout", "init_args": {"num_samples": 2}}
NOISE = {"class_path": "datamodules.corruptions.SymmetricNoise", "init_args": {"rate": 0.3}}


def settings(source: dict[str, Any] = TINY, units: int = 7, **data: Any) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(yaml.safe_dump(source))
    made |= {"cycles": 1, "suspicion": {"folds": 2, "pictures": 2, "share": 0.3, "predictor": SAMPLED}}
    made["data"] |= {
        "oracle": {"class_path": "datamodules.oracle.HiddenTruth", "init_args": {"corruption": NOISE}},
        "initial": {"class_path": "datamodules.initial.RandomSubset", "init_args": {"size": units}},
        **data,
    }
    made["trainer"] |= {"max_epochs": -1, "max_steps": 4, "check_val_every_n_epoch": None, "val_check_interval": 2}
    return made


def begin(folder: Path, made: dict[str, Any]) -> list[str]:
    """A run whose units are labelled and whose network is not trained; the arguments of suspects."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(made))
    arguments = ["--config", str(folder / "tiny.yaml"), "--run_dir", str(folder / "run")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.single.LightningFitter.fit", lambda self, turns: None)
        cli.main(["fit", *arguments])
    return ["suspects", *arguments]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The command, and a run directory whose labels are judged."""
    folder = tmp_path_factory.mktemp("suspects")
    command = begin(folder, settings())
    with in_this_process():
        cli.main(command)
    # as if the run itself were fitted: its settings are fixed now
    RunDirectory(folder / "run").cycle(0).write_metrics({"cycle": 0, "labelled_units": 7, "val/miou": 0.1})
    return command, folder / "run"


def ranking(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(SuspectsDirectory(RunDirectory(run_dir).suspects).ranking)


def data_of(run_dir: Path) -> PoolDataModule:
    source = SyntheticRoads(num_train=24, num_val=6, num_test=4, size=(32, 48))
    oracle = HiddenTruth(corruption=SymmetricNoise(0.3))
    return PoolDataModule(source, oracle=oracle, initial=RandomSubset(7), run_dir=str(run_dir), seed=3, batch_size=4)


def test_every_labelled_unit_is_judged_by_a_network_that_did_not_learn_from_it(judged: tuple[list[str], Path]) -> None:
    _, run_dir = judged
    table, where = ranking(run_dir), SuspectsDirectory(RunDirectory(run_dir).suspects)
    labelled = set(Ledger(RunDirectory(run_dir).ledger).labelled())
    assert set(table["unit_id"]) == labelled
    assert len(labelled) == 7
    for fold, rows in table.groupby("fold"):
        with closing(Ledger(where.fold(fold).ledger)) as ledger:
            assert set(ledger.labelled()) == labelled - set(rows["unit_id"])
            assert ledger.initial_labels() == "labels SymmetricNoise(rate=0.3)", "the corruption is named there too"
    assert table["rank"].tolist() == list(range(1, 8))
    assert table["score"].is_monotonic_decreasing
    assert (table["score"] == table["objects"]).all()
    assert np.isfinite(table[list(SCORES)]).all().all()
    assert ((table["top"] >= 0) & (table["height"] > 0) & (table["top"] + table["height"] <= 32)).all()
    assert ((table["left"] >= 0) & (table["width"] > 0) & (table["left"] + table["width"] <= 48)).all()
    assert (table["given"] != table["suggested"]).all()
    assert sorted(p.name for p in where.pictures.iterdir()) == ["rank-1.png", "rank-2.png"]


def test_labels_are_those_that_train_and_not_the_truth(judged: tuple[list[str], Path]) -> None:
    _, run_dir = judged
    datamodule = data_of(run_dir)
    network = FCN8s(5, width=0.03, batch_norm=True)
    module = SegmentationModule(network, optimizer=torch.optim.Adam)
    seen = {one.image_id: one for one in held_out(datamodule, Suspicion(folds=2), module, torch.device("cpu"))}
    assert set(seen) == set(datamodule.pool.labelled)
    corrupted = Corrupted(datamodule.source, SymmetricNoise(0.3))
    differing = 0
    for image_id, one in seen.items():
        assert np.array_equal(one.label, corrupted.read_annotation(image_id))
        differing += bool((one.label != datamodule.source.read_annotation(image_id)).any())
        assert one.probs.shape == (5, 32, 48)
        np.testing.assert_allclose(one.probs.sum(axis=0), 1, atol=1e-5)
        # outside of the unit nothing is judged
        assert (one.unit_label(1) == VOID).all()
    assert differing > 3


def test_assign_and_review_take_the_list(judged: tuple[list[str], Path], tmp_path: Path) -> None:
    _, run_dir = judged
    listed = SuspectsDirectory(RunDirectory(run_dir).suspects).second_drawings
    assert pd.read_csv(listed)["unit_id"].tolist() == ranking(run_dir)["unit_id"].tolist()[:2]
    (tmp_path / "people.csv").write_text("annotator,experience,capacity\nann,1,9\nbo,2,9\n")
    out = tmp_path / "assignments.csv"
    shares = ["--double_share", "1", "--audit_share", "0"]
    where = ["--annotators", str(tmp_path / "people.csv"), "--out", str(out)]
    cli.main(["assign", "--scores", str(listed), *shares, *where])
    table = pd.read_csv(out)
    assert set(zip(table["unit_id"], table["annotator"], strict=True)) == {
        (unit_id, name) for unit_id in pd.read_csv(listed)["unit_id"] for name in ("ann", "bo")
    }
    shutil.copytree(run_dir, tmp_path / "run")
    cli.main(["review", "--run_dir", str(tmp_path / "run"), "--assignments", str(out)])


def test_a_killed_fit_goes_on_and_what_is_done_is_kept(
    judged: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, finished = judged
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    where = SuspectsDirectory(RunDirectory(run_dir).suspects)
    expected = torch.load(where.fold(1).cycle(0).last, weights_only=True)["state_dict"]
    before = ranking(run_dir)
    shutil.rmtree(where.fold(1).path)
    where.ranking.unlink()
    kept = where.fold(0).cycle(0).metrics.stat().st_mtime_ns
    command = [*command[:-1], str(run_dir)]
    (job,) = (j for j in cli.jobs_of(command) if j.name == "fold_1")
    with monkeypatch.context() as patch:
        patch.setattr(trainer_options, "StepSeed", Crash)
        patch.setattr(Crash, "step", 3)
        with pytest.raises(RuntimeError, match="crashed"):
            cli.main(list(job.arguments))
    assert torch.load(where.fold(1).cycle(0).last, weights_only=True)["global_step"] == 2
    with in_this_process():
        cli.main(command)
    got = torch.load(where.fold(1).cycle(0).last, weights_only=True)["state_dict"]
    assert all(torch.equal(weights, got[name]) for name, weights in expected.items())
    assert where.fold(0).cycle(0).metrics.stat().st_mtime_ns == kept, "what is finished is not done again"
    pd.testing.assert_frame_equal(ranking(run_dir), before, rtol=1e-4)


def test_other_labels_are_learned_anew(
    judged: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, finished = judged
    shutil.copytree(finished, tmp_path / "run")
    where = SuspectsDirectory(RunDirectory(tmp_path / "run").suspects)
    command = [*command[:-1], str(tmp_path / "run")]
    assert len(cli.jobs_of(command)) == 2
    assert where.fold(0).cycle(0).is_fitted, "nothing has changed"
    with closing(Ledger(RunDirectory(tmp_path / "run").ledger)) as ledger:
        unit_id = next(u for u in data_of(tmp_path / "run").pool.units.ids if u not in ledger.labelled())
    data_of(tmp_path / "run").pool.label([unit_id])
    results = [where.ranking, where.second_drawings, where.pictures, where.labels, where.fold(0).cycle(0).best]
    capsys.readouterr()
    cli.main(["submit", "--cluster", "slurm", "--dry_run", "true", *command])
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-1" in printed
    assert printed.count("dropquery fit --config") == 2, "both would be fitted anew"
    assert all(path.exists() for path in results), "a dry run removes nothing"
    with working_in(where.fold(1).path), pytest.raises(RunDirectoryError, match="another process is working in"):
        fold_jobs(data_of(tmp_path / "run"), Suspicion(folds=2), (tmp_path / "run" / "config.yaml").read_text(), ())
    assert all(path.exists() for path in results), "nothing is removed while a fold is fitted"
    jobs = cli.jobs_of(command)
    assert not any(path.exists() for path in (where.ranking, where.second_drawings, where.pictures))
    assert [j.finished.exists() for j in jobs] == [False, False]
    assert sum(unit_id in Ledger(where.fold(fold).ledger).labelled() for fold in (0, 1)) == 1
    assert [len(cli.jobs_of([*command, "--suspicion.folds", str(n)])) for n in (3, 2)] == [3, 2]
    assert len(where.folds()) == 4, "two run directories and two settings"


def test_a_network_that_learned_from_a_label_may_not_judge_it(
    judged: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, finished = judged
    shutil.copytree(finished, tmp_path / "run")
    where = SuspectsDirectory(RunDirectory(tmp_path / "run").suspects)
    shutil.copy(where.fold(1).ledger, where.fold(0).ledger)
    with in_this_process(), pytest.raises(SystemExit):
        cli.main([*command[:-1], str(tmp_path / "run")])
    assert "that it is to judge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--suspicion.folds", "8"], "expected a labelled image for each of 8 folds, got 7"),
        (["--suspicion.folds", "1"], "suspicion.folds must be at least 2, got 1"),
        (["--suspicion.share", "0"], "suspicion.share must be above 0"),
        (["--suspicion.by", "mc", "--suspicion.predictor", "null"], "needs MC samples"),
        (["--suspicion.by", "mc", "--model.network.dropout", "0"], "a network in which no dropout"),
        (["--data.oracle.corruption", "null"], "other settings"),
        (["--run_dir", "RUN/nowhere"], "run fit first, or check --run_dir"),
    ],
)
def test_mistakes_are_said(
    judged: tuple[list[str], Path], capsys: pytest.CaptureFixture[str], changes: list[str], words: str
) -> None:
    command, run_dir = judged
    with in_this_process(), pytest.raises(SystemExit):
        cli.main([*command, *(c.replace("RUN", str(run_dir)) for c in changes)])
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (run_dir / "nowhere").exists()


def test_a_run_in_which_nothing_is_labelled(
    judged: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _ = judged
    with closing(Ledger(RunDirectory(tmp_path).ledger)) as ledger:
        assert ledger.labelled() == []
    with pytest.raises(SystemExit):
        cli.main([*command[:-1], str(tmp_path)])
    assert "no unit is labelled" in capsys.readouterr().err


def test_parts_of_images_are_units(tmp_path: Path) -> None:
    cells = {"class_path": "datamodules.partitions.Grid", "init_args": {"height": 16, "width": 24}}
    made = settings(units=9, partition=cells, crop_size=None)
    made["suspicion"] |= {"by": "confident", "pictures": 1, "predictor": None}
    with in_this_process():
        cli.main(begin(tmp_path, made))
    table = ranking(tmp_path / "run")
    assert set(table["unit_id"]) == set(Ledger(RunDirectory(tmp_path / "run").ledger).labelled())
    assert table["mc"].isna().all()
    assert (table["score"] == table["confident"]).all()
    # an image's units are in one fold, and what is suspicious lies within the unit
    assert (table.groupby("image_id")["fold"].nunique() == 1).all()
    assert ((table["height"] <= 16) & (table["width"] <= 24)).all()
    assert (table["top"] // 16 == (table["top"] + table["height"] - 1) // 16).all()


def test_classes_of_images_are_judged(tmp_path: Path) -> None:
    with in_this_process():
        cli.main(begin(tmp_path, settings(TINY_DIGITS, units=60) | {"strategy": TINY["strategy"]}))
    table = ranking(tmp_path / "run")
    assert len(table) == 60
    assert table["confident"].isin([0, 1]).all()
    assert (SuspectsDirectory(RunDirectory(tmp_path / "run").suspects).pictures / "top.png").is_file()


def test_folds_are_even_and_stay_where_they_are(judged: tuple[list[str], Path]) -> None:
    _, run_dir = judged
    for count in (2, 3, 7):
        folds = labelled_folds(data_of(run_dir), count)
        assert sorted(i for fold in folds for i in fold) == sorted(data_of(run_dir).pool.labelled)
        assert max(map(len, folds)) - min(map(len, folds)) <= 1


class Small(nn.Module):
    """Functional dropout of a rate, beside a layer that never runs."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.idle = nn.Dropout(0.5)
        self.head = nn.Conv2d(3, 5, 1)
        self.num_classes = 5

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x H x W to N x 5 x H x W."""
        return self.head(F.dropout(images, self.rate, training=self.training))


class Attention(Small):
    """Dropout that is hidden inside a layer."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.inner = nn.MultiheadAttention(3, 1, dropout=0.5)

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x H x W to N x 5 x H x W."""
        rows = images.flatten(2).permute(2, 0, 1)
        return self.head(self.inner(rows, rows, rows)[0].permute(1, 2, 0).reshape(images.shape))


def test_the_engine_says_whether_a_network_has_samples(judged: tuple[list[str], Path]) -> None:
    _, run_dir = judged
    datamodule, by_samples = data_of(run_dir), Suspicion(folds=2, by="mc")

    def ask(suspicion: Suspicion, network: nn.Module) -> bool:
        return check_samples(suspicion, SegmentationModule(network, optimizer=torch.optim.Adam), datamodule)

    assert ask(by_samples, Small(0.5))
    assert not ask(Suspicion(folds=2, predictor=None), Small(0.5))
    for network, words in ((Small(0.0), "in which no dropout"), (Attention(), "dropout layers that it can see")):
        assert not ask(Suspicion(folds=2), network)
        with pytest.raises(ValueError, match=words):
            ask(by_samples, network)


@pytest.mark.parametrize("corruption", [None, SymmetricNoise(0.1)])
def test_every_persons_mask_is_a_label(
    corruption: Corruption | None, tmp_path: Path, save_image: Callable[..., Path]
) -> None:
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:6, 2:6] = 255
    for k in range(8):
        save_image(tmp_path / "images" / f"{k}.png", np.repeat(mask[..., None], 3, axis=2))
        for who in ("ann", "bo"):
            save_image(tmp_path / "masks" / who / f"{k}.png", mask)
    (tmp_path / "classes.txt").write_text("ground\ncell\n")
    datamodule = PoolDataModule(
        MultiAnnotatorFolder(str(tmp_path)), oracle=HiddenTruth(corruption=corruption), run_dir=str(tmp_path / "run"),
        allow_missing_classes=True,
    )  # fmt: skip
    datamodule.pool.start()
    where = SuspectsDirectory(RunDirectory(tmp_path / "run").suspects)

    def list_jobs() -> list[Job]:
        return fold_jobs(datamodule, Suspicion(folds=2), "data: {}", ())

    list_jobs()
    where.ranking.touch()
    list_jobs()
    assert where.ranking.exists(), "nothing has changed"
    corrected = tmp_path / "masks" / "bo" / f"{datamodule.pool.labelled[0]}.png"
    save_image(corrected, 255 - mask)
    os.utime(corrected, (1, 1))
    list_jobs()
    assert not where.ranking.exists()


def test_a_failed_fit_is_told_to_whoever_calls(
    judged: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, finished = judged
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    where = SuspectsDirectory(RunDirectory(run_dir).suspects)
    where.ranking.unlink()
    failed = lambda jobs, *rest: [Outcome(job, "failed", 1, 0.0, run_dir, "it failed") for job in jobs]  # noqa: E731
    monkeypatch.setattr(trainer, "run_jobs", failed)
    module = SegmentationModule(FCN8s(5, width=0.03, batch_norm=True), optimizer=torch.optim.Adam)
    caller = QueryTrainer(accelerator="cpu", logger=False, default_root_dir=str(run_dir))
    settings_text = (run_dir / "config.yaml").read_text()
    outcomes = caller.suspects(module, data_of(run_dir), Suspicion(folds=2), settings_text)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    assert not where.ranking.exists()
    with pytest.raises(SystemExit, match="1"):
        cli.main([*command[:-1], str(run_dir)])
