"""Other libraries' SASRec, each in an environment of its own; this package scores.

    python -m venv peer && peer/bin/pip install recbole==1.2.1 torch==2.13.0
    python -m venv peer && peer/bin/pip install 'rectools[torch]==0.19.0' torch==2.13.0

A peer's script reads the histories and trains. For every epoch it prints a line, its
number, loss and processor seconds; every few epochs it writes what ranks, the states of
whole histories and the item table.
"""

import subprocess
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ddrm_pyg import Embeddings, InteractionGraph
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.graph.sequences import UserSequences


class Peer(NamedTuple):
    """A library's SASRec.

    Attributes:
        of: The library, with its version.
        script: What trains it.
        length: Latest items of a history that count.
    """

    of: str
    script: str
    length: int

    @property
    def row(self):
        """What it is called beside our methods."""
        return f"SASRec, {self.of}"


PEERS = {
    "recbole": Peer("RecBole 1.2.1", "_recbole_sasrec.py", 50),
    "rectools": Peer("RecTools 0.19.0", "_rectools_sasrec.py", 100),
}


class Scored(NamedTuple):
    """What a peer has after some epochs.

    Attributes:
        epoch: How many.
        seconds: Processor seconds of all of them.
        emb: What ranks.
    """

    epoch: int
    seconds: float
    emb: Embeddings


def train(peer, python, data, folder, epochs, every):
    """Train a peer; return what it had every few epochs.

    Args:
        peer: Which.
        python: The interpreter that has its library.
        data: Interactions with times.
        folder: Where the peer reads and writes.
        epochs: How many it trains.
        every: Epochs between two that are scored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_histories(data, folder / "histories.npz")
    script = Path(__file__).parent / peer.script
    words = [python, script, folder, *map(str, (peer.length, epochs, every))]
    printed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    own = [float(line.split()[2]) for line in printed.stdout.splitlines()]
    return [
        Scored(epoch, seconds, read_tables(folder / f"{epoch}.npz"))
        for epoch, seconds in enumerate(accumulate(own), 1)
        if epoch % every == 0
    ]


def write_histories(data, path):
    """Write every user's train items from first to last, one user after the other."""
    graph = InteractionGraph.from_data(data)
    sequences = UserSequences.from_graph(graph, data[EDGE].edge_time)
    np.savez(
        path,
        pointer=sequences.pointer.numpy(),
        item=sequences.item.numpy(),
        num_items=graph.num_items,
    )


def read_tables(path):
    """Read what a peer wrote."""
    with np.load(path, allow_pickle=False) as tables:
        return Embeddings(*(torch.from_numpy(tables[k]) for k in ("user", "item")))
