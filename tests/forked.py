"""The command line in processes of its own, without what imports cost: a server has imported everything and forks.

`run` and `start` are used by tests. The server is started by the first of them, never computes anything (so that no
thread of OpenMP exists, and a fork is safe), and ends with the process that started it, as do its children. What a
child starts by itself (ranks of DDP, jobs) are fresh interpreters. Differences from `python cli.py`: modules are
imported before the environment is known, and there is no `sitecustomize`.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "DROPQUERY_TESTS_SERVER"
"""Where it is set, children may use their parent's server."""

_ROOMS = ("acquisition", "annotators", "callbacks", "datamodules", "lightning_modules", "pipelines", "reports")
_LATER = ("torch._dynamo", "torch.distributed", "scipy.optimize", "scipy.stats", "sklearn.metrics", "pyarrow.parquet")
_RANKS = ("RANK", "LOCAL_RANK", "GLOBAL_RANK", "NODE_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_LOCALID")


class Forked:
    """A process of the command line; looks like a `subprocess.Popen`. `kill` ends all that it started, too."""

    def __init__(self, request: dict[str, Any], address: str) -> None:
        self.args = request["argv"]
        self.stdout, self.stderr = Path(request["stdout"]), Path(request["stderr"])
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    def poll(self, patience: float | None = 0) -> int | None:
        """The exit status (negative: the signal that killed it), or None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], patience)[0]:
            self.returncode = int(self._answers.readline() or -signal.SIGKILL)
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it has ended."""
        code = self.poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and to what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self.wait()


def start(
    args: Sequence[object],
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    stdout: Path | None = None,
    stderr: Path | None = None,
    target: str = "cli:main",
) -> Forked:
    """Start `python cli.py ARGS`; output goes to new temporary files unless given, where it is appended.

    target: the function, as module:name, that the process calls instead of `cli.main`; it finds ARGS in sys.argv.
    """
    environment = dict(os.environ if env is None else env)
    if stdout is None or stderr is None:
        folder = Path(tempfile.mkdtemp(dir=_folder()))
        stdout, stderr = stdout or folder / "stdout", stderr or folder / "stderr"
    request = {
        "argv": list(map(str, args)), "env": environment, "cwd": str(cwd), "target": target,
        "stdout": str(stdout), "stderr": str(stderr),
    }  # fmt: skip
    return Forked(request, os.environ.get(ADDRESS) or server())


def run(
    args: Sequence[object],
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout: float | None = None,
    check: bool = False,
    target: str = "cli:main",
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of `python cli.py ARGS`, with its output as text."""
    with start(args, env, cwd, target=target) as process:
        process.wait(timeout)
    out, err = (p.read_text(errors="replace") for p in (process.stdout, process.stderr))
    done = subprocess.CompletedProcess(process.args, process.wait(), out, err)
    if check:
        done.check_returncode()
    return done


@functools.cache
def _folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="forked")
    atexit.register(folder.cleanup)
    return folder.name


@functools.cache
def server() -> str:
    address = f"{_folder()}/server"
    # it must not take itself for one of many processes, nor hear the terminal's Ctrl-C
    environment = {k: v for k, v in os.environ.items() if k not in _RANKS} | {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__, address], env=environment, cwd=ROOT, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError("the server of tests/forked.py did not start; its error stands above")
    return address


def serve(address: str) -> dict[str, Any] | None:
    """Fork a child for every connection until stdin closes; returns the request in a child, None in the server.

    A connection says "PID", then "STATUS"; where it is closed before, the child and what it started are killed.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, 0, *children.values()], [], [], 0.02 if children else None)
        for pid, connection in children.items():
            if 0 in ready or connection in ready:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        if 0 in ready:
            return None
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with children.pop(pid) as connection, contextlib.suppress(OSError):
                    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        if listener in ready:
            connection, _ = listener.accept()
            with connection.makefile() as stream:
                request = json.loads(stream.readline())
            pid = os.fork()
            if not pid:
                os.setsid()
                connection.sendall(f"{os.getpid()}\n".encode())
                for inherited in (listener, connection, *children.values()):
                    inherited.close()
                return request
            children[pid] = connection


_FOLDERS = {
    "wandb.sdk.data_types._private": ("MEDIA_TMP",),
    "wandb.sdk.artifacts.artifact": ("Artifact", "_TMP_DIR"),
}
"""Temporary folders that W&B makes when it is imported."""


def _import_everything() -> None:
    import cli  # noqa: F401

    for room in _ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            importlib.import_module(module.name)
    for name in _LATER:
        importlib.import_module(name)


def _become(request: dict[str, Any]) -> None:
    """Make of this process what `python cli.py ARGS` would be."""
    import torch
    from lightning_fabric.utilities.rank_zero import _get_rank, rank_zero_only

    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [os.open(os.devnull, os.O_RDONLY), *(os.open(request[k], appended, 0o666) for k in ("stdout", "stderr"))]
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [str(ROOT / "cli.py"), *request["argv"]]
    sys.modules["__main__"].__file__ = sys.argv[0]  # what workers and ranks start again
    sys.path[1:1] = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    rank_zero_only.rank = _get_rank() or 0
    _leave_folders()


def _leave_folders() -> None:
    """Let this process end without removing W&B's temporary folders: they are the server's and its other children's."""
    for module, names in _FOLDERS.items():
        if module in sys.modules:
            folder = functools.reduce(getattr, names, sys.modules[module])
            atexit.unregister(folder.cleanup)
            folder._finalizer.detach()


def _call(target: str) -> NoReturn:
    """Call module:name and end as an interpreter does, but for the clearing of memory, which takes a second."""
    module, _, name = target.partition(":")
    code = 0
    try:
        getattr(importlib.import_module(module), name)()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    _import_everything()
    wanted = serve(sys.argv[1])
    if wanted is not None:
        _become(wanted)
        _call(wanted["target"])
