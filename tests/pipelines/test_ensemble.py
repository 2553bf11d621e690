"""One network per annotator and fold: trained, killed, failed, and asked about images that they never saw."""

import io
import shutil
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import cli
from annotators.disagreement import variance_map
from annotators.prediction import MAPS
from datamodules.files import DataError
from datamodules.sources.synthetic_annotators import SyntheticAnnotators
from pipelines import trainer_options
from pipelines.difficulty import annotator_rows, image_row, network_rows
from pipelines.ensemble import Members, member_jobs
from records.ledger import Ledger
from records.run_directory import RunDirectory
from tests.conftest import TINY
from tests.pipelines.test_cycles import Crash

pytestmark = pytest.mark.xdist_group("ensemble")  # they share trained runs

PEOPLE = ["careful", "dilates_much"]
COLUMNS = [
    "image", "fold", "group", "annotators",
    "difficulty", "difficulty_per_object_pixel", "difficulty_per_boundary_pixel", "mean_pairwise_iou",
    "krippendorff_alpha", "repeat_difficulty", "repeated_difficulty",
    *MAPS, "predicted_area", "predicted_boundary_length", "constant",
    "true_difficulty",
]  # fmt: skip


def sampled(times: int) -> dict[str, Any]:
    return {"class_path": "acquisition.predictors.MCDropout", "init_args": {"num_samples": times}}


def write_config(path: Path) -> Path:
    settings: dict[str, Any] = yaml.safe_load(yaml.safe_dump(TINY))
    settings |= {"cycles": 1, "members": {"predictor": sampled(3), "at_once": 1, "retries": 0, "groups": "[^0-9]*.."}}
    settings["model"]["init_args"]["network"]["init_args"]["num_classes"] = 1
    settings["data"] = {
        "source": {
            "class_path": "datamodules.sources.synthetic_annotators.SyntheticAnnotators",
            "init_args": {"num_images": 12, "size": [32, 32], "annotators": PEOPLE, "repeats": True, "folds": 2},
        },
        "batch_size": 4,
    }
    settings["trainer"] |= {"max_epochs": -1, "max_steps": 5, "check_val_every_n_epoch": None, "val_check_interval": 2}
    path.write_text(yaml.safe_dump(settings))
    return path


