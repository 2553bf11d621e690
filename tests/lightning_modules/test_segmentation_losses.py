"""The library's losses, called as ours are, against loops over pixels in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from acquisition.annotation import VOID
from lightning_modules.segmentation_losses import Dice, Focal, Tversky


def batch(classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, classes, 3, 4, generator=generator)
    masks = torch.randint(max(classes, 2), (2, 3, 4), generator=generator)
    masks[0, 1], masks[1, 2, 2:] = VOID, VOID
    return logits, masks


def pixels(logits: Tensor, masks: Tensor) -> list[tuple[list[float], int]]:
    """Logits and label of each pixel that has one."""
    values, labels = logits.movedim(1, -1).reshape(-1, logits.shape[1]).tolist(), masks.flatten().tolist()
    return [(z, label) for z, label in zip(values, labels, strict=True) if label != VOID]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def softmax(z: list[float]) -> list[float]:
    return [math.exp(v) / sum(math.exp(w) for w in z) for v in z]


def plain_tversky(logits: Tensor, masks: Tensor, alpha: float, beta: float) -> float:
    one = logits.shape[1] == 1
    losses = []
    for c in [1] if one else range(logits.shape[1]):
        tp = fp = fn = 0.0
        for z, label in pixels(logits, masks):
            p, y = sigmoid(z[0]) if one else softmax(z)[c], float(label == c)
            # the library's true positives are the smaller of prediction and label, which is their product here
            tp, fp, fn = tp + p * y, fp + p * (1 - y), fn + (1 - p) * y
        losses.append(1 - tp / (tp + alpha * fp + beta * fn) if tp + fn else 0.0)
    return sum(losses) / len(losses)


def plain_focal(logits: Tensor, masks: Tensor, gamma: float, alpha: float | None) -> float:
    one = logits.shape[1] == 1
    terms = []
    for z, label in pixels(logits, masks):
        for c in [1] if one else range(len(z)):
            p = sigmoid(z[0] if one else z[c])
            right = p if label == c else 1 - p
            weight = 1.0 if alpha is None else alpha if label == c else 1 - alpha
            terms.append(-weight * (1 - right) ** gamma * math.log(right))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_against_a_loop(classes: int) -> None:
    logits, masks = batch(classes)
    expected = {
        Dice(): plain_tversky(logits, masks, 0.5, 0.5),
        Tversky(0.3, 0.7): plain_tversky(logits, masks, 0.3, 0.7),
        Tversky(0.3, 0.7, gamma=2): plain_tversky(logits, masks, 0.3, 0.7) ** 2,
        Focal(): plain_focal(logits, masks, 2, None),
        Focal(1.5, 0.25): plain_focal(logits, masks, 1.5, 0.25),
    }
    if classes == 1:
        expected[Dice(log_loss=True)] = -math.log(1 - expected[next(iter(expected))])
    for loss, value in expected.items():
        assert loss(logits, masks).item() == pytest.approx(value, rel=1e-5), loss


def test_dice_by_hand() -> None:
    # probabilities .5 and .5: 2 (.5) / (1 + 1)
    assert Dice()(torch.zeros(1, 1, 1, 2), torch.tensor([[[1, 0]]])).item() == pytest.approx(0.5)
    # class 1 has no pixel: 0; class 0: 2 (1) / (1 + 2)
    assert Dice()(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 0]]])).item() == pytest.approx(1 / 3 / 2)


@pytest.mark.parametrize("loss", [Dice(), Tversky(0.3, 0.7), Focal()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("classes", [1, 3])
def test_void_gets_no_gradient_and_nothing_costs_nothing(loss: nn.Module, classes: int) -> None:
    logits, masks = batch(classes)
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), masks), logits)
    void = (masks == VOID)[:, None].expand_as(logits)
    assert gradient[void].abs().max() == 0
    assert gradient[~void].abs().min() > 0
    nothing = loss(logits, torch.full_like(masks, VOID))
    assert nothing.item() == 0
    assert torch.autograd.grad(nothing, logits)[0].abs().max() == 0


@pytest.mark.parametrize("loss", [Dice(), Tversky(0.3, 0.7), Focal()], ids=lambda loss: type(loss).__name__)
def test_gradients(loss: nn.Module) -> None:
    for classes in (1, 3):
        logits, masks = batch(classes)
        assert torch.autograd.gradcheck(lambda x, masks=masks: loss(x, masks), logits.double().requires_grad_())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dice(smooth=-1), r"Dice needs smooth of 0 or more, got -1; correct model\.loss\.smooth"),
        (lambda: Tversky(alpha=-0.1), "Tversky needs alpha of 0 or more, got -0.1"),
        (lambda: Tversky(beta=math.nan), "Tversky needs beta of 0 or more, got nan"),
        (lambda: Tversky(smooth=-1), "Tversky needs smooth of 0 or more, got -1"),
        (lambda: Tversky(gamma=0.5), "Tversky needs gamma of 1 or more, got 0.5"),
        (lambda: Focal(gamma=-1), "Focal needs gamma of 0, or of 1 or more, got -1"),
        (lambda: Focal(gamma=0.5), "Focal needs gamma of 0, or of 1 or more, got 0.5"),
        (lambda: Focal(alpha=-0.5), "Focal needs alpha from 0 to 1, or null for equal weights, got -0.5"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("loss", [Tversky(gamma=1), Focal(gamma=0), Focal(gamma=1)])
def test_certainty_has_a_gradient(loss: nn.Module) -> None:
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, torch.zeros(1, 1, 1, dtype=torch.long)), logits)
    assert gradient.isfinite().all()
