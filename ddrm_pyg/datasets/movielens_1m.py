"""MovieLens 1M in the three noise settings of the paper."""

from __future__ import annotations

from pathlib import Path

from torch_geometric.data import HeteroData

from ddrm_pyg.datasets._delimited import read_delimited
from ddrm_pyg.datasets.base import check_sha256, extract, fetch
from ddrm_pyg.datasets.paper import Counts, PaperDataset

# Read off the sets that the authors published: their sizes relative to the 571,531
# liked interactions, their order in time, and the shares that sampling left.
RATIOS = (0.7056, 0.1937, 0.1007)
ORDER = ("train", "test", "val")
NATURAL_KEEP = (0.647, 0.48)


class MovieLens1M(PaperDataset):
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

    Arguments and errors are those of :class:`~ddrm_pyg.datasets.paper.PaperDataset`:
    ``root``, ``noise``, ``noise_ratio``, ``seed``, ``transform`` and ``force_reload``.
    """

    name = "ml-1m"
    url = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    sha256 = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"
    ratios = RATIOS
    order = ORDER
    natural_keep = NATURAL_KEEP
    table1 = {  # noqa: RUF012
        "natural": Counts(5_949, 3_494, 618_297),
        "random": Counts(5_949, 2_810, 571_531),
    }

    @property
    def raw_file_names(self) -> list[str]:
        """The one file in use, below :attr:`raw_dir`."""
        return ["ml-1m/ratings.dat"]

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

    def read(self, path: Path) -> HeteroData:
        """Read ``ratings.dat``."""
        columns = dict.fromkeys(("user", "item", "rating", "time"))
        return read_delimited(path, columns).to_data()
