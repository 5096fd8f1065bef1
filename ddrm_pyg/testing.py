"""Check a model of your own against the protocols, and a world to try it on.

Each check raises an :class:`AssertionError` that says which promise is broken. What a
model itself raises is passed on as it is.

Example:
    >>> from ddrm_pyg import MF
    >>> data = checkerboard()
    >>> check_recommender(MF(40, 40, 8), data)
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.loader import triplet_batches
from ddrm_pyg.training import own_randomness
from ddrm_pyg.typing import Backend, HasScorer, Recommender, Scorer

_USERS = 64
"""Users that are scored; enough to see a mistake, few enough for any catalogue."""

_BATCH_SIZE = 16

_TOLERANCE = 1e-4
"""Relative to the largest score: float32 in another order of summation."""


def checkerboard(num_users: int = 40, num_items: int = 40) -> HeteroData:
    """Make a world with a known answer: users like the items of their own colour.

    Users and items are of two colours, even and odd. Every user has all items of the
    same colour in train, but for one in validation and the next one in test. With
    train and validation hidden, the test item is the only one of its colour left, so
    every sensible model ranks it first (``recall@1`` is 1 at test, ``recall@2`` at
    validation, where test items are not hidden). Popularity cannot tell the colours.

    Args:
        num_users: Number of users, even.
        num_items: Number of items, even.

    Returns:
        ``HeteroData`` with train, validation and test pairs.

    Raises:
        ValueError: A size that is odd or too small.
    """
    for name, value, least in (
        ("num_users", num_users, 4),
        ("num_items", num_items, 8),
    ):
        if value < least or value % 2 == 1:
            raise ValueError(f"'{name}' must be even and >= {least} (got {value})")
    user = torch.arange(num_users)
    half = num_items // 2
    held_out = {
        "val": 2 * ((user // 2 + 1) % half) + user % 2,
        "test": 2 * (user // 2 % half) + user % 2,
    }
    likes = (user[:, None] - torch.arange(num_items)) % 2 == 0
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    for split, item in held_out.items():
        likes[user, item] = False
        data[EDGE][f"{split}_edge_label_index"] = torch.stack([user, item])
    data[EDGE].edge_index = likes.nonzero().T.contiguous()
    return data


@torch.no_grad()
def check_scorer(scorer: Scorer, num_users: int, num_items: int) -> None:
    """Check what :func:`ddrm_pyg.evaluate` and :func:`ddrm_pyg.recommend` rely on.

    Scores must have shape ``[B, num_items]``, be finite floats, be equal at every call,
    belong to the caller (ranking overwrites those of seen items), and depend neither on
    the order of the users nor on who else is in the batch.

    Args:
        scorer: Embeddings, ``model.scorer(graph)``, or an object of your own.
        num_users: Number of users it knows; the first and the last are among the
            at most 64 that are scored.
        num_items: Number of items it must score.

    Raises:
        AssertionError: A promise is broken.
    """
    name = type(scorer).__name__
    _require(isinstance(scorer, Scorer), f"{name} must have a method 'scores'")
    user = torch.linspace(0, num_users - 1, min(num_users, _USERS)).long()
    scores = scorer.scores(user)
    _check_table(f"{name}.scores", scores, (user.numel(), num_items))
    kept = scores.clone()
    _require(
        _same(scorer.scores(user), kept),
        f"{name}.scores must be equal at every call",
    )
    scores.contiguous().fill_(float("-inf"))
    _require(
        _same(scorer.scores(user), kept),
        f"{name}.scores must return a new tensor: ranking overwrites seen items in it",
    )
    _require(
        _same(scorer.scores(user.flip(0)), kept.flip(0)),
        f"{name}.scores must not depend on the order of the users",
    )
    alone = torch.cat([scorer.scores(one) for one in user[-8:].split(1)])
    _require(
        _same(alone, kept[-8:]),
        f"{name}.scores must not depend on the other users of the batch",
    )


def check_backend(backend: Backend, graph: InteractionGraph) -> None:
    """Check a model that embeds users and items: what DDRM and DeCA build on.

    ``forward`` must return finite :class:`~ddrm_pyg.Embeddings` with a row per node of
    the graph, the same at every call in evaluation mode, with gradients to the
    parameters, also for users and items without interactions; ``penalty`` must be
    ``[B]``; the state dict must hold all that the embeddings depend on; and the graph
    must stay as it is. The backend is left as it was.

    Args:
        backend: A ``torch.nn.Module``.
        graph: Train interactions, with at least two users. Of a graph in which
            everyone has interactions, one user's and one item's are taken away to see
            what becomes of them.

    Raises:
        AssertionError: A promise is broken.
    """
    name = type(backend).__name__
    module = _as_module(backend, Backend, "'forward' and 'penalty'")
    with _restored(module) as state, _untouched(name, graph):
        emb = _embed(name, module, graph)
        check_scorer(emb, graph.num_users, graph.num_items)
        _require(
            all(map(_same, emb, _embed(name, module, graph))),
            f"{name}.forward must return the same embeddings at every call in "
            "evaluation mode",
        )
        _check_penalty(name, module, graph)
        _check_gradient(name, module(graph))
        _disturb(module)
        module.load_state_dict(state)
        _require(
            all(map(_same, emb, _embed(name, module, graph))),
            f"{name}.load_state_dict must bring back the embeddings: "
            "keep what they depend on in parameters and persistent buffers",
        )
        _embed(f"{name} with a user without interactions", module, _isolate(graph)[1])


def check_recommender(model: Recommender, data: HeteroData) -> None:
    """Check a model that :func:`ddrm_pyg.fit` can train.

    ``losses`` must yield finite ``[B]`` with gradients, a step on them must change the
    parameters, the same generator state must give the same bits, the state dict must
    hold all that scores and training depend on, ``scorer(graph)`` must give the same
    scores at every call and pass :func:`check_scorer`, a user without interactions must
    be trained around and scored, and neither graph nor data may be changed. The model
    is left as it was.

    Args:
        model: A ``torch.nn.Module``.
        data: A small data set, for instance :func:`checkerboard`. If every user has
            train interactions, those of one user and one item are taken away for the
            last checks; a model that holds one value per interaction needs data in
            which a user has none already.

    Raises:
        AssertionError: A promise is broken.
    """
    name = type(model).__name__
    module = _as_module(model, Recommender, "'batches', 'losses' and 'scorer'")
    graph = InteractionGraph.from_data(data)
    with _restored(module) as state:
        with _untouched(name, graph):
            before = _score(name, module, graph)
            _require(
                _same(before, _score(name, module, graph)),
                f"{name}.scorer must give the same scores at every call in "
                "evaluation mode",
            )
            trained = _train(name, module, graph)
        _require(
            any(not torch.equal(trained[key], state[key]) for key in trained),
            f"{name}.losses must lead to a step that changes parameters",
        )
        module.load_state_dict(state)
        _require(
            _same(before, _score(name, module, graph)),
            f"{name}.load_state_dict must bring back the scores: "
            "keep what they depend on in parameters and persistent buffers",
        )
        again = _train(name, module, graph)
        _require(
            all(torch.equal(trained[key], again[key]) for key in trained),
            f"{name} must train to the same bits from the same state and seed: draw "
            "from 'generator', and keep counters in persistent buffers",
        )
        cold, bare = _isolate(graph)
        where = f"{name} with a user without interactions"
        _train(where, module, bare)
        module.eval()
        scores = module.scorer(bare).scores(cold)
        _check_table(f"{where}: scores", scores, (1, graph.num_items))


def _require(condition: bool, message: str) -> None:
    # not an assert statement: checks must hold under python -O, too
    if not condition:
        raise AssertionError(message)


def _as_module(model: Any, protocol: type, methods: str) -> Any:
    name = type(model).__name__
    _require(isinstance(model, nn.Module), f"{name} must be a torch.nn.Module")
    _require(isinstance(model, protocol), f"{name} must have {methods}")
    return model


def _check_table(what: str, table: Any, shape: tuple[int, int]) -> None:
    _require(isinstance(table, Tensor), f"{what} must be a Tensor (got {type(table)})")
    _require(
        table.shape == shape,
        f"{what} must have shape {list(shape)} (got {list(table.shape)})",
    )
    _require(table.is_floating_point(), f"{what} must be float (got {table.dtype})")
    finite = torch.isfinite(table)
    if not bool(finite.all()):
        row, column = (~finite).nonzero()[0].tolist()
        value = table[row, column].item()
        raise AssertionError(
            f"{what} must be finite (got {value} at row {row}, column {column})"
        )


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = max(float(b.abs().max()), 1e-12) if b.numel() > 0 else 1.0
    return torch.allclose(a, b, rtol=0, atol=_TOLERANCE * scale)


@contextmanager
def _restored(model: Any) -> Iterator[dict[str, Tensor]]:
    """Give the state dict, and bring it back; torch's global generator likewise."""
    state, training = copy.deepcopy(model.state_dict()), model.training
    try:
        with own_randomness(0, next(model.parameters()).device):
            yield state
    finally:
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)
        model.train(training)


