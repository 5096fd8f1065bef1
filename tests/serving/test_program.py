"""Programs list what the package lists, for every size."""

from __future__ import annotations

import pytest
import torch

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import HistoryStates
from ddrm_pyg.nn.models import SASRec
from ddrm_pyg.ranking import recommend
from ddrm_pyg.serving.program import (
    ENCODE,
    RECOMMEND,
    MeanEncode,
    PastEncode,
    Recommend,
    trace,
)


def test_lists_by_hand():
    item_emb = torch.tensor([[2.0, 0], [1, 0], [0, 1], [3, 0]])
    program = Recommend(MeanEncode(None, item_emb, torch.tensor([0.0, 1.0])), 3)
    pad = 4
    history = torch.tensor([[1, pad], [pad, pad], [0, 3]])
    exclude = torch.tensor([[3], [pad], [1]])
    score, item = program(history, exclude, item_emb)
    inf = torch.inf
    # [1, 0] ranks 3, 0, 1, 2; the mean item ranks 2 first; [2.5, 0] has 2 left
    assert item[0].tolist() == [0, 2, pad]
    assert score[0].tolist() == [2, 0, -inf]
    assert (item[1, 0], score[1, 0]) == (2, 1)
    assert item[2].tolist() == [2, pad, pad]
    assert score[2].tolist() == [0, -inf, -inf]


def test_a_history_of_items_without_vectors_starts_from_the_mean_item():
    item_emb = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    graph = InteractionGraph(torch.tensor([[0, 1], [0, 1]]), 2, 3)
    history = InteractionGraph(torch.tensor([[0, 1, 1], [2, 2, 0]]), 2, 3)
    encode = MeanEncode(None, item_emb, graph.mean_item(item_emb))
    mask = torch.tensor([[True, False], [True, True]])
    vectors = encode(item_emb[torch.tensor([[2, 0], [2, 0]])], mask)
    assert torch.equal(vectors, graph.history_mean(item_emb, history=history))


def test_a_past_of_items_without_vectors_is_as_an_empty_one():
    torch.manual_seed(2)
    item_emb = torch.randn(6, 4)
    item_emb[4:] = 0  # train does not have them
    ddrm = DDRM(4, (8,), num_start_steps=0, denoise_user=False)
    time = torch.arange(3)
    past = DDRMRecommender(
        ddrm, (torch.randn(2, 4), item_emb), train_start="past", edge_time=time
    )
    past.future.past.count(InteractionGraph(torch.tensor([[0, 1, 1], [2, 2, 3]]), 2, 6))
    encode = PastEncode(past.eval())
    history = torch.tensor([[5, 6], [4, 5], [6, 6], [5, 2]])
    vectors = encode(encode.item_emb[history.clamp(max=5)], history < 6)
    expected = past.generate([row[row < 6] for row in history])
    torch.testing.assert_close(vectors, expected.user)
    assert torch.equal(vectors[0], vectors[2])


