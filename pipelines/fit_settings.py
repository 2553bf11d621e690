"""From the settings of one of many fits to what that fit begins with, each cycle seeded anew."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace

from acquisition.seeding import derive_seed
from pipelines.cycles import Experiment
from pipelines.stopping import CycleEnd

__all__ = ["FitSettings", "seed_cycle"]


class FitSettings:
    """What the command line's parser knows of the fits of a study.

    Args:
        parser: Of the verb fit.

    """

    def __init__(self, parser: ArgumentParser) -> None:
        self._of_fit = parser
        self._parsed: dict[str, Namespace] = {}

    def complete(self, settings: dict[str, Any]) -> str:
        """The same settings with every default, as YAML.

        Args:
            settings: Those of one fit, with its own run_dir.

        """
        dumped: str = self._of_fit.dump(self._parse(settings), skip_unset=False)
        return dumped

    def parts(self, settings: dict[str, Any], cycle: int, last: bool) -> Experiment:
        """Module, data and query as that cycle's fit begins with them.

        Args:
            settings: Those of one fit, with its own run_dir.
            cycle: The cycle's number, from 0.
            last: Whether it is the run's last.

        """
        config = self._parse(settings)
        seed_cycle(config.seed_everything, cycle)
        made = self._of_fit.instantiate(config)
        end = CycleEnd(Path(config.run_dir), cycle, last, made.stop or ())
        return Experiment(made.model, made.data, made.strategy.asking(end), end)

    def _parse(self, settings: dict[str, Any]) -> Namespace:
        # parsing costs a tenth of a second, and every cycle of a run asks for it
        key = settings["run_dir"]
        if key not in self._parsed:
            self._parsed[key] = self._of_fit.parse_object(settings)
        return self._parsed[key]


def seed_cycle(seed: int, cycle: int) -> None:
    """Before a cycle's objects are made: initial weights depend on (seed, cycle) alone.

    Args:
        seed: The experiment's.
        cycle: The cycle's number, from 0.

    """
    pl.seed_everything(derive_seed(seed, "cycle", cycle) % 2**32, workers=True, verbose=False)
