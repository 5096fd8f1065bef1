"""A recommender of your own: a few methods and no base class, then fit and DDRM."""

import torch
from torch import nn
from torch.nn import functional as F

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings, InteractionGraph, evaluate, fit
from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.loader import triplet_batches
from ddrm_pyg.testing import check_backend, check_recommender, checkerboard


class HistoryMF(nn.Module):
    """A user is a free vector plus the mean vector of the user's history."""

    def __init__(self, num_users, num_items, dim, l2=1e-3):
        super().__init__()
        self.user = nn.Parameter(0.1 * torch.randn(num_users, dim))
        self.item = nn.Parameter(0.1 * torch.randn(num_items, dim))
        self.l2 = l2

    def forward(self, graph):
        """Embed all users and items."""
        return Embeddings(self.user + graph.history_mean(self.item), self.item)

    def penalty(self, batch, emb, *, generator):
        """Regularise each triplet, ``[B]``."""
        return self.l2 * F.embedding(batch.user, self.user).square().sum(-1)

    def batches(self, graph, *, batch_size, generator):
        """One epoch of triplets."""
        return triplet_batches(graph, batch_size=batch_size, generator=generator)

    def losses(self, batch, graph, *, generator):
        """One optimiser step per yielded loss ``[B]``: here one."""
        emb = self(graph)
        user = emb.user[batch.user]
        positive = (user * emb.item[batch.pos_item]).sum(-1)
        negative = (user * emb.item[batch.neg_item]).sum(-1)
        loss = F.softplus(negative - positive)
        yield loss + self.penalty(batch, emb, generator=generator)

    @torch.no_grad()
    def scorer(self, graph):
        """Embed once; the result scores any user."""
        return self(graph)


torch.manual_seed(0)

# 1. Does it keep its promises? A broken one is named in an AssertionError.
toy = checkerboard()
check_recommender(HistoryMF(40, 40, 8), toy)
check_backend(HistoryMF(40, 40, 8), InteractionGraph.from_data(toy))
print("HistoryMF keeps the protocols")

# 2. Then everything works on it.
data = SyntheticInteractions(num_users=400, num_items=300, num_interactions=16_000)[0]
graph = InteractionGraph.from_data(data)
model = HistoryMF(graph.num_users, graph.num_items, 32)
result = fit(model, data, epochs=20, lr=5e-3, seed=0)
print(f"best epoch {result.best_epoch}, {result.metric} {result.best_value:.4f} on val")

emb = model.scorer(graph)
ddrm = DDRM(embedding_dim=32, hidden_dims=(128,), num_train_timesteps=10)
recommender = DDRMRecommender(ddrm, emb)
fit(recommender, data, epochs=15, seed=0)
for name, scorer in (("HistoryMF", emb), ("+ DDRM", recommender.scorer(graph))):
    print(f"{name:9} ndcg@20 on test {evaluate(scorer, data)['ndcg@20']:.4f}")
