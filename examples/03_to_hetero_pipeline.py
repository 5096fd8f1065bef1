"""DDRM inside a PyG pipeline: a heterogeneous GNN before it, features after it."""

import torch
from torch.nn import functional as F
from torch_geometric.nn import SAGEConv, to_hetero
from torch_geometric.transforms import ToUndirected

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings, InteractionGraph, evaluate, fit
from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.loader import triplet_batches

torch.manual_seed(0)
DIM = 32
data = SyntheticInteractions(num_users=400, num_items=300, num_interactions=16_000)[0]
graph = InteractionGraph.from_data(data)
generator = torch.Generator().manual_seed(0)


class GNN(torch.nn.Module):
    """An ordinary homogeneous GNN."""

    def __init__(self):
        super().__init__()
        self.conv1 = SAGEConv((-1, -1), DIM)
        self.conv2 = SAGEConv((-1, -1), DIM)

    def forward(self, x, edge_index):
        """Two rounds of message passing."""
        return self.conv2(self.conv1(x, edge_index).relu(), edge_index)


# 1. A GNN of PyG on both edge directions; held-out pairs are no edges, so none leak.
both_ways = ToUndirected()(data.clone())
gnn = to_hetero(GNN(), both_ways.metadata())
features = torch.nn.ParameterDict(
    {
        "user": torch.randn(graph.num_users, DIM) / DIM**0.5,
        "item": torch.randn(graph.num_items, DIM) / DIM**0.5,
    }
)


def embed():
    """Embed both node types."""
    return gnn(dict(features.items()), both_ways.edge_index_dict)


embed()  # initialises the lazy layers
optimizer = torch.optim.Adam([*gnn.parameters(), *features.parameters()], lr=5e-3)
for epoch in range(1, 11):
    total = 0.0
    for batch in triplet_batches(graph, batch_size=1024, generator=generator):
        x = embed()
        user = x["user"][batch.user]
        positive = (user * x["item"][batch.pos_item]).sum(-1)
        negative = (user * x["item"][batch.neg_item]).sum(-1)
        loss = F.softplus(negative - positive)  # link prediction by BPR
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        total += loss.detach().sum().item()
    if epoch % 5 == 0:
        print(f"GNN epoch {epoch}: loss {total / graph.num_edges:.4f}")
with torch.no_grad():
    emb = Embeddings(**embed())

# 2. Its node embeddings go into DDRM.
ddrm = DDRM(embedding_dim=DIM, hidden_dims=(128,), num_train_timesteps=10)
fit(DDRMRecommender(ddrm, emb), data, epochs=15, seed=0)

# 3. For ranking: the ideal item of every user.
ideal = ddrm(emb.user, emb.item, graph, generator=generator)
for name, scorer in (("GNN", emb), ("GNN + DDRM", ideal)):
    print(f"{name:10} ndcg@20 on test {evaluate(scorer, data)['ndcg@20']:.4f}")

# 4. For a model downstream: denoised features of both node types.
clean = ddrm.denoise(emb.user, emb.item, graph, generator=generator)
both_ways["user"].x, both_ways["item"].x = clean
downstream = to_hetero(GNN(), both_ways.metadata())
out = downstream(both_ways.x_dict, both_ways.edge_index_dict)
print("downstream output", {node: list(x.shape) for node, x in out.items()})
