"""The verb suspects: labelled units by how likely their labels are wrong, with tables and pictures."""

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_info
from torch import nn
from tqdm.auto import tqdm

from acquisition.annotation import VOID
from acquisition.engine import active_dropouts, frozen, logits_of
from acquisition.functional import bald, class_probabilities
from acquisition.seeding import uniform_for
from acquisition.statistics import Statistic
from annotators.suspicion import SCORES, ClassThresholds, Finding, evidence, find_wrong
from callbacks.batches import batch_images, batch_truth
from callbacks.cycle import load_weights
from callbacks.pictures import draw_sheet, draw_suspect
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.texts import shielded
from pipelines.suspects import Suspicion, labelled_folds
from records.files import RunDirectoryError, write_table
from records.ledger import Ledger
from records.run_directory import RunDirectory
from records.study_directory import SuspectsDirectory

__all__ = ["HeldOut", "check_samples", "held_out", "rank_suspects"]

_NEEDS = (Statistic.MEAN, Statistic.EXPECTED_ENTROPY)


@dataclass(frozen=True)
class HeldOut:
    """An image as a network sees it that has not learned from its labels.

    Args:
        image_id: The image.
        fold: The fold that it is in.
        image: Normalised, channels x H x W.
        label: What is judged: classes or `VOID`, H x W; 1 x 1 for a classified image. It is what trains, but where
            annotators take turns ("random") their majority.
        index: The image's index map, of the label's shape or 1 x 1.
        probs: Probabilities, C x H x W.
        mean: Mean probabilities over MC samples, C x H x W; None without samples.
        bald: Mutual information of the samples, H x W; None without samples.
    """

    image_id: str
    fold: int
    image: np.ndarray
    label: np.ndarray
    index: np.ndarray
    probs: np.ndarray
    mean: np.ndarray | None = None
    bald: np.ndarray | None = None

    def unit_label(self, k: int) -> np.ndarray:
        """The label of the image's k-th unit, `VOID` elsewhere."""
        return np.where(self.index == k, self.label, VOID)


def check_samples(suspicion: Suspicion, module: LightningModule, datamodule: PoolDataModule) -> bool:
    """Refuse to rank by MC samples of a network without dropout; otherwise it has no score mc, and the others stand.

    Args:
        suspicion: What ranks.
        module: The networks' architecture, asked on one image.
        datamodule: Whose labelled units are judged.

    Returns:
        Whether MC samples can be drawn.

    Raises:
        DataError: Nothing is labelled.
        ValueError: They rank, and cannot.
    """
    if suspicion.predictor is None:
        return False
    image = labelled_folds(datamodule, suspicion.folds)[0][:1]
    network: nn.Module = module.network  # type: ignore[assignment]
    try:
        found = active_dropouts(network, batch_images(module, next(iter(datamodule.labelled_dataloader(image)))))
    except ValueError:
        if suspicion.by == "mc":
            raise
        return False
    if suspicion.by == "mc" and not found:
        raise ValueError(
            "suspicion.by mc needs MC samples, got a network in which no dropout of a rate above 0 runs; choose "
            "another score, or give it dropout"
        )
    return bool(found)


