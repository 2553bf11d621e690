"""One attack: kill, start again until it ends, compare."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests import forked
from tests.attack.events import ORDER, TARGET
from tests.attack.scenarios import Scenario, differences, findings

__all__ = ["Aim", "Result", "Target"]

_PATIENCE = 240.0
"""Seconds after which a process hangs; undisturbed it takes two to ten."""
_STARTS = 12


@dataclass(frozen=True)
class Aim:
    """Kill `who` at its file event `at` (see `events.ORDER`)."""

    who: str
    at: int | str

    @classmethod
    def parse(cls, text: str) -> "Aim":
        """An aim as the command line takes it, WHO:EVENT."""
        who, _, at = text.partition(":")
        return cls(who, int(at) if at.isdigit() else at)

    def __str__(self) -> str:
        return f"{self.who}:{self.at}"


@dataclass
class Result:
    """What became of an attacked run: the events at which it was killed, and what differs."""

    scenario: str
    aims: list[Aim]
    kills: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    hung: bool = False

    def __str__(self) -> str:
        how = "HANGS" if self.hung else f"DIFFERS in {', '.join(self.differing[:6])}" if self.differing else "same"
        again = f"--only {self.scenario} --at {shlex.join(map(str, self.aims))}"
        return f"{how}\n  killed at: {'; '.join(self.kills)}\n  again: python -m tests.attack {again}"


class Target:
    """A scenario with what an uninterrupted run of it leaves, and the file events of that run."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario = scenario
        self.folder = folder / scenario.name
        self.root = self.folder / "run"
        threads = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DROPQUERY_TRACEBACK": "1"}
        self.env = {**os.environ, **threads, forked.ADDRESS: forked.server()}
        self.command = scenario.prepare(self.folder, self.env)
        code, _ = self.start(Aim("parent", 0))
        assert code == 0, (self.folder / "output").read_text()
        self.expected = findings(self.root)
        lines = [line.split(maxsplit=2) for line in (self.folder / "events").read_text().splitlines()]
        self.events = [(Aim(who, int(number)), what) for who, number, what in lines]

    def aims(self) -> dict[Aim, str]:
        """Every file event of the uninterrupted run, as the end of the process alone and as that of its parent, too."""
        aims: dict[Aim, str] = {}
        for aim, happens in self.events:
            aims[aim] = happens
            if aim.who == "member":
                # members count alike, so that by its number only the first one's event is met
                for other in (Aim("member", happens), Aim("all", happens), Aim("all", aim.at)):
                    aims[other] = happens
        return aims

    def start(self, aim: Aim) -> tuple[int | None, str]:
        """Run the command once; returns its exit status (None: it hung) and the event at which it was killed, or ""."""
        fuse, events, output = (self.folder / name for name in ("fuse", "events", "output"))
        for path in (fuse, events, output):
            path.unlink(missing_ok=True)
        order = {"root": str(self.root), "log": str(events), "fuse": str(fuse), "at": aim.at, "who": aim.who}
        env = {**self.env, ORDER: json.dumps(order)}
        code = None
        with forked.start(self.command, env, stdout=output, stderr=output, target=TARGET) as process:
            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                shutil.copy(output, self.folder / "hung")
        return code, fuse.read_text().strip() if fuse.exists() else ""

    def attack(self, *aims: Aim) -> Result:
        """Kill the first start at the first aim, the second at the second, and so on; then let the run end."""
        result = Result(self.scenario.name, list(aims))
        self.scenario.prepare(self.folder, self.env)
        for number in range(_STARTS):
            code, killed = self.start(aims[number] if number < len(aims) else Aim("parent", 0))
            if killed:
                result.kills.append(killed)
            if code is None:
                result.hung = True
                return result
            if code >= 0:
                break
            if killed and self.scenario.ended(self.root):
                break
        if code and not (killed and code == -signal.SIGKILL):
            last = (self.folder / "output").read_text().strip().splitlines()[-1:]
            result.differing.append(f"exit code {code} ({' '.join(last)[:300]})")
        result.differing += differences(self.expected, self.root)
        return result

    def in_random_order(self, chance: random.Random) -> list[Aim]:
        """All aims, shuffled, but what happens often comes again only when everything else has had its turn."""
        before: Counter[tuple[str, str]] = Counter()
        turns = []
        aims = list(self.aims().items())
        for aim, happens in chance.sample(aims, len(aims)):
            turns.append((before[aim.who, happens], aim))
            before[aim.who, happens] += 1
        return [aim for _, aim in sorted(turns, key=lambda turn: turn[0])]