@pytest.mark.parametrize("options", [None, {}, {"num_start_steps": 0}])
def test_lists_are_those_of_the_package(options, histories):
    torch.manual_seed(3)
    num_items, item_emb = 300, torch.randn(300, 8)
    ddrm = None
    if options is not None:
        ddrm = DDRM(8, (16,), num_train_timesteps=5, **options).eval()
    history = histories(300, 12, num_items)
    program = Recommend(MeanEncode(ddrm, item_emb, item_emb.mean(0)), 10).eval()
    score, item = program(history, torch.full((300, 1), num_items), item_emb)
    row, place = (history < num_items).nonzero().T
    pairs = torch.stack([row, history[row, place]])
    graph = InteractionGraph(pairs, 300, num_items)
    ideal = graph.history_mean(item_emb, fallback=item_emb.mean(0))
    if ddrm is not None:
        ideal = ddrm.generate(ideal, noise=torch.zeros_like(ideal))
    expected = recommend((ideal, item_emb), torch.arange(300), k=10, exclude=graph)
    torch.testing.assert_close(score, expected[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(item, expected[1])


def means():
    torch.manual_seed(0)
    ddrm = DDRM(8, (16,), num_train_timesteps=5)
    return MeanEncode(ddrm, torch.randn(50, 8), torch.randn(8))


@pytest.fixture(scope="module", params=["means", "past"])
def traced(request, past):
    encode = means() if request.param == "means" else PastEncode(past)
    return trace(encode, 5), Recommend(encode, 5).eval()


@pytest.mark.parametrize("size", [1, 2, 7, 300])
@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_traced_programs_take_any_size(traced, histories, size, length):
    programs, eager = traced
    item_emb = torch.randn(length + 5, eager.encode.item_emb.size(1))
    inputs = (
        histories(size, length, length + 5),
        histories(size, 2, length + 5, seed=1),
        item_emb,
    )
    score, item = programs[RECOMMEND].module()(*inputs)
    expected = eager(*inputs)
    torch.testing.assert_close(score, expected[0])
    assert torch.equal(item, expected[1])
    vectors = torch.randn(size, length, item_emb.size(1)), inputs[0] < length
    torch.testing.assert_close(
        programs[ENCODE].module()(*vectors), eager.encode(*vectors)
    )


@pytest.mark.parametrize("padding", ["behind", "in front", "between"])
def test_vectors_are_those_of_the_recommender(past, padding):
    encode = PastEncode(past)
    places = {"behind": [0, 1, 2], "in front": [2, 3, 4], "between": [0, 2, 4]}
    history = torch.tensor([[7, 3, 9], [3, 9, 7], [1, 2, 4]])
    rows = torch.full((3, 5), 60)
    rows[:, places[padding]] = history
    vectors = encode.item_emb[rows.clamp(max=59)]
    expected = past.generate(list(history))
    torch.testing.assert_close(encode(vectors, rows < 60), expected.user)
    assert torch.equal(encode.item_emb, expected.item)


def test_what_a_program_cannot_read_is_refused(past):
    emb = past.embeddings
    published = DDRMRecommender(DDRM(8, (16,)), emb)
    with pytest.raises(ValueError, match="'train_start' must be 'past'"):
        PastEncode(published)
    states = HistoryStates(SASRec(60, 4), torch.randn(60, 4))
    options = {"train_start": "past", "edge_time": torch.arange(3), "beside": [states]}
    with pytest.raises(ValueError, match=r"alone \(got HistoryStates\)"):
        PastEncode(DDRMRecommender(DDRM(12, (16,)), emb, **options))
    with pytest.raises(ValueError, match=r"'mean_item' must be \[3\] \(got \[4\]\)"):
        MeanEncode(None, torch.eye(4, 3), torch.zeros(4))


def test_nothing_is_drawn_in_a_program(traced):
    """The trap: an export that draws has lost the seed, and says nothing."""
    for program in traced[0].values():
        assert not any("rand" in str(node.target) for node in program.graph.nodes)
        assert not any(p.requires_grad for p in program.parameters())


def test_tracing_changes_no_model():
    ddrm = DDRM(8, (16,), num_train_timesteps=5).train()
    trace(MeanEncode(ddrm, torch.zeros(1, 8), torch.zeros(8)), 1)
    assert ddrm.training
    assert all(p.requires_grad for p in ddrm.parameters())


@pytest.mark.parametrize(("k", "num_items"), [(1, 1), (1, 2), (4, 4)])
def test_small_catalogues(k, num_items):
    item_emb = torch.eye(num_items, 3)
    program = trace(MeanEncode(None, item_emb, torch.zeros(3)), k)[RECOMMEND].module()
    rows = torch.full((1, 1), num_items)
    score, item = program(rows, rows, item_emb)
    assert score.tolist() == [[0.0] * k]
    assert len(set(item[0].tolist())) == k
