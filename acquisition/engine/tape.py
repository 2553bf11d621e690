"""What a network does behind its dropouts, as a list of function calls that can be run again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acquisition.engine.masks import DropoutOp, MaskKey

__all__ = [
    "Call",
    "DataDependentError",
    "Tape",
    "Var",
    "function_name",
    "map_tensors",
    "tensors_in",
    "variables_in",
    "version_of",
]


@dataclass(frozen=True)
class Var:
    """A tensor on the tape, by the number of its call's result."""

    index: int


@dataclass(frozen=True)
class Call:
    """One function on the tape; results are the numbers of the tensors it returns, in order."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[int, ...]


@dataclass
class Tape:
    """What a network does behind its dropouts for one batch.

    Args:
        calls: In their order.
        output: The variables of the network's output, in its structure.
        shapes: Of every variable.
    """

    calls: list[Call]
    output: Any
    shapes: list[torch.Size]

    def run(self, masks: MaskKey, t: int) -> Any:
        """The network's output for sample t."""
        values: list[Tensor | None] = [None] * len(self.shapes)
        for call, spent in zip(self.calls, self._spent(), strict=True):
            args = map_tensors(call.args, lambda v: values[v.index], Var)
            if isinstance(call.func, DropoutOp):
                result = call.func(args[0], masks, t, **call.kwargs)
            else:
                result = call.func(*args, **map_tensors(call.kwargs, lambda v: values[v.index], Var))
            for index, tensor in zip(call.results, tensors_in(result), strict=True):
                if tensor.shape != self.shapes[index]:
                    raise DataDependentError(f"{function_name(call.func)} changed its shape between samples")
                values[index] = tensor
            del args, result
            for index in spent:
                values[index] = None
        return map_tensors(self.output, lambda v: values[v.index], Var)

    def _spent(self) -> list[list[int]]:
        """After each call, the variables that nobody needs any more."""
        last: dict[int, int] = {}
        for position, call in enumerate(self.calls):
            last.update(dict.fromkeys(call.results, position))
            last.update((v.index, position) for v in variables_in((call.args, call.kwargs)))
        for v in variables_in(self.output):
            last.pop(v.index, None)
        spent: list[list[int]] = [[] for _ in self.calls]
        for index, position in last.items():
            spent[position].append(index)
        return spent


class DataDependentError(Exception):
    """The tape does not hold for another sample."""


def map_tensors(value: Any, change: Callable[[Any], Any], kind: type) -> Any:
    """A copy of nested tuples, lists, dicts and slices in which every item of one kind is changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple):
        items = [map_tensors(v, change, kind) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_tensors(v, change, kind) for v in value]
    if isinstance(value, dict):
        copy = {k: map_tensors(v, change, kind) for k, v in value.items()}
        return copy if type(value) is dict else type(value)(copy)
    if isinstance(value, slice):
        return slice(*(map_tensors(v, change, kind) for v in (value.start, value.stop, value.step)))
    return value


def items_of(value: Any, kind: type) -> list[Any]:
    """Every item of one kind in nested tuples, lists, dicts and slices, in order."""
    found: list[Any] = []
    map_tensors(value, found.append, kind)
    return found


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in a nested value."""
    return items_of(value, Tensor)


def variables_in(value: Any) -> list[Var]:
    """The variables in a nested value of a tape."""
    return items_of(value, Var)


def function_name(func: Callable[..., Any]) -> str:
    """The name of a torch function; a property's own name for its getter."""
    name = getattr(func, "__name__", type(func).__name__)
    return getattr(getattr(func, "__self__", None), "__name__", name) if name in ("__get__", "__set__") else name


def version_of(x: Tensor) -> int:
    """How often a tensor was written to; torch does not count for tensors of inference mode."""
    return 0 if x.is_inference() else x._version
