import pytest
import torch

from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.models import MF, LightGCN


def train(model, graph, *, epochs, lr, seed):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for batch in model.batches(graph, batch_size=32, generator=generator):
            for loss in model.losses(batch, graph, generator=generator):
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()


@pytest.mark.fidelity("LightGCN", "two layers, averaged", "values by hand", digits=6)
def test_hand_value(path_graph, agrees):
    model = LightGCN(2, 2, 1, num_layers=2)
    with torch.no_grad():
        model.user_table.copy_(torch.tensor([[1.0], [2.0]]))
        model.item_table.copy_(torch.tensor([[3.0], [4.0]]))
    out = model(path_graph)
    agrees(out.user.flatten(), [2.192809, 2.060660])
    agrees(out.item.flatten(), [2.207107, 3.324958])


def test_depth_is_three_unless_told(checkerboard):
    graph = checkerboard.graph
    for model, depth in ((LightGCN(12, 12), 3), (LightGCN(12, 12, num_layers=1), 1)):
        tables = type(model(graph))(model.user_table, model.item_table)
        expected = light_propagate(tables, graph, depth)
        torch.testing.assert_close(model(graph).user, expected.user)
        torch.testing.assert_close(model(graph).item, expected.item)


def test_depth_zero_is_matrix_factorisation(path_graph):
    torch.manual_seed(0)
    mf = MF(2, 2, 3)
    torch.manual_seed(0)
    flat = LightGCN(2, 2, 3, num_layers=0)
    user = torch.tensor([0, 1])
    left, right = mf(path_graph).scores(user), flat(path_graph).scores(user)
    assert torch.equal(left, right)


def test_edge_index_is_as_good_as_a_graph(path_graph):
    model = LightGCN(2, 2, 3)
    for left, right in zip(
        model(path_graph), model(path_graph.edge_index), strict=True
    ):
        assert torch.equal(left, right)


def test_negative_depth_is_refused():
    with pytest.raises(ValueError, match=r"'num_layers' must be >= 0 \(got -1\)"):
        LightGCN(2, 2, num_layers=-1)


def test_withheld_item_of_the_own_colour_comes_first(checkerboard):
    torch.manual_seed(0)
    model = LightGCN(12, 12, 4, num_layers=2)
    train(model, checkerboard.graph, epochs=30, lr=0.05, seed=0)
    scorer = model.scorer(checkerboard.graph)
    assert torch.equal(checkerboard.first_choice(scorer), checkerboard.withheld)


def test_an_untrained_table_far_away_gets_a_gradient_through_the_graph(path_graph):
    # user 1 never occurs in the batch, but is a neighbour of item 1
    model = LightGCN(2, 2, 3, l2=0)
    emb = model(path_graph)
    (emb.user[0] * emb.item[0]).sum().backward()
    assert model.user_table.grad[1].abs().sum() > 0
