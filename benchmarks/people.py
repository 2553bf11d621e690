"""Whose masks to train on, where several people have drawn: consensus, turns and a crowd layer, by people held out.

    python benchmarks/people.py consensus
    python benchmarks/people.py synthetic --folder FOLDER --weights .../tf_efficientnet_lite0.safetensors
    python benchmarks/people.py bubil --folder FOLDER --weights .../tf_efficientnet_lite0.safetensors --root ...

`consensus` needs no network: IoU of each consensus with the true cells of configs/people_synthetic.yaml's images (void
is not judged; and on those pixels alone where the majority is not tied), and how well each person's known sensitivity
and specificity are found; and controls whose pixels err independently.

The others fit configs/people_*.yaml once per way and split. A split holds out people and a third of the images; the
network is judged there by the held-out people's masks, at the images' own size. What is finished stays in the folder,
so that a run that was cut goes on. Intervals: BCa bootstrap over images of the difference to the majority, the three
splits' images together; what another seed of the fit would change is not in them.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from acquisition.annotation import VOID  # noqa: E402
from acquisition.checkpoints import load_network  # noqa: E402
from datamodules.consensus import dawid_skene, staple  # noqa: E402
from datamodules.datasets import ImageDataset  # noqa: E402
from datamodules.sources.multi_annotator import MultiAnnotatorFolder  # noqa: E402
from datamodules.sources.several_annotators import SeveralAnnotators  # noqa: E402
from datamodules.sources.synthetic_annotators import SyntheticAnnotators  # noqa: E402
from datamodules.transforms import eval_transform  # noqa: E402
from datamodules.votes import majority  # noqa: E402
from lightning_modules.networks import DeepLabV3Plus  # noqa: E402
from records.files import replacing  # noqa: E402
from records.run_directory import RunDirectory  # noqa: E402
from reports.intervals import mean_interval  # noqa: E402

PLAIN = ["--model.loss", "lightning_modules.losses.CrossEntropy"]
WAYS: Mapping[str, Sequence[str]] = {
    "majority": [*PLAIN, "--data.source.annotator", "majority"],
    "random": [*PLAIN, "--data.source.annotator", "random"],
    "STAPLE": [*PLAIN, "--data.source.annotator", "staple"],
    "Dawid-Skene": [*PLAIN, "--data.source.annotator", "dawid_skene"],
    "crowd layer": ["--model.loss.speed", "1"],
    "crowd layer, speed 30": [],
}
HELD_OUT = {
    "bubil": (("person1", "person2"), ("person3", "person4"), ("person5", "person1")),
    "synthetic": (
        ("careful", "erodes_misses", "shifts_down"),
        ("dilates", "misses_small", "shifts_left"),
        ("dilates_much", "erodes", "misses_faint", "guesses"),
    ),
}


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Of class 1, without what is void in the first; 1 where neither has any."""
    union = ((mask == 1) | ((other == 1) & (mask != VOID))).sum()
    return float(((mask == 1) & (other == 1)).sum() / union) if union else 1.0


def consensus(drawings: Sequence[np.ndarray], truths: Sequence[np.ndarray], known: np.ndarray) -> None:
    """Print the table of one kind of people.

    Args:
        drawings: N x H x W masks of each image.
        truths: H x W, of each image.
        known: N x 2 x 2 confusions.
    """
    images = [staple(masks) for masks in drawings]
    # Dawid and Skene's model of one image is STAPLE but for the prior and where it begins
    learning = [dawid_skene([masks]) for masks in drawings]
    together = dawid_skene(drawings)
    someone = np.random.default_rng(0)
    made = {
        "majority": ([majority(masks) for masks in drawings], None),
        "random": ([masks[someone.integers(len(masks))] for masks in drawings], None),
        "STAPLE": (
            [one.labels(masks) for one, masks in zip(images, drawings, strict=True)],
            np.nanmean([one.confusion for one in images], axis=0),
        ),
        "STAPLE, prior learned": (
            [one.labels(masks) for one, masks in zip(learning, drawings, strict=True)],
            np.nanmean([one.confusion for one in learning], axis=0),
        ),
        "Dawid-Skene": ([together.labels(masks) for masks in drawings], together.confusion),
    }
    ties = [majority(masks) == VOID for masks in drawings]
    print("\n| | IoU | untied | area | void | sensitivity: error, r | specificity: error, r |")
    print("|---|---|---|---|---|---|---|")
    for name, (labels, found) in made.items():
        quality = np.mean([iou(a, b) for a, b in zip(labels, truths, strict=True)])
        untied = np.mean([iou(np.where(t, VOID, a), b) for t, a, b in zip(ties, labels, truths, strict=True)])
        area = np.sum([(a == 1).sum() for a in labels]) / np.sum([(b == 1).sum() for b in truths])
        void = np.sum([(a == VOID).sum() for a in labels]) / np.sum([(b == 1).sum() for b in truths])
        habits = "|" if found is None else recovered(found, known)
        print(f"| {name} | {quality:.3f} | {untied:.3f} | {area:.3f} | {void:.3f} | {habits} |")


