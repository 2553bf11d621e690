"""Who predicts: the network that learns and its MC samples, or an ensemble of trained ones.

A predictor is a setting. On a network it becomes `Predictions`, which answer the same questions whoever predicts: one
pass with dropout off, and sums over samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from acquisition.checkpoints import matching_checkpoints, network_state
from acquisition.checks import Check
from acquisition.engine import Sampler, frozen, logits_of
from acquisition.identity import Described
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = ["Ensemble", "MCDropout", "Predictions", "Predictor"]

_Seen = Callable[[Tensor], None]


class Predictor(Described, ABC):
    """How a network is asked: a setting that holds no network and no weights."""

    num_samples: int
    """T, the samples of a query; 0 where files of the cycle say how many."""
    is_joint: bool = True
    """Whether sample t is the same whole network for every unit, as a joint distribution over units needs."""

    @abstractmethod
    def check(self, name: str, min_samples: int, asks_files: bool) -> None:
        """Refuse an acquisition function that cannot be asked this way.

        Args:
            name: The acquisition function's.
            min_samples: The fewest samples that it needs; 0 where it asks for none.
            asks_files: Whether it asks a network from a file.

        Raises:
            ValueError: If they do not go together.
        """

    @abstractmethod
    def on(self, network: nn.Module, seed: int, cycle: int) -> "Predictions":
        """The predictions of a query.

        Args:
            network: From images, N x 3 x H x W, to logits, N x C x H x W or N x C.
            seed: What is drawn depends on it,
            cycle: and on the cycle.
        """

    def files(self, cycle: int) -> list[Path]:
        """Files on which the predictions depend.

        Args:
            cycle: The query's.
        """
        return []

    def named(self, acquisition: str) -> str:
        """The name of a strategy in ledgers, tables and figures.

        Args:
            acquisition: The name of the acquisition function that is asked this way.
        """
        return acquisition


class Predictions(ABC):
    """The predictions of a query: keep one for all its batches, because it remembers what it has prepared.

    Args:
        network: The one that learns, which gives the passes with dropout off.
        predictor: How it is asked.
        seed: The query's.
        cycle: The query's.
    """

    samples_name: str
    """What two samples are called in the doctor's checks,"""
    samples_remedy: str
    """and what to do where they are equal."""

    def __init__(self, network: nn.Module, predictor: Predictor, seed: int, cycle: int) -> None:
        self.network = network
        self.predictor = predictor
        self.seed = seed
        self.cycle = cycle
        self._others: dict[object, Predictions] = {}

    def logits(
        self, images: Tensor, moved: Callable[[nn.Module, Tensor], Tensor] = lambda network, images: images
    ) -> Tensor:
        """One pass with dropout off.

        Args:
            images: N x 3 x H x W.
            moved: From the network and the images to the images that are passed; gradients can be taken in it.

        Returns:
            N x C x H x W or N x C.
        """
        with frozen(self.network), torch.inference_mode(False):
            images = moved(self.network, images)
            with torch.no_grad():
                return logits_of(self.network(images))

    @abstractmethod
    def count(self, num_samples: int | None) -> int:
        """How many samples there are.

        Args:
            num_samples: How many are asked for; None for all.
        """

    @abstractmethod
    def statistics(
        self,
        images: Tensor,
        needs: Collection[Statistic],
        num_samples: int,
        groups: int = 1,
        image_ids: Sequence[str] = (),
        seen: _Seen | None = None,
    ) -> list[StreamingStatistics]:
        """Means over samples.

        Args:
            images: N x 3 x H x W.
            needs: What is kept.
            num_samples: As many as `count` says.
            groups: Parts of the samples, as equal as can be: their scatter tells the sampling error.
            image_ids: N ids, where every image has masks of its own.
            seen: Called with each sample's logits, N x C x ....

        Returns:
            The statistics of each part.
        """

    @abstractmethod
    def examine(self, images: Tensor, image_ids: Sequence[str]) -> list[Check]:
        """The doctor's checks of two samples.

        Args:
            images: N x 3 x H x W.
            image_ids: N ids.
        """

    def of(self, key: object, make: Callable[[nn.Module], nn.Module]) -> "Predictions":
        """The predictions of another network, asked in the same way.

        Args:
            key: What stands for it; it is made once.
            make: From the network that learns to the other one.
        """
        if key not in self._others:
            self._others[key] = self.predictor.on(make(self.network), self.seed, self.cycle)
        return self._others[key]

    def _compared(self, first: Tensor, second: Tensor) -> Check:
        spread = (first - second).abs().max().item()
        return Check(
            f"largest difference between two {self.samples_name}",
            f"{spread:.3g}",
            spread > 0 or not torch.isfinite(first).all().item(),
            self.samples_remedy,
        )


