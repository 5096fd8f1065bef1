import copy
import logging
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from ddrm_pyg import testing
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.loader import Cuts
from ddrm_pyg.losses.softmax import softmax_loss
from ddrm_pyg.nn import future as module
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import (
    FutureTraining,
    HistoryMeans,
    HistoryStates,
    Past,
    start_embeddings,
)
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.training import fit

INF = math.inf


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bags(*histories, num_items=6):
    tensors = [torch.tensor(h, dtype=torch.int64) for h in histories]
    sequences = UserSequences.from_histories(tensors, num_items)
    return sequences.before(torch.arange(len(histories)))


@pytest.fixture
def item_emb():
    return torch.randn(6, 4, generator=seeded(3))


def ring(num_users=60, num_items=12, length=9, shuffled=False):
    """A world where the next item is the last one plus one, on a ring.

    The last two events of a user are held out: one for validation, one for test.
    """
    generator = seeded(5)
    begin = torch.randint(num_items, (num_users,), generator=generator)
    items = (begin.unsqueeze(1) + torch.arange(length)) % num_items
    if shuffled:
        order = torch.rand(items.shape, generator=generator).argsort(dim=1)
        items = items.gather(1, order)
    user = torch.arange(num_users).unsqueeze(1).expand_as(items)
    time = torch.arange(length).expand_as(items)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    pairs = torch.stack([user, items])
    data[EDGE].edge_index = pairs[:, :, :-2].reshape(2, -1)
    data[EDGE].edge_time = time[:, :-2].reshape(-1).clone()
    data[EDGE].val_edge_label_index = pairs[:, :, -2]
    data[EDGE].test_edge_label_index = pairs[:, :, -1]
    return data


def tables(data, dim=8, seed=7):
    sizes = data["user"].num_nodes, data["item"].num_nodes
    generator = seeded(seed)
    return Embeddings(*(torch.randn(n, dim, generator=generator) for n in sizes))


def recommender(data, *, dim=8, seed=0, train_start="past", plug_in=None, **options):
    torch.manual_seed(seed)
    plug_in = {"num_start_steps": 0, "dropout": 0.0, "activation": "tanh"} | (
        plug_in or {}
    )
    ddrm = DDRM(dim, (32,), denoise_user=False, **plug_in)
    options = {"edge_time": data[EDGE].edge_time, **options}
    return DDRMRecommender(ddrm, tables(data), train_start=train_start, **options)


# starts


def test_means_at_every_scale_by_hand(item_emb):
    source = HistoryMeans(item_emb, scales=(2.0, INF))
    out = source(bags([4, 0, 1], [5]))
    old = item_emb[4] * math.exp(-1) + item_emb[0] * math.exp(-0.5) + item_emb[1]
    alike = item_emb[4] + item_emb[0] + item_emb[1]
    expected = torch.stack([F.normalize(v, dim=0) for v in (old, alike)])
    torch.testing.assert_close(out[0], expected)
    torch.testing.assert_close(out[1], F.normalize(item_emb[5], dim=0).expand(2, -1))


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -2.0), (float("nan"),)])
def test_scales_must_be_positive(item_emb, scales):
    with pytest.raises(ValueError, match="'scales' must be positive"):
        HistoryMeans(item_emb, scales)


class LastItem(nn.Module):
    """Its state is the vector of the last item, twice as long."""

    max_length = 2

    def __init__(self, item_emb):
        super().__init__()
        self.item_emb = nn.Parameter(item_emb)

    def encode(self, item):
        assert item.size(1) == self.max_length
        return 2 * self.item_emb[item[:, -1]]


def test_states_of_a_model_that_stays_as_it_is(item_emb):
    model = LastItem(item_emb.clone())
    source = HistoryStates(model, item_emb)
    out = source(bags([4, 0, 1], [], [5]))
    expected = F.normalize(item_emb[[1, 5]], dim=-1)
    torch.testing.assert_close(out[[0, 2], 0], expected)
    assert not out[1].any()
    assert not out.requires_grad
    assert not list(source.parameters())
    assert not source.state_dict()


