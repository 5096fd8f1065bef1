"""MovieLens 1M in the three noise settings of the paper."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform, Compose

from ddrm_pyg.datasets.base import InteractionDataset, check_sha256, extract, fetch
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.transforms import (
    KCore,
    NaturalNoise,
    RandomNoise,
    RatingThreshold,
    TemporalSplit,
    compact_ids,
)

# Read off the sets that the authors published: their sizes relative to the 571,531
# liked interactions, their order in time, and the shares that sampling left.
RATIOS = (0.7056, 0.1937, 0.1007)
ORDER = ("train", "test", "val")
NATURAL_KEEP = (0.647, 0.48)


class MovieLens1M(InteractionDataset):
    """MovieLens 1M, arranged as for "Denoising Diffusion Recommender Model".

    Liked means rated 4 or 5. The data are the 10-core of the liked interactions, 5,949
    users and 2,810 items, split .706/.194/.101 per user into train, validation and
    test, in time train < test < validation, as the published sets are (SIGIR 2024,
    https://doi.org/10.1145/3626772.3657825; the natural noise is DiffRec's, SIGIR
    2023). Rebuilt sets have their 571,531 pairs in the clean setting; which pair falls
    into which split, and what sampling keeps, differ in detail.

    GroupLens does not allow the files to be passed on: ``ml-1m.zip`` is downloaded
    from there on first use (6 MB). Without a network, place it, or its extracted
    folder ``ml-1m``, in ``root/ml-1m/raw``.

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

    name = "ml-1m"
    url = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    sha256 = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"

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

    def _transforms(self) -> list[BaseTransform]:
        split = TemporalSplit(RATIOS, ORDER)
        if self.noise == "natural":
            noise = NaturalNoise(NATURAL_KEEP, seed=self.seed)
            return [RatingThreshold(4), KCore(10), split, noise]
        clean = [RatingThreshold(4, drop=True), KCore(10), split]
        if self.noise == "random":
            return [*clean, RandomNoise(self.noise_ratio, seed=self.seed)]
        return clean

    @property
    def raw_file_names(self) -> list[str]:
        """The one file in use, below :attr:`raw_dir`."""
        return ["ml-1m/ratings.dat"]

    @property
    def processed_file_names(self) -> list[str]:
        """A name for each setting."""
        if self.noise == "clean":
            return ["clean.safetensors"]
        ratio = f"-{self.noise_ratio!r}" if self.noise == "random" else ""
        return [f"{self.noise}{ratio}-seed{self.seed}.safetensors"]

    def download(self) -> None:
        """Extract ``ml-1m.zip``, and fetch it before where it is not there.

        Raises:
            FileNotFoundError: It is not there and cannot be downloaded.
            ValueError: It is another file.
        """
        archive = Path(self.raw_dir) / "ml-1m.zip"
        if archive.exists():
            check_sha256(archive, self.sha256)
        else:
            fetch(self.url, archive, self.sha256)
        extract(archive, archive.parent)

    def process(self) -> None:
        """Arrange the ratings and store the result."""
        data = load_interactions(self.raw_paths[0], split=False)
        data = compact_ids(self._arrange(data))
        self.save([data], self.processed_paths[0])
