"""Train matrix factorisation on a world, its tables split over the processes."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from ddrm_pyg.checks import check_at_least, check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.files import read_json, undamaged, write_json
from ddrm_pyg.loader import Triplets, triplet_batches
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.scale.train import State, Training, generator_of, state_of
from ddrm_pyg.scale.world import BLOCK, World
from ddrm_pyg.training import BROKEN_CHECKPOINT

STATE = "state.json"
"""Written after a checkpoint is whole: says which one counts."""

_INIT_STD = 0.1
"""As :class:`ddrm_pyg.nn.models.MF` has it."""


def train_mf(
    world: World,
    out: Path,
    *,
    embedding_dim: int = 64,
    l2: float = 1e-4,
    epochs: int = 20,
    batch_size: int = 2048,
    lr: float = 1e-3,
    seed: int = 0,
    patience: int = 5,
) -> list[dict[str, float]]:
    """Train :class:`~ddrm_pyg.nn.models.MF` on a world, and put its vectors there.

    In several processes of ``torch.distributed`` each holds an equal part of the rows
    of both tables and of Adam's state (torch's ``DTensor``), so that the memory of
    tables divides by their number. The work does not: every process computes the loss
    of the whole batch from rows that their owners send. Results do not depend on the
    number of processes.

    After every epoch each process writes its rows (``torch.distributed.checkpoint``, as
    safetensors); any number of processes goes on from there. The best epoch's vectors
    are put into the world, where training of DDRM and ``bulk`` read them.

    Args:
        world: Without embeddings.
        out: Folder of log and checkpoints.
        embedding_dim: Width of the vectors.
        l2: Weight of half the squared norm of a triplet's rows.
        epochs: Epochs at most.
        batch_size: Triplets of a batch.
        lr: Adam's learning rate.
        seed: Of the initial tables, shards and batches, in [0, 2**31).
        patience: Epochs without a new best before it stops.

    Returns:
        One record per epoch: ``epoch``, ``loss`` and the validation's ``recall@20``.

    Raises:
        ValueError: ``out`` holds another run, or the world has vectors of something
            else, or no validation pairs.
        FloatingPointError: The loss is no longer finite.
        OSError: A checkpoint cannot be written.
    """
    check_size(1, embedding_dim=embedding_dim)
    check_at_least(0, l2=l2)
    settings = {"embedding_dim": embedding_dim, "l2": l2, "batch_size": batch_size}
    settings |= {"lr": lr, "seed": seed, "patience": patience}
    run = _MFTraining(world, out, settings)
    run.train(epochs)
    run.publish()
    return run.state.history


class SplitTables(nn.Module):
    """A table of users and one of items, each process with its part of the rows.

    Rows are drawn from N(0, 0.1^2) in blocks of their own seeds: the tables are the
    same in any number of processes.

    Args:
        num_users: Rows of ``user``.
        num_items: Rows of ``item``.
        embedding_dim: Columns.
        seed: Of the initial rows.
    """

    def __init__(
        self, num_users: int, num_items: int, embedding_dim: int, seed: int
    ) -> None:
        super().__init__()
        # without memory until each process knows its part
        self.user = nn.Embedding(num_users, embedding_dim, device="meta")
        self.item = nn.Embedding(num_items, embedding_dim, device="meta")
        if distributed.is_initialized() and distributed.get_world_size() > 1:
            mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
            plan: dict[str, ParallelStyle] = {"user": _by_rows(), "item": _by_rows()}
            parallelize_module(self, mesh, plan, src_data_rank=None)
        self.to_empty(device="cpu")
        for place, table in enumerate((self.user.weight, self.item.weight)):
            start, rows = local_rows(table)
            rows.copy_(_drawn(start, start + len(rows), embedding_dim, seed, place))

    def losses(self, batch: Triplets, l2: float) -> Tensor:
        """Loss plus penalty of each triplet, ``[B]``, as ``MF`` has them."""
        user, pos = self.user(batch.user), self.item(batch.pos_item)
        neg = self.item(batch.neg_item)
        loss = bpr_loss((user * pos).sum(-1), (user * neg).sum(-1))
        squares = torch.stack([row.square().sum(-1) for row in (user, pos, neg)])
        return loss + l2 / 2 * squares.sum(0)

    @torch.no_grad()
    def user_rows(self, start: int, stop: int) -> Tensor:
        """Gather rows of users in every process, ``[stop - start, D]``."""
        # what processes still send is no tensor yet that can be written
        return self.user(torch.arange(start, stop)).clone()

    @torch.no_grad()
    def item_rows(self) -> Tensor:
        """Gather all items in every process, ``[num_items, D]``."""
        table = self.item.weight
        whole = table.full_tensor() if isinstance(table, DTensor) else table
        return whole.detach().clone()


def _by_rows() -> RowwiseParallel:
    """Split a table by rows; any process looks up any rows."""
    return RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())


def local_rows(table: Tensor) -> tuple[int, Tensor]:
    """Return the first of this process's rows of a table, and the rows."""
    if not isinstance(table, DTensor):
        return 0, table.detach()
    part = -(-len(table) // distributed.get_world_size())
    start = min(distributed.get_rank() * part, len(table))
    return start, table.to_local().detach()


def _drawn(start: int, stop: int, width: int, seed: int, place: int) -> Tensor:
    """Initial rows ``start ... stop - 1`` of a table, whoever holds them."""
    rows = torch.empty(stop - start, width)
    for first in range(start // BLOCK * BLOCK, stop, BLOCK):
        generator = generator_of(seed, place, first)
        block = torch.randn(BLOCK, width, generator=generator)
        low, high = max(first, start), min(first + BLOCK, stop)
        rows[low - start : high - start] = block[low - first : high - first]
    return rows * _INIT_STD


class _MFTraining(Training):
    """Tables of which every process holds a part, on whole batches."""

    def __init__(self, world: World, out: Path, settings: dict[str, Any]) -> None:
        super().__init__(world, out, settings)
        sizes = world.num_users, world.num_items, settings["embedding_dim"]
        self.tables = SplitTables(*sizes, settings["seed"])
        self.optimizer = torch.optim.Adam(self.tables.parameters(), lr=settings["lr"])

    def train_shard(self, shard: int, shared: Any, own: Any) -> Tensor:
        """Train on whole batches, in every process the same."""
        graph = self.graph(shard, "train")
        total = torch.zeros(2, dtype=torch.float64)
        if not graph.num_edges:
            return total
        start, _ = self.world.bounds(shard)
        for user, *items in triplet_batches(
            graph,
            batch_size=self.settings["batch_size"],
            generator=shared,
            rank=0,
            world_size=1,
        ):
            batch = Triplets(user + start, *items)
            loss = self.tables.losses(batch, self.settings["l2"])
            self.optimizer.zero_grad(set_to_none=True)
            loss.mean().backward()
            self.optimizer.step()
            total += torch.tensor([float(loss.detach().sum()), len(loss)])
        return total

    def ranked(self) -> Iterator[tuple[int, Embeddings]]:
        """Gather the rows of every shard; each process keeps its own shards."""
        items = self.tables.item_rows()
        for shard in range(self.world.num_shards):
            users = self.tables.user_rows(*self.world.bounds(shard))
            if shard in self.own_shards():
                yield shard, Embeddings(users, items)

    def publish(self) -> None:
        """Put the best epoch's vectors into the world."""
        if self.state.best_epoch is not None:
            self._load(self.state.best_epoch, self._weights())
        for shard, emb in self.ranked():
            self.world.save_emb("user", emb.user, shard)
            if shard == 0:
                self.world.save_emb("item", emb.item)
        self._wait()

    def resume(self) -> None:
        """Read the rows of this process from the checkpoint that counts."""
        path = self.out / STATE
        if path.is_file():
            with undamaged(path, *BROKEN_CHECKPOINT):
                saved = read_json(path)
                settings, state = saved["settings"], state_of(saved["state"])
                saved["steps"] = int(saved["steps"])
            self.check_settings(settings)
            self.state = state
            if state.epoch:
                tensors = {**self._weights(), **self._moments(saved["steps"])}
                self._load(state.epoch, tensors)
            return
        self.check_new()
        there = self.world.emb_path("item")
        if there.exists():
            raise ValueError(
                f"'world' must have no vectors yet, MF puts its own there (got {there})"
            )

    def save(self) -> None:
        """Write this process's rows; then the first process says that they count."""
        state, folder = self.state, self._folder(self.state.epoch)
        if self.rank == 0:
            if not (self.out / STATE).exists():  # else the first half would be foreign
                self._declare(State(), 0)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self._wait()
        steps = int(self.optimizer.state[self.tables.user.weight]["step"])
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        with _named(folder):
            checkpoint.save(
                {**self._weights(), **self._moments(steps)}, storage_writer=writer
            )
        if self.rank == 0:
            self._declare(state, steps)
            self.write_log()
            needed = {self._folder(n) for n in (state.epoch, state.best_epoch or 0)}
            for other in set(self.out.glob("epoch-*")) - needed:
                shutil.rmtree(other)
        self._wait()

    def _declare(self, state: State, steps: int) -> None:
        """Say which checkpoint counts; that of epoch 0 is the beginning."""
        record = {"settings": self.settings, "state": asdict(state), "steps": steps}
        write_json(self.out / STATE, record)

    def _folder(self, epoch: int) -> Path:
        return self.out / f"epoch-{epoch:05d}"

    def _load(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        reader = HuggingFaceStorageReader(str(self._folder(epoch)))
        with _named(self._folder(epoch)):
            checkpoint.load(tensors, storage_reader=reader)

    def _weights(self) -> dict[str, Tensor]:
        return {n: p.detach() for n, p in self.tables.named_parameters()}

    def _moments(self, steps: int) -> dict[str, Tensor]:
        """Adam's own tables, made where it has not stepped yet."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.tables.named_parameters():
            own = self.optimizer.state[parameter]
            if not own:
                own["step"] = torch.tensor(float(steps))
                own["exp_avg"] = torch.zeros_like(parameter.detach())
                own["exp_avg_sq"] = torch.zeros_like(parameter.detach())
            tensors |= {f"{name}.{key}": own[key] for key in ("exp_avg", "exp_avg_sq")}
        return tensors

    def _wait(self) -> None:
        if self.world_size > 1:
            distributed.barrier()


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Say in a line which checkpoint failed, and why."""
    try:
        with warnings.catch_warnings():  # that there is only one process
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except checkpoint.CheckpointException as error:
        reasons = [failure for failure, _ in error.failures.values()]
        raise OSError(f"{folder}: {reasons[0]}") from error
