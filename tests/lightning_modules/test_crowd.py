"""A matrix for each person behind the network: by hand, its gradient, what it learns, and what a fit reports of it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from acquisition.annotation import VOID
from lightning_modules.crowd import CrowdLayer
from lightning_modules.losses import BatchLoss, CrossEntropy, FadeIn, call_loss
from lightning_modules.segmentation import SegmentationModule
from tests.lightning_modules.test_segmentation import samples, trainer

# probabilities .4 and .6, .8 and .2; the first is labelled 0 by person 1, the second 1 by person 0
LOGITS, TARGETS = torch.tensor([[0.4, 0.6], [0.8, 0.2]]).log(), torch.tensor([0, 1])
BATCH = {"annotator": torch.tensor([1, 0]), "epoch": 0}


def crowd(matrices: list[list[list[float]]], speed: float = 1.0) -> CrowdLayer:
    loss = CrowdLayer(len(matrices), len(matrices[0]), speed)
    loss.learned.data.copy_((torch.tensor(matrices) - torch.eye(len(matrices[0]))) / speed)
    return loss


def nlq(scores: list[float], label: int) -> float:
    """-ln of a softmax."""
    return math.log(sum(math.exp(s) for s in scores)) - scores[label]


@pytest.mark.parametrize("speed", [1.0, 30.0])
def test_by_hand(speed: float) -> None:
    # the identity at first: softmax(.4, .6), softmax(.8, .2)
    start = CrowdLayer(2, speed=speed)
    assert start(LOGITS, TARGETS, BATCH).item() == pytest.approx((nlq([0.4, 0.6], 0) + nlq([0.8, 0.2], 1)) / 2)
    # person 0 is the identity, person 1 makes 2 p_0 and p_0 + 3 p_1
    loss = crowd([[[1, 0], [0, 1]], [[2, 0], [1, 3]]], speed)
    assert loss(LOGITS, TARGETS, BATCH).item() == pytest.approx(
        (nlq([0.8, 0.4 + 1.8], 0) + nlq([0.8, 0.2], 1)) / 2, abs=1e-5
    )
    # in evaluation the network's own word, whoever drew it
    assert loss.eval()(LOGITS, TARGETS, {}).item() == pytest.approx((-math.log(0.4) - math.log(0.2)) / 2)
    # of a pixel of class 0 person 1 says (2, 1), of class 1 (0, 3)
    said = loss.confusion()
    assert said[1, 0, 0].item() == pytest.approx(math.exp(2) / (math.exp(2) + math.exp(1)), abs=1e-5)
    assert said[1, 1, 1].item() == pytest.approx(math.exp(3) / (1 + math.exp(3)), abs=1e-5)
    assert said[0, 0, 0].item() == pytest.approx(math.e / (math.e + 1), abs=1e-5)
    assert torch.allclose(said.sum(dim=2), torch.ones(2, 2))
    assert loss.readings()["annotator_1/class_0"] == pytest.approx(said[1, 0, 0].item())


def test_one_logit_pixels_void_and_gradients() -> None:
    loss = crowd([[[1.5, 0.2], [0.1, 1.0]], [[0.7, 0.0], [0.4, 2.0]]])
    logit = torch.tensor([[0.7], [-1.2]])
    both = torch.cat([torch.zeros(2, 1), logit], dim=1)
    assert torch.allclose(loss(logit, TARGETS, BATCH), loss(both, TARGETS, BATCH))
    pixels, masks = torch.randn(2, 2, 3, 4, generator=torch.manual_seed(0)), torch.zeros(2, 3, 4, dtype=torch.long)
    masks[0, 1], masks[1, 2] = 1, VOID
    flat, labels = pixels.movedim(1, -1).reshape(-1, 2), masks.flatten()
    whose = {"annotator": torch.tensor([1, 0]).repeat_interleave(12)[labels != VOID]}
    assert torch.allclose(loss(pixels, masks, BATCH), loss(flat[labels != VOID], labels[labels != VOID], whose))
    assert loss(pixels, torch.full_like(masks, VOID), BATCH).item() == 0
    loss = loss.double()
    pixels = pixels.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, masks, BATCH), pixels)
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(loss, {"learned": w}, (pixels.detach(), masks, BATCH)), loss.learned
    )


def test_permuted_people_are_permuted_matrices() -> None:
    matrices = torch.rand(3, 2, 2, generator=torch.manual_seed(0)).tolist()
    order = [2, 0, 1]
    one, other = crowd(matrices), crowd([matrices[k] for k in order])
    whose = torch.tensor([0, 2])
    now = torch.tensor([order.index(k) for k in whose.tolist()])
    assert torch.allclose(one(LOGITS, TARGETS, {"annotator": whose}), other(LOGITS, TARGETS, {"annotator": now}))
    assert torch.allclose(one.confusion()[order], other.confusion())


def test_where_the_network_is_right_it_learns_the_habits() -> None:
    habits = torch.tensor([[[0.95, 0.05], [0.1, 0.9]], [[0.7, 0.3], [0.4, 0.6]]])
    generator = torch.manual_seed(0)
    truth, whose = torch.randint(2, (20000,), generator=generator), torch.randint(2, (20000,), generator=generator)
    said = (torch.rand(20000, generator=generator) < habits[whose, truth, 1]).long()
    logits = 20.0 * torch.nn.functional.one_hot(truth, 2)
    loss = CrowdLayer(2, speed=30)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, said, {"annotator": whose}).backward()
        optimizer.step()
    assert torch.allclose(loss.confusion(), habits, atol=0.03)
    # `speed` is what makes it fast
    slow = CrowdLayer(2)
    optimizer = torch.optim.Adam(slow.parameters(), lr=0.01)
    slow(logits, said, {"annotator": whose}).backward()
    optimizer.step()
    assert slow.learned.abs().max().item() == pytest.approx(0.01, rel=0.01)


def test_a_fit_trains_it_and_reports_it(tiny_network: Callable[..., nn.Module], fake_pair: Callable[..., Any]) -> None:
    drawn = [{**sample, "annotator": i % 2} for i, sample in enumerate(samples(fake_pair))]
    for loss in (CrowdLayer(2, 3), FadeIn(CrossEntropy(), CrowdLayer(2, 3), epochs=1)):
        module = SegmentationModule(tiny_network(), loss=loss, optimizer=partial(torch.optim.Adam, lr=0.1))
        fit = trainer(max_epochs=2, num_sanity_val_steps=0)
        fit.fit(module, DataLoader(drawn, 4), DataLoader(samples(fake_pair), 8))
        told = {k: float(v) for k, v in fit.callback_metrics.items() if k.startswith("val/annotator_")}
        assert told == pytest.approx({f"val/{k}": v for k, v in loss.readings().items()})
        assert set(told) == {f"val/annotator_{r}/class_{c}" for r in range(2) for c in range(3)}
        assert max(told.values()) > 1.01 * math.e / (math.e + 2)


def test_what_cannot_be_is_refused() -> None:
    words = (
        r'CrowdLayer needs training batches with "annotator", got epoch, mask; set data\.source\.annotator to random, '
        "in a data.source that several people drew"
    )
    for loss in (CrowdLayer(2), FadeIn(CrossEntropy(), CrowdLayer(2))):
        with pytest.raises(ValueError, match=words.replace("CrowdLayer", type(loss).__name__)):
            call_loss(loss, LOGITS, TARGETS, {"epoch": 0, "mask": TARGETS})
    with pytest.raises(ValueError, match=r"matrices of 2 annotators, got a label of number 2, counted from 0; set mod"):
        CrowdLayer(2)(LOGITS, TARGETS, {"annotator": torch.tensor([0, 2])})
    with pytest.raises(ValueError, match=r"matrices of 3 classes, got logits of 2; set model\.loss\.num_classes to 2"):
        CrowdLayer(2, 3)(LOGITS, TARGETS, BATCH)
    for wrong in ((0, 2, 1.0), (2, 1, 1.0), (2, 2, 0.0)):
        with pytest.raises(ValueError, match="at least 1 annotator, 2 classes"):
            CrowdLayer(*wrong)
    assert isinstance(CrowdLayer(2), BatchLoss)
