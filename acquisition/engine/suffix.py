"""A tape made fast: the same values up to rounding, with less arithmetic and less memory traffic.

Done here: BatchNorm folded into the convolution before it, ReLU and addition fused behind it, weights packed
once per query; convolutions over a concatenation split, so that what no dropout touches is convolved once; the
part with small tensors run for several samples as one batch; the final bilinear resizing left to the
statistics, which do it block by block. A tape that has something else in it runs that part as recorded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.engine.masks import DropoutOp, MaskKey
from acquisition.engine.packing import Conv, Packed, arguments
from acquisition.engine.tape import Tape, Var, function_name, map_tensors, tensors_in, variables_in
from acquisition.fused import Bilinear

__all__ = ["Suffix", "UnsupportedTapeError"]

_BATCH_BYTES = 32 * 2**20
_SMALL_BYTES = 8 * 2**20
_MAX_SAMPLES = 8

_RELU = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_ELEMENTWISE = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "gelu",
        "silu",
        "silu_",
        "leaky_relu",
        "leaky_relu_",
        "elu",
        "elu_",
        "selu",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "softplus",
        "mish",
        "hardtanh",
        "hardtanh_",
        "add",
        "add_",
        "sub",
        "mul",
        "mul_",
        "div",
        "__add__",
        "__radd__",
        "__iadd__",
        "__sub__",
        "__rsub__",
        "__mul__",
        "__rmul__",
        "__imul__",
        "__truediv__",
        "contiguous",
        "clone",
    ]
)
_PER_UNIT = frozenset(
    [
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "linear",
        "batch_norm",
        "group_norm",
        "interpolate",
        "max_pool2d",
        "avg_pool2d",
        "adaptive_avg_pool2d",
    ]
)
_FRESH = (_PER_UNIT | _ELEMENTWISE | {"cat", "matmul", "layer_norm", "softmax"}) - {"contiguous"}


class UnsupportedTapeError(Exception):
    """The tape holds something that cannot be made faster; it can still be run as it is."""


@dataclass(frozen=True)
class _Step:
    """One thing to do: `run(inputs, samples, t)` with the inputs' values for these samples, first sample first."""

    run: Callable[[list[Tensor], "_Samples"], Tensor]
    inputs: tuple[int, ...]
    result: int
    batchable: bool


@dataclass(frozen=True)
class _Samples:
    """Samples first, first + 1, ... that run as one batch of count x images."""

    first: int
    count: int
    images: int
    masks: MaskKey


