"""How much memory a piece of work takes."""

from __future__ import annotations

import ctypes
import gc
import threading
from contextlib import suppress
from types import TracebackType

import psutil
import torch

_INTERVAL = 0.02
"""Seconds between two looks at the process."""


class PeakMemory:
    """Measures the most memory that a ``with`` block adds to the process.

    On a CPU it samples the resident memory of the process from a thread, 50 times a
    second; shorter peaks may be missed. What earlier work freed is first given back to
    the system where the C library can (glibc), or it would not be counted again. On
    CUDA it asks torch's allocator, which counts exactly, and the process is not looked
    at.

    Args:
        device: Where the work is done.

    Attributes:
        bytes: Bytes above the start of the block, once it is left.
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.bytes = 0
        self._cuda = device is not None and torch.device(device).type == "cuda"
        self._device = device
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
            self._start = torch.cuda.memory_allocated(self._device)
        else:
            _give_back()
            self._start = self._peak = self._process.memory_info().rss
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._cuda:
            self._peak = torch.cuda.max_memory_allocated(self._device)
        else:
            self._done.set()
            self._thread.join()
            self._look()
        self.bytes = self._peak - self._start

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)


def _give_back() -> None:
    """Return freed memory to the system."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
