"""Monte Carlo dropout: T stochastic passes whose masks belong to the sampled network, not to the image.

The masks of sample t are drawn from (key, layer, t) and the feature shape, and are shared by every image, so
sample t is one network and a score does not depend on batch size, order or device. A dropout layer keeps its
values with probability 1 - p and divides them by 1 - p ("inverted dropout"), in training and here, so the
expected activation is the same at any p: this is the weight rescaling that makes a query rate different from
the training rate legitimate.

What no dropout reaches is computed once per batch: the first pass is recorded, the others run the recording
(`acquisition.engine.recording`), made faster where it can be (`acquisition.engine.suffix`).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from acquisition.engine.masks import DropoutOp, MaskKey
from acquisition.engine.packing import Packed
from acquisition.engine.recording import Pass
from acquisition.engine.suffix import Suffix, UnsupportedTapeError
from acquisition.engine.tape import DataDependentError, Tape, Var
from acquisition.statistics import Statistic, StreamingStatistics

__all__ = ["Report", "Sampler", "active_dropouts", "logits_of"]

_TOLERANCE = 1e-4
"""Largest difference between a recorded and a full pass, relative to the largest output, that rounding explains."""


@dataclass
class Report:
    """How the last batch was sampled, for people.

    Args:
        dropouts: Those that ran.
        fallback: Why every sample was a full pass; empty where only the part behind the dropouts was repeated.
        repeated: The share of torch functions in that part.
        optimised: Whether that part was also made faster, and why not.
    """

    dropouts: tuple[DropoutOp, ...] = ()
    fallback: str = ""
    repeated: float = 1.0
    optimised: str = ""


@dataclass
class _Prepared:
    """The first sample, and how to get the others."""

    output: Any
    tape: Tape | None = None
    suffix: Suffix | None = None


@dataclass
class Sampler:
    """Draws MC samples of a network. Keep one for a whole query: it remembers packed weights and what it checked.

    Args:
        network: From images to logits, N x C x H x W or N x C.
        key: What the masks are drawn from beside layer and t: a seed and a cycle.
        rate: One dropout rate for all layers at query time; None for each layer's training rate.
        per_image: Independent masks for every image (drawn from its id too) instead of shared ones.
        low_resolution: Statistics before the network's last bilinear resizing, if it ends in one: approximate, and
            many pixels fewer.
        report: How the last batch was sampled.

    Raises:
        ValueError: If the rate does not lie between 0 and 1.
    """

    network: nn.Module
    key: Sequence[object]
    rate: float | None = None
    per_image: bool = False
    low_resolution: bool = False
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < 1:
            raise ValueError(f"the dropout rate at query time must lie between 0 and 1, got {self.rate}")
        self._packed = Packed()
        self._fallback = ""
        self._checked = False
        self._plain = False

    def statistics(
        self, images: Tensor, num_samples: int, needs: Collection[Statistic], image_ids: Sequence[str] = ()
    ) -> StreamingStatistics:
        """Means over MC samples of the softmax of the network's logits.

        Equal to those of T full passes with the same masks up to rounding (1e-5). The first call compares one
        recorded sample with a full pass.

        Args:
            images: N x ....
            num_samples: T.
            needs: What is kept.
            image_ids: N ids, where every image has masks of its own.
        """
        return self.grouped_statistics(images, num_samples, needs, 1, image_ids)[0]

    def grouped_statistics(
        self, images: Tensor, num_samples: int, needs: Collection[Statistic], groups: int, image_ids: Sequence[str] = ()
    ) -> list[StreamingStatistics]:
        """The same for parts of the samples: their scatter tells the sampling error.

        Args:
            images: N x ....
            num_samples: T.
            needs: What is kept.
            groups: How many parts, as equal as can be.
            image_ids: N ids, where every image has masks of its own.
        """
        with torch.inference_mode(False), torch.no_grad():
            statistics = [StreamingStatistics(needs) for _ in range(groups)]
            masks = self._masks(images, image_ids)
            prepared = self._prepare(images, masks, optimise=True, last=num_samples - 1)
            resize = prepared.suffix.resize if prepared.suffix else None
            low = self.low_resolution and prepared.suffix is not None and resize is not None
            if not low:
                statistics[0].update_logits(logits_of(prepared.output)[None])
            prepared.output = None
            for number, group in enumerate(statistics):
                first, last = (num_samples * n // groups for n in (number, number + 1))
                for chunk in self._chunks(prepared, images, masks, max(first, 0 if low else 1), last):
                    group.update_logits(chunk, None if low else resize)
            return statistics

    def samples(self, images: Tensor, num_samples: int, image_ids: Sequence[str] = ()) -> Iterator[Any]:
        """Yield T outputs of the network, bit for bit as T full passes with the same masks give them.

        Args:
            images: N x ....
            num_samples: T.
            image_ids: N ids, where every image has masks of its own.
        """
        masks = self._masks(images, image_ids)
        with torch.inference_mode(False), torch.no_grad():
            prepared = self._prepare(images, masks, optimise=False, last=num_samples - 1)
            others = self._others(prepared, images, masks, 1, num_samples)
        yield prepared.output
        prepared.output = None
        for _ in range(1, num_samples):
            with torch.inference_mode(False), torch.no_grad():
                output = next(others)
            yield output

    def full_passes(
        self, images: Tensor, num_samples: int, image_ids: Sequence[str] = (), first: int = 0
    ) -> Iterator[Any]:
        """Yield samples, each from a whole pass: the reference of the others.

        Args:
            images: N x ....
            num_samples: The number behind the last sample's.
            image_ids: N ids, where every image has masks of its own.
            first: The first sample's number.
        """
        masks = self._masks(images, image_ids)
        for t in range(first, num_samples):
            with torch.inference_mode(False), torch.no_grad():
                output = self._pass(images, masks, t).output
            yield output

    def _masks(self, images: Tensor, image_ids: Sequence[str]) -> MaskKey:
        if self.per_image and len(image_ids) != images.shape[0]:
            raise ValueError(
                f"independent masks need one id per image: expected {images.shape[0]} image_ids, got {len(image_ids)}"
            )
        return MaskKey(tuple(self.key), tuple(image_ids) if self.per_image else None)

    def _pass(self, images: Tensor, masks: MaskKey, t: int, record: bool = False) -> "_Done":
        network = getattr(self.network, "_orig_mod", self.network)  # of a compiled one
        done = Pass(network, masks, t, self.rate, record)
        # A copy, because a network may write into what it is given, and because of the layout.
        copy = images.clone(memory_format=_layout(self.network, images))
        output = done.run(copy)
        if not done.dropouts:
            raise ValueError(
                "MC dropout needs a network with at least one active dropout layer, got none that ran; "
                "give the network a dropout rate above 0, or choose a strategy that needs no MC samples"
            )
        return _Done(output, done)

    def _prepare(self, images: Tensor, masks: MaskKey, optimise: bool, last: int) -> _Prepared:
        done = self._pass(images, masks, 0, record=not self._fallback)
        self.report = Report(tuple(done.made_by.dropouts), self._fallback or done.made_by.reason)
        prepared = _Prepared(done.output, done.made_by.tape)
        if prepared.tape is None:
            return prepared
        self.report.repeated = len(prepared.tape.calls) / max(done.made_by.calls_seen, 1)
        if not self._checked and last > 0:
            self._check(prepared.tape, images, masks, last, optimise)
            if self._fallback:
                prepared.tape = None
                return prepared
        if optimise:
            prepared.suffix = self._optimise(prepared.tape, images.shape[0])
        return prepared

    def _check(self, tape: Tape, images: Tensor, masks: MaskKey, t: int, optimise: bool) -> None:
        """Compare the recording with a full pass, once: nothing that the recording cannot see may go unnoticed."""
        expected = logits_of(self._pass(images, masks, t).output)
        try:
            got = logits_of(tape.run(masks, t))
        except DataDependentError as error:
            self._fall_back(str(error))
            return
        if got.shape != expected.shape or not _close(got, expected):
            self._fall_back("the recorded part does not reproduce a full pass")
            return
        suffix = self._optimise(tape, images.shape[0]) if optimise else None
        if suffix is not None:
            try:
                # Two samples, so that running several as one batch is tried too.
                chunk = next(suffix.run(masks, t, t + 2))[0]
                right = _close(suffix.resize(chunk) if suffix.resize else chunk, expected)
            except RuntimeError:
                right = False
            self._plain = not right
        self._checked = optimise

    def _fall_back(self, reason: str) -> None:
        self._fallback = reason
        self.report = Report(self.report.dropouts, reason)

    def _optimise(self, tape: Tape, images: int) -> Suffix | None:
        if not isinstance(tape.output, Var) or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            self.report.optimised = "no: the output is not one tensor, or autocast is on"
            return None
        if self._plain:
            self.report.optimised = "no: the faster form does not reproduce a full pass"
            return None
        try:
            suffix = Suffix(tape, images, self._packed)
        except UnsupportedTapeError as error:
            self.report.optimised = f"no: {error}"
            return None
        self.report.optimised = "yes"
        return suffix

    def _chunks(self, prepared: _Prepared, images: Tensor, masks: MaskKey, first: int, last: int) -> Iterator[Tensor]:
        """Logits of samples first to last - 1, S x N x C x ..., some at a time."""
        if prepared.suffix is not None:
            yield from prepared.suffix.run(masks, first, last)
        else:
            for output in self._others(prepared, images, masks, first, last):
                yield logits_of(output)[None]

    def _others(self, prepared: _Prepared, images: Tensor, masks: MaskKey, first: int, last: int) -> Iterator[Any]:
        """Outputs for samples first to last - 1."""
        for t in range(first, last):
            if prepared.tape is not None:
                try:
                    output = prepared.tape.run(masks, t)
                except DataDependentError as error:
                    self._fall_back(str(error))
                    prepared.tape = None
            if prepared.tape is None:
                output = self._pass(images, masks, t).output
            yield output


@dataclass
class _Done:
    output: Any
    made_by: Pass


def active_dropouts(network: nn.Module, images: Tensor) -> tuple[DropoutOp, ...]:
    """The dropouts that run when samples of a network are drawn; none where all samples would be equal.

    Args:
        network: From images to logits.
        images: N x ....

    Returns:
        In their order.

    Raises:
        ValueError: It has dropout that the engine cannot see, or other randomness.
    """
    done = Pass(getattr(network, "_orig_mod", network), MaskKey((), None), 0, None)
    with torch.inference_mode(False), torch.no_grad():
        done.run(images.clone(memory_format=_layout(network, images)))
    return tuple(done.dropouts)


def _layout(network: nn.Module, images: Tensor) -> torch.memory_format:
    """Channels-last where the network's convolutions are."""
    if images.ndim != 4:
        return torch.contiguous_format
    for p in network.parameters():
        if p.ndim == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
    return torch.contiguous_format


def logits_of(output: Any) -> Tensor:
    """The logits in a network's output.

    Args:
        output: Logits, or a dict with the entry "out" (torchvision).

    Raises:
        ValueError: If there are none.
    """
    found = output.get("out") if isinstance(output, dict) else output
    if not isinstance(found, Tensor):
        raise ValueError(
            f"MC dropout needs logits from the network: expected a tensor, or a dict with a tensor 'out', "
            f"got {type(output).__name__}; wrap the network in a module that returns its logits"
        )
    return found


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.double(), b.double()
    finite = torch.isfinite(a) & torch.isfinite(b)
    scale = b[finite].abs().max().item() if finite.any() else 0.0
    same = (a == b) | (a.isnan() & b.isnan())
    return bool((same | ((a - b).abs() <= _TOLERANCE * (1 + scale))).all())
