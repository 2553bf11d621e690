"""What an object is, as text: equal in every process for equal settings, and different where any of them differs."""

import functools
import inspect
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from acquisition.numbers import exact

__all__ = ["Described", "describe"]


class Described:
    """Keeps the arguments that it was made with, whatever its constructor does with them."""

    _arguments: Mapping[str, Any]
    _defaults: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__} takes no arguments")
        made = super().__new__(cls)
        signature = inspect.signature(cls)
        bound = signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        given: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            match signature.parameters[name].kind:
                case inspect.Parameter.VAR_KEYWORD:
                    given |= value
                case inspect.Parameter.VAR_POSITIONAL:
                    given |= {name: value} if value else {}
                case _:
                    given[name] = value
        # past the constructors of frozen dataclasses
        object.__setattr__(made, "_arguments", given)
        object.__setattr__(made, "_defaults", {n: p.default for n, p in signature.parameters.items()})
        return made

    def description(self, without: Collection[str] = ()) -> str:
        """The class and the arguments, in full.

        Args:
            without: Names of arguments to leave out.
        """
        return _call(type(self), {k: v for k, v in self._arguments.items() if k not in without})

    @property
    def short_description(self) -> str:
        """The class's name, and the arguments that are not the default: "Name" or "Name(argument=2)"."""
        nothing = inspect.Parameter.empty
        told = {k: v for k, v in self._arguments.items() if _differs(v, self._defaults.get(k, nothing))}
        listed = ",".join(f"{k}={_short(v)}" for k, v in told.items())
        return type(self).__name__ + (f"({listed})" if listed else "")


def describe(thing: object) -> str:
    """Text of a setting.

    Args:
        thing: A number, a word, a collection, a `Described` object, a function, or any object, told by what it holds.

    Returns:
        Text without addresses in memory.
    """
    match thing:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return repr(thing)
        case Described():
            return thing.description()
        case Enum() | Path():
            return repr(str(thing))
        case np.generic() | np.ndarray() | torch.Tensor():
            return _call(type(thing), {"dtype": str(thing.dtype), "values": thing.tolist()})
        case torch.nn.Module():
            return repr(thing)
        case Mapping():
            return "{" + ", ".join(sorted(f"{describe(k)}: {describe(v)}" for k, v in thing.items())) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(describe, thing)) + "]"
        case set() | frozenset():
            return "{" + ", ".join(sorted(map(describe, thing))) + "}"
        case functools.partial():
            return _call(functools.partial, {"of": thing.func, "args": thing.args, **thing.keywords})
        case type() | torch.dtype() | torch.device() | torch.memory_format():
            return str(thing)
    if callable(thing) and hasattr(thing, "__qualname__"):
        cells: Mapping[str, Any] = inspect.getclosurevars(thing).nonlocals if inspect.isfunction(thing) else {}
        return _call(thing, cells)
    slots = {n for c in type(thing).__mro__ for n in c.__dict__.get("__slots__", ()) if hasattr(thing, n)}
    return _call(type(thing), {**{n: getattr(thing, n) for n in slots}, **getattr(thing, "__dict__", {})})


def _call(what: Any, arguments: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{k}={describe(v)}" for k, v in sorted(arguments.items()))
    return f"{what.__module__}.{what.__qualname__}({listed})"


def _differs(value: object, default: object) -> bool:
    return value is not default and describe(value) != describe(default)


def _short(value: object) -> str:
    match value:
        case float():
            return exact(value)
        case Described():
            return value.short_description
        case str():
            return value
    return describe(value)
