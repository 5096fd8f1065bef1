"""Light graph convolution on the bipartite graph: the package's only propagation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor

from ddrm_pyg.checks import check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph, as_graph, csr_tensor


class LightGraphConv(MessagePassing):
    r"""Exchange vectors between users and items once.

    `"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ (SIGIR 2020), Eq. 3:

    .. math:: e_u^{(k+1)} = \sum_{i \in I_u} \frac{e_i^{(k)}}{\sqrt{d_u d_i}}, \quad
              e_i^{(k+1)} = \sum_{u \in U_i} \frac{e_u^{(k)}}{\sqrt{d_u d_i}}

    ``message`` is the definition; ``message_and_aggregate`` is the same in one sparse
    product per direction, each direction's block being the other's backward (30 times
    faster on ML-1M, see benchmarks/). Weights can be learned: their gradient is one
    product of the gradient and the vectors, computed at the edges only.

    Shapes:
        - **x:** users ``[num_users, D]`` and items ``[num_items, D]``
        - **graph:** an :class:`InteractionGraph`, an ``edge_index`` ``[2, E]`` or a
          ``SparseTensor`` ``[num_items, num_users]``
        - **edge_weight:** ``[E]`` *(optional)*, instead of the normalisation; or
          ``[2, E]``, of messages to users and of messages to items
        - **output:** as **x**
    """

    def __init__(self) -> None:
        super().__init__(aggr="sum")

    def forward(
        self,
        x: Embeddings,
        graph: InteractionGraph | Tensor | Any,
        edge_weight: OptTensor = None,
    ) -> Embeddings:
        """Propagate once in both directions."""
        graph = as_graph(graph, x.num_users, x.num_items)
        if edge_weight is None:
            to_user = _Block(graph.adj(), graph.adj_t(), None)
            to_item = _Block(graph.adj_t(), graph.adj(), None)
        else:
            to_user, to_item = _weighted_blocks(graph, edge_weight)
        return Embeddings(
            self._propagate(to_user, (x.item, x.user)),
            self._propagate(to_item, (x.user, x.item)),
        )

    def _propagate(self, block: _Block, x: tuple[Tensor, Tensor]) -> Tensor:
        return self.propagate(
            block.weight, x=x, edge_weight=block.value, back=block.back
        )

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        """Weigh the neighbour's vector."""
        return edge_weight.unsqueeze(-1) * x_j

    def message_and_aggregate(
        self,
        adj_t: Tensor,
        x: tuple[Tensor, Tensor],
        edge_weight: OptTensor,
        back: Tensor,
    ) -> Tensor:
        """Weigh and sum all neighbours by one sparse product."""
        return _SparseProduct.apply(adj_t, back, x[0], edge_weight)


class _Block(NamedTuple):
    """One direction of the convolution.

    Attributes:
        weight: Sparse CSR, a row per receiver.
        back: Its transpose, as CSR.
        value: The values of ``weight`` where they have a gradient.
    """

    weight: Tensor
    back: Tensor
    value: OptTensor


def _weighted_blocks(
    graph: InteractionGraph, edge_weight: Tensor
) -> tuple[_Block, _Block]:
    """Lay out the weights ``[E]`` or ``[2, E]`` like the graph's own blocks."""
    orders = graph.by_user, graph.by_item
    patterns = graph.adj(), graph.adj_t()
    to_user, to_item = edge_weight.expand(2, -1)
    blocks = []
    for weight, own in ((to_user, 0), (to_item, 1)):
        values = [weight.index_select(0, order) for order in orders]
        block = [
            csr_tensor(
                pattern.crow_indices(),
                pattern.col_indices(),
                value.detach(),
                pattern.shape,
            )
            for pattern, value in zip(patterns, values, strict=True)
        ]
        blocks.append(_Block(block[own], block[1 - own], values[own]))
    return blocks[0], blocks[1]


class _SparseProduct(torch.autograd.Function):
    """``block @ x`` for a block whose transpose is at hand.

    ``value`` are the values of ``block``, given where they have a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, block: Tensor, transpose: Tensor, x: Tensor, value: OptTensor
    ) -> Tensor:
        ctx.transpose = transpose
        if ctx.needs_input_grad[3]:
            ctx.block = block
            ctx.save_for_backward(x)
        # float32 under autocast, too: torch has no sparse product in bf16 on a CPU
        with torch.autocast(x.device.type, enabled=False):
            return _product(block, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, OptTensor, OptTensor]:
        x_grad = value_grad = None
        if ctx.needs_input_grad[2]:
            x_grad = _product(ctx.transpose, grad)
        if ctx.needs_input_grad[3]:
            (x,) = ctx.saved_tensors
            value_grad = _products_at(ctx.block, grad, x)
        return None, None, x_grad, value_grad


def _product(block: Tensor, x: Tensor) -> Tensor:
    """``block @ x``, on a CPU as weighted bags of rows: a third of the time."""
    if x.device.type != "cpu":
        return block @ x
    return F.embedding_bag(
        block.col_indices(),
        x.contiguous(),
        block.crow_indices(),
        mode="sum",
        per_sample_weights=block.values(),
        include_last_offset=True,
    )


def _products_at(block: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Entries of ``left @ right.T`` where a CSR matrix has its values, ``[nnz]``."""
    crow, column = block.crow_indices(), block.col_indices()
    if column.numel() > block.size(0) * block.size(1):
        # so many repeats that all entries are fewer, and torch refuses
        return (left @ right.T)[torch.repeat_interleave(crow.diff()), column]
    edges = csr_tensor(crow, column, torch.zeros_like(block.values()), block.shape)
    return torch.sparse.sampled_addmm(edges, left, right.T, out=edges).values()


def light_propagate(
    emb: Embeddings,
    graph: InteractionGraph | Tensor | Any,
    num_layers: int,
    combine: Literal["mean", "normalized-sum"] = "mean",
) -> Embeddings:
    """Propagate tables through several layers and combine the layers.

    Args:
        emb: Layer-0 tables.
        graph: Train interactions, in any form :class:`LightGraphConv` takes.
        num_layers: Depth; 0 returns the tables.
        combine: ``"mean"`` of layers 0 ... L (LightGCN, Eq. 4), or
            ``"normalized-sum"``: every propagated layer is L2-normalised by row before
            it goes on, and all layers are added up, layer 0 as it is (the SGL backend
            of the DDRM authors).

    Raises:
        ValueError: ``num_layers`` < 0 or an unknown ``combine``.
    """
    check_size(0, num_layers=num_layers)
    graph = as_graph(graph, emb.num_users, emb.num_items)
    return propagate_through(emb, [graph] * num_layers, combine)


def propagate_through(
    emb: Embeddings,
    layers: Sequence[InteractionGraph],
    combine: Literal["mean", "normalized-sum"] = "mean",
) -> Embeddings:
    """Do as :func:`light_propagate` does, each layer on a graph of its own.

    Args:
        emb: Layer-0 tables.
        layers: One graph per layer; none returns the tables.
        combine: As for :func:`light_propagate`.

    Raises:
        ValueError: An unknown ``combine``.
    """
    if combine not in ("mean", "normalized-sum"):
        raise ValueError(
            f"'combine' must be 'mean' or 'normalized-sum' (got '{combine}')"
        )
    *_, last = _sums(emb, layers, combine)
    return _combined(last, len(layers), combine)


def propagate_depths(
    emb: Embeddings,
    graph: InteractionGraph,
    deepest: int,
    combine: Literal["mean", "normalized-sum"] = "mean",
) -> Iterator[Embeddings]:
    """Yield what :func:`light_propagate` returns at depths 0 ... ``deepest``.

    Args:
        emb: Layer-0 tables.
        graph: Train interactions.
        deepest: The last depth; so many propagations are done in all.
        combine: As for :func:`light_propagate`.
    """
    sums = _sums(emb, [graph] * deepest, combine)
    for depth, total in enumerate(sums):
        yield _combined(total, depth, combine)


def _sums(
    emb: Embeddings, layers: Sequence[InteractionGraph], combine: str
) -> Iterator[Embeddings]:
    """Yield the sum of layers 0 ... l for every l."""
    conv = LightGraphConv()
    layer = total = emb
    yield total
    for graph in layers:
        layer = conv(layer, graph)
        if combine == "normalized-sum":
            layer = Embeddings(F.normalize(layer.user), F.normalize(layer.item))
        total = Embeddings(total.user + layer.user, total.item + layer.item)
        yield total


def _combined(total: Embeddings, depth: int, combine: str) -> Embeddings:
    if depth == 0:
        return total
    scale = 1 / (depth + 1) if combine == "mean" else 1.0
    return Embeddings(total.user * scale, total.item * scale)
