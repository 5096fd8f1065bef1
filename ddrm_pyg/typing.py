"""The protocols that models, losses, training and ranking agree on.

Nothing inherits from these: a class that has the methods is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph


@runtime_checkable
class Scorer(Protocol):
    """Scores all items for some users: all that ranking needs."""

    def scores(self, user: Tensor) -> Tensor:
        """Map ``[B]`` users to ``[B, num_items]`` scores, higher is better."""
        ...


@runtime_checkable
class HasScorer(Protocol):
    """Turns a graph into a Scorer; closed-form models need nothing else."""

    def scorer(self, graph: InteractionGraph) -> Scorer:
        """Propagate, encode or solve once and return what scores users."""
        ...


@runtime_checkable
class Recommender(HasScorer, Protocol):
    """A model that :func:`ddrm_pyg.fit` trains; also a ``torch.nn.Module``.

    It may offer ``parameter_groups() -> list[dict]`` for its optimiser.
    """

    def batches(
        self,
        graph: InteractionGraph,
        *,
        batch_size: int,
        generator: torch.Generator,
    ) -> Iterable[Any]:
        """Yield the batches of one epoch."""
        ...

    def losses(
        self, batch: Any, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield losses ``[B]``: one backward and one optimiser step for each."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A model that embeds every user and item: what DDRM plugs onto."""

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Embed all nodes."""
        ...

    def penalty(
        self, batch: Any, emb: Embeddings, *, generator: torch.Generator
    ) -> Tensor:
        """Regularise per row ``[B]``; never truncated, never reweighted."""
        ...


class PairLoss(Protocol):
    """A loss of a positive against a negative score."""

    def __call__(self, pos_score: Tensor, neg_score: Tensor) -> Tensor:
        """Map two ``[B]`` scores to ``[B]`` losses."""
        ...


class PointLoss(Protocol):
    """A loss of one score against a 0/1 label."""

    def __call__(self, score: Tensor, label: Tensor) -> Tensor:
        """Map ``[M]`` scores and labels to ``[M]`` losses."""
        ...


class EpochEnd(Protocol):
    """What :func:`ddrm_pyg.fit` calls at the end of an epoch: a tracker, a printer."""

    def __call__(self, model: Any, record: Mapping[str, float]) -> None:
        """Take note of an epoch.

        Args:
            model: What is trained, with the weights of this epoch.
            record: ``epoch`` (from 1), ``loss``, ``seconds``, and the validation
                metrics where they were measured.
        """
        ...
