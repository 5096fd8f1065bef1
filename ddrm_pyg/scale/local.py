"""Make the lists of a world in this process."""

from __future__ import annotations

from collections.abc import Sequence

from ddrm_pyg.progress import on_terminal, progress_bar
from ddrm_pyg.scale.worker import Job, ShardWorker


def run(job: Job, shards: Sequence[int] | None = None, *, progress: bool = True) -> int:
    """Make the lists of some shards; those that are there are left as they are.

    Args:
        job: What to make.
        shards: Which ones; all if None.
        progress: Show a bar on a terminal.

    Returns:
        Users whose lists were made now.

    Raises:
        FileNotFoundError: A file of the job is not there.
        ValueError: Files that do not belong together, or ``out`` is another job's.
    """
    with job.claimed(shards) as pending:
        if not pending:
            return 0
        worker = ShardWorker(job)
        shown = on_terminal(progress)
        return sum(map(worker, progress_bar(pending, unit="shard", progress=shown)))