@contextmanager
def _untouched(name: str, graph: InteractionGraph) -> Iterator[None]:
    def tensors() -> tuple[Tensor, ...]:
        return graph.edge_index, graph.adj().values(), graph.adj_t().values()

    before = [tensor.clone() for tensor in tensors()]
    yield
    _require(
        all(map(torch.equal, tensors(), before)),
        f"{name} must leave the graph as it is",
    )


def _isolate(graph: InteractionGraph) -> tuple[Tensor, InteractionGraph]:
    """Return a user without interactions ``[1]``, and a graph with such a user."""
    degree = graph.degree("user")
    cold = degree.argmin().view(1)
    if degree[cold] == 0:
        return cold, graph
    user, item = graph.edge_index
    rarest = graph.degree("item").argmin()
    return cold, graph.subgraph((user != cold) & (item != rarest))


def _embed(name: str, backend: Any, graph: InteractionGraph) -> Embeddings:
    backend.eval()
    emb = backend(graph)
    _require(
        isinstance(emb, Embeddings),
        f"{name}.forward must return Embeddings (got {type(emb).__name__})",
    )
    emb = Embeddings(*(table.detach().clone() for table in emb))
    for table, kind, size in (
        (emb.user, "user", graph.num_users),
        (emb.item, "item", graph.num_items),
    ):
        _check_table(f"{name}.forward(graph).{kind}", table, (size, emb.user.size(-1)))
    return emb