def test_an_empty_history_has_the_mean_of_all_interactions(item_emb):
    past = Past([HistoryMeans(item_emb, (1.0, INF))], 4)
    past.count(InteractionGraph(torch.tensor([[0, 1, 1], [2, 2, 3]]), 2, 6))
    start, _ = past(bags([], [2]))
    mean = F.normalize(2 * item_emb[2] + item_emb[3], dim=0)
    torch.testing.assert_close(start[0], mean)
    torch.testing.assert_close(start[1], F.normalize(item_emb[2], dim=0))


def test_a_history_of_items_without_vectors_is_as_an_empty_one(item_emb):
    tables = item_emb.clone(), torch.randn(6, 2, generator=seeded(4))
    for table in tables:
        table[4:] = 0  # train does not have them
    past = Past([HistoryMeans(table, (1.0, INF)) for table in tables], 6)
    past.count(InteractionGraph(torch.tensor([[0, 1, 1], [2, 2, 3]]), 2, 6))
    start, cond = past(bags([], [5, 4], [5, 2]))
    assert torch.equal(start[1], start[0])
    assert torch.equal(cond[1], cond[0])
    alone = F.normalize(torch.stack([table[2, :2] for table in tables]), dim=1)
    torch.testing.assert_close(
        F.normalize(torch.stack([start[2, :2], start[2, 4:]]), dim=1), alone
    )


def test_scores_of_two_tables_by_hand(item_emb):
    other = torch.randn(6, 2, generator=seeded(4))
    past = Past([HistoryMeans(item_emb), HistoryMeans(other, (INF,))], 6)
    past.count(InteractionGraph(torch.tensor([[0, 1], [2, 2]]), 2, 6))
    with torch.no_grad():
        past.log_scale.copy_(torch.tensor([0.5, -1.0]))
        past.popularity_weight.fill_(0.3)
    vector = torch.randn(3, 6, generator=seeded(8))
    one, two = (table / table.norm(dim=1).mean() for table in (item_emb, other))
    expected = math.exp(0.5) * vector[:, :4] @ one.T
    expected = expected + math.exp(-1) * vector[:, 4:] @ two.T
    expected[:, 2] += 0.3 * math.log(3)
    torch.testing.assert_close(past.logits(vector), expected)
    item = torch.tensor([2, 0, 5])
    torch.testing.assert_close(past.logits(vector, item), expected[:, item])
    pairs = past.pair_logits(vector, item)
    torch.testing.assert_close(pairs, expected[torch.arange(3), item])


def test_tables_must_fit(item_emb):
    with pytest.raises(ValueError, match=r"together, 4 \+ 2 \(got 4\)"):
        Past([HistoryMeans(item_emb), HistoryMeans(item_emb[:, :2])], 4)
    with pytest.raises(ValueError, match=r"as many rows \(got \[6, 5\]\)"):
        Past([HistoryMeans(item_emb), HistoryMeans(item_emb[:5])], 8)


# the loss


class Guide(nn.Module):
    """Restores the condition."""

    def forward(self, x_t, cond, t):
        return cond


def test_the_loss_by_hand():
    data = ring(num_users=3)
    graph = InteractionGraph.from_data(data)
    plug_in = {"denoiser": Guide(), "reconstruction_weight": 0.25, "gamma": 0.5}
    model = recommender(data, window=2, plug_in=plug_in).eval()
    future = model.future
    future.past.count(graph)
    batch = Cuts(torch.tensor([2, 0]), torch.tensor([6, 3]))
    loss = future.loss(model.ddrm, batch, graph, generator=seeded())
    sequences = future.sequences(graph)
    _, cond = future.past(sequences.before(*batch))
    logits = future.past.logits(cond)
    expected = []
    for row, (user, cut) in enumerate(zip(*(x.tolist() for x in batch), strict=True)):
        begin = sequences.pointer[user]
        last = min(cut + 2, int(sequences.length[user]))
        pairs = []
        for item in sequences.item[begin + cut : begin + last]:
            ranked = softmax_loss(logits, torch.tensor([row]), item.view(1))
            away = (cond[row] - future.past.item_table[item]).square().mean()
            weight = logits[row, item].sigmoid() ** 0.5
            pairs.append(weight * (0.75 * ranked[0] + 0.25 * away))
        expected.append(torch.stack(pairs).mean())
    torch.testing.assert_close(loss, torch.stack(expected))
    assert len(expected) == 2  # of one and of two targets


