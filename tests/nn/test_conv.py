import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.nn import LightGCN as PyGLightGCN

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.conv import LightGraphConv, light_propagate, propagate_depths

GRAPHS = st.from_type(InteractionGraph)


def tables(graph, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(graph.num_users, dim, generator=generator).requires_grad_(),
        torch.randn(graph.num_items, dim, generator=generator).requires_grad_(),
    )


def any_loss(emb):
    """A scalar in which every entry matters differently."""
    return sum(
        (table * torch.arange(1.0, 1 + table.numel()).view_as(table)).sin().sum()
        for table in emb
    )


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def naive_layer(user, item, pairs):
    """Eq. 3 of LightGCN, one interaction at a time."""
    user_degree = [sum(u == v for v, _ in pairs) for u in range(len(user))]
    item_degree = [sum(i == j for _, j in pairs) for i in range(len(item))]
    new_user, new_item = torch.zeros_like(user), torch.zeros_like(item)
    for u, i in pairs:
        weight = 1 / math.sqrt(user_degree[u] * item_degree[i])
        new_user[u] += weight * item[i]
        new_item[i] += weight * user[u]
    return new_user, new_item


def unit_rows(table):
    return torch.stack([row / max(float(row.norm()), 1e-12) for row in table])


def naive_propagate(emb, pairs, num_layers, combine):
    user, item = (table.detach() for table in emb)
    total_user, total_item = user.clone(), item.clone()
    for _ in range(num_layers):
        user, item = naive_layer(user, item, pairs)
        if combine == "normalized-sum":
            user, item = unit_rows(user), unit_rows(item)
        total_user, total_item = total_user + user, total_item + item
    scale = num_layers + 1 if combine == "mean" else 1
    return total_user / scale, total_item / scale


def by_message(emb, graph, to_user, to_item):
    """The definition, edge by edge."""
    conv = LightGraphConv()
    ends, sizes = graph.edge_index, (graph.num_users, graph.num_items)
    user, item = (
        conv.propagate(edge_index, size=size, x=x, edge_weight=weight, back=None)
        for edge_index, size, x, weight in (
            (ends.flip(0), sizes[::-1], (emb.item, emb.user), to_user),
            (ends, sizes, (emb.user, emb.item), to_item),
        )
    )
    return Embeddings(user, item)


@given(GRAPHS)
def test_fused_product_is_the_message_definition(graph):
    emb, weight = tables(graph), graph.edge_weight()
    fused = LightGraphConv()(emb, graph)
    defined = by_message(emb, graph, weight, weight)
    assert_same(fused, defined)
    assert_same(
        torch.autograd.grad(any_loss(fused), emb),
        torch.autograd.grad(any_loss(defined), emb),
    )


@given(graph=GRAPHS, rows=st.integers(1, 2))
def test_weighted_product_is_the_message_definition(graph, rows):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, graph.num_edges, generator=generator).requires_grad_()
    emb = tables(graph)
    fused = LightGraphConv()(emb, graph, edge_weight=weight if rows == 2 else weight[0])
    defined = by_message(emb, graph, weight[0], weight[-1])
    assert_same(fused, defined)
    assert_same(
        torch.autograd.grad(any_loss(fused), (*emb, weight)),
        torch.autograd.grad(any_loss(defined), (*emb, weight)),
    )


def test_weighted_gradients_are_the_numerical_ones():
    # a repeated pair, a lonely user, two lonely items
    graph = InteractionGraph(torch.tensor([[0, 2, 0, 2], [1, 0, 0, 0]]), 3, 4)
    user, item = (table.detach().double() for table in tables(graph))
    weight = torch.rand(2, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda u, i, w: LightGraphConv()(Embeddings(u, i), graph, w),
        tuple(t.requires_grad_() for t in (user, item, weight)),
    )


