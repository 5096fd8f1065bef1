"""The floor: everyone gets the most popular items."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph


class Popularity:
    """Rank items by their number of train interactions, alike for all users."""

    def scorer(self, graph: InteractionGraph) -> PopularityScorer:
        """Count."""
        return PopularityScorer(graph.degree("item").to(torch.float32))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PopularityScorer(NamedTuple):
    """Item counts as scores.

    Attributes:
        popularity: ``[num_items]`` float.
    """

    popularity: Tensor

    def scores(self, user: Tensor) -> Tensor:
        """Give every user the same row; ``[B, num_items]``."""
        return self.popularity.expand(user.numel(), -1).clone()