def test_what_follows_a_cut_never_reaches_the_start():
    data = ring()
    graph = InteractionGraph.from_data(data)
    later = data[EDGE].edge_time >= 4
    changed = data.clone()
    changed[EDGE].edge_index = data[EDGE].edge_index.clone()
    kept = changed[EDGE].edge_index[1, later]
    changed[EDGE].edge_index[1, later] = kept.view(-1, 3).flip(1).flatten()
    users = torch.arange(graph.num_users)
    batch = Cuts(users, torch.full_like(users, 4))
    reads = []
    for version in (data, changed):
        model = recommender(version)
        graph = InteractionGraph.from_data(version)
        future = model.future
        reads.append(future.past(future.sequences(graph).before(*batch)))
        after = future.sequences(graph).after(*batch, 3).item
        reads[-1] = (*reads[-1], after)
    for before, same in zip(reads[0][:2], reads[1][:2], strict=True):
        assert torch.equal(before, same)
    assert not torch.equal(reads[0][2], reads[1][2])


def test_held_out_pairs_are_never_read():
    data = ring()
    bare = data.clone()
    del bare[EDGE]["val_edge_label_index"], bare[EDGE]["test_edge_label_index"]
    weights = []
    for version in (data, bare):
        model = recommender(version)
        graph = InteractionGraph.from_data(version)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        generator = seeded()
        for batch in model.batches(graph, batch_size=16, generator=generator):
            for loss in model.losses(batch, graph, generator=generator):
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize(
    "options",
    [{}, {"num_sampled": 8}, {"loss": "bpr"}, {"plug_in": {"residual": True}}],
    ids=["softmax", "sampled", "bpr", "residual"],
)
def test_it_learns_what_comes_next(options):
    data = ring()
    model = recommender(data, window=1, **options)
    fit(
        model, data, epochs=40, batch_size=16, lr=1e-2, metric="recall@1", eval_every=10
    )
    scorer = model.scorer(InteractionGraph.from_data(data))
    metrics = evaluate(scorer, data, split="val", k=(1,))
    assert metrics["recall@1"] > 0.9


def test_without_order_there_is_nothing_to_learn():
    data = ring(shuffled=True)
    model = recommender(data, window=1)
    fit(model, data, epochs=20, batch_size=16, lr=1e-2, metric="recall@1")
    scorer = model.scorer(InteractionGraph.from_data(data))
    metrics = evaluate(scorer, data, split="val", k=(1,))
    assert metrics["recall@1"] < 0.5


# the recommender


def test_a_new_user_gets_what_a_user_of_the_same_history_has():
    data = ring()
    model = recommender(data)
    fit(model, data, epochs=2, batch_size=16)
    graph = InteractionGraph.from_data(data)
    of_train = model.scorer(graph)
    sequences = model.future.sequences(graph)
    histories = [sequences.item[sequences.pointer[u] :][:7] for u in (3, 0)]
    new = model.generate([*histories, torch.tensor([1])])
    alone = model.generate(histories[:1])
    torch.testing.assert_close(new.user[:2], of_train.user[[3, 0]])
    torch.testing.assert_close(new.user[:1], alone.user)
    assert torch.equal(new.item, of_train.item)
    reverse = model.generate([histories[0].flip(0)])
    assert not torch.allclose(reverse.user, alone.user)


def test_chunks_change_nothing(monkeypatch):
    data = ring()
    model = recommender(data)
    graph = InteractionGraph.from_data(data)
    model.future.past.count(graph)
    whole = model.scorer(graph)
    monkeypatch.setattr(module, "_CHUNK", 7)
    torch.testing.assert_close(model.scorer(graph).user, whole.user)


def test_a_second_table_and_a_model_stand_beside():
    data = ring()
    other = torch.randn(12, 5, generator=seeded(9))
    states = LastItem(torch.randn(12, 3, generator=seeded(10)))
    before = copy.deepcopy(states.state_dict())
    beside = [HistoryMeans(other), HistoryStates(states, states.item_emb.detach())]
    model = recommender(data, dim=16, beside=beside)
    fit(model, data, epochs=2, batch_size=16)
    assert model.scorer(InteractionGraph.from_data(data)).item.size(1) == 17
    assert torch.equal(states.item_emb, before["item_emb"])