class Suffix:
    """Runs a tape for many samples; made for one tape, and only where its output is one tensor.

    resize: what has still to be done to its results; None for nothing.
    """

    def __init__(self, tape: Tape, images: int, packed: Packed) -> None:
        self.images, self.packed = images, packed
        self.shapes = list(tape.shapes)
        self._calls = list(tape.calls)
        self._uses: dict[int, list[int]] = {}
        for position, call in enumerate(self._calls):
            for v in variables_in((call.args, call.kwargs)):
                self._uses.setdefault(v.index, []).append(position)
        self._output = tape.output.index
        self._uses.setdefault(self._output, []).append(len(self._calls))
        self._absorbed: set[int] = set()
        self._parts: dict[int, list[Tensor | Var]] = {}
        self._steps: list[_Step] = []
        self.resize = self._take_resize()
        self.fused = self._is_functional()
        for position in range(len(self._calls)):
            if position not in self._absorbed:
                self._translate(position)
        early = 0
        while early < len(self._steps) and self._steps[early].batchable and self._is_small(self._steps[early].result):
            early += 1
        self._early, self._late = self._steps[:early], self._steps[early:]
        largest = max((self._bytes(s.result) for s in self._early), default=_BATCH_BYTES)
        self._batch = max(1, min(_MAX_SAMPLES, _BATCH_BYTES // largest)) if early else 1

    def run(self, masks: MaskKey, first: int, last: int) -> Iterator[Tensor]:
        """Results of samples first to last - 1, in chunks: S x N x C x ..., before `resize`."""
        chunks = ceil((last - first) / self._batch)
        edges = [first + (last - first) * i // chunks for i in range(chunks + 1)] if chunks else []
        for start, stop in pairwise(edges):
            shared = self._run(self._early, {}, _Samples(start, stop - start, self.images, masks))
            results = []
            for t in range(start, stop):
                offset = (t - start) * self.images
                values = {i: x.narrow(0, offset, self.images) for i, x in shared.items()}
                results.append(self._run(self._late, values, _Samples(t, 1, self.images, masks))[self._output])
                if self._bytes(self._output) > _SMALL_BYTES:
                    yield results.pop()[None]
            if results:
                yield torch.stack(results)

    def _run(self, steps: list[_Step], values: dict[int, Tensor], samples: _Samples) -> dict[int, Tensor]:
        """Do the steps; returns what later steps or the caller still need."""
        later = self._late if steps is self._early else []
        keep = {i for s in later for i in s.inputs} | {self._output}
        last = {i: position for position, s in enumerate(steps) for i in (*s.inputs, s.result)}
        for position, step in enumerate(steps):
            values[step.result] = step.run([values[i] for i in step.inputs], samples)
            for i in {*step.inputs, step.result}:
                if last[i] == position and i not in keep:
                    del values[i]
        return values

    def _translate(self, position: int) -> None:
        call = self._calls[position]
        name = function_name(call.func)
        if isinstance(call.func, DropoutOp):
            self._add_dropout(call.func, call.args[0], call.results[0], bool(call.kwargs.get("inplace")))
        elif self.fused and name == "conv2d" and self._add_conv(position):
            pass
        elif self.fused and name == "cat" and self._can_split(position):
            given = arguments(call, ("tensors", "dim"))
            self._parts[call.results[0]] = list(given["tensors"])
        else:
            self._add_other(position, name)

    def _add_dropout(self, op: DropoutOp, x: Tensor | Var, result: int, inplace: bool) -> None:
        source = x if isinstance(x, Tensor) else None

        def run(inputs: list[Tensor], samples: _Samples) -> Tensor:
            value = inputs[0] if source is None else source
            if samples.count == 1:
                return op(value, samples.masks, samples.first, inplace and source is None)
            value = value.view(samples.count, -1, *value.shape[1:]) if source is None else value[None]
            one = torch.empty_like(value[0])
            out = torch.empty_strided(
                (samples.count, *one.shape), (one.numel(), *one.stride()), dtype=one.dtype, device=one.device
            )
            for k in range(samples.count):
                multiplier, offset = op.factors(samples.masks, samples.first + k, value[k if source is None else 0])
                torch.mul(value[k if source is None else 0], multiplier, out=out[k])
                if offset is not None:
                    out[k] += offset
            return out.flatten(0, 1)

        batchable = op.images > 0 and op.images == (self.shapes[result] or [0])[0]
        self._emit(run, (x.index,) if isinstance(x, Var) else (), result, batchable)

    def _add_conv(self, position: int) -> bool:
        call = self._calls[position]
        conv = Conv.from_call(call)
        if conv is None:
            return False
        source, result = call.args[0] if call.args else call.kwargs["input"], call.results[0]
        follower = self._only_user(result)
        if follower is not None and function_name(self._calls[follower].func) == "batch_norm" and not conv.relu:
            folded = conv.with_norm(self._calls[follower])
            if folded is not None:
                conv, result = folded, self._absorb(follower)
                follower = self._only_user(result)
        if follower is not None and self._calls[follower].func in _RELU:
            conv, result = conv.with_relu(), self._absorb(follower)
        parts = self._parts.pop(source.index, None)
        if parts is None:
            self._emit_conv(conv, source, None, result)
        elif conv.groups > 1:
            done: list[Tensor | Var] = []
            for part, piece in zip(parts, conv.split_groups([self._channels(p) for p in parts]), strict=True):
                if isinstance(part, Tensor):
                    done.append(piece.packed(self.packed, part)(part))
                else:
                    variable = self._fresh(result, self._channels(part))
                    self._emit_conv(piece, part, None, variable.index)
                    done.append(variable)
            user = self._only_user(result)
            if user is not None and self._splits(self._calls[user]):
                self._parts[result] = done
            else:
                self._emit_cat(done, result)
        else:
            self._emit_sum(conv, parts, result)
        return True

    def _emit_sum(self, conv: Conv, parts: list[Tensor | Var], result: int) -> None:
        """A dense convolution over a concatenation is the sum of the convolutions of its parts."""
        pieces = list(zip(parts, conv.split_inputs([self._channels(p) for p in parts]), strict=True))
        fixed = [piece.packed(self.packed, part)(part) for part, piece in pieces if isinstance(part, Tensor)]
        constant = torch.stack(fixed).sum(dim=0) if len(fixed) > 1 else fixed[0]
        moving = [(part, piece) for part, piece in pieces if isinstance(part, Var)]
        total: Tensor | Var = constant
        for number, (part, piece) in enumerate(moving):
            final = number == len(moving) - 1
            index = result if final else self._fresh(result).index
            self._emit_conv(piece.finishing(conv) if final else piece, part, total, index)
            total = Var(index)

    def _emit_conv(self, conv: Conv, source: Var, plus: Tensor | Var | None, result: int) -> None:
        ready: list[Callable[..., Tensor]] = []
        constant = plus if isinstance(plus, Tensor) else None

        def run(inputs: list[Tensor], samples: _Samples) -> Tensor:
            if not ready:
                ready.append(conv.packed(self.packed, inputs[0]))
            other = constant if constant is not None else inputs[1] if len(inputs) > 1 else None
            if other is constant and other is not None and samples.count > 1:
                other = other.repeat(samples.count, 1, 1, 1)
            return ready[0](inputs[0], other)

        inputs = (source.index,) if not isinstance(plus, Var) else (source.index, plus.index)
        self._emit(run, inputs, result, True)

    def _emit_cat(self, parts: list[Tensor | Var], result: int) -> None:
        inputs = tuple(p.index for p in parts if isinstance(p, Var))

        def run(values: list[Tensor], samples: _Samples) -> Tensor:
            given = iter(values)
            return torch.cat(
                [next(given) if isinstance(p, Var) else p.repeat(samples.count, 1, 1, 1) for p in parts], dim=1
            )

        self._emit(run, inputs, result, True)

    def _add_other(self, position: int, name: str) -> None:
        call = self._calls[position]
        if len(call.results) != 1:
            raise UnsupportedTapeError(f"{name} has {len(call.results)} results")
        inputs = tuple(dict.fromkeys(v.index for v in variables_in((call.args, call.kwargs))))
        rank = len(self.shapes[call.results[0]])
        batchable = bool(inputs) and self._is_batch(call.results[0])
        batchable = batchable and (name == "flatten" or all(len(self.shapes[i]) == rank for i in inputs))
        if name in _PER_UNIT:
            batchable = batchable and len(inputs) == 1 and rank >= 2 and not call.kwargs.get("return_indices")
        elif name == "cat":
            batchable = batchable and arguments(call, ("tensors", "dim")).get("dim") == 1
        elif name == "flatten":
            given = arguments(call, ("input", "start_dim", "end_dim"))
            batchable = batchable and given.get("start_dim", 0) >= 1
        else:
            batchable = batchable and name in _ELEMENTWISE and self._is_batch(*inputs)
        repeats = name in _ELEMENTWISE or name == "cat"

        def run(values: list[Tensor], samples: _Samples) -> Tensor:
            known = dict(zip(inputs, values, strict=True))

            def constant(x: Tensor) -> Tensor:
                if x.ndim == rank and x.shape[0] == samples.images > 1:
                    return x.repeat(samples.count, *(1,) * (rank - 1))
                return x

            def ready(value: Any) -> Any:
                value = map_tensors(value, constant, Tensor) if samples.count > 1 and repeats else value
                return map_tensors(value, lambda v: known[v.index], Var)

            out: Tensor = call.func(*ready(call.args), **ready(call.kwargs))
            return out

        self._emit(run, inputs, call.results[0], batchable)

    def _emit(
        self, run: Callable[[list[Tensor], _Samples], Tensor], inputs: tuple[int, ...], result: int, batchable: bool
    ) -> None:
        self._steps.append(_Step(run, inputs, result, batchable))

    def _take_resize(self) -> Bilinear | None:
        """The last call, if it is a bilinear resizing of the output."""
        call = self._calls[-1]
        if function_name(call.func) != "interpolate" or call.results != (self._output,):
            return None
        names = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
        given = arguments(call, names)
        shape = self.shapes[self._output]
        if given.get("mode") != "bilinear" or given.get("antialias") or len(self._uses[self._output]) > 1:
            return None
        scale = given.get("scale_factor")
        pair = None
        if scale is not None and not given.get("recompute_scale_factor"):
            pair = tuple(float(s) for s in scale) if isinstance(scale, (tuple, list)) else (float(scale),) * 2
        self._calls.pop()
        self._output = given["input"].index
        self._uses[self._output] = [p for p in self._uses[self._output] if p < len(self._calls)] + [len(self._calls)]
        return Bilinear((shape[-2], shape[-1]), bool(given.get("align_corners")), pair)  # type: ignore[arg-type]

    def _is_functional(self) -> bool:
        """Whether nothing is overwritten that something else reads, so that calls may be merged and moved."""
        fresh: set[int] = set()
        for call in self._calls:
            name = function_name(call.func)
            writes = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i") or "out" in call.kwargs
            if name == "__setitem__" or not call.results:
                return False
            if writes or call.kwargs.get("inplace"):
                target = call.args[0] if call.args else None
                if not isinstance(target, Var) or len(self._uses[target.index]) > 1 or target.index not in fresh:
                    return False
            if isinstance(call.func, DropoutOp) or writes or name in _FRESH or call.kwargs.get("inplace"):
                fresh.update(call.results)
        return True

    def _can_split(self, position: int) -> bool:
        call = self._calls[position]
        given = arguments(call, ("tensors", "dim"))
        parts = tensors_in(given["tensors"])
        user = self._only_user(call.results[0])
        return (
            given.get("dim") == 1 and bool(parts) and len(self.shapes[call.results[0]]) == 4
            and all(p.shape[0] == self.images for p in parts) and user is not None and self._splits(self._calls[user])
        )  # fmt: skip

    def _splits(self, call: Any) -> bool:
        conv = Conv.from_call(call) if function_name(call.func) == "conv2d" else None
        return conv is not None and conv.groups in (1, conv.inputs)

    def _only_user(self, index: int) -> int | None:
        users = self._uses.get(index, [])
        return users[0] if len(users) == 1 and users[0] < len(self._calls) else None

    def _absorb(self, position: int) -> int:
        self._absorbed.add(position)
        return self._calls[position].results[0]

    def _fresh(self, like: int, channels: int | None = None) -> Var:
        """A new variable with the shape of another, but for its channels."""
        shape = self.shapes[like]
        self.shapes.append(shape if channels is None else torch.Size([shape[0], channels, *shape[2:]]))
        return Var(len(self.shapes) - 1)

    def _channels(self, part: Tensor | Var) -> int:
        return part.shape[1] if isinstance(part, Tensor) else self.shapes[part.index][1]

    def _is_batch(self, *indices: int) -> bool:
        return all(self.shapes[i] and self.shapes[i][0] == self.images for i in indices)

    def _is_small(self, index: int) -> bool:
        return self._bytes(index) <= _SMALL_BYTES

    def _bytes(self, index: int) -> int:
        return 4 * prod(self.shapes[index])
