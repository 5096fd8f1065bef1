"""Embeddings with the caller's own ids: lists as DataFrames, and a folder to keep."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings, as_embeddings
from ddrm_pyg.extras import versions
from ddrm_pyg.files import read_json, undamaged, write_json
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.ids import raw_ids, rows_of
from ddrm_pyg.nn._pretrained import (
    CONFIG,
    load_tensors,
    read_config,
    save_tensors,
    write_card,
)
from ddrm_pyg.nn._saved_past import load_past, load_source, save_past, save_source
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import StartSource, start_embeddings
from ddrm_pyg.ranking import recommend

logger = logging.getLogger("ddrm_pyg")

EMBEDDINGS, SEEN, IDS, DENOISER, SOURCE = (
    "embeddings.safetensors",
    "known.safetensors",
    "ids.json",
    "ddrm",
    "source",
)
"""What :meth:`Pipeline.save_pretrained` writes beside configuration and card."""


class Pipeline:
    """Answers in the caller's ids: lists, similar items, reasons, lists of new users.

    Args:
        embeddings: What ranks, in any form :func:`ddrm_pyg.embeddings.as_embeddings`
            takes.
        user_ids: ``[num_users]`` the id of each user row.
        item_ids: ``[num_items]`` the id of each item row.
        seen: The pairs that users have: they never come back.
        ddrm: The trained plug-in that made the user vectors, for users that come later;
            the whole :class:`~ddrm_pyg.nn.ddrm.DDRMRecommender` of
            ``train_start="past"``, which reads histories in order.
        source: What made the user vectors of histories in order without a DDRM: recent
            history means, or the states of a model such as SASRec. Without this and
            ``ddrm`` the mean of a new user's history is compared.

    Raises:
        ValueError: Tables, ids and pairs are not of the same users and items, ``ddrm``
            and ``source`` together, or a source of several starts.

    Example:
        >>> emb = Embeddings(torch.eye(2), torch.tensor([[2.0, 0], [1, 0], [0, 1]]))
        >>> seen = InteractionGraph(torch.tensor([[0, 1], [0, 2]]), 2, 3)
        >>> pipeline = Pipeline(emb, ["ann", "bob"], ["tea", "milk", "jam"], seen)
        >>> pipeline.recommend(["ann"], k=1)
          user  item  rank  score
        0  ann  milk     1    1.0
    """

    def __init__(
        self,
        embeddings: Any,
        user_ids: Sequence[Any],
        item_ids: Sequence[Any],
        seen: InteractionGraph,
        ddrm: DDRM | DDRMRecommender | None = None,
        source: StartSource | None = None,
    ) -> None:
        if isinstance(ddrm, DDRMRecommender) and ddrm.future is None:
            ddrm = ddrm.ddrm  # its vectors are those of the pipeline
        self.embeddings = as_embeddings(embeddings)
        self.embeddings.check_matches(seen.num_users, seen.num_items)
        self.user_ids = list(user_ids)
        self.item_ids = list(item_ids)
        for name, ids, size in (
            ("user_ids", self.user_ids, seen.num_users),
            ("item_ids", self.item_ids, seen.num_items),
        ):
            if len(ids) != size:
                raise ValueError(f"'{name}' must be {size} ids (got {len(ids)})")
        _check_source(source, ddrm, len(self.item_ids))
        self.seen = seen
        self.ddrm = ddrm
        self.source = source

    @classmethod
    def from_data(
        cls,
        embeddings: Any,
        data: HeteroData,
        *,
        ddrm: DDRM | DDRMRecommender | None = None,
        source: StartSource | None = None,
    ) -> Self:
        """Take ids and known pairs (train, validation and test) from a data set.

        Args:
            embeddings: What ranks, rows in the order of ``data``.
            data: The loaded data set.
            ddrm: The plug-in, for users that come later, see :class:`Pipeline`.
            source: In its place, see :class:`Pipeline`.
        """
        seen = InteractionGraph.from_data(data, splits=("train", "val", "test"))
        ids = (raw_ids(data, "user"), raw_ids(data, "item"))
        return cls(embeddings, *ids, seen, ddrm, source)

    def recommend(
        self, user: Sequence[Any] | None = None, *, k: int = 10
    ) -> pd.DataFrame:
        """List the best items that users do not know, best first.

        Args:
            user: Ids of users; all if None.
            k: List length; shorter where a user has fewer candidates.

        Returns:
            Columns ``user``, ``item``, ``rank`` (from 1) and ``score``.

        Raises:
            ValueError: An unknown id, or ``k`` < 1.
        """
        rows = torch.arange(len(self.user_ids))
        if user is not None:
            rows = rows_of(_several("user", user), self.user_ids, "'user'")
        score, item = recommend(self.embeddings, rows, k=k, exclude=self.seen)
        return self._frame("user", self.user_ids, rows, "item", score, item)

    def recommend_new(
        self, histories: Mapping[Any, Sequence[Any]], *, k: int = 10
    ) -> pd.DataFrame:
        """List items for users who were not there in training.

        A user's list depends on that user's history alone: DDRM starts without noise.

        Args:
            histories: Ids of users to ids of the items that they know, at least one;
                from first to last where histories are read in order. Of an item that
                repeats, the first one counts.
            k: List length.

        Returns:
            As :meth:`recommend`.

        Raises:
            ValueError: An unknown item, or an empty history.
        """
        pairs = _pairs(histories, list(histories), self.item_ids)
        history = InteractionGraph(pairs, len(histories), len(self.item_ids))
        history = history.without_repeats()
        emb = self._read(history)
        rows = torch.arange(len(histories))
        lists = recommend(emb, rows, k=k, exclude=history)
        return self._frame("user", list(histories), rows, "item", *lists)

    def _read(self, history: InteractionGraph) -> Embeddings:
        """What ranks for histories whose interactions stand in their order."""
        if isinstance(self.ddrm, DDRMRecommender):
            return self.ddrm.rank(UserSequences.from_graph(history))
        if self.source is not None:
            mean = self.seen.mean_item(self.source.item_emb)
            sequences = UserSequences.from_graph(history)
            return start_embeddings(self.source, sequences, mean)
        items = self.embeddings.item
        return Embeddings(self._fold_in(history, items), items)

    def append(
        self,
        histories: Mapping[Any, Sequence[Any]],
        *,
        item_emb: Mapping[Any, Any] | None = None,
    ) -> Pipeline:
        """Take in what happened since: new interactions, users and items.

        Nothing is trained. Users with new interactions get the vector of their whole
        history, as :meth:`recommend_new` makes it, and the others keep theirs. A new
        item gets the mean direction of its users, and the mean length of the old
        items: users' own length would put it before all of them.

        Args:
            histories: Ids of users, known or not, to the ids of what they took, at
                least one.
            item_emb: Vectors ``[D]`` of new items by id, in place of that mean.

        Returns:
            A pipeline whose new rows stand after the old ones; this one stays.

        Raises:
            ValueError: An empty history, a vector of another width or of an item that
                is not new, or histories are read in order: what does so has no place
                for new items, and ``recommend_new`` takes grown histories.
        """
        if isinstance(self.ddrm, DDRMRecommender) or self.source is not None:
            raise ValueError(
                "'append' needs a pipeline that reads histories in any order (got one "
                "that reads them in order: 'recommend_new' takes grown histories)"
            )
        taken = (item for items in histories.values() for item in items)
        user_ids = _extended(self.user_ids, histories)
        item_ids = _extended(self.item_ids, taken)
        pairs = _pairs(histories, user_ids, item_ids)
        old_user, old_item = self.embeddings
        sizes = len(user_ids), len(item_ids)
        edges = torch.cat([self.seen.edge_index, pairs], 1)
        seen = InteractionGraph(edges, *sizes).without_repeats()
        # users as they were, or would have been, before there were new items
        joined = torch.arange(len(old_user), len(user_ids))
        before = seen.subgraph(seen.edge_index[1] < len(old_item))
        user = torch.cat([old_user, self._fold_in_rows(before, joined, old_item)])
        takers = pairs.flip(0)[:, pairs[1] >= len(old_item)]
        takers[0] -= len(old_item)
        arrived = InteractionGraph(takers, sizes[1] - len(old_item), sizes[0])
        direction = F.normalize(arrived.without_repeats().history_mean(user))
        length = old_item.norm(dim=1).mean()
        item = torch.cat([old_item, (length * direction).to(old_item)])
        for row, vector in self._new_rows(item_emb or {}, item_ids):
            item[row] = vector
        active = pairs[0].unique()
        user[active] = self._fold_in_rows(seen, active, item).to(user)
        return Pipeline((user, item), user_ids, item_ids, seen, self.ddrm)

    def warm_start(self, model: Any, data: HeteroData) -> None:
        """Let a model's tables start from the vectors here, id by id.

        For models whose tables rank as they are, such as ``MF``, before ``fit``. Rows
        of ids that are not here stay as they were drawn; how many, is logged.

        Args:
            model: Has ``user_table`` and ``item_table`` for ``data``; changed in place.
            data: What it will be trained on.

        Raises:
            ValueError: Tables of other sizes than the data or of another width.
        """
        targets = model.user_table, model.item_table
        catalogues = self.user_ids, self.item_ids
        kinds = ("user", "item")
        ids = [raw_ids(data, kind) for kind in kinds]
        for kind, names, target in zip(kinds, ids, targets, strict=True):
            shape = [len(names), self.embeddings.item.size(1)]
            if list(target.shape) != shape:
                raise ValueError(
                    f"'model' must have a '{kind}_table' of {shape} "
                    f"(got {list(target.shape)})"
                )
        for kind, names, target, catalogue, source in zip(
            kinds, ids, targets, catalogues, self.embeddings, strict=True
        ):
            row_of = {str(name): row for row, name in enumerate(catalogue)}
            row = torch.tensor([row_of.get(str(name), -1) for name in names])
            there = row >= 0
            with torch.no_grad():
                target[there] = source[row[there]].to(target)
            logger.info("warm start: %d of %d %ss", int(there.sum()), len(there), kind)

    def similar(self, item: Sequence[Any], *, k: int = 10) -> pd.DataFrame:
        """List the items whose vectors point the same way, by cosine.

        Columns in which all users are alike, such as popularity, play no part.

        Args:
            item: Ids of items.
            k: List length.

        Returns:
            Columns ``item``, ``similar``, ``rank`` and ``score`` (the cosine).

        Raises:
            ValueError: An unknown id, or ``k`` < 1.
        """
        rows = rows_of(_several("item", item), self.item_ids, "'item'")
        table, size = self._directions(), len(self.item_ids)
        itself = InteractionGraph(torch.arange(size).expand(2, -1), size, size)
        score, near = recommend((table, table), rows, k=k, exclude=itself)
        return self._frame("item", self.item_ids, rows, "similar", score, near)

    def because(self, user: Any, item: Any, *, k: int = 3) -> pd.DataFrame:
        """Explain an item by what the user took that is nearest to it, by cosine.

        Args:
            user: Id of a user.
            item: Id of an item.
            k: Reasons at most.

        Returns:
            Columns ``taken`` and ``score`` (the cosine), nearest first.

        Raises:
            ValueError: An unknown id.
        """
        row = rows_of([user], self.user_ids, "'user'")
        target = rows_of([item], self.item_ids, "'item'")
        taken = self.seen.rows(row)[1].unique()
        taken = taken[taken != target]
        table = self._directions()
        score, place = (table[taken] @ table[target[0]]).topk(min(k, len(taken)))
        ids = [self.item_ids[column] for column in taken[place].tolist()]
        return pd.DataFrame({"taken": ids, "score": score.numpy()})

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        """Write tables, ids, known pairs and DDRM to a folder; nothing is pickled.

        Args:
            folder: Made where it is not there; files of the same names are replaced.
            card: What else the card should say, as JSON: settings, metrics, a verdict.
        """
        path, more = Path(folder), dict(card or {})
        json.dumps(more)  # refused before a file is written
        facts = {
            "users": len(self.user_ids),
            "items": len(self.item_ids),
            "known pairs": self.seen.num_edges,
            "width": self.embeddings.user.size(1),
            "fingerprint": self._fingerprint(),
            "denoiser": self.ddrm and type(self.ddrm).__name__,
            "source": self.source and type(self.source).__name__,
        }
        if self.source is not None:
            save_source(self.source, path / SOURCE)
        if isinstance(self.ddrm, DDRMRecommender):
            save_past(self.ddrm, path / DENOISER)
        elif self.ddrm is not None:
            self.ddrm.save_pretrained(path / DENOISER)
        save_tensors(path / EMBEDDINGS, self.embeddings._asdict())
        save_tensors(path / SEEN, {"edge_index": self.seen.edge_index})
        write_json(path / IDS, {"user": self.user_ids, "item": self.item_ids})
        sections = {"Data": facts, "More": more, "Versions": versions()}
        write_card(path, "Pipeline", "Embeddings with ids.", sections)
        config = {"class": "Pipeline", **facts, "card": more, "versions": versions()}
        write_json(path / CONFIG, config)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what :meth:`save_pretrained` wrote.

        Raises:
            FileNotFoundError: The folder lacks a file.
            ValueError: It is another class's, a file is damaged, or files are of
                different saves.
        """
        path = Path(folder)
        config = read_config(path, "Pipeline")
        with undamaged(path, "not what save_pretrained writes", "save it again"):
            ids = read_json(path / IDS)
            emb = Embeddings(**load_tensors(path / EMBEDDINGS))
            edge_index = load_tensors(path / SEEN)["edge_index"]
            seen = InteractionGraph(edge_index, len(ids["user"]), len(ids["item"]))
            ddrm: DDRM | DDRMRecommender | None = None
            if config["denoiser"] == DDRMRecommender.__name__:
                ddrm = load_past(path / DENOISER)
            elif config["denoiser"]:
                ddrm = DDRM.from_pretrained(path / DENOISER)
            # folders from before there were sources have none
            source = load_source(path / SOURCE) if config.get("source") else None
            pipeline = cls(emb, ids["user"], ids["item"], seen, ddrm, source)
            if pipeline._fingerprint() != config["fingerprint"]:
                raise ValueError(f"ids and pairs must be those of {CONFIG}")
            return pipeline

    def _fold_in(self, history: InteractionGraph, item_emb: Tensor) -> Tensor:
        """Make vectors of histories alone, without noise."""
        mean = self.seen.mean_item(self.embeddings.item)
        ideal = history.history_mean(item_emb, fallback=mean)
        if isinstance(self.ddrm, DDRM):
            return self.ddrm.generate(ideal, noise=torch.zeros_like(ideal))
        return ideal

    def _fold_in_rows(
        self, graph: InteractionGraph, user: Tensor, item_emb: Tensor
    ) -> Tensor:
        """Make vectors of some users of a graph."""
        pairs = torch.stack(graph.rows(user))
        history = InteractionGraph(pairs, len(user), len(item_emb))
        return self._fold_in(history, item_emb)

    def _new_rows(
        self, item_emb: Mapping[Any, Any], item_ids: list[Any]
    ) -> list[tuple[int, Tensor]]:
        """Return the rows of given vectors of new items."""
        rows = rows_of(list(item_emb), item_ids, "'item_emb'").tolist()
        width = self.embeddings.item.size(1)
        pairs = []
        for row, (name, values) in zip(rows, item_emb.items(), strict=True):
            vector = torch.as_tensor(values)
            if row < len(self.item_ids) or vector.shape != (width,):
                raise ValueError(
                    f"'item_emb' must have vectors [{width}] of new items "
                    f"(got {list(vector.shape)} for {name!r})"
                )
            pairs.append((row, vector))
        return pairs

    def _directions(self) -> Tensor:
        """Vectors of items, of length 1.

        What adds the same to the scores of all users, as popularity does in the last
        column of a DDRM that learns from the past, has no direction.
        """
        user, item = self.embeddings
        differs = (user != user[:1]).any(dim=0)
        kept = item[:, differs] if bool(differs.any()) else item
        return F.normalize(kept.float())

    def _fingerprint(self) -> str:
        ids = json.dumps([self.user_ids, self.item_ids])
        digest = hashlib.sha256(ids.encode())
        digest.update(self.seen.edge_index.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _frame(
        self,
        left: str,
        left_ids: list[Any],
        rows: Tensor,
        right: str,
        score: Tensor,
        item: Tensor,
    ) -> pd.DataFrame:
        """Lay out lists one item a row, without padding."""
        kept = item < len(self.item_ids)
        rank = torch.arange(1, item.size(1) + 1).expand_as(item)[kept]
        rows = rows.unsqueeze(1).expand_as(item)[kept]
        return pd.DataFrame(
            {
                left: pd.Index(left_ids).take(rows.numpy()),
                right: pd.Index(self.item_ids).take(item[kept].numpy()),
                "rank": rank.numpy(),
                "score": score[kept].numpy(),
            }
        )

    def __repr__(self) -> str:
        ddrm = "" if self.ddrm is None else f", ddrm={self.ddrm!r}"
        source = "" if self.source is None else f", source={self.source!r}"
        return (
            f"Pipeline({self.embeddings!r}, seen={self.seen.num_edges} pairs"
            f"{ddrm}{source})"
        )


def _check_source(
    source: StartSource | None, ddrm: DDRM | DDRMRecommender | None, num_items: int
) -> None:
    """Refuse what cannot read new histories beside the rest of a pipeline."""
    if source is None:
        return
    if ddrm is not None:
        raise ValueError("'ddrm' and 'source' exclude each other: one of them ranks")
    if source.num_starts != 1 or len(source.item_emb) != num_items:
        raise ValueError(
            f"'source' must have one start per history and {num_items} items "
            f"(got {source.num_starts} and {len(source.item_emb)})"
        )


def _extended(ids: list[Any], more: Iterable[Any]) -> list[Any]:
    """Add ids that are not there yet behind the others, as they come."""
    there = set(map(str, ids))
    new = {str(name): name for name in more if str(name) not in there}
    return [*ids, *new.values()]


def _pairs(
    histories: Mapping[Any, Sequence[Any]], user_ids: list[Any], item_ids: list[Any]
) -> Tensor:
    """Write histories as ``[2, M]`` rows of users and items."""
    users = rows_of(list(histories), user_ids, "'histories'")
    pairs = [torch.empty(2, 0, dtype=torch.int64)]
    for row, (name, items) in zip(users, histories.items(), strict=True):
        if not len(items):
            raise ValueError(f"'histories' must not be empty (got {name!r}: [])")
        columns = rows_of(items, item_ids, f"'histories' of {name!r}")
        pairs.append(torch.stack([row.expand_as(columns), columns]))
    return torch.cat(pairs, 1)


def _several(name: str, ids: Any) -> list[Any]:
    """Refuse one id where several are asked for: a text is not a list of letters."""
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__len__"):
        raise TypeError(f"'{name}' must be several ids, such as [{ids!r}]")
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)
