"""Stacked fits: networks of one architecture that train together, each on samples of its own.

A small network's training step is mostly the overhead of many small operations. Stacked along a new first axis, n
networks take one step in about the time of one: every operation is done once, for all of them.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call, grad, vmap
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.optim import Optimizer

from acquisition.annotation import VOID
from lightning_modules.losses import BatchLoss, CrossEntropy

__all__ = ["check_loss", "check_stackable", "fit_stacked"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
Loss = Callable[[Tensor, Tensor], Tensor]
Stack = dict[str, Tensor]

_SHAPING = ("aten.expand.default", "aten.view.default", "aten._unsafe_view.default")
_ELEMENTWISE = (nn.Dropout,)
_BY_NUMBER = (
    optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adagrad, optim.Adadelta,
    optim.RMSprop, optim.ASGD, optim.Rprop,
)  # fmt: skip
_BY_CHANNEL = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def check_stackable(network: nn.Module, optimizer: OptimizerFactory, loss: Loss) -> None:
    """Raise ValueError for what cannot be stacked: a network that keeps buffers, such as batch norm's, an optimizer
    that looks at a parameter as a whole, such as Adafactor, for which a stack would be one large parameter, or a loss
    that is told the batch or has parameters.
    """
    name = next((name for name, _ in network.named_buffers()), None)
    if name is not None:
        raise ValueError(
            f"networks with buffers cannot be stacked, got {type(network).__name__} with {name!r}; fit them one by one"
        )
    made = optimizer([nn.Parameter(torch.zeros(1, 1))])
    if type(made) not in _BY_NUMBER:
        known = ", ".join(kind.__name__ for kind in _BY_NUMBER)
        raise ValueError(
            f"networks are stacked under an optimizer that treats every number by itself ({known}), got "
            f"{type(made).__name__}; fit them one by one"
        )
    if isinstance(loss, BatchLoss) or (isinstance(loss, nn.Module) and next(loss.parameters(), None) is not None):
        raise ValueError(
            "networks are stacked under a loss of logits and targets alone that has nothing to train, got "
            f"{type(loss).__name__}; fit them one by one"
        )


def check_loss(loss: Loss, logits: int) -> None:
    """Raise ValueError for a loss that cannot be computed for many networks at once, because what it does depends on a
    batch's values, or because it draws at random.

    Args:
        loss: From (logits, labels) of a batch to a scalar.
        logits: How many there are of an image.
    """
    try:
        vmap(loss)(torch.zeros(2, 2, logits), torch.tensor([[0, 1], [1, VOID]]))
    except RuntimeError as error:
        raise ValueError(
            f"networks are stacked under a loss that torch.func.vmap can map, got {type(loss).__name__} "
            f"({str(error).partition(chr(10))[0]}); fit them one by one"
        ) from error


def fit_stacked(
    networks: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    orders: Sequence[Tensor],
    loss: Loss,
    optimizer: OptimizerFactory,
    dropout_seed: Callable[[int, int], int] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train the networks in place; each ends as it would after a fit of its own, up to rounding.

    Args:
        networks: n networks of one architecture.
        images: N x ..., shared by all networks.
        labels: n x N, for every network its own, because oracles may err.
        orders: For every network its batches, S x B positions among the images; S may differ from network to network,
            B may not.
        loss: From (logits, labels) of a batch to a scalar.
        optimizer: Made from the stacked parameters; it must treat every number by itself, see `check_stackable`.
        dropout_seed: From (network, step) to the seed from which that step's dropout is drawn, as if by
            torch.manual_seed; needed where a layer drops anything.
        on_step: Told the number of each step before it is taken.

    Raises:
        ValueError: If the networks cannot be stacked.
    """
    check_stackable(networks[0], optimizer, loss)
    # the longest fits first: those that still run are always the first rows of the stack
    by_length = sorted(range(len(networks)), key=lambda i: -len(orders[i]))
    own = [dict(networks[i].named_parameters()) for i in by_length]
    whole = {name: torch.stack([p[name].detach() for p in own]) for name in own[0]}
    trained = [name for name, p in own[0].items() if p.requires_grad]
    first = orders[by_length[0]]
    template, drops, logits = _prepared(networks[0], images[first[0]] if len(first) else images[:1])
    used = torch.cat([labels[i][orders[i].flatten()] for i in by_length])
    plain = _is_plain(loss, logits, used)
    if drops and dropout_seed is None:
        raise ValueError(f"a network that drops activations needs dropout_seed, got None ({type(template).__name__})")
    before: tuple[list[nn.Parameter], Optimizer] | None = None
    for start, end, active in _segments([len(orders[i]) for i in by_length]):
        parameters = {name: stack[:active] for name, stack in whole.items()}
        leaves = [nn.Parameter(parameters[name]) for name in trained]
        before = leaves, _continued(optimizer(leaves), leaves, before)
        rows = torch.stack([orders[i][start:end] for i in by_length[:active]], dim=1)
        own_labels = labels[by_length[:active]]
        batch = images.new_empty(rows[0].numel(), *images.shape[1:])
        gradients = None
        with torch.no_grad():
            for step, chosen in enumerate(rows, start):
                if on_step is not None:
                    on_step(step)
                torch.index_select(images, 0, chosen.flatten(), out=batch)
                factors = {
                    name: torch.stack(drawn)
                    for name, drawn in _drawn(drops, [dropout_seed(i, step) for i in by_length[:active]]).items()
                } if drops and dropout_seed else {}  # fmt: skip
                inputs = (
                    parameters,
                    factors,
                    batch.view(*chosen.shape, *images.shape[1:]),
                    own_labels.gather(1, chosen),
                )
                if gradients is None:
                    gradients = _traced(template, trained, loss, plain, inputs)
                for leaf, gradient in zip(leaves, gradients(*inputs), strict=True):
                    leaf.grad = gradient
                before[1].step()
    with torch.no_grad():
        for row, parameters_of_one in enumerate(own):
            for name, parameter in parameters_of_one.items():
                parameter.copy_(whole[name][row])


