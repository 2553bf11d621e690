"""Labels that came without a query, drawings that a review rejects, and what status says meanwhile."""

import fcntl
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import cli
from datamodules.sources.folder import Folder
from records.ledger import Ledger
from tests.conftest import TINY

Said = pytest.CaptureFixture[str]


class Team:
    """A folder of 20 images, and people who draw; `fit` and the other verbs in this process."""

    def __init__(self, path: Path, fake_pair: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
        self.root, self.drawn, self.run_dir, self.config = (path / n for n in ("mine", "drawn", "run", "mine.yaml"))
        (self.root / "images").mkdir(parents=True)
        self.drawn.mkdir()
        self.masks = {}
        for i in range(20):
            image, self.masks[f"im{i:02d}"] = fake_pair(i, classes=3)
            Image.fromarray(image).save(self.root / "images" / f"im{i:02d}.png")
        (self.root / "classes.txt").write_text("dark\nmiddle\nbright\n")
        model = yaml.safe_load(yaml.safe_dump(TINY["model"]))
        model["init_args"]["network"]["init_args"]["num_classes"] = 3
        data = {
            "source": {"class_path": "datamodules.sources.folder.Folder", "init_args": {"root": str(self.root)}},
            "oracle": {"class_path": "datamodules.oracle.FolderOracle", "init_args": {"folder": str(self.drawn)}},
            "batch_size": 4,
        }
        trainer = {**TINY["trainer"], "max_epochs": 1}
        settings = {**TINY, "model": model, "data": data, "trainer": trainer, "run_dir": str(self.run_dir)}
        self.config.write_text(yaml.safe_dump(settings | {"cycles": 2}))
        self.train = list(Folder(str(self.root)).images("train"))
        self.draw(Folder(str(self.root)).undrawn())

    def draw(self, names: Sequence[str]) -> None:
        for name in names:
            Image.fromarray(self.masks[name]).save(self.drawn / f"{name}.png")

    def fit(self, *more: str) -> None:
        cli.main(["fit", "--config", str(self.config), *more])

    def review(self, *events: str) -> None:
        """Events as "unit annotator state by"."""
        path = self.run_dir.parent / "events.csv"
        path.write_text("unit_id,annotator,state,by\n" + "".join(f"{e.replace(' ', ',')}\n" for e in events))
        cli.main(["review", "--run_dir", str(self.run_dir), "--events", str(path)])

    def reject(self, unit_id: str) -> None:
        self.review(f"{unit_id} ann assigned boss", f"{unit_id} ann annotated ann", f"{unit_id} ann rejected bob")

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.run_dir / "ledger.sqlite")

    @property
    def queried(self) -> list[str]:
        return pd.read_csv(self.run_dir / "cycles" / "00" / "queried.csv")["unit_id"].tolist()

    @property
    def curve(self) -> list[int]:
        return pd.read_csv(self.run_dir / "learning_curve.csv")["labelled_units"].tolist()