class MCDropout(Predictor):
    """Monte Carlo dropout (Gal and Ghahramani 2016): T passes of the network with dropout on.

    Sample t is one network, the same for every image, so that a score does not depend on the batch. Kept activations
    are divided by 1 - rate, in training and here, so that their expectation is the same at any rate.

    Args:
        num_samples: T, MC samples where the acquisition function draws any.
        rate: One rate for all dropout layers during the query; None for the training rates.
        per_image_masks: Every image its own dropout masks instead of shared ones.
        at_output_stride: Take values before the network's last bilinear upsampling, where it ends in one: approximate
            and cheaper.

    Raises:
        ValueError: If the rate does not lie between 0 and 1.
    """

    def __init__(
        self,
        num_samples: int = 10,
        rate: float | None = None,
        per_image_masks: bool = False,
        at_output_stride: bool = False,
    ) -> None:
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"the dropout rate at query time must lie between 0 and 1, got {rate}")
        self.num_samples = num_samples
        self.rate = rate
        self.per_image_masks = per_image_masks
        self.at_output_stride = at_output_stride
        self.is_joint = not (per_image_masks or at_output_stride)

    def check(self, name: str, min_samples: int, asks_files: bool) -> None:
        if self.num_samples < min_samples:
            raise ValueError(f"num_samples must be at least {min_samples} for {name}, got {self.num_samples}")

    def on(self, network: nn.Module, seed: int, cycle: int) -> "_SampledNetworks":
        return _SampledNetworks(network, self, seed, cycle)

    def sampler(self, network: nn.Module, key: Sequence[object]) -> Sampler:
        """What draws the samples of a network, for a query or for anything else.

        Args:
            network: From images, N x 3 x H x W, to logits, N x C x H x W or N x C.
            key: What the masks are drawn from, beside layer and t.
        """
        return Sampler(network, key, self.rate, self.per_image_masks, self.at_output_stride)


class _SampledNetworks(Predictions):
    samples_name = "samples"
    samples_remedy = (
        "give the network a dropout layer that its output depends on, or choose a strategy without MC samples"
    )

    def __init__(self, network: nn.Module, predictor: MCDropout, seed: int, cycle: int) -> None:
        super().__init__(network, predictor, seed, cycle)
        self.sampler = predictor.sampler(network, (seed, cycle))

    def count(self, num_samples: int | None) -> int:
        return num_samples or self.predictor.num_samples

    def statistics(
        self,
        images: Tensor,
        needs: Collection[Statistic],
        num_samples: int,
        groups: int = 1,
        image_ids: Sequence[str] = (),
        seen: _Seen | None = None,
    ) -> list[StreamingStatistics]:
        if seen is None:
            return self.sampler.grouped_statistics(images, num_samples, needs, groups, image_ids)
        outputs = self.sampler.samples(images, num_samples, image_ids)
        return _collected(map(logits_of, outputs), num_samples, needs, groups, seen)

    def examine(self, images: Tensor, image_ids: Sequence[str]) -> list[Check]:
        sampler = self.sampler
        first, second = (logits_of(o).detach().clone() for o in sampler.samples(images, 2, image_ids))
        report = sampler.report
        # a third sample costs what every further one costs
        operations = []
        for run in (
            sampler.full_passes(images, 1, image_ids),
            *(sampler.samples(images, t, image_ids) for t in (2, 3)),
        ):
            with FlopCounterMode(display=False) as counter:
                list(run)
            operations.append(counter.get_total_flops())
        share = (operations[2] - operations[1]) / max(operations[0], 1)
        rates = ", ".join(f"{d.layer.partition('#')[0] or 'functional'} {d.rate:g}" for d in report.dropouts)
        how = f"all of it, because {report.fallback}" if report.fallback else f"{share:.1%} of the operations"
        norms = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.network.modules())
        return [
            Check("active dropouts", f"{len(report.dropouts)}: {rates}", True),
            Check("repeated for each sample", how, True),
            Check("BatchNorm", f"{norms} layers, in evaluation mode while sampling", True),
            self._compared(first, second),
        ]


