"""Pictures of every queried unit, and of as many others, drawn when the query is chosen (`records.gallery`)."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from acquisition.functional import predicted_class
from acquisition.scorer import Scorer
from acquisition.seeding import uniform_for
from callbacks.batches import batch_images, batch_truth
from callbacks.layers import ClassLayers
from callbacks.painter import Painter, drawn_or_warned
from callbacks.scored import LargestValue
from datamodules.datamodule import PoolDataModule
from datamodules.datasets import share_of_process
from datamodules.pool import Pool
from records.gallery import GalleryDirectory
from records.run_directory import CycleDirectory
from records.shards import Shards

__all__ = ["ShownUnits", "shown_units"]


def shown_units(
    ranked: pd.DataFrame, most: int | None, seed: int, cycle: int, with_lowest: bool = True
) -> pd.DataFrame:
    """Which units get a picture: those queried, as many others drawn at random, and as many with the lowest scores.

    Args:
        ranked: The pool: unit_id, score, rank and selected.
        most: How many of each kind at most; None for all queried ones, and as many others.
        seed: Who is drawn at random depends on it,
        cycle: on the cycle and on the unit's id.
        with_lowest: Whether scores are more than drawn numbers.

    Returns:
        number, unit_id, kind, score and rank: the queried ones by rank, the random ones in the order in which they were
        drawn, and the lowest first. A unit may be of the last two kinds.
    """
    queried = ranked[ranked["selected"]].sort_values("rank").head(len(ranked) if most is None else most)
    others, count = ranked[~ranked["selected"]], len(queried)
    drawn = others.assign(draw=[uniform_for(seed, "control", cycle, unit_id) for unit_id in others["unit_id"]])
    parts = [queried.assign(kind="queried"), drawn.sort_values("draw").head(count).assign(kind="control")]
    if with_lowest:
        lowest = others.sort_values(["score", "rank"], ascending=[True, False])
        parts.append(lowest.head(count).assign(kind="lowest"))
    table = pd.concat(parts, ignore_index=True)[["unit_id", "kind", "score", "rank"]]
    return table.rename_axis("number").reset_index()


@dataclass(frozen=True)
class ShownUnits:
    """Draws the pictures of a query, in all processes, between the choice and the ledger.

    The network is asked once more, about the images of the shown units alone; the same masks give the same values.
    What is drawn is not drawn again after a kill. A picture that cannot be drawn gives a warning, because the query
    must not fail for it.

    Args:
        scorer: Of the query.
        most: How many units of each kind (see `shown_units`); 0 for no pictures.
    """

    scorer: Scorer
    most: int | None

    def draw(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        directory: CycleDirectory,
        shards: Shards,
    ) -> None:
        """Draw this process's share; the first process writes the table when all have drawn theirs.

        Args:
            trainer: Whose processes they are.
            module: With the weights that were asked.
            datamodule: Whose units they are.
            directory: The open cycle's, in which the scores are written.
            shards: Of the query, where processes leave what the others have to know.
        """
        files, pool = GalleryDirectory(directory.gallery), datamodule.pool
        if self.most == 0:
            if trainer.is_global_zero:
                # of a query that was cut and may have chosen others
                shutil.rmtree(files.path, ignore_errors=True)
            return
        ranked = directory.read_scores()
        table = shown_units(ranked, self.most, pool.seed, directory.number, self.scorer.acquisition.needs_network)
        largest = LargestValue.saved(shards.folder)
        if trainer.is_global_zero:
            with drawn_or_warned("the pictures of units"):
                self._open(files, pool, largest, [shards.fingerprint, *table["unit_id"]])
        trainer.strategy.barrier("the folder of pictures is there")
        painter = Painter(files, pool, table, largest, shards.folder)
        missing = painter.missing()
        # nobody may draw before everybody has seen what is missing
        trainer.strategy.barrier("missing pictures are known")
        left = set(share_of_process(missing, trainer.global_rank, trainer.world_size))
        with drawn_or_warned("what the network says of the units"):
            for image_id, prediction, values in self._asked(trainer, module, datamodule, table, missing):
                left.discard(image_id)
                painter.paint(image_id, prediction, values)
        for image_id in sorted(left):
            painter.paint(image_id)
        trainer.strategy.barrier("pictures are drawn")
        if trainer.is_global_zero:
            with drawn_or_warned("the table of pictures"):
                painter.write_table(self.scorer.acquisition.value_name)

    def _open(self, files: GalleryDirectory, pool: Pool, largest: float | None, query: Sequence[str]) -> None:
        names, layers = pool.source.class_names, ClassLayers(pool.source.class_names)
        about = {
            "values_name": self.scorer.acquisition.value_name,
            "max_value": largest,
            "classes": [{"name": n, "colour": c} for n, c in zip(names, layers.colours, strict=True)],
            "truth_name": "truth" if pool.oracle.knows_truth else "annotation",
            "query": uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(query)).hex,
        }
        try:
            same = files.read_about() == about
        except OSError:
            same = False
        if not same:
            shutil.rmtree(files.path, ignore_errors=True)
            files.write_about(about)

    def _asked(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        table: pd.DataFrame,
        image_ids: Sequence[str],
    ) -> Iterator[tuple[str, np.ndarray | None, np.ndarray | None]]:
        """This process's share of images, each with prediction and values; none where weights would be untrained."""
        scorer, pool = self.scorer, datamodule.pool
        asks = scorer.acquisition.needs_network
        if not image_ids or not (asks or trainer.ckpt_path or trainer.state.fn == TrainerFn.FITTING):
            return
        network, asked = module.network, set(table["unit_id"])
        for batch in datamodule.pool_dataloader(image_ids, truth=scorer.reads_truth):
            images, cycle = batch_images(module, batch), pool.ledger.cycle
            with trainer.precision_plugin.forward_context():
                if asks:
                    regions = pool.units.regions(batch["image_id"], batch["index"], asked)
                    truth = batch_truth(batch) if scorer.reads_truth else None
                    scored = scorer(network, images, regions, pool.seed, cycle, truth=truth)  # type: ignore[arg-type]
                    predictions, values = scored.predictions, scored.values
                else:
                    asked_once = scorer.predictions(network, pool.seed, cycle)  # type: ignore[arg-type]
                    predictions, values = predicted_class(asked_once.logits(images)), None
            for number, image_id in enumerate(batch["image_id"]):
                yield (
                    image_id,
                    None if predictions is None else predictions[number].cpu().numpy(),
                    None if values is None else values[number].float().cpu().numpy(),
                )
