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

import numpy as np
import torch
from torch import Tensor, distributed
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.files import atomic_path, hash_file, undamaged, write_text
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, mean_item
from ddrm_pyg.loader import processes
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.scale.world import WORLD, World
from ddrm_pyg.training import BROKEN_CHECKPOINT, check_weights

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
WEIGHTS = "ddrm"
METRIC = "recall@20"
"""Of validation, what selects."""


@dataclass
class State:
    """What a run goes on from, beside tensors; the same in every process.

    Attributes:
        epoch: Epochs that are done.
        failures: Epochs since the best one.
        best_value: Of validation, in the best epoch.
        best_epoch: Which one that is.
        history: One record per epoch.
    """

    epoch: int = 0
    failures: int = 0
    best_value: float | None = None
    best_epoch: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def state_of(record: dict[str, Any]) -> State:
    """Read the state of a checkpoint.

    Args:
        record: A state's attributes by name.

    Raises:
        ValueError: They are not those of a run.
    """
    state = State()
    if record.keys() != vars(state).keys():
        raise ValueError("its state is not that of a run")
    state = State(**record)
    epochs = [epoch["epoch"] for epoch in state.history]
    if epochs != [*range(1, state.epoch + 1)]:
        raise ValueError("its history is not that of its epochs")
    return state


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
    """Train a DDRM on a world's shards, one after the other in random order.

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
    settings = {"ddrm": repr(ddrm), "batch_size": batch_size, "lr": lr}
    settings |= {"seed": seed, "patience": patience}
    run = _DDRMTraining(world, ddrm, out, settings)
    run.train(epochs)
    if run.best:
        ddrm.load_state_dict(run.best)
    ddrm.eval()
    if run.rank == 0:
        ddrm.save_pretrained(out / WEIGHTS)
    return run.state.history


def generator_of(*numbers: int) -> torch.Generator:
    """Make a generator for one of many streams.

    Args:
        *numbers: Which one, such as a seed and an epoch.
    """
    # torch's on CPU takes no more than 32 bits of a seed
    (seed,) = np.random.SeedSequence(numbers).generate_state(1)
    return torch.Generator().manual_seed(int(seed))


class Training:
    """Epochs over a world's shards, early stopping and a log, in any processes.

    Subclasses have the model: how it trains on a shard, which vectors it ranks a shard
    by, and how it is kept.

    Args:
        world: What to train on.
        out: Folder of log and checkpoints.
        settings: What makes a run another one; has ``batch_size``, ``lr``, ``seed`` and
            ``patience``.

    Raises:
        ValueError: The world has no validation pairs.
    """

    def __init__(self, world: World, out: Path, settings: dict[str, Any]) -> None:
        if not world.num_edges["val"]:
            raise ValueError(f"{world.folder}: must have validation pairs (got 0)")
        self.world, self.out = world, out
        self.settings = {"world": hash_file(world.folder / WORLD), **settings}
        self.rank, self.world_size = processes()
        self.state = State()

    def train(self, epochs: int) -> None:
        """Go on from the checkpoint, if there is one, to an epoch or the best one."""
        self.resume()
        patience = self.settings["patience"]
        while self.state.epoch < epochs and self.state.failures < patience:
            self._epoch(self.settings["seed"])
            self.save()

    def resume(self) -> None:
        """Read the checkpoint, if there is one, and let all processes start alike."""
        raise NotImplementedError

    def save(self) -> None:
        """Write a checkpoint and the log."""
        raise NotImplementedError

    def keep_best(self) -> None:
        """Remember the weights of this epoch."""

    def train_shard(self, shard: int, shared: Any, own: Any) -> Tensor:
        """Train on the triplets of a shard.

        Args:
            shard: Which one; all processes train on the same.
            shared: Generator that is in the same state in all processes.
            own: This process's own.

        Returns:
            ``[2]`` sum and number of this process's losses.
        """
        raise NotImplementedError

    def ranked(self) -> Iterator[tuple[int, Embeddings]]:
        """Yield what ranks for the users of a shard, of this process's shards."""
        raise NotImplementedError

    def own_shards(self) -> range:
        """Shards that this process validates."""
        return range(self.rank, self.world.num_shards, self.world_size)

    def graph(self, shard: int, split: str) -> InteractionGraph:
        """Read a shard's pairs, with users counted from its first."""
        start, stop = self.world.bounds(shard)
        pairs = self.world.edge_index(shard, (split,))
        return InteractionGraph(pairs, stop - start, self.world.num_items)

    def summed(self, value: Tensor) -> Tensor:
        """Sum over processes, in place."""
        if self.world_size > 1:
            distributed.all_reduce(value)
        return value

    def check_new(self) -> None:
        """Refuse a folder that holds something else.

        Raises:
            ValueError: It is not empty.
        """
        if self.out.exists() and any(self.out.iterdir()):
            raise ValueError(
                f"'out' must be a new folder or an empty one (got {self.out})"
            )

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run.

        Raises:
            ValueError: Its settings are others.
        """
        if settings != self.settings:
            raise ValueError(f"'out' must be new or hold this run (got {self.out})")

    def write_log(self) -> None:
        """Write a line per epoch."""
        lines = (json.dumps(line) + "\n" for line in self.state.history)
        write_text(self.out / LOG, "".join(lines))

    def _epoch(self, seed: int) -> None:
        """Train on every shard once, then validate."""
        state = self.state
        state.epoch += 1
        # drawn anew in every epoch, so that a checkpoint need not hold generators
        shared, own = (generator_of(seed, state.epoch, n) for n in (0, self.rank + 1))
        order = torch.randperm(self.world.num_shards, generator=shared).tolist()
        total = torch.zeros(2, dtype=torch.float64)
        for shard in order:
            total += self.train_shard(shard, shared, own)
        loss, count = self.summed(total).tolist()
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
            state.best_epoch = state.epoch
            self.keep_best()

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean over the users of all shards; each process ranks its own shards."""
        total = torch.zeros(2, dtype=torch.float64)
        for shard, emb in self.ranked():
            total += self._recall(shard, emb)
        value, count = self.summed(total).tolist()
        return value / count

    def _recall(self, shard: int, emb: Embeddings) -> Tensor:
        """Sum and number of the values of a shard's users."""
        train, val = self.graph(shard, "train"), self.graph(shard, "val")
        if not val.num_edges:
            return torch.zeros(2, dtype=torch.float64)
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = val.num_users, val.num_items
        data[EDGE].edge_index = train.edge_index
        data[EDGE].val_edge_label_index = val.edge_index
        metrics = evaluate(emb, data, split="val", k=20)
        values = metrics.per_user[METRIC].double()
        return torch.stack([values.sum(), torch.tensor(float(len(values))).double()])


