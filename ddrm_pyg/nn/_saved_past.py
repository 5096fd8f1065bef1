"""A DDRM that reads histories in order, as a folder; nothing is pickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.files import undamaged, write_text
from ddrm_pyg.nn import models
from ddrm_pyg.nn._pretrained import (
    CONFIG,
    Pretrained,
    load_tensors,
    read_config,
    save_tensors,
)
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import HistoryMeans, HistoryStates

_CLASS, _DDRM, _TENSORS = "DDRMRecommender", "ddrm", "past.safetensors"
_SETTINGS = ("window", "cuts", "num_sampled")


def save_past(recommender: DDRMRecommender, folder: str | os.PathLike[str]) -> None:
    """Write a recommender of ``train_start="past"``, with all that it starts from.

    Times of its training are not kept: what is loaded ranks, and trains no further.

    Args:
        recommender: Trained.
        folder: Made where it is not there; files of the same names are replaced.

    Raises:
        ValueError: It starts from something that cannot be saved.
    """
    path, future = Path(folder), recommender.future
    assert future is not None
    tensors = {"user_emb": recommender.user_emb}
    encoders: dict[str, Any] = {}
    for place, source in enumerate(map(_checked, future.past.sources)):
        tensors[f"item_emb.{place}"] = source.item_emb
        if isinstance(source, HistoryMeans):
            tensors[f"scales.{place}"] = source.scales
        else:
            encoders[str(place)] = source.model
    for name, tensor in future.past.state_dict().items():
        tensors[f"past.{name}"] = tensor
    config: dict[str, Any] = {name: getattr(future, name) for name in _SETTINGS}
    config |= {"loss": future.loss_name, "seed": recommender.seed}
    recommender.ddrm.save_pretrained(path / _DDRM)
    for name, model in encoders.items():
        model.save_pretrained(_encoder(path, name))
    save_tensors(path / _TENSORS, tensors)
    names = {place: type(model).__name__ for place, model in encoders.items()}
    config = {"class": _CLASS, "settings": config, "encoders": names}
    write_text(path / CONFIG, json.dumps(config, indent=1) + "\n")


def load_past(folder: str | os.PathLike[str]) -> DDRMRecommender:
    """Load what :func:`save_past` wrote, on the CPU and in evaluation mode.

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: It is another class's, or a file is damaged.
    """
    path = Path(folder)
    config = read_config(path, _CLASS)
    with undamaged(path, "not what save_past writes", "save it again"):
        return _build(path, config).eval()


def _build(path: Path, config: dict[str, Any]) -> DDRMRecommender:
    tensors = load_tensors(path / _TENSORS)
    first, *beside = (
        _source(path, config["encoders"], tensors, place)
        for place in range(sum(name.startswith("item_emb.") for name in tensors))
    )
    with torch.random.fork_rng([]):
        recommender = DDRMRecommender(
            DDRM.from_pretrained(path / _DDRM),
            Embeddings(tensors["user_emb"], first.item_emb),
            train_start="past",
            edge_time=torch.empty(0),  # of training alone
            scales=first.scales.tolist(),
            beside=beside,
            **config["settings"],
        )
    assert recommender.future is not None
    parts = (name.partition(".") for name in tensors)
    state = {
        name: tensors[f"{kind}.{name}"] for kind, _, name in parts if kind == "past"
    }
    recommender.future.past.load_state_dict(state)
    return recommender


def _checked(source: nn.Module) -> Any:
    """Refuse a source that would not come back the same."""
    if isinstance(source, HistoryMeans):
        return source
    if isinstance(source, HistoryStates):
        model = source.model
        is_ours = getattr(models, type(model).__name__, None) is type(model)
        if is_ours and isinstance(model, Pretrained):
            return source
        source = model
    raise ValueError(
        "'beside' must be history means or states of a model of ddrm_pyg.nn.models to "
        f"be saved (got {type(source).__name__})"
    )


def _source(
    path: Path, encoders: dict[str, str], tensors: dict[str, Tensor], place: int
) -> Any:
    item_emb = tensors[f"item_emb.{place}"]
    if str(place) not in encoders:
        return HistoryMeans(item_emb, tensors[f"scales.{place}"].tolist())
    encoder = getattr(models, encoders[str(place)])
    return HistoryStates(encoder.from_pretrained(_encoder(path, place)), item_emb)


def _encoder(path: Path, place: int | str) -> Path:
    return path / f"encoder{place}"