def recovered(found: np.ndarray, known: np.ndarray) -> str:
    """Mean absolute error and Pearson's r over people of the diagonal of N x 2 x 2 confusions."""
    parts = []
    for kind in (1, 0):
        a, b = found[:, kind, kind], known[:, kind, kind]
        parts.append(f"{np.abs(a - b).mean():.3f}, {np.corrcoef(a, b)[0, 1]:.2f}")
    return " | ".join(parts)


def independent(truth: np.ndarray, habits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Masks of people whose pixels err on their own, N x H x W: habits are N pairs (sensitivity, specificity)."""
    right = np.where(truth == 1, habits[:, :1, None], habits[:, 1:, None])
    return np.where(rng.random(right.shape) < right, truth, 1 - truth).astype(np.uint8)


def print_consensus() -> None:
    """The ten people of known habits, and the control."""
    source = SyntheticAnnotators()
    images = source.all_images()
    truths = [source.true_mask(i) for i in images]
    print(f"{len(source.annotators)} people, {len(images)} images; their habits over all drawings that they might make")
    known = source.true_confusion(images)
    consensus([np.stack(list(source.drawings(i).values())) for i in images], truths, known)
    rng = np.random.default_rng(0)
    print("\ncontrol: the same sensitivities and specificities, but every pixel errs on its own")
    alike = np.stack([known[:, 1, 1], known[:, 0, 0]], axis=1)
    consensus([independent(truth, alike, rng) for truth in truths], truths, known)
    habits = np.array([(0.95, 0.95), (0.9, 0.95), (0.7, 0.7), (0.6, 0.8), (0.6, 0.6)])
    print("\ncontrol: five people whose pixels err independently, two good and three bad")
    known = np.array([[[right, 1 - right], [1 - found, found]] for found, right in habits])
    consensus([independent(truth, habits, rng) for truth in truths], truths, known)


def evaluate(
    kind: str, source: SeveralAnnotators, run: Path, held_out: Sequence[str], size: tuple[int, int] | None
) -> dict[str, dict[str, float]]:
    """IoU of a run's network with each held-out person, and with the truth, by image of its validation fold."""
    settings = yaml.safe_load((ROOT / "configs" / f"people_{kind}.yaml").read_text())
    arguments = settings["model"]["init_args"]["network"]["init_args"] | {"weights": None}
    network = DeepLabV3Plus(**arguments)
    load_network(network, RunDirectory(run).cycle(0).best)
    network.eval()
    found: dict[str, dict[str, float]] = {}
    for sample in ImageDataset(source.images("val"), source, eval_transform(size)):  # type: ignore[attr-defined]
        image_id = sample["image_id"]
        with torch.inference_mode():
            logits = network(sample["image"][None])
            shape = source.size(image_id)
            logits = torch.nn.functional.interpolate(logits, shape, mode="bilinear", align_corners=False)
        predicted = (logits[0, 0] > 0).numpy().astype(np.uint8)
        row = {name: iou(predicted, source.read_drawing(image_id, name)) for name in held_out}
        if isinstance(source, SyntheticAnnotators):
            row["truth"] = iou(predicted, source.true_mask(image_id))
        found[image_id] = row
    return found


def networks(kind: str, options: argparse.Namespace) -> None:
    """Fit every way in every split, and print the table."""
    import cli

    config = ROOT / "configs" / f"people_{kind}.yaml"
    size = yaml.safe_load(config.read_text())["data"].get("image_size")
    scores: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    learned: dict[str, list[str]] = {}
    for fold, held_out in enumerate(HELD_OUT[kind][: options.splits]):
        whole = MultiAnnotatorFolder(options.root) if kind == "bubil" else SyntheticAnnotators()
        used = [name for name in whole.annotators if name not in held_out]
        made = {"fold": fold, "folds": 3, "people": used}
        source = MultiAnnotatorFolder(options.root, **made) if kind == "bubil" else SyntheticAnnotators(**made)
        for way, changes in WAYS.items():
            run = Path(options.folder) / kind / f"{re.sub(r'[^a-zA-Z0-9-]+', '_', way)}-{fold}"
            result = run / "held_out.json"
            if not result.is_file():
                where = ["--data.source.root", options.root] if kind == "bubil" else []
                cli.main(
                    ["fit", "--config", str(config), "--run_dir", str(run), "--seed_everything", str(fold), *where,
                     "--model.network.weights", options.weights, "--data.source.people", json.dumps(used),
                     "--data.source.fold", str(fold), "--trainer.enable_progress_bar", "false", *changes]
                )  # fmt: skip
                found = evaluate(kind, source, run, held_out, size)
                with replacing(result) as beside:
                    beside.write_text(json.dumps(found))
            rows = json.loads(result.read_text())
            judged = {image_id: float(np.mean([row[n] for n in held_out])) for image_id, row in rows.items()}
            scores[way] += [{**row, "held out": judged[image_id], "fold": fold} for image_id, row in rows.items()]
            if kind == "synthetic" and "crowd" in way:
                learned.setdefault(way, []).append(crowd(run, source, used))
    print(f"{kind}: {len(scores['majority'])} images, each in one of {options.splits} splits")
    for judge in ("held out", "truth") if kind == "synthetic" else ("held out",):
        print(f"\n| | IoU with {judge} | by split | less the majority's, 95 % | by split |\n|---|---|---|---|---|")
        folds = np.array([row["fold"] for row in scores["majority"]])
        base = np.array([row[judge] for row in scores["majority"]])
        for way, rows in scores.items():
            values = np.array([row[judge] for row in rows])
            low, high = mean_interval(values - base) if way != "majority" else (0.0, 0.0)
            by_split = " ".join(f"{values[folds == k].mean():.3f}" for k in range(options.splits))
            less = " ".join(f"{(values - base)[folds == k].mean():+.3f}" for k in range(options.splits))
            difference = f"{(values - base).mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            print(f"| {way} | {values.mean():.3f} | {by_split} | {difference} | {less} |")
    if learned:
        print("\n| | split | sensitivity: error, r | specificity: error, r |\n|---|---|---|---|")
    for way, lines in learned.items():
        print("\n".join(f"| {way} | {fold} | {line} |" for fold, line in enumerate(lines)))


def crowd(run: Path, source: SyntheticAnnotators, used: Sequence[str]) -> str:
    """What the crowd layer has learned of people's habits, against what they are."""
    places = [source.annotators.index(name) for name in used]
    row = RunDirectory(run).cycle(0).read_metrics()
    found = np.zeros((len(used), 2, 2))
    for kind in (0, 1):
        found[:, kind, kind] = [row[f"val/annotator_{place}/class_{kind}"] for place in places]
    return recovered(found, source.true_confusion(source.images("train"))[places])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["consensus", "synthetic", "bubil"])
    parser.add_argument("--folder", default="runs/people", help="where fits are kept")
    parser.add_argument("--weights", help="tf_efficientnet_lite0.safetensors")
    parser.add_argument("--root", help="of bubil_multiannotator")
    parser.add_argument("--splits", type=int, choices=[1, 2, 3], default=3, help="only the first so many")
    options = parser.parse_args()
    if options.what == "consensus":
        print_consensus()
        return
    if options.weights is None or (options.what == "bubil" and options.root is None):
        parser.error("give --weights, and for bubil --root")
    networks(options.what, options)


if __name__ == "__main__":
    main()