def _check_penalty(name: str, backend: Any, graph: InteractionGraph) -> None:
    batches = getattr(backend, "batches", triplet_batches)
    generator = torch.Generator().manual_seed(0)
    backend.train()
    batch = next(iter(batches(graph, batch_size=_BATCH_SIZE, generator=generator)))
    penalty = backend.penalty(batch, backend(graph), generator=generator)
    _check_rows(f"{name}.penalty", penalty)
    rows = getattr(batch, "user", penalty).size(0)
    _require(
        penalty.size(0) == rows,
        f"{name}.penalty must have one value per row, {rows} (got {penalty.size(0)})",
    )


def _check_rows(what: str, value: Any) -> None:
    _require(isinstance(value, Tensor), f"{what} must be a Tensor (got {type(value)})")
    _require(
        value.dim() == 1 and value.numel() > 0,
        f"{what} must have one value per row, shape [B] (got {list(value.shape)})",
    )
    _require(bool(torch.isfinite(value).all()), f"{what} must be finite")


def _check_gradient(name: str, emb: Embeddings) -> None:
    for kind, table in zip(emb._fields, emb, strict=True):
        _require(
            table.requires_grad,
            f"{name}.forward(graph).{kind} must have a gradient: do not detach it",
        )


@torch.no_grad()
def _disturb(model: Any) -> None:
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter))


def _score(name: str, model: HasScorer, graph: InteractionGraph) -> Tensor:
    """Check the scorer of a graph and return some of its scores."""
    model.eval()  # type: ignore[attr-defined]
    scorer = model.scorer(graph)
    _require(
        isinstance(scorer, Scorer),
        f"{name}.scorer must return an object with 'scores' "
        f"(got {type(scorer).__name__})",
    )
    check_scorer(scorer, graph.num_users, graph.num_items)
    return scorer.scores(torch.arange(min(graph.num_users, _USERS))).detach().clone()


def _train(name: str, model: Any, graph: InteractionGraph) -> dict[str, Tensor]:
    """Take two batches as ``fit`` does, check the losses, and return the parameters."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    groups = getattr(model, "parameter_groups", None)
    optimizer = torch.optim.Adam(groups() if groups else model.parameters(), lr=1e-2)
    model.train()
    batches = model.batches(graph, batch_size=_BATCH_SIZE, generator=generator)
    count = 0
    for batch in islice(batches, 2):
        for loss in model.losses(batch, graph, generator=generator):
            _check_rows(f"{name}: losses", loss)
            _require(
                loss.requires_grad, f"{name}: losses must have a gradient (got none)"
            )
            optimizer.zero_grad(set_to_none=True)
            loss.mean().backward()
            optimizer.step()
            count += 1
    _require(count > 0, f"{name} must yield a batch and a loss (got none)")
    return {key: value.detach().clone() for key, value in model.named_parameters()}
