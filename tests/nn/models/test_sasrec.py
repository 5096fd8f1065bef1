import logging

import pytest
import torch
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.nn.models import SASRec
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.testing import check_recommender, check_scorer, checkerboard
from ddrm_pyg.training import fit
from ddrm_pyg.typing import Recommender

PAD = 9
ROWS = torch.tensor([[PAD, PAD, 3, 1], [0, 5, 2, 8], [PAD, PAD, PAD, 7]])


def make(num_items=PAD, seed=0, **options):
    torch.manual_seed(seed)
    model = SASRec(num_items, **{"embedding_dim": 8, "max_length": 6, **options})
    for parameter in model.parameters():  # norms and biases away from 1 and 0, too
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def naive_states(model, items):
    """Encode one history, one place and one head at a time; ``[L, D]``."""
    width = model.item_table.size(1)
    back = len(model.place_table) - len(items)
    states = [
        model.item_table[item] + model.place_table[back + k]
        for k, item in enumerate(items)
    ]
    for layer in model.layers:
        parts = [layer.project(layer.attention_norm(x)).split(width) for x in states]
        mixed = []
        for k, (query, _, _) in enumerate(parts):
            heads = []
            for h in range(layer.num_heads):
                size = width // layer.num_heads
                part = slice(h * size, (h + 1) * size)
                logits = [query[part] @ key[part] / size**0.5 for _, key, _ in parts]
                share = torch.stack(logits[: k + 1]).softmax(0)
                values = [value[part] for _, _, value in parts[: k + 1]]
                heads.append(sum(w * v for w, v in zip(share, values, strict=True)))
            mixed.append(torch.cat(heads))
        states = [
            x + layer.attention_out(m) for x, m in zip(states, mixed, strict=True)
        ]
        states = [x + layer.mlp(x) for x in states]
    return torch.stack([model.norm(x) for x in states])


@pytest.mark.fidelity(
    "SASRec",
    "states of histories, with the norms before the layers",
    "attention, one place and one head at a time",
    digits=5,
)
@pytest.mark.parametrize("num_heads", [1, 2])
def test_states_are_those_of_a_naive_loop(num_heads, agrees):
    model = make(num_heads=num_heads, hidden_dim=5).eval()
    for row, state in zip(ROWS, model.encode(ROWS), strict=True):
        expected = naive_states(model, row[row < PAD].tolist())[-1]
        agrees(state, expected)


@pytest.mark.fidelity(
    "SASRec",
    "the softmax over all items of every next item",
    "cross-entropy of naive states, place by place",
    digits=5,
)
def test_loss_is_the_cross_entropy_of_every_next_item(agrees):
    model = make(dropout=0.0)
    graph = InteractionGraph(
        torch.tensor([[0, 0, 0, 1, 2, 2], [3, 1, 4, 6, 8, 0]]), 3, PAD
    )
    (batch,) = model.batches(graph, batch_size=9, generator=torch.Generator())
    (loss,) = model.losses(batch, graph, generator=torch.Generator())
    expected = []  # user 1 has one item and nothing to predict
    for row in batch.item:
        items = row[row < PAD].tolist()
        logits = naive_states(model, items) @ model.item_table.T
        target = {3: [1, 4], 8: [0]}[items[0]]
        expected.append(F.cross_entropy(logits, torch.tensor(target), reduction="none"))
    agrees(loss, torch.cat(expected))
    loss.sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.cat(expected).sum().backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


def test_later_items_never_change_an_earlier_state():
    model = make().eval()
    items = torch.tensor([[1, 2, 3, 4, 5]])
    states, _ = model._states(items)
    for k in range(1, 5):
        changed = items.clone()
        changed[:, k:] = 8
        torch.testing.assert_close(model._states(changed)[0][:k], states[:k])
        assert not torch.allclose(model._states(changed)[0][k], states[k])


def test_a_state_depends_on_its_own_history_alone(monkeypatch):
    model = make().eval()
    whole = model.encode(ROWS)
    alone = torch.cat([model.encode(row.unsqueeze(0)) for row in ROWS])
    torch.testing.assert_close(alone, whole)
    wider = F.pad(ROWS, (2, 0), value=PAD)
    torch.testing.assert_close(model.encode(wider), whole)
    monkeypatch.setattr("ddrm_pyg.nn.models.sasrec._ENCODED", 2)
    torch.testing.assert_close(model.encode(ROWS), whole)
    # order counts
    assert not torch.allclose(model.encode(ROWS[1:2].flip(1)), whole[1])


