"""The verb suspects: fits of networks, each without the labels that it is to judge."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pytorch_lightning.utilities import rank_zero_info

from acquisition.predictors import MCDropout
from acquisition.seeding import uniform_for
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.pool import Pool
from pipelines.jobs import Job
from pipelines.run_access import check_settings, working_in
from pipelines.settings import difference, parse_yaml, read_yaml
from records.files import read_json, write_json, write_text
from records.ledger import Labelled, Ledger
from records.run_directory import RunDirectory
from records.study_directory import SuspectsDirectory

__all__ = ["Suspicion", "fold_jobs", "judging", "labelled_folds"]

_OWN = ("cycles", "stop", "warm_start", "initial_models", "initial_run", "trainer.max_epochs", "trainer.max_steps")
"""Settings that the folds' fits may have otherwise than the run."""


class Suspicion:
    """How the verb suspects looks for wrong labels.

    Args:
        by: The score that ranks: see `annotators.suspicion.Finding`.
        folds: Into how many parts the labelled images fall, by a hash of their ids. A network is fitted for each on the
            other parts, and judges that one.
        share: Share of the labelled units, the most suspicious, that people should draw again.
        pictures: How many of the most suspicious units are drawn.
        at_once: Fits side by side on this machine; one per GPU, or as many as cores and memory allow, unless given.
        retries: How often a failed fit is started again.
        predictor: How the networks are sampled for the score mc; None for no such score.

    Raises:
        ValueError: A number is out of its range, or the predictor gives no values for every pixel.
    """

    def __init__(
        self,
        by: Literal["objects", "confident", "softmin", "loss", "mc"] = "objects",
        folds: int = 3,
        share: float = 0.1,
        pictures: int = 10,
        at_once: int | None = None,
        retries: int = 1,
        predictor: MCDropout | None = MCDropout(num_samples=10),  # noqa: B008 - a setting; command lines can change it
    ) -> None:
        for name, given, least in (
            ("folds", folds, 2), ("pictures", pictures, 0), ("at_once", at_once, 1), ("retries", retries, 0),
        ):  # fmt: skip
            if given is not None and given < least:
                raise ValueError(f"suspicion.{name} must be at least {least}, got {given}")
        if not 0 < share <= 1:
            raise ValueError(f"suspicion.share must be above 0 and at most 1, got {share}")
        if predictor is not None:
            predictor.check("the score mc", 2, asks_files=False)
            if predictor.at_output_stride:
                raise ValueError("the score mc needs values of every pixel: set at_output_stride to false, got true")
        elif by == "mc":
            raise ValueError("suspicion.by mc needs MC samples, got no suspicion.predictor; give one")
        self.by: str = by
        self.folds = folds
        self.share = share
        self.pictures = pictures
        self.at_once = at_once
        self.retries = retries
        self.predictor = predictor


@contextmanager
def judging(run_dir: Path) -> Iterator[None]:
    """Work in the directory of a run that has labelled units.

    Args:
        run_dir: The run's directory, which is not made.

    Raises:
        DataError: It has no ledger.
        RunDirectoryError: As by `pipelines.run_access.working_in`.

    """
    path = RunDirectory(run_dir).ledger
    if not path.is_file():
        raise DataError(
            f"expected a ledger of labelled units at {path}, got no such file; run fit first, or check --run_dir"
        )
    with working_in(run_dir):
        yield


def labelled_folds(datamodule: PoolDataModule, folds: int) -> list[list[str]]:
    """Divide the images with a labelled unit by a hash of their ids, evenly.

    Args:
        datamodule: Whose ledger says what is labelled.
        folds: How many parts.

    Returns:
        Image ids of each fold.

    Raises:
        DataError: Nothing is labelled, or there are fewer images than folds.
    """
    path = RunDirectory(datamodule.pool.run_dir).ledger
    if not datamodule.pool.labelled:
        raise DataError(f"no unit is labelled in {path}, so there is no label to judge; run fit first")
    images = sorted(datamodule.pool.training_images(), key=lambda i: (uniform_for("fold", i), i))
    if len(images) < folds:
        raise DataError(
            f"expected a labelled image for each of {folds} folds, got {len(images)} in {path}; label more, or lower "
            "suspicion.folds"
        )
    return [sorted(images[fold::folds]) for fold in range(folds)]


