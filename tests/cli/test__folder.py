"""Folders of results: whose they are."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import pytest

from ddrm_pyg.cli._folder import _difference, claim, read_config

CONFIG = {
    "source": {"data": "a", "ratios": (0.7, 0.1, 0.2)},
    "fingerprint": "f",
    "backend": {"fit": {"epochs": 1}},
    "denoise": {},
}


def test_new_folder_is_claimed(tmp_path):
    claim(tmp_path / "new", CONFIG, finished="metrics.json", overwrite=False)
    assert read_config(tmp_path / "new", CONFIG) == CONFIG | {
        "source": {"data": "a", "ratios": [0.7, 0.1, 0.2]}
    }
    claim(
        tmp_path / "new", CONFIG, finished="metrics.json", overwrite=False
    )  # and continued


def test_overwriting_forgets_cells_and_results(tmp_path):
    claim(tmp_path, CONFIG, finished="metrics.json", overwrite=False)
    (tmp_path / "cells").mkdir()
    (tmp_path / "metrics.json").touch()
    (tmp_path / "notes.txt").touch()
    claim(
        tmp_path, CONFIG | {"fingerprint": "g"}, finished="metrics.json", overwrite=True
    )
    assert read_config(tmp_path, CONFIG)["fingerprint"] == "g"
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "notes.txt"}


def test_a_folder_with_nothing_but_a_killed_writers_temporary_is_new(tmp_path):
    (tmp_path / ".config.partial-12345678").mkdir()
    claim(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["not empty", None])
def test_what_is_no_new_folder_is_refused_and_stays(tmp_path, text):
    out = tmp_path / "out"
    if text is None:
        out.touch()
    else:
        out.mkdir()
        (out / "notes.txt").write_text(text)
    with pytest.raises(ValueError, match="'--out' must be a new folder or a run's"):
        claim(out, CONFIG)
    assert len(list(tmp_path.rglob("*"))) == (1 if text is None else 2)


CLAIM = """
import sys
from pathlib import Path
from ddrm_pyg.cli._folder import claim
print("ready", flush=True)
for line in sys.stdin:
    try:
        claim(Path(line.strip()), {"seed": int(sys.argv[1])})
        print("claimed", flush=True)
    except ValueError:
        print("refused", flush=True)
"""


@pytest.fixture
def racers():
    """Two processes, of one seed each, that claim the folders they read of."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIM, str(seed)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for seed in range(2)
        ]


def test_of_two_different_runs_one_claims_a_new_folder(tmp_path, racers):
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
    for race in range(20):
        out = tmp_path / str(race)
        for racer in racers:
            racer.stdin.write(f"{out}\n")
            racer.stdin.flush()
        answers = [racer.stdout.readline().strip() for racer in racers]
        assert sorted(answers) == ["claimed", "refused"]
        assert read_config(out, {"seed"}) == {"seed": answers.index("claimed")}


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "{", "[]", "{}", '{"source": 1}', "\0"]
)
def test_config_of_anything_else_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert read_config(tmp_path, CONFIG) is None


def test_no_config_is_none(tmp_path):
    assert read_config(tmp_path, CONFIG) is None
    assert read_config(tmp_path / "missing", CONFIG) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "g"}, "the interactions were others"),
        ({"backend": {"fit": {"epochs": 2}}}, "backend.fit.epochs was 1 and is 2"),
        ({"backend": {"fit": {}}}, "backend.fit.epochs was 1 and is None"),
        ({"denoise": {"seed": 3}}, "denoise.seed was None and is 3"),
    ],
)
def test_difference_is_named(change, message):
    assert _difference(CONFIG, CONFIG | change) == message
