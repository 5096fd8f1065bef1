"""From logs to lists in shards: processor time and memory of every worker.

A made-up log of 0.1 to 10 million rows (ten rows a user) goes through `shard`, an epoch
of `train` (MF, then DDRM) in one and in two processes, and `bulk` in this process and
by one and two actors of Ray (extras [duckdb], [ray]). Processor seconds do not depend
on what else the machine does; memory is what a process has of its own (RssAnon), at its
peak. Beyond a million rows only DDRM is trained, in one process and on vectors that
nothing was trained for; lists are made of two shards. The rest is arithmetic, see
docs/howto/scale.md.

The limit of one process is its start, an import of what it needs, and the bare step:
DuckDB's sort of the log, what Adam must move of MF's tables, the products of DDRM, or
the scores of those who get lists. Sizes that are not asked for stay as they were kept.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import _measure
import numpy as np
import pandas as pd
import psutil
from matplotlib import pyplot as plt

from ddrm_pyg import DDRM, MF, Embeddings
from ddrm_pyg.files import atomic_path, read_json
from ddrm_pyg.scale.world import World

ROWS_PER_SHARD = 16_384
BATCH, DIM, K = 8192, 64, 20
HIDDEN = (500, 200, 500)
MOST_TRAINED = 1_000_000  # rows that MF is trained on
RAY = """
import sys
from pathlib import Path
import ray
from ddrm_pyg.scale.ray import run
from ddrm_pyg.scale.worker import Job
world, weights, out, temporary, workers = sys.argv[1:]
ray.init(num_cpus=int(workers) + 1, object_store_memory=100 << 20, _temp_dir=temporary,
         include_dashboard=False, log_to_driver=False)
run(Job(Path(world), Path(weights), Path(out)), range(2), num_workers=int(workers))
"""
SORT = """
import sys
import duckdb
with duckdb.connect(config={"threads": 1, "memory_limit": "500MB"}) as base:
    base.execute(
        "copy (select * from read_parquet(?) order by user, time) to '/dev/null' "
        "(format csv)", [sys.argv[1]])
