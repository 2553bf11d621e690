"""The verb start: what a data set holds, and what people should draw before the first fit."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jsonargparse import Namespace
from PIL import Image
from pytorch_lightning import LightningModule
from tqdm.auto import tqdm

from acquisition.engine import frozen
from acquisition.features import embeddings_of
from acquisition.regions import Regions
from callbacks.batches import batch_images
from datamodules.beginning import PEOPLE, NotBegunError
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.mask_values import shown
from datamodules.pool import Pool
from datamodules.survey import MaskSurvey, survey
from datamodules.survey_checks import check_survey
from datamodules.units import nothing_in
from pipelines.error_sentences import sentence
from pipelines.start_list import Choice, Spread, choose, default_count, write_list
from records.run_directory import RunDirectory

__all__ = ["START_OPTIONS", "Start", "begin", "make_with_weights", "naming_start"]

START_OPTIONS = ("count", "val_count", "spread", "candidates")
"""Options that no other verb has."""

_MOST_SIZES = 1000
_SHOWN = 4
_MOST_VALUES = 12
_PRETRAINED = ("weights", "pretrained")


def make_with_weights(model: Namespace, make: Callable[[], None]) -> str:
    """Make a model, with random weights where those that it names cannot be had.

    Args:
        model: The model's settings; `weights` in them are set to None where they cannot be had.
        make: Makes it.

    Returns:
        What the network's weights are, in words.
    """
    # with it come all networks' libraries, which only this verb needs beforehand
    from lightning_modules.networks.weights import WeightsUnavailableError, wanted_weights

    named = {
        key: value
        for key, value in model.items()
        if key.rpartition(".")[2] in _PRETRAINED and value and wanted_weights(str(value)) is not None
    }
    try:
        make()
    except (WeightsUnavailableError, ValueError) as error:
        # jsonargparse raises an error of its own, with this one's text in it
        if "could not be downloaded" not in str(error):
            raise
        for key in named:
            model[key] = None
        make()
        return f"random weights, which know little of content, because {sentence(str(error)).partition('; set ')[0]}"
    if named:
        return f"weights {', '.join(str(value) for value in named.values())}"
    return "random weights, which know little of content; pretrained ones (model.network.weights) know more"


@contextmanager
def naming_start(command: str) -> Iterator[None]:
    """Name the command that lists what to draw, where a fit finds that too little is drawn.

    Args:
        command: The command line.

    Raises:
        DataError: In the place of a `NotBegunError`.
    """
    try:
        yield
    except NotBegunError as error:
        raise DataError(f"{error.message}; the list to draw is written by\n  {command}") from error


@dataclass(frozen=True)
class Start:
    """What the verb start has found and chosen.

    Args:
        pool: The data set, and who labels.
        choice: What is to be drawn.
        spread: How that was chosen.
        run: Where the list lies.
        features: Whose features were looked at.
        masks: What stands in the masks that are there; None where images are classified.
    """

    pool: Pool
    choice: Choice
    spread: Spread
    run: RunDirectory
    features: str
    masks: MaskSurvey | None = None

    def text(self, again: str, fit: str) -> str:
        """The report, which ends with what to type next.

        Args:
            again: The command line of this verb.
            fit: The command line of the fit.
        """
        facts = [*_facts(self.pool, self.choice), *_mask_facts(self.masks), *self._list()]
        width = max(len(name) for name, _ in facts)
        lines = [f"{name:<{width}}  {said}" for name, said in facts]
        return "\n".join([*lines, "", *self._next(again, fit)])

    def _list(self) -> list[tuple[str, str]]:
        choice = self.choice
        if not (choice.train or choice.val):
            return [("to draw", "nothing: a fit can begin")]
        rows = [
            ("to draw", f"{len(choice.train)} for training, {len(choice.val)} for validation: {self.run.start_list}")
        ]
        rows += [("", f"{split}: {_some(ids)}") for split, ids in (("train", choice.train), ("val", choice.val)) if ids]
        how = "drawn at random" if self.spread == "random" else "spread over the images' content"
        if self.spread == "content":
            how += f": k-center on {self.features}" if choice.by_features else ": all there is, or as listed before"
        among = f", among {choice.candidates} images drawn at random" if choice.candidates else ""
        return [*rows, ("", how + among)]

    def _next(self, again: str, fit: str) -> list[str]:
        pool, steps = self.pool, list[str]()
        if self.masks is not None and self.masks.setting:
            steps.append(f"set data.mask_values, if the values mean this: '{self.masks.setting}'")
        if pool.oracle.knows_truth and (self.choice.train or self.choice.val):
            steps.append(
                f"let people answer: set data.oracle to {PEOPLE[pool.source.target]}, and type again\n     {again}"
            )
        elif self.choice.train or self.choice.val:
            steps.append(f"{pool.oracle.instructions()}, for each of {self.run.start_list}")
        steps.append(fit)
        return ["Next:", *(f"  {number}. {step}" for number, step in enumerate(steps, start=1))]


def begin(
    module: LightningModule,
    datamodule: PoolDataModule,
    device: torch.device,
    budget: int,
    count: int | None,
    val_count: int | None,
    spread: Spread,
    candidates: int,
    weights: str,
) -> Start:
    """Choose what people should draw, and write the list.

    Args:
        module: Whose encoder's features say what images show.
        datamodule: The data set, and who labels.
        device: Where the network runs.
        budget: Units per cycle, of which there are as many unless `count` or `data.initial` says otherwise.
        count: Units to train on in all.
        val_count: Images to validate on in all.
        spread: By content, or at random.
        candidates: The most images of the train split that are looked at.
        weights: What the network's weights are, in words.

    Raises:
        ValueError: If a number is below 1.
        DataError: If there is no image, or no class, or an annotation is not what it should be.
    """
    for name, given in (("count", count), ("val_count", val_count), ("candidates", candidates)):
        if given is not None and given < 1:
            raise ValueError(f"--{name} must be at least 1, got {given}")
    pool = datamodule.pool
    pool.source.check()
    pool.check_named()
    if not pool.kept_for_validation():
        raise nothing_in(pool.source, "val")
    masks = None
    if pool.source.target == "mask":
        masks = survey(pool.source, None if pool.oracle.knows_truth else pool.annotations)
        if masks.unknown:
            check_survey(masks, pool.source, pool.allow_missing_classes, pool.max_void)
    network: torch.nn.Module = module.network  # type: ignore[assignment]
    what = f"{type(network).__name__}'s encoder with {weights}"

    def describe(ids: Sequence[str], whole: bool) -> np.ndarray:
        return _features(module.to(device), datamodule, ids, whole)

    wanted = default_count(pool, budget) if count is None else count
    choice = choose(pool, wanted, val_count, spread, candidates, describe)
    return Start(pool, choice, spread, write_list(pool, choice, spread), what, masks)


def _features(module: LightningModule, datamodule: PoolDataModule, ids: Sequence[str], whole: bool) -> np.ndarray:
    """What the encoder says of units of the train split, or of whole images: N x D."""
    pool, network = datamodule.pool, module.network
    images = list(ids) if whole else pool.units.images_of(ids)
    if len({pool.source.size(image_id) for image_id in images}) > 1:
        datamodule = copy.copy(datamodule)
        datamodule.eval_batch_size = 1
    loader = datamodule.image_dataloader(images) if whole else datamodule.pool_dataloader(images)
    asked, found = set(ids), dict[str, np.ndarray]()
    layer = getattr(network, "encoder_output", None)
    with frozen(network), torch.no_grad(), embeddings_of(network, layer) as embeddings:  # type: ignore[arg-type]
        for batch in tqdm(loader, desc="looking at images", unit="batch", disable=None):
            names = batch["image_id"]
            regions = Regions.whole(names) if whole else pool.units.regions(names, batch["index"], asked)
            network(batch_images(module, batch))  # type: ignore[operator]
            found.update(zip(regions.unit_ids, embeddings.pooled(regions).cpu().numpy(), strict=True))
    return np.stack([found[i] for i in ids])


def _facts(pool: Pool, choice: Choice) -> list[tuple[str, str]]:
    source, oracle, noun = pool.source, pool.oracle, pool.source.target
    train, val, test = pool.units.images("train"), pool.kept_for_validation(), pool.units.images("test")
    every = [*train, *val]
    held = f"{len(val)} held out for validation ({_some(val)})"
    facts = [("data set", source.short_description), ("images", f"{len(every)}: {len(train)} to train on, {held}")]
    facts += [("", f"{len(test)} more to test on")] if test else []
    facts.append(("", _looks(pool, every)))
    if len(pool.units.ids) != len(train):
        facts.append(("units", f"{len(pool.units.ids)} parts of images: {pool.units.partition.short_description}"))
    names = source.class_names
    facts.append(("classes", f"{len(names)}: {', '.join(names)}"))
    drawn = f"{len(choice.answered)} of {len(pool.units.ids)} units to train on"
    drawn += f", {len(choice.judged)} of {len(val)} images held out"
    facts.append((f"{noun}s", f"{drawn}; {'the data set has them' if oracle.knows_truth else 'people draw them'}"))
    return facts


def _mask_facts(found: MaskSurvey | None) -> list[tuple[str, str]]:
    """What stands in masks, and what it means by the settings."""
    if found is None or not found.read:
        return []
    of = f"in {found.read} of {found.count} masks" if found.read < found.count else f"in {found.count} masks"
    facts = []
    if found.pixels:
        total = sum(found.pixels.values())
        listed = [f"{shown(value)} ({n / total:.1%})" for value, n in list(found.pixels.items())[:_MOST_VALUES]]
        more = f" and {len(found.pixels) - _MOST_VALUES} more" if len(found.pixels) > _MOST_VALUES else ""
        facts.append(("", f"values {', '.join(listed)}{more}, {of}"))
    total = max(1, sum(found.classes.values()))
    shares = [f"{name} {found.classes.get(k, 0) / total:.1%}" for k, name in enumerate(found.class_names)]
    facts.append(("", f"classes {', '.join(shares)}; void {found.void_share:.1%}"))
    return facts


def _looks(pool: Pool, images: Sequence[str]) -> str:
    """Sizes and modes of images, the most frequent first."""
    looked = images[:: -(-len(images) // _MOST_SIZES)]
    sizes = Counter(f"{h} x {w}" for h, w in map(pool.source.size, looked))
    modes = Counter(mode for i in looked if (path := pool.source.path(i)) and (mode := _mode(path)))
    among = "" if len(looked) == len(images) else f" (of {len(looked)} looked at)"
    said = [", ".join(f"{n} of {what}" for what, n in sizes.most_common(_SHOWN))]
    said[0] += f" and {len(sizes) - _SHOWN} other sizes" if len(sizes) > _SHOWN else ""
    said += [", ".join(f"{n} {mode}" for mode, n in modes.most_common())] if modes else []
    return "; ".join(said) + among


def _mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")
