"""Yelp's reviews in the three noise settings of the paper."""

from __future__ import annotations

from pathlib import Path

from torch_geometric.data import HeteroData

from ddrm_pyg.datasets._json_lines import read_json_lines
from ddrm_pyg.datasets.paper import Counts, PaperDataset, find_raw

FILE = "yelp_academic_dataset_review.json"
PAGE = "https://business.yelp.com/data/resources/open-dataset/"
COLUMNS = {
    "user": "user_id",
    "item": "business_id",
    "rating": "stars",
    "time": "date",
}


class Yelp(PaperDataset):
    """Yelp, arranged as for "Denoising Diffusion Recommender Model" (SIGIR 2024).

    The data are the 10-core of the reviews with 4 or 5 stars, split 7:1:2 per user by
    time. Of the natural noise, train and validation keep as many pairs as they have
    liked ones. Of several reviews of one business by one user the first in the file
    counts. The name is the paper's: PyG's own ``Yelp`` is another graph.

    Yelp's licence wants a click, so nothing is downloaded: get the JSON archive from
    https://business.yelp.com/data/resources/open-dataset/ and place its
    ``yelp_academic_dataset_review.json``, as it is or as ``.gz``, in ``root/yelp/raw``.
    It is read once, in blocks: memory goes into one copy of each id and 20 bytes per
    review. Yelp replaces the file every year or so and keeps no old ones; the paper
    does not say which it used, so counts differ from Table 1. After replacing the file
    pass ``force_reload=True``.

    Arguments and errors are those of :class:`~ddrm_pyg.datasets.paper.PaperDataset`:
    ``root``, ``noise``, ``noise_ratio``, ``seed``, ``transform`` and ``force_reload``.
    """

    name = "yelp"
    table1 = {  # noqa: RUF012
        "natural": Counts(54_574, 77_405, 1_471_675),
        "random": Counts(54_574, 34_395, 1_402_736),
    }

    @property
    def raw_file_names(self) -> list[str]:
        """The one file in use, in :attr:`raw_dir`."""
        return [find_raw(self.raw_dir, [FILE, f"{FILE}.gz"])]

    def download(self) -> None:
        """Say what to place where.

        Raises:
            FileNotFoundError: Always.
        """
        raise FileNotFoundError(
            f"{FILE} is not here, and its licence does not let it be downloaded for "
            f"you: get Yelp's JSON archive from {PAGE} and place the file, as it is or "
            f"as .gz, in {self.raw_dir}"
        )

    def read(self, path: Path) -> HeteroData:
        """Read the reviews."""
        return read_json_lines(path, COLUMNS).to_data()
