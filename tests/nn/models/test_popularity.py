import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import Popularity
from ddrm_pyg.typing import HasScorer, Scorer


def test_scores_are_the_train_counts_for_everyone(data):
    scorer = Popularity().scorer(InteractionGraph.from_data(data))
    assert scorer.scores(torch.tensor([2, 0])).tolist() == [[1, 1, 1, 0]] * 2


@given(st.from_type(InteractionGraph))
def test_scores_count_every_interaction(graph):
    items = graph.edge_index[1].tolist()
    expected = [items.count(item) for item in range(graph.num_items)]
    scores = Popularity().scorer(graph).scores(torch.arange(graph.num_users))
    assert scores.tolist() == [expected] * graph.num_users


def test_rows_may_be_masked_in_place(path_graph):
    scorer = Popularity().scorer(path_graph)
    scores = scorer.scores(torch.tensor([0, 1]))
    scores[0, 1] = -torch.inf
    assert scores.tolist() == [[1, -torch.inf], [1, 2]]
    assert scorer.scores(torch.tensor([0])).tolist() == [[1, 2]]


def test_is_what_the_protocols_ask(path_graph):
    assert isinstance(Popularity(), HasScorer)
    assert isinstance(Popularity().scorer(path_graph), Scorer)
    assert repr(Popularity()) == "Popularity()"
