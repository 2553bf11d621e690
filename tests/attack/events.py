"""What runs inside an attacked process: it counts its file events and ends as by a SIGKILL at one of them."""

import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests import forked

__all__ = ["ORDER", "TARGET", "main"]

TARGET = f"{__name__}:main"

ORDER = "DROPQUERY_ATTACK"
"""The variable that holds the order, as JSON.

root: events count below this folder. log: every event becomes a line of this file. fuse: whoever makes this file first
dies. at: the event's number, from 1, or what happens, of which the first counts; 0 for none. who: "parent", the process
that was started; "member", one that it started; or "all", a member and its parent with it.
"""

_NAMES = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.rmdir": "rmdir", "os.link": "link"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CONNECT = sqlite3.connect
_READS = re.compile(r"\s*(select|pragma|explain)", re.IGNORECASE)


class _Watch:
    """Sees Python's audit events, and the statements of SQLite, whose own files Python does not see."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.root, self.at, self.who = order["root"], order["at"], order["who"]
        self.log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.fuse = order["fuse"]
        self.parent = order.get("parent")
        self.count = 0
        self.quiet = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.quiet:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes)) and flags & _WRITES:
                self.see("open", path)
                # between the file and its first byte
                self.see("write", path, flags)
        elif event in _NAMES:
            self.see(_NAMES[event], args[1] if event in ("os.rename", "os.link") else args[0])

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        # Python's audit event comes before the connection takes a callback
        connection = _CONNECT(*args, **options)
        connection.set_trace_callback(self.statement)
        return connection

    def statement(self, text: str) -> None:
        if not _READS.match(text):
            self.see("sql", f"{self.root}/{' '.join(text.split()[:3])}")

    def see(self, what: str, path: Any, flags: int = 0) -> None:
        path = str(Path(os.fsdecode(path)).absolute())
        if not path.startswith(self.root + "/"):
            return
        self.count += 1
        happens = f"{what} {self.name(path)}"
        line = f"{'member' if self.parent else 'parent'} {self.count} {happens}\n"
        self.quiet = True
        os.write(self.log, line.encode())
        if self.at in (self.count, happens) and (self.parent is not None) == (self.who != "parent") and self.lit(line):
            if flags & os.O_CREAT:
                os.close(os.open(path, flags & (_WRITES | os.O_EXCL), 0o666))
            if self.who == "all":
                os.kill(int(self.parent), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        self.quiet = False

    def name(self, path: str) -> str:
        # without what is another's in every process, as in cycles/00/.best.4711~.ckpt and gallery-12ab34cd-0.npz
        return re.sub(r"\.\d+~?(?=\.|$)|-([0-9a-f]{32}|[0-9a-f]{8})(?=[-.]|$)", "", path[len(self.root) + 1 :])

    def lit(self, line: str) -> bool:
        try:
            file = os.open(self.fuse, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        os.write(file, line.encode())
        return True


def main() -> None:
    """`cli.main` under the order in the environment; so are the jobs that it starts, which are forked as well."""
    import cli
    from pipelines import jobs
    from pipelines.processes import DROPQUERY

    order = json.loads(os.environ[ORDER])
    for_members = json.dumps({**order, "parent": os.getpid()})

    def start_process(command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> forked.Forked:
        log = Path(output.name)
        return forked.start(
            command[len(DROPQUERY) :], {**environment, ORDER: for_members}, stdout=log, stderr=log, target=TARGET
        )

    jobs.start_process = start_process  # type: ignore[assignment]
    watch = _Watch(order)
    sqlite3.connect = watch.connect
    sys.addaudithook(watch)
    cli.main()