def test_only_the_latest_items_count():
    model = make(max_length=2).eval()
    torch.testing.assert_close(model.encode(ROWS), model.encode(ROWS[:, -2:]))


def test_states_of_cuts_are_those_of_shorter_histories():
    model = make().train()  # inference whatever the mode
    graph = InteractionGraph(torch.tensor([[0, 1, 1, 1], [4, 0, 5, 2]]), 3, PAD)
    sequences = UserSequences.from_graph(graph)
    user, cut = torch.tensor([1, 1, 0, 1]), torch.tensor([2, 0, 1, 3])
    states = model.states(sequences, user, cut)
    rows = torch.tensor([[PAD, 0, 5], [PAD, PAD, PAD], [PAD, PAD, 4], [0, 5, 2]])
    torch.testing.assert_close(states, model.encode(rows))
    assert states[1].tolist() == [0] * 8
    torch.testing.assert_close(model.states(sequences)[[1, 0]], states[[3, 2]])


def test_users_are_read_by_time_and_without_items_by_the_mean_item():
    # user 0 took item 5 before item 3; user 1 nothing
    graph = InteractionGraph(torch.tensor([[0, 0], [3, 5]]), 2, PAD)
    model = make(edge_time=torch.tensor([7, 2]))
    emb = model.scorer(graph)
    torch.testing.assert_close(emb.user[0], model.encode(torch.tensor([[5, 3]]))[0])
    torch.testing.assert_close(emb.user[1], emb.item[[3, 5]].mean(0))
    assert torch.equal(emb.item, model.item_table)
    assert not emb.item.requires_grad
    check_scorer(emb, 2, PAD)


def test_without_times_the_order_of_the_graph_holds_and_is_said_once(caplog):
    graph = InteractionGraph(torch.tensor([[0, 0], [3, 5]]), 1, PAD)
    model = make().eval()
    with caplog.at_level(logging.WARNING, logger="ddrm_pyg"):
        emb = [model.scorer(graph) for _ in range(2)]
    torch.testing.assert_close(emb[0].user[0], model.encode(torch.tensor([[3, 5]]))[0])
    assert caplog.text.count("no 'edge_time': the graph's order stands in") == 1