class Ensemble(Predictor):
    """K trained networks of one architecture in the place of T sampled ones (Lakshminarayanan et al. 2017).

    The network that learns gives the passes with dropout off, and is no member.

    Args:
        checkpoints: Paths or patterns (see `acquisition.checkpoints.matching_checkpoints`), such as
            runs/seed*/cycles/{cycle:02d}/best.ckpt.
    """

    num_samples = 0

    def __init__(self, checkpoints: list[str]) -> None:
        self.checkpoints = list(checkpoints)

    def check(self, name: str, min_samples: int, asks_files: bool) -> None:
        if not min_samples:
            raise ValueError(f"an ensemble takes the place of MC samples, but {name} draws none")
        if asks_files:
            raise ValueError("an ensemble has no dropout and no expert; leave out Expert, or choose MCDropout")

    def on(self, network: nn.Module, seed: int, cycle: int) -> "_Members":
        return _Members(network, self, seed, cycle)

    def files(self, cycle: int) -> list[Path]:
        return matching_checkpoints(self.checkpoints, cycle)

    def named(self, acquisition: str) -> str:
        return f"Ensemble({acquisition})"


class _Members(Predictions):
    samples_name = "members"
    samples_remedy = "give checkpoints of fits with different seeds"

    def __init__(self, network: nn.Module, predictor: Ensemble, seed: int, cycle: int) -> None:
        super().__init__(network, predictor, seed, cycle)
        self.paths = predictor.files(cycle)
        if len(self.paths) < 2:
            found = f"{self.paths[0]} alone" if self.paths else "none"
            raise ValueError(f"an ensemble must have at least 2 members, got {found}; give more checkpoints")
        with torch.inference_mode(False):
            self._states = [network_state(path, network) for path in self.paths]

    def count(self, num_samples: int | None) -> int:
        return len(self.paths)

    def statistics(
        self,
        images: Tensor,
        needs: Collection[Statistic],
        num_samples: int,
        groups: int = 1,
        image_ids: Sequence[str] = (),
        seen: _Seen | None = None,
    ) -> list[StreamingStatistics]:
        return _collected(self._outputs(images), num_samples, needs, groups, seen)

    def examine(self, images: Tensor, image_ids: Sequence[str]) -> list[Check]:
        first, second = (logits.clone() for logits in islice(self._outputs(images), 2))
        return [
            Check("ensemble", f"{len(self.paths)} networks, from {self.paths[0]} on", True),
            self._compared(first, second),
        ]

    def _outputs(self, images: Tensor) -> Iterator[Tensor]:
        """Each member's logits with dropout off."""
        for state in self._states:
            with frozen(self.network), torch.inference_mode(False), torch.no_grad():
                output = functional_call(self.network, state, (images.clone(),))
            yield logits_of(output)


def _collected(
    samples: Iterable[Tensor], count: int, needs: Collection[Statistic], groups: int, seen: _Seen | None
) -> list[StreamingStatistics]:
    parts = [StreamingStatistics(needs) for _ in range(groups)]
    for number, logits in enumerate(samples):
        parts[number * groups // count].update_logits(logits[None])
        if seen is not None:
            seen(logits)
    return parts
