"""A noise layer, symmetric cross entropy and a fade-in, against cases worked by hand."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from acquisition.annotation import VOID
from lightning_modules.losses import BatchLoss, CrossEntropy, FadeIn, call_loss
from lightning_modules.noise_losses import DropoutNoise, SymmetricCrossEntropy
from lightning_modules.unlabelled_losses import ExponentialUnlabelled
from pipelines.stack_training import check_loss, check_stackable

# probabilities .4 and .6, .8 and .2; the first is labelled 0, the second 1
LOGITS, TARGETS = torch.tensor([[0.4, 0.6], [0.8, 0.2]]).log(), torch.tensor([0, 1])


def noise(rate: float = 0.0, weight: list[list[float]] | None = None, classes: int = 2) -> DropoutNoise:
    loss = DropoutNoise(classes, rate)
    if weight is not None:
        loss.weight.data.copy_(torch.tensor(weight))
    return loss


def nlq(scores: list[float], label: int) -> float:
    """-ln of a softmax."""
    return math.log(sum(math.exp(s) for s in scores)) - scores[label]


def test_the_noise_layer_by_hand() -> None:
    # the identity at first: softmax(.4, .6), softmax(.8, .2)
    assert noise()(LOGITS, TARGETS).item() == pytest.approx((nlq([0.4, 0.6], 0) + nlq([0.8, 0.2], 1)) / 2)
    assert nlq([0.4, 0.6], 0) == pytest.approx(0.79814, abs=1e-5)
    # 2 p_0; p_0 + 3 p_1
    loss = noise(weight=[[2, 0], [1, 3]])
    assert loss(LOGITS, TARGETS).item() == pytest.approx((nlq([0.8, 2.2], 0) + nlq([1.6, 1.4], 1)) / 2)
    # predictions are the network's own
    assert loss.eval()(LOGITS, TARGETS).item() == pytest.approx((-math.log(0.4) - math.log(0.2)) / 2)


def test_dropout_is_on_the_layers_weights_in_training() -> None:
    loss = noise(rate=0.5, weight=[[1.0, 0.5], [0.25, 2.0]])
    # a weight is left out, or counts twice
    kept = itertools.product(*((0, 2 * w) for w in (1.0, 0.5, 0.25, 2.0)))
    possible = [nlq([0.4 * a + 0.6 * b, 0.4 * c + 0.6 * d], 0) for a, b, c, d in kept]
    torch.manual_seed(0)
    drawn = [loss(LOGITS[:1], TARGETS[:1]).item() for _ in range(200)]
    assert {round(x, 4) for x in drawn} == {round(p, 4) for p in possible}


def test_one_logit_pixels_and_void() -> None:
    loss = noise(weight=[[1.5, 0.2], [0.1, 1.0]])
    logit = torch.tensor([[0.7], [-1.2]])
    both = torch.cat([torch.zeros(2, 1), logit], dim=1)
    for kind in (loss, SymmetricCrossEntropy()):
        assert torch.allclose(kind(logit, TARGETS), kind(both, TARGETS))
        pixels, masks = torch.randn(2, 2, 3, 4, generator=torch.manual_seed(0)), torch.zeros(2, 3, 4, dtype=torch.long)
        masks[0, 1], masks[1, 2] = 1, VOID
        flat, labels = pixels.movedim(1, -1).reshape(-1, 2), masks.flatten()
        assert torch.allclose(kind(pixels, masks), kind(flat[labels != VOID], labels[labels != VOID]))
        nothing = kind(pixels.requires_grad_(), torch.full_like(masks, VOID))
        assert nothing.item() == 0
        assert torch.autograd.grad(nothing, pixels)[0].abs().sum() == 0


@pytest.mark.parametrize(
    "make", [lambda: noise(weight=torch.rand(4, 4).tolist(), classes=4), lambda: SymmetricCrossEntropy(0.3, 0.7, -5)]
)
def test_gradients(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    loss = make().double()
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, VOID, 3, 2])
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits)
    for name, parameter in loss.named_parameters():
        assert torch.autograd.gradcheck(
            lambda w, name=name: torch.func.functional_call(loss, {name: w}, (logits.detach(), targets)), parameter
        )


def test_symmetric_cross_entropy_by_hand() -> None:
    # -ln .4 and 4 (1 - .4); -ln .2 and 4 (1 - .2)
    expected = (0.1 * 0.91629 + 4 * 0.6 + 0.1 * 1.60944 + 4 * 0.8) / 2
    assert SymmetricCrossEntropy()(LOGITS, TARGETS).item() == pytest.approx(expected, abs=1e-5)
    assert SymmetricCrossEntropy(1, 0)(LOGITS, TARGETS).item() == pytest.approx(CrossEntropy()(LOGITS, TARGETS).item())


def test_fade_in() -> None:
    plain, exponential = (loss(LOGITS, TARGETS).item() for loss in (CrossEntropy(), ExponentialUnlabelled()))

    def parts(fade: FadeIn) -> list[float]:
        values = [call_loss(fade, LOGITS, TARGETS, {"epoch": epoch}).item() for epoch in range(6)]
        return [(value - exponential) / (plain - exponential) for value in values]

    step = FadeIn(CrossEntropy(), ExponentialUnlabelled(), epochs=4)
    assert parts(step) == pytest.approx([1, 1, 1, 1, 0, 0], abs=1e-5)
    linear = FadeIn(CrossEntropy(), ExponentialUnlabelled(), epochs=4, linear=True)
    assert parts(linear) == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0], abs=1e-5)
    assert parts(step.eval()) == pytest.approx([0] * 6, abs=1e-5)
    with pytest.raises(ValueError, match="needs at least 1 epoch, got 0"):
        FadeIn(CrossEntropy(), CrossEntropy(), epochs=0)


def test_fade_in_passes_on_what_losses_need_and_trains_what_they_have() -> None:
    class Told(BatchLoss):
        needs = ("annotator",)

        def forward(self, logits: torch.Tensor, targets: torch.Tensor, batch: object) -> torch.Tensor:
            return logits.sum() * 0

    with pytest.raises(ValueError, match='FadeIn needs training batches with "annotator"'):
        call_loss(FadeIn(CrossEntropy(), FadeIn(Told(), CrossEntropy())), LOGITS, TARGETS, {"epoch": 0})
    fade = FadeIn(CrossEntropy(), noise())
    # its turn comes later; under DDP it needs a gradient now
    fade(LOGITS, TARGETS, {"epoch": 0}).backward()
    assert fade.then.weight.grad.abs().sum() == 0
    fade(LOGITS, TARGETS, {"epoch": 30}).backward()
    assert fade.then.weight.grad.abs().sum() > 0


class Careless(nn.Module):
    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = targets != VOID
        return nn.functional.cross_entropy(logits[known], targets[known])


def test_stacks_take_some() -> None:
    check_loss(SymmetricCrossEntropy(), 3)
    for made in (noise(classes=3), FadeIn(CrossEntropy(), CrossEntropy())):
        with pytest.raises(ValueError, match=f"nothing to train, got {type(made).__name__}; fit them one by one"):
            check_stackable(nn.Linear(2, 3), torch.optim.Adam, made)
    with pytest.raises(ValueError, match=r"vmap can map, got Careless \(.*\); fit them one by one"):
        check_loss(Careless(), 3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1, got 1"):
        DropoutNoise(2, rate=1)
    with pytest.raises(ValueError, match=r"a layer of 3 classes, got logits of 2; set model\.loss\.num_classes to 2"):
        DropoutNoise(3)(LOGITS, TARGETS)
    with pytest.raises(ValueError, match=r"log_zero below 0, got alpha 0\.1, beta -1 and log_zero -4\.0"):
        SymmetricCrossEntropy(beta=-1)
