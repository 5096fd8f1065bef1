"""load_interactions against pandas' parse of the same CSV, and a large JSON file.

The CSV has as many rows, users and items as ML-1M, in the order of its users and
shuffled. Where DuckDB is installed it is a third side: rows numbered by id, and the
earliest event of every pair, ordered by user and time; its rows of a small file are
compared with ours first. With --gigabytes it is a file in the format of Yelp's reviews
instead, written to a temporary folder and read once, in a process of its own so that
its peak memory is seen; the other side reads its lines and does nothing with them. With
--rows it is a CSV and a parquet file of as many rows with ids that are texts, split by
time, whose peak memory is seen in the same way. The limit is Arrow's parse of the CSV,
where it is installed, and pandas' elsewhere.
"""

import json
import logging
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import _measure  # first: it sets what torch's workers do
import numpy as np
import pandas as pd

from ddrm_pyg.datasets import load_interactions

OURS = ("load_interactions, unsplit", "load_interactions")
ROWS, USERS, ITEMS = 1_000_209, 6_040, 3_706
COLUMNS = {
    "user": "user_id",
    "item": "business_id",
    "rating": "stars",
    "time": "date",
}
EVENTS = """
create table clicks as
    select row_number() over () as place, user, item, time from read_csv(?);
create table users as
    select id, row_number() over (order by id) - 1 as row
    from (select distinct user as id from clicks);
create table items as
    select id, row_number() over (order by id) - 1 as row
    from (select distinct item as id from clicks)
"""
PAIRS = """
select users.row as user, items.row as item, min(time) as time
from clicks join users on clicks.user = users.id join items on clicks.item = items.id
group by 1, 2 order by 1, min((time, place))
"""
TEXT = "Good food, “friendly” people; we will come back.\\n" * 11


def main():
    """Measure."""
    parser = _measure.options(__doc__, on_cpu="files are read on the CPU")
    parser.add_argument("--gigabytes", type=float, default=0, help="size of the JSON")
    parser.add_argument("--rows", type=int, default=0, help="with ids that are texts")
    parser.add_argument("--read", help=_measure.argparse.SUPPRESS)
    args = parser.parse_args()
    _measure.choose(args)
    logging.disable(logging.WARNING)
    if args.read:
        print(json.dumps(read_alone(Path(args.read))))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.gigabytes:
            measure_reviews(Path(folder), args.gigabytes)
        elif args.rows:
            measure_rows(Path(folder), args.rows)
        else:
            compare_tables(Path(folder), args.runs)


def compare_tables(folder, runs):
    """Time the table in two orders."""
    random = np.random.default_rng(0)
    key = random.choice(USERS * ITEMS, ROWS, replace=False)
    user, item = np.divmod(np.sort(key), ITEMS)
    frame = pd.DataFrame(
        {
            "user": user + 1,
            "item": item + 1,
            "rating": random.integers(1, 6, ROWS),
            "time": random.integers(956_703_932, 1_046_454_590, ROWS),
        }
    )
    for name, table in (
        ("reading", frame),
        ("reading_shuffled", frame.sample(frac=1, random_state=0)),
    ):
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False)
        data = load_interactions(path)
        setting = _measure.Setting(
            data,
            _measure.InteractionGraph.from_data(data),
            path.name,
            _measure.torch.get_num_threads(),
            runs,
        )
        sides = {
            "pandas.read_csv": lambda path=path: pd.read_csv(path),
            "load_interactions, unsplit": lambda path=path: load_interactions(
                path, split=False
            ),
            "load_interactions": lambda path=path: load_interactions(path),
        }
        # the file in, two rows and a time out
        least = _measure.Least(path.stat().st_size + 24 * ROWS)
        limit = "pandas.read_csv"
        if find_spec("pyarrow"):
            limit = "Arrow's parse"
            sides[limit] = lambda path=path: by_arrow(path)
        if find_spec("duckdb"):
            check_duckdb(folder / "small.csv", table)
            sides["DuckDB, unsplit"] = lambda path=path: by_duckdb(path)
        _measure.report(
            name,
            f"Reading a CSV of {ROWS:,} rows ({path.stat().st_size / 1e6:.0f} MB)",
            setting,
            _measure.alternate(sides | _measure.bare_sides("cpu"), runs),
            reference="pandas.read_csv",
            ours=OURS,
            limits=dict.fromkeys(OURS, limit),
            least=dict.fromkeys(OURS, least),
        )


def by_arrow(path):
    """Parse, and do nothing with it."""
    from pyarrow import csv

    threads = _measure.torch.get_num_threads() > 1
    return csv.read_csv(path, csv.ReadOptions(use_threads=threads))