"""
IMPORTS = "import ddrm_pyg.scale.train, ddrm_pyg.pipeline"


class Cost(NamedTuple):
    """What some processes took together, and each of them at most.

    Attributes:
        wall_seconds: From start to end.
        cpu_seconds: Of all processes.
        memory_mib: Of each process that did the work, at its peak.
    """

    wall_seconds: float
    cpu_seconds: float
    memory_mib: list[int]


def measure(
    commands: list[list[Any]],
    environments: list[dict[str, str]] | None = None,
    worker: str = "",
) -> Cost:
    """Run commands at the same time.

    Args:
        commands: One for each process.
        environments: What each sees beside ours.
        worker: What the names of the processes that do the work hold, where these are
            started by the commands; the commands' own processes if empty.
    """
    begin = time.perf_counter()
    more = environments or [{} for _ in commands]
    children = [
        subprocess.Popen(
            list(map(str, words)),
            env={**os.environ, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words, own in zip(commands, more, strict=True)
    ]
    seen: dict[int, tuple[float, int, bool]] = {}
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(children, seen, done, worker))
    watcher.start()
    errors = [child.communicate()[1] for child in children]
    done.set()
    watcher.join()
    for child, error in zip(children, errors, strict=True):
        if child.returncode:
            raise RuntimeError(error[-2000:])
    return Cost(
        round(time.perf_counter() - begin, 1),
        round(sum(cpu for cpu, _, _ in seen.values()), 1),
        sorted(memory >> 20 for _, memory, works in seen.values() if works),
    )


def _watch(
    children: list[subprocess.Popen[str]],
    seen: dict[int, tuple[float, int, bool]],
    done: threading.Event,
    worker: str,
) -> None:
    roots = [psutil.Process(child.pid) for child in children]
    while not done.wait(0.1):
        for root in roots:
            with suppress(psutil.Error):
                for process in [root, *root.children(recursive=True)]:
                    with suppress(psutil.Error, OSError, ValueError):  # just ended
                        _look(process, seen, process in roots, worker)


def _look(
    process: psutil.Process,
    seen: dict[int, tuple[float, int, bool]],
    is_root: bool,
    worker: str,
) -> None:
    times = process.cpu_times()
    status = Path(f"/proc/{process.pid}/status").read_text()
    (kibibytes,) = re.findall(r"RssAnon:\s*(\d+) kB", status)
    _, memory, works = seen.get(process.pid, (0.0, 0, False))
    title = " ".join(process.cmdline())
    works = works or (worker in title if worker else is_root)
    own = max(memory, int(kibibytes) << 10)
    seen[process.pid] = (times.user + times.system, own, works)


def write_log(path: Path, rows: int) -> tuple[int, int]:
    """Write a log of ids as texts, ten rows a user, items by popularity."""
    random = np.random.default_rng(0)
    num_users = rows // 10
    num_items = int(20 * rows**0.45)
    user = np.repeat(np.arange(num_users), 10)
    random.shuffle(user)
    item = (random.pareto(1.0, rows) * num_items / 20).astype(int) % num_items
    frame = pd.DataFrame(
        {
            "user": pd.Series(user).map("u{:019d}".format),
            "item": pd.Series(item).map("i{:019d}".format),
            "time": random.integers(1_500_000_000, 1_700_000_000, rows),
        }
    )
    frame.to_parquet(path)
    return num_users, num_items


def command(*words: Any) -> list[Any]:
    """Words of the command line."""
    return [sys.executable, "-m", "ddrm_pyg", *words]


def train(world: Path, out: Path, count: int, *words: Any) -> Cost:
    """An epoch in some processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port)}
    line = command("train", "--world", world, "--out", out, "--epochs", 1)
    line += ["--batch-size", BATCH, *words]
    ranks = [{**shared, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]
    return measure([line] * count, ranks)


def run(rows: int, folder: Path) -> dict[str, Any]:
    """Take a log of so many rows through all steps."""
    log, world = folder / "log.parquet", folder / "world"
    num_users, num_items = write_log(log, rows)
    costs: dict[str, Cost] = {}

    def note(name: str, cost: Cost) -> None:
        costs[name] = cost
        print(f"{rows:>10,} rows, {name}: {cost}", flush=True)

    words = ["--memory", "500MB", "--rows-per-shard", ROWS_PER_SHARD]
    note("shard", measure([command("shard", log, "--out", world, *words)]))
    small = rows <= MOST_TRAINED
    for count in (1, 2) if small else ():
        tables = world / "embeddings"
        if tables.exists():
            tables.rename(folder / "first")
        out = folder / f"mf{count}"
        note(f"mf, {count}", train(world, out, count, "--method", "mf", "--dim", DIM))
    if not small:
        put_vectors(World.open(world))
    hidden = ",".join(map(str, HIDDEN))
    for count in (1, 2) if small else (1,):
        out = folder / f"ddrm{count}"
        note(f"ddrm, {count}", train(world, out, count, "--hidden", hidden))
    weights = folder / "weights"
    DDRM(DIM, HIDDEN).eval().save_pretrained(weights)
    opened = World.open(world)
    made = ["--weights", weights, "--shards", f"0-{min(1, opened.num_shards - 1)}"]
    line = command("bulk", world, *made, "--out", folder / "local", "-k", K)
    note("bulk, local", measure([line]))
    for workers in (1, 2) if rows == MOST_TRAINED else ():
        with tempfile.TemporaryDirectory(prefix="ray") as short:
            words = [world, weights, folder / f"ray{workers}", short, workers]
            environment = {"HOME": short, "RAY_USAGE_STATS_ENABLED": "0"}
            cost = measure(
                [[sys.executable, "-c", RAY, *words]], [environment], "ray::Map"
            )
        note(f"bulk, ray {workers}", cost)
    listed = min(2 * ROWS_PER_SHARD, num_users)
    limits = {"shard": measure([[sys.executable, "-c", SORT, log]]).cpu_seconds}
    for name, least in least_of(opened, listed).items():
        limits[name] = _measure.least_seconds([least])
    return {
        "users": num_users,
        "items": num_items,
        "users_listed": listed,
        **{name: cost._asdict() for name, cost in costs.items()},
        "limits": reached(costs, limits),
    }


def least_of(world: World, listed: int) -> dict[str, _measure.Least]:
    """What training and listing in one process must at least do."""
    ddrm, edges = DDRM(DIM, HIDDEN), world.num_edges["train"]
    flop = _measure.flop_of_row(ddrm)
    mf = MF(world.num_users, world.num_items, DIM)
    scores = listed * world.num_items
    return {
        "mf, 1": _measure.least_of_steps(mf, edges / BATCH),
        "ddrm, 1": _measure.Least(flop=edges * flop),
        "bulk, local": _measure.Least(8 * scores, 2 * DIM * scores + listed * flop / 3),
    }


def reached(
    costs: dict[str, Cost], limits: dict[str, float]
) -> dict[str, dict[str, float]]:
    """The share of its limit that each step of one process reaches, start included."""
    start = measure([[sys.executable, "-c", IMPORTS]]).cpu_seconds
    shares = {}
    for name, seconds in limits.items():
        if name in costs:
            limit = start + seconds
            share = limit / costs[name].cpu_seconds
            shares[name] = {"seconds": round(limit, 1), "share": round(share, 2)}
            print(f"{name}: {share:.0%} of the limit, {limit:.1f} s")
    return shares


def put_vectors(world: World) -> None:
    """Fill a world with vectors that nothing was trained for."""
    random = _measure.torch.Generator().manual_seed(0)
    emb = Embeddings(
        _measure.torch.randn(world.num_users, DIM, generator=random),
        _measure.torch.randn(world.num_items, DIM, generator=random),
    )
    world.save_emb("item", emb.item)
    for shard in range(world.num_shards):
        world.save_emb("user", emb.user[slice(*world.bounds(shard))], shard)


def plot(results: dict[int, dict[str, Any]]) -> None:
    """Draw memory of a worker, and processor time a million rows."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    names = list(dict.fromkeys(n for r in results.values() for n in r if ", " in n))
    for name in ["shard", *names]:
        there = [rows for rows, result in results.items() if name in result]
        memory = [max(results[rows][name]["memory_mib"]) for rows in there]
        seconds = [results[rows][name]["cpu_seconds"] for rows in there]
        left.plot(there, memory, marker="o", label=name)
        right.plot(there, seconds, marker="o", label=name)
    left.set_ylabel("peak memory of a worker, MiB")
    left.set_ylim(0)
    right.set_ylabel("processor seconds")
    right.set_yscale("log")
    labels = right.get_legend_handles_labels()
    figure.legend(
        *labels, fontsize=8, frameon=False, loc="outside lower center", ncols=8
    )
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("rows of the log")
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(_measure.RESULTS / "scale_out.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)


def main() -> None:
    """Measure."""
    why = "every worker is measured on a core"
    parser = _measure.options(__doc__, rounds=False, on_cpu=why)
    parser.add_argument("--rows", type=int, nargs="+", help="sizes of logs")
    parser.set_defaults(threads=1)  # of limits: processor seconds are one core's
    args = parser.parse_args()
    _measure.choose(args)
    kept = read_json(_measure.RESULTS / "scale_out.json")["rows"]
    results = {int(rows): result for rows, result in kept.items()}
    for rows in args.rows or [100_000, 1_000_000, 10_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            results[rows] = run(rows, Path(folder))
        results = dict(sorted(results.items()))
        _measure.keep("scale_out", {"batch": BATCH, "dim": DIM, "rows": results})
    plot(results)


if __name__ == "__main__":
    main()
