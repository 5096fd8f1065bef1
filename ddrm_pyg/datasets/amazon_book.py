"""Amazon's book ratings, of any edition, in the three noise settings of the paper."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets._delimited import read_bare_csv, read_delimited
from ddrm_pyg.datasets._json_lines import read_json_lines
from ddrm_pyg.datasets._text import read_blocks
from ddrm_pyg.datasets.paper import Counts, PaperDataset, find_raw
from ddrm_pyg.graph.interaction_graph import EDGE

PAGE = "https://jmcauley.ucsd.edu/data/amazon/"
FILES = (  # the edition that the paper cites comes first
    "ratings_Books.csv",
    "ratings_Books.csv.gz",
    "reviews_Books.json.gz",
    "reviews_Books.json",
    "reviews_Books_5.json.gz",
    "reviews_Books_5.json",
    "Books.csv",
    "Books.csv.gz",
    "Books.json.gz",
    "Books.json",
    "Books_5.json.gz",
    "Books_5.json",
    "Books.jsonl.gz",
    "Books.jsonl",
)
TO_2018 = {
    "user": "reviewerID",
    "item": "asin",
    "rating": "overall",
    "time": "unixReviewTime",
}
SINCE_2023 = {
    "user": "user_id",
    "item": "parent_asin",
    "rating": "rating",
    "time": "timestamp",
}
_ASIN_LENGTH = 10


class AmazonBook(PaperDataset):
    """Amazon-book, arranged as for "Denoising Diffusion Recommender Model".

    The data are the 10-core of the ratings of 4 and 5, split 7:1:2 per user by time. Of
    the natural noise, train and validation keep as many pairs as they have liked ones.
    Of several ratings of one book by one user the first in the file counts. The name is
    the paper's: PyG's own ``AmazonBook`` is LightGCN's cut, without ratings.

    Nothing is downloaded. Place one of these in ``root/amazon-book/raw``; where there
    are several, the first of this list is read:

    - 2014, which the paper cites: ``ratings_Books.csv`` (user, item, rating, time, no
      header) or ``reviews_Books.json.gz``, also the 5-core ``reviews_Books_5.json.gz``;
    - 2018: ``Books.csv`` (item, user, rating, time, no header), ``Books.json.gz`` or
      ``Books_5.json.gz``;
    - 2023: ``Books.csv`` (with a header, which tells it from that of 2018) or
      ``Books.jsonl.gz``. Items are ``parent_asin``, and milliseconds become seconds.

    Files may be packed as ``.gz`` or not. Lines of the 2014 reviews that are Python
    literals (``{'reviewerID': …}``) instead of JSON are read as such, never executed,
    some ten times slower. The file is read once, in blocks: memory goes into one copy
    of each id and 20 bytes per rating.

    Arguments and errors are those of :class:`~ddrm_pyg.datasets.paper.PaperDataset`:
    ``root``, ``noise``, ``noise_ratio``, ``seed``, ``transform`` and ``force_reload``.
    """

    name = "amazon-book"
    table1 = {  # noqa: RUF012
        "natural": Counts(108_822, 178_181, 3_145_223),
        "random": Counts(108_822, 94_949, 3_146_256),
    }

    @property
    def raw_file_names(self) -> list[str]:
        """The one file in use, in :attr:`raw_dir`."""
        return [find_raw(self.raw_dir, FILES)]

    @property
    def processed_file_names(self) -> list[str]:
        """A name for each raw file and setting."""
        (setting,) = super().processed_file_names
        return [f"{self.raw_file_names[0].removesuffix('.gz')}-{setting}"]

    def download(self) -> None:
        """Say what to place where.

        Raises:
            FileNotFoundError: Always.
        """
        raise FileNotFoundError(
            f"{FILES[0]} is not here and is not downloaded for you: get it from {PAGE} "
            f"and place it in {self.raw_dir} (known there: {', '.join(FILES)})"
        )

    def read(self, path: Path) -> HeteroData:
        """Read the ratings of whatever edition the file is."""
        if ".csv" in path.suffixes:
            data = _read_csv(path)
        elif ".jsonl" in path.suffixes:
            data = _in_seconds(read_json_lines(path, SINCE_2023).to_data())
        else:
            data = read_json_lines(path, TO_2018, parse=_parse_loosely).to_data()
        _check_asins(path, data)
        return data


def _read_csv(path: Path) -> HeteroData:
    if path.name.startswith("ratings_"):
        return read_bare_csv(path, ["user", "item", "rating", "time"]).to_data()
    _, start = next(read_blocks(path, size=1))
    if start.startswith(b"user_id,"):
        return _in_seconds(read_delimited(path, SINCE_2023).to_data())
    return read_bare_csv(path, ["item", "user", "rating", "time"]).to_data()


def _in_seconds(data: HeteroData) -> HeteroData:
    data[EDGE].edge_time = data[EDGE].edge_time.div(1000, rounding_mode="floor")
    return data


def _parse_loosely(line: str) -> Any:
    if not line.startswith("{'"):
        return json.loads(line)
    try:
        return ast.literal_eval(line)
    except TypeError as error:  # {[]: 1} is a literal, and no dict
        raise ValueError(str(error)) from error


def _check_asins(path: Path, data: HeteroData) -> None:
    """Refuse a file whose columns are in another order than its name says."""
    raw_id = data["item"].raw_id
    ids = raw_id.tolist() if isinstance(raw_id, Tensor) else raw_id
    bad = next((name for name in ids if len(str(name)) != _ASIN_LENGTH), None)
    if bad is not None:
        raise ValueError(
            f"{path.name}: item {str(bad)[:40]!r} is no ASIN, which has "
            f"{_ASIN_LENGTH} characters: is this the edition that the name stands for?"
        )
