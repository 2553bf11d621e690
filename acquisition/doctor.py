"""Whether a query of this network can mean anything, asked before it is made."""

import torch
from torch import Tensor, nn

from acquisition.checks import Check
from acquisition.regions import Regions
from acquisition.scorer import Scorer

__all__ = ["examine_network"]


def examine_network(
    scorer: Scorer,
    network: nn.Module,
    images: Tensor,
    regions: Regions,
    seed: int,
    cycle: int = 0,
    truth: Tensor | None = None,
) -> list[Check]:
    """Try the strategy on a few images, with two samples of those that its predictor draws, or one pass.

    Args:
        scorer: What the strategy asks of the network.
        network: From images to logits, N x C x H x W or N x C.
        images: N x 3 x H x W, of the pool.
        regions: The units of these images.
        seed: The query's.
        cycle: The query's.
        truth: Of the images, N x H x W or N, where the strategy compares with it.

    Returns:
        What was found; an error of the network's is raised as it comes.
    """
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    modes = [module.training for module in network.modules()]
    checks: list[Check] = []
    if scorer.draws_samples:
        asked = scorer.acquisition.asked(scorer.predictions(network, seed, cycle))
        checks += asked.examine(images, regions.image_ids)
    if scorer.features or not scorer.draws_samples:
        scorer(network, images, regions, seed, cycle, min(2, scorer.num_samples), truth=truth)
    changed = [n for n, b in network.named_buffers() if not torch.equal(b, before[n])]
    same_modes = modes == [module.training for module in network.modules()]
    checks += [
        Check(
            "buffers after two samples",
            f"{', '.join(changed[:3])} changed" if changed else f"{len(before)} unchanged",
            not changed,
            "keep BatchNorm and other running statistics from updating in evaluation mode",
        ),
        Check("training modes after two samples", "restored" if same_modes else "changed", same_modes, "report this"),
    ]
    return checks
