"""The pages of the documentation: their programs run, and the whole builds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.methods import names_of

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [
    "README.md",
    *sorted(
        path.relative_to(REPOSITORY).as_posix()
        for folder in (DOCS, DOCS / "howto", DOCS / "tutorials")
        for path in folder.glob("*.md")
    ),
]
BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>\w+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL
)


NUMBER = re.compile(r"\d*\.?\d+")
TUTORIALS = sorted(path.stem for path in (DOCS / "tutorials").glob("*.md"))


def blocks_of(page: str) -> list[tuple[str, str]]:
    """What each Python program of a page needs, and its text."""
    text = (REPOSITORY / page).read_text("utf-8")
    return [(match["needs"], match["code"]) for match in BLOCK.finditer(text)]


def outputs_of(page: str) -> list[str]:
    """What a page says that each of its programs prints."""
    text = (REPOSITORY / page).read_text("utf-8")
    after = [text[match.end() :] for match in BLOCK.finditer(text)]
    shown = [re.match(r"\n\n```text\n(.*?)```", rest, re.DOTALL) for rest in after]
    return [match[1] if match else "" for match in shown]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What readers have: clicks, and vectors in an order of their own."""
    folder = tmp_path_factory.mktemp("reader")
    data = SyntheticInteractions(120, 120, 3600)[0]
    store = data["user", "interacts", "item"]
    pairs = torch.cat(
        [store.edge_index, store.val_edge_label_index, store.test_edge_label_index], 1
    )
    user, item = pairs.numpy()
    # one user who knows nearly all items
    user, item = np.append(user, np.full(118, 120)), np.append(item, np.arange(118))
    clicks = pd.DataFrame({"uid": user, "sku": item}).drop_duplicates()
    clicks["uid"] = "u" + clicks["uid"].astype(str)
    clicks["sku"] = "sku-" + clicks["sku"].astype(str)
    clicks["ts"] = np.arange(len(clicks))
    clicks.to_csv(folder / "clicks.csv", index=False)
    generator = np.random.default_rng(0)
    ratings = pd.DataFrame({"userId": user, "movieId": item, "rating": 4.0})
    ratings.loc[::3, "rating"] = 3.0
    ratings["timestamp"] = np.arange(len(ratings))
    ratings.drop_duplicates(["userId", "movieId"]).to_csv(
        folder / "ratings.csv", index=False
    )
    for column, name in (
        (ratings["userId"], "user_vectors"),
        (ratings["movieId"], "item_vectors"),
    ):
        ids = generator.permutation(column.unique())
        vectors = pd.DataFrame(generator.normal(size=(len(ids), 16)))
        vectors.assign(id=ids).to_csv(folder / f"{name}.csv", index=False)
    emb = Embeddings(torch.zeros(2, 4), torch.zeros(3, 4))
    emb.save(folder / "runs" / "mine" / "embeddings.safetensors")
    return folder


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks_of(p) and "tutorials" not in p]
)
def test_programs_of_a_page_run(page, world, monkeypatch):
    monkeypatch.chdir(world)
    names: dict[str, object] = {}
    for extra, code in blocks_of(page):
        if extra:
            pytest.importorskip(extra)
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_prints_what_it_shows(name, tmp_path, monkeypatch, capsys):
    page = f"docs/tutorials/{name}.md"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = outputs_of(page)
    assert any(shown)
    for (_, code), expected in zip(blocks_of(page), shown, strict=True):
        exec(compile(code, page, "exec"), names)
        printed = capsys.readouterr().out
        assert NUMBER.sub("0", printed).split() == NUMBER.sub("0", expected).split()
        numbers = [float(number) for number in NUMBER.findall(printed)]
        shown_numbers = [float(number) for number in NUMBER.findall(expected)]
        # other processors round otherwise
        assert numbers == pytest.approx(shown_numbers, rel=0.1, abs=0.01)


