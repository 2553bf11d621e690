"""Ensembles with one network per annotator and fold: their members' fits and checkpoints."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from acquisition.predictors import MCDropout
from annotators.prediction import check_predictor
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.partitions import WholeImages
from datamodules.sources.several_annotators import MAJORITY, WORDS, SeveralAnnotators
from pipelines.jobs import Job
from records.files import RunDirectoryError
from records.ledger import Ledger
from records.run_directory import RunDirectory

__all__ = ["Members", "check_held_out", "member_jobs", "member_weights", "several_annotators"]


class Members:
    """The members of an ensemble, one network per annotator and fold, and how they predict.

    Args:
        names: Annotators to train networks for, and any of "majority", "random", "staple" and "dawid_skene"; all
            annotators and `single` unless given.
        single: Whose network's MC samples predict the disagreement: one of those words, or an annotator.
        at_once: Fits side by side on this machine; one per GPU, or as many as cores and memory allow, unless given.
        retries: How often a failed fit is started again.
        predictor: How the single network is sampled, at least twice.
        weights: "last" for the weights at the end of a fit, "best" for those of its best validation. That validation is
            on the predicted images themselves, so their masks have some influence on the choice.
        groups: A regular expression that every image's id matches from its start, such as "[^_]+" for what stands
            before the first underscore. The match, or its first pair of parentheses, names the group that the image
            comes from, such as one of several data sets; the report then compares within groups too.

    Raises:
        ValueError: A number is too small, the predictor gives no maps, or the regular expression is none.
    """

    def __init__(
        self,
        names: list[str] | None = None,
        single: str = MAJORITY,
        at_once: int | None = None,
        retries: int = 1,
        predictor: MCDropout = MCDropout(num_samples=50),  # noqa: B008 - a setting; here, command lines can change it
        weights: Literal["last", "best"] = "last",
        groups: str | None = None,
    ) -> None:
        for name, given, least in (("at_once", at_once, 1), ("retries", retries, 0)):
            if given is not None and given < least:
                raise ValueError(f"members.{name} must be at least {least}, got {given}")
        check_predictor(predictor)
        self.names = names
        self.single = single
        self.at_once = at_once
        self.retries = retries
        self.predictor = predictor
        self.weights: Literal["last", "best"] = weights
        self.groups = _compiled(groups)

    def annotators(self, annotators: Sequence[str]) -> list[str]:
        """Names of the annotators who have a network of their own.

        Args:
            annotators: All annotators of the data.

        Raises:
            DataError: There are fewer than two, or a name is unknown.
        """
        people = [n for n in self.networks(annotators) if n not in WORDS]
        if len(people) < 2:
            raise DataError(
                f"an ensemble needs the networks of at least two annotators, got {', '.join(people) or 'none'}; "
                "name more of them in members.names"
            )
        return people

    def networks(self, annotators: Sequence[str]) -> list[str]:
        """Names of all networks: the annotators' and the single one.

        Args:
            annotators: All annotators of the data.

        Raises:
            DataError: A name is unknown.
        """
        names = list(dict.fromkeys([*(annotators if self.names is None else self.names), self.single]))
        unknown = [n for n in names if n not in (*annotators, *WORDS)]
        if unknown:
            raise DataError(
                f"expected members.names and members.single to be {', '.join(map(repr, WORDS))} or among "
                f"{', '.join(annotators)}, got {unknown[0]!r}"
            )
        return names

    def group(self, image_id: str) -> str | None:
        """Which group of images an image belongs to; None where `groups` is not given.

        Args:
            image_id: The image.

        Raises:
            DataError: Its id does not match.
        """
        if self.groups is None:
            return None
        found = self.groups.match(image_id)
        name = None if found is None else found[1] if self.groups.groups else found[0]
        if not name:
            raise DataError(
                f"expected members.groups {self.groups.pattern!r} to find the group of every image, got none for "
                f"{image_id!r}; change the expression or leave it out"
            )
        return name

    def check_groups(self, source: SeveralAnnotators) -> None:
        """Refuse images whose group is not known.

        Args:
            source: The images.

        Raises:
            DataError: An image's id does not match `groups`.
        """
        if self.groups is not None:
            for image_id in source.all_images():
                self.group(image_id)


def several_annotators(datamodule: PoolDataModule) -> SeveralAnnotators:
    """Return the data module's source if it has several annotators, whose images are the units.

    Raises:
        DataError: It has not, or not all of them are used, or units are parts of images.
    """
    if not isinstance(datamodule.source, SeveralAnnotators):
        raise DataError(
            f"an ensemble has one network per annotator: expected data.source with several annotators, such as "
            f"datamodules.sources.multi_annotator.MultiAnnotatorFolder, got {type(datamodule.source).__name__}"
        )
    if datamodule.source.people is not None:
        raise DataError(
            "an ensemble has one network per annotator and is compared with all of them, got data.source.people "
            f"{', '.join(datamodule.source.people)}; leave it out, and name those with a network in members.names"
        )
    partition = datamodule.pool.units.partition
    if not isinstance(partition, WholeImages):
        raise DataError(
            f"an ensemble is trained on whole images and predicts others: expected data.partition WholeImages, got "
            f"{type(partition).__name__}; leave out data.partition"
        )
    return datamodule.source


def member_weights(run_dir: Path, name: str, fold: int, weights: Literal["last", "best"]) -> Path:
    """Find the checkpoint of a member.

    Args:
        run_dir: The ensemble's run directory.
        name: The member's name.
        fold: The fold that it was not trained on, from 0.
        weights: Which of its weights.

    Raises:
        RunDirectoryError: The member is not trained yet.
    """
    cycle = RunDirectory(run_dir).member(name, fold).cycle(0)
    path = cycle.last if weights == "last" else cycle.best
    if not cycle.is_fitted or not path.is_file():
        raise RunDirectoryError(
            f"the network of {name!r} for fold {fold} is not trained yet ({path}); run ensemble with the same "
            "--config and --run_dir first"
        )
    return path


def member_jobs(run_dir: Path, members: Members, source: SeveralAnnotators, group: str | None = None) -> list[Job]:
    """Make the jobs that train an ensemble's members, in the order of the folds.

    Each is a `dropquery fit` with the settings of the run directory, on one annotator's masks outside one fold. All
    have the same seed, so they start from the same weights and see the images in the same order.

    Args:
        run_dir: The ensemble's run directory, with config.yaml.
        members: The ensemble's members.
        source: The images, with their annotators and folds.
        group: Group of the W&B runs; the run directory's name unless given.

    Raises:
        DataError: A member's name is unknown, fewer than two annotators have a network, or the group of an image is not
            known.
    """
    names = members.networks(source.annotators)
    members.annotators(source.annotators)
    members.check_groups(source)
    return [_job(run_dir, name, fold, group or run_dir.name) for fold in range(source.folds) for name in names]


def check_held_out(run_dir: Path, name: str, fold: int, image_ids: Sequence[str]) -> None:
    """Check in a member's ledger that it was not trained on images that it is to predict.

    Args:
        run_dir: The ensemble's run directory.
        name: The member's name.
        fold: The fold that it is to predict, from 0.
        image_ids: The images of that fold.

    Raises:
        RunDirectoryError: It was trained on one of them, or its ledger is missing.
    """
    path = RunDirectory(run_dir).member(name, fold).ledger
    if not path.is_file():
        raise RunDirectoryError(
            f"the ledger {path} is missing, so it is not known what that network was trained on; remove its folder and "
            "run ensemble again"
        )
    seen = sorted(set(Ledger(path).labelled()) & set(image_ids))
    if seen:
        raise RunDirectoryError(
            f"the network of {name!r} for fold {fold} trained on {len(seen)} images of that fold ({seen[0]!r} first), "
            "so it cannot predict them; remove its folder and run ensemble again"
        )


def _compiled(groups: str | None) -> re.Pattern[str] | None:
    try:
        return None if groups is None else re.compile(groups)
    except re.error as error:
        raise ValueError(
            f"members.groups must be a regular expression such as '[^_]+', got {groups!r} ({error})"
        ) from error


def _job(run_dir: Path, name: str, fold: int, group: str) -> Job:
    run = RunDirectory(run_dir)
    own = run.member(name, fold)
    arguments = {
        "--config": run.config,
        "--run_dir": own.path,
        "--data.source.annotator": name,
        "--data.source.fold": fold,
        "--wandb.group": group,
        "--wandb.job_type": name,
        "--wandb.name": f"{name}-fold-{fold}",
    }
    words = tuple(str(word) for pair in arguments.items() for word in pair)
    # a job's name is also that of its log, but annotators' names may have spaces
    called = re.sub(r"[^\w=+-]", "_", f"{name}-fold-{fold}")
    return Job(called, ("fit", *words), own.path, own.learning_curve)
