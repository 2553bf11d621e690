"""The verb difficulty: predictions of an ensemble's networks, and a table of predicted and measured difficulty."""

import copy
import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skimage
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_info
from torch import nn
from tqdm.auto import tqdm

from annotators.agreement import krippendorff_alpha, vote_table
from annotators.disagreement import against_others, difficulty, majority, pairwise, variance_map
from annotators.prediction import MAPS, DifficultyPredictor
from callbacks.cycle import load_weights
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from pipelines.ensemble import Members, check_held_out, member_weights, several_annotators
from records.files import replacing, write_table
from records.run_directory import RunDirectory

__all__ = ["annotator_rows", "image_row", "network_rows", "predict_images", "write_images_table"]

_IOUS = {"iou_with_own": "images_own", "iou_with_majority": "images_majority"}
"""A network's scores, and how many images each is a mean of."""


def predict_images(
    run_dir: Path, members: Members, module: LightningModule, datamodule: PoolDataModule, device: torch.device
) -> None:
    """Write predictions/NAME.npz for every image that two people drew, from networks that were not trained on it.

    An image is predicted by the members of its own fold, whose ledgers must not contain it. Predictions from the same
    checkpoints, settings and masks are kept.

    Args:
        run_dir: The ensemble's run directory.
        members: The ensemble's networks.
        module: Any module of their architecture; its weights are not used.
        datamodule: The images, with their masks by annotator.
        device: Where the networks run.

    Raises:
        RunDirectoryError: A network is not trained yet, or it was trained on an image of its fold.
        DataError: The group of an image is not known.
    """
    source = several_annotators(datamodule)
    people = members.annotators(source.annotators)
    members.check_groups(source)
    for fold in range(source.folds):
        images = source.evaluation_images(fold)
        if not images:
            continue
        names = list(dict.fromkeys([*people, members.single]))
        paths = {name: member_weights(run_dir, name, fold, members.weights) for name in names}
        for name in names:
            check_held_out(run_dir, name, fold, images)
        # predictions of an earlier version lack some maps
        made_by = _fingerprint(paths, members.single, members.predictor.description(), datamodule.seed, MAPS)
        # a corrected mask changes the measured disagreement
        wanted = {i: made_by + _digest(datamodule.resized(source.drawings(i))) for i in images}
        missing = [i for i in images if _made_by(RunDirectory(run_dir).prediction(i)) != wanted[i]]
        if not missing:
            continue
        rank_zero_info(f"Fold {fold}: predicting {len(missing)} images with {len(names)} networks")
        networks = {name: _load(module, path, device) for name, path in paths.items()}
        predictor = DifficultyPredictor(
            {name: networks[name] for name in people},
            networks[members.single],
            (datamodule.seed, "difficulty", fold),
            members.predictor,
        )
        layout = getattr(module, "memory_format", torch.contiguous_format)
        for batch in tqdm(datamodule.pool_dataloader(missing), desc=f"fold {fold}", disable=None):
            maps = predictor(batch["image"].to(device).to(memory_format=layout), batch["image_id"])
            arrays = {name: values.cpu().numpy() for name, values in maps.items()}
            for i, image_id in enumerate(batch["image_id"]):
                masks = datamodule.resized(source.drawings(image_id))
                content = _content(arrays, i, masks, source.num_classes)
                content |= {"image": datamodule.to_display(batch["image"][i].numpy()), "members": np.array(people)}
                content["made_by"] = np.array(wanted[image_id])
                with replacing(RunDirectory(run_dir).prediction(image_id)) as beside:
                    np.savez_compressed(beside, allow_pickle=False, **content)