class _DDRMTraining(Training):
    """A DDRM that is the same in every process, on its share of every batch."""

    def __init__(
        self, world: World, ddrm: DDRM, out: Path, settings: dict[str, Any]
    ) -> None:
        super().__init__(world, out, settings)
        self.ddrm = ddrm
        self.best: dict[str, Tensor] = {}
        self.item_emb = world.item_emb()
        self.mean_item = mean_item(world.item_degree(), self.item_emb)
        self.optimizer = torch.optim.Adam(ddrm.parameters(), lr=settings["lr"])

    def train_shard(self, shard: int, shared: Any, own: Any) -> Tensor:
        """Train on this process's share of every batch."""
        self.ddrm.train()
        graph = self.graph(shard, "train")
        total = torch.zeros(2, dtype=torch.float64)
        if not graph.num_edges:
            return total
        emb = Embeddings(self.world.user_emb(shard), self.item_emb)
        model = DDRMRecommender(self.ddrm, emb)
        size = self.settings["batch_size"]
        for batch in model.batches(graph, batch_size=size, generator=shared):
            for loss in model.losses(batch, graph, generator=own):
                self._step(loss)
                total += torch.tensor([float(loss.detach().sum()), len(loss)])
        return total

    def _step(self, loss: Tensor) -> None:
        """Step along the gradient of the mean over the batch of all processes."""
        count = self.summed(torch.tensor([float(len(loss))]))
        self.optimizer.zero_grad(set_to_none=True)
        (loss.sum() / count.to(loss)).sum().backward()
        for parameter in self.ddrm.parameters():
            if parameter.grad is not None:
                self.summed(parameter.grad)
        self.optimizer.step()

    def ranked(self) -> Iterator[tuple[int, Embeddings]]:
        """Generate ideal items, without noise."""
        self.ddrm.eval()
        for shard in self.own_shards():
            graph = self.graph(shard, "train")
            history = graph.history_mean(self.item_emb, fallback=self.mean_item)
            ideal = self.ddrm.generate(
                history, self.world.user_emb(shard), noise=torch.zeros_like(history)
            )
            yield shard, Embeddings(ideal, self.item_emb)

    def keep_best(self) -> None:
        """Copy the weights: they are small."""
        self.best = copy.deepcopy(self.ddrm.state_dict())

    def resume(self) -> None:
        """Read the checkpoint, and send the first process's weights to the others."""
        path = self.out / CHECKPOINT
        if path.is_file():
            with undamaged(path, *BROKEN_CHECKPOINT):
                saved = torch.load(path, map_location="cpu", weights_only=True)
                settings = dict(saved["settings"])
            self.check_settings(settings)
            with undamaged(path, *BROKEN_CHECKPOINT):
                self._restore(saved)
        else:
            self.check_new()
        if self.world_size > 1:
            for value in self.ddrm.state_dict().values():
                distributed.broadcast(value, 0)

    def _restore(self, saved: dict[str, Any]) -> None:
        """Go on where a checkpoint ends; the caller's model is changed last."""
        self.state, self.best = state_of(saved["state"]), saved["best"]
        for weights in (saved["model"], self.best):
            check_weights(self.ddrm, weights)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ddrm.load_state_dict(saved["model"])

    def save(self) -> None:
        """Write checkpoint and log, in the first process."""
        if self.rank:
            return
        record = {
            "settings": self.settings,
            "state": vars(self.state),
            "best": self.best,
            "model": self.ddrm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self.out / CHECKPOINT) as temporary:
            torch.save(record, temporary)
        self.write_log()


@contextmanager
def launched() -> Iterator[None]:
    """Join the processes that torchrun started; nothing where there is only one.

    Raises:
        ConnectionError: Another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("gloo")
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):  # how torch says it, whoever asked
            raise
        raise ConnectionError(
            "another process of this training is gone; start all of them again to go "
            "on from the last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()