def held_out(
    datamodule: PoolDataModule,
    suspicion: Suspicion,
    module: LightningModule,
    device: torch.device,
    asked: Sequence[str] | None = None,
    samples: bool = False,
) -> Iterator[HeldOut]:
    """Predict labelled images by networks that have not learned from them, one after another.

    Args:
        datamodule: The images.
        suspicion: How many folds, and how networks are sampled.
        module: Any module of the networks' architecture; its weights are not used.
        device: Where the networks run.
        asked: Ids of the images; all labelled ones unless given.
        samples: Draw MC samples too, if the settings say how; `check_samples` knows whether they can be drawn.

    Yields:
        Each image, fold by fold.

    Raises:
        RunDirectoryError: A network is not fitted, or has learned from an image of its fold.
    """
    where = SuspectsDirectory(RunDirectory(datamodule.pool.run_dir).suspects)
    wanted = None if asked is None else set(asked)
    for fold, members in enumerate(labelled_folds(datamodule, suspicion.folds)):
        images = [i for i in members if wanted is None or i in wanted]
        if not images:
            continue
        _check_held_out(datamodule, where.fold(fold), members)
        own = copy.deepcopy(module)
        load_weights(own, where.fold(fold).cycle(0).best, f"remove {where.fold(fold).path} and run suspects again")
        own.to(device)
        network: nn.Module = own.network  # type: ignore[assignment]
        sampler = None
        if samples and suspicion.predictor is not None:
            sampler = suspicion.predictor.sampler(network, (datamodule.seed, "suspects", fold))
        for batch in datamodule.labelled_dataloader(images):
            on_device = batch_images(own, batch)
            with frozen(network), torch.no_grad():
                probs = _maps(class_probabilities(logits_of(network(on_device))))
            mean = information = None
            if sampler is not None and suspicion.predictor is not None:
                drawn = sampler.statistics(on_device, suspicion.predictor.num_samples, _NEEDS, batch["image_id"])
                average = drawn[Statistic.MEAN]
                mean = _maps(average)
                information = _maps(bald(average, drawn[Statistic.EXPECTED_ENTROPY])[:, None])[:, 0]
            labels = batch_truth(batch)
            assert labels is not None
            masks = labels.numpy() if labels.ndim == 3 else labels.numpy()[:, None, None]
            for n, image_id in enumerate(batch["image_id"]):
                yield HeldOut(
                    image_id, fold, batch["image"][n].numpy(), masks[n], batch["index"][n].numpy(), probs[n],
                    None if mean is None else mean[n], None if information is None else information[n],
                )  # fmt: skip


def rank_suspects(
    datamodule: PoolDataModule, suspicion: Suspicion, module: LightningModule, device: torch.device
) -> pd.DataFrame:
    """Rank the labelled units by how likely their labels are wrong, and write tables and pictures.

    Images are read twice, first for the thresholds of the classes, then for the scores, a batch at a time: memory does
    not grow with their number.

    Args:
        datamodule: Whose labelled units they are.
        suspicion: Which score ranks them, and how many are drawn again.
        module: Any module of the networks' architecture.
        device: Where the networks run.

    Returns:
        The table of `SuspectsDirectory.ranking`, ids as they are.

    Raises:
        DataError: No labelled unit has a pixel of a class.
        ValueError: MC samples rank, and cannot be drawn.
        RunDirectoryError: A network is not fitted, or a file cannot be written.
    """
    pool, where = datamodule.pool, SuspectsDirectory(RunDirectory(datamodule.pool.run_dir).suspects)
    samples = check_samples(suspicion, module, datamodule)
    units: dict[str, list[tuple[int, str]]] = {}
    for unit_id in pool.labelled:
        image_id, k = pool.units.location[unit_id]
        units.setdefault(image_id, []).append((k, unit_id))

    def seen(what: str, samples: bool = False, asked: Sequence[str] | None = None) -> Iterator[HeldOut]:
        found = held_out(datamodule, suspicion, module, device, asked, samples)
        total = len(units) if asked is None else len(asked)
        return iter(tqdm(found, desc=what, total=total, unit="image", disable=None))

    sums = ClassThresholds(pool.num_classes)
    for one in seen("thresholds"):
        sums.update(one.probs, one.label)
    thresholds = sums.values
    rows = [
        _row(unit_id, one, finding, pool.source.size(one.image_id), pool.source.class_names)
        for one in seen("scores", samples)
        for k, unit_id in units[one.image_id]
        if (finding := _judged(one, k, thresholds)) is not None
    ]
    if not rows:
        raise DataError("every labelled unit is void throughout, so there is no label to judge; label others")
    table = pd.DataFrame(rows)
    table.insert(2, "score", table[suspicion.by])
    # units with equal scores in the order of a hash: that of their names would favour some
    table["drawn"] = [uniform_for("suspects", u) for u in table["unit_id"]]
    table = table.sort_values(["score", "drawn"], ascending=[False, True], ignore_index=True).drop(columns="drawn")
    table.insert(2, "rank", np.arange(1, len(table) + 1))
    written = table.assign(
        **{name: table[name].map(shielded) for name in ("unit_id", "image_id", "given", "suggested")}
    )
    # a list of before beside this ranking would be taken for its
    where.second_drawings.unlink(missing_ok=True)
    write_table(where.ranking, written)
    again = written.head(max(1, round(suspicion.share * len(table))))
    write_table(where.second_drawings, again[["unit_id", "score", "given", "suggested"]])
    _draw(where.pictures, table.head(suspicion.pictures), datamodule, thresholds, lambda i: seen("pictures", asked=i))
    shown = table.head(10)[["rank", "unit_id", "score", "given", "suggested"]]
    rank_zero_info(
        f"\n{shown.to_string(index=False)}\n\n{len(table)} labelled units, rank 1 is the most suspicious by "
        f"{suspicion.by}: {where.ranking}\nTo have {len(again)} of them drawn again: dropquery assign --scores "
        f"{where.second_drawings} --double_share 1 --audit_share 0 --annotators PEOPLE.csv --out TABLE.csv"
    )
    return table


