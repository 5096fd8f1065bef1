"""Trains RecTools' SASRec on histories; run by _peers.py, where RecTools is.

Knows nothing of this package: reads histories, writes states and item vectors. Every
history is one sample, whose places each predict the next item. All that SETTINGS does
not name is RecTools' default: MLPs as wide as the states, ReLU, Adam with (.9, .98).
"""

import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

SETTINGS = {
    "n_blocks": 2,
    "n_heads": 1,
    "n_factors": 64,
    "dropout_rate": 0.2,
    "loss": "softmax",
    "lr": 1e-3,
    "batch_size": 128,
}
NEVER = -1e6
"""Score of an item that RecTools has dropped: it is in nobody's latest ones."""


class Watch(Callback):
    """Prints an epoch's own processor seconds; writes what ranks every few epochs."""

    def __init__(self, folder, latest, num_items, every):
        self.folder, self.every = folder, every
        self.latest, self.num_items = latest, num_items

    def on_train_start(self, trainer, module):
        """Begin to count."""
        self.begin = time.process_time()

    def on_train_epoch_end(self, trainer, module):
        """Stop counting while tables are written."""
        seconds = time.process_time() - self.begin
        epoch = trainer.current_epoch + 1
        loss = float(trainer.callback_metrics["train_loss"])
        print(epoch, round(loss, 4), round(seconds, 1), flush=True)
        if epoch % self.every == 0:
            module.eval()
            self.write(self.folder / f"{epoch}.npz", module)
            module.train()
        self.begin = time.process_time()

    @torch.no_grad()
    def write(self, path, module):
        """Keep the states of whole histories, and a vector for every item.

        A last column, 1 in states, puts items that RecTools has dropped below all.
        """
        ids = module.data_preparator.get_known_item_ids().astype(np.int64)
        place = np.zeros(self.num_items, np.int64)  # 0 is RecTools' padding
        place[ids] = np.arange(1, len(ids) + 1)
        net = module.torch_model
        table = net.item_model.get_all_embeddings()
        own = np.append(place, 0)[self.latest]
        states = [
            net.encode_sessions({"x": rows}, table)[:, -1]
            for rows in torch.from_numpy(own).split(256)
        ]
        user, item = torch.cat(states).numpy(), table.numpy()[place]
        item[place == 0] = 0
        below = np.where(place == 0, NEVER, 0).astype(np.float32)
        np.savez(
            path,
            user=np.column_stack((user, np.ones(len(user), np.float32))),
            item=np.column_stack((item, below)),
        )


def latest_of(pointer, item, length, padding):
    """Write the last items of every history out, aligned to the right."""
    table = np.full((len(pointer) - 1, length), padding)
    for row, (first, last) in zip(table, pairwise(pointer), strict=True):
        items = item[first:last][-length:]
        row[length - len(items) :] = items
    return table


def main(folder, length, epochs, every):
    """Train on the latest items of every history."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(folder / "histories.npz", allow_pickle=False) as arrays:
        pointer, item, num_items = (arrays[k] for k in ("pointer", "item", "num_items"))
    clicks = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(pointer) - 1), np.diff(pointer)),
            Columns.Item: item,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.arange(len(item)), unit="s"),
        }
    )
    latest = latest_of(pointer, item, length, padding=int(num_items))
    watch = Watch(folder, latest, int(num_items), every)

    def trainer():
        return Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[watch],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    model = SASRecModel(**SETTINGS, session_max_len=length, get_trainer_func=trainer)
    model.fit(Dataset.construct(clicks))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
