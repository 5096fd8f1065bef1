"""Tables and figures have the rows of the paper, and what they must be beside."""

from __future__ import annotations

import pytest
import torch

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import sources
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import METHODS
from ddrm_pyg.experiments.settings import cell_for, load_settings
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.paper.outline import (
    AS_IS,
    LIKED,
    NOISE_RATIOS,
    SWEEPS,
    TARGETS,
    Condition,
    Plan,
    Request,
    arrange,
    clean_source,
    has_labels,
    keep_liked_validation,
    pick,
)

ML_1M = Plan("ml-1m", (0, 1))


def names(blocks):
    return [line.name for block in blocks for line in block.lines]


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize("variant", ["ml-1m", "yelp", "amazon-book", None])
def test_every_cell_can_be_run(what, variant):
    for block in arrange(what, Plan(variant, (0, 1))):
        places = [(line.name, line.at) for line in block.lines]
        assert len(set(places)) == len(places)
        for line in block.lines:
            assert line.rival is None or line.rival in names([block])
            for cell in line.cells:
                assert cell.method in METHODS
                if cell.method == "ddrm":
                    METHODS["ddrm"].model.example(cell.model)


def test_table2_is_the_papers_with_its_yardsticks():
    published, liked = arrange("table2", ML_1M)
    expected = [
        *("popularity", "item_knn", "ease"),
        *("cdae", "adagcl", "multivae", "diffrec"),
        *("mf", "mf+t-ce", "mf+r-ce", "mf+deca", "mf+ddrm"),
    ]
    assert [line.name for line in published.lines[:12]] == expected
    assert names([published])[12:17] == [
        "mf best depth",
        "mf history mean",
        "mf+ddrm one pass",
        "mf 4 layers",
        "mf 4 layers+ddrm",
    ]
    assert {"lightgcn+deca", "sgl+ddrm", "sgl 5 layers"} <= set(names([published]))
    # nothing selects a yardstick
    assert names([liked]) == names([published])[3:]
    assert all(line.condition == LIKED for line in liked.lines)
    assert len(arrange("table2", Plan(labelled=False))) == 1


def test_table2_starts_each_row_from_the_right_tables():
    (block, _) = arrange("table2", ML_1M)
    rows = {line.name: line for line in block.lines}
    mf = cell_for("mf", seed=1, variant="ml-1m")
    ddrm = cell_for("mf+ddrm", seed=1, variant="ml-1m")
    assert rows["mf"].cells[1] == mf
    assert rows["mf+ddrm"].cells[1] == ddrm
    assert rows["mf history mean"].cells[1] == Cell("history_mean", base=mf)
    assert rows["mf+ddrm one pass"].cells[1] == Cell("one_pass", base=ddrm)
    smoothed = rows["mf 4 layers"].cells[1]
    assert smoothed == Cell(
        "propagated", model={"num_layers": 4, "combine": "mean"}, base=mf
    )
    assert rows["mf 4 layers+ddrm"].cells[1].base == smoothed
    assert rows["mf 4 layers+ddrm"].cells[1].model == ddrm.model
    depth = rows["sgl best depth"].cells[0]
    assert depth.model["combine"] == depth.base.model.get("combine", "mean")


def test_yardsticks_then_ddrm_then_cleaning_then_the_rest():
    (block, _) = arrange("table2", ML_1M)
    turn = {line.name: line.turn for line in block.lines}
    order = ["ease", "sgl+ddrm", "mf+deca", "diffrec", "mf 4 layers"]
    assert [turn[name] for name in order] == sorted(turn[name] for name in order)
    assert len({turn[name] for name in order}) == len(order)


