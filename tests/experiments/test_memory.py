"""The peak of a block, against a block whose peak is known."""

from __future__ import annotations

import platform
import time

import pytest
import torch

from ddrm_pyg.experiments.memory import PeakMemory


def test_peak_counts_what_is_freed_before_the_end():
    size = 200 << 20
    with PeakMemory() as peak:
        held = torch.ones(size, dtype=torch.uint8)
        time.sleep(0.2)
        del held
    assert 0.9 * size < peak.bytes < 1.5 * size


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs malloc_trim")
def test_the_same_work_counts_again():
    kept, peaks = [], []  # what stays lies between what goes, and pins the heap
    for _ in range(3):
        with PeakMemory() as peak:
            gone = []
            for _ in range(1000):
                gone.append(torch.ones(100_000, dtype=torch.uint8))
                kept.append(torch.ones(100, dtype=torch.uint8))
            time.sleep(0.1)
            gone.clear()
        peaks.append(peak.bytes)
    assert min(peaks) > 80 << 20


def test_nothing_takes_next_to_nothing():
    with PeakMemory() as peak:
        pass
    assert 0 <= peak.bytes < 20 << 20


def test_watching_ends_when_the_block_fails():
    peak = PeakMemory()
    with pytest.raises(KeyError), peak:
        raise KeyError
    assert not peak._thread.is_alive()
