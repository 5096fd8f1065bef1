"""Lines have a cell per seed, with the settings that were asked for."""

from __future__ import annotations

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.paper.plans import Plan
from ddrm_pyg.experiments.stored import cell_for, load_settings


def test_a_cell_per_seed_is_that_of_compare():
    plan = Plan("ml-1m", (3, 4))
    expected = tuple(
        cell_for("lightgcn+ddrm", seed=seed, variant="ml-1m") for seed in (3, 4)
    )
    assert plan.line("lightgcn+ddrm").cells == expected
    assert plan.cells("ease") == (Cell("ease"),)
    assert Plan(seeds=(0,), epochs=2).cells("mf")[0].fit["epochs"] == 2


def test_a_change_of_ddrm_leaves_its_backend():
    plan = Plan("ml-1m", (0, 1))
    line = plan.changed("mf", "items only", denoise_user=False)
    assert (line.name, line.rival) == ("mf+ddrm items only", "mf")
    for changed, published in zip(line.cells, plan.cells("mf+ddrm"), strict=True):
        assert changed.model == {**published.model, "denoise_user": False}
        assert (changed.base, changed.fit) == (published.base, published.fit)


def test_ddrm_may_have_other_settings():
    plan = Plan("ml-1m", (0, 1), ddrm_settings="ddrm_quick")
    line, published = plan.line("mf+ddrm"), Plan("ml-1m", (0, 1)).line("mf+ddrm")
    stored = load_settings("ddrm_quick", "ddrm")
    assert [cell.seed for cell in line.cells] == [0, 1]
    for cell, other in zip(line.cells, published.cells, strict=True):
        assert cell.model == {**other.model, **stored["model"]}
        assert cell.fit == {**other.fit, **stored["fit"]}
        assert cell.model["gamma"] == other.model["gamma"] == 1
        assert cell.model["hidden_dims"] != other.model["hidden_dims"]
        assert cell.base == other.base
    assert line.about == f"{stored['about']}. Checked: nothing yet"
    assert plan.line("mf+r-ce") == Plan("ml-1m", (0, 1)).line("mf+r-ce")


def test_lines_tell_where_their_settings_come_from():
    plan = Plan("ml-1m", (0,))
    told = load_settings("deca_mf_ml-1m", "deca")
    said = f"{told['about']}. Checked: {told['checked']}"
    assert plan.line("mf+deca").about == said
    assert plan.changed("mf", "gate").about == plan.line("mf+ddrm").about
    alone = load_settings("mf", "mf")["about"]
    assert Plan(None, (0,)).line("mf").about == f"{alone}. Checked: nothing yet"
    assert plan.line("ease").about == ""
