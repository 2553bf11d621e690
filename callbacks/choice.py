"""From the scores of a pool to queried units: ranked, written down, asked for."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from acquisition.batch import BatchSelection
from acquisition.features import Feature
from acquisition.limits import Allowance
from acquisition.selection import Selection
from callbacks.handout import hand_out
from datamodules.oracle import COUNTING
from datamodules.partitions import Region
from datamodules.pool import Pool
from datamodules.sources.source import Source
from datamodules.texts import shielded
from records.ledger import Queried
from records.run_directory import CycleDirectory

__all__ = ["Chooser", "Features", "named_scores", "platform_columns"]


class Features(Protocol):
    """Where a selection by features finds them."""

    def of_pool(self, feature: Feature, unit_ids: Sequence[str]) -> np.ndarray:
        """One row per unit of the pool, in their order: N x D."""

    def of_labelled(self, feature: Feature, unit_ids: Sequence[str]) -> np.ndarray:
        """One row per labelled unit, in their order: N x D."""


@dataclass(frozen=True)
class Chooser:
    """Chooses among the scored units of a pool.

    Args:
        selection: The order in which units are taken.
        allowance: How many of them, and what they may cost in all.
        strategy: The name under which the ledger records the choice.
    """

    selection: Selection
    allowance: Allowance
    strategy: str

    def check(self, pool: Pool) -> None:
        """Refuse, before a fit, what could not be chosen after it.

        Args:
            pool: What is chosen from.

        Raises:
            ValueError: If the selection is of another data set, or the allowance does not pay for every unit.
        """
        self.selection.check(pool.units.location)
        largest = max(self.sizes(pool, pool.unlabelled), default=0)
        if self.allowance.pixels is not None and largest > self.allowance.pixels:
            raise ValueError(
                f"strategy.budget_pixels must pay for at least one unit, whichever it is: expected {largest} or more, "
                f"got {self.allowance.pixels}"
            )
        self.check_counts(pool)

    def check_counts(self, pool: Pool) -> None:
        """Refuse an allowance in what nobody counts.

        Args:
            pool: Whose oracle counts.

        Raises:
            ValueError: If there is one.
        """
        for name in self.allowance.counted:
            if name not in pool.oracle.counts:
                raise ValueError(
                    f"strategy.budget_{name} needs to know what an answer costs: expected a data.oracle that counts "
                    f"{name}, got {pool.oracle.short_description}; set it to {COUNTING[name]}"
                )

    def choose(
        self,
        pool: Pool,
        scores: pd.DataFrame,
        cycle: int,
        features: Features | None = None,
    ) -> pd.DataFrame:
        """Rank a pool and mark what the allowance pays for.

        Args:
            pool: Whose units they are.
            scores: unit_id and score of every unit that may be chosen, in an order that does not depend on who scored
                them; with a column tier, units of a lower one are taken first.
            cycle: The open cycle.
            features: For a selection that looks at features instead of scores.

        Returns:
            unit_id, score, rank (1 is the first choice) and selected, first choice first.

        Raises:
            ValueError: If the allowance does not pay for the first choice, or the selection is of another data set.

        """
        self.selection.check(pool.units.location)
        self.check_counts(pool)
        table = scores.iloc[self._order(pool, scores, cycle, features)]
        if "tier" in table:
            table = table.sort_values("tier", kind="stable").drop(columns="tier")
        order, most = self.selection.admit(table["unit_id"].tolist(), pool.units)
        table, ranks = table.iloc[order], np.arange(1, len(table) + 1)
        first = table["unit_id"].iloc[: min(most, self.allowance.units)].tolist()
        sizes = self.sizes(pool, first)
        taken = self.allowance.pays(sizes)
        if not taken:
            raise ValueError(
                f"strategy.budget_pixels must pay for at least one unit, got {self.allowance.pixels} where "
                f"{first[0]!r} has {sizes[0]} pixels; raise it"
            )
        if self.allowance.counted:
            taken = self._paid(pool, first[:taken])
        return table.reset_index(drop=True).assign(rank=ranks, selected=ranks <= taken)

    def ask(
        self, pool: Pool, directory: CycleDirectory, ranked: pd.DataFrame, more: pd.DataFrame | None = None
    ) -> list[str]:
        """Write queried.csv and what shows parts of images (`hand_out`), and have the chosen units labelled, in order.

        The folder of shards stands from before the first of these files until after the labels: it says that the
        ledger may not know of the query yet.

        Args:
            pool: Whose units they are.
            directory: The open cycle's.
            ranked: What `choose` returned.
            more: Further columns of queried.csv, a row for each chosen unit in their order.

        Returns:
            Ids of the units that wait for somebody's label.

        """
        selected = ranked[ranked["selected"]]
        directory.shards.mkdir(parents=True, exist_ok=True)
        table = _platform_table(pool, selected)
        columns = {} if more is None else {name: column.to_numpy() for name, column in more.items()}
        directory.write_queried(table.assign(**columns))
        hand_out(pool, directory, selected["unit_id"].tolist())
        chosen = [Queried(r.unit_id, float(r.score), int(r.rank)) for r in selected.itertuples()]
        waiting = pool.ask(chosen, self.strategy)
        shutil.rmtree(directory.shards)
        return waiting

    def _paid(self, pool: Pool, unit_ids: Sequence[str]) -> int:
        """How many units the allowance pays for in their order, by what the oracle says that they cost."""
        looked_at = 0
        while True:
            # what a budget does not reach is not looked at: an answer's cost takes a look at its image
            looked_at = min(max(8, 2 * looked_at), len(unit_ids))
            costs = pool.costs(unit_ids[:looked_at])
            taken = looked_at
            for name, limit in self.allowance.counted.items():
                spent = np.cumsum([getattr(cost, name) for cost in costs])
                taken = min(taken, int((spent <= limit).sum()))
                if not taken:
                    raise ValueError(
                        f"strategy.budget_{name} must pay for at least one unit, got {limit} where {unit_ids[0]!r} "
                        f"costs {spent[0]} {name}; raise it"
                    )
            if taken < looked_at or looked_at == len(unit_ids):
                return taken

    def sizes(self, pool: Pool, unit_ids: Sequence[str]) -> list[int]:
        """Pixels of each unit; ones where nobody counts them, for that takes a look at every file."""
        return [1] * len(unit_ids) if self.allowance.pixels is None else pool.units.pixels(unit_ids)

    def _order(self, pool: Pool, scores: pd.DataFrame, cycle: int, features: Features | None) -> list[int]:
        unit_ids, values = scores["unit_id"].tolist(), scores["score"].tolist()
        if not isinstance(self.selection, BatchSelection):
            return self.selection.order(unit_ids, values, pool.seed, cycle)
        if features is None:
            raise ValueError(f"{self.selection.name} looks at features, got none; score the pool with them")
        centres: dict[Feature, np.ndarray] = {}
        if self.selection.needs_labelled:
            names = pool.labelled
            for feature in self.selection.needs:
                # without a labelled unit no centres, as wide as a unit's features
                centres[feature] = (
                    features.of_labelled(feature, names)
                    if names
                    else np.array(features.of_pool(feature, unit_ids[:1])[:0])
                )
        return self.selection.order_by_features(
            unit_ids, values, pool.seed, cycle, self.allowance.units, features.of_pool, centres
        )


def named_scores(pool: Pool, table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Scores as annotation platforms read them (SuperAnnotate 2020, "Active learning for semantic segmentation").

    Args:
        pool: Whose units they are.
        table: The ranked pool: unit_id and score.
        column: Name of the column of scores.

    Returns:
        name, the image's file where the unit is an image and otherwise the unit's id, and the column of scores.
    """
    unit_ids = table["unit_id"].tolist()
    images = [pool.units.image_of(unit_id) for unit_id in unit_ids]
    paths = [pool.source.path(i) if i == u else None for i, u in zip(images, unit_ids, strict=True)]
    names = [shielded(p.name if p else u) for p, u in zip(paths, unit_ids, strict=True)]
    return pd.DataFrame({"name": names, column: table["score"].to_numpy()})


