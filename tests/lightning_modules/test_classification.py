"""Training, evaluation and prediction of classifiers; scores against scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support, roc_auc_score
from torch import nn

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.initial import PerClass
from datamodules.sources.digits import Digits
from lightning_modules.classification import ClassificationModule, probabilities
from lightning_modules.losses import CrossEntropy
from lightning_modules.metrics import classification_metrics
from lightning_modules.networks import TwoLayerNet


def network() -> TwoLayerNet:
    torch.manual_seed(0)
    return TwoLayerNet(10, 32, (1, 8, 8), dropout=0.2)


def trainer(**arguments: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **arguments,
    )  # fmt: skip


def digits(tmp_path: Path) -> PoolDataModule:
    return PoolDataModule(Digits(), run_dir=str(tmp_path), initial=PerClass(5), batch_size=25, eval_batch_size=100)


def test_scores_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, size=300)
    truth[truth == 2] = 0
    truth[:7] = 2
    probs = rng.dirichlet(np.ones(4), size=300)
    probs[np.arange(300), truth] += 0.4
    probs /= probs.sum(axis=1, keepdims=True)
    scores = classification_metrics(4)
    for part in np.array_split(np.arange(300), 7):
        scores.update(torch.from_numpy(probs[part]).float(), torch.from_numpy(truth[part]))
    got = scores.compute()
    predicted = probs.argmax(axis=1)
    assert got["accuracy"].item() == pytest.approx((predicted == truth).mean())
    assert got["balanced_accuracy"].item() == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert got["auroc"].item() == pytest.approx(roc_auc_score(truth, probs, multi_class="ovr"), abs=1e-5)
    assert got["recall"].tolist() == pytest.approx([(predicted[truth == c] == c).mean() for c in range(4)])
    largest, error = probs.max(axis=1), 0.0
    for low in np.arange(15) / 15:
        inside = (largest > low) & (largest <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(largest[inside].mean() - (predicted == truth)[inside].mean())
    assert got["calibration_error"].item() == pytest.approx(error, abs=1e-5)
    assert not [name for name in got if "macro" in name]


def test_precision_recall_and_f1_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, size=200), rng.integers(0, 4, size=200)
    scores = ClassificationModule(TwoLayerNet(4, 2), macro_metrics=True).val_metrics
    for part in np.array_split(np.arange(200), 3):
        scores.update(torch.eye(4)[predicted[part]], torch.from_numpy(truth[part]))
    expected = precision_recall_fscore_support(truth, predicted, average="macro")
    got = scores.compute()
    assert [got[f"macro_{name}"].item() for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])


def test_a_class_absent_from_the_truth_does_not_count_as_never_found() -> None:
    scores = classification_metrics(3)["per_class"]
    scores.update(torch.eye(3)[[0, 1, 2, 1]], torch.tensor([0, 1, 1, 1]))
    assert scores.compute()["balanced_accuracy"].item() == pytest.approx((1 + 2 / 3) / 2)


def test_a_class_absent_from_the_truth_has_no_area_under_the_curve() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), size=40)
    truth = np.arange(40) % 2
    metric = classification_metrics(3)["auroc"]
    metric.update(torch.from_numpy(probs).float(), torch.from_numpy(truth))
    areas = [roc_auc_score(truth == c, probs[:, c]) for c in (0, 1)]
    assert metric.compute().item() == pytest.approx(np.mean(areas), abs=1e-5)
    metric.reset()
    metric.update(torch.from_numpy(probs).float(), torch.zeros(40, dtype=torch.int64))
    assert metric.compute() == 0


def test_a_fit_learns_digits(tmp_path: Path) -> None:
    module = ClassificationModule(network(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    fit = trainer(max_epochs=30, check_val_every_n_epoch=30)
    fit.fit(module, digits(tmp_path))
    assert fit.callback_metrics["val/accuracy"] > 0.7
    assert fit.callback_metrics["val/auroc"] > 0.9
    assert fit.callback_metrics["val/recall/0"] > 0.7
    (first, *_) = fit.predict(module, digits(tmp_path), return_predictions=True)  # type: ignore[misc]
    assert torch.equal(first["prediction"], first["probabilities"].argmax(dim=1))
    assert torch.allclose(first["probabilities"].sum(dim=1), torch.ones(100))


def test_weight_decay_falls_with_the_labels_that_train(tmp_path: Path) -> None:
    module = ClassificationModule(network(), decay_per_label=7.0, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    fit = trainer(max_steps=1, limit_val_batches=0)
    fit.fit(module, digits(tmp_path))
    assert [g["weight_decay"] for g in fit.optimizers[0].param_groups] == [pytest.approx(7 / 50)]
    data = digits(tmp_path)
    _, labels, image_ids = data.source.tensors("train")
    labels[[image_ids.index(u) for u in data.pool.ledger.labelled()[:10]]] = VOID
    fit = trainer(max_steps=1, limit_val_batches=0)
    fit.fit(module, data)
    assert [g["weight_decay"] for g in fit.optimizers[0].param_groups] == [pytest.approx(7 / 40)]
    with pytest.raises(ValueError, match="at least 0, got -1"):
        ClassificationModule(network(), decay_per_label=-1)


def test_images_of_none_of_the_classes_neither_train_nor_count() -> None:
    logits = torch.randn(6, 3, requires_grad=True)
    labels = torch.tensor([0, 1, VOID, 2, VOID, 0])
    loss = CrossEntropy()(logits, labels)
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits[[0, 1, 3, 5]], labels[[0, 1, 3, 5]]).item())
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[[2, 4]].any()
    net = TwoLayerNet(3, 4, (1, 1, 1))
    module = ClassificationModule(net)
    module.update_metrics(module.val_metrics, logits.detach(), labels)
    assert module.val_metrics.compute()["recall"].shape == (3,)
    assert int(module.val_metrics["per_class"].confmat.sum()) == 4


def test_one_logit_is_binary() -> None:
    columns = probabilities(torch.tensor([[0.0], [2.0]]))
    assert torch.allclose(
        columns, torch.tensor([[0.5, 0.5], [1 - torch.sigmoid(torch.tensor(2.0)), torch.sigmoid(torch.tensor(2.0))]])
    )


def test_masks_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match='needs batches with "label", got image_id, image, mask'):
        ClassificationModule(network()).training_step({"image_id": [], "image": torch.zeros(1, 1, 8, 8), "mask": 0}, 0)
