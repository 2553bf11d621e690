"""Oracle strategies against cases worked by hand and torchmetrics."""

import math

import pytest
import torch
from torch import nn
from torchmetrics.functional.segmentation import mean_iou

from acquisition.aggregation import Sum
from acquisition.functions import Entropy, Expert, Inverse
from acquisition.kinds import TruthAcquisition
from acquisition.regions import Regions
from acquisition.scorer import Scorer
from acquisition.truth import Incorrect, LowestMIoU, TrueClassLoss

EACH: list[TruthAcquisition] = [Incorrect(), TrueClassLoss(), LowestMIoU()]
each = pytest.mark.parametrize("acquisition", EACH, ids=lambda a: a.name)


def score(acquisition: TruthAcquisition, logits: torch.Tensor, truth: torch.Tensor) -> list[float]:
    names = [str(i) for i in range(len(truth))]
    return Scorer(acquisition)(nn.Identity(), logits, Regions.whole(names), 0, 0, truth=truth).scores.tolist()


def test_classification() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    truth = torch.tensor([0, 2, 2])
    assert score(Incorrect(), logits, truth) == [0, 1, 0]
    expected = nn.functional.cross_entropy(logits, truth, reduction="none").tolist()
    assert score(TrueClassLoss(), logits, truth) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"LowestMIoU needs masks, N x H x W, got truth of 1 dimension"):
        score(LowestMIoU(), logits, truth)


def test_masks_without_their_void_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 6, 5, generator=generator)
    truth = torch.randint(3, (4, 6, 5), generator=generator)
    truth[0, :3] = 255
    predicted = logits.argmax(dim=1)
    wrong = [
        ((p != t) & (t != 255)).sum().item() / (t != 255).sum().item() for p, t in zip(predicted, truth, strict=True)
    ]
    assert score(Incorrect(), logits, truth) == pytest.approx(wrong)
    loss = [
        nn.functional.cross_entropy(x[None], t[None], ignore_index=255).item()
        for x, t in zip(logits, truth, strict=True)
    ]
    assert score(TrueClassLoss(), logits, truth) == pytest.approx(loss, rel=1e-5)
    # torchmetrics knows no void, so it is cut away: the first image's lower half
    miou = [
        mean_iou(p[None], t[None], num_classes=3, input_format="index").item()
        for p, t in zip([predicted[0, 3:], *predicted[1:]], [truth[0, 3:], *truth[1:]], strict=True)
    ]
    assert score(LowestMIoU(), logits, truth) == pytest.approx([1 - m for m in miou], abs=1e-6)


def test_classes_that_neither_truth_nor_prediction_has_do_not_count() -> None:
    truth = torch.tensor([[[0, 0, 1, 1]]])
    logits = nn.functional.one_hot(torch.tensor([[[0, 0, 0, 1]]]), 9).permute(0, 3, 1, 2).float()
    # class 0: 2 of 3, class 1: 1 of 2
    assert score(LowestMIoU(), logits, truth) == pytest.approx([1 - (2 / 3 + 1 / 2) / 2])


@each
def test_void_alone_scores_nothing(acquisition: TruthAcquisition) -> None:
    assert score(acquisition, torch.randn(1, 3, 2, 2), torch.full((1, 2, 2), 255)) == [0]


@each
def test_one_logit_is_a_sigmoid(acquisition: TruthAcquisition) -> None:
    single = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    both = torch.cat([torch.zeros_like(single), single], dim=1)
    truth = torch.randint(2, (3, 4, 4), generator=torch.Generator().manual_seed(2))
    assert score(acquisition, single, truth) == pytest.approx(score(acquisition, both, truth), rel=1e-5)


@each
def test_they_are_declared_and_need_truth(acquisition: TruthAcquisition) -> None:
    scorer = Scorer(acquisition)
    assert scorer.is_oracle
    assert scorer.reads_truth
    assert scorer.name == f"oracle:{acquisition.name}"
    with pytest.raises(ValueError, match="compares with the truth, got none"):
        scorer(nn.Identity(), torch.zeros(1, 3, 2, 2), Regions.whole(["a"]), 0, 0)
    with pytest.raises(ValueError, match="output for image 'a' has NaN"):
        scorer(
            nn.Identity(), torch.full((1, 3, 2, 2), math.nan), Regions.whole(["a"]), 0, 0, truth=torch.zeros(1, 2, 2)
        )
    with pytest.raises(ValueError, match="takes no aggregation, got Sum"):
        Scorer(acquisition, Sum())


def test_others_are_not_oracles_and_an_expert_is() -> None:
    assert not Scorer(Entropy()).is_oracle
    expert = Scorer(Inverse(Expert("there.ckpt", Entropy())))
    assert expert.is_oracle
    assert not expert.reads_truth
    assert expert.name == "oracle:Inverse(Expert(Entropy))-Mean"
