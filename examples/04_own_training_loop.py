"""The training of DDRM written out by hand: triplets, loss, optimiser, selection."""

import copy

import torch

from ddrm_pyg import DDRM, MF, InteractionGraph, evaluate, fit
from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.loader import triplet_batches

torch.manual_seed(0)
data = SyntheticInteractions(num_users=400, num_items=300, num_interactions=16_000)[0]
graph = InteractionGraph.from_data(data)
backend = MF(graph.num_users, graph.num_items, embedding_dim=32)
fit(backend, data, epochs=20, lr=5e-3, seed=0)
user_emb, item_emb = backend.scorer(graph)

ddrm = DDRM(embedding_dim=32, hidden_dims=(128,), num_train_timesteps=10)
optimizer = torch.optim.Adam(ddrm.parameters(), lr=1e-3)
generator = torch.Generator().manual_seed(0)  # owns batches, negatives, steps, noise
best, best_epoch, best_weights = -1.0, 0, None

for epoch in range(1, 21):
    total, count = 0.0, 0
    for user, pos_item, neg_item in triplet_batches(
        graph, batch_size=1024, generator=generator, users="uniform"
    ):
        loss = ddrm.loss(
            user_emb[user],
            item_emb[pos_item],
            item_emb[neg_item],
            generator=generator,
        )
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        total, count = total + loss.detach().sum().item(), count + loss.numel()
    if epoch % 5 == 0:
        noise = torch.Generator().manual_seed(1)  # the same at every validation
        denoised = ddrm(user_emb, item_emb, graph, generator=noise)
        value = evaluate(denoised, data, split="val")["recall@20"]
        print(f"epoch {epoch}: loss {total / count:.4f}, recall@20 on val {value:.4f}")
        if value > best:
            best, best_epoch = value, epoch
            best_weights = copy.deepcopy(ddrm.state_dict())

ddrm.load_state_dict(best_weights)
noise = torch.Generator().manual_seed(1)
metrics = evaluate(ddrm(user_emb, item_emb, graph, generator=noise), data)
print(f"epoch {best_epoch} on test: recall@20 {metrics['recall@20']:.4f}")
