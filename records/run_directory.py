"""The run directory: every file that a run leaves behind is named here, once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from records.files import read_metrics, replacing, write_json, write_table

__all__ = ["CycleDirectory", "RunDirectory"]


@dataclass(frozen=True)
class CycleDirectory:
    """The files of one cycle. Properties are paths, whether or not the files exist.

    Args:
        path: RUN/cycles/NN, or the folder of an initial model that several runs share.
        number: The cycle, from 0.
    """

    path: Path
    number: int = 0

    @property
    def best(self) -> Path:
        """Weights of the fit's best validation (of the last one with `monitor: last`)."""
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        """Everything that an interrupted fit needs to go on."""
        return self.path / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """Number of labels and metrics of the fit; written last, so its presence means that the fit is done."""
        return self.path / "metrics.json"

    @property
    def stop_set(self) -> Path:
        """Classes that the best weights predict for the validation images, for stopping criteria."""
        return self.path / "stop_set.npy"

    @property
    def shards(self) -> Path:
        """Folder of the tables of scores of a query in progress (`records.shards`)."""
        return self.path / "shards"

    @property
    def race(self) -> Path:
        """The number of MC samples that a race has saved."""
        return self.path / "race.json"

    @property
    def scores(self) -> Path:
        """The ranked pool: unit_id, score, rank, selected."""
        return self.path / "scores.parquet"

    @property
    def scores_csv(self) -> Path:
        """Name and score of every scored unit, for annotation platforms."""
        return self.path / "scores.csv"

    @property
    def queried(self) -> Path:
        """The queried units, for people and annotation platforms."""
        return self.path / "queried.csv"

    @property
    def regions(self) -> Path:
        """Folder of the queried parts of images, one file per image."""
        return self.path / "regions"

    def region_map(self, image_id: str) -> Path:
        """The queried parts of an image as numbers in the order of rank, from 1; 0 elsewhere."""
        return self.regions / f"{image_id}.png"

    @property
    def polygons(self) -> Path:
        """Outlines of the queried parts of images, for annotation platforms."""
        return self.path / "regions.json"

    @property
    def to_draw(self) -> Path:
        """Folder of the masks that people complete, one file per image."""
        return self.path / "to_draw"

    def template(self, image_id: str) -> Path:
        """An image's mask as far as it is drawn."""
        return self.to_draw / f"{image_id}.png"

    @property
    def maps(self) -> Path:
        """Folder of the pictures of the units with the highest and lowest scores."""
        return self.path / "maps"

    @property
    def gallery(self) -> Path:
        """Folder of the pictures of queried units and of others beside them (`records.gallery`)."""
        return self.path / "gallery"

    @property
    def labelled_classes(self) -> Path:
        """How much of each class the cycle's fit trained on (`callbacks.labelled_classes`)."""
        return self.path / "labelled_classes.csv"

    @property
    def lock(self) -> Path:
        """Lock of the process that trains a shared initial model."""
        return self.path / ".lock"

    @property
    def is_begun(self) -> bool:
        """Whether the cycle has left any file."""
        return self.path.is_dir() and any(self.path.iterdir())

    @property
    def is_fitted(self) -> bool:
        """Whether the cycle's fit is done."""
        return self.metrics.is_file()

    @property
    def is_queried(self) -> bool:
        """Whether the query is done; as long as there are shards, the ledger may lack what is in queried.csv."""
        return self.queried.is_file() and not self.shards.exists()

    def read_metrics(self) -> dict[str, Any]:
        """The cycle's row of the learning curve, or a RunDirectoryError where the file is missing or damaged."""
        return read_metrics(self.metrics)

    def write_metrics(self, row: dict[str, Any]) -> None:
        """Write the cycle's row of the learning curve, which marks the fit as done."""
        write_json(self.metrics, row)

    def read_stop_set(self) -> np.ndarray | None:
        """The classes predicted for the validation images, in the same order every cycle; None if none were kept."""
        return np.load(self.stop_set).astype(np.int64) if self.stop_set.is_file() else None

    def write_stop_set(self, classes: np.ndarray) -> None:
        """Keep the classes predicted for the validation images."""
        with replacing(self.stop_set) as beside:
            np.save(beside, classes)

    def read_scores(self, *columns: str) -> pd.DataFrame:
        """The ranked pool, first choice first: the named columns, or all of them."""
        return pd.read_parquet(self.scores, columns=list(columns) or None)

    def write_scores(self, table: pd.DataFrame) -> None:
        """Write the ranked pool: the columns unit_id, score, rank and selected of a table."""
        with replacing(self.scores) as beside:
            table[["unit_id", "score", "rank", "selected"]].to_parquet(beside, index=False)

    def write_scores_csv(self, table: pd.DataFrame) -> None:
        """Write names and scores."""
        write_table(self.scores_csv, table)

    def write_queried(self, table: pd.DataFrame) -> None:
        """Write the table of queried units."""
        write_table(self.queried, table)


