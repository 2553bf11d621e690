"""`python -m tests.attack --minutes 30`: kills at every file event of every scenario, in random order."""

import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.attack.attack import Aim, Result, Target
from tests.attack.scenarios import SCENARIOS


def main() -> None:
    """Attack until the time is over; print every run that differs or hangs, then kills, differing runs and hangs."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS), metavar="SCENARIO")
    parser.add_argument("--at", nargs="*", metavar="WHO:EVENT", help="only this attack: who is killed at which event")
    parser.add_argument("--folder", type=Path, help="work here, and leave the last attack's files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack") as folder:
        work = options.folder or Path(folder)
        if options.at:
            results = [Target(SCENARIOS[name], work).attack(*map(Aim.parse, options.at)) for name in options.only]
            print(*results, sep="\n")
        else:
            results = _attack(options.only, work, options.minutes, random.Random(options.seed))
    kills = sum(len(r.kills) for r in results)
    differing, hangs = sum(bool(r.differing) for r in results), sum(r.hung for r in results)
    print(f"{len(results)} runs, {kills} kills, {differing} differing runs, {hangs} hangs")
    sys.exit(bool(differing or hangs))


def _attack(names: list[str], folder: Path, minutes: float, chance: random.Random) -> list[Result]:
    end = time.monotonic() + 60 * minutes
    targets, waiting = {}, {}
    results: list[Result] = []
    for name in itertools.cycle(names):
        if time.monotonic() > end:
            break
        target = targets.get(name) or targets.setdefault(name, Target(SCENARIOS[name], folder))
        if not waiting.get(name):
            waiting[name] = target.in_random_order(chance)
        # the run that goes on is killed again a few times, mostly early, because it ends early
        again = [Aim("parent", chance.randint(1, 100)) for _ in range(chance.randint(0, 3))]
        result = target.attack(waiting[name].pop(0), *again)
        results.append(result)
        if result.differing or result.hung:
            print(f"{name}: {result}", flush=True)
    for name, target in targets.items():
        mine = [r for r in results if r.scenario == name]
        kills = [k for r in mine for k in r.kills]
        print(f"{name}: {len(mine)} runs, {len(kills)} kills at {len(set(kills))} of {len(target.events)} events")
    return results


if __name__ == "__main__":
    main()
