"""A small Ray cluster of its own makes the same lists."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from ddrm_pyg.scale.worker import Job

SCRIPT = """
import sys
from pathlib import Path
import ray
from ddrm_pyg.scale.ray import run
from ddrm_pyg.scale.worker import Job
job = Job(*map(Path, sys.argv[1:4]), k=5)
ray.init(num_cpus=3, object_store_memory=100 << 20, _temp_dir=sys.argv[4],
         include_dashboard=False, log_to_driver=False)
try:
    run(job, range(2), num_workers=3)
except ValueError as error:
    assert "'num_workers' must be < 3" in str(error), error
else:
    raise AssertionError("all CPUs taken")
assert run(job, range(2), num_workers=2) == 8193
assert run(job, range(2), num_workers=2) == 0
ray.shutdown()
"""

KILLED = """
import os
import signal
import sys
from pathlib import Path
import ray
from ddrm_pyg.scale import ray as engine
from ddrm_pyg.scale.worker import Job
job = Job(*map(Path, sys.argv[1:4]), k=5)
mark = Path(sys.argv[5])

class Mortal(engine._Actor):
    def __call__(self, batch):
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return super().__call__(batch)
        os.kill(os.getpid(), signal.SIGKILL)

engine._Actor = Mortal
ray.init(num_cpus=2, object_store_memory=100 << 20, _temp_dir=sys.argv[4],
         include_dashboard=False, log_to_driver=False)
assert engine.run(job, num_workers=1) == 8193
ray.shutdown()
"""


def run_script(script, tmp_path, made, *words):
    pytest.importorskip("ray")
    job = Job(made.world.folder, made.weights, tmp_path / "out", k=5)
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # names of sockets
        home = {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
        words = [job.world, job.weights, job.out, short, *words]
        answer = subprocess.run(
            [sys.executable, "-c", script, *map(str, words)],
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            timeout=500,
        )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return job


@pytest.mark.slow
def test_actors_make_the_lists_of_the_whole(tmp_path, made, assert_same_lists):
    assert_same_lists(made, run_script(SCRIPT, tmp_path, made))


@pytest.mark.slow
def test_a_killed_actor_is_replaced(tmp_path, made, assert_same_lists):
    mark = tmp_path / "killed"
    job = run_script(KILLED, tmp_path, made, mark)
    assert mark.exists()
    assert_same_lists(made, job)
