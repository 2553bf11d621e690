"""Queries by features, by truth and by other networks, from the command line on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cli
from acquisition.greedy import k_center
from callbacks.query import QueryCallback
from records.ledger import Ledger
from records.shards import Shards
from tests.conftest import TINY, TINY_DIGITS

CORE_SET = ["--strategy.acquisition", "Random", "--strategy.selection", "acquisition.batch.CoreSet"]


def fit(config: Path, run_dir: Path, *arguments: str) -> None:
    cli.main(["fit", "--config", str(config), "--run_dir", str(run_dir), "--cycles", "2", *arguments])


def table(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "cycles" / "00" / "scores.parquet")


def strategies(run_dir: Path) -> set[str]:
    return {e.strategy for e in Ledger(run_dir / "ledger.sqlite").events() if e.kind == "queried"}


def test_features_of_several_processes_become_one_array(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "shards", "one")
    shards.open()
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    # what rank 1 and rank 0 have written, in whatever order
    shards.add(4, ["b", "d"], [0, 0], [0, 0], {"embedding": rows[[1, 3]]})
    shards.add(4, ["a", "c", "e"], [0, 0, 0], [0, 0, 0], {"embedding": rows[[0, 2, 4]]})
    shards.add(8, ["a"], [0], [0], {"embedding": rows[[4]]})
    merged = shards.features(4, "embedding", ["e", "d", "a", "b"])
    assert isinstance(merged, np.memmap)
    assert merged.tolist() == rows[[4, 3, 0, 1]].tolist()
    with pytest.raises(ValueError, match="1 units have no embedding"):
        shards.features(4, "embedding", ["a", "f"])
    # killed between features and table
    (tmp_path / "shards" / "T4-torn.embedding.npy").write_bytes(b"half")
    assert shards.features(4, "embedding", list("abcde")).tolist() == rows.tolist()


def test_a_disk_that_cannot_hold_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(tmp_path, "one")
    shards.open()
    shards.add(1, ["a"], [0], [0], {"embedding": np.zeros((1, 500), dtype=np.float32)})
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1999})())
    with pytest.raises(OSError, match=r"features of 1 units take 0\.0 GB beside.*set strategy\.selection\.candidates"):
        shards.features(1, "embedding", ["a"])


def test_core_set_takes_the_farthest_from_what_is_labelled(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray, list[int]]] = []

    def watched(embeddings: np.ndarray, labelled: np.ndarray, count: int) -> list[int]:
        chosen = k_center(embeddings, labelled, count)
        seen.append((np.array(embeddings), np.array(labelled), chosen))
        return chosen

    monkeypatch.setattr("acquisition.batch.k_center", watched)
    fit(tiny_config, tmp_path / "run", *CORE_SET)
    ((embeddings, labelled, chosen),) = seen
    # 24 images, 5 labelled; fc7 of width 0.03 has 123 channels
    assert embeddings.shape == (19, 123)
    assert labelled.shape == (5, 123)
    assert len(chosen) == 4
    assert (embeddings.std(axis=0) > 0).any()
    scores = table(tmp_path / "run")
    assert scores["selected"].sum() == 4
    assert scores["rank"].tolist() == list(range(1, 20))
    assert not scores["score"].is_monotonic_decreasing, "scores did not choose"
    assert strategies(tmp_path / "run") == {"Random-Mean-CoreSet"}
    assert not (tmp_path / "run" / "cycles" / "00" / "shards").exists()


def test_a_query_by_features_goes_on_where_it_was_cut(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tiny_config, tmp_path / "whole", *CORE_SET)
    monkeypatch.setattr("callbacks.scored._FLUSH_SECONDS", -1)  # write every batch down
    asked: list[str] = []
    alive = [3, 6]  # batches until the power fails: in the pool, then among the labelled units
    real = QueryCallback._batches

    def dies(self: QueryCallback, *args: object) -> object:
        for number, (batch, regions) in enumerate(real(self, *args)):
            if alive and number + len(asked) // 4 >= alive[0]:
                alive.pop(0)
                raise OSError("power cut")
            asked.extend(regions.unit_ids)
            yield batch, regions

    monkeypatch.setattr(QueryCallback, "_batches", dies)
    for _ in range(2):
        with pytest.raises(SystemExit):
            fit(tiny_config, tmp_path / "cut", *CORE_SET)
    fit(tiny_config, tmp_path / "cut", *CORE_SET)
    assert not alive
    assert len(asked) == len(set(asked)) == 24, "every unit was embedded once"
    pd.testing.assert_frame_equal(table(tmp_path / "whole"), table(tmp_path / "cut"))


def test_a_batch_strategy_for_classified_images_is_refused_before_training(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for selection, acquisition in (("BatchBALD", "BALD"), ("BADGE", "Entropy")):
        with pytest.raises(SystemExit):
            fit(
                tiny_config, tmp_path / selection,
                "--strategy.acquisition", acquisition, "--strategy.selection", f"acquisition.batch.{selection}",
            )  # fmt: skip
        assert "needs one prediction per unit, N x C, got N x 5 x 32 x 48" in capsys.readouterr().err
        assert not (tmp_path / selection / "cycles" / "00" / "last.ckpt").exists()


def test_an_oracle_strategy_sees_the_truth_and_says_so(ask: Callable[..., Path]) -> None:
    run = ask("run", "--strategy.acquisition", "acquisition.truth.LowestMIoU")
    scores = table(run)["score"]
    assert scores.between(0, 1).all()
    assert scores.nunique() > 10
    assert strategies(run) == {"oracle:LowestMIoU-TopK"}


def test_people_are_no_oracle_to_look_at(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], save_image: Callable[..., Path]
) -> None:
    oracle = ["--data.oracle", "datamodules.oracle.FolderOracle", "--data.oracle.folder", str(tmp_path / "masks")]
    run = tmp_path / "run"
    for number in range(5):
        save_image(tmp_path / "masks" / f"train_{number:06d}.png", np.zeros((32, 48), dtype=np.uint8))
    with pytest.raises(SystemExit):
        fit(tiny_config, run, *oracle, "--strategy.acquisition", "acquisition.truth.Incorrect")
    error = capsys.readouterr().err
    assert "expected data.oracle HiddenTruth, got FolderOracle" in error
    assert not (run / "cycles" / "00" / "last.ckpt").exists()


def test_an_ensemble_and_an_expert_from_other_fits(
    ask: Callable[..., Path], trained: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (str(trained({**TINY, "seed_everything": seed})) for seed in (1, 2))
    # no dropout: an ensemble needs none
    ensemble = ["--strategy.predictor", "Ensemble", "--strategy.predictor.checkpoints"]
    run = ask("ensemble", *ensemble, f'["{one}", "{two}"]', "--model.network.dropout", "0")
    assert strategies(run) == {"Ensemble(BALD)-Mean-TopK"}
    assert (table(run)["score"] > 0).all()
    expert = ["--strategy.acquisition", "Expert", "--strategy.acquisition.acquisition", "Entropy"]
    run = ask("expert", *expert, "--strategy.acquisition.checkpoint", one)
    assert strategies(run) == {"oracle:Expert(Entropy)-Mean-TopK"}
    with pytest.raises(SystemExit):
        ask("none", *ensemble, '["nowhere/{cycle}.ckpt"]')
    assert "expected checkpoints at nowhere/0.ckpt, got none" in capsys.readouterr().err


def test_features_are_written_when_they_grow_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_config: Path
) -> None:
    monkeypatch.setattr("callbacks.scored._FLUSH_BYTES", 1)
    written: list[int] = []
    real = Shards.add

    def counted(self: Shards, samples: int, unit_ids: list[str], *rest: object) -> None:
        written.append(len(unit_ids))
        real(self, samples, unit_ids, *rest)

    monkeypatch.setattr(Shards, "add", counted)
    fit(tiny_config, tmp_path / "run", *CORE_SET)
    assert written == [4, 4, 4, 4, 3, 4, 1]


@pytest.mark.parametrize(
    ("acquisition", "selection", "strategy"),
    [
        ("BALD", "acquisition.batch.BatchBALD", "BALD-Mean-BatchBALD"),
        ("Entropy", "acquisition.batch.BADGE", "Entropy-Mean-BADGE"),
        ("Random", "acquisition.batch.CoreSet", "Random-Mean-CoreSet"),
        ("acquisition.truth.Incorrect", "TopK", "oracle:Incorrect-TopK"),
        ("acquisition.truth.TrueClassLoss", "TopK", "oracle:TrueClassLoss-TopK"),
    ],
)
def test_classified_images(acquisition: str, selection: str, strategy: str, ask: Callable[..., Path]) -> None:
    chosen = ["--strategy.acquisition", acquisition, "--strategy.selection", selection]
    run = ask("run", *chosen, settings=TINY_DIGITS)
    assert strategies(run) == {strategy}
    scores = table(run)
    if acquisition.endswith("Incorrect"):
        assert set(scores["score"]) == {0.0, 1.0}
        assert scores["score"].is_monotonic_decreasing
    if selection.endswith("BatchBALD"):
        assert scores["unit_id"][0] == scores.loc[scores["score"].idxmax(), "unit_id"], "BALD's choice comes first"