def _judged(one: HeldOut, k: int, thresholds: np.ndarray) -> Finding | None:
    """What is wrong with a unit of an image; None if it is void throughout."""
    label = one.unit_label(k)
    rows, columns = (np.flatnonzero((label != VOID).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    # a small part of a large image is looked at alone
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inner = (slice(None), *part)
    samples = () if one.mean is None or one.bald is None else (one.mean[inner], one.bald[part])
    found = find_wrong(one.probs[inner], label[part], thresholds, *samples)
    top, left, height, width = found.box
    return Finding(**{**vars(found), "box": (top + int(rows[0]), left + int(columns[0]), height, width)})


def _row(
    unit_id: str, one: HeldOut, found: Finding, size: tuple[int, int], class_names: Sequence[str]
) -> dict[str, Any]:
    rows, columns = (n / m for n, m in zip(size, one.label.shape, strict=True))
    top, left, height, width = found.box
    bottom, right = min(round((top + height) * rows), size[0]), min(round((left + width) * columns), size[1])
    return {
        "unit_id": unit_id,
        "image_id": one.image_id,
        **{name: getattr(found, name) for name in SCORES},
        "fold": one.fold,
        "top": int(top * rows),
        "left": int(left * columns),
        "height": max(1, bottom - int(top * rows)),
        "width": max(1, right - int(left * columns)),
        "given": class_names[found.given],
        "suggested": class_names[found.suggested],
    }


def _draw(
    folder: Path,
    top: pd.DataFrame,
    datamodule: PoolDataModule,
    thresholds: np.ndarray,
    seen: Callable[[Sequence[str]], Iterator[HeldOut]],
) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)  # pictures of ranks that are others' now
    ranked = dict(iter(top.groupby("image_id")))
    tiles: dict[int, tuple[np.ndarray, str]] = {}
    for one in seen(list(ranked)) if ranked else ():
        image, names = datamodule.to_display(one.image), datamodule.source.class_names
        for row in ranked[one.image_id].itertuples():
            if datamodule.source.target == "label":
                caption = f"{row.unit_id}\n{row.score:.4g}, rank {row.rank}\ngiven {row.given}\nnot {row.suggested}?"
                tiles[row.rank] = image, caption
                continue
            label = one.unit_label(datamodule.pool.units.location[row.unit_id][1])
            rows, columns = (n / m for n, m in zip(label.shape, datamodule.source.size(one.image_id), strict=True))
            draw_suspect(
                folder / f"rank-{row.rank}.png",
                f"{row.unit_id}: {row.score:.4g}, rank {row.rank}; given {row.given}, suggested {row.suggested}",
                image,
                label,
                one.probs.argmax(axis=0),
                evidence(one.probs, label, thresholds),
                names,
                (row.top * rows, row.left * columns, row.height * rows, row.width * columns),
            )
    if tiles:
        draw_sheet(folder / "top.png", [tiles[rank] for rank in sorted(tiles)])


def _check_held_out(datamodule: PoolDataModule, run: RunDirectory, images: Sequence[str]) -> None:
    if not (run.cycle(0).is_fitted and run.ledger.is_file()):
        raise RunDirectoryError(f"the network in {run.path} is not fitted yet; run suspects again")
    pool, held = datamodule.pool, set(images)
    with closing(Ledger(run.ledger)) as ledger:
        seen = sorted(u for u in ledger.labelled() if u in pool.units.location and pool.image_of(u) in held)
    if seen:
        raise RunDirectoryError(
            f"the network in {run.path} has learned from {len(seen)} units that it is to judge ({seen[0]!r} first); "
            "remove that folder and run suspects again"
        )


def _maps(values: torch.Tensor) -> np.ndarray:
    """N x C x H x W, of classified images with H = W = 1."""
    array: np.ndarray = values.float().cpu().numpy()
    return array if array.ndim == 4 else array[..., None, None]
