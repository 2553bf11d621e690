"""What routing is worth at equal cost, on ten synthetic people of known habits (docs/routing.md).

    python benchmarks/routing.py [--seeds 10] [--per_image 2] [--steps 100] [--out routing.csv]

A seed has 20 images that all ten people drew, which tell who is reliable and train the network that is asked; 80 images
to label, of which 40 are queried at random; and 60 to test on, by their true outlines. Every policy spends as many
labels, 80 or 40 times --per_image: a person's drawing costs 1, an expert's 3, a line in the guidelines 5. The expert is
the most reliable person by the first 20 images; the others draw at random. A line in the guidelines takes away how far
outside or inside of the boundary people draw (`Habit.outward`) and nothing else. Two drawings of an image make a label
where they agree and void elsewhere, where nothing is learned or judged: wrong and void are shares of all pixels.
Networks learn from what a policy has bought and nothing else.
Intervals: 95 %, of the mean over seeds of the difference to another policy (`reports.intervals.mean_interval`).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from acquisition.annotation import VOID
from acquisition.features import Feature
from acquisition.functions import BALD
from acquisition.predictors import MCDropout
from acquisition.regions import Regions
from acquisition.routing import PRICES, Action, disputed_classes, on_one_scale, route
from acquisition.scorer import Scorer
from acquisition.seeding import derive_seed
from datamodules.reliability import Reliability, relative_error, reliabilities
from datamodules.sources.synthetic_annotators import HABITS, Cell, SyntheticAnnotators, draw_cells, draw_mask
from datamodules.votes import majority
from records.files import write_table
from reports.intervals import mean_interval

SIZE = 64
DRAWN_BY_ALL, QUERIED, POOL, TEST = 20, 40, 80, 60
BATCH = 8
Plan = list[tuple[int, Action]]


@lru_cache(maxsize=1024)
def cells_of(seed: int) -> tuple[Cell, ...]:
    """The cells of an image."""
    return draw_cells(seed, SIZE, SIZE)[1]


class Scene:
    """The images of a seed and whoever draws them.

    Whoever draws an image does so alike under every policy.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.source = SyntheticAnnotators(DRAWN_BY_ALL + POOL + TEST, (SIZE, SIZE), scene_seed=seed)
        self.names = self.source.all_images()
        self.pool = self.names[DRAWN_BY_ALL : DRAWN_BY_ALL + POOL]
        self.test = self.names[DRAWN_BY_ALL + POOL :]
        self.people = reliabilities(self.source, self.names[:DRAWN_BY_ALL])

    def truth(self, name: str) -> np.ndarray:
        """The true mask, H x W."""
        cells = cells_of(derive_seed(self.seed, name))
        return np.max([c.depth(SIZE, SIZE) > 0 for c in cells], axis=0).astype(np.uint8)

    def drawing(self, name: str, person: str, by_line: bool) -> np.ndarray:
        """One person's mask, with or without a line in the guidelines on where a boundary is."""
        habit = replace(HABITS[person], outward=0.0) if by_line else HABITS[person]
        seed = derive_seed(self.seed, name)
        return draw_mask(cells_of(seed), habit, derive_seed(seed, person, "first"), SIZE, SIZE)

    def label(self, name: str, action: Action, by_line: bool) -> np.ndarray:
        """What an action makes of an image."""
        if action is Action.EXPERT:
            return self.drawing(name, self.people[0].annotator, by_line)
        others = sorted(p.annotator for p in self.people[1:])
        order = np.random.default_rng(derive_seed(self.seed, name, "who")).permutation(len(others))
        drawn = [self.drawing(name, others[k], by_line) for k in order[: 2 if action is Action.SECOND else 1]]
        return majority(drawn)

    def images(self, names: Sequence[str]) -> Tensor:
        """N x 3 x H x W."""
        return torch.stack([torch.from_numpy(self.source.read_image(n)).permute(2, 0, 1) / 128 - 1 for n in names])


def small_network(width: int = 16) -> nn.Sequential:
    """Five convolutions at half the resolution: hundreds of them train in minutes."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    for dilation, dropped in ((1, 0.0), (2, 0.0), (4, 0.3), (8, 0.3)):
        layers += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Dropout(dropped)] if dropped else []
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


def fitted(seed: int, steps: int, images: Tensor, masks: Callable[[np.ndarray], np.ndarray]) -> nn.Sequential:
    """A network trained for some steps; `masks` are those of the images drawn for a step, N x H x W."""
    torch.manual_seed(seed)
    network = small_network().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        some = rng.choice(len(images), BATCH, replace=False)
        target = torch.from_numpy(masks(some).astype(np.int64))
        known = target != VOID
        logits = network(images[some])[:, 0]
        loss = binary_cross_entropy_with_logits(logits[known], target[known].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network.eval()


def uncertainties(scene: Scene, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The network's and people's, on one scale, and the disputed class, of the pool; it has learned from everybody."""
    first = scene.names[:DRAWN_BY_ALL]
    drawn = np.stack([list(scene.source.drawings(n).values()) for n in first])
    rng = np.random.default_rng(derive_seed(scene.seed, "who draws"))
    everybody = drawn.shape[1]
    network = fitted(
        scene.seed, steps, scene.images(first), lambda some: drawn[some, rng.integers(everybody, size=len(some))]
    )
    scorer = Scorer(BALD(), predictor=MCDropout(20), features={Feature.VARIANCES})
    scored = scorer(network, scene.images(scene.pool), Regions.whole(scene.pool), scene.seed, 0)
    found = scored.features[Feature.VARIANCES].double().numpy()
    people = found[:, 1:].sum(axis=1)
    return on_one_scale(found[:, 0], people), people, disputed_classes(found[:, 1:])


