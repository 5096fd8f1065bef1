"""Trains RecBole's SASRec on histories; run by _peers.py, where RecBole is.

Knows nothing of this package: reads histories, writes states and item vectors. Every
prefix of a history is a sample, as RecBole's loader augments.
"""

import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec

SETTINGS = {
    "n_layers": 2,
    "n_heads": 1,
    "hidden_size": 64,
    "inner_size": 256,
    "hidden_dropout_prob": 0.2,
    "attn_dropout_prob": 0.2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "loss_type": "CE",
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "NEG_PREFIX": "neg_",
    "device": "cpu",
}
BATCH, LR = 256, 1e-3


def prefixes(rows, length):
    """Cut every history before each item but its first; return what came next, too."""
    cut = [
        (row[max(0, t - length) : t], row[t])
        for row in rows
        for t in range(1, len(row))
    ]
    target = torch.from_numpy(np.array([item for _, item in cut]))
    return *padded([row for row, _ in cut], length), target


def padded(rows, length):
    """Pad on the right with 0, as RecBole does; return lengths, too."""
    table = np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return torch.from_numpy(table), torch.tensor([len(row) for row in rows])


def main(folder, width, epochs, every):
    """Train on every prefix of at most ``width`` items; write what ranks."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(folder / "histories.npz", allow_pickle=False) as arrays:
        pointer, item = arrays["pointer"], arrays["item"] + 1  # 0 is RecBole's padding
        num_items = int(arrays["num_items"]) + 1
    rows = [item[first:last] for first, last in pairwise(pointer)]
    prefix, length, target = prefixes(rows, width)
    whole, whole_length = padded([row[-width:] for row in rows], width)
    settings = SETTINGS | {"MAX_ITEM_LIST_LENGTH": width}
    model = SASRec(settings, SimpleNamespace(num=lambda _: num_items))
    optimiser = torch.optim.Adam(model.parameters(), lr=LR)
    for epoch in range(1, epochs + 1):
        begin, total = time.process_time(), 0.0
        model.train()
        for rows in torch.randperm(len(target)).split(BATCH):
            batch = {
                "item_list": prefix[rows],
                "length": length[rows],
                "item": target[rows],
            }
            optimiser.zero_grad()
            loss = model.calculate_loss(Interaction(batch))
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        seconds = time.process_time() - begin
        print(epoch, round(total / len(target), 4), round(seconds, 1), flush=True)
        if epoch % every == 0:
            write(folder / f"{epoch}.npz", model, whole, whole_length.clip(1))


@torch.no_grad()
def write(path, model, whole, length):
    """Keep the states of whole histories, and the item table without its padding."""
    model.eval()
    pairs = zip(whole.split(512), length.split(512), strict=True)
    user = torch.cat([model(*pair) for pair in pairs])
    np.savez(path, user=user.numpy(), item=model.item_embedding.weight[1:].numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