@pytest.mark.parametrize("learned", ["vectors", "weights"])
def test_only_what_is_asked_for_gets_a_gradient(path_graph, learned):
    emb, weight = tables(path_graph), torch.rand(3).requires_grad_(learned == "weights")
    if learned == "weights":
        emb = Embeddings(*(table.detach() for table in emb))
    any_loss(LightGraphConv()(emb, path_graph, weight)).backward()
    assert (weight.grad is not None) == (learned == "weights")
    assert all((table.grad is not None) == (learned == "vectors") for table in emb)


def test_fused_gradient_is_the_numerical_one():
    graph = InteractionGraph(torch.tensor([[0, 2, 0, 1], [1, 0, 0, 1]]), 3, 4)
    emb = tables(graph)
    gradient = torch.autograd.grad(any_loss(LightGraphConv()(emb, graph)), emb)
    step = 1e-2
    for table, slope in zip(emb, gradient, strict=True):
        for place in range(table.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    table.view(-1)[place] += sign * step
                    out = LightGraphConv()(emb, graph)
                    values.append(
                        float(any_loss(Embeddings(*(t.double() for t in out))))
                    )
                    table.view(-1)[place] -= sign * step
            numerical = (values[0] - values[1]) / (2 * step)
            assert float(slope.view(-1)[place]) == pytest.approx(numerical, abs=0.03)


def test_edge_weights_replace_the_normalisation_and_learn(path_graph):
    weight = torch.tensor([1.0, 10.0, 100.0], requires_grad=True)
    emb = Embeddings(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))
    out = LightGraphConv()(emb, path_graph, edge_weight=weight)
    assert out.user.tolist() == [[43], [400]]
    assert out.item.tolist() == [[1], [210]]
    (out.user.sum() + out.item.sum()).backward()
    assert weight.grad.tolist() == [4, 5, 6]  # user plus item vector of each edge


def test_lightgcn_hand_value(path_graph):
    emb = Embeddings(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))
    out = light_propagate(emb, path_graph, 2)
    assert out.user.flatten().tolist() == pytest.approx([2.192809, 2.060660], abs=1e-6)
    assert out.item.flatten().tolist() == pytest.approx([2.207107, 3.324958], abs=1e-6)


@given(graph=GRAPHS, num_layers=st.integers(1, 4))
def test_square_roots_of_degrees_are_a_fixed_point(graph, num_layers):
    root = Embeddings(
        *(graph.degree(kind).float().sqrt().unsqueeze(1) for kind in ("user", "item"))
    )
    assert_same(light_propagate(root, graph, num_layers), root)


@given(graph=GRAPHS, num_layers=st.integers(0, 3))
def test_propagation_is_linear(graph, num_layers):
    a, b = tables(graph, seed=1), tables(graph, seed=2)
    mixed = Embeddings(*(2 * x - 3 * y for x, y in zip(a, b, strict=True)))
    left, right = (light_propagate(emb, graph, num_layers) for emb in (a, b))
    expected = [2 * x - 3 * y for x, y in zip(left, right, strict=True)]
    assert_same(light_propagate(mixed, graph, num_layers), expected)


@given(
    graph=GRAPHS,
    num_layers=st.integers(1, 3),
    combine=st.sampled_from(["mean", "normalized-sum"]),
)
def test_both_combinations_are_the_naive_loop(graph, num_layers, combine):
    emb = tables(graph)
    pairs = graph.edge_index.T.tolist()
    out = light_propagate(emb, graph, num_layers, combine)
    assert_same(out, naive_propagate(emb, pairs, num_layers, combine))