def write_images_table(run_dir: Path, members: Members, datamodule: PoolDataModule) -> pd.DataFrame:
    """Write images.csv from the predictions: one row per image, measured columns, predictors and trivial predictors.

    Args:
        run_dir: The ensemble's run directory.
        members: The ensemble's networks, and how the group of an image is known.
        datamodule: The images, with their masks by annotator.

    Returns:
        The table of images: name, fold, group if the members have any, and the columns of `image_row`. The tables of
        annotators and of networks have the means of `annotator_rows` and `network_rows` over the images.

    Raises:
        DataError: No image was drawn by two people, or the group of an image is not known.
    """
    rows, people, networks = [], [], []
    source = several_annotators(datamodule)
    truth = getattr(source, "true_difficulty", None)
    for fold in range(source.folds):
        for image_id in source.evaluation_images(fold):
            with np.load(RunDirectory(run_dir).prediction(image_id)) as stored:
                repeats = datamodule.resized(source.repeats(image_id))
                row = image_row(stored, repeats, source.num_classes)
                people += annotator_rows(stored, repeats, source.num_classes)
                networks += [{**r, "fold": fold} for r in network_rows(stored, members.single, source.num_classes)]
            if truth is not None:
                row["true_difficulty"] = float(truth(image_id))
            group = members.group(image_id)
            rows.append({"image": image_id, "fold": fold, **({} if group is None else {"group": group}), **row})
    if not rows:
        raise DataError("no image is drawn by two people, so there is no disagreement to compare with; draw some again")
    table = pd.DataFrame(rows)
    write_table(RunDirectory(run_dir).images, table)
    grouped = pd.DataFrame(people).groupby("annotator")
    habits = grouped.mean()
    habits.insert(0, "images", grouped.size())
    write_table(RunDirectory(run_dir).annotators, habits, index="annotator")
    rank_zero_info(f"\n{habits.round(2).to_string()}\n")
    scores = _network_scores(pd.DataFrame(networks), ["network", "fold"])
    write_table(RunDirectory(run_dir).networks, scores.reset_index())
    overall = _network_scores(pd.DataFrame(networks), ["network"])
    rank_zero_info(f"Networks on images that they did not train on:\n{overall.round(2).to_string()}\n")
    return table


def annotator_rows(
    stored: Mapping[str, Any], repeats: Mapping[str, np.ndarray], num_classes: int
) -> list[dict[str, Any]]:
    """Compare each person who drew an image with the majority of the others.

    Args:
        stored: The content of predictions/NAME.npz.
        repeats: Second drawings of the image, by annotator.
        num_classes: Number of classes C.

    Returns:
        One row per person: annotator, the fields of `annotators.disagreement.AgainstOthers`, and within_iou, the IoU of
        the person's two drawings (NaN without a second one).
    """
    rows, masks = [], stored["masks"]
    for name, mask, others in zip(
        stored["annotators"].tolist(), masks, against_others(masks, num_classes), strict=True
    ):
        within = pairwise([mask, repeats[name]], "iou", num_classes)[0, 1] if name in repeats else float("nan")
        rows.append({"annotator": name, **asdict(others), "within_iou": within})
    return rows


def network_rows(stored: Mapping[str, Any], single: str, num_classes: int) -> list[dict[str, Any]]:
    """Compare what each network draws of an image with people's masks.

    Args:
        stored: The content of predictions/NAME.npz.
        single: Name of the single network, which draws by the mean of its MC samples where it is no person's.
        num_classes: Number of classes C.

    Returns:
        One row per network: network, iou_with_own, the IoU with the mask of the person from whom it learned (NaN where
        that person did not draw the image, and for a network of no person), and iou_with_majority, the IoU with the
        majority of the people who drew the image, ties left out.
    """
    masks, annotators = stored["masks"], stored["annotators"].tolist()
    names = stored["members"].tolist()
    outputs = list(stored["member_probabilities"])
    if single not in names:
        names, outputs = [*names, single], [*outputs, stored["mean"]]
    most = majority(masks, num_classes)
    rows = []
    for name, output in zip(names, outputs, strict=True):
        drawn = _drawn(output, num_classes)
        row = {"network": name, "iou_with_own": float("nan")}
        if name in annotators:
            row["iou_with_own"] = pairwise([drawn, masks[annotators.index(name)]], "iou", num_classes)[0, 1]
        rows.append(row | {"iou_with_majority": pairwise([drawn, most], "iou", num_classes)[0, 1]})
    return rows


