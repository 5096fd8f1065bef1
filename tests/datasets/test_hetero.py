"""Objects shaped as PyG's data sets are, which cannot be downloaded in a test."""

import copy
from itertools import chain

import pytest
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import RandomLinkSplit, ToUndirected

from ddrm_pyg import InteractionGraph, from_hetero, load_interactions
from ddrm_pyg.transforms.core import EDGE

RATES = ("user", "rates", "movie")
# user, movie, rating, time; user 2 and movie 5 have none
ROWS = torch.tensor(
    [[0, m, 1 + m, 50 - m] for m in range(5)] + [[1, m, 3, 90 + m] for m in range(5)]
)


def movielens_1m():
    data = HeteroData()
    data["movie"].x = torch.zeros(6, 2)
    data["user"].x = torch.zeros(3, 2)
    data[RATES].edge_index = ROWS[:, :2].T.contiguous()
    data[RATES].rating = ROWS[:, 2].clone()
    data[RATES].time = ROWS[:, 3].clone()
    data["movie", "rated_by", "user"].edge_index = ROWS[:, :2].T.flip(0)
    return data


def movielens_100k():
    data = movielens_1m()
    data[RATES].edge_label_index = torch.tensor([[0, 1], [5, 5]])
    data[RATES].edge_label = torch.tensor([4, 2])
    return data


def amazon_book():
    data = HeteroData()
    data["user"].num_nodes, data["book"].num_nodes = 3, 6
    for name in ("edge_index", "edge_label_index"):
        pairs = ROWS[:, :2].T if name == "edge_index" else torch.tensor([[2], [5]])
        data["user", "rates", "book"][name] = pairs
        data["book", "rated_by", "user"][name] = pairs.flip(0)
    return data


def taobao():
    data = HeteroData()
    for name, size in (("user", 1), ("item", 4), ("category", 2)):
        data[name].num_nodes = size
    data["user", "item"].edge_index = torch.tensor([[0] * 5, [3, 3, 0, 1, 3]])
    data["user", "item"].time = torch.tensor([9, 5, 6, 7, 8])
    data["user", "item"].behavior = torch.tensor([0, 1, 0, 0, 3])
    data["item", "category"].edge_index = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    return data


def pairs(data, name="edge_index"):
    return sorted(map(tuple, data[EDGE][name].T.tolist()))


def test_a_data_set_without_a_split_is_split_as_a_table_is(caplog):
    data = from_hetero(movielens_1m(), RATES, liked_from=2)
    assert (data["user"].num_nodes, data["item"].num_nodes) == (3, 6)
    assert data["item"].raw_id.tolist() == [*range(6)]
    assert pairs(data, "test_edge_label_index") == [(0, 1), (1, 4)]  # the latest liked
    assert pairs(data, "val_edge_label_index") == [(0, 0)]
    assert data[EDGE].edge_time.tolist() == [46, 47, 48, 90, 91, 92, 93]
    assert data[EDGE].edge_rating.dtype == torch.float32
    assert data[EDGE].val_edge_is_noise.tolist() == [True]
    assert caplog.messages[0] == (
        "('user', 'rates', 'movie'): assumed attributes rating, time; each user split "
        "70/10/20 % by time; ratings below 2 count as noise"
    )


def test_it_is_what_a_table_of_the_same_rows_is():
    columns = dict(zip(("user", "item", "rating", "time"), ROWS.T, strict=True))
    one = load_interactions(columns, liked_from=3)
    other = from_hetero(movielens_1m(), RATES, rating="rating", liked_from=3)
    for name, value in one[EDGE].items():
        assert torch.equal(value, other[EDGE][name]), name


@pytest.mark.parametrize("make", [movielens_100k, amazon_book])
def test_labelled_pairs_are_test_and_validation_is_held_out(make, caplog):
    data = make()
    edge_type = data.edge_types[0]
    data[edge_type].edge_index = torch.cat(
        [data[edge_type].edge_index, torch.tensor([[2] * 5, [*range(5)]])], 1
    )
    for name in ("rating", "time"):
        if name in data[edge_type]:
            data[edge_type][name] = torch.arange(15)
    out = from_hetero(data, edge_type)
    assert pairs(out, "test_edge_label_index") == pairs_of(data, edge_type)
    held_out = out[EDGE].val_edge_label_index
    assert held_out[0].tolist() == [0, 1, 2]  # a tenth of five, rounded up
    both = torch.cat([out[EDGE].edge_index, held_out], 1)
    assert sorted(both.T.tolist()) == sorted(data[edge_type].edge_index.T.tolist())
    assert "no validation pairs; a tenth of each user's" in caplog.messages[0]


