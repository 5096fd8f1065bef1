"""Self-attention over the sequence of a user's items."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_at_least, check_share, check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_candidates
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.loader import user_batches
from ddrm_pyg.losses.softmax import sampled_softmax_loss, softmax_loss_of_products
from ddrm_pyg.nn._parts import drop
from ddrm_pyg.nn._pretrained import Pretrained

logger = logging.getLogger("ddrm_pyg")

_ENCODED = 256
"""Histories encoded at a time."""


class NextItems(NamedTuple):
    """Histories of some users, and what came after each of their items.

    Attributes:
        item: ``[B, L]`` int64, from first to last, padded on the left with
            ``num_items``.
        next_item: ``[M]`` int64, the next item of each that is no padding, row by row.
    """

    item: Tensor
    next_item: Tensor


class SASRec(Pretrained, nn.Module):
    r"""Next items by causal self-attention over a user's latest items (SASRec).

    `"Self-Attentive Sequential Recommendation" <https://arxiv.org/abs/1808.09781>`_
    (ICDM 2018). Items and places, counted from the end, are embedded; each layer is

    .. math:: h \leftarrow h + \operatorname{Attention}(\operatorname{LN}(h)), \quad
              h \leftarrow h + \operatorname{MLP}(\operatorname{LN}(h))

    and the last state of a history, normalised once more, is compared with the item
    table by inner product.

    Every place of a sequence is trained to predict the next item by cross-entropy over
    all items, which closes the gap to BERT4Rec (`"Turning Dross Into
    Gold Loss: is BERT4Rec really better than SASRec?"
    <https://arxiv.org/abs/2309.07602>`_, RecSys 2023); the paper has one uniform
    negative. Other departures: GELU instead of ReLU, and no dropout of attention.

    Args:
        num_items: Number of items.
        embedding_dim: Width of states and item vectors.
        num_layers: Layers of attention.
        num_heads: Heads of each, a divisor of ``embedding_dim``.
        hidden_dim: Width of the MLPs' hidden layer; ``embedding_dim``, as published,
            if None.
        max_length: Latest items of a history that count, in training and after.
        dropout: Probability of dropping an entry of the embedded items, and of what
            each attention and MLP adds.
        num_candidates: Items in a step's cross-entropy, drawn by popularity
            (:func:`~ddrm_pyg.graph.sampling.draw_candidates`) and corrected for that;
            all items if None. For catalogues that are too large to be scored at every
            place.
        edge_time: ``[E]`` time of every train interaction; their order in the graph if
            None, which is logged.

    Raises:
        ValueError: A size < 1, ``dropout`` outside [0, 1], or ``num_heads`` that does
            not divide ``embedding_dim``.
    """

    edge_time: Tensor | None
    _of_training = ("edge_time",)

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 64,
        *,
        num_layers: int = 2,
        num_heads: int = 1,
        hidden_dim: int | None = None,
        max_length: int = 100,
        dropout: float = 0.2,
        num_candidates: int | None = None,
        edge_time: Tensor | None = None,
    ) -> None:
        super().__init__()
        hidden_dim = embedding_dim if hidden_dim is None else hidden_dim
        check_at_least(1, num_items=num_items)
        check_size(
            1,
            embedding_dim=embedding_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            max_length=max_length,
            num_candidates=1 if num_candidates is None else num_candidates,
        )
        check_share(dropout=dropout)
        if embedding_dim % num_heads != 0:
            raise ValueError(
                f"'num_heads' must divide 'embedding_dim', {embedding_dim} "
                f"(got {num_heads})"
            )
        self.num_items = num_items
        self.max_length = max_length
        self.dropout = dropout
        self.num_candidates = num_candidates
        self.item_table = nn.Parameter(torch.empty(num_items, embedding_dim))
        self.place_table = nn.Parameter(torch.empty(max_length, embedding_dim))
        self.layers = nn.ModuleList(
            _Layer(embedding_dim, hidden_dim, num_heads) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embedding_dim)
        # data, not state: the caller knows it
        self.register_buffer("edge_time", edge_time, persistent=False)
        self._ordered: tuple[InteractionGraph, UserSequences] | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(self.item_table, std=0.02)
        nn.init.normal_(self.place_table, std=0.02)

    def sequences(self, graph: InteractionGraph) -> UserSequences:
        """Return the histories of a graph's users in order; kept for the next call.

        Raises:
            ValueError: ``edge_time`` tells no order of the graph's interactions, or
                the graph has another number of items.
        """
        if graph.num_items != self.num_items:
            raise ValueError(
                f"'graph' must have {self.num_items} items (got {graph.num_items})"
            )
        if self._ordered is None or self._ordered[0] is not graph:
            if self.edge_time is None and not self.training:  # else fit has said so
                logger.warning("no 'edge_time': the graph's order stands in for it")
            self._ordered = graph, UserSequences.from_graph(graph, self.edge_time)
        return self._ordered[1]

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[NextItems]:
        """Yield one epoch: the latest items of every user who has two or more, once.

        Args:
            graph: Train interactions.
            batch_size: Users per batch.
            generator: Source of their order.

        Raises:
            ValueError: No user has two, or ``batch_size`` < 1.
        """
        sequences = self.sequences(graph)
        users = (sequences.length > 1).nonzero().flatten()
        if users.numel() == 0:
            raise ValueError("'graph' must have a user with 2 train interactions")
        for user in user_batches(users, batch_size=batch_size, generator=generator):
            items = sequences.before(user).padded(self.max_length + 1, self.num_items)
            there = items[:, :-1] < self.num_items
            yield NextItems(items[:, :-1], items[:, 1:][there])

    def losses(
        self, batch: NextItems, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss ``[M]`` of every place of a batch."""
        state, _ = self._states(batch.item, generator)
        if self.num_candidates is None:
            yield softmax_loss_of_products(state, self.item_table, batch.next_item)
            return
        item, log_probability = draw_candidates(
            graph, self.num_candidates, generator=generator
        )
        next_emb = F.embedding(batch.next_item, self.item_table)
        yield sampled_softmax_loss(
            (state * next_emb).sum(-1),
            state @ F.embedding(item, self.item_table).T,
            torch.arange(len(state), device=state.device),
            batch.next_item,
            item,
            log_probability,
        )

    @torch.no_grad()
    def encode(self, item: Tensor) -> Tensor:
        """Compute the states of histories; inference whatever the mode.

        Args:
            item: ``[B, L]`` int64 items from first to last, padded on the left with
                ``num_items``; only the last ``max_length`` columns are read.

        Returns:
            ``[B, D]``, to be compared with ``item_table``; zeros for a history without
            items.
        """
        item = item[:, -self.max_length :]
        state = self.item_table.new_zeros(len(item), self.item_table.size(1))
        for rows in torch.arange(len(item), device=item.device).split(_ENCODED):
            rows = rows[(item[rows] < self.num_items).any(1)]
            if rows.numel() > 0:
                states, last = self._states(item[rows])
                state[rows] = states[last]
        return state

    @torch.no_grad()
    def states(
        self,
        sequences: UserSequences,
        user: Tensor | None = None,
        cut: Tensor | None = None,
    ) -> Tensor:
        """Compute the states of users' histories, cut anywhere, as :meth:`encode` does.

        Args:
            sequences: Histories over the same items, of users in training or not.
            user: ``[B]`` int64; all users in order if None.
            cut: ``[B]`` int64, how many first items of each user count; all if None.

        Returns:
            ``[B, D]``.
        """
        if user is None:
            user = torch.arange(sequences.num_users, device=sequences.item.device)
        cut = sequences.length[user] if cut is None else cut
        state = self.item_table.new_empty(len(user), self.item_table.size(1))
        for rows in torch.arange(len(user), device=user.device).split(_ENCODED):
            bags = sequences.before(user[rows], cut[rows])
            state[rows] = self.encode(bags.padded(self.max_length, self.num_items))
        return state

    @torch.no_grad()
    def scorer(self, graph: InteractionGraph) -> Embeddings:
        """Encode the whole histories of a graph's users.

        A user without train items has the mean item over all train interactions.
        """
        user = self.states(self.sequences(graph))
        user[graph.degree("user") == 0] = graph.mean_item(self.item_table)
        return Embeddings(user, self.item_table.detach())

    def _states(
        self, item: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the state after every item.

        Attention is the only thing that sees padding, and it stands behind the items
        there, where causality hides it.

        Args:
            item: ``[B, L]``, with an item in every row.
            generator: Source of dropout; needed in training alone.

        Returns:
            States ``[M, D]`` of all that is no padding, row by row, and ``[B]`` the
            places among them of the rows' last.
        """
        there = item < self.num_items
        count = there.sum(1)
        last = count.cumsum(0) - 1
        row, column = there.nonzero().T
        place = column - (item.size(1) - count)[row]
        rate = self.dropout if self.training and generator is not None else 0.0
        table = self.place_table[self.max_length - item.size(1) :]
        state = F.embedding(item[there], self.item_table) + F.embedding(column, table)
        state = drop(state, rate, generator)
        length = int(count.max()) if len(item) else 0
        for layer in self.layers:
            state = layer(
                state, row * length + place, (len(item), length), rate, generator
            )
        return self.norm(state), last


class _Layer(nn.Module):
    """Causal attention among the items of a row, and an MLP of each by itself."""

    def __init__(self, width: int, hidden: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
        )

    def forward(
        self,
        state: Tensor,
        cell: Tensor,
        shape: tuple[int, int],
        rate: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Map states ``[M, D]``, each in a cell of a ``[B, L]`` table, to new ones."""
        parts = self.project(self.attention_norm(state))
        cells, width = math.prod(shape), state.size(1)
        table = parts.new_zeros(cells, 3 * width).index_copy(0, cell, parts)
        heads = table.view(*shape, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(cells, width).index_select(0, cell)
        state = state + drop(self.attention_out(mixed), rate, generator)
        return state + drop(self.mlp(state), rate, generator)
