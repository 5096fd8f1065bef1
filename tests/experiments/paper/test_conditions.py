"""Noise and validation as an experiment asks for them."""

from __future__ import annotations

import pytest
import torch

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import sources
from ddrm_pyg.experiments.paper.conditions import (
    GIVEN,
    LIKED,
    Condition,
    clean_source,
    has_labels,
    keep_liked_validation,
    paper_name,
)
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph


@pytest.fixture
def world(monkeypatch):
    """The data set ``synthetic``, small."""
    data = SyntheticInteractions(50, 80, 1000)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", data.clone)
    return data


def test_data_come_as_given(world):
    data, hidden = GIVEN.load(Source("synthetic"))
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
    conditions = [GIVEN, LIKED, Condition(noise_ratio=0.0), Condition(noise_ratio=0.1)]
    assert [condition.name for condition in conditions] == [
        "noisy validation",
        "liked validation",
        "random noise 0, noisy validation",
        "random noise 0.1, noisy validation",
    ]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("ml-1m", "ml-1m"),
        ("yelp-clean", "yelp"),
        ("somewhere/ml-1m/natural", "ml-1m"),
        ("somewhere/amazon-book", "amazon-book"),
        ("somewhere/yelpers", None),
        ("ml-1m-ours.csv", None),
        ("yelp-berlin.csv", None),
        ("clicks.csv", None),
        ("mine/yelp.csv", None),
        ("mine/ml-1m-natural.tsv", None),
        ("synthetic", None),
    ],
)
def test_data_sets_of_the_paper_are_recognised(data, name):
    assert paper_name(Source(data)) == name


def test_numbers_of_the_paper_are_of_natural_noise():
    found = [
        paper_name(Source(data), "natural")
        for data in ("ml-1m", "a/ml-1m/natural", "ml-1m-clean", "a/ml-1m/random")
    ]
    assert found == ["ml-1m", "ml-1m", None, None]


def test_what_random_noise_is_added_to_is_named():
    assert GIVEN.data_name(Source("ml-1m")) == "ml-1m"
    assert LIKED.data_name(Source("ml-1m")) == "ml-1m"
    noisy = Condition(noise_ratio=0.1)
    assert noisy.data_name(Source("ml-1m")) == "ml-1m-clean, random noise 0.1"
    assert noisy.base(Source("ml-1m")) == Source("ml-1m-clean")
    assert GIVEN.base(Source("ml-1m")) == Source("ml-1m")
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