def train_here(config: Path, run_dir: Path) -> None:
    """The jobs of an ensemble in this process: starting one of its own for each takes seconds."""
    source = SyntheticAnnotators(num_images=12, size=(32, 32), annotators=PEOPLE, folds=2)
    run_dir.mkdir(parents=True, exist_ok=True)
    shutil.copy(config, run_dir / "config.yaml")
    for job in member_jobs(run_dir, Members(), source):
        cli.main(list(job.arguments))
        assert job.finished.is_file()
    (run_dir / "config.yaml").unlink()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config, and a run directory whose members are trained and whose images are predicted."""
    folder = tmp_path_factory.mktemp("ensemble")
    config = write_config(folder / "tiny.yaml")
    train_here(config, folder / "run")
    cli.main(["difficulty", "--config", str(config), "--run_dir", str(folder / "run")])
    return config, folder / "run"


def test_members_start_alike_and_see_their_annotator_outside_their_fold(trained: tuple[Path, Path]) -> None:
    _, run_dir = trained
    whole = SyntheticAnnotators(num_images=12, size=(32, 32), annotators=PEOPLE, folds=2)
    for fold in range(2):
        expected = {i for i in whole.all_images() if whole.fold_of(i) != fold}
        finals = []
        for name in (*PEOPLE, "majority"):
            own = RunDirectory(run_dir).member(name, fold).path
            assert set(Ledger(own / "ledger.sqlite").labelled()) == expected
            settings = yaml.safe_load((own / "config.yaml").read_text())
            assert settings["data"]["source"]["init_args"]["annotator"] == name
            assert settings["wandb"]["group"] == "run"
            assert settings["wandb"]["name"] == f"{name}-fold-{fold}"
            saved = torch.load(own / "cycles" / "00" / "last.ckpt", weights_only=True)
            assert saved["global_step"] == 5
            finals.append(saved["state_dict"]["network.fc6.0.weight"])
        # five small steps from one starting point: near each other, but not the same
        assert not torch.equal(finals[0], finals[1])
        assert (finals[0] - finals[1]).abs().max() < 0.2


def test_predictions_hold_what_their_readers_expect(trained: tuple[Path, Path]) -> None:
    _, run_dir = trained
    whole = SyntheticAnnotators(num_images=12, size=(32, 32), annotators=PEOPLE, folds=2, repeats=True)
    table = pd.read_csv(run_dir / "images.csv").set_index("image", drop=False)
    assert list(table.columns) == COLUMNS
    assert len(table) == 12
    for image_id in whole.all_images():
        row = table.loc[image_id]
        with np.load(run_dir / "predictions" / f"{image_id}.npz") as stored:
            assert stored["image"].shape == (32, 32, 3)
            assert np.abs(stored["image"].astype(int) - whole.read_image(image_id)).max() <= 1
            assert stored["annotators"].tolist() == stored["members"].tolist() == PEOPLE
            masks = np.stack([whole.read_drawing(image_id, name) for name in PEOPLE])
            assert np.array_equal(stored["masks"], masks)
            np.testing.assert_allclose(stored["annotator_variance"], variance_map(masks), atol=1e-6)
            outputs = stored["member_probabilities"]
            assert outputs.shape == (2, 32, 32)
            assert outputs.dtype == np.float16
            spread = outputs.astype(float).var(axis=0, ddof=1)
            np.testing.assert_allclose(stored["ensemble_variance"], spread, atol=2e-3)
            for name in MAPS:
                assert stored[name].dtype == np.float32
                assert row[name] == pytest.approx(stored[name].sum(dtype=float), rel=1e-6)
            mean = stored["mean"].astype(float)
            np.testing.assert_allclose(stored["total"], mean * (1 - mean), atol=1e-5)
            assert row["predicted_area"] == (mean > 0.5).sum()
        assert row["difficulty"] == pytest.approx(variance_map(masks).sum())
        again = np.stack(list(whole.repeats(image_id).values()))
        assert row["repeat_difficulty"] == pytest.approx(variance_map(again).sum())
        assert row["true_difficulty"] == pytest.approx(whole.true_difficulty(image_id))
        assert row["repeated_difficulty"] == row["difficulty"]
        assert row["fold"] == whole.fold_of(image_id)
        assert row["group"] == image_id[: len(row["group"])]
    people = pd.read_csv(run_dir / "annotators.csv").set_index("annotator")
    assert people.index.tolist() == PEOPLE
    assert people["images"].tolist() == [12, 12]
    # beside one other person: who dilates draws larger than who does not
    assert people.loc["dilates_much", "area_ratio"] > 0 > people.loc["careful", "area_ratio"]
    assert people["within_iou"].between(0.5, 1).all()
    networks = pd.read_csv(run_dir / "networks.csv")
    assert networks["network"].tolist() == [*PEOPLE, "majority"] * 2
    assert networks.groupby("network")["images_majority"].sum().tolist() == [12] * 3
    assert networks["iou_with_own"].notna().tolist() == [True, True, False] * 2
    for fold, rows in networks.groupby("fold"):
        scores = []
        for image_id in table.index[table["fold"] == fold]:
            with np.load(run_dir / "predictions" / f"{image_id}.npz") as stored:
                drawn, own = stored["member_probabilities"][1] > 0.5, stored["masks"][1] == 1
            scores.append((drawn & own).sum() / (drawn | own).sum())
        assert rows["iou_with_own"].iloc[1] == pytest.approx(np.mean(scores))


def test_predictions_go_on_where_they_were_cut(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config, run_dir = trained
    monkeypatch.setattr("reports.difficulty.compare", lambda run_dir: None)
    table = (run_dir / "images.csv").read_text()
    files = sorted((run_dir / "predictions").glob("*.npz"))
    contents = [dict(np.load(f)) for f in files]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    (run_dir / "images.csv").unlink()
    kept = files[2].stat().st_mtime_ns
    cli.main(["difficulty", "--config", str(config), "--run_dir", str(run_dir)])
    assert files[2].stat().st_mtime_ns == kept, "what is there is not predicted again"
    # fewer images in a batch, so sums round in another order
    for file, before in zip(files, contents, strict=True):
        with np.load(file) as stored:
            for name in MAPS:
                np.testing.assert_allclose(stored[name], before[name], atol=1e-5)
    again = pd.read_csv(run_dir / "images.csv")
    before = pd.read_csv(io.StringIO(table))
    pd.testing.assert_frame_equal(again, before, rtol=1e-3)


def test_other_weights_or_samples_are_predicted_again(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run_dir = trained
    monkeypatch.setattr("reports.difficulty.compare", lambda run_dir: None)
    file = next((run_dir / "predictions").glob("*.npz"))
    before = str(np.load(file)["made_by"])
    command = ["difficulty", "--config", str(config), "--run_dir", str(run_dir)]
    cli.main([*command, "--members.predictor.num_samples", "4"])
    assert str(np.load(file)["made_by"]) != before
    cli.main(command)
    assert str(np.load(file)["made_by"]) == before


def test_a_mask_that_was_corrected_is_measured_again(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run_dir = trained
    monkeypatch.setattr("reports.difficulty.compare", lambda run_dir: None)
    corrected = SyntheticAnnotators(num_images=12, size=(32, 32)).all_images()[0]
    before = pd.read_csv(run_dir / "images.csv").set_index("image")["difficulty"]
    drawn = SyntheticAnnotators.read_drawing

    def read(self: SyntheticAnnotators, image_id: str, annotator: str) -> np.ndarray:
        mask = drawn(self, image_id, annotator)
        return 1 - mask if (image_id, annotator) == (corrected, PEOPLE[0]) else mask

    command = ["difficulty", "--config", str(config), "--run_dir", str(run_dir)]
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticAnnotators, "read_drawing", read)
        cli.main(command)
    after = pd.read_csv(run_dir / "images.csv").set_index("image")["difficulty"]
    assert after.index[after != before].tolist() == [corrected]
    cli.main(command)


def test_a_network_that_trained_on_an_image_may_not_predict_it(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run_dir = trained
    copied = tmp_path / "run"
    shutil.copytree(run_dir / "members", copied / "members")
    ledgers = [RunDirectory(copied).member("careful", fold).ledger for fold in (0, 1)]
    ledgers[0].write_bytes(ledgers[1].read_bytes())
    with pytest.raises(SystemExit):
        cli.main(["difficulty", "--config", str(config), "--run_dir", str(copied)])
    assert "'careful' for fold 0 trained on" in capsys.readouterr().err
    assert not (copied / "predictions").exists()


def test_a_member_that_is_not_trained_is_named(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run_dir = trained
    copied = tmp_path / "run"
    shutil.copytree(run_dir / "members", copied / "members")
    RunDirectory(copied).member("majority", 1).cycle(0).metrics.unlink()
    with pytest.raises(SystemExit):
        cli.main(["difficulty", "--config", str(config), "--run_dir", str(copied)])
    assert "'majority' for fold 1 is not trained yet" in capsys.readouterr().err


def test_a_killed_member_goes_on_and_a_failed_one_costs_the_others_nothing(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, finished = trained
    run_dir = tmp_path / "run"
    shutil.copytree(finished / "members", run_dir / "members")
    (run_dir / "config.yaml").write_text((finished / "config.yaml").read_text().replace(str(finished), str(run_dir)))
    killed, broken = (RunDirectory(run_dir).member(*m).path for m in (("careful", 0), ("majority", 1)))
    expected = torch.load(killed / "cycles" / "00" / "last.ckpt", weights_only=True)["state_dict"]
    shutil.rmtree(killed)
    shutil.rmtree(broken)
    broken.write_text("a file where a folder must be")
    command = ["ensemble", "--config", str(config), "--run_dir", str(run_dir)]
    source = SyntheticAnnotators(num_images=12, size=(32, 32), annotators=PEOPLE, folds=2)
    (job,) = (j for j in member_jobs(run_dir, Members(), source) if j.run_dir == killed)
    monkeypatch.setattr(trainer_options, "StepSeed", Crash)
    monkeypatch.setattr(Crash, "step", 3)
    with pytest.raises(RuntimeError, match="crashed"):
        cli.main(list(job.arguments))
    monkeypatch.undo()
    assert torch.load(killed / "cycles" / "00" / "last.ckpt", weights_only=True)["global_step"] == 2
    # as many threads as this process has: sums in another order round to other weights
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))

    untouched = RunDirectory(run_dir).member("dilates_much", 0).cycle(0).metrics
    before = untouched.stat().st_mtime_ns
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "6 jobs: 1 finished, 4 skipped, 1 failed" in said
    assert "majority-fold-1.log" in said
    assert untouched.stat().st_mtime_ns == before, "what is finished is not done again"
    got = torch.load(killed / "cycles" / "00" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(weights, got[name]) for name, weights in expected.items())


def test_row_of_an_image_of_three_classes() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, size=(3, 8, 9))
    mean = rng.dirichlet(np.ones(3), size=(8, 9)).transpose(2, 0, 1)
    stored = {
        "masks": masks,
        "annotators": np.array(list("abc")),
        "mean": mean,
        **{name: rng.random((8, 9)) for name in MAPS},
    }
    row = image_row(stored, {}, 3)
    assert row["predicted_area"] == (mean.argmax(axis=0) > 0).sum()
    assert row["difficulty"] == pytest.approx(variance_map(masks, 3).sum())
    assert np.isnan(row["repeat_difficulty"])
    assert row["krippendorff_alpha"] == pytest.approx(
        krippendorff.alpha(reliability_data=masks.reshape(3, -1), level_of_measurement="nominal")
    )


def test_second_drawings_are_held_against_the_same_peoples_first() -> None:
    rng = np.random.default_rng(0)
    masks, again = rng.integers(0, 2, size=(2, 3, 8, 9))
    stored = {"masks": masks, "annotators": np.array(list("abc")), "mean": rng.random((8, 9))}
    stored |= {name: rng.random((8, 9)) for name in MAPS}
    repeats = {"a": again[0], "c": again[2]}
    row = image_row(stored, repeats, 2)
    assert row["repeat_difficulty"] == pytest.approx(again[[0, 2]].var(axis=0, ddof=1).sum())
    assert row["repeated_difficulty"] == pytest.approx(masks[[0, 2]].var(axis=0, ddof=1).sum())
    people = annotator_rows(stored, repeats, 2)
    assert [p["annotator"] for p in people] == ["a", "b", "c"]
    assert people[0]["within_iou"] == pytest.approx((masks[0] & again[0]).sum() / (masks[0] | again[0]).sum())
    assert np.isnan(people[1]["within_iou"])
    others = masks[0] & masks[2]
    assert people[1]["area_ratio"] == pytest.approx(masks[1].sum() / others.sum() - 1)


def test_networks_against_people_by_hand() -> None:
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[1, 0, 0, 0]]])
    outputs = np.array([[[0.9, 0.8, 0.7, 0.1]], [[0.9, 0.2, 0.1, 0.6]]])
    stored = {"masks": masks, "annotators": np.array(list("abc")), "members": np.array(["b", "z"])}
    stored |= {"member_probabilities": outputs, "mean": np.array([[0.9, 0.6, 0.2, 0.1]])}
    # the majority draws the first two pixels
    b, z, majority = network_rows(stored, "majority", 2)
    assert b == {"network": "b", "iou_with_own": 1, "iou_with_majority": pytest.approx(2 / 3)}
    assert (z["network"], z["iou_with_majority"]) == ("z", pytest.approx(1 / 3))
    assert np.isnan(z["iou_with_own"]), "z did not draw this image"
    assert (majority["network"], majority["iou_with_majority"]) == ("majority", 1)
    assert [r["network"] for r in network_rows(stored, "b", 2)] == ["b", "z"]


def test_groups_are_found_in_names() -> None:
    assert Members().group("ds1_b24") is None
    assert Members(groups="[^_]+").group("ds1_b24") == "ds1"
    assert Members(groups=".*_(.)").group("ds1_b24") == "b"
    source = SyntheticAnnotators(num_images=4, size=(32, 32), annotators=PEOPLE, folds=2)
    for groups in ("ds", "(x)?", ""):
        with pytest.raises(DataError, match=r"expected members.groups .* got none for .*; change the expression"):
            member_jobs(Path("run"), Members(groups=groups), source)
    with pytest.raises(ValueError, match=r"members.groups must be a regular expression .* got '\('"):
        Members(groups="(")


def test_mistakes_are_said(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="at least two annotators, got a"):
        Members(names=["a", "majority"]).annotators(["a", "b"])
    with pytest.raises(DataError, match="'c'"):
        Members(single="c").networks(["a", "b"])
    for changes, words in (
        ([], "expected --cycles 1"),
        (["--cycles", "1"], "expected data.source with several annotators"),
        (["--cycles", "1", "--initial_models", str(tmp_path)], "members share no initial model"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["ensemble", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), *changes])
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["ensemble", "difficulty"])
def test_parts_of_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    config = write_config(tmp_path / "tiny.yaml")
    cells = ["--data.partition", "Grid", "--data.partition.height", "16", "--data.partition.width", "16"]
    with pytest.raises(SystemExit):
        cli.main([verb, "--config", str(config), "--run_dir", str(tmp_path / "run"), *cells])
    assert "expected data.partition WholeImages, got Grid; leave out" in capsys.readouterr().err


def test_jobs_are_named_for_people_with_any_name(tmp_path: Path) -> None:
    class Two:
        annotators = ("Anna K.", "Bo")
        folds = 2

    jobs = member_jobs(tmp_path / "study", Members(), Two(), None)  # type: ignore[arg-type]
    assert [j.name for j in jobs[:3]] == ["Anna_K_-fold-0", "Bo-fold-0", "majority-fold-0"]
    assert "Anna K." in jobs[0].arguments
    assert jobs[0].run_dir == tmp_path / "study" / "members" / "Anna K." / "fold-0"
    assert len({j.run_dir for j in jobs}) == 6