def policies(scene: Scene, steps: int, budget: int) -> dict[str, tuple[Plan, bool]]:
    """What each policy has done to which images, and whether with a line in the guidelines."""
    network, people, classes = (values[:QUERIED] for values in uncertainties(scene, steps))
    error = min(relative_error(scene.people), 1.0)
    true = np.array([scene.source.true_variance(n).mean() for n in scene.pool[:QUERIED]])
    found = {
        "routing": route(network, people, classes, budget, expert_error=error),
        "routing, true disagreement": route(np.zeros(QUERIED), true, classes, budget, expert_error=error),
    }
    shuffled = np.random.default_rng(derive_seed(scene.seed, "shuffled")).permutation(QUERIED)
    after_line = budget - int(PRICES[Action.GUIDELINES])
    plans: dict[str, tuple[Plan, bool]] = {
        "one label each": ([(i, Action.LABEL) for i in range(budget)], False),
        "second person each": ([(i, Action.SECOND) for i in range(budget // 2)], False),
        "guidelines for all": ([(i, Action.GUIDELINES) for i in range(after_line)], True),
        "expert each": ([(i, Action.EXPERT) for i in range(budget // int(PRICES[Action.EXPERT]))], False),
    }
    for name, routed in found.items():
        plans[name] = (list(enumerate(routed.actions)), bool(routed.guided))
    actions = [found["routing"].actions[k] for k in shuffled]
    plans["routing, shuffled"] = (list(enumerate(actions)), bool(found["routing"].guided))
    return plans


def measured(scene: Scene, plan: Plan, by_line: bool, steps: int) -> dict[str, float]:
    """Error and overlap of the labels, and of a network that learns from them."""
    names = [scene.pool[i] for i, _ in plan]
    labels = np.stack([scene.label(n, action, by_line) for n, (_, action) in zip(names, plan, strict=True)])
    truth = np.stack([scene.truth(n) for n in names])
    void = labels == VOID
    wrong = (labels != truth) & ~void
    found = {
        "images": len(names),
        "cost": sum(_cost(action) for _, action in plan) + by_line * PRICES[Action.GUIDELINES],
        "wrong": 100 * wrong.mean(),
        "void": 100 * void.mean(),
        "label IoU": 100 * overlap(labels[~void] == 1, truth[~void] == 1),
    }
    found |= {a.value: sum(action is a for _, action in plan) for a in Action}
    if steps:
        network = fitted(scene.seed, steps, scene.images(names), lambda some: labels[some])
        with torch.no_grad():
            predicted = network(scene.images(scene.test))[:, 0] > 0
        found["network IoU"] = 100 * overlap(predicted.numpy(), np.stack([scene.truth(n) for n in scene.test]) == 1)
    return found


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, of all images together."""
    return float((one & other).sum() / (one | other).sum())


def _cost(action: Action) -> float:
    if action is Action.EXPERT:
        return PRICES[Action.EXPERT]
    return PRICES[Action.LABEL] + (PRICES[Action.SECOND] if action is Action.SECOND else 0)


def summary(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Means, and differences to a policy with paired intervals."""
    rows = []
    for policy, part in table.groupby("policy", sort=False):
        row: dict[str, object] = {"policy": policy}
        row |= {c: f"{part[c].mean():.1f}" for c in ("images", "cost", *[a.value for a in Action])}
        for column in ("wrong", "void", "label IoU", "network IoU"):
            if column not in table:
                continue
            base = table[table["policy"] == baseline].set_index("seed")[column]
            gap = (part.set_index("seed")[column] - base).to_numpy()
            low, high = mean_interval(gap)
            row[column] = f"{part[column].mean():.2f}"
            row[f"{column} - {baseline}"] = f"{gap.mean():+.2f} [{low:.2f}, {high:.2f}]"
        rows.append(row)
    return pd.DataFrame(rows)


def described(people: Sequence[Reliability]) -> str:
    return ", ".join(f"{p.annotator} {p.balanced:.3f}" for p in people)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100, help="of every network; 0 for labels alone")
    parser.add_argument("--asked_steps", type=int, default=200, help="of the network that is asked")
    parser.add_argument("--per_image", type=float, default=2.0, help="labels per queried image: 1 to 2")
    parser.add_argument("--out", type=Path, default=None, help="CSV, a row per seed and policy; its seeds are known")
    arguments = parser.parse_args()
    if not 1 <= arguments.per_image <= POOL / QUERIED:
        parser.error(f"--per_image must be from 1 to {POOL / QUERIED:g} labels, got {arguments.per_image:g}")
    known = arguments.out is not None and arguments.out.is_file()
    start, rows = time.perf_counter(), pd.read_csv(arguments.out).to_dict("records") if known else []
    for seed in sorted(set(range(arguments.seeds)) - {int(row["seed"]) for row in rows}):
        scene = Scene(seed)
        for policy, (plan, by_line) in policies(
            scene, arguments.asked_steps, round(arguments.per_image * QUERIED)
        ).items():
            rows.append({"seed": seed, "policy": policy, **measured(scene, plan, by_line, arguments.steps)})
        if arguments.out is not None:
            write_table(arguments.out, pd.DataFrame(rows))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s; {described(scene.people)}", flush=True)
    table = pd.DataFrame(rows)
    for baseline in ("one label each", "second person each", "routing, shuffled"):
        print(f"\n{summary(table, baseline).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    main()
