"""Make the lists of a world on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddrm_pyg.extras import import_extra
from ddrm_pyg.scale.worker import Job, ShardWorker


class _Actor:
    """A worker as Ray Data calls it: a batch of one shard's number."""

    def __init__(self, job: Job) -> None:
        self.worker = ShardWorker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"users": [self.worker(int(shard)) for shard in batch["item"]]}


def run(job: Job, shards: Sequence[int] | None = None, *, num_workers: int = 1) -> int:
    """Make the lists of some shards by actors, of the cluster that Ray is joined to.

    Only numbers of shards travel: an actor opens what it needs and writes its own
    files. Folders must be the same for all actors.

    Args:
        job: What to make.
        shards: Which ones, all if None; those that are there are left as they are.
        num_workers: Actors, of one CPU each.

    Returns:
        Users whose lists were made now.

    Raises:
        ValueError: The cluster has no CPU to spare beside the actors (Ray would wait
            for ever), or what :func:`ddrm_pyg.scale.local.run` refuses.
        ImportError: Ray is not installed.
    """
    ray = import_extra("ray", "--engine ray needs ray", "ray")
    data = import_extra("ray.data", "--engine ray needs ray", "ray")
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    num_cpus = int(ray.cluster_resources().get("CPU", 0))
    if num_workers >= num_cpus:
        raise ValueError(
            f"'num_workers' must be < {num_cpus}, the cluster's CPUs: one is needed to "
            f"hand out shards (got {num_workers})"
        )
    with job.claimed(shards) as pending:
        if not pending:
            return 0
        done = data.from_items(pending).map_batches(
            _Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            num_cpus=1,
            compute=data.ActorPoolStrategy(size=min(num_workers, len(pending))),
        )
        return sum(row["users"] for row in done.iter_rows())
