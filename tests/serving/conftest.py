"""One export that the tests share: writing it takes seconds."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import NamedTuple

import pytest
import torch

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import HistoryMeans
from ddrm_pyg.serving.export import export
from ddrm_pyg.serving.program import MeanEncode

if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))):
    collect_ignore_glob = ["test_*.py"]

NUM_ITEMS = 500
K = 20


class Exported(NamedTuple):
    """A folder and what it was made of."""

    folder: object
    encode: MeanEncode
    item_emb: torch.Tensor
    ids: list


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    """Both formats of a DDRM with visible noise; ids with blanks and quotes."""
    torch.manual_seed(0)
    ddrm = DDRM(16, (32,), num_train_timesteps=10, noise_scale=0.5, noise_max=0.7)
    ddrm.eval()
    item_emb = torch.randn(NUM_ITEMS, 16)
    ids = [f'book "{row}", é' for row in range(NUM_ITEMS)]
    encode = MeanEncode(ddrm, item_emb, item_emb.mean(0))
    folder = tmp_path_factory.mktemp("exports") / "first"
    export(folder, encode, item_ids=ids, k=K)
    return Exported(folder, encode, item_emb, ids)


@pytest.fixture(scope="session")
def past() -> DDRMRecommender:
    """Two tables of items, three scales, popularity: nothing of it is as at first."""
    torch.manual_seed(0)
    num_items = 60
    emb = Embeddings(torch.randn(5, 8), torch.randn(num_items, 8))
    ddrm = DDRM(
        12, (32,), num_start_steps=0, residual=True, denoise_user=False, noise_scale=0.5
    )
    recommender = DDRMRecommender(
        ddrm,
        emb,
        train_start="past",
        edge_time=torch.arange(3),
        scales=(1.0, 4.0, math.inf),
        beside=[HistoryMeans(torch.randn(num_items, 4), (2.0, math.inf))],
    )
    reader = recommender.future.past
    with torch.no_grad():
        for weights in (*reader.mix, reader.log_scale, reader.popularity_weight):
            weights.add_(torch.randn(weights.shape))
    reader.item_degree.copy_(torch.arange(num_items))
    return recommender.eval()


def random_histories(num_rows, length, num_items, seed=0):
    """Distinct rows, some padded, the first one empty."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(num_rows, num_items, generator=draw).argsort(1)[:, :length]
    size = torch.randint(0, length + 1, (num_rows, 1), generator=draw)
    size[0] = 0
    return rows.where(torch.arange(rows.size(1)) < size, num_items)


@pytest.fixture
def histories():
    """Make tables of rows of histories."""
    return random_histories
