"""Every benchmark explains itself, and ends in peace where its device is not there."""

from __future__ import annotations

import runpy
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_"))
DATA, OUT, PYTHON = (["--data", "x"], ["--out", "x"], ["--python", "x"])
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
    "sasrec_peer": DATA + OUT + PYTHON,
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


@pytest.fixture
def clicks():
    """Two users of four items; user 0's order is not that of the edges."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 4
    store = data["user", "interacts", "item"]
    store.edge_index = torch.tensor([[0, 0, 1], [1, 0, 2]])
    store.edge_time = torch.tensor([20, 10, 5])
    store.val_edge_label_index = torch.tensor([[0, 1], [2, 3]])
    store.test_edge_label_index = torch.tensor([[0, 1], [3, 0]])
    return data


PEER = """
import sys
import numpy as np
folder, length, epochs, every = sys.argv[1], *map(int, sys.argv[2:])
with np.load(f"{folder}/histories.npz") as arrays:
    assert arrays["pointer"].tolist() == [0, 2, 3], arrays["pointer"]
    assert arrays["item"].tolist() == [0, 1, 2], arrays["item"]
    assert int(arrays["num_items"]) == 4
assert (length, epochs, every) == (7, 4, 2)
item = np.eye(4, dtype=np.float32)
for epoch in range(1, epochs + 1):
    print(epoch, 0.5, epoch / 2)
    user = np.array([[0, 0, 1, 0], [0, 0.5, 0, 0.1 * epoch + 0.2]], np.float32)
    if epoch % every == 0:
        np.savez(f"{folder}/{epoch}.npz", user=user, item=item)
"""
"""Ranks user 0's item first, user 1's second after 2 epochs and first after 4."""


def test_a_peers_curve_is_of_its_own_seconds_and_our_evaluator(
    measure, clicks, tmp_path, monkeypatch
):
    import _peers
    import time_to_quality

    monkeypatch.setattr(time_to_quality, "METRIC", "ndcg@20")
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    peer = _peers.Peer("Peer 1.0", script, 7)
    args = Namespace(python=sys.executable, peer_epochs=4)
    row = time_to_quality.measure_peer(peer, clicks, tmp_path / "out", args)
    assert row["curve"] == [(1.5, 0.81546), (5.0, 1.0)]  # 1 and 1 / log2(3), then 1
    assert row["best"] == 1.0
    assert row["seconds of an epoch"] == 1.25
    assert (row["seconds before"], row["epochs"]) == (0.0, 4)


def test_a_peer_needs_an_interpreter(start, capsys):
    words = [*REQUIRED["time_to_quality"], "--peer", "rectools"]
    assert start("time_to_quality", *words) == 2
    assert "add '--python'" in capsys.readouterr().err
