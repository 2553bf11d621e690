"""What a strategy is, its arguments say: two values of one parameter never share one identity."""

import importlib
import inspect
import pickle
import pkgutil
from functools import partial
from typing import Any

import pytest
from torch import Tensor, nn

import acquisition
from acquisition.aggregation import Aggregation, CountAbove, Mean, Sum
from acquisition.batch import BADGE, BatchBALD, CoreSet
from acquisition.features import Feature
from acquisition.functions import BALD, ODIN, Entropy, Expert, Inverse, Margin
from acquisition.identity import Described, describe
from acquisition.kinds import AcquisitionFunction, DeterministicAcquisition, MonteCarloAcquisition
from acquisition.limits import AtMostPerImage, FarApart
from acquisition.predictors import Ensemble, MCDropout
from acquisition.scorer import Scorer
from acquisition.selection import FromFile, PowerSampling, Selection, SoftmaxSampling, SoftRankSampling, Stride, TopK
from acquisition.statistics import StreamingStatistics
from tests.conftest import ROOT

CHANGES: list[tuple[type[Described], dict[str, Any], str, Any]] = [
    (ODIN, {}, "temperature", 0.1000001),
    (ODIN, {}, "epsilon", 1e-9),
    (Expert, {"checkpoint": "a", "acquisition": Entropy()}, "checkpoint", "b"),
    (Expert, {"checkpoint": "a", "acquisition": ODIN(0.1)}, "acquisition", ODIN(0.2)),
    (Expert, {"checkpoint": "a", "acquisition": Entropy()}, "network", partial(nn.Linear, 2, 2)),
    (Inverse, {"acquisition": ODIN(0.1)}, "acquisition", ODIN(0.2)),
    (MCDropout, {}, "num_samples", 11),
    (MCDropout, {}, "rate", 0.5),
    (MCDropout, {}, "per_image_masks", True),
    (MCDropout, {}, "at_output_stride", True),
    (Ensemble, {"checkpoints": ["a", "b"]}, "checkpoints", ["a", "c"]),
    (CountAbove, {"threshold": "log2"}, "threshold", 0.6931471805599453),
    (Stride, {"stride": 2}, "stride", 3),
    (FromFile, {"path": str(ROOT / "constraints.txt")}, "path", str(ROOT / ".gitignore")),
    (AtMostPerImage, {"selection": TopK(), "count": 2}, "count", 3),
    (AtMostPerImage, {"selection": Stride(2), "count": 2}, "selection", Stride(3)),
    (FarApart, {"selection": TopK(), "distance": 2}, "distance", 3),
    (FarApart, {"selection": Stride(2), "distance": 2}, "selection", Stride(3)),
    *((s, {}, "exponent", 1.5) for s in (PowerSampling, SoftmaxSampling, SoftRankSampling)),
    *((b, {}, "candidates", 100) for b in (CoreSet, BADGE, BatchBALD)),
    (BatchBALD, {}, "num_configurations", 500),
    (Scorer, {"acquisition": BALD()}, "acquisition", Entropy()),
    (Scorer, {"acquisition": BALD()}, "aggregation", Sum()),
    (Scorer, {"acquisition": BALD()}, "predictor", MCDropout(11)),
    (Scorer, {"acquisition": BALD()}, "features", {Feature.PROBS}),
]


def concrete() -> set[type[Described]]:
    """Every class of acquisition/ that a config may name."""
    modules = [importlib.import_module(f"acquisition.{m.name}") for m in pkgutil.iter_modules(acquisition.__path__)]
    classes = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    return {c for c in classes if issubclass(c, Described) and c is not Described and not inspect.isabstract(c)}


def test_every_parameter_is_changed_below() -> None:
    parameters = {
        (kind, name) for kind in concrete() for name in inspect.signature(kind).parameters if kind.__name__[0] != "_"
    }
    parameters = {(kind, name) for kind, name in parameters if kind.__init__ is not object.__init__}
    assert parameters == {(kind, name) for kind, _, name, _ in CHANGES}
    assert {Entropy, BALD, Mean, Margin} < concrete()


@pytest.mark.parametrize(
    ("kind", "arguments", "name", "value"), CHANGES, ids=lambda v: getattr(v, "__name__", describe(v))
)
def test_another_argument_is_another_identity(
    kind: type[Described], arguments: dict[str, Any], name: str, value: object
) -> None:
    one, other = kind(**arguments), kind(**{**arguments, name: value})
    assert describe(one) != describe(other)
    assert describe(one) == describe(kind(**arguments))
    if isinstance(one, Aggregation | Selection | ODIN | Inverse):
        assert one.name != other.name


def test_wherever_it_is_wrapped() -> None:
    scorers = [
        Scorer(wrap(ODIN(temperature)), CountAbove(0.5))
        for wrap in (lambda a: a, Inverse, partial(Expert, "a"), lambda a: Inverse(Expert("a", a)))
        for temperature in (0.1, 0.2)
    ]
    assert len({describe(s) for s in scorers}) == len({s.name for s in scorers}) == 8


class Mine(DeterministicAcquisition):
    def __init__(self, power: float = 1.0, *, base: AcquisitionFunction | None = None) -> None:
        pass

    def values(self, logits: Tensor) -> Tensor:
        return logits.sum(dim=1)


class Sampled(MonteCarloAcquisition):
    needs = frozenset()

    def __init__(self, power: float) -> None:
        pass

    def values(self, statistics: StreamingStatistics) -> Tensor:
        raise NotImplementedError


def test_one_of_ones_own_overrides_nothing() -> None:
    assert [Mine().name, Mine(2).name, Mine(base=ODIN(0.5)).name] == [
        "Mine",
        "Mine(power=2)",
        "Mine(base=ODIN(temperature=0.5))",
    ]
    assert Scorer(Inverse(Mine(2))).name == "Inverse(Mine(power=2))-Mean"
    assert Scorer(Sampled(3), predictor=Ensemble(["a"])).name == "Ensemble(Sampled(power=3))-Mean"


def test_a_strategy_can_be_sent_to_another_process() -> None:
    for thing in (
        Scorer(Inverse(Expert("a", ODIN(0.2))), CountAbove("log2"), MCDropout(5, rate=0.3)),
        Ensemble(["a"]), MCDropout(), BatchBALD(10),
    ):  # fmt: skip
        again = pickle.loads(pickle.dumps(thing))
        assert describe(again) == describe(thing)