def by_duckdb(path):
    """Number users and items by their ids, and keep the earliest event of each pair."""
    import duckdb

    with duckdb.connect(config={"threads": _measure.torch.get_num_threads()}) as base:
        for statement in EVENTS.split(";"):
            base.execute(statement, [str(path)] if "?" in statement else None)
        return base.execute(PAIRS).fetchnumpy()


def check_duckdb(path, table):
    """Compare DuckDB's rows of a small file, with pairs that repeat, with ours."""
    few = table[["user", "item", "time"]].head(3_000)
    again = few.sample(500, random_state=1).assign(time=few["time"].min() - 1)
    pd.concat([few, again]).to_csv(path, index=False)
    edges = load_interactions(path, split=False)["user", "item"]
    ours = np.stack([*edges.edge_index.numpy(), edges.edge_time.numpy()])
    theirs = np.stack([by_duckdb(path)[name] for name in ("user", "item", "time")])
    for rows in (ours, theirs):
        rows[:] = rows[:, np.lexsort(rows[:2])]
    np.testing.assert_array_equal(ours, theirs)


def measure_reviews(folder, gigabytes):
    """Write the JSON file and read it in another process."""
    path = folder / "yelp_academic_dataset_review.json"
    write_reviews(path, gigabytes * 1e9)
    begin = time.perf_counter()
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    bare = time.perf_counter() - begin
    record = {
        "benchmark": "reading_json",
        "bytes": path.stat().st_size,
        "lines": lines,
        "seconds_to_read_the_lines": round(bare, 1),
        **read_elsewhere(path),
    }
    print("\n" + json.dumps(record))
    _measure.keep("reading_json", record)


def measure_rows(folder, rows):
    """Write the same rows in two formats and read each in another process."""
    random = np.random.default_rng(0)
    ids = {
        "user": (random.pareto(1.0, rows) * 20_000).astype(int) % 700_000,
        "item": (random.pareto(1.2, rows) * 3_000).astype(int) % 100_000,
    }
    frame = pd.DataFrame(
        {
            name: pd.Series([f"{name[0]}{i:021d}" for i in range(id_.max() + 1)])
            .take(id_)
            .array
            for name, id_ in ids.items()
        }
    )
    frame["rating"] = random.integers(1, 6, rows)
    frame["time"] = random.integers(956_703_932, 1_600_000_000, rows)
    record = {"benchmark": "reading_rows", "rows": rows}
    for kind in ("csv", "parquet"):
        path = folder / f"rows.{kind}"
        getattr(frame, f"to_{kind}")(path, index=False)
        record[kind] = read_elsewhere(path)
    print("\n" + json.dumps(record))
    _measure.keep("reading_rows", record)


def read_elsewhere(path):
    """Read a file in another process and tell what it took."""
    words = [sys.executable, __file__, "--threads", "1", "--read", path]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def write_reviews(path, size):
    """Write made-up reviews with ids as long as Yelp's, a block at a time."""
    random = np.random.default_rng(0)
    block = 20_000
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            user = (random.pareto(1.0, block) * 20_000).astype(int) % 2_000_000
            item = (random.pareto(1.2, block) * 3_000).astype(int) % 150_000
            star = random.integers(1, 6, block)
            day = pd.Timestamp("2010-01-01") + pd.to_timedelta(
                random.integers(0, 3 * 10**8, block), unit="s"
            )
            file.writelines(
                f'{{"review_id":"{u:022d}","user_id":"u{u:021d}","business_id":'
                f'"b{i:021d}","stars":{s}.0,"useful":0,"funny":0,"cool":0,'
                f'"text":"{TEXT}","date":"{d}"}}\n'
                for u, i, s, d in zip(user, item, star, day.astype(str), strict=True)
            )


def read_alone(path):
    """Read reviews without their split, or rows with it, and tell what it took."""
    is_json = path.suffix == ".json"
    before = peak_megabytes()
    begin, busy = time.perf_counter(), time.process_time()
    data = load_interactions(path, **(COLUMNS if is_json else {}), split=not is_json)
    return {
        "seconds": round(time.perf_counter() - begin, 1),
        "processor_seconds": round(time.process_time() - busy, 1),
        "peak_memory_before_mb": before,
        "peak_memory_mb": peak_megabytes(),
        "num_users": data["user"].num_nodes,
        "num_items": data["item"].num_nodes,
        "num_edges": data["user", "item"].edge_index.size(1),
    }


def peak_megabytes():
    """Largest resident size of this process; unlike getrusage's, not its parent's."""
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return round(int(line) / 1024)


if __name__ == "__main__":
    main()