def test_it_is_a_recommender():
    data = ring()
    data["user"].num_nodes += 1  # one without items
    testing.check_recommender(recommender(data), data)


def test_users_with_short_histories_are_counted_once_and_served(caplog):
    data = ring()
    data["user"].num_nodes += 2  # one without items, and one with two
    short = torch.tensor([[data["user"].num_nodes - 1] * 2, [0, 1]])
    data[EDGE].edge_index = torch.cat([data[EDGE].edge_index, short], dim=1)
    time = data[EDGE].edge_time
    data[EDGE].edge_time = torch.cat([time, time[-2:] + 1])
    model = recommender(data)
    with caplog.at_level(logging.INFO, "ddrm_pyg"):
        fit(model, data, epochs=2, batch_size=16)
        emb = model.scorer(InteractionGraph.from_data(data))
    count = data["user"].num_nodes
    line = f"2 of {count} users have fewer than 3 train items: DDRM is not trained on"
    assert caplog.text.count(line) == 1
    assert emb.user[-2:].abs().sum(1).gt(0).all()


def test_a_resumed_training_has_the_same_bits(tmp_path):
    data = ring()
    options = {"batch_size": 16, "eval_every": 1, "patience": 99}
    straight = recommender(data, plug_in={"dropout": 0.3})
    fit(straight, data, epochs=4, **options)
    for epochs in (2, 4):
        resumed = recommender(data, plug_in={"dropout": 0.3})
        fit(resumed, data, epochs=epochs, checkpoint=tmp_path / "c.pt", **options)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_other_scales_are_another_run(tmp_path):
    data = ring()
    fit(recommender(data), data, epochs=1, checkpoint=tmp_path / "c.pt")
    other = recommender(data, scales=(1.0, 2.0, 5.0, 10.0, INF))
    with pytest.raises(ValueError, match="another run"):
        fit(other, data, epochs=2, checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_time": None}, "'edge_time' must be given with train_start='past'"),
        ({"window": 0}, r"'window' must be >= 1 \(got 0\)"),
        ({"cuts": 0}, r"'cuts' must be >= 1 \(got 0\)"),
        ({"num_sampled": 0}, r"'num_sampled' must be >= 1 \(got 0\)"),
        ({"scales": (0.0,)}, "'scales' must be positive"),
        ({"loss": "softmaxx"}, r"'loss' must be one of .*did you mean 'softmax'"),
        ({"train_start": "pasta"}, r"'train_start' must be one of"),
        ({"dim": 9}, r"together, 8 \(got 9\)"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        recommender(ring(), **options)


def test_only_a_past_generates_from_histories():
    data = ring()
    model = recommender(data, train_start="item")
    with pytest.raises(ValueError, match=r"'train_start' must be 'past'"):
        model.generate([torch.tensor([0])])


def test_large_catalogues_are_sampled_by_default(monkeypatch, item_emb):
    past, time = Past([HistoryMeans(item_emb)], 4), torch.arange(3)
    assert FutureTraining(past, time).num_sampled is None
    monkeypatch.setattr(module, "_ALL_ITEMS", 5)
    assert FutureTraining(past, time).num_sampled == 8192


def test_starts_rank_and_a_history_that_says_nothing_has_the_mean_item(item_emb):
    item_emb = item_emb.clone()
    item_emb[4] = 0  # train does not have it
    empty = torch.empty(0, dtype=torch.int64)
    histories = [torch.tensor([2, 5]), empty, torch.tensor([4])]
    sequences = UserSequences.from_histories(histories, 6)
    mean = torch.arange(4.0)
    emb = start_embeddings(HistoryMeans(item_emb, [1.0]), sequences, mean)
    by_hand = item_emb[2] * math.exp(-1) + item_emb[5]
    torch.testing.assert_close(emb.user[0], by_hand / by_hand.norm())
    assert torch.equal(emb.user[1:], torch.stack([mean, mean]))
    assert torch.equal(emb.item, item_emb)