@pytest.fixture(autouse=True)
def without_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than these fits."""
    monkeypatch.setitem(cli.REPORTS, "curve", "reports.learning_curve:write_curve")


@pytest.fixture
def team(tmp_path: Path, fake_pair: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Team:
    return Team(tmp_path, fake_pair)


@pytest.fixture
def waiting(team: Team) -> Team:
    """A team whose run has labelled 5 units, fitted them and asked for 4 more."""
    team.draw(team.train[:5])
    team.fit()
    return team


def refused(capsys: Said, *command: object) -> str:
    with pytest.raises(SystemExit):
        cli.main(list(map(str, command)))
    return capsys.readouterr().err


def said(capsys: Said, run_dir: Path) -> str:
    capsys.readouterr()
    cli.main(["status", "--run_dir", str(run_dir)])
    return capsys.readouterr().out


def test_what_was_drawn_unasked_is_labelled_all_or_none(waiting: Team, capsys: Said) -> None:
    label = ["label", "--run_dir", str(waiting.run_dir)]
    unasked = [u for u in waiting.train[5:] if u not in waiting.queried]
    assert "cannot be labelled: it has no mask yet" in refused(capsys, *label, unasked[0])
    waiting.draw(unasked[:1])
    for units, words in (
        (unasked[:2], f"'{unasked[1]}' cannot be labelled: it has no mask yet; draw their masks"),
        ([unasked[0], "nothing"], "expected units of the train split of Folder"),
        ([unasked[0], waiting.train[0]], f"'{waiting.train[0]}' is labelled already in"),
        ([unasked[0], waiting.queried[1]], f"'{waiting.queried[1]}' was queried in cycle 0 and is waited for"),
        ([unasked[0], unasked[0]], "twice; name it once"),
        ([unasked[0], Folder(str(waiting.root)).undrawn()[0]], "is held out for validation"),
        ([], "units"),
    ):
        assert words in refused(capsys, *label, *units)
        assert len(waiting.ledger.labelled()) == 5
    waiting.draw(unasked[1:2])
    cli.main([label[0], unasked[0], *label[1:], unasked[1]])
    out = capsys.readouterr().out
    assert "2 labelled, 7 in all" in out
    assert waiting.ledger.labelled()[5:] == unasked[:2]
    assert waiting.ledger.waiting(0) == waiting.queried
    waiting.draw(waiting.queried)
    # the command that label names
    cli.main(out.splitlines()[-1].split()[1:])
    assert waiting.curve == [5, 11]
    # and the one that it names where all fits are done
    last = next(u for u in waiting.train if u not in waiting.ledger.labelled())
    waiting.draw([last])
    capsys.readouterr()
    cli.main([*label, last])
    assert capsys.readouterr().out.splitlines()[-1].endswith(" --cycles 3")


def test_before_a_run_has_begun_there_is_nothing_to_add_to(team: Team, tmp_path: Path, capsys: Said) -> None:
    label = ["label", "--run_dir", team.run_dir, team.train[0]]
    assert "expected the settings of a run at" in refused(capsys, *label)
    refused(capsys, "fit", "--config", team.config)
    assert "nothing is labelled yet in" in refused(capsys, *label)
    assert "not begun" not in said(capsys, team.run_dir)


def test_a_rejected_drawing_leaves_the_next_fit_and_a_corrected_one_comes_back(waiting: Team, capsys: Said) -> None:
    bad, late = waiting.train[0], waiting.queried[0]
    before = waiting.ledger.events()
    waiting.draw(waiting.queried)
    waiting.reject(bad)
    waiting.reject(late)
    waiting.fit()
    # a queried unit whose drawing was rejected waits for its correction
    assert waiting.ledger.waiting(0) == [late]
    assert waiting.ledger.events()[: len(before)] == before, "nothing of the history is written anew"
    report = said(capsys, waiting.run_dir)
    assert f"7 units to train on; 1 rejected in review and left out until corrected: {bad}" in report
    assert "ann: 1 to correct" in report
    assert "correct what was rejected, then dropquery review" in report
    waiting.review(f"{late} ann corrected ann")
    waiting.fit()
    assert waiting.curve == [5, 8]
    pixels = pd.read_csv(waiting.run_dir / "learning_curve.csv")["labelled_pixels"]
    assert pixels.tolist() == [5 * 24 * 32, 8 * 24 * 32]
    assert len(waiting.ledger.labelled()) == 9
    waiting.review(f"{bad} ann corrected ann", f"{bad} ann accepted bob")
    waiting.masks[bad] = 2 - waiting.masks[bad]
    waiting.draw([bad])
    waiting.fit("--cycles", "3")
    waiting.draw(pd.read_csv(waiting.run_dir / "cycles" / "01" / "queried.csv")["unit_id"].tolist())
    waiting.fit("--cycles", "3")
    assert waiting.curve == [5, 8, 13]


def test_a_fit_that_was_cut_begins_anew_where_its_labels_have_changed(
    team: Team, capsys: Said, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, (kept, bad) = team.run_dir / "cycles" / "00" / "metrics.json", team.train[:2]
    team.draw([kept, bad])

    def cut_and_fitted_again() -> tuple[bool, int]:
        """Whether the fit begins anew after a kill just before its end, and on how many units."""
        metrics.unlink(missing_ok=True)
        caplog.clear()
        team.fit("--cycles", "1")
        anew = "what is labelled has changed since its fit began" in caplog.text
        return anew, json.loads(metrics.read_text())["labelled_units"]

    assert cut_and_fitted_again() == (False, 2)
    assert cut_and_fitted_again() == (False, 2)
    team.reject(bad)
    assert cut_and_fitted_again() == (True, 1)
    team.review(f"{bad} ann corrected ann")
    assert cut_and_fitted_again() == (True, 2)
    team.review(f"{bad} ann rejected bob")
    team.reject(kept)
    metrics.unlink()
    assert "every labelled unit was rejected in review" in refused(capsys, "fit", "--config", team.config)


def test_status_of_a_run_at_every_step(team: Team, capsys: Said) -> None:
    refused(capsys, "fit", "--config", team.config)
    report = said(capsys, team.run_dir)
    assert "nothing is labelled yet" in report
    assert f"dropquery start --config {team.run_dir}/config.yaml --run_dir {team.run_dir}" in report
    cli.main(["start", "--config", str(team.config), "--spread", "random", "--count", "5"])
    assert "start.csv lists 5 to draw for training, 0 for validation" in said(capsys, team.run_dir)
    team.draw(pd.read_csv(team.run_dir / "start.csv")["unit_id"].tolist())
    team.fit()
    report = said(capsys, team.run_dir)
    for words in (
        "waits for people",
        "0 is open; 1 of 2 fits are done",
        "5 units to train on\n",
        f"{len(team.train) - 5} units are not labelled, of which 4 are queried",
        "4 in cycle 0: 0 labelled, 4 wait",
        f"0 have a drawing in {team.drawn}",
        "too early to tell",
        f"draw masks as {team.drawn}/IMAGE_ID.png, for each of {team.run_dir}/cycles/00/queried.csv",
    ):
        assert words in report
    team.review(f"{team.queried[0]} ann assigned boss", f"{team.queried[1]} eve assigned boss")
    team.draw(team.queried)
    report = said(capsys, team.run_dir)
    assert "ann: 1 to draw" in report
    assert "eve: 1 to draw" in report
    assert "2 assigned to nobody" in report
    assert "4 have a drawing" in report
    fit = report.rpartition("Next:")[2].strip()
    assert fit == f"dropquery fit --config {team.run_dir}/config.yaml --run_dir {team.run_dir}"

    with (team.run_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = said(capsys, team.run_dir)
    assert "at work, in another process: cycle 0, step" in report
    assert "nothing: it is at work" in report

    cli.main(fit.split()[1:])
    report = said(capsys, team.run_dir)
    assert "finished\n" in report
    assert f"{fit} --cycles 3   (to go on)" in report
    metrics = team.run_dir / "cycles" / "01" / "metrics.json"
    kept = metrics.read_text()
    metrics.unlink()
    assert "interrupted in the fit of cycle 1: cycle 1, step" in said(capsys, team.run_dir)
    metrics.write_text(kept)
    stopped = {"cycle": 1, "criterion": "Budget", "reason": "9 units are labelled and the budget is 9"}
    (team.run_dir / "stopped.json").write_text(json.dumps(stopped))
    report = said(capsys, team.run_dir)
    assert "stopped after cycle 1 by Budget: 9 units are labelled and the budget is 9" in report
    assert "--stop null   (to go on)" in report