def platform_columns(
    source: Source, unit_ids: Sequence[str], image_ids: Sequence[str], regions: Sequence[Region], ranks: np.ndarray
) -> dict[str, Any]:
    """Columns of a table of units as annotation platforms read it: name and priority first.

    Priority falls from 1 towards 0 with the rank. Text that a spreadsheet would run as a formula has an apostrophe
    before it (see `datamodules.texts.shielded`).

    Args:
        source: Whose images they are.
        unit_ids: N units,
        image_ids: the images that they are parts of,
        regions: where they are there,
        ranks: and their ranks, from 1.
    """
    paths = [source.path(image_id) for image_id in image_ids]
    boxes = np.array([region.box for region in regions]).reshape(-1, 4)
    return {
        "name": [shielded(p.name if p else i) for p, i in zip(paths, unit_ids, strict=True)],
        "priority": 1 - (ranks - 1) / max(len(unit_ids), 1),
        "unit_id": [shielded(unit_id) for unit_id in unit_ids],
        "rank": ranks,
        "path": [shielded(str(p or "")) for p in paths],
        "image_id": [shielded(image_id) for image_id in image_ids],
        **dict(zip(("row", "column", "height", "width"), boxes.T, strict=True)),
        "pixels": [region.pixels for region in regions],
    }


def _platform_table(pool: Pool, selected: pd.DataFrame) -> pd.DataFrame:
    unit_ids = selected["unit_id"].tolist()
    images = [pool.units.image_of(unit_id) for unit_id in unit_ids]
    regions = pool.units.regions_of(unit_ids)
    table = pd.DataFrame(platform_columns(pool.source, unit_ids, images, regions, selected["rank"].to_numpy()))
    table.insert(table.columns.get_loc("path"), "score", selected["score"].to_numpy())
    return table
