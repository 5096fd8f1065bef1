"""Take interactions from any PyG data set of users and items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage

from ddrm_pyg.datasets._graph import (
    Blocks,
    RawIds,
    build_graph,
    hold_out,
    warn_untrained,
)
from ddrm_pyg.datasets._table import check_column
from ddrm_pyg.datasets.readers import arrange, refuse_arguments
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, per_edge
from ddrm_pyg.messages import ASSUMED
from ddrm_pyg.transforms.split import Scope, check_ratios

EdgeType = tuple[str, str, str]
Role = Literal["rating", "time"]
Asked = str | Literal[False] | None

_LABELLED = ("pos_edge_label_index", "edge_label_index")
"""What RandomLinkSplit calls the pairs to find, with and without split labels."""


def from_hetero(
    data: HeteroData | Sequence[HeteroData],
    edge_type: EdgeType,
    *,
    rating: str | Literal[False] | None = None,
    time: str | Literal[False] | None = None,
    liked_from: float | None = None,
    ratios: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    split: bool | Scope = True,
) -> HeteroData:
    """Turn one edge type of a PyG data set into interactions with held-out pairs.

    PyG's ``MovieLens``, ``MovieLens100K``, ``MovieLens1M``, ``AmazonBook``, ``Taobao``
    and their like come in by it::

        data = from_hetero(MovieLens1M(root)[0], ("user", "rates", "movie"))

    - Without a split they are split here as :func:`ddrm_pyg.load_interactions` does.
    - A data set with ``edge_label_index`` (``MovieLens100K``, ``AmazonBook``) brings
      its own: those pairs are test.
    - So do the three that ``RandomLinkSplit`` returns, given as they are. Its negative
      samples, whose label is 0, are left out. One of them alone is refused where it is
      the train part, and else is taken as train and test, which is said.

    Where there are no validation pairs, a seeded tenth of each user's train pairs is
    held out. Whatever is assumed is said as a one-line warning of the logger
    ``ddrm_pyg.assumed``. What is given is not changed.

    Args:
        data: A data set, or train, validation and test of ``RandomLinkSplit``.
        edge_type: The edges to take, from users to items.
        rating: Attribute of the edges with ratings ``[E]``. ``None`` takes ``rating``
            where there is one, ``False`` takes none.
        time: Attribute of the edges with times ``[E]``. ``None`` takes ``time`` where
            there is one, ``False`` takes none.
        liked_from: The lowest rating that counts as liked, see
            :func:`ddrm_pyg.load_interactions`.
        ratios: Shares of train, validation and test, see
            :func:`ddrm_pyg.load_interactions`.
        seed: Seeds the generators of a random split and of a held-out validation.
        split: ``True``, ``"user"``, ``"global"`` or ``False``, see
            :func:`ddrm_pyg.load_interactions`.

    Returns:
        What :func:`ddrm_pyg.load_interactions` returns. Nodes keep their numbers,
        those without interactions included; ``raw_id`` is that of the node type, or
        the number of the node.

    Raises:
        TypeError: Not such data.
        ValueError: There is no such edge type or attribute, nothing tells the number of
            nodes, the train part of a split comes alone, or a value is refused.
    """
    ratios = check_ratios(ratios)
    stages = [data] if isinstance(data, HeteroData) else data
    if not isinstance(stages, list | tuple) or len(stages) not in (1, 3):
        raise TypeError(
            "'data' must be a HeteroData, or the three that RandomLinkSplit returns "
            f"(got {type(data).__name__})"
        )
    stores = [_store(stage, edge_type) for stage in stages]
    raw = [_raw_ids(stages[0], node_type) for node_type in edge_type[::2]]
    blocks, said = _blocks(stores, rating, time)
    for block in blocks.values():
        InteractionGraph(block["index"], len(raw[0]), len(raw[1]))  # or it refuses
    name = str(edge_type)
    if len(stages) == 1 and "test" in blocks:
        _say_lone_part(name, stores[0], blocks["test"]["index"].size(1))
    if len(blocks) > 1:
        refuse_arguments(
            f"{name}, which brings its own split",
            {"liked_from": liked_from, "ratios": ratios, "split": split},
        )
    graph = build_graph(name, blocks, *raw)
    if stores[0].get("in_order") is True:
        graph[EDGE].in_order = True
    if len(blocks) == 1:
        return arrange(name, graph, said, liked_from, ratios, seed, split)
    if "val" not in blocks:
        graph = hold_out(name, graph, seed)
    warn_untrained(name, graph)
    return graph


def _store(data: Any, edge_type: EdgeType) -> EdgeStorage:
    """Return the edges of a type; looked up with care, as PyG would add it."""
    if not isinstance(data, HeteroData):
        raise TypeError(f"'data' must be a HeteroData (got {type(data).__name__})")
    if edge_type not in data.edge_types:
        raise ValueError(
            f"'edge_type' must be one of {data.edge_types} (got {edge_type!r})"
        )
    if edge_type[0] == edge_type[-1]:
        raise ValueError(f"'edge_type' must join two node types (got {edge_type})")
    store = data[edge_type]
    if not isinstance(store.get("edge_index"), Tensor):
        raise ValueError(f"'data' must have an edge_index for {edge_type}")
    return store


def _raw_ids(data: HeteroData, node_type: str) -> RawIds:
    size = None
    if node_type in data.node_types:
        size = data[node_type].num_nodes
    if size is None:
        raise ValueError(
            f"'data' must tell the number of {node_type}s: set "
            f"data[{node_type!r}].num_nodes"
        )
    raw_id = data[node_type].get("raw_id", torch.arange(size))
    if len(raw_id) != size:
        raise ValueError(
            f"'raw_id' of {node_type} must have {size} values (got {len(raw_id)})"
        )
    return raw_id


def _blocks(
    stores: Sequence[EdgeStorage], rating: Asked, time: Asked
) -> tuple[Blocks, list[str]]:
    """Return the pairs of each split, and which attributes were not asked for."""
    # what RandomLinkSplit passes messages over in validation is all of train
    train = stores[len(stores) // 2]
    block = {"index": _copied(train.edge_index)}
    attributes: dict[Role, Asked] = {"rating": rating, "time": time}
    assumed = []
    for role, asked in attributes.items():
        if asked is False:
            continue
        name = asked or role
        if name in train:
            values = per_edge(train[name], name, block["index"].size(1))
            block[role] = check_column(role, f"'{name}'", _copied(values).numpy())
            assumed += [name] if asked is None else []
        elif asked is not None:
            raise ValueError(
                f"no edge attribute {name!r} (there are {', '.join(train.keys())})"
            )
    blocks = {"train": block}
    if len(stores) == 3:
        blocks |= {"val": _labelled(stores[1]), "test": _labelled(stores[2])}
    elif any(key in train for key in _LABELLED):
        blocks["test"] = _labelled(train)
        _refuse_train_part(block["index"], blocks["test"]["index"])
    if "val" in blocks and not blocks["val"]["index"].size(1):
        del blocks["val"]
    return blocks, [f"attributes {', '.join(assumed)}"] if assumed else []


def _labelled(store: EdgeStorage) -> dict[str, Tensor]:
    """Return the pairs that a model is to find, without negative samples."""
    key = next((key for key in _LABELLED if key in store), None)
    if key is None:
        raise ValueError("'data' must have an edge_label_index in each of three parts")
    index, label = store[key], store.get(key.removesuffix("_index"))
    if label is not None:
        index = index[:, per_edge(label, "edge_label", index.size(1)) > 0]
    return {"index": _copied(index)}


def _refuse_train_part(edge_index: Tensor, test: Tensor) -> None:
    """Refuse the train part of a split, whose pairs to find are its edges."""
    size = int(torch.cat([edge_index, test], 1).max()) + 1 if test.numel() else 1
    if torch.isin(test[0] * size + test[1], edge_index[0] * size + edge_index[1]).all():
        raise ValueError(
            "'data' must be all three that RandomLinkSplit returns, from_hetero((train,"
            " val, test), ...), or have pairs in edge_label_index that are no edges "
            f"(got one HeteroData, whose {test.size(1)} are all in edge_index)"
        )


def _say_lone_part(name: str, store: EdgeStorage, num_pairs: int) -> None:
    """Say what becomes of the validation or test part of a split, given alone."""
    label = store.get("edge_label")
    has_labels = isinstance(label, Tensor) and bool(((label == 0) | (label == 1)).all())
    if has_labels or _LABELLED[0] in store:
        ASSUMED.warning(
            "%s: one part of RandomLinkSplit, of which the %d pairs to find are taken "
            "as test and the edges as train; from_hetero((train, val, test), ...) "
            "keeps its validation",
            name,
            num_pairs,
        )


def _copied(values: Tensor) -> Tensor:
    return values.detach().cpu().clone()
