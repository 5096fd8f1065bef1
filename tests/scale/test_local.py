"""The plain loop makes what is not there yet."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ddrm_pyg.scale import local
from ddrm_pyg.scale.worker import Job

SCRIPT = """
import sys
from pathlib import Path
from ddrm_pyg.scale import local, worker
from ddrm_pyg.scale.worker import Job
def half(self, shard, *lists):
    with worker.atomic_path(self.job.path(shard)) as temporary:
        temporary.write_bytes(b"half")
        print("writing", flush=True)
        sys.stdin.read()
worker.ShardWorker._write = half
local.run(Job(*map(Path, sys.argv[1:4]), k=5), [1])
"""


def test_a_killed_process_leaves_no_half_list(tmp_path, made, assert_same_lists):
    job = Job(made.world.folder, made.weights, tmp_path / "out", k=5)
    words = [job.world, job.weights, job.out]
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "writing\n"
    with pytest.raises(ValueError, match="must have one writer"):
        local.run(job, [1], progress=False)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert job.pending([1]) == [1]
    assert local.run(job, range(2), progress=False) == 8193
    assert_same_lists(made, job)


def test_all_shards_then_only_those_that_are_missing(tmp_path, made, assert_same_lists):
    job = Job(made.world.folder, made.weights, tmp_path / "out", k=5)
    assert local.run(job, [1], progress=False) == 1
    assert local.run(job, range(2), progress=False) == 8192
    assert_same_lists(made, job)
    assert local.run(job, range(2), progress=False) == 0
