"""The peak of a block, against a block whose peak is known."""

from __future__ import annotations

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


def test_nothing_takes_next_to_nothing():
    with PeakMemory() as peak:
        pass
    assert 0 <= peak.bytes < 20 << 20


def test_watching_ends_when_the_block_fails():
    peak = PeakMemory()
    with pytest.raises(KeyError), peak:
        raise KeyError
    assert not peak._thread.is_alive()
