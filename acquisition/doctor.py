"""Whether a query of this network can mean anything, asked before it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from acquisition.checkpoints import Ensemble
from acquisition.engine import MCDropout, logits_of
from acquisition.regions import Regions
from acquisition.scorer import Scorer

__all__ = ["Check", "DoctorError", "examine_network", "require"]


@dataclass(frozen=True)
class Check:
    """One question: what was found, whether that is well, and what to do if not."""

    name: str
    found: str
    passed: bool
    remedy: str = ""


class DoctorError(ValueError):
    """A query that could not mean anything was stopped."""


def require(checks: Sequence[Check]) -> None:
    """Stop with the remedies of the checks that failed, if any did."""
    failed = [f"{c.name}: {c.found}; {c.remedy}" for c in checks if not c.passed]
    if failed:
        raise DoctorError(f"the query was stopped before it began: {' | '.join(failed)}")


def examine_network(
    scorer: Scorer,
    network: nn.Module,
    images: Tensor,
    regions: Regions,
    seed: int,
    cycle: int = 0,
    truth: Tensor | None = None,
) -> list[Check]:
    """Try two MC samples on a few images, N x 3 x H x W, of the pool; one pass where the strategy draws no samples.

    An ensemble, that of the cycle, needs no dropout. truth: of the images, where the strategy compares with it.
    """
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    modes = [module.training for module in network.modules()]
    checks: list[Check] = []
    if scorer.ensemble:
        checks += _examine_ensemble(scorer.members(network, cycle), images)
    elif scorer.draws_samples:
        checks += _examine_sampling(scorer.sampler(network, seed, 0), images, regions.image_ids)
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


def _examine_sampling(sampler: MCDropout, images: Tensor, image_ids: Sequence[str]) -> list[Check]:
    first, second = (_numbers(o) for o in sampler.samples(images, 2, image_ids))
    report = sampler.report
    # a third sample costs what every further one costs
    operations = []
    for run in (sampler.full_passes(images, 1, image_ids), *(sampler.samples(images, t, image_ids) for t in (2, 3))):
        with FlopCounterMode(display=False) as counter:
            list(run)
        operations.append(counter.get_total_flops())
    share = (operations[2] - operations[1]) / max(operations[0], 1)
    spread = (first - second).abs().max().item()
    rates = ", ".join(f"{d.layer.partition('#')[0] or 'functional'} {d.rate:g}" for d in report.dropouts)
    how = f"all of it, because {report.fallback}" if report.fallback else f"{share:.1%} of the operations"
    norms = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in sampler.network.modules())
    return [
        Check("active dropouts", f"{len(report.dropouts)}: {rates}", True),
        Check("repeated for each sample", how, True),
        Check("BatchNorm", f"{norms} layers, in evaluation mode while sampling", True),
        Check(
            "largest difference between two samples",
            f"{spread:.3g}",
            spread > 0 or not torch.isfinite(first).all().item(),
            "give the network a dropout layer that its output depends on, or choose a strategy without MC samples",
        ),
    ]


def _examine_ensemble(members: Ensemble, images: Tensor) -> list[Check]:
    first, second = (_numbers(o) for o in islice(members.samples(images), 2))
    spread = (first - second).abs().max().item()
    return [
        Check("ensemble", f"{len(members.paths)} networks, from {members.paths[0]} on", True),
        Check(
            "largest difference between two members",
            f"{spread:.3g}",
            spread > 0 or not torch.isfinite(first).all().item(),
            "give checkpoints of fits with different seeds",
        ),
    ]


def _numbers(output: Any) -> Tensor:
    return logits_of(output).detach().clone()