def fold_jobs(
    datamodule: PoolDataModule, suspicion: Suspicion, settings: str, may_change: tuple[str, ...], dry: bool = False
) -> list[Job]:
    """Make the jobs that fit a network for each fold, on the labelled units of the others.

    Networks that were fitted on other labels or with other settings are removed, and so is what they said.

    Args:
        datamodule: Whose labelled units they are.
        suspicion: How many folds.
        settings: The run's, as YAML.
        may_change: Settings that a network's fit does not depend on.
        dry: Only list the jobs: nothing is removed or written.

    Raises:
        DataError: There is nothing to judge.
        RunDirectoryError: The run has other settings, a network that is to be removed is being fitted, or a file cannot
            be written.
    """
    check_settings(datamodule.pool.run_dir, settings, (*may_change, *_OWN))
    pool, where = datamodule.pool, SuspectsDirectory(RunDirectory(datamodule.pool.run_dir).suspects)
    folds = labelled_folds(datamodule, suspicion.folds)
    configs = [_fold_settings(parse_yaml(settings), where, fold) for fold in range(len(folds))]
    learned = _learned_from(datamodule, folds)
    jobs = [_job(where, fold) for fold in range(len(folds))]
    stale = _is_stale(where, learned, configs, may_change)
    if stale and any(job.run_dir.exists() for job in jobs):
        rank_zero_info("Labels or settings have changed since the folds were fitted: they are fitted anew")
    if dry:
        return [replace(job, anew=stale) for job in jobs]
    if stale:
        _remove(where)
    for fold, images in enumerate(folds):
        _start(pool, where.fold(fold), set(images))
        write_text(where.fold_config(fold), yaml.safe_dump(configs[fold], sort_keys=False))
    write_json(where.labels, learned)
    return jobs


def _remove(where: SuspectsDirectory) -> None:
    """Remove networks and what they said of labels; none of it where one of them is being fitted."""
    with ExitStack() as held:
        # a job of a cluster keeps its own folder alone
        for path in filter(Path.is_dir, where.folds()):
            held.enter_context(working_in(path))
        for file in (where.labels, where.second_drawings, where.ranking):
            file.unlink(missing_ok=True)
        for path in (*where.folds(), where.pictures):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _fold_settings(settings: dict[str, Any], where: SuspectsDirectory, fold: int) -> dict[str, Any]:
    """The run's settings, for one plain fit on the labels of the other folds."""
    data = {**settings["data"], "initial_run": None}
    data.pop("run_dir", None)
    alone = {"cycles": 1, "initial_models": None, "initial_run": None, "stop": None, "mc_evaluation": None}
    name = where.fold(fold).path.name
    wandb = {**(settings.get("wandb") or {}), "job_type": "suspects", "name": name}
    run_dir = str(where.fold(fold).path)
    return {**settings, "run_dir": run_dir, "data": data, **alone, "wandb": wandb, "warm_start": False}


def _start(pool: Pool, run: RunDirectory, held: Set[str]) -> None:
    """Begin a network's run with the run's labels, as its ledger has them, but for those that it is to judge."""
    known = {e.unit_id: e for e in pool.ledger.events() if e.kind in ("initial", "labelled") and e.unit_id is not None}
    others = [known[u] for u in pool.labelled if pool.image_of(u) not in held]
    run.path.mkdir(parents=True, exist_ok=True)
    with closing(Ledger(run.ledger)) as ledger:
        if ledger.labelled():
            return
        ledger.start([Labelled(str(e.unit_id), e.pixels or 0, e.objects, e.clicks) for e in others], pool.oracle.labels)


def _learned_from(datamodule: PoolDataModule, folds: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What the folds' networks learn from, as a hash: units, who labels, and size and time of each annotation file."""
    pool = datamodule.pool
    digest = hashlib.blake2b(repr((list(folds), sorted(pool.labelled))).encode(), digest_size=16)
    digest.update(pool.oracle.description().encode())
    for image_id in (image_id for fold in folds for image_id in fold):
        files = [path.stat() for path in pool.annotations.annotation_files(image_id) if path.is_file()]
        if files:
            digest.update(repr((image_id, [(found.st_size, found.st_mtime_ns) for found in files])).encode())
        elif pool.source.target == "label":
            digest.update(repr((image_id, pool.read_class(image_id))).encode())
    return {"labels": digest.hexdigest()}


def _is_stale(
    where: SuspectsDirectory, learned: Mapping[str, Any], configs: Sequence[dict[str, Any]], may_change: tuple[str, ...]
) -> bool:
    try:
        before = read_json(where.labels, "it is made again", labels=str)
        kept = [read_yaml(where.fold_config(fold)) for fold in range(len(configs))]
    except (OSError, ValueError):
        return True
    ignored = (*may_change, "wandb")
    changed = any(difference(old, new, ignored) for old, new in zip(kept, configs, strict=True))
    return changed or before != dict(learned)


def _job(where: SuspectsDirectory, fold: int) -> Job:
    run = where.fold(fold)
    arguments = ("fit", "--config", str(where.fold_config(fold)), "--run_dir", str(run.path))
    return Job(run.path.name, arguments, run.path, run.learning_curve)
