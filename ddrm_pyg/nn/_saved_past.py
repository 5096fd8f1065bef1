"""What reads histories in order, as a folder; nothing is pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from ddrm_pyg.nn.future import HistoryMeans, HistoryStates, StartSource

_CLASS, _DDRM, _TENSORS = "DDRMRecommender", "ddrm", "past.safetensors"
_SOURCE = "StartSource"
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
    tensors, encoders = _parts(future.past.sources)
    tensors["user_emb"] = recommender.user_emb
    for name, tensor in future.past.state_dict().items():
        tensors[f"past.{name}"] = tensor
    config: dict[str, Any] = {name: getattr(future, name) for name in _SETTINGS}
    config |= {"loss": future.loss_name, "seed": recommender.seed}
    recommender.ddrm.save_pretrained(path / _DDRM)
    _write(path, {"class": _CLASS, "settings": config}, tensors, encoders)


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


def save_source(source: StartSource, folder: str | os.PathLike[str]) -> None:
    """Write what turns histories into vectors without a DDRM.

    Args:
        source: Of ours.
        folder: Made where it is not there; files of the same names are replaced.

    Raises:
        ValueError: It cannot be saved.
    """
    _write(Path(folder), {"class": _SOURCE}, *_parts([source]))


def load_source(folder: str | os.PathLike[str]) -> StartSource:
    """Load what :func:`save_source` wrote, on the CPU.

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: It is another class's, or a file is damaged.
    """
    path = Path(folder)
    config = read_config(path, _SOURCE)
    with undamaged(path, "not what save_source writes", "save it again"):
        return _source(path, config["encoders"], load_tensors(path / _TENSORS), 0)


def _parts(sources: Iterable[Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """List the tensors of sources by name, and their encoders by place."""
    tensors: dict[str, Tensor] = {}
    encoders: dict[str, Any] = {}
    for place, source in enumerate(map(_checked, sources)):
        tensors[f"item_emb.{place}"] = source.item_emb
        if isinstance(source, HistoryMeans):
            tensors[f"scales.{place}"] = source.scales
        else:
            encoders[str(place)] = source.model
    return tensors, encoders


def _write(
    path: Path,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    encoders: dict[str, Any],
) -> None:
    for name, model in encoders.items():
        model.save_pretrained(_encoder(path, name))
    save_tensors(path / _TENSORS, tensors)
    names = {place: type(model).__name__ for place, model in encoders.items()}
    write_text(
        path / CONFIG, json.dumps({**config, "encoders": names}, indent=1) + "\n"
    )


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


def _checked(source: Any) -> Any:
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
        "'beside' or 'source' must be history means or states of a model of "
        f"ddrm_pyg.nn.models to be saved (got {type(source).__name__})"
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