def test_normalized_sum_hand_value():
    # one pair: the layers swap the two unit vectors back and forth
    graph = InteractionGraph(torch.tensor([[0], [0]]), 1, 1)
    emb = Embeddings(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    out = light_propagate(emb, graph, 2, "normalized-sum")
    torch.testing.assert_close(out.user, torch.tensor([[3 + 0 + 0.6, 4 + 1 + 0.8]]))
    torch.testing.assert_close(out.item, torch.tensor([[0 + 0.6 + 0, 2 + 0.8 + 1]]))


@pytest.mark.parametrize("combine", ["mean", "normalized-sum"])
def test_no_layer_returns_the_tables(path_graph, combine):
    emb = tables(path_graph)
    assert light_propagate(emb, path_graph, 0, combine) is emb


@pytest.mark.parametrize("num_layers", [1, 3])
def test_parity_with_pyg_in_embeddings_and_gradients(num_layers):
    generator = torch.Generator().manual_seed(0)
    pairs = (torch.rand(30, 40, generator=generator) < 0.1).nonzero()
    graph = InteractionGraph(pairs.T, 30, 40)
    emb = tables(graph, dim=8)

    pyg = PyGLightGCN(70, 8, num_layers)
    pyg.embedding.weight.data = torch.cat(emb).detach().clone()
    user, item = graph.edge_index
    offset = torch.stack([user, item + 30])
    both_ways = torch.cat([offset, offset.flip(0)], dim=1)

    ours = light_propagate(emb, graph, num_layers)
    theirs = pyg.get_embedding(both_ways)
    torch.testing.assert_close(torch.cat(ours), theirs, rtol=0, atol=1e-5)

    triplet = torch.randint(30, (3, 64), generator=generator)
    losses = []
    for u, i in (ours, theirs.split([30, 40])):
        vectors = u[triplet[0]], i[triplet[1]], i[triplet[2]]
        difference = (vectors[0] * (vectors[1] - vectors[2])).sum(-1)
        losses.append(-difference.sigmoid().log().sum())
    gradient = torch.autograd.grad(losses[0], emb)
    (expected,) = torch.autograd.grad(losses[1], pyg.embedding.weight)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(torch.cat(gradient), expected, rtol=0, atol=1e-5)


@given(graph=GRAPHS, num_layers=st.integers(1, 3))
def test_edge_index_is_as_good_as_a_graph(graph, num_layers):
    emb = tables(graph)
    ours = light_propagate(emb, graph, num_layers)
    theirs = light_propagate(emb, graph.edge_index, num_layers)
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left, right)


def test_sparse_tensor_is_as_good_as_a_graph(checkerboard):
    torch_sparse = pytest.importorskip(
        "torch_sparse", reason="needs the extra [sparse]"
    )
    graph = checkerboard.graph
    user, item = graph.edge_index
    adj_t = torch_sparse.SparseTensor(row=item, col=user, sparse_sizes=(12, 12))
    emb = tables(graph)
    ours, theirs = (light_propagate(emb, form, 2) for form in (graph, adj_t))
    assert_same(ours, theirs)
    assert_same(
        torch.autograd.grad(any_loss(ours), emb),
        torch.autograd.grad(any_loss(theirs), emb),
    )


def test_bad_arguments_are_refused(path_graph):
    emb = tables(path_graph)
    with pytest.raises(ValueError, match=r"'num_layers' must be >= 0 \(got -1\)"):
        light_propagate(emb, path_graph, -1)
    with pytest.raises(
        ValueError, match=r"'combine' must be 'mean' or .*\(got 'sum'\)"
    ):
        light_propagate(emb, path_graph, 1, "sum")
    short = Embeddings(emb.user[:1], emb.item)
    with pytest.raises(
        ValueError, match=r"must have 1 users and 2 items \(got 2 and 2"
    ):
        light_propagate(short, path_graph, 1)


def test_propagation_stays_float32_under_autocast(path_graph):
    emb = Embeddings(torch.randn(2, 3), torch.randn(2, 3))
    expected = light_propagate(emb, path_graph, 2)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = light_propagate(emb, path_graph, 2)
    for left, right in zip(autocast, expected, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("combine", ["mean", "normalized-sum"])
def test_all_depths_in_one_go_have_the_bits_of_each(path_graph, combine):
    generator = torch.Generator().manual_seed(0)
    sizes = (path_graph.num_users, path_graph.num_items)
    emb = Embeddings(*(torch.randn(size, 3, generator=generator) for size in sizes))
    depths = list(propagate_depths(emb, path_graph, 4, combine))
    assert len(depths) == 5
    for depth, got in enumerate(depths):
        expected = light_propagate(emb, path_graph, depth, combine)
        assert torch.equal(got.user, expected.user)
        assert torch.equal(got.item, expected.item)
