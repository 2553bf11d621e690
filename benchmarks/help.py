"""What help costs: seconds of CPU, user and system, the least of several interpreters.

    python benchmarks/help.py

Beside it, what importing Lightning alone costs here and now, because the rest cannot be less.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [["--help"], ["assign", "--help"], ["analyse", "--help"], ["submit", "--help"], ["fit", "--help"]]


def seconds(command: list[str], times: int) -> float:
    """The least CPU of a program and of what it starts."""
    least = float("inf")
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="interpreters per command")
    times = parser.parse_args().times
    print(f"{'import pytorch_lightning':<28}{seconds(['-c', 'import pytorch_lightning'], times):6.2f} s")
    for words in COMMANDS:
        print(f"{' '.join(['dropquery', *words]):<28}{seconds([str(ROOT / 'cli.py'), *words], times):6.2f} s")


if __name__ == "__main__":
    main()