def walks(shuffled=False, num_users=200, num_items=40, length=10):
    """A world in which the last item tells the next one.

    Users walk over a fixed random cycle of all items, start anew at any other item in
    every third step or so, and never in the last two. So any history has several items
    whose follower is missing; which of them is the last, only the order tells.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(high):
        return int(torch.randint(high, (), generator=generator))

    cycle = torch.randperm(num_items, generator=generator).tolist()
    follower = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))

    def walk():
        items = [draw(num_items)]
        while len(items) < length:
            free = sorted(set(range(num_items)) - set(items))
            item = free[draw(len(free))] if draw(3) == 0 else follower[items[-1]]
            items.append(item)
        after = follower[items[-1]]
        items += [after, follower[after]]
        return items if len(set(items)) == len(items) else walk()

    train, val, test = [], [], []
    for user in range(num_users):
        *past, after, last = walk()
        if shuffled:
            past = [past[k] for k in torch.randperm(length, generator=generator)]
        train += [(user, item) for item in past]
        val.append((user, after))
        test.append((user, last))
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data[EDGE].edge_index = torch.tensor(train).T
    data[EDGE].edge_time = torch.arange(len(train))
    data[EDGE].val_edge_label_index = torch.tensor(val).T
    data[EDGE].test_edge_label_index = torch.tensor(test).T
    return data


def hit_rate(data, **options):
    """Share of users whose next item comes first after training."""
    torch.manual_seed(0)
    time = data[EDGE].edge_time
    model = SASRec(40, 32, max_length=10, edge_time=time, dropout=0.1, **options)
    fit(model, data, epochs=10, batch_size=16, lr=1e-2, eval_every=10, progress=False)
    graph = InteractionGraph.from_data(data)
    return evaluate(model.scorer(graph), data, split="val", k=1)["recall@1"]


@pytest.mark.parametrize("options", [{}, {"num_candidates": 20}])
def test_learns_what_follows_the_last_item(options):
    assert hit_rate(walks(), **options) > 0.95


def test_learns_nothing_of_the_kind_from_shuffled_histories():
    assert hit_rate(walks(shuffled=True)) < 0.4


def test_passes_the_contract():
    # a user without items is in the data: times belong to their interactions
    data = checkerboard(12, 12)
    train = data[EDGE].edge_index
    data[EDGE].edge_index = train[:, (train[0] != 3) & (train[1] != 5)]
    time = torch.randperm(data[EDGE].edge_index.size(1))
    torch.manual_seed(0)
    for options in ({}, {"num_candidates": 5}):
        model = SASRec(12, 8, max_length=4, edge_time=time, **options)
        assert isinstance(model, Recommender)
        check_recommender(model, data)


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    data = walks(num_users=40)

    def train(epochs, checkpoint):
        model = make(40, edge_time=data[EDGE].edge_time)
        fit(
            model,
            data,
            epochs=epochs,
            batch_size=16,
            eval_every=1,
            checkpoint=checkpoint,
            progress=False,
        )
        return model.state_dict()

    straight = train(4, tmp_path / "straight.pt")
    train(2, tmp_path / "halved.pt")
    resumed = train(4, tmp_path / "halved.pt")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_batches_are_shuffled_users_with_two_items_or_more():
    data = walks(num_users=30)
    graph = InteractionGraph.from_data(data)
    lonely = (graph.edge_index[0] != 7) | (data[EDGE].edge_time == 7 * 10)
    graph = graph.subgraph(lonely)
    model = make(40, max_length=5)
    orders = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        batches = list(model.batches(graph, batch_size=8, generator=generator))
        assert [len(batch.item) for batch in batches] == [8, 8, 8, 5]
        assert all(len(b.next_item) == 5 * len(b.item) for b in batches)
        orders.append(torch.cat([batch.item for batch in batches]))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].unique(dim=0), orders[2].unique(dim=0))


def test_a_share_of_a_batch_without_users_costs_nothing():
    # the last batch may have fewer users than there are processes
    graph = InteractionGraph(torch.tensor([[0, 0], [3, 5]]), 1, PAD)
    model = make()
    (batch,) = model.batches(graph, batch_size=1, generator=torch.Generator())
    empty = type(batch)(batch.item[:0], batch.next_item[:0])
    (loss,) = model.losses(empty, graph, generator=torch.Generator())
    loss.sum().backward()
    assert loss.numel() == 0
    assert model.encode(batch.item[:0]).shape == (0, 8)


def test_dropout_is_drawn_from_the_generator_and_only_in_training():
    graph = InteractionGraph(torch.tensor([[0, 0, 0], [3, 5, 1]]), 1, PAD)
    model = make(dropout=0.5)
    (batch,) = model.batches(graph, batch_size=1, generator=torch.Generator())

    def loss(seed):
        generator = torch.Generator().manual_seed(seed)
        return next(model.losses(batch, graph, generator=generator))

    state = torch.get_rng_state()
    assert torch.equal(loss(0), loss(0))
    assert not torch.equal(loss(0), loss(1))
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()
    assert torch.equal(loss(0), loss(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": 0}, r"'num_items' must be >= 1 \(got 0\)"),
        ({"embedding_dim": 0}, r"'embedding_dim' must be >= 1 \(got 0\)"),
        ({"num_layers": 0}, r"'num_layers' must be >= 1 \(got 0\)"),
        ({"hidden_dim": 0}, r"'hidden_dim' must be >= 1 \(got 0\)"),
        ({"max_length": 0}, r"'max_length' must be >= 1 \(got 0\)"),
        ({"num_candidates": 0}, r"'num_candidates' must be >= 1 \(got 0\)"),
        ({"dropout": 1.5}, r"'dropout' must lie in \[0, 1\] \(got 1.5\)"),
        ({"num_heads": 3}, r"'num_heads' must divide 'embedding_dim', 8 \(got 3\)"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_other_catalogues_and_times_are_refused():
    graph = InteractionGraph(torch.tensor([[0, 0], [3, 5]]), 1, PAD)
    with pytest.raises(ValueError, match=r"'graph' must have 7 items \(got 9\)"):
        make(7).scorer(graph)
    lonely = InteractionGraph(torch.tensor([[0, 1], [3, 5]]), 2, PAD)
    with pytest.raises(ValueError, match="must have a user with 2 train interactions"):
        next(make().batches(lonely, batch_size=2, generator=torch.Generator()))
    with pytest.raises(ValueError, match="'edge_time' must have one value per"):
        make(edge_time=torch.arange(3)).scorer(graph)
