"""A noisy CSV with ids of its own: load, train, recommend in the same ids."""

import csv
import logging
import tempfile
from pathlib import Path

import torch

from ddrm_pyg import (
    DDRM,
    MF,
    DDRMRecommender,
    InteractionGraph,
    evaluate,
    fit,
    load_interactions,
    recommend,
)
from ddrm_pyg.datasets import SyntheticInteractions

torch.manual_seed(0)
logging.basicConfig(format="%(message)s")  # shows what the loader assumes


def write_shop(path):
    """Write a table as a shop has it: customers, products, 1 to 5 stars, times."""
    world = SyntheticInteractions(400, 300, 16_000)[0]["user", "interacts", "item"]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["customer", "product", "stars", "bought_at"])
        for prefix, pairs in (
            ("", world.edge_index),
            ("val_", world.val_edge_label_index),
            ("test_", world.test_edge_label_index),
        ):
            stars = world[f"{prefix}edge_rating"].tolist()
            times = world[f"{prefix}edge_time"].tolist()
            rows = pairs.T.tolist(), stars, times
            for (user, item), star, time in zip(*rows, strict=True):
                table.writerow([f"customer-{user}", f"B{item:05}", int(star), time])


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "shop.csv"
    write_shop(path)
    # Purchases rated below 4 stay in train, as the false positives they are in
    # practice, labelled for measuring; the test split holds liked products only.
    data = load_interactions(
        path,
        user="customer",
        item="product",
        rating="stars",
        time="bought_at",
        liked_from=4,
    )

graph = InteractionGraph.from_data(data)
noise = data["user", "interacts", "item"].edge_is_noise.float().mean()
print(f"{graph.num_edges} train purchases, {noise:.0%} of them regretted")

backend = MF(graph.num_users, graph.num_items, embedding_dim=32)
fit(backend, data, epochs=20, lr=5e-3, seed=0)
ddrm = DDRM(embedding_dim=32, hidden_dims=(128,), num_train_timesteps=10)
recommender = DDRMRecommender(ddrm, backend.scorer(graph))
fit(recommender, data, epochs=15, seed=0)
scorer = recommender.scorer(graph)
print(f"ndcg@20 on test {evaluate(scorer, data)['ndcg@20']:.4f}")

customers, products = data["user"].raw_id, data["item"].raw_id
user = torch.tensor([customers.index("customer-7"), customers.index("customer-42")])
seen = InteractionGraph.from_data(data, splits=("train", "val", "test"))
_, item = recommend(scorer, user, k=5, exclude=seen)
for row, best in zip(user.tolist(), item.tolist(), strict=True):
    print(f"{customers[row]}: {', '.join(products[i] for i in best)}")
