"""Load, train, plug DDRM in, evaluate, recommend: the package in five steps."""

import torch

from ddrm_pyg import (
    DDRM,
    DDRMRecommender,
    InteractionGraph,
    LightGCN,
    evaluate,
    fit,
    recommend,
)
from ddrm_pyg.datasets import SyntheticInteractions

torch.manual_seed(0)

# 1. Load. Yours: data = load_interactions("clicks.csv", user=..., item=...)
data = SyntheticInteractions(num_users=400, num_items=300, num_interactions=16_000)[0]
graph = InteractionGraph.from_data(data)
print(graph)

# 2. Train a backend; validation picks the epoch.
backend = LightGCN(graph.num_users, graph.num_items, embedding_dim=32, num_layers=2)
result = fit(backend, data, epochs=40, lr=5e-3, seed=0)
print(f"LightGCN: best epoch {result.best_epoch} by {result.metric} on validation")
emb = backend.scorer(graph)

# 3. Plug DDRM onto the embeddings; the backend is never touched.
ddrm = DDRM(embedding_dim=32, hidden_dims=(128,), num_train_timesteps=10)
fit(DDRMRecommender(ddrm, emb), data, epochs=20, lr=1e-3, seed=0)
denoised = ddrm(emb.user, emb.item, graph)

# 4. Rank all items on the test split, before and after.
for name, scorer in (("LightGCN", emb), ("+ DDRM", denoised)):
    metrics = evaluate(scorer, data, split="test", k=(10, 20))
    recall, ndcg = metrics["recall@20"], metrics["ndcg@20"]
    print(f"{name:8} recall@20 {recall:.4f}, ndcg@20 {ndcg:.4f}")

# 5. Recommend what a user does not know yet.
seen = InteractionGraph.from_data(data, splits=("train", "val", "test"))
user = torch.tensor([0, 1, 2])
score, item = recommend(denoised, user, k=5, exclude=seen)
item_id = data["item"].raw_id[item]
for user_id, best in zip(data["user"].raw_id[user], item_id, strict=True):
    print(f"user {user_id}: items {best.tolist()}")