def test_table3_has_all_readings_of_the_transformer():
    (block,) = arrange("table3", ML_1M)
    model = {line.name: line.cells[0].model for line in block.lines}
    base = model.pop("sgl+ddrm")
    assert {
        name: {k: v for k, v in m.items() if base.get(k) != v}
        for name, m in model.items()
        if name != "sgl"
    } == {
        "sgl+ddrm transformer": {"denoiser": "transformer"},
        "sgl+ddrm gate": {
            **{"denoiser": "transformer", "attention": "gate"},
            "activation": "tanh",
            "dropout": 0.0,
        },
        "sgl+ddrm learned gate": {
            **{"denoiser": "transformer", "attention": "learned-gate"},
            "activation": "tanh",
        },
        "sgl+ddrm noise start": {"start": "noise"},
        "sgl+ddrm dynamic s": {"dynamic_scale": True},
    }


def test_figure3_draws_three_curves_over_the_noise():
    blocks = arrange("figure3", ML_1M)
    assert [block.title for block in blocks] == ["mf", "lightgcn", "sgl"]
    for line in blocks[0].lines:
        assert line.condition.noise_ratio == line.at
    curve = [line.at for line in blocks[0].lines if line.name == "mf+r-ce"]
    assert tuple(curve) == NOISE_RATIOS


def test_figures_4_and_5_take_parts_away():
    rows = {
        x.name: x.cells[0].model for b in arrange("figure4", ML_1M) for x in b.lines
    }
    assert rows["mf+ddrm reconstruction only"]["gamma"] == 0
    assert rows["sgl+ddrm reweighting only"]["reconstruction_weight"] == 0
    assert {"mf+r-ce", "sgl+r-ce"} < rows.keys()
    assert names(arrange("figure5", ML_1M)) == [
        *("mf", "mf+ddrm items only", "mf+ddrm"),
        *("sgl", "sgl+ddrm items only", "sgl+ddrm"),
    ]


def test_figure6_changes_one_argument_at_a_time():
    blocks = arrange("figure6", ML_1M)
    published = cell_for("mf+ddrm", variant="ml-1m").model
    assert [block.axis for block in blocks] == list(SWEEPS)
    for block, values in zip(blocks, SWEEPS.values(), strict=True):
        assert block.lines[0].name == "mf"
        for line, value in zip(block.lines[1:], values, strict=True):
            model = dict(line.cells[0].model)
            assert model.pop(block.axis) == line.at == value
            if block.axis == "num_train_timesteps":
                assert model.pop("num_inference_steps") == value  # n = 1 for MF
                assert model.pop("num_start_steps") == value
            assert model.items() <= published.items()


def test_inference_steps_follow_the_training_steps():
    (block, *_) = arrange("figure6", Plan("ml-1m", (0,), backends=("lightgcn",)))
    steps = [line.cells[0].model["num_inference_steps"] for line in block.lines[1:]]
    assert steps == [round(62 / 50 * t) for t in (10, 20, 30, 40, 50, 60)]


def test_passes_that_skip_do_not_follow_the_training_steps():
    plan = Plan("ml-1m", (0,), backends=("mf",), ddrm_settings="ddrm_quick")
    (block, *_) = arrange("figure6", plan)
    steps = {line.cells[0].model["num_inference_steps"] for line in block.lines[1:]}
    assert steps == {3}


def test_backends_and_rows_can_be_picked():
    plan = Plan("ml-1m", (0,), backends=("lightgcn",))
    assert names(arrange("figure5", plan))[0] == "lightgcn"
    blocks = arrange("table2", ML_1M)
    assert names(pick(blocks, ["ease", "mf+*"]))[:3] == ["ease", "mf+t-ce", "mf+r-ce"]
    assert [len(b.lines) for b in pick(blocks, ["ease"])] == [1]
    assert pick(blocks, []) == blocks


def test_what_is_unknown_is_refused():
    with pytest.raises(ValueError, match=r"one of table1.*did you mean 'table2'"):
        arrange("tabel2", ML_1M)
    with pytest.raises(ValueError, match=r"'--backends' must be of mf, .*\(got 'ease'"):
        arrange("table2", Plan(backends=("ease",)))
    with pytest.raises(ValueError, match=r"such as popularity, .*\(got 'mff'\)"):
        pick(arrange("table2", ML_1M), ["mff"])


