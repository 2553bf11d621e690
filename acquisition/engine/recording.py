"""Records what a network does behind its dropouts, so that it alone can be run again.

One pass runs under a `TorchFunctionMode`, which sees every torch function whatever Python code calls it. Whatever
a dropout has touched carries a tag; a function with a tagged argument is written on a tape, with tagged arguments
as variables and all others as they are. Running the tape again is then a pass of the network without the part
that no dropout reaches. docs/engine.md says why this and not a graph, and what it cannot see.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from acquisition.engine.masks import ALPHA, DROPOUTS, DropoutOp, MaskKey
from acquisition.engine.tape import Call, Tape, Var, function_name, map_tensors, tensors_in, version_of

__all__ = ["Pass", "frozen"]

_PATHS = {"DropPath": "drop_prob", "StochasticDepth": "p"}
_METADATA = frozenset(
    [
        "shape",
        "size",
        "dim",
        "ndim",
        "numel",
        "nelement",
        "device",
        "dtype",
        "layout",
        "stride",
        "__len__",
        "element_size",
        "itemsize",
        "nbytes",
        "requires_grad",
        "grad_fn",
        "is_leaf",
        "storage_offset",
        "is_contiguous",
        "is_floating_point",
        "is_complex",
        "is_cuda",
        "is_cpu",
        "is_sparse",
        "is_quantized",
        "is_mps",
        "is_meta",
        "is_nested",
        "is_inference",
        "get_device",
        "type",
        "names",
        "grad",
        "requires_grad_",
        "retain_grad",
        "output_nr",
        "_version",
        "__hash__",
        "is_tensor",
        "is_signed",
        "is_conj",
        "is_neg",
        "is_same_size",
        "result_type",
    ]
)
_RANDOM = frozenset(
    ["bernoulli", "bernoulli_", "rand", "randn", "rand_like", "randn_like", "randint", "normal", "normal_", "uniform_"]
)
_REMEDY = "set its dropout to 0 and put a Dropout layer after it, or choose a strategy that needs no MC samples"


class Pass(TorchFunctionMode):
    """One stochastic pass. `run` it once; afterwards `tape` is there if recording was asked for and possible.

    reason: why there is no tape, in words for the user; empty if there is one. dropouts: those that ran.
    """

    def __init__(self, network: nn.Module, masks: MaskKey, t: int, rate: float | None, record: bool = False) -> None:
        super().__init__()
        self.network, self.masks, self.t, self.rate = network, masks, t, rate
        self.record = record
        self.reason = ""
        self.dropouts: list[DropoutOp] = []
        self.tape: Tape | None = None
        self.calls_seen = 0
        # torch.compile adds "_orig_mod" to names; the masks of a network do not depend on whether it is compiled.
        self._names = {id(m): name.replace("_orig_mod.", "") for name, m in network.named_modules()}
        self._stack: list[nn.Module] = []
        self._counts: dict[str, int] = {}
        self._calls: list[Call] = []
        self._shapes: list[torch.Size] = []
        self._constants: list[tuple[Tensor, int]] = []
        self._mutated: dict[int, Tensor] = {}
        self._tag = object()
        self._paused = False
        self._images = 0

    def run(self, images: Tensor) -> Any:
        """The network's output for images, one per row of axis 0."""
        self._images = images.shape[0]
        with frozen(self.network), self._named(), torch.compiler.set_stance("force_eager"), self:
            output = self.network(images)
        if not self.record or not self.dropouts:
            return output
        if not self.reason and any(version_of(c) != version for c, version in self._constants):
            self.give_up("a tensor that the repeated part reads was changed in place")
        if not self.reason and not any(self._is_tagged(x) for x in tensors_in(output)):
            self.give_up("no recorded function leads from a dropout to the output")
        if not self.reason:
            self.tape = Tape(self._calls, self._freeze(output), self._shapes)
        self._calls, self._constants, self._mutated = [], [], {}
        return output

    def give_up(self, reason: str) -> None:
        """Note why this network cannot be run from a tape; the pass itself goes on and stays right."""
        if not self.reason:
            self.reason = reason
        self._calls, self._constants = [], []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        self.calls_seen += 1
        if func in DROPOUTS:
            return self._dropout(func, args, kwargs)
        name = function_name(func)
        self._refuse_hidden(func, name, kwargs)
        if not self.record or self.reason:
            return func(*args, **kwargs)
        given = tensors_in((args, kwargs))
        if not any(self._is_tagged(x) for x in given):
            self._check_alias(given)
            return func(*args, **kwargs)
        if name in _METADATA:
            return func(*args, **kwargs)
        return self._call(func, name, args, kwargs, given)

    def _call(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor]
    ) -> Any:
        if _writes_first(name, args, kwargs) and given and given[0] is args[0] and not self._is_tagged(given[0]):
            self._adopt(given[0])
        constants = [(x, version_of(x)) for x in given if not self._is_tagged(x)]
        self._check_alias([x for x, _ in constants])
        frozen_args, frozen_kwargs = self._freeze(args), self._freeze(kwargs)
        result = func(*args, **kwargs)
        made = tensors_in(result)
        if func.__name__ == "__set__":
            self.give_up(f"the network assigns to {name} of a tensor")
        elif not made and result is not None:
            self.give_up(f"{name} hands a value that dropout touched to Python")
        elif any(version_of(x) != version for x, version in constants):
            self.give_up(f"{name} writes into a tensor that no dropout had touched")
        else:
            self._write(func, frozen_args, frozen_kwargs, made)
            self._constants += constants
        return result

    def _write(self, func: Callable[..., Any], args: Any, kwargs: Any, made: Sequence[Tensor]) -> None:
        if self.reason:
            return
        results = range(len(self._shapes), len(self._shapes) + len(made))
        for index, x in zip(results, made, strict=True):
            x._dropquery_tag = (self._tag, index)  # type: ignore[attr-defined]
            self._shapes.append(x.shape)
        self._calls.append(Call(func, args, kwargs, tuple(results)))

    def _adopt(self, x: Tensor) -> None:
        """X is about to be overwritten by what dropout touched: its value so far is kept, and x becomes a variable."""
        self._check_alias([x])
        before = x.clone()
        self._mutated[x.untyped_storage().data_ptr()] = x
        self._write(Tensor.clone, (before,), {}, [x])

    def _check_alias(self, given: Sequence[Tensor]) -> None:
        if self._mutated and any(x.untyped_storage().data_ptr() in self._mutated for x in given if _has_storage(x)):
            self.give_up("a view of a tensor that was overwritten behind a dropout is read")

    def _dropout(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else kwargs["input"]
        rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        inplace = func.__name__.endswith("_") or bool(args[3] if len(args) > 3 else kwargs.get("inplace", False))
        return self._apply(x, rate, inplace, by_feature=DROPOUTS[func], alpha=func in ALPHA)

    def _apply(
        self, x: Tensor, rate: float, inplace: bool, by_feature: bool = False, alpha: bool = False,
        path: bool = False, scale: bool = True,
    ) -> Tensor:  # fmt: skip
        if rate == 0:
            return x
        module = self._names.get(id(self._stack[-1]), type(self._stack[-1]).__name__) if self._stack else ""
        number = self._counts[module] = self._counts.get(module, -1) + 1
        rate = self.rate or rate
        op = DropoutOp.for_input(x, f"{module}#{number}", rate, self._images, by_feature, alpha, path, scale)
        self.dropouts.append(op)
        if not self.record or self.reason:
            return op(x, self.masks, self.t, inplace)
        if inplace and not self._is_tagged(x):
            self._adopt(x)
        if not self._is_tagged(x):
            self._check_alias([x])
            self._constants.append((x, version_of(x)))
        argument = self._freeze(x)
        result = op(x, self.masks, self.t, inplace)
        self._write(op, (argument,), {"inplace": inplace}, [result])
        return result

    def _refuse_hidden(self, func: Callable[..., Any], name: str, kwargs: dict[str, Any]) -> None:
        """Dropout that other functions hide, and random numbers from elsewhere."""
        if func is F.scaled_dot_product_attention:
            owner = self._stack[-1] if self._stack else None
            hidden = kwargs.get("dropout_p", 0.0) or _attention_rate(owner)
            if hidden:
                raise ValueError(
                    f"MC dropout needs dropout layers that it can see, got scaled_dot_product_attention in "
                    f"{self._names.get(id(owner), '')!r} with dropout {hidden}; {_REMEDY}"
                )
        if name in _RANDOM:
            where = self._names.get(id(self._stack[-1]), "") if self._stack else ""
            raise ValueError(
                f"MC dropout needs a network whose only randomness is dropout, got {name} in module {where!r}; "
                "replace it with a dropout layer, or switch it off in evaluation mode"
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Know which module runs; hooks of torch's own, for all modules, so that none of the network's is touched."""
        before = hooks.register_module_forward_pre_hook(self._enter)
        after = hooks.register_module_forward_hook(self._leave)
        try:
            yield
        finally:
            before.remove()
            after.remove()
            self._stack.clear()

    def _enter(self, module: nn.Module, args: Any) -> None:
        rate = getattr(module, "dropout", 0)
        layered = isinstance(module, nn.RNNBase) and module.num_layers > 1
        if (layered or isinstance(module, nn.MultiheadAttention)) and rate:
            raise ValueError(
                f"MC dropout needs dropout layers that it can see, got {type(module).__name__} "
                f"{self._names.get(id(module), '')!r} with dropout {rate} inside; {_REMEDY}"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"MC dropout needs Python modules, got the compiled {type(module).__name__} "
                f"{self._names.get(id(module), '')!r}; give it the module before torch.jit.script"
            )
        self._stack.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        rate = getattr(module, _PATHS.get(type(module).__name__, ""), 0) or 0
        result = output
        if rate and isinstance(output, Tensor):
            self._paused = True
            try:
                result = self._apply(output, rate, False, path=True, scale=getattr(module, "scale_by_keep", True))
            finally:
                self._paused = False
        while self._stack and self._stack.pop() is not module:
            pass
        return result

    def _is_tagged(self, x: Tensor) -> bool:
        tag = getattr(x, "_dropquery_tag", None)
        return tag is not None and tag[0] is self._tag

    def _freeze(self, value: Any) -> Any:
        return map_tensors(value, lambda x: Var(x._dropquery_tag[1]) if self._is_tagged(x) else x, Tensor)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for every module, and each module's own mode again afterwards.

    Args:
        network: Of which everything is put into evaluation mode.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _writes_first(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if not args or not isinstance(args[0], Tensor):
        return False
    in_place = name.endswith("_") and not name.endswith("__")
    operator = name.startswith("__i") and name not in ("__invert__", "__index__", "__int__")
    return in_place or operator or name == "__setitem__" or bool(kwargs.get("inplace"))


def _attention_rate(module: nn.Module | None) -> float:
    """The rate of the dropout that a module hands to fused attention in training, by its usual names."""
    for name in ("attn_drop", "attn_dropout", "dropout_p"):
        value = getattr(module, name, 0)
        rate = value.p if isinstance(value, nn.Dropout) else value
        if isinstance(rate, float) and rate > 0:
            return rate
    return 0.0


def _has_storage(x: Tensor) -> bool:
    return x.layout is torch.strided and x.device.type != "meta"
