"""Devices, their memory, and lanes: one worker thread each, with a priority queue."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from nodegraph.errors import NodegraphError, did_you_mean

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
DType = Literal["auto", "fp32", "fp16", "bf16"]


@dataclass(frozen=True, slots=True)
class Device:
    """A place to compute: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`."""

    name: str

    @property
    def kind(self) -> str:
        """`cpu`, `cuda`, ..."""
        return self.name.partition(":")[0]

    @property
    def torch(self) -> torch.device:
        """The device as torch has it.

        Raises:
            NodegraphError: torch has no such device here.
        """
        import torch

        checks = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
        if self.kind in checks and not checks[self.kind]():
            raise NodegraphError(
                f"device {self.name!r} is not available to this torch ({torch.__version__}); use --device cpu"
            )
        if self.name == "cuda":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device(self.name)

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes."""
        if self.kind == "cuda":
            import torch

            return torch.cuda.mem_get_info(self.torch)
        import psutil

        found = psutil.virtual_memory()
        return found.available, found.total

    def release(self) -> None:
        """Gives what torch's allocator keeps for later back to the device."""
        torch = loaded_torch()
        if torch is not None and self.kind == "cuda":
            torch.cuda.empty_cache()


def pick_device(name: str = "auto") -> Device:
    """The device of this name; `auto` takes an NVIDIA GPU when there is one. Imports no torch.

    Raises:
        NodegraphError: the name is no device's.
    """
    if name == "auto":
        return Device("cuda" if _count_cuda() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
        fix = did_you_mean(name, ["cpu", "cuda", "mps", "xpu"])
        raise NodegraphError(
            f"device {name!r} is unknown; one of auto, cpu, cuda, cuda:N, mps, xpu" + (f"; {fix}" if fix else "")
        )
    return Device(name)


def loaded_torch() -> Any:
    """Torch where it is imported, else None, also while another thread is at it: then there are no tensors yet."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch


@lru_cache(maxsize=1)
def torch_version() -> str:
    """The installed torch, from its metadata."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "none"


def visible_devices() -> list[str]:
    """The devices worth a worker each: every NVIDIA GPU, else the CPU. Imports no torch."""
    return [f"cuda:{number}" for number in range(_count_cuda())] or ["cpu"]


def _count_cuda() -> int:
    """Asks the driver for devices, as torch does, without the seconds that importing torch takes."""
    torch = loaded_torch()
    if torch is not None:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if "+cpu" in torch_version() or sys.platform == "darwin":
        return 0
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, AttributeError):
        return 0


class Lane:
    """A thread that does jobs one at a time, the lowest priority number first, then in order of arrival.

    Jobs deal with their own errors; one that does not is noted in the log, and the next job begins.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._numbers = itertools.count()
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None], priority: int = 0) -> None:
        """Queues a job."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"nodegraph-{self.name}", daemon=True)
            self._thread.start()
        self._jobs.put((priority, next(self._numbers), job))

    def close(self) -> None:
        """Waits until the queued jobs are done and ends the thread."""
        if self._thread is not None:
            self._jobs.put((sys.maxsize, next(self._numbers), None))
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while True:
            job = self._jobs.get()[2]
            if job is None:
                return
            try:
                job()
            except Exception:  # one job's fault must not take the thread from the others
                log.exception("a job of lane %s failed", self.name)
