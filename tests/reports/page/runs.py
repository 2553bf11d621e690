"""Run directories as fits and queries leave them, made by the records alone: no network is trained."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from records.files import write_table
from records.gallery import GalleryDirectory
from records.ledger import Labelled, Ledger, Queried
from records.reviews import ReviewEvent, Reviews
from records.run_directory import CycleDirectory, RunDirectory

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    'it\'s "quoted" & #1%20',
    "\u2028ümläut/ü",
)
CLASSES = ("road", "<b>car</b>", "sky")
COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44))


def unit_name(number: int) -> str:
    """Ids as users may choose them: the first few are an attack on the page."""
    return HOSTILE[number] if number < len(HOSTILE) else f"unit_{number:05d}"


def make_run(
    path: Path,
    queried: int = 6,
    cycles: int = 2,
    pool: int = 60,
    waiting: bool = True,
    pictures: bool = True,
    draw: int | None = None,
) -> RunDirectory:
    """A run that has fitted `cycles` cycles and queried in each; the last query waits for one label in two.

    Unit n of the pool has the rank n + 1 in the first cycle. Three drawings of the last query's first
    and last are assigned. `draw` is how many units of each gallery get files; all unless given.
    """
    run = RunDirectory(path)
    run.path.mkdir(parents=True)
    run.config.write_text(
        "seed_everything: 3\nmodel: {init_args: {network: {class_path: lightning_modules.networks.FCN8s}}}\n"
        "data: {source: {class_path: datamodules.sources.synthetic.SyntheticRoads}}\n"
    )
    names = [unit_name(i) for i in range(pool)]
    ledger = Ledger(run.ledger)
    ledger.start([Labelled(f"first_{i}", 100) for i in range(5)])
    for number in range(cycles):
        cycle = run.cycle(number)
        labelled = len(ledger.labelled())
        score = 0.4 + 0.1 * number
        of_classes = {f"val/iou/{name}": score - 0.1 * i for i, name in enumerate(CLASSES)}
        row = {"cycle": number, "labelled_units": labelled, "labelled_pixels": labelled * 100, "epoch": 3}
        cycle.path.mkdir(parents=True)
        pd.DataFrame({"class": CLASSES, "pixels": [labelled * 50, labelled * 30, labelled * 20]}).to_csv(
            cycle.labelled_classes, index=False
        )
        left = names[number * queried :]
        table = pd.DataFrame(
            {
                "unit_id": left,
                "score": np.linspace(1, 0, len(left)) * (1 - 0.2 * number),
                "rank": range(1, len(left) + 1),
            }
        )
        table["selected"] = table["rank"] <= queried
        cycle.write_scores(table)
        cycle.write_queried(table[table["selected"]])
        chosen = [Queried(r.unit_id, r.score, r.rank) for r in table.head(queried).itertuples()]
        answered = chosen[: queried // 2] if waiting and number == cycles - 1 else chosen
        ledger.query(number, "BALD-Mean-TopK", chosen, [Labelled(q.unit_id, 100) for q in answered])
        cycle.write_metrics(
            row | {"val/loss": 1 - score, "val/miou": score, **of_classes, "last/epoch": 3, "monitor": "val/miou"}
        )
        if pictures:
            write_gallery(cycle, table, draw=draw)
    last = [q.unit_id for q in ledger.queried(cycles - 1)]
    ledger.close()
    reviews = Reviews(run.ledger)
    drawings = [(last[0], "ann"), (last[0], "bob"), (last[-1], "ann")]
    done = [ReviewEvent(last[0], "ann", "annotated", "ann"), ReviewEvent(last[0], "ann", "rejected", "eve")]
    reviews.record(done, drawings, "eve")
    reviews.close()
    return run


def write_gallery(
    cycle: CycleDirectory, table: pd.DataFrame, size: tuple[int, int] = (48, 72), draw: int | None = None
) -> None:
    """Pictures as a query leaves them: of the queried units, of as many others, and of those with the lowest scores."""
    queried, others = table[table["selected"]], table[~table["selected"]]
    groups = {
        "queried": queried,
        "control": others.iloc[:: max(1, len(others) // len(queried))].head(len(queried)),
        "lowest": others.tail(len(queried))[::-1],
    }
    rows = [row._asdict() | {"kind": kind} for kind, group in groups.items() for row in group.itertuples(index=False)]
    shown = pd.DataFrame(rows).drop(columns="selected")
    shown.insert(0, "number", range(len(shown)))
    shown = shown.assign(
        image_id=shown["unit_id"], top=4, left=6, height=20, width=30, predicted="", truth="", values_name="BALD"
    )
    shown["classes"] = [json.dumps([CLASSES[n % 3], CLASSES[0]]) for n in shown["number"]]
    gallery = GalleryDirectory(cycle.gallery)
    gallery.path.mkdir(parents=True)
    for number in shown["number"][:draw]:
        draw_layers(gallery, number, size, has_truth=number % 2 == 0)
    about = {"values_name": "BALD", "max_value": 0.31, "truth_name": "annotation"}
    about["classes"] = [
        {"name": n, "colour": "#{:02x}{:02x}{:02x}".format(*c)} for n, c in zip(CLASSES, COLOURS, strict=True)
    ]
    gallery.write_about(about)
    write_table(gallery.units, shown)


def draw_layers(gallery: GalleryDirectory, number: int, size: tuple[int, int], has_truth: bool) -> None:
    """The pictures of one unit."""
    height, width = size
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    classes = (
        (y > height * (0.4 + 0.2 * rng.random())) + (np.hypot(y - height / 2, x - width * rng.random()) < height / 4)
    ).astype(np.uint8)
    pixels = np.array(COLOURS)[classes] * 0.6 + rng.integers(0, 90, (*size, 1))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(gallery.thumb(number))
    image.save(gallery.image(number))
    palette = Image.fromarray(classes, "P")
    palette.putpalette([v for colour in COLOURS for v in colour])
    palette.save(gallery.prediction(number))
    if has_truth:
        palette.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(gallery.truth(number))
    Image.fromarray(np.dstack([x * 3, y * 4, 255 - y, np.full(size, 200)]).astype(np.uint8), "RGBA").save(
        gallery.uncertainty(number)
    )
    region = Image.new("RGBA", (width, height))
    ImageDraw.Draw(region).rectangle((6, 4, 36, 24), outline=(255, 255, 255, 255))
    region.save(gallery.region(number))


def multiply_pictures(gallery: GalleryDirectory, count: int) -> None:
    """Give many units the thumbnail of the first, as links, so that a large gallery costs nothing."""
    for number in range(1, count):
        os.link(gallery.thumb(0), gallery.thumb(number))
