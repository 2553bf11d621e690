"""Time and memory of MC dropout on one batch, in units of one deterministic pass of the same network.

    python benchmarks/query.py --quick                    # T = 10, under 3 minutes
    python benchmarks/query.py --out benchmarks/results/cpu.csv

baal (2.1.0) is optional: with it on the path its loop, replicated and caching modes are measured too.
Every round runs all methods one after the other; a ratio is the median over rounds of method / deterministic pass
of the same round, so that a busy machine slows both. Wall time, and processor time (of all threads) beside it.
"""

import argparse
import copy
import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from acquisition.aggregation import Mean
from acquisition.engine import Sampler
from acquisition.functional import bald
from acquisition.fused import has_kernel
from acquisition.regions import Regions
from acquisition.statistics import Statistic
from lightning_modules.networks import DeepLabV3Plus, FCN8s

NEEDS = frozenset({Statistic.MEAN, Statistic.EXPECTED_ENTROPY})
SIZE, CLASSES, UNITS = (256, 512), 19, 2
Split = tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]


def fcn8s() -> nn.Module:
    return FCN8s(CLASSES)


def deeplabv3plus() -> nn.Module:
    return DeepLabV3Plus(CLASSES, "resnet50")


def classifier() -> nn.Module:
    network = torchvision.models.resnet18(num_classes=CLASSES)
    network.fc = nn.Sequential(nn.Linear(512, 256), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(256, CLASSES))
    return network


NETWORKS = {"DeepLabv3+ ResNet-50 os 16": deeplabv3plus, "FCN-8s VGG-16": fcn8s, "classifier ResNet-18": classifier}


def split_by_hand(network: Any) -> Split:
    """Split a network by hand into the parts before and behind its first dropout, as an expert would."""
    if isinstance(network, FCN8s):
        return _fcn8s_by_hand(network)
    if isinstance(network, DeepLabV3Plus):
        return _deeplabv3plus_by_hand(network.model)
    trunk = nn.Sequential(*list(network.children())[:-1])
    return lambda x: network.fc[:2](trunk(x).flatten(1)), lambda x: network.fc[2:](x)


