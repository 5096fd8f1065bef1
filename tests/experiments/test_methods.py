"""Records of methods, the names that they give kept results, and new ones."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ddrm_pyg.cli import main
from ddrm_pyg.experiments.arguments import Arguments, resolve
from ddrm_pyg.experiments.cells import Cell, chain, folder_name, rows_for
from ddrm_pyg.experiments.compare import compare
from ddrm_pyg.experiments.memory import Sizes, to_run
from ddrm_pyg.experiments.methods import (
    FIRST_LOOK,
    FIT,
    METHODS,
    Method,
    cleaners,
    denoisers_of,
    each_once,
    find,
    names_of,
    register,
    table_names,
    yardsticks,
)
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import DATA_SETS, FOLDER, cell_for
from ddrm_pyg.nn.models import MF

GOLDEN = json.loads((Path(__file__).parent / "golden_cells.json").read_text())
"""Folder names, with the memory that trainings take, of what was run before."""

ROOT = Path(__file__).parents[2]

SIZES = Sizes(5949, 3494, 618297)

RENAMED = """Kept results of '{}' would get another name.
If an argument was added to a class or to fit: add it to 'later' of the method's record
(or of FIT) in ddrm_pyg/experiments/methods.py, with the value that does what was done
before, as in later={{'{}': ...}}; if the data or the runner give it, add it to 'given'.
If a default was changed: leave the default, and write the new value into settings/."""


def surprise(cell: Cell) -> str:
    """A setting that was not there when the golden names were made, if there is one."""
    settings = GOLDEN["settings"][cell.method]
    new = [*({*cell.model, *cell.fit, *cell.clean} - {*settings}), "an argument"]
    return RENAMED.format(cell.method, new[0])


def golden_tables() -> list[str]:
    return [name for name in GOLDEN if name.partition("|")[2] in ("None", *DATA_SETS)]


@pytest.mark.parametrize("key", golden_tables())
def test_kept_results_keep_their_names_and_estimates(key):
    name, _, variant = key.partition("|")
    cell = cell_for(name, seed=1, variant=None if variant == "None" else variant)
    folder, estimates = GOLDEN[key]
    assert folder_name(cell, "x") == folder, surprise(cell)
    assert [int(to_run(link, SIZES).train) for link in chain(cell)] == estimates


@pytest.mark.parametrize("backend", ["mf", "lightgcn", "sgl"])
def test_kept_rows_of_the_main_job_keep_their_names(backend):
    base, last = cell_for(backend), cell_for(f"{backend}+ddrm")
    for name, cell in rows_for(base, last).items():
        golden = GOLDEN[f"rows|{backend}|{name}"]
        assert [folder_name(cell, "y")] == golden, surprise(cell)
    steps = {
        "prop": Cell("propagated", model={"num_layers": 2}, base=base),
        "resampled": Cell("resampled", 0, {"num_inference_steps": 2}, base=last),
    }
    for name, cell in steps.items():
        assert [folder_name(cell, "z")] == GOLDEN[f"{name}|{backend}"], surprise(cell)


def test_kept_embeddings_keep_their_name():
    model = {"path": "a", "sha256": "b", "num_layers": 1, "combine": "mean"}
    assert [folder_name(Cell("embeddings", model=model), "q")] == GOLDEN["emb"]


def test_an_argument_added_without_thinking_is_told_what_to_write(monkeypatch):
    class Grown(MF):
        def __init__(self, num_users, num_items, *, twist=3, **options):
            super().__init__(num_users, num_items, **options)

    record = METHODS["mf"]
    careless = replace(record, model=replace(record.model, of=Grown))
    monkeypatch.setitem(METHODS, "mf", careless)
    with pytest.raises(AssertionError, match=r"later=\{'twist': \.\.\.\}"):
        test_kept_results_keep_their_names_and_estimates("mf|None")
    careful = replace(record, model=replace(record.model, of=Grown, later={"twist": 3}))
    monkeypatch.setitem(METHODS, "mf", careful)
    test_kept_results_keep_their_names_and_estimates("mf|None")


@pytest.mark.parametrize("name", METHODS)
def test_a_record_names_what_there_is(name):
    method = METHODS[name]
    assert method.name == name
    assert method.about
    for reference in (method.run, method.clean, method.model.of, method.model.then):
        assert reference is None or callable(resolve(reference))
    if method.run is None:
        assert method.clean is not None
    if method.base is not None and method.role == "rival":
        assert METHODS[method.base].role == "backend"
    assert not set(method.model.later) - set(method.model.defaults())


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.trained]
)
def test_what_is_trained_has_a_memory_figure_and_settings(name):
    method = METHODS[name]
    assert method.held is not None
    owner = method.cleaner or method
    has_settings = (FOLDER / f"{owner.name}.json").is_file()
    assert has_settings or owner.role == "step"


def test_a_cleaned_backend_is_derived_from_two_records():
    both = METHODS["lightgcn+deca"]
    backend, deca = METHODS["lightgcn"], METHODS["deca"]
    assert both.cleaner is deca
    assert (both.model, both.held, both.trained) == (backend.model, backend.held, True)
    assert (backend.models, both.models) == (1, deca.models)
    assert (both.base, METHODS["lightgcn+deca-p"].base) == (None, "lightgcn+bce")


def test_names_by_role():
    assert yardsticks() == ("popularity", "item_knn", "ease")
    assert yardsticks(order_aware=True) == ("item_knn+recency", "ease+recency")
    assert {"mf", "lightgcn", "sgl"} <= {*names_of("backend")}
    assert cleaners() == ("t-ce", "r-ce", "deca", "deca-p", "wbpr")
    assert denoisers_of("mf") == ("ddrm", *cleaners())
    assert {"mf+ddrm", "sgl+wbpr", "diffrec"} <= {*table_names()}
    once = each_once()
    assert len(once) == len({*once})
    assert {*once} <= {*table_names()}
    added = {name.rpartition("+")[2] for name in once if name not in METHODS}
    assert added == {"ddrm"}
    assert {f"{b}+ddrm" for b in ("svd", "sasrec", "lightgcn")} <= {*table_names()}


def test_a_first_look_holds_backends_what_denoises_one_and_rivals():
    assert {*FIRST_LOOK} < {*each_once()}
    backends = {*names_of("backend")} & {*FIRST_LOOK}
    assert {"lightgcn", "svd"} <= backends
    added = {name for name in FIRST_LOOK if name not in METHODS}
    assert {name.partition("+")[0] for name in added} <= backends  # trained once
    assert {*names_of("rival")} & {*FIRST_LOOK}


def test_what_reads_the_order_of_interactions_says_so():
    aware = {name for name, method in METHODS.items() if method.order_aware}
    yardsticks_and_encoder = {"item_knn+recency", "ease+recency", "sasrec"}
    assert aware == {
        *yardsticks_and_encoder,
        *("tdiffrec", "ltdiffrec", "recent_mean"),
    }


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"got 'lightgc'; did you mean 'lightgcn'"):
        find("lightgc")


class Doubled(MF):
    """A user's own backend."""

    def __init__(self, num_users, num_items, embedding_dim=4, *, twist=2.0, **options):
        super().__init__(num_users, num_items, embedding_dim, **options)
        self.twist = twist