def test_a_cell_per_seed_is_that_of_compare():
    plan = Plan("ml-1m", (3, 4))
    expected = tuple(
        cell_for("lightgcn+ddrm", seed=seed, variant="ml-1m") for seed in (3, 4)
    )
    assert plan.line("lightgcn", "ddrm").cells == expected
    assert plan.cells("ease") == (Cell("ease"),)
    assert Plan(seeds=(0,), epochs=2).cells("mf")[0].fit["epochs"] == 2


def test_a_change_of_ddrm_leaves_its_backend():
    plan = Plan("ml-1m", (0, 1))
    line = plan.changed("mf", "items only", denoise_user=False)
    assert (line.name, line.rival) == ("mf+ddrm items only", "mf")
    for changed, published in zip(line.cells, plan.cells("mf", "ddrm"), strict=True):
        assert changed.model == {**published.model, "denoise_user": False}
        assert (changed.base, changed.fit) == (published.base, published.fit)


def test_ddrm_may_have_other_settings():
    plan = Plan("ml-1m", (0, 1), ddrm_settings="ddrm_quick")
    line, published = plan.line("mf", "ddrm"), Plan("ml-1m", (0, 1)).line("mf", "ddrm")
    settings = load_settings("ddrm_quick", "ddrm")
    assert [cell.seed for cell in line.cells] == [0, 1]
    for cell, other in zip(line.cells, published.cells, strict=True):
        assert cell.model == {**other.model, **settings["model"]}
        assert cell.fit == {**other.fit, **settings["fit"]}
        assert cell.model["gamma"] == other.model["gamma"] == 1
        assert cell.model["hidden_dims"] != other.model["hidden_dims"]
        assert cell.base == other.base
    assert line.about == f"{settings['about']}. Checked: nothing yet"
    assert plan.line("mf", "r-ce") == Plan("ml-1m", (0, 1)).line("mf", "r-ce")


def test_lines_tell_where_their_settings_come_from():
    plan = Plan("ml-1m", (0,))
    settings = load_settings("deca_mf_ml-1m", "deca")
    said = f"{settings['about']}. Checked: {settings['checked']}"
    assert plan.line("mf", "deca").about == said
    assert plan.changed("mf", "gate").about == plan.line("mf", "ddrm").about
    alone = load_settings("mf", "mf")["about"]
    assert Plan(None, (0,)).line("mf").about == f"{alone}. Checked: nothing yet"
    assert plan.line("ease").about == ""


@pytest.fixture
def world(monkeypatch):
    """The data set ``synthetic``, small."""
    data = SyntheticInteractions(50, 80, 1000)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", data.clone)
    return data


def test_data_come_as_given(world):
    data, hidden = AS_IS.load(Source("synthetic"))
    assert hidden is None
    assert torch.equal(data[EDGE].edge_index, world[EDGE].edge_index)


def test_liked_validation_hides_what_it_no_longer_holds(world):
    data, hidden = LIKED.load(Source("synthetic"))
    noise = world[EDGE].val_edge_is_noise
    liked = world[EDGE].val_edge_label_index[:, ~noise]
    assert 0 < liked.size(1) < noise.numel()
    assert torch.equal(data[EDGE].val_edge_label_index, liked)
    assert not data[EDGE].val_edge_is_noise.any()
    assert torch.equal(data[EDGE].edge_index, world[EDGE].edge_index)
    both = InteractionGraph.from_data(world, splits=("train", "val"))
    assert torch.equal(hidden.edge_index, both.edge_index)


def test_random_noise_keeps_the_size_and_test(world):
    data, _ = Condition(noise_ratio=0.5).load(Source("synthetic"))
    again, _ = Condition(noise_ratio=0.5).load(Source("synthetic"))
    other = data[EDGE].edge_index != world[EDGE].edge_index
    assert data[EDGE].edge_index.shape == world[EDGE].edge_index.shape
    assert int(other.any(0).sum()) == round(other.size(1) / 2)
    assert torch.equal(data[EDGE].edge_index, again[EDGE].edge_index)
    test = world[EDGE].test_edge_label_index
    assert torch.equal(data[EDGE].test_edge_label_index, test)