@dataclass(frozen=True)
class RunDirectory:
    """The files of a run. Properties are paths, whether or not the files exist.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Settings of the run."""
        return self.path / "config.yaml"

    @property
    def queries(self) -> Path:
        """Settings of a run that only queries and has never been fitted."""
        return self.path / "query.yaml"

    @property
    def start_list(self) -> Path:
        """What people are to draw before the first fit, for training and for validation (the verb start)."""
        return self.path / "start.csv"

    @property
    def start_parts(self) -> CycleDirectory:
        """Where the listed units are, if they are parts of images: what a query would put beside queried.csv."""
        return CycleDirectory(self.path / "start")

    @property
    def ledger(self) -> Path:
        """What happened to every unit (`records.ledger`), and to every drawing (`records.reviews`)."""
        return self.path / "ledger.sqlite"

    @property
    def lock(self) -> Path:
        """Lock of the process that works in the directory."""
        return self.path / ".lock"

    @property
    def learning_curve(self) -> Path:
        """One row per fitted cycle, derived from the cycles' metrics."""
        return self.path / "learning_curve.csv"

    @property
    def learning_curve_picture(self) -> Path:
        """The learning curve as a figure."""
        return self.path / "learning_curve.png"

    @property
    def progress(self) -> Path:
        """Steps done in the running fit (`callbacks.progress`)."""
        return self.path / "progress.json"

    @property
    def stopped(self) -> Path:
        """The stopping criterion that ended the run, and its reason."""
        return self.path / "stopped.json"

    @property
    def wandb_id(self) -> Path:
        """The id of the run at Weights & Biases."""
        return self.wandb / "run_id"

    @property
    def wandb(self) -> Path:
        """Folder of Weights & Biases, with a folder for each time that the run was started."""
        return self.path / "wandb"

    @property
    def wandb_logged(self) -> Path:
        """What of the cycles has been logged at Weights & Biases."""
        return self.wandb / "logged.json"

    @property
    def wandb_data(self) -> Path:
        """Copies of artifacts' files, which `wandb sync` uploads."""
        return self.wandb / "data"

    @property
    def study(self) -> "RunDirectory | None":
        """The directory of the study whose run this is; None where it is none's."""
        # a run of a study is STUDY/runs/VARIANT/STRATEGY/SEED
        parents = self.path.absolute().parents
        in_study = len(parents) > 3 and parents[2].name == "runs" and RunDirectory(parents[3]).config.is_file()
        return RunDirectory(parents[3]) if in_study else None

    @property
    def predictions(self) -> Path:
        """Folder of the predictions that the verbs predict and difficulty write, one file per image."""
        return self.path / "predictions"

    def prediction(self, unit_id: str) -> Path:
        """An ensemble's predictions for one image, with the annotators' masks."""
        return self.predictions / f"{unit_id}.npz"

    @property
    def pixels(self) -> Path:
        """Folder of what the network says of single pixels, one file per image (`records.pixels`)."""
        return self.path / "pixels"

    def pixel_values(self, image_id: str) -> Path:
        """What the network says of the pixels of one image."""
        return self.pixels / f"{image_id}.npz"

    @property
    def suspects(self) -> Path:
        """Folder of the search for wrong labels (`records.study_directory.SuspectsDirectory`)."""
        return self.path / "suspects"

    @property
    def moons(self) -> Path:
        """What the verb moons found out: points, grids of probabilities and loss curves."""
        return self.path / "moons.csv"

    @property
    def label_maps(self) -> Path:
        """Folder of the label maps of images that were divided by what they show; runs of a study share the study's."""
        return (self.study or self).path / "label_maps"

    def label_map(self, digest: str) -> Path:
        """The label map of an image and of how it was divided, by a hash of both."""
        return self.label_maps / f"{digest}.npz"

    @property
    def label_maps_lock(self) -> Path:
        """Lock of the process that makes label maps."""
        return self.label_maps / ".lock"

    @property
    def label_map_table(self) -> Path:
        """Which label map each image of this run has, and from which pixels it was made."""
        return self.path / "label_maps.json"

    @property
    def images(self) -> Path:
        """Table of images: measured disagreement and its predictors."""
        return self.path / "images.csv"

    @property
    def annotators(self) -> Path:
        """Table of annotators: how each draws, compared with the others."""
        return self.path / "annotators.csv"

    @property
    def networks(self) -> Path:
        """Table of an ensemble's networks: how well each draws images that it was not trained on."""
        return self.path / "networks.csv"

    @property
    def difficulty(self) -> Path:
        """Folder of the report on predicted difficulty."""
        return self.path / "difficulty"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    @property
    def report_page(self) -> Path:
        """The report as a page for a browser, which needs nothing but the folder that it lies in."""
        return self.report / "index.html"

    @property
    def report_strips(self) -> Path:
        """Folder of the small pictures of images on the page of difficulty."""
        return self.report / "strips"

    def report_pictures(self, cycle: CycleDirectory) -> Path:
        """Folder of the pictures of a cycle's units on the page."""
        return self.report / "pictures" / cycle.path.name

    @property
    def slurm(self) -> Path:
        """Folder of the scripts and logs of submitted jobs."""
        return self.path / "slurm"

    @property
    def members(self) -> Path:
        """Folder of the run directories of an ensemble's members."""
        return self.path / "members"

    @property
    def member_logs(self) -> Path:
        """Folder of the members' logs."""
        return self.members / "logs"

    def member(self, name: str, fold: int) -> "RunDirectory":
        """The run directory of an ensemble's member.

        Args:
            name: The annotator on whose masks it is trained, or "majority" or "random".
            fold: The fold that it is not trained on, from 0.
        """
        return RunDirectory(self.members / name / f"fold-{fold}")

    def cycle(self, number: int) -> CycleDirectory:
        """The directory of a cycle, from 0."""
        return CycleDirectory(self.path / "cycles" / f"{number:02d}", number)

    def cycles(self) -> list[CycleDirectory]:
        """The cycles whose directories exist, in numeric order."""
        folders = [path for path in (self.path / "cycles").glob("*") if path.name.isdecimal() and path.is_dir()]
        cycles = [cycle for path in folders if (cycle := self.cycle(int(path.name))).path == path]
        return sorted(cycles, key=lambda cycle: cycle.number)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of all fitted cycles, in numeric order."""
        return [cycle.read_metrics() for cycle in self.cycles() if cycle.is_fitted]

    def write_curve(self, curve: pd.DataFrame) -> None:
        """Write learning_curve.csv.

        Args:
            curve: One row per fitted cycle, in numeric order (see `metrics`).
        """
        write_table(self.learning_curve, curve)

    def folders(self) -> list[Path]:
        """The existing folders in which a run writes files."""
        grown = [self.predictions, self.pixels, *(cycle.path for cycle in self.cycles())]
        # without a look at every file: pictures are many
        inner = [Path(folder) for top in grown for folder, *_ in os.walk(top)]
        written = [self.path, *inner, self.report, self.wandb, self.suspects, self.report_strips]
        written += [self.report_pictures(cycle) for cycle in self.cycles()]
        # where runs share the folder, one on another machine may be writing there
        written += [self.label_maps] if self.label_maps.parent == self.path else []
        return [folder for folder in written if folder.is_dir()]

    def remove_ledger(self) -> None:
        """Delete the ledger, SQLite's journal of it, and what says how images fell into its units."""
        for path in (self.ledger, self.ledger.with_name(f"{self.ledger.name}-journal"), self.label_map_table):
            path.unlink(missing_ok=True)