def _fcn8s_by_hand(network: FCN8s) -> Split:
    def before(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pools = []
        for stage in network.stages:
            x = stage(x)
            pools.append(x)
        return network.fc6[:2](x), network.score_pool4(pools[3]), network.score_pool3(pools[2])

    def behind(given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, skip4, skip3 = given
        x = network.up_fc7(network.score_fc7(network.fc7(network.fc6[2](x))))
        return network.up_pool3(network.up_pool4(x + skip4) + skip3)

    return before, behind


def _deeplabv3plus_by_hand(network: Any) -> Split:
    aspp, decoder = network.decoder.aspp, network.decoder

    def before(x: Tensor) -> tuple[Tensor, Tensor]:
        features = network.encoder(x)
        deep = torch.cat([branch(features[-1]) for branch in aspp[0].convs], dim=1)
        return aspp[0].project[:3](deep), decoder.block1(features[2])

    def behind(given: tuple[Tensor, Tensor]) -> Tensor:
        deep = decoder.up(aspp[1:](aspp[0].project[3](given[0])))
        return network.segmentation_head(decoder.block2(torch.cat([deep, given[1]], dim=1)))

    return before, behind


def dropout_on(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    return network


def running_bald(outputs: Iterator[Tensor]) -> Tensor:
    """BALD from eager running sums over MC samples."""
    mean: Any = 0
    entropies: Any = 0
    count = 0
    for logits in outputs:
        probs = logits.softmax(dim=1)
        mean, entropies = mean + probs, entropies + torch.special.entr(probs).sum(dim=1)
        count += 1
    return bald(mean / count, entropies / count)


def stacked_bald(logits: Tensor) -> Tensor:
    """BALD from all MC samples at once, N x C x ... x T as baal stacks them."""
    probs = logits.softmax(dim=1)
    return bald(probs.mean(dim=-1), torch.special.entr(probs).sum(dim=1).mean(dim=-1))


def engine_bald(engine: Sampler, images: Tensor, samples: int) -> Tensor:
    statistics = engine.statistics(images, samples, NEEDS)
    return bald(statistics[Statistic.MEAN], statistics[Statistic.EXPECTED_ENTROPY])


def engine_scores(engine: Sampler, images: Tensor, samples: int, units: int) -> Tensor:
    """BALD averaged over the cells of a grid of units x units on each image, which is read anew for each batch."""
    names = [str(i) for i in range(len(images))]
    if units == 1:
        regions = Regions.whole(names)
    else:
        rows, columns = ((torch.arange(n) * units // n) for n in SIZE)
        cells, count = rows[:, None] * units + columns, units * units
        index = cells + count * torch.arange(len(images))[:, None, None]
        places = torch.tensor([(i, 0.5, 0.5) for i in range(len(images)) for _ in range(count)])
        regions = Regions(names, [str(u) for u in range(count * len(images))], index, places.double())
    return Mean()(engine_bald(engine, images, samples), regions)


def baal_methods(network: nn.Module, images: Tensor, samples: int) -> dict[str, Callable[[], Tensor]]:
    try:
        from baal.bayesian.caching_utils import MCCachingModule
        from baal.bayesian.dropout import MCDropoutModule
        from baal.modelwrapper import ModelWrapper, TrainingArgs
    except ImportError:
        return {}

    def wrapped(replicate: bool, cache: bool) -> Callable[[], Tensor]:
        model = MCDropoutModule(copy.deepcopy(network))
        model.eval()
        if cache:
            model = MCCachingModule(model)
            model.eval()
        wrapper = ModelWrapper(model, TrainingArgs(use_cuda=False, replicate_in_memory=replicate))
        return lambda: stacked_bald(wrapper.predict_on_batch(images, iterations=samples))

    methods = {"baal loop": wrapped(False, False), "baal cache": wrapped(False, True)}
    return methods | ({"baal replicated": wrapped(True, False)} if samples <= 10 else {})


def fastest_layout(network: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """The network and images in the memory format in which one pass is faster."""
    tried = []
    for layout in (torch.contiguous_format, torch.channels_last):
        candidate, given = network.to(memory_format=layout), images.contiguous(memory_format=layout)
        tried.append((min(timed(lambda c=candidate, g=given: c(g))[0] for _ in range(3)), layout))
    layout = min(tried, key=lambda pair: pair[0])[1]
    return network.to(memory_format=layout), images.contiguous(memory_format=layout)


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    with torch.no_grad():
        run()
    return time.perf_counter() - wall, time.process_time() - processor


def prepared(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return fastest_layout(make().eval(), torch.randn(UNITS, 3, *SIZE))


def largest_difference(network: nn.Module, images: Tensor, samples: int, part: int) -> float:
    """Largest difference in BALD to float64 full passes with the same masks, on a crop of 1 / part of the sides."""
    images = images[:1, :, : SIZE[0] // part, : SIZE[1] // part].clone(memory_format=torch.preserve_format)
    engine = Sampler(network, ("benchmark", 0))
    got = engine_bald(engine, images, samples)
    double = Sampler(copy.deepcopy(network).double(), ("benchmark", 0))
    with torch.no_grad():
        expected = running_bald(double.full_passes(images.double(), samples))
    return float((got - expected).abs().max())


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation over pixels."""
    ranks = torch.stack([x.flatten().argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def approximations(network: nn.Module, images: Tensor, samples: int) -> list[tuple[str, float]]:
    """Rank correlation of pixel scores with the exact ones."""
    exact = engine_bald(Sampler(network, ("benchmark", 0)), images, samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = engine_bald(Sampler(network, ("benchmark", 0)), images, samples)
    found = [("bf16", rank_correlation(exact, half))]
    low = engine_bald(Sampler(network, ("benchmark", 0), low_resolution=True), images, samples)
    if low.shape != exact.shape:
        low = nn.functional.interpolate(low[:, None], size=SIZE, mode="bilinear", align_corners=True)[:, 0]
        found.append(("output stride", rank_correlation(exact, low)))
    return found


def measure(name: str, samples: int, rounds: int, quick: bool, fast_only: bool) -> list[dict[str, Any]]:
    network, images = prepared(NETWORKS[name])
    noisy = dropout_on(copy.deepcopy(network))
    before, behind = split_by_hand(noisy)
    engine, low = Sampler(network, ("benchmark", 0)), Sampler(network, ("benchmark", 0), low_resolution=True)
    every: dict[str, Callable[[], Any]] = {
        "deterministic pass": lambda: network(images),
        "split by hand": lambda: running_bald(behind(given) for given in [before(images)] for _ in range(samples)),
        "ours": lambda: engine_bald(engine, images, samples),
        "ours at output stride": lambda: engine_bald(low, images, samples),
    }
    if network(images).ndim == 4:
        every["ours, scores of images"] = lambda: engine_scores(engine, images, samples, units=1)
        every["ours, scores of 100 units each"] = lambda: engine_scores(engine, images, samples, units=10)
    slow = {"T full passes": lambda: running_bald(noisy(images) for _ in range(samples))}
    slow |= baal_methods(network, images, samples)
    slow = {} if fast_only else slow
    for run in every.values():
        timed(run)
    if not engine.report.optimised.startswith("yes"):
        print(f"warning: {name}: {engine.report}")
    times: dict[str, list[tuple[float, float]]] = {}
    units: dict[str, list[tuple[float, float]]] = {}
    for i in range(rounds):
        batch = every | (slow if i < (1 if quick else rounds) else {})
        unit = (0.0, 0.0)
        for method, run in batch.items():
            spent = timed(run)
            unit = spent if method == "deterministic pass" else unit
            times.setdefault(method, []).append(spent)
            units.setdefault(method, []).append(unit)
    rows = []
    for method, spent_all in times.items():
        wall, processor = (median(s[k] / u[k] for s, u in zip(spent_all, units[method], strict=True)) for k in (0, 1))
        rows.append(
            {"network": name, "T": samples, "method": method, "rounds": len(spent_all), "ratio": round(wall, 3),
             "processor_ratio": round(processor, 3), "ms": round(1e3 * median(s[0] for s in spent_all), 1)}
        )  # fmt: skip
    return rows


def peak_memory(name: str, samples: int) -> int:
    """Peak resident MiB of a fresh process that scores two batches; samples = 0: that runs the network once."""
    command = [sys.executable, __file__, "--memory-of", name, "--samples", str(samples)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print rows at once, because a full run takes long, and return them."""
    for row in rows:
        print(*row.values(), sep="  ", flush=True)
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(c for r in rows for c in r))
    widths = [max(len(c), *(len(str(r.get(c, ""))) for r in rows)) for c in columns]
    for line in [dict(zip(columns, columns, strict=True)), *rows]:
        print("  ".join(str(line.get(c, "")).ljust(w) for c, w in zip(columns, widths, strict=True)).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="T = 10; slow methods once; float64 with T = 2; memory of one"
    )
    parser.add_argument("--out", type=Path, help="write the rows to this CSV file")
    parser.add_argument("--fast-only", action="store_true", help="leave out full passes and baal")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, nargs="+", default=None, metavar="T")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-of", choices=list(NETWORKS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        # No comparison of layouts here: its other layout would set the peak.
        network = NETWORKS[given.memory_of]().eval().to(memory_format=torch.channels_last)
        images = torch.randn(UNITS, 3, *SIZE).contiguous(memory_format=torch.channels_last)
        engine = Sampler(network, ("benchmark", 0))
        for _ in range(2):
            timed(lambda: engine_bald(engine, images, given.samples[0]) if given.samples[0] else network(images))
        # not getrusage, whose maximum a child inherits from the process that started it
        status = Path("/proc/self/status").read_text().split()
        print(int(status[status.index("VmHWM:") + 1]) // 1024)
        return
    baal = "not installed"
    try:
        from importlib.metadata import version

        baal = version("baal")
    except ImportError:
        pass
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"torch {torch.__version__}, {given.threads} threads, kernel {has_kernel()}; baal {baal}"
    )
    rows: list[dict[str, Any]] = []
    for name in given.networks:
        for samples in given.samples or ([10] if given.quick else [10, 20, 50]):
            rows += shown(measure(name, samples, given.rounds, given.quick, given.fast_only))
        network, images = prepared(NETWORKS[name])
        checked, part = (2, 4) if given.quick else (10, 2)
        difference = f"{largest_difference(network, images, checked, part):.1e}"
        rows += shown(
            [{"network": name, "T": checked, "method": "ours, largest |BALD - float64|", "value": difference}]
        )
        for kind, correlation in [] if given.quick else approximations(network, images, 10):
            row = {"network": name, "T": 10, "method": f"{kind}, rank correlation", "value": f"{correlation:.4f}"}
            rows += shown([row])
        measured = (0, 5, 50) if not given.quick else (5, 50) if name == next(iter(NETWORKS)) else ()
        for samples in measured:
            method = "ours, peak MiB" if samples else "deterministic pass, peak MiB"
            rows += shown([{"network": name, "T": samples, "method": method, "value": peak_memory(name, samples)}])
    print()
    print_table(rows)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(c for r in rows for c in r)))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
