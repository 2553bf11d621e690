"""Softmax and running sums in one pass over the logits, by a small C kernel where the machine has a compiler.

The tail of a segmentation network is bound by memory: interpolation, softmax, entropy and each sum read and write
C x H x W values. The kernel (fused_kernel.c, compiled once per process in about a second) keeps a block of
pixels in first-level cache from logits to sums. Without a compiler, or on another device, torch functions do the same.

It lies below `acquisition.statistics`, which the engine imports, and so not inside the engine.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["Bilinear", "add_logits", "has_kernel"]

_SOURCE = Path(__file__).with_name("fused_kernel.c")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_NUMBERS = [
    "samples",
    "units",
    "classes",
    "height",
    "width",
    "sample_stride",
    "unit_stride",
    "class_stride",
    "row_stride",
    "pixel_stride",
]
_POINTERS = ["upper", "lower", "down", "left", "right", "across", "logits", "mean", "entropy", "squares", "votes"]


class _Task(ctypes.Structure):
    _fields_ = [(n, ctypes.c_long) for n in _NUMBERS] + [(n, ctypes.c_void_p) for n in _POINTERS]


@dataclass(frozen=True)
class Bilinear:
    """A bilinear resizing as torch.nn.functional.interpolate does it.

    Args:
        size: Height and width of the result.
        align_corners: As given to it.
        scales: As given to it; None where the size was.
    """

    size: tuple[int, int]
    align_corners: bool
    scales: tuple[float, float] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The resizing itself.

        Args:
            x: N x C x h x w.

        Returns:
            N x C x H x W.
        """
        if self.scales is None:
            return F.interpolate(x, size=self.size, mode="bilinear", align_corners=self.align_corners)
        return F.interpolate(x, scale_factor=self.scales, mode="bilinear", align_corners=self.align_corners)

    def axis(self, which: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """What each output index of an axis is made of, rounded as torch does.

        Args:
            which: 0 for rows, 1 for columns.
            size: Of the input along it.

        Returns:
            Two input indices and the weight of the second.
        """
        out = self.size[which]
        index = torch.arange(out, dtype=torch.float32)
        if self.align_corners:
            position = index * (torch.tensor(size - 1, dtype=torch.float32) / max(out - 1, 1))
        else:
            step = 1 / self.scales[which] if self.scales else size / out
            position = ((index + 0.5) * torch.tensor(step, dtype=torch.float32) - 0.5).clamp_min(0)
        first = position.to(torch.int32).clamp_max(size - 1)
        return first, (first + 1).clamp_max(size - 1), (position - first).clamp(0, 1)


def has_kernel() -> bool:
    """Whether the C kernel can be used here; DROPQUERY_KERNEL=0 in the environment switches it off."""
    return _library() is not None


def add_logits(logits: Tensor, sums: dict[str, Tensor], resize: Bilinear | None = None) -> bool:
    """Add samples to sums.

    Args:
        logits: S x N x C x h x w.
        sums: Of softmax probabilities after resizing, under the names mean, squares, votes (N x C x H x W) and entropy
            (N x H x W).
        resize: What comes before the softmax, if anything.

    Returns:
        False where the kernel cannot do it; then nothing was added.

    Raises:
        MemoryError: If there is no memory for the kernel's buffers.
    """
    library = _library()
    if library is None or logits.device.type != "cpu" or logits.dtype != torch.float32 or logits.ndim != 5:
        return False
    if any(s.dtype != torch.float32 or not s.is_contiguous() for s in sums.values()):
        return False
    samples, units, classes, height, width = logits.shape
    tables: tuple[Tensor, ...] = ()
    if resize is not None:
        tables = (*resize.axis(0, height), *resize.axis(1, width))
    numbers = (samples, units, classes, *(resize.size if resize else (height, width)), *logits.stride())
    pointers: list[int | None] = [t.data_ptr() for t in tables] if tables else [None] * 6
    outputs = [sums[n].data_ptr() if n in sums else None for n in ("mean", "entropy", "squares", "votes")]
    task = _Task(*numbers, *pointers, logits.data_ptr(), *outputs)
    if library.add_samples(ctypes.byref(task), torch.get_num_threads()):
        raise MemoryError("no memory for the buffers of the statistics kernel")
    return True


@functools.cache
def _library() -> Any:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler or os.environ.get("DROPQUERY_KERNEL") == "0" or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    for extra in (["-mprefer-vector-width=512", "-fopenmp"], ["-fopenmp"], []):
        with tempfile.TemporaryDirectory(prefix="dropquery-") as folder:
            path = Path(folder) / "kernel.so"
            command = [*compiler.split(), *_FLAGS, *extra, str(_SOURCE), "-o", str(path)]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                return ctypes.CDLL(str(path))
            except (OSError, subprocess.SubprocessError):
                continue
    return None
