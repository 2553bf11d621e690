"""Cross entropy that knows void, against a loop over pixels."""

import math

import pytest
import torch
from torch import Tensor

from acquisition.annotation import VOID
from lightning_modules.losses import CrossEntropy


def plain_loss(logits: Tensor, masks: Tensor, weights: list[float] | None) -> float:
    total = count = 0.0
    for n, y, x in torch.cartesian_prod(*(torch.arange(s) for s in masks.shape)).tolist():
        label = int(masks[n, y, x])
        if label == VOID:
            continue
        z = [float(v) for v in logits[n, :, y, x]]
        z = [0.0, z[0]] if len(z) == 1 else z
        weight = 1.0 if weights is None else weights[label]
        total += weight * (math.log(sum(math.exp(v) for v in z)) - z[label])
        count += weight
    return total / count


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_a_loop(classes: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 4, 5, generator=generator) * 2
    masks = torch.randint(max(classes, 2), (2, 4, 5), generator=generator)
    masks[0, :2] = VOID
    weights = [0.5, 2.0, 1.0, 3.0][: max(classes, 2)] if weighted else None
    got = CrossEntropy(weights)(logits, masks).item()
    assert got == pytest.approx(plain_loss(logits, masks, weights), rel=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_void_pixels_get_no_gradient(classes: int) -> None:
    logits = torch.randn(1, classes, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks = torch.ones(1, 3, 3, dtype=torch.long)
    masks[0, 0] = VOID
    CrossEntropy()(logits, masks).backward()
    assert torch.equal(logits.grad[:, :, 0], torch.zeros(1, classes, 3))
    assert (logits.grad[:, :, 1:] != 0).all()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0]])
def test_a_batch_of_void_has_loss_and_gradient_0(classes: int, weights: list[float] | None) -> None:
    logits = torch.ones(1, classes, 2, 2, requires_grad=True)
    loss = CrossEntropy(weights)(logits, torch.full((1, 2, 2), VOID))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.full((1, 2, 300, 300), 4.0, dtype=torch.float16)
    loss = CrossEntropy()(logits, torch.zeros(1, 300, 300, dtype=torch.long))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), rel=1e-4)


def test_class_weights_travel_with_the_module() -> None:
    loss = CrossEntropy([1.0, 2.0])
    assert loss.state_dict()["class_weights"].tolist() == [1, 2]
    assert "class_weights" not in CrossEntropy().state_dict()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0]])
def test_normalised_by_all_pixels(classes: int, weights: list[float] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 4, 5, generator=generator)
    masks = torch.randint(max(classes, 2), (2, 4, 5), generator=generator)
    masks[:, :3] = VOID
    weights = weights and weights[: max(classes, 2)]
    labelled = masks[masks != VOID]
    total = plain_loss(logits, masks, weights) * sum(weights[k] if weights else 1 for k in labelled.tolist())
    assert CrossEntropy(weights, normalise="all")(logits, masks).item() == pytest.approx(total / 40, rel=1e-5)
    with pytest.raises(ValueError, match="must be all, or null for the labelled pixels, got 'some'"):
        CrossEntropy(normalise="some")  # type: ignore[arg-type]
