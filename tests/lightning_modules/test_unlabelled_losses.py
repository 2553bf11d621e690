"""Losses for positive and unlabelled labels, against cases worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from acquisition.annotation import VOID
from lightning_modules.losses import CrossEntropy
from lightning_modules.unlabelled_losses import (
    BootstrapHard,
    BootstrapSoft,
    ExponentialOdds,
    ExponentialUnlabelled,
    UnlabelledLoss,
    WeightedUnlabelled,
)

# softmaxes .4 and .6, .8 and .2; the first is labelled 0, the second 1
LOGITS, TARGETS = torch.tensor([[0.4, 0.6], [0.8, 0.2]]).log(), torch.tensor([0, 1])
ALL = [WeightedUnlabelled, ExponentialUnlabelled, ExponentialOdds, BootstrapHard, BootstrapSoft]


@pytest.mark.parametrize(
    ("loss", "of_unlabelled"),
    [
        (WeightedUnlabelled(), 0.5 * -math.log(0.4)),
        (ExponentialUnlabelled(), 0.6),
        (ExponentialOdds(), 0.6 / 0.4),
        (BootstrapHard(), 0.71356),
        (BootstrapHard(beta=1), -math.log(0.4)),
        (BootstrapSoft(beta=0), -0.4 * math.log(0.4) - 0.6 * math.log(0.6)),
        (BootstrapSoft(beta=0.5), 0.5 * -math.log(0.4) + 0.5 * (-0.4 * math.log(0.4) - 0.6 * math.log(0.6))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_batch_by_hand(loss: UnlabelledLoss, of_unlabelled: float) -> None:
    # as many of either: balanced weights are 1
    assert float(loss(LOGITS, TARGETS)) == pytest.approx((of_unlabelled + 1.60944) / 2, abs=1e-5)
    # three times the unlabelled one: each has weight 4 / 6, the positive 4 / 2
    logits, targets = LOGITS[[0, 0, 0, 1]], TARGETS[[0, 0, 0, 1]]
    assert float(loss(logits, targets)) == pytest.approx((of_unlabelled + 1.60944) / 2, abs=1e-5)
    loss.balanced = False
    assert float(loss(logits, targets)) == pytest.approx((3 * of_unlabelled + 1.60944) / 4, abs=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_void_does_not_count_and_pixels_are_as_images(kind: type[UnlabelledLoss]) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    targets[0, :2] = VOID
    flat = logits.movedim(1, -1).reshape(-1, 3)[targets.flatten() != VOID]
    expected = kind()(flat, targets.flatten()[targets.flatten() != VOID])
    assert torch.allclose(kind()(logits, targets), expected)
    nothing = kind()(logits.requires_grad_(), torch.full_like(targets, VOID))
    assert float(nothing) == 0
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ALL)
def test_one_logit_is_two_classes(kind: type[UnlabelledLoss]) -> None:
    logit, targets = torch.tensor([[0.7], [-1.2], [2.0]]), torch.tensor([0, 1, 0])
    both = torch.cat([torch.zeros(3, 1), logit], dim=1)
    assert torch.allclose(kind()(logit, targets), kind()(both, targets))


@pytest.mark.parametrize("kind", ALL)
def test_gradients(kind: type[UnlabelledLoss]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 0, 3, VOID, 2])
    assert torch.autograd.gradcheck(lambda x: kind()(x, targets), logits)


def test_the_gradient_of_the_exponential_loss_is_that_of_the_formula() -> None:
    logits = torch.tensor([[0.3, -0.4, 1.1]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(ExponentialUnlabelled()(logits, torch.tensor([0])), logits)
    p: Tensor = logits.detach().softmax(dim=1)[0]
    expected = torch.stack([-p[0] * (1 - p[0]), p[0] * p[1], p[0] * p[2]])
    assert torch.allclose(gradient[0], expected)


def test_the_odds_of_a_single_logit_are_its_exponential() -> None:
    logit = torch.tensor([[0.7], [-1.2]], dtype=torch.float64, requires_grad=True)
    loss = ExponentialOdds(balanced=False)(logit, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx((math.exp(0.7) + math.exp(-1.2)) / 2)
    assert torch.autograd.grad(loss, logit)[0].flatten().tolist() == pytest.approx(
        [math.exp(0.7) / 2, math.exp(-1.2) / 2]
    )


def test_a_confident_positive_does_not_spoil_the_gradient() -> None:
    # of class 0 its odds would be infinite
    logits = torch.tensor([[-200.0, 200.0], [0.0, 0.0]], requires_grad=True)
    loss = ExponentialOdds()(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(0.5)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_without_class_0_they_are_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 3), torch.tensor([1, 2, 1, 1, 2])
    for kind in ALL:
        assert torch.allclose(kind()(logits, targets), CrossEntropy()(logits, targets))


def test_many_networks_at_once() -> None:
    """Stacked fits call a loss under vmap."""
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 5, 4), torch.randint(0, 4, (3, 5))
    for kind in ALL:
        together = torch.func.vmap(kind())(logits, targets)
        assert torch.allclose(together, torch.stack([kind()(x, y) for x, y in zip(logits, targets, strict=True)]))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        WeightedUnlabelled(weight=-1)
    with pytest.raises(ValueError, match="beta of BootstrapHard must lie between 0 and 1, got 2"):
        BootstrapHard(beta=2)
