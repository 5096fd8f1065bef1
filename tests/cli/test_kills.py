"""Commands that are killed at any moment and then finished, or may not write on.

``DDRM_PYG_KILLS`` says how many kills in all: one each by default, 100 for a release.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.datasets.writers import save_interactions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.nn.models import MF
from ddrm_pyg.pipeline import Pipeline
from ddrm_pyg.scale.ingest import shard
from ddrm_pyg.scale.world import cut_embeddings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX"),
]

KILLS = int(os.environ.get("DDRM_PYG_KILLS", "11"))
QUICK = ["--epochs", "3", "--ddrm-epochs", "2"]
COMMANDS = {
    "run": ["run", "--data", "{data}", *QUICK, "--out", "{out}"],
    "denoise": [
        *("denoise", "--data", "{data}", "--embeddings", "{embeddings}"),
        *("--epochs", "3", "--out", "{out}"),
    ],
    "compare": [
        *("compare", "--data", "{data}", "--methods", "mf,ease,mf+ddrm"),
        *("--epochs", "2", "--out", "{out}"),
    ],
    "reproduce": [
        *("reproduce", "table2", "--data", "{data}", "--rows", "mf", "--seeds", "1"),
        *("--epochs", "1", "--out", "{out}"),
    ],
    "tune": [
        "tune",
        "--data",
        "{data}",
        "--epochs",
        "1",
        "--trials",
        "3",
        "--out",
        "{out}",
    ],
    "audit": ["audit", "--data", "{data}", "--out", "{out}"],
    "convert": ["data", "convert", "{data}", "--out", "{out}/copy.csv"],
    "export": ["export", "{pipeline}", "--out", "{out}/export", "--format", "pt2"],
}
if find_spec("duckdb"):
    COMMANDS |= {
        "shard": ["shard", "{table}", "--out", "{out}/world"],
        "bulk": ["bulk", "{world}", "--weights", "{weights}", "--out", "{out}"],
        "train": [
            *("train", "--world", "{world}", "--hidden", "8", "--steps", "2"),
            *("--epochs", "3", "--out", "{out}"),
        ],
    }
WRITTEN_ONCE = ("convert", "shard", "export")
"""Commands that refuse to write over what they wrote."""

MAIN = "import sys; from ddrm_pyg.cli import main; sys.exit(main(sys.argv[1:]))"

# times, memory and what names a folder differ between two runs of one thing
HASHED = ("recommendations.csv", "copy.csv")
VARIES = ("seconds", "peak_memory", "memory", "command", "settings", "out", "versions")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("world")
    data = SyntheticInteractions(60, 80, 1200)[0]
    save_interactions(data, folder / "lists")
    tables = MF(data["user"].num_nodes, data["item"].num_nodes, 8)
    emb = Embeddings(tables.user_table.detach(), tables.item_table.detach())
    emb.save(folder / "emb.npz")
    save_interactions(data, folder / "table.csv")
    Pipeline.from_data(emb, data).save_pretrained(folder / "pipeline")
    DDRM(8, (8,), num_train_timesteps=2).save_pretrained(folder / "weights")
    if "shard" in COMMANDS:
        world = shard([folder / "table.csv"], folder / "world")
        tables = MF(world.num_users, world.num_items, 8).scorer(None)
        tables.save(folder / "world.safetensors")
        cut_embeddings(world, folder / "world.safetensors")
    return {
        "data": str(folder / "lists"),
        "embeddings": str(folder / "emb.npz"),
        "table": str(folder / "table.csv"),
        **{name: str(folder / name) for name in ("pipeline", "weights", "world")},
    }


def start(
    words: list[str], world: dict[str, str], out: Path, main: str = MAIN
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", main, *(w.format(**world, out=out) for w in words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def without_times(record):
    if isinstance(record, dict):
        return {k: without_times(v) for k, v in record.items() if k not in VARIES}
    return [without_times(x) for x in record] if isinstance(record, list) else record


def results(out: Path) -> dict[str, object]:
    """Every file and folder: numbers of JSON and tables, names of the others."""
    contents: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".json":
            contents[name] = without_times(json.loads(path.read_text()))
        elif path.suffix in (".safetensors", ".parquet") or name in HASHED:
            contents[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            contents[name] = None
    return contents


LIMITED = f"""
from resource import RLIMIT_FSIZE, setrlimit
setrlimit(RLIMIT_FSIZE, (4096, 4096))
{MAIN}
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_cannot_be_written_end_in_a_line(command, world, tmp_path):
    process = start(COMMANDS[command], world, tmp_path, LIMITED)
    output = process.communicate()[0]
    assert process.returncode == 2, output
    assert output.splitlines()[-1].startswith("ddrm-pyg: error: ")
    assert "Traceback" not in output
    assert not [*tmp_path.rglob("*.partial-*")]


@pytest.mark.parametrize("command", COMMANDS)
def test_kills_leave_nothing_and_lose_nothing(command, world, tmp_path):
    words, places = COMMANDS[command], list(COMMANDS)
    kills = len(range(places.index(command), KILLS, len(places)))
    begin = time.monotonic()
    straight = start(words, world, tmp_path / "straight")
    output = straight.communicate()[0]
    assert straight.returncode == 0, output
    seconds = time.monotonic() - begin
    moments = random.Random(command)
    out = tmp_path / "killed"
    for _ in range(kills):
        process = start(words, world, out)
        try:
            process.communicate(timeout=moments.uniform(0.2, 1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    last = start(words, world, out)
    output = last.communicate()[0]
    if last.returncode != 0:  # a kill came too late: nothing is written over
        assert command in WRITTEN_ONCE, output
        assert "must be a new folder" in output or "must not be there yet" in output
    expected, killed = results(tmp_path / "straight"), results(out)
    assert killed.keys() == expected.keys()
    assert killed == expected