def test_without_labels_there_is_no_liked_part(world):
    assert has_labels(world)
    assert not has_labels(keep_liked_validation(world))
    del world[EDGE].val_edge_is_noise
    assert not has_labels(world)
    with pytest.raises(ValueError, match="validation has no noise labels"):
        keep_liked_validation(world)


def test_names_are_told_apart():
    conditions = [AS_IS, LIKED, Condition(noise_ratio=0.0), Condition(noise_ratio=0.1)]
    assert [condition.name for condition in conditions] == [
        "noisy validation",
        "liked validation",
        "random noise 0, noisy validation",
        "random noise 0.1, noisy validation",
    ]


def test_what_random_noise_is_added_to_is_named():
    assert AS_IS.data_name(Source("ml-1m")) == "ml-1m"
    assert LIKED.data_name(Source("ml-1m")) == "ml-1m"
    noisy = Condition(noise_ratio=0.1)
    assert noisy.data_name(Source("ml-1m")) == "ml-1m-clean, random noise 0.1"
    assert noisy.base(Source("ml-1m")) == Source("ml-1m-clean")
    assert AS_IS.base(Source("ml-1m")) == Source("ml-1m")
    assert noisy.data_name(Source("synthetic")) == "synthetic, random noise 0.1"


def test_clean_data_are_found_by_name_and_beside(tmp_path):
    assert clean_source(Source("ml-1m")) == Source("ml-1m-clean")
    assert clean_source(Source("yelp-clean")) == Source("yelp-clean")
    assert clean_source(Source("synthetic")) is None
    natural = tmp_path / "natural"
    natural.mkdir()
    assert clean_source(Source(str(natural))) is None
    (tmp_path / "clean").mkdir()
    assert clean_source(Source(str(natural))) == Source(str(tmp_path / "clean"))
    (tmp_path / "mine").mkdir()
    assert clean_source(Source(str(tmp_path / "mine"))) is None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("table1", Source("ml-1m"), Plan("ml-1m")), "table1 --data ml-1m"),
        (
            Request(
                "table1",
                Source("a.csv", item="i", time=False, liked_from=0.0, split="global"),
                Plan(),
            ),
            "table1 --data a.csv --item i --no-time --liked-from 0 --split global",
        ),
        (
            Request("table2", Source("ml-1m"), Plan("yelp", (0,), 2), ("mf*", "ease")),
            "table2 --data ml-1m --rows 'mf*,ease' --settings-of yelp --epochs 2 "
            "--seeds 1",
        ),
        (
            Request(
                "figure6",
                Source("a b.csv", user="u", liked_from=4.0, ratios=(0.8, 0.1, 0.1)),
                Plan(backends=("mf", "sgl"), ddrm_settings="ddrm_quick"),
                validation="noisy",
            ),
            "figure6 --data 'a b.csv' --user u --liked-from 4 --ratios 0.8,0.1,0.1 "
            "--backends mf,sgl --ddrm-settings ddrm_quick --seeds 3 "
            "--validation noisy",
        ),
    ],
    ids=["plain", "aside", "rows", "table"],
)
def test_the_command_makes_the_same_again(request_, words):
    assert request_.command == f"ddrm-pyg reproduce {words}"


def test_validation_sets_are_picked_as_far_as_they_are_known():
    noisy, liked = (
        Request("table2", Source("ml-1m"), ML_1M, ("mf",), validation)
        for validation in ("noisy", "liked")
    )
    assert [b.lines[0].condition for b in noisy.blocks(labelled=True)] == [AS_IS]
    assert [b.lines[0].condition for b in liked.blocks(labelled=True)] == [LIKED]
    liked.check()  # as far as one can tell without the data
    with pytest.raises(ValueError, match=r"'--validation' must .*\(got 'liked'\)"):
        liked.blocks(labelled=False)
