"""The noise and the validation set that an experiment of the paper asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.sources import NAMED, Source
from ddrm_pyg.experiments.stored import DATA_SETS
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.transforms.core import get_block, select, set_block
from ddrm_pyg.transforms.noise import RandomNoise

NOISE_SEED = 0
"""Of the random noise: the same pairs for every method and seed."""


@dataclass(frozen=True)
class Condition:
    """What is done to a data set before anything is run on it.

    Attributes:
        liked_validation: Only the liked part of validation selects; test rankings
            still hide all of it.
        noise_ratio: Share of train and validation that random noise replaces, in the
            liked data where these are known; None leaves the data as given.
    """

    liked_validation: bool = False
    noise_ratio: float | None = None

    @property
    def selected_on(self) -> str:
        """What the validation set is."""
        return "liked validation" if self.liked_validation else "noisy validation"

    @property
    def name(self) -> str:
        """A name among all conditions."""
        if self.noise_ratio is None:
            return self.selected_on
        return f"random noise {self.noise_ratio:g}, {self.selected_on}"

    def base(self, source: Source) -> Source:
        """Find what random noise goes into; the source itself where none does."""
        clean = clean_source(source) if self.noise_ratio is not None else None
        return clean or source

    def data_name(self, source: Source) -> str:
        """Name what a source is turned into, but for its validation."""
        name = self.base(source).name
        if self.noise_ratio is None:
            return name
        return f"{name}, random noise {self.noise_ratio:g}"

    def load(self, source: Source) -> tuple[HeteroData, InteractionGraph | None]:
        """Load a data set and arrange it.

        Returns:
            The data, and the pairs to hide from test rankings where validation no
            longer has them all.

        Raises:
            FileNotFoundError: The data are not there.
            ValueError: The data are refused, are not split, or cannot take the noise.
        """
        data = self.base(source).load()
        if self.noise_ratio is not None:
            data = RandomNoise(self.noise_ratio, seed=NOISE_SEED)(data)
        if not self.liked_validation:
            return data, None
        hidden = InteractionGraph.from_data(data, splits=("train", "val"))
        return keep_liked_validation(data), hidden


GIVEN = Condition()
"""The data as they are."""

LIKED = Condition(liked_validation=True)


def keep_liked_validation(data: HeteroData) -> HeteroData:
    """Drop the known false positives of validation.

    Raises:
        ValueError: Nothing is known about them.
    """
    block = get_block(data, "val")
    if "is_noise" not in block:
        raise ValueError("validation has no noise labels: its liked part is unknown")
    data = data.clone()
    set_block(data, "val", select(block, ~block["is_noise"]))
    return data


def has_labels(data: HeteroData) -> bool:
    """Whether validation has a liked part that is not all or nothing of it."""
    noise = data[EDGE].get("val_edge_is_noise", torch.empty(0, dtype=torch.bool))
    return bool(noise.any()) and not bool(noise.all())


def paper_name(source: Source, *kinds: str) -> str | None:
    """Name the data set of the paper that a source is by its name, if any.

    Args:
        source: The data; a single table is nobody's but the user's.
        *kinds: Which of its noises it may have; any of the paper's if none.
    """
    if source.data not in NAMED and Path(source.data).suffix:
        return None
    for name in DATA_SETS:
        ends = (f"{name}-{kind}" for kind in kinds or ("natural", "clean", "random"))
        if source.name in (name, *ends):
            return name
    return None


def clean_source(source: Source) -> Source | None:
    """Find the same data without noise: of a known name, or a folder beside it."""
    if source.data in NAMED:
        clean = f"{source.data.removesuffix('-clean')}-clean"
        return replace(source, data=clean) if clean in NAMED else None
    folder = Path(source.data).resolve()
    beside = folder.with_name("clean")
    if folder.name in ("natural", "random", "clean") and beside.is_dir():
        return replace(source, data=str(beside))
    return None
