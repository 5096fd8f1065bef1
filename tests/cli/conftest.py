"""A small table with odd names, a run of it, and a way to call the commands."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest
from torch_geometric.data import HeteroData

from ddrm_pyg.cli import main
from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.datasets.writers import save_interactions
from ddrm_pyg.experiments.audit import compute_signals

COLUMNS = ["--user", "Customer", "--item", "Book"]
QUICK = ["--epochs", "10", "--ddrm-epochs", "4"]


REPOSITORY = Path(__file__).parents[2]


class Call(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a refusal: one line, the last, and no output."""
        lines = self.err.splitlines()
        assert self.code == 2
        assert self.out == ""
        assert "Traceback" not in self.err
        assert [line.startswith("ddrm-pyg: error: ") for line in lines].count(True) == 1
        return lines[-1].removeprefix("ddrm-pyg: error: ")


Caller = Callable[..., Call]


def write_csv(path: Path, header: list[str], rows: list[tuple]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def pairs_of_world() -> list[tuple[str, str]]:
    """Two tastes: 20 users with 10 of the 12 books of their own colour."""
    return [
        (f"ann, {user}", f'book "{2 * ((user + i) % 12) + user % 2}"')
        for user in range(20)
        for i in range(12)
        if i not in (2, 7)
    ]


@pytest.fixture(scope="session")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """String ids that need quoting, odd column names, no ratings, no times."""
    path = tmp_path_factory.mktemp("data") / "clicks.csv"
    return write_csv(path, ["Customer", "Book"], pairs_of_world())


@pytest.fixture(scope="session")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 people walk up 20 items in a circle; every one from a place of their own."""
    rows = [
        (f"u{u}", f"i{(3 * u + step) % 20}", 100 * u + step)
        for u in range(40)
        for step in range(12)
    ]
    path = tmp_path_factory.mktemp("data") / "walks.csv"
    return write_csv(path, ["user", "item", "time"], rows)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDRM that takes no time."""
    path = tmp_path_factory.mktemp("settings") / "tiny.json"
    model = {"hidden_dims": [8], "num_train_timesteps": 3}
    fit = {"epochs": 4, "eval_every": 2, "metric": "ndcg@20"}
    path.write_text(json.dumps({"model": model, "fit": fit}))
    return path


@pytest.fixture(scope="session")
def words(clicks: Path, settings: Path) -> list[str]:
    """``run`` without ``--out``."""
    words = ["run", "--backend", "lightgcn", "--data", str(clicks)]
    return [*words, *COLUMNS, *QUICK, "--settings", str(settings)]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> Path:
    """The folder of a finished run. Not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Caller]:
    """Call a command in this process; curves are drawn for ``finished`` only."""
    monkeypatch.setattr("ddrm_pyg.cli._plug_in.write_png", lambda *_: None)
    monkeypatch.setattr("ddrm_pyg.cli._plug_in.to_pictures", lambda *_: {})
    root = logging.getLogger()
    handlers = root.handlers[:]

    def run(*words: object) -> Call:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Call(code, *capsys.readouterr())

    yield run
    root.handlers[:] = handlers


@pytest.fixture
def short_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The audit's trainings take no time, in an empty folder."""
    monkeypatch.setitem(compute_signals.__kwdefaults__, "epochs", 3)
    monkeypatch.setitem(compute_signals.__kwdefaults__, "ddrm_epochs", 1)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def world(tmp_path: Path) -> HeteroData:
    """A small planted world in the folder layout, with its labels."""
    data = SyntheticInteractions(100, 120, 2500)[0]
    save_interactions(data, tmp_path / "world")
    return data


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains, fails."""

    def train(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("ddrm_pyg.experiments.runner.Runner.train", train)


def _what_next(page: Path, printed: str) -> set[str]:
    """The files that a report names, once its commands are right."""
    text = page.read_text(encoding="utf-8")
    block = text.partition("<h2>What next</h2>")[2].partition("</ul>")
    assert text.index('class="verdict"') < text.index("<h2>What next</h2>")
    shown = re.findall('<pre class="command">(.*)</pre>', block[0])
    commands = [unescape(re.sub("<[^<]*>", "", line)) for line in shown]
    said = printed.splitlines()[-len(commands) :]  # the terminal ends in the same
    assert commands
    assert all(s.endswith(f": {c}") for s, c in zip(said, commands, strict=True))
    assert "in the repository" not in text  # a report may be anywhere
    return set(map(unescape, re.findall("<li><code>(.*?)</code>", block[0])))


@pytest.fixture(scope="session")
def what_next() -> Callable[[Path, str], set[str]]:
    """Checks a report's block of next steps against what was printed."""
    return _what_next
