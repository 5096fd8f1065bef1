"""DDRM on vectors from anywhere: tensors, arrays, a file, and an edge_index."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings, evaluate, fit
from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.embeddings import as_embeddings

torch.manual_seed(0)
data = SyntheticInteractions(num_users=400, num_items=300, num_interactions=16_000)[0]
edge_index = data["user", "interacts", "item"].edge_index  # [2, E]: users, items

# Vectors of some other program, here a truncated SVD of the click matrix.
clicks = torch.zeros(400, 300)
clicks[edge_index[0], edge_index[1]] = 1
left, size, right = torch.svd_lowrank(clicks, q=32)
user_emb, item_emb = left * size.sqrt(), right * size.sqrt()

# DDRM onto them: vectors and edges in, vectors out.
ddrm = DDRM(embedding_dim=32, hidden_dims=(128,), num_train_timesteps=10)
fit(DDRMRecommender(ddrm, (user_emb, item_emb)), data, epochs=20, seed=0)
denoised = ddrm(user_emb, item_emb, edge_index)

for name, emb in (
    ("SVD", Embeddings(user_emb, item_emb)),
    ("SVD + DDRM", denoised),
):
    print(f"{name:10} ndcg@20 on test {evaluate(emb, data)['ndcg@20']:.4f}")

# DDRMRecommender takes the same vectors in any of these forms.
tables = [nn.Embedding.from_pretrained(table) for table in (user_emb, item_emb)]
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "vectors.npz"
    np.savez(file, user=user_emb.numpy(), item=item_emb.numpy())
    for name, source in (
        ("NumPy arrays", (user_emb.numpy(), item_emb.numpy())),
        ("nn.Embedding", tables),
        ("an .npz file", file),
    ):
        emb = as_embeddings(source)
        same = torch.equal(emb.user, user_emb) and torch.equal(emb.item, item_emb)
        print(f"{name}: {'the same vectors' if same else 'OTHER VECTORS'}")
