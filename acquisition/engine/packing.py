"""Convolutions of a tape: folded, split, and packed once for the library that runs them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.engine.tape import Call, Var, version_of

__all__ = ["Conv", "Packed", "arguments"]

Run = Callable[..., Tensor]
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def arguments(call: Call, names: Sequence[str]) -> dict[str, Any]:
    """A call's arguments by name."""
    return dict(zip(names, call.args, strict=False)) | call.kwargs


class Packed:
    """Folded and packed weights, kept from batch to batch as long as the weights that they come from do not change."""

    def __init__(self) -> None:
        self._ready: dict[tuple[Any, ...], tuple[list[tuple[Tensor, int]], Run]] = {}

    def get(self, key: tuple[Any, ...], sources: Sequence[Tensor], make: Callable[[], Run]) -> Run:
        """What `make` returned for this key, if the sources are unchanged; else what it returns now."""
        versions = [version_of(s) for s in sources]
        key = (*key, *map(id, sources))
        found = self._ready.get(key)
        if found is None or any(v != held[1] for v, held in zip(versions, found[0], strict=True)):
            # Holding the sources keeps their ids from being given to other tensors.
            found = self._ready[key] = (list(zip(sources, versions, strict=True)), make())
        return found[1]


@dataclass(frozen=True)
class Conv:
    """A 2-d convolution, the BatchNorm and ReLU behind it, and the part of it that is meant.

    Args:
        weight: The convolution's, like the next five.
        bias: None without.
        stride: Down and to the right.
        padding: The same.
        dilation: The same.
        groups: How many.
        norm: Running mean, running variance, weight, bias and eps of the BatchNorm.
        relu: Whether a ReLU follows.
        biased: Whether bias and the BatchNorm's shift are added.
        part: Range of channels that is meant; None for all.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    norm: tuple[Tensor, Tensor, Tensor | None, Tensor | None, float] | None = None
    relu: bool = False
    biased: bool = True
    part: tuple[int, int] | None = None

    @classmethod
    def from_call(cls, call: Call) -> "Conv | None":
        """The convolution of a call; None where this class cannot stand for it."""
        given = arguments(call, _CONV)
        weight, bias = given["weight"], given.get("bias")
        if not isinstance(given["input"], Var) or not isinstance(weight, Tensor) or isinstance(bias, Var):
            return None
        if isinstance(given.get("padding"), str) or weight.dtype != torch.float32 or weight.ndim != 4:
            return None
        groups = given.get("groups", 1)
        if groups not in (1, weight.shape[0]) or (groups > 1 and weight.shape[1] != 1):
            return None
        stride, padding, dilation = (
            _pair(given.get("stride", 1)),
            _pair(given.get("padding", 0)),
            _pair(given.get("dilation", 1)),
        )
        return cls(weight, bias, stride, padding, dilation, groups)

    @property
    def inputs(self) -> int:
        """Input channels."""
        return self.weight.shape[1] * self.groups

    def with_norm(self, call: Call) -> "Conv | None":
        """With an evaluation-mode batch_norm call folded in; None where it cannot be."""
        given = arguments(call, _NORM)
        mean, var = given["running_mean"], given["running_var"]
        scale, shift = given.get("weight"), given.get("bias")
        if mean is None or var is None or given.get("training") or any(isinstance(x, Var) for x in (scale, shift)):
            return None
        return replace(self, norm=(mean, var, scale, shift, given.get("eps", 1e-5)))

    def with_relu(self) -> "Conv":
        """With a ReLU behind it."""
        return replace(self, relu=True)

    def split_groups(self, channels: Sequence[int]) -> "list[Conv]":
        """A depthwise convolution as one per group of channels."""
        return [replace(self, part=p) for p in _ranges(channels)]

    def split_inputs(self, channels: Sequence[int]) -> "list[Conv]":
        """A dense convolution as a sum over groups of input channels, none of which adds bias or applies ReLU."""
        return [replace(self, part=p, biased=False, relu=False) for p in _ranges(channels)]

    def finishing(self, whole: "Conv") -> "Conv":
        """This part of a sum as its last term."""
        return replace(self, biased=True, relu=whole.relu)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the meant part, with the norm in them."""
        weight, bias = self.weight.detach(), self.bias
        if self.norm is not None:
            mean, var, scale, shift, eps = self.norm
            factor = (var.double() + eps).rsqrt() * (1 if scale is None else scale.double())
            weight = (weight.double() * factor[:, None, None, None]).float()
            bias = ((0 if bias is None else bias.double()) - mean.double()) * factor
            bias = (bias + (0 if shift is None else shift.double())).float()
        if self.part is not None:
            first, last = self.part
            weight = weight[first:last] if self.groups > 1 else weight[:, first:last]
            bias = bias[first:last] if bias is not None and self.groups > 1 else bias
        return weight, bias.detach() if bias is not None and self.biased else None

    def packed(self, store: Packed, like: Tensor) -> Run:
        """A function of the input and of what to add to the result (or None) before the ReLU."""
        norm = [] if self.norm is None else [x for x in self.norm if isinstance(x, Tensor)]
        sources = [self.weight, *([] if self.bias is None else [self.bias]), *norm]
        channels_last = like.is_contiguous(memory_format=torch.channels_last)
        spec = (self.stride, self.padding, self.dilation, self.groups, self.relu, self.biased, self.part)
        key = (*spec, tuple(like.shape[1:]), channels_last)
        return store.get(key, sources, lambda: self._make(like, channels_last))

    def _make(self, like: Tensor, channels_last: bool) -> Run:
        weight, bias = self.folded()
        groups = weight.shape[0] if self.groups > 1 else 1
        if like.device.type == "cpu" and torch._C._has_mkldnn and channels_last:
            try:
                return self._make_mkldnn(weight, bias, groups, like)
            except (AttributeError, RuntimeError):
                pass  # a build of torch without these operators
        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight = weight.contiguous(memory_format=layout)

        def run(x: Tensor, plus: Tensor | None = None) -> Tensor:
            y = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)
            y = y if plus is None else y.add_(plus)
            return y.relu_() if self.relu else y

        return run

    def _make_mkldnn(self, weight: Tensor, bias: Tensor | None, groups: int, like: Tensor) -> Run:
        geometry = (list(self.padding), list(self.stride), list(self.dilation), groups)
        ops = torch.ops.mkldnn
        packed = ops._reorder_convolution_weight(weight.contiguous(), *geometry, list(like.shape))
        relu = "relu" if self.relu else None

        def run(x: Tensor, plus: Tensor | None = None) -> Tensor:
            y: Tensor
            if plus is not None:
                y = ops._convolution_pointwise.binary(x, plus, packed, bias, *geometry, "add", 1.0, relu, [], None)
            else:
                y = ops._convolution_pointwise(x, packed, bias, *geometry, relu or "none", [], "")
            return y

        with torch.no_grad():
            run(like)  # fails here, not in the middle of a query
        return run


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (tuple(value) * 2)[:2]


def _ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return list(pairwise(edges))
