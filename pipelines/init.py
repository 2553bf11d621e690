"""The verb init: settings to begin with."""

import json
import re
import shlex
from pathlib import Path

from pipelines.mistakes import nearest_name
from records.files import write_text

__all__ = ["TEMPLATES", "init"]

TEMPLATES = Path(__file__).resolve().parent / "templates"
"""A YAML for each task, about the images in data/mine."""

_ROOT = "data/mine"


def init(task: str | None = None, root: str = _ROOT, out: str | None = None) -> None:
    """Write settings to begin with, as a YAML that says what each line is for: dropquery init TASK.

    Args:
        task: segmentation or classification of your own images, annotators (what several people disagree about), or
            study (strategies compared); lists them unless given.
        root: Folder of the images.
        out: File to write; TASK.yaml in the working directory unless given.

    Raises:
        ValueError: There is no such task, or the file exists.

    """
    tasks = {path.stem: path for path in sorted(TEMPLATES.glob("*.yaml"))}
    if task is None:
        print("dropquery init TASK writes TASK.yaml; the tasks are:")
        print("\n".join(f"  {name:<15}{_title(path)}" for name, path in tasks.items()))
        return
    if task not in tasks:
        near = nearest_name(task, tasks)
        raise ValueError(
            f"expected a task among {', '.join(tasks)}, got {task!r}" + (f"; did you mean {near}?" if near else "")
        )
    path = Path(out or f"{task}.yaml")
    if path.exists():
        raise ValueError(f"{path} exists and is left as it is; give another name with --out, or remove it")
    text = tasks[task].read_text().replace(f"{task}.yaml", shlex.quote(str(path)))
    if root != _ROOT:
        text = _with_root(text, root.rstrip("/"))
    write_text(path, text)
    print(f"{path}: read it, change what differs for you, then type the commands at its top")


def _title(path: Path) -> str:
    return path.read_text().partition("\n")[0].removeprefix("# ").partition(" Written by")[0]


def _with_root(text: str, root: str) -> str:
    """The text about another folder; a value is quoted where YAML might take it for something else."""
    value = re.compile(rf"(: ){re.escape(_ROOT)}(\S*)")
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.startswith("#") and not re.fullmatch(r"[\w./-]+", root):
            line = value.sub(lambda m: m[1] + json.dumps(root + m[2], ensure_ascii=False), line)
        lines.append(line.replace(_ROOT, root))
    return "".join(lines)
