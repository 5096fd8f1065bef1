import torch

from ddrm_pyg.nn.models import MF


def train(model, graph, *, epochs, lr, seed):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for batch in model.batches(graph, batch_size=32, generator=generator):
            for loss in model.losses(batch, graph, generator=generator):
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()


def test_embeddings_are_the_tables(path_graph):
    model = MF(2, 2, 3)
    for emb in (model(path_graph), model()):
        assert torch.equal(emb.user, model.user_table)
        assert torch.equal(emb.item, model.item_table)


def test_withheld_item_of_the_own_colour_comes_first(checkerboard):
    torch.manual_seed(0)
    model = MF(12, 12, 2)
    train(model, checkerboard.graph, epochs=60, lr=0.05, seed=0)
    scorer = model.scorer(checkerboard.graph)
    assert torch.equal(checkerboard.first_choice(scorer), checkerboard.withheld)


def test_equal_seeds_train_equal_bits(checkerboard):
    tables = []
    for _ in range(2):
        torch.manual_seed(3)
        model = MF(12, 12, 4)
        train(model, checkerboard.graph, epochs=2, lr=0.05, seed=1)
        tables.append(torch.cat(model()))
    assert torch.equal(*tables)