def pairs_of(data, edge_type):
    return sorted(map(tuple, data[edge_type].edge_label_index.T.tolist()))


def test_of_repeated_pairs_the_earliest_counts(caplog):
    data = from_hetero(taobao(), ("user", "to", "item"), split=False)
    assert data[EDGE].edge_index.T.tolist() == [[0, 3], [0, 0], [0, 1]]
    assert data[EDGE].edge_time.tolist() == [5, 6, 7]
    assert data["item"].num_nodes == 4
    assert "2 duplicate pairs (each kept once, the earliest)" in caplog.text


@pytest.mark.parametrize("disjoint", [0.0, 0.4])
@pytest.mark.parametrize("split_labels", [False, True])
@pytest.mark.parametrize("negatives", [0.0, 1.0])
def test_the_parts_of_a_random_link_split_are_kept(disjoint, split_labels, negatives):
    whole = movielens_1m()
    parts = RandomLinkSplit(
        num_val=2,
        num_test=3,
        disjoint_train_ratio=disjoint,
        split_labels=split_labels,
        neg_sampling_ratio=negatives,
        edge_types=[RATES],
        rev_edge_types=[("movie", "rated_by", "user")],
    )(whole)
    data = from_hetero(parts, RATES)
    of_split = [
        pairs(data, name)
        for name in ("edge_index", "val_edge_label_index", "test_edge_label_index")
    ]
    assert [len(pairs) for pairs in of_split] == [5, 2, 3]
    assert sorted(chain(*of_split)) == sorted(map(tuple, ROWS[:, :2].tolist()))
    time = {(u, m): t for u, m, _, t in ROWS.tolist()}
    columns = data[EDGE].edge_index.T.tolist()
    assert data[EDGE].edge_time.tolist() == [time[tuple(pair)] for pair in columns]


@pytest.mark.parametrize("split_labels", [False, True])
def test_the_train_part_alone_is_refused_as_one_of_three(split_labels):
    split = RandomLinkSplit(
        num_val=2, num_test=3, split_labels=split_labels, edge_types=[RATES]
    )
    train, _, _ = split(movielens_1m())
    with pytest.raises(ValueError, match="must be all three that RandomLinkSplit") as e:
        from_hetero(train, RATES)
    assert "(got one HeteroData, whose 5 are all in edge_index)" in str(e.value)


@pytest.mark.parametrize("split_labels", [False, True])
@pytest.mark.parametrize("part", [1, 2])
def test_another_part_alone_is_train_and_test_and_that_is_said(
    caplog, split_labels, part
):
    split = RandomLinkSplit(
        num_val=2, num_test=3, split_labels=split_labels, edge_types=[RATES]
    )
    data = from_hetero(split(movielens_1m())[part], RATES, seed=0)
    assert data[EDGE].test_edge_label_index.size(1) == part + 1
    assert caplog.messages[0] == (
        f"{RATES}: one part of RandomLinkSplit, of which the {part + 1} pairs to find "
        "are taken as test and the edges as train; from_hetero((train, val, test), "
        "...) keeps its validation"
    )


@pytest.mark.parametrize("make", [movielens_100k, amazon_book])
def test_a_data_set_with_a_split_is_no_part(caplog, make):
    data = make()
    from_hetero(data, data.edge_types[0])
    assert "RandomLinkSplit" not in caplog.text


def test_a_random_link_split_without_validation_has_some_held_out():
    whole = movielens_1m()
    split = RandomLinkSplit(num_val=0, num_test=1, edge_types=[RATES])
    data = from_hetero(split(whole), RATES)
    assert data[EDGE].val_edge_label_index.size(1) == 1  # a tenth of five


