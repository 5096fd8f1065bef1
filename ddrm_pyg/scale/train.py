"""Train a DDRM on a world, in one process or in several."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.files import atomic_path, hash_file, write_text
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, mean_item
from ddrm_pyg.loader import processes
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.scale.world import WORLD, World

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
WEIGHTS = "ddrm"
METRIC = "recall@20"
"""Of validation, what selects."""


@dataclass
class _State:
    """What a run goes on from; the same in every process."""

    epoch: int = 0
    failures: int = 0
    best_value: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    world: World,
    ddrm: DDRM,
    out: Path,
    *,
    epochs: int = 20,
    batch_size: int = 2048,
    lr: float = 1e-3,
    seed: int = 0,
    patience: int = 5,
) -> list[dict[str, float]]:
    """Train on a world's shards, one after the other in random order.

    In several processes of ``torch.distributed`` each takes its share of every batch,
    gradients are averaged over the whole batch, and each validates its share of the
    shards. Noise belongs to a process, so that results differ a little with their
    number. After every epoch the first process writes a checkpoint, from which any
    number of processes goes on; with as many it ends with the bits of a straight run.

    Args:
        world: With embeddings.
        ddrm: The plug-in, changed in place to its best weights by validation; its
            initial weights are those of the first process.
        out: Folder for the trained DDRM (``ddrm/``), the log and the checkpoint.
        epochs: Epochs at most.
        batch_size: Triplets of a batch, of all processes together.
        lr: Adam's learning rate.
        seed: Of shards, batches and noise, in [0, 2**31).
        patience: Epochs without a new best before it stops.

    Returns:
        One record per epoch: ``epoch``, ``loss`` and the validation's ``recall@20``.

    Raises:
        ValueError: ``out`` holds another run, or the world has no validation pairs.
        FloatingPointError: The loss is no longer finite.
    """
    settings = {
        "world": hash_file(world.folder / WORLD),
        "ddrm": repr(ddrm),
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "patience": patience,
    }
    run = _Run(world, ddrm, out, settings)
    run.resume()
    while run.state.epoch < epochs and run.state.failures < patience:
        run.epoch(batch_size, seed)
        run.save()
    if run.state.best:
        ddrm.load_state_dict(run.state.best)
    ddrm.eval()
    if run.rank == 0:
        ddrm.save_pretrained(out / WEIGHTS)
    return run.state.history


class _Run:
    def __init__(
        self, world: World, ddrm: DDRM, out: Path, settings: dict[str, Any]
    ) -> None:
        if not world.num_edges["val"]:
            raise ValueError(f"{world.folder}: must have validation pairs (got 0)")
        self.world, self.ddrm, self.out = world, ddrm, out
        self.settings = settings
        self.rank, self.world_size = processes()
        self.item_emb = world.item_emb()
        self.mean_item = mean_item(world.item_degree(), self.item_emb)
        self.optimizer = torch.optim.Adam(ddrm.parameters(), lr=settings["lr"])
        self.state = _State()

    def epoch(self, batch_size: int, seed: int) -> None:
        """Train on every shard once, then validate."""
        state = self.state
        state.epoch += 1
        # drawn anew in every epoch, so that a checkpoint need not hold generators
        own = torch.Generator().manual_seed(
            (seed << 32) + (state.epoch << 16) + self.rank + 1
        )
        shared = torch.Generator().manual_seed((seed << 32) + (state.epoch << 16))
        self.ddrm.train()
        order = torch.randperm(self.world.num_shards, generator=shared).tolist()
        total = torch.zeros(2, dtype=torch.float64)
        for shard in order:
            total += self._train_shard(shard, batch_size, shared, own)
        loss, count = self._summed(total).tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} in epoch {state.epoch}: lower 'lr' "
                f"(got {self.settings['lr']})"
            )
        value = self._validate()
        record = {"epoch": state.epoch, "loss": loss / max(count, 1), METRIC: value}
        state.history.append(record)
        state.failures += 1
        if state.best_value is None or value > state.best_value:
            state.best_value, state.failures = value, 0
            state.best = copy.deepcopy(self.ddrm.state_dict())

    def _train_shard(
        self, shard: int, batch_size: int, shared: Any, own: Any
    ) -> Tensor:
        """Loss and number of the triplets of this process."""
        graph = self._graph(shard, "train")
        total = torch.zeros(2, dtype=torch.float64)
        if not graph.num_edges:
            return total
        emb = Embeddings(self.world.user_emb(shard), self.item_emb)
        model = DDRMRecommender(self.ddrm, emb)
        for batch in model.batches(graph, batch_size=batch_size, generator=shared):
            for loss in model.losses(batch, graph, generator=own):
                self._step(loss)
                total += torch.tensor([float(loss.detach().sum()), len(loss)])
        return total

    def _step(self, loss: Tensor) -> None:
        """Step along the gradient of the mean over the batch of all processes."""
        count = self._summed(torch.tensor([float(len(loss))]))
        self.optimizer.zero_grad(set_to_none=True)
        (loss.sum() / count.to(loss)).sum().backward()
        for parameter in self.ddrm.parameters():
            if parameter.grad is not None:
                self._summed(parameter.grad)
        self.optimizer.step()

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean over the users of all shards; each process ranks its own shards."""
        self.ddrm.eval()
        total = torch.zeros(2, dtype=torch.float64)
        for shard in range(self.rank, self.world.num_shards, self.world_size):
            total += self._validate_shard(shard)
        value, count = self._summed(total).tolist()
        return value / count

    def _validate_shard(self, shard: int) -> Tensor:
        train, val = self._graph(shard, "train"), self._graph(shard, "val")
        if not val.num_edges:
            return torch.zeros(2, dtype=torch.float64)
        history = train.history_mean(self.item_emb, fallback=self.mean_item)
        ideal = self.ddrm.generate(
            history, self.world.user_emb(shard), noise=torch.zeros_like(history)
        )
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = val.num_users, val.num_items
        data[EDGE].edge_index = train.edge_index
        data[EDGE].val_edge_label_index = val.edge_index
        metrics = evaluate(Embeddings(ideal, self.item_emb), data, split="val", k=20)
        values = metrics.per_user[METRIC].double()
        return torch.stack([values.sum(), torch.tensor(float(len(values))).double()])

    def _graph(self, shard: int, split: str) -> InteractionGraph:
        start, stop = self.world.bounds(shard)
        pairs = self.world.edge_index(shard, (split,))
        return InteractionGraph(pairs, stop - start, self.world.num_items)

    def _summed(self, value: Tensor) -> Tensor:
        """Sum over processes, in place."""
        if self.world_size > 1:
            distributed.all_reduce(value)
        return value

    def resume(self) -> None:
        """Go on from the checkpoint, and let all processes start alike."""
        path = self.out / CHECKPOINT
        if path.is_file():
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["settings"] != self.settings:
                raise ValueError(f"'out' must be new or hold this run (got {self.out})")
            self.state = _State(**saved["state"])
            self.ddrm.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
        elif self.out.exists() and any(self.out.iterdir()):
            raise ValueError(
                f"'out' must be a new folder or an empty one (got {self.out})"
            )
        if self.world_size > 1:
            for value in self.ddrm.state_dict().values():
                distributed.broadcast(value, 0)

    def save(self) -> None:
        """Write checkpoint and log, in the first process."""
        if self.rank:
            return
        record = {
            "settings": self.settings,
            "state": vars(self.state),
            "model": self.ddrm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self.out / CHECKPOINT) as temporary:
            torch.save(record, temporary)
        lines = (json.dumps(line) + "\n" for line in self.state.history)
        write_text(self.out / LOG, "".join(lines))


@contextmanager
def launched() -> Iterator[None]:
    """Join the processes that torchrun started; nothing where there is only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