def image_row(stored: Mapping[str, Any], repeats: Mapping[str, np.ndarray], num_classes: int) -> dict[str, float]:
    """One image's columns of images.csv, except for its name and fold.

    Args:
        stored: The content of predictions/NAME.npz.
        repeats: Second drawings of the image, by annotator.
        num_classes: Number of classes C.

    Returns:
        Values by column:

        - Measured from the masks: annotators (their number), difficulty (Wilhelmsson, equation 2.2), difficulty per
          pixel of object and of boundary, mean IoU of two annotators, Krippendorff's alpha, repeat_difficulty (from the
          second drawings; NaN if fewer than two people drew twice) and repeated_difficulty (from the same people's
          first drawings).
        - Predicted: the maps of `annotators.prediction.MAPS`, summed over the pixels.
        - Trivial: area and boundary length of the single network's prediction, in pixels, and a constant.
    """
    masks = stored["masks"]
    measured = difficulty(masks, num_classes)
    overlaps = pairwise(masks, "iou", num_classes)[np.triu_indices(len(masks), k=1)]
    names = stored["annotators"].tolist()
    twice = [i for i, name in enumerate(names) if name in repeats]
    again = [repeats[names[i]] for i in twice]
    predicted = _drawn(stored["mean"], num_classes)
    return {
        "annotators": len(masks),
        "difficulty": measured.total,
        "difficulty_per_object_pixel": measured.per_object,
        "difficulty_per_boundary_pixel": measured.per_boundary,
        "mean_pairwise_iou": float("nan") if np.isnan(overlaps).all() else float(np.nanmean(overlaps)),
        "krippendorff_alpha": krippendorff_alpha(vote_table([masks], num_classes)),
        "repeat_difficulty": difficulty(again, num_classes).total if len(twice) > 1 else float("nan"),
        "repeated_difficulty": difficulty(masks[twice], num_classes).total if len(twice) > 1 else float("nan"),
        **{name: float(stored[name].sum(dtype=np.float64)) for name in MAPS},
        "predicted_area": int((predicted > 0).sum()),
        "predicted_boundary_length": int(
            skimage.segmentation.find_boundaries(predicted, connectivity=1, mode="inner").sum()
        ),
        "constant": 1.0,
    }


def _drawn(probs: np.ndarray, num_classes: int) -> np.ndarray:
    return (probs > 0.5).astype(int) if num_classes == 2 else probs.argmax(axis=0)


def _network_scores(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    grouped = rows.groupby(by, sort=False)[list(_IOUS)]
    # how many images each is a mean of, for not everybody drew each, and there may be nothing to draw
    return pd.concat([grouped.mean(), grouped.count().rename(columns=_IOUS)], axis=1)


def _content(
    maps: Mapping[str, np.ndarray], i: int, masks: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, np.ndarray]:
    drawn = np.stack(list(masks.values())).astype(np.uint8)
    mean, outputs = maps["mean"][i], maps["member_probabilities"][:, i]
    if num_classes == 2:
        mean, outputs = mean[1], outputs[:, 1]
    return {
        "masks": drawn,
        "annotators": np.array(list(masks)),
        "annotator_variance": variance_map(drawn, num_classes).astype(np.float32),
        **{name: maps[name][i].astype(np.float32) for name in MAPS},
        "mean": mean.astype(np.float32),
        "member_probabilities": outputs.astype(np.float16),
    }


def _made_by(path: Path) -> str:
    try:
        with np.load(path) as stored:
            return str(stored["made_by"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""


def _fingerprint(paths: Mapping[str, Path], *settings: object) -> str:
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for name, path in paths.items():
        with path.open("rb") as file:
            digest.update(name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _digest(masks: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, mask in masks.items():
        digest.update(repr((name, mask.shape)).encode() + np.ascontiguousarray(mask).tobytes())
    return digest.hexdigest()


def _load(module: LightningModule, path: Path, device: torch.device) -> nn.Module:
    own = copy.deepcopy(module)
    load_weights(own, path, "remove its member's folder and run ensemble again")
    network: nn.Module = own.network  # type: ignore[assignment]
    return network.to(device)