@pytest.mark.parametrize("make", [movielens_1m, movielens_100k, amazon_book, taobao])
@pytest.mark.parametrize("name", ["rating", "nothing"])
def test_a_call_changes_nothing_whether_it_fails_or_not(make, name):
    data = make()
    before = copy.deepcopy(data).to_dict()
    edge_type = data.edge_types[0]
    try:
        out = from_hetero(data, edge_type, rating=name)
    except ValueError:
        pass
    else:
        out[EDGE].edge_index.zero_()
        out[EDGE].edge_time.zero_()
    for store, values in data.to_dict().items():
        assert values.keys() == before[store].keys()
        for key, value in values.items():
            same = (
                torch.equal if isinstance(value, torch.Tensor) else type(value).__eq__
            )
            assert same(value, before[store][key]), (store, key)


def test_attributes_go_by_any_name_and_ids_and_order_are_kept():
    data = movielens_1m()
    data[RATES].edge_label = data[RATES].pop("rating")  # as MovieLens has it
    data[RATES].stamp = data[RATES].pop("time").double() + 0.5
    data["user"].raw_id = ["a", "b", "c"]
    data[RATES].in_order = True
    out = from_hetero(data, RATES, rating="edge_label", time="stamp", split=False)
    assert out["user"].raw_id == ["a", "b", "c"]
    assert out[EDGE].edge_rating.tolist() == ROWS[:, 2].tolist()
    assert out[EDGE].edge_time.tolist() == [t + 0.5 for t in ROWS[:, 3].tolist()]
    assert out[EDGE].in_order is True
    assert InteractionGraph.from_data(out).num_edges == len(ROWS)


def test_attributes_may_be_left_aside(caplog):
    data = from_hetero(movielens_1m(), RATES, rating=False, time=False, split=False)
    assert {*data[EDGE].keys()} == {"edge_index"}
    assert not caplog.messages


def changed(make=movielens_1m, **attributes):
    data = make()
    for name, value in attributes.items():
        data[RATES][name] = value
    return data


def without_nodes():
    data = HeteroData()
    data[RATES].edge_index = ROWS[:, :2].T
    return data


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (Data(), {}, TypeError, "'data' must be a HeteroData, or the three that"),
        ((movielens_1m(),) * 2, {}, TypeError, "(got tuple)"),
        ((Data(),) * 3, {}, TypeError, "'data' must be a HeteroData (got Data)"),
        (
            HeteroData(),
            {},
            ValueError,
            "'edge_type' must be one of [] (got ('user', 'rates', 'movie'))",
        ),
        (
            taobao(),
            {},
            ValueError,
            "must be one of [('user', 'to', 'item'), ('item', 'to', 'category')] (got",
        ),
        (without_nodes(), {}, ValueError, "set data['user'].num_nodes"),
        (changed(rating=torch.ones(3)), {}, ValueError, "'rating' must have one value"),
        (
            changed(time=torch.tensor([1.0] * 9 + [float("nan")])),
            {},
            ValueError,
            "'time': value 9 is nan, expected a number",
        ),
        (changed(), {"time": "when"}, ValueError, "no edge attribute 'when' (there ar"),
        (changed(), {"ratios": (1, 1, 1)}, ValueError, "'ratios' must sum to 1"),
        (
            changed(edge_index=torch.tensor([[0] * 10, [*range(9, -1, -1)]])),
            {},
            ValueError,
            "'edge_index' must hold items in [0, 6) (got 9)",
        ),
        (
            movielens_100k(),
            {"liked_from": 4},
            ValueError,
            "'liked_from' does not apply to ('user', 'rates', 'movie'), which brings",
        ),
        (
            (movielens_1m(),) * 3,
            {},
            ValueError,
            "must have an edge_label_index in each",
        ),
    ],
)
def test_what_does_not_fit_is_refused(data, options, error, message):
    with pytest.raises(error) as refused:
        from_hetero(data, RATES, **options)
    assert message in str(refused.value)


def test_edges_of_one_node_type_or_without_an_index_are_refused():
    data = ToUndirected()(movielens_1m())
    data["user", "knows", "user"].edge_index = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="'edge_type' must join two node types"):
        from_hetero(data, ("user", "knows", "user"))
    data[RATES].adj_t = data[RATES].pop("edge_index")
    with pytest.raises(ValueError, match="'data' must have an edge_index for"):
        from_hetero(data, RATES)
