"""The data sets of the paper: one arrangement, compared with Table 1."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform, Compose

from ddrm_pyg.datasets.base import InteractionDataset
from ddrm_pyg.transforms.core import (
    SPLITS,
    KCore,
    RatingThreshold,
    compact_ids,
    get_block,
)
from ddrm_pyg.transforms.noise import NaturalNoise, RandomNoise
from ddrm_pyg.transforms.split import TemporalSplit

logger = logging.getLogger("ddrm_pyg")


class Counts(NamedTuple):
    """How large a set is.

    Attributes:
        users: Number of users.
        items: Number of items.
        interactions: Number of pairs in all splits.
    """

    users: int
    items: int
    interactions: int

    def __str__(self) -> str:
        return ", ".join(f"{n:,} {of}" for of, n in self._asdict().items())


class PaperDataset(InteractionDataset):
    """A data set of "Denoising Diffusion Recommender Model", in its noise settings.

    Liked means rated 4 or 5. The data are the 10-core of the liked interactions, split
    per user by time. A subclass says where the ratings are: it writes
    ``raw_file_names``, :meth:`download` and :meth:`read`.

    Each time the set is opened, its size is logged beside that of the paper's Table 1
    (SIGIR 2024, https://doi.org/10.1145/3626772.3657825), to ``ddrm_pyg`` as info.

    Args:
        root: Folder of all datasets.
        noise: ``natural`` adds the low ratings of the same users to train and
            validation and samples both to about their clean size, see
            :class:`~ddrm_pyg.transforms.NaturalNoise`; ``random`` replaces clean pairs
            by unobserved ones, see :class:`~ddrm_pyg.transforms.RandomNoise`;
            ``clean`` adds nothing.
        noise_ratio: Share of noise in train and validation with ``noise="random"``,
            in [0, 1); unused otherwise.
        seed: Seeds the sampling of the noise.
        transform: Applied at each access.
        force_reload: Process again even where the processed file is there.

    Raises:
        FileNotFoundError: The raw file is not there and cannot be downloaded.
        ValueError: ``noise`` or ``noise_ratio`` is refused, or a file is damaged.
    """

    ratios: tuple[float, float, float] = (0.7, 0.1, 0.2)
    order: Sequence[str] = SPLITS
    natural_keep: tuple[float, float] | None = None
    table1: dict[str, Counts]  # for natural noise and for what is not natural

    def __init__(
        self,
        root: str | os.PathLike[str],
        noise: str = "natural",
        noise_ratio: float = 0.2,
        seed: int = 0,
        *,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        if noise not in ("natural", "random", "clean"):
            raise ValueError(
                f"'noise' must be 'natural', 'random' or 'clean' (got {noise!r})"
            )
        self.noise = noise
        self.noise_ratio = float(noise_ratio)
        self.seed = seed
        self._arrange = Compose(self._transforms())
        super().__init__(root, transform=transform, force_reload=force_reload)
        logger.info("%s", self.compare())

    def _transforms(self) -> list[BaseTransform]:
        split = TemporalSplit(self.ratios, self.order)
        if self.noise == "natural":
            noise = NaturalNoise(self.natural_keep, seed=self.seed)
            return [RatingThreshold(4), KCore(10), split, noise]
        clean = [RatingThreshold(4, drop=True), KCore(10), split]
        if self.noise == "random":
            return [*clean, RandomNoise(self.noise_ratio, seed=self.seed)]
        return clean

    @property
    def processed_file_names(self) -> list[str]:
        """A name for each setting."""
        if self.noise == "clean":
            return ["clean.safetensors"]
        ratio = f"-{self.noise_ratio!r}" if self.noise == "random" else ""
        return [f"{self.noise}{ratio}-seed{self.seed}.safetensors"]

    @abstractmethod
    def read(self, path: Path) -> HeteroData:
        """Read the raw file.

        Args:
            path: The first of ``raw_paths``.

        Returns:
            All its ratings, unsplit, with times.
        """

    def process(self) -> None:
        """Arrange the ratings and store the result."""
        path = Path(self.raw_paths[0])
        data = self.read(path)
        try:
            data = compact_ids(self._arrange(data))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        self.save([data], self.processed_paths[0])

    @property
    def counts(self) -> Counts:
        """How large the set is."""
        data = self[0]
        pairs = [get_block(data, split)["index"].size(1) for split in SPLITS]
        return Counts(data["user"].num_nodes, data["item"].num_nodes, sum(pairs))

    def compare(self) -> str:
        """Return one line with the size of the set beside Table 1, and what differs."""
        ours = self.counts
        column = "natural" if self.noise == "natural" else "random"
        paper = self.table1[column]
        differs = [
            f"{a - b:+,} {of} ({a / b - 1:+.1%})"
            for of, a, b in zip(Counts._fields, ours, paper, strict=True)
            if a != b
        ]
        said = f"differs by {', '.join(differs)}" if differs else "the same"
        return (
            f"{self.name}, {self.noise}: {ours}; Table 1, {column} noise: {paper}; "
            f"{said}"
        )


def find_raw(raw_dir: str | os.PathLike[str], names: Sequence[str]) -> str:
    """Return the first of some files that is there, or else the first.

    Args:
        raw_dir: Where to look.
        names: File names, the preferred first.
    """
    there = (name for name in names if (Path(raw_dir) / name).is_file())
    return next(there, names[0])