MINE = Method(
    name="mine",
    role="backend",
    about="a user's own backend",
    run="ddrm_pyg.experiments.work:train",
    model=Arguments(Doubled, inputs=("num_users", "num_items")),
    trained=True,
    pairwise=True,
)


def test_a_users_own_model_joins_by_one_call(registry, data, tmp_path):
    register(MINE)
    cell = cell_for("mine", seed=3, epochs=2)
    assert cell.model["twist"] == 2.0
    assert cell.fit.keys() == FIT.defaults().keys() - FIT.later.keys()
    assert {"mine", "mine+ddrm", "mine+t-ce"} <= {*table_names()}
    assert METHODS["mine+deca"].cleaner is METHODS["deca"]
    assert to_run(cell, Sizes(1000, 1000, 1000)).train > 0
    runner = Runner(data, tmp_path, progress=False)
    small = {"hidden_dims": [4], "num_train_timesteps": 2}
    ddrm = cell_for("mine+ddrm", seed=3, epochs=2, changes=small)
    rows = compare(runner, {"mine": [cell], "mine+ddrm": [ddrm]})
    assert [row.name for row in rows] == [*yardsticks(), "mine", "mine+ddrm"]


def test_the_steps_of_contributing_add_a_method(registry, capsys, tmp_path):
    """The program of "Add a method", as it stands there, and a table with its model."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## Add a method")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(program, {"__name__": "mine"})
    words = ["compare", "--methods", "mine,mine+t-ce", "--epochs", "1", "--json"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    names = [row["name"] for row in rows if not row["order_aware"]]
    assert names[-2:] == ["mine", "mine+t-ce"]


def test_a_name_is_taken_once(registry):
    with pytest.raises(ValueError, match=r"'name' must be a new one \(got 'mf'\)"):
        register(replace(MINE, name="mf"))
