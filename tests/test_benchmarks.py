"""Every benchmark explains itself, and ends in peace where its device is not there."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_"))
DATA, OUT, PEER = (["--data", "x"], ["--out", "x"], ["--peer", "x"])
REQUIRED = {
    "audit": DATA,
    "backends": ["x"],
    "diffusion": DATA,
    "ease": DATA,
    "future": DATA + OUT,
    "incremental": DATA,
    "movement": DATA,
    "random_noise": DATA + OUT,
    "sampled": DATA + OUT,
    "sasrec_peer": DATA + OUT + PEER,
    "time_to_quality": DATA + OUT,
}


@pytest.fixture
def start(monkeypatch):
    """Start a benchmark in this process, where no GPU is seen; return how it ended."""
    for library in ("matplotlib", "psutil"):
        pytest.importorskip(library)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(name: str, *words: str) -> object:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return ended.value.code

    return run


def test_there_are_benchmarks():
    assert {"propagation", *REQUIRED} <= {*SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_explains_itself(name, start, capsys):
    assert start(name, "--help") in (0, None)
    assert "--device" in capsys.readouterr().out


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_without_its_device_says_so(name, start, capsys):
    words = REQUIRED.get(name, [])
    assert start(name, *words, "--device", "cuda") in (0, None)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("skipped: ")


@pytest.fixture
def measure(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(FOLDER)
    import _measure

    return _measure


def test_the_share_is_of_the_longer_of_copy_and_product(measure):
    bare = measure.BARE["cpu"]
    seconds = {
        measure.COPY: np.array([2.0, 4.0, 6.0]),
        measure.PRODUCT: np.array([1.0, 1.0, 1.0]),
        "ours": np.array([4.0, 4.0, 4.0]),
        "bare": np.array([1.0, 3.0, 2.0]),
    }
    limits = {"ours": measure.Least(bare.bytes / 2, bare.flop)}
    share = measure.shares(limits, seconds, "cpu")["ours"]
    assert share["share"] == 0.5  # half a copy: 1, 2 and 3 of 4 seconds
    assert share["limit"].startswith("copy of")
    limits = {"ours": measure.Least(bare.bytes / 8, bare.flop)}
    share = measure.shares(limits, seconds, "cpu")["ours"]
    assert share["share"] == 0.25
    assert share["limit"].startswith("products of")
    share = measure.shares({"ours": "bare"}, seconds, "cpu")["ours"]
    assert share == {"limit": "bare", "share": 0.5}


def test_least_is_counted_from_the_sizes(measure):
    model = torch.nn.Linear(3, 5)
    assert measure.flop_of_row(model) == 6 * 15
    model.bias.requires_grad_(False)
    least = measure.least_of_steps(model, 2, flop=7)
    assert least == measure.Least(bytes=2 * 8 * 4 * 15, flop=14)