def test_readme_is_short():
    text = (REPOSITORY / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    prose = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    prose = re.sub(r"^[|#!].*$|\]\(.*?\)", "", prose, flags=re.MULTILINE)
    sentences = re.split(r"(?<=[.!?])\s+|\n\n|\n- ", prose)
    assert [s for s in sentences if len(s.split()) > 30] == []


def names_in(text: str) -> str:
    """Words as methods' names are compared: ``DeCA(p)`` is ``deca-p``."""
    return re.sub(r"[^a-z0-9\s]", "", text.lower())


def test_readme_names_every_method():
    text = (REPOSITORY / "README.md").read_text("utf-8")
    words = names_in(text.partition("## Models")[2].partition("\n## ")[0]).split()
    for method in names_of("yardstick", "backend", "denoiser", "rival"):
        assert {names_in(part) for part in method.split("+")} <= {*words}, method


def test_every_extra_is_explained():
    setup = ConfigParser(interpolation=None)
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    table = (DOCS / "install.md").read_text("utf-8").partition("| extra |")[2]
    firsts = [line.split("|")[1] for line in table.splitlines() if "| `" in line[:3]]
    explained = re.findall(r"`(\w+)`", "".join(firsts))
    assert sorted(explained) == sorted(setup["options.extras_require"])


def test_torch_is_installed_in_one_way():
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    (pinned,) = (line for line in lines if line.startswith("torch=="))
    for page in ("README.md", "docs/install.md", "Dockerfile"):
        text = (REPOSITORY / page).read_text("utf-8")
        assert re.findall(r"pip install (torch\S*)", text) == [pinned], page


def test_there_are_programs_to_run():
    assert sum(len(blocks_of(page)) for page in PAGES) > 10


def test_a_long_command_is_wrapped_between_its_words(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    command = (
        "ddrm-pyg run --backend-settings mf_ml-1m \\\n  --out runs/a-b  # or c-d\n"
    )
    tokens = [*import_module("shell").ShellWords().get_tokens(command)]
    assert "".join(text for _, text in tokens) == command
    words = [text for kind, text in tokens if str(kind) == "Token.Name"]
    assert words == command.replace("\\", "").partition("#")[0].split()
    style = (DOCS / "_static" / "tables.css").read_text("utf-8")
    assert ".highlight-bash pre { white-space: pre-wrap" in style
    assert ".highlight-bash .n {\n  display: inline-block" in style


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning_or_fastapi(tmp_path):
    pytest.importorskip("furo")  # .ci/run and CI build it with fastapi
    absent = "import sys\nsys.modules['fastapi'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(absent)
    build = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS)]
    done = subprocess.run(
        [*build, "-d", tmp_path / "trees", tmp_path / "html"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ddrm = (tmp_path / "html" / "api" / "ddrm_pyg.nn.ddrm.html").read_text("utf-8")
    assert re.search("<h1>nn.ddrm<", ddrm)
    index = (tmp_path / "html" / "searchindex.js").read_text("utf-8")
    entries = index.partition('"indexentries":')[2].partition('"objects":')[0]
    assert '"train_start":' in entries  # a search finds the class by its argument
    findings = (tmp_path / "html" / "findings.html").read_text("utf-8")
    assert '<span class="n">--num-layers</span>' in findings
    methods = (tmp_path / "html" / "methods.html").read_text("utf-8")
    assert all(f">{name}<" in methods for name in names_of("backend", "rival"))
    assert not (tmp_path / "html" / "api" / "ddrm_pyg.serving.app.html").exists()
    assert "ddrm-pyg run" in (tmp_path / "html" / "cli.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["future", "future_global"])
def test_the_page_of_results_says_what_was_measured(name):
    page = (DOCS / "future.md").read_text("utf-8")
    kept = REPOSITORY / "benchmarks" / "results" / f"{name}.json"
    for row in json.loads(kept.read_text()):
        metrics = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
        means = [sum(row["test"][m]) / len(row["test"][m]) for m in metrics]
        numbers = " | ".join(f"{mean:.4f}"[1:] for mean in means)
        assert f"{row['row'].strip()} | {numbers} |" in page.replace("**", "")


def test_the_page_of_results_says_what_backends_gained():
    page = (DOCS / "future.md").read_text("utf-8")
    kept = REPOSITORY / "benchmarks" / "results" / "backends.json"
    rows = json.loads(kept.read_text())
    assert {row["verdict"] for row in rows} == {"helps"}
    assert max(row["p_value"] for row in rows) < 1e-50
    for name, label in {"mf": "MF", "lightgcn": "LightGCN", "sgl": "SGL"}.items():
        tests = [row["test"] for row in rows if row["backend"] == name]
        means = [sum(test[m] for test in tests) / len(tests) for m in tests[0]]
        numbers = " | ".join(f"{mean:.4f}"[1:] for mean in means)
        assert f"| **{label} + DDRM** | {numbers} |" in page