class _GivenDropout(nn.Module):
    """A dropout layer whose factors come from outside."""

    factors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factors", torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factors


def _prepared(network: nn.Module, images: Tensor) -> tuple[nn.Module, dict[str, tuple[float, torch.Size]], Tensor]:
    """A copy in training mode with given dropout; rate and shape of what each layer draws, in order; logits."""
    template = copy.deepcopy(network).train()
    layers = {name: m for name, m in template.named_modules() if isinstance(m, _ELEMENTWISE + _BY_CHANNEL) and m.p > 0}
    drops: dict[str, tuple[float, torch.Size]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if f"{name}.factors" in drops:
                raise ValueError(f"dropout layer {name!r} is used twice in a pass; give each place its own layer")
            shape = inputs[0].shape
            if isinstance(module, _BY_CHANNEL):
                shape = torch.Size([*shape[:2], *(1 for _ in shape[2:])])
            drops[f"{name}.factors"] = (module.p, shape)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        logits = template(images)
    for handle in handles:
        handle.remove()
    for name in layers:
        parent, _, child = name.rpartition(".")
        setattr(template.get_submodule(parent), child, _GivenDropout())
    return template, drops, logits


def _drawn(drops: dict[str, tuple[float, torch.Size]], seeds: Sequence[int]) -> dict[str, list[Tensor]]:
    """What each network's layers draw after torch.manual_seed(seed), layer by layer as the pass meets them."""
    drawn: dict[str, list[Tensor]] = {name: [] for name in drops}
    generator = torch.Generator()
    for seed in seeds:
        generator.manual_seed(seed)
        for name, (rate, shape) in drops.items():
            drawn[name].append(torch.empty(shape).bernoulli_(1 - rate, generator=generator).div_(1 - rate))
    return drawn


def _traced(
    template: nn.Module, trained: Sequence[str], loss: Loss, plain: bool, inputs: tuple[Any, ...]
) -> Callable[..., list[Tensor]]:
    """The step's gradients as a flat list of operations: vmap and grad cost their Python once, not at every step."""

    def total(weights: Stack, others: Stack, factors: Stack, images: Tensor, labels: Tensor) -> Tensor:
        def one(weights: Stack, others: Stack, factors: Stack, images: Tensor) -> Tensor:
            logits: Tensor = functional_call(template, {**weights, **others, **factors}, (images,))
            return logits

        logits = vmap(one, randomness="error")(weights, others, factors, images)
        if plain:
            # the same sum in far fewer operations than vmap makes of it
            summed = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            return summed / labels.shape[1]
        return vmap(loss)(logits, labels).sum()

    def gradients(parameters: Stack, factors: Stack, images: Tensor, labels: Tensor) -> list[Tensor]:
        weights = {name: parameters[name] for name in trained}
        others = {name: p for name, p in parameters.items() if name not in weights}
        found = grad(total)(weights, others, factors, images, labels)
        return [found[name].contiguous() for name in trained]

    try:
        return _without_idle(make_fx(gradients)(*inputs))
    except RuntimeError as error:
        if "random" not in str(error):
            raise
        raise ValueError(
            f"{type(template).__name__} draws random numbers elsewhere than in dropout layers and cannot be stacked; "
            "use nn.Dropout, or fit the networks one by one (grid.stacked false)"
        ) from error


def _is_plain(loss: Loss, logits: Tensor, labels: Tensor) -> bool:
    """Whether a batch's loss is the mean of its samples' cross entropies."""
    if isinstance(loss, CrossEntropy):
        return loss.class_weights is None and logits.shape[1] > 1 and not bool((labels == VOID).any())
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None or loss.label_smoothing:
        return False
    return loss.reduction == "mean" and not bool((labels == loss.ignore_index).any())


def _without_idle(step: GraphModule) -> GraphModule:
    """Without operations that hand on what they get: they cost as much as those that compute."""
    # a product with 1 is a copy, which something that writes in place may need
    in_place = any(str(node.target).rpartition(".")[0].endswith("_") for node in step.graph.nodes)
    for node in list(step.graph.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, Node) or "tensor_meta" not in source.meta or "tensor_meta" not in node.meta:
            continue
        same = source.meta["tensor_meta"].shape == node.meta["tensor_meta"].shape
        name = str(node.target)
        if (name in _SHAPING and same) or (name == "aten.mul.Scalar" and node.args[1] == 1 and not in_place):
            node.replace_all_uses_with(source)
    step.graph.eliminate_dead_code()
    step.recompile()
    return step


def _segments(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first step, last step + 1, networks that take them), for lengths that fall."""
    start = 0
    for active in range(len(lengths), 0, -1):
        if lengths[active - 1] > start:
            yield start, lengths[active - 1], active
            start = lengths[active - 1]


def _continued(
    optimizer: Optimizer, leaves: Sequence[nn.Parameter], before: tuple[list[nn.Parameter], Optimizer] | None
) -> Optimizer:
    """Give the optimizer of fewer networks what the one before it remembered of them."""
    for new, old in zip(leaves, before[0] if before else [], strict=False):
        assert before is not None
        optimizer.state[new] = {
            key: value[: len(new)] if isinstance(value, Tensor) and value.shape == old.shape else value
            for key, value in before[1].state[old].items()
        }
    return optimizer
