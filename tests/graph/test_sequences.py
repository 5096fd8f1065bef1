import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences, edge_order, tells_order


@st.composite
def timed_graphs(draw):
    num_users, num_items = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    pairs = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    edges = draw(st.lists(pairs, max_size=20))
    times = draw(st.lists(st.integers(0, 5), min_size=len(edges), max_size=len(edges)))
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    return InteractionGraph(edge_index, num_users, num_items), torch.tensor(times)


def naive(graph, times):
    """Sort every user's events by hand; keep the first of each item."""
    events = zip(*graph.edge_index.tolist(), times.tolist(), strict=True)
    lists = {user: [] for user in range(graph.num_users)}
    for user, item, _ in sorted(events, key=lambda event: event[2]):
        if item not in lists[user]:
            lists[user].append(item)
    return list(lists.values())


def rows_of(bags):
    items = [[] for _ in range(bags.num_rows)]
    for row, item in zip(bags.row.tolist(), bags.item.tolist(), strict=True):
        items[row].append(item)
    return items


@given(timed_graphs(), st.data())
def test_cut_anywhere_as_by_hand(case, data):
    graph, times = case
    if graph.num_edges > 1 and len(set(times.tolist())) == 1:
        times[0] += 1
    lists = naive(graph, times)
    sequences = UserSequences.from_graph(graph, times)
    users = torch.arange(graph.num_users)
    assert sequences.length.tolist() == [len(items) for items in lists]
    assert rows_of(sequences.before(users)) == lists
    cut = [data.draw(st.integers(0, len(items))) for items in lists]
    size = data.draw(st.integers(1, 3))
    before = sequences.before(users, torch.tensor(cut))
    after = sequences.after(users, torch.tensor(cut), size)
    assert rows_of(before) == [i[:c] for i, c in zip(lists, cut, strict=True)]
    assert rows_of(after) == [i[c : c + size] for i, c in zip(lists, cut, strict=True)]
    later = [k for c in cut for k in reversed(range(c))]
    assert before.later.tolist() == later
    padded = [([-1] * size + i[:c])[-size:] for i, c in zip(lists, cut, strict=True)]
    assert before.padded(size, -1).tolist() == padded


def test_without_times_the_order_of_the_edges_holds():
    graph = InteractionGraph(torch.tensor([[0, 1, 0, 0], [2, 0, 1, 0]]), 2, 3)
    sequences = UserSequences.from_graph(graph)
    assert rows_of(sequences.before(torch.tensor([1, 0]))) == [[0], [2, 1, 0]]


def test_histories_of_new_users_keep_their_order():
    histories = [torch.tensor([3, 1, 3, 0]), torch.tensor([], dtype=torch.int64)]
    sequences = UserSequences.from_histories(histories, 4)
    assert rows_of(sequences.before(torch.arange(2))) == [[3, 1, 0], []]
    with pytest.raises(ValueError, match=r"items in \[0, 4\) \(got 4\)"):
        UserSequences.from_histories([torch.tensor([4])], 4)
    assert UserSequences.from_histories([], 4).num_users == 0


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([7, 7, 7], r"must tell a user's interactions apart .* first user's is 7\)"),
        ([7, 7, 8], r"must tell a user's interactions apart .* first user's is 7\)"),
        ([1.0, float("nan"), 2.0], r"must be known .*\(got 1 NaN of 3\)"),
        ([1, -1, 2], r"for 99 % of the interactions \(got 1 of 3 unknown\)"),
        ([1, 2], r"one value per interaction, 3 \(got shape \[2\]\)"),
    ],
)
def test_times_that_do_not_order_are_refused(times, message):
    graph = InteractionGraph(torch.tensor([[0, 0, 1], [0, 1, 0]]), 2, 2)
    with pytest.raises(ValueError, match=message):
        UserSequences.from_graph(graph, torch.tensor(times))


def test_few_unknown_times_come_first_and_are_said(caplog):
    edges = torch.stack([torch.zeros(200, dtype=torch.int64), torch.arange(200)])
    times = torch.arange(200)
    times[150] = -1
    with caplog.at_level(logging.WARNING, "ddrm_pyg"):
        sequences = UserSequences.from_graph(InteractionGraph(edges, 1, 200), times)
    assert sequences.item[:2].tolist() == [150, 0]
    assert "1 of 200 train interactions have no time" in caplog.text


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_times_before_1970_are_times(dtype, caplog):
    edges = torch.tensor([[0, 0, 0], [0, 1, 2]])
    times = torch.tensor([-500, 7, -86_400], dtype=dtype)
    graph = InteractionGraph(edges, 1, 3)
    assert UserSequences.from_graph(graph, times).item.tolist() == [2, 0, 1]
    many = torch.stack([torch.zeros(200, dtype=torch.int64), torch.arange(200)])
    times = torch.arange(-300, -100).to(dtype)
    times[150] = -1  # unknown: before all others
    sequences = UserSequences.from_graph(InteractionGraph(many, 1, 200), times)
    assert sequences.item[:2].tolist() == [150, 0]
    assert "1 of 200 train interactions have no time" in caplog.text


def timed(time, in_order=None):
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 3
    data[EDGE].edge_index = torch.tensor([[0, 0, 0], [2, 0, 1]])
    if time is not None:
        data[EDGE].edge_time = torch.tensor(time)
    if in_order is not None:
        data[EDGE].in_order = in_order
    return data


@pytest.mark.parametrize(
    ("time", "in_order", "tells", "order"),
    [
        ([5, 3, 4], None, True, [5, 3, 4]),
        ([5, 3, 4], True, True, [5, 3, 4]),  # times come first
        (None, True, True, [0, 1, 2]),
        ([7, 7, 7], True, True, [0, 1, 2]),
        ([5, -1, 4], True, True, [0, 1, 2]),  # too many are unknown
        ([5, -1, 4], None, False, [5, -1, 4]),
        ([7, 7, 7], False, False, [7, 7, 7]),  # which UserSequences refuses
        (None, False, False, None),
        (None, None, False, None),
    ],
)
def test_times_or_the_promise_of_an_order_tell_it(time, in_order, tells, order):
    data = timed(time, in_order)
    assert tells_order(data) is tells
    if order is None:
        with pytest.raises(ValueError, match="in_order = True if each user's stand in"):
            edge_order(data)
    else:
        assert edge_order(data).tolist() == order


def test_a_moment_for_each_user_is_no_order():
    data = timed([7, 7, 9])
    data["user"].num_nodes = 3
    data[EDGE].edge_index = torch.tensor([[0, 0, 1], [2, 0, 1]])
    assert not tells_order(data)
    data[EDGE].edge_index[0, 1] = 1  # user 1 has 7, then 9
    assert tells_order(data)
    data[EDGE].edge_index[0, 1] = 2  # nobody has two
    assert tells_order(data)


def test_the_promise_of_an_order_is_true_or_false():
    with pytest.raises(ValueError, match=r"'in_order' must be True or False \(got 1\)"):
        tells_order(timed(None, in_order=1))
