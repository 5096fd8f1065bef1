"""Table 1 of the paper: the sizes of the data, beside what it states."""

from __future__ import annotations

from typing import Any

from ddrm_pyg.datasets.amazon_book import AmazonBook
from ddrm_pyg.datasets.movielens_1m import MovieLens1M
from ddrm_pyg.datasets.paper import PaperDataset
from ddrm_pyg.datasets.summary import summarize
from ddrm_pyg.datasets.yelp import Yelp
from ddrm_pyg.experiments.paper.conditions import clean_source, paper_name
from ddrm_pyg.experiments.paper.sheets import Sheet
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.transforms.core import SPLITS

OF_PAPER: dict[str, type[PaperDataset]] = {
    cls.name: cls for cls in (MovieLens1M, Yelp, AmazonBook)
}
"""The data sets of the paper by name."""

COLUMNS = {"users": "#User", "items": "#Item", "interactions": "#Int."}


def table1(source: Source) -> dict[str, Any]:
    """Count a data set with its natural noise (N) and without noise (R).

    The paper's R is the set that random noise is added to: the size of the clean one.

    Returns:
        ``measured``: summaries by ``"N"``, unless the data are the clean set or have
        random noise, and, where the clean set is known, ``"R"``; ``paper``: its counts
        by the same names.
    """
    clean = clean_source(source)
    measured = {}
    if clean != source.located() and not source.name.endswith("-random"):
        measured["N"] = summarize(source.load())
    if clean is not None:
        measured["R"] = summarize(clean.load())
    name = paper_name(source)
    stated = OF_PAPER[name].table1 if name else {}
    letters = {"natural": "N", "random": "R"}
    paper = {letters[noise]: counts._asdict() for noise, counts in stated.items()}
    return {"measured": measured, "paper": paper}


def table1_sheet(record: dict[str, Any], name: str) -> Sheet:
    """Lay out :func:`table1` with the columns of the paper.

    Args:
        record: What was counted.
        name: Name of the data.
    """
    pairs = [(noise, key) for noise in "NR" for key in COLUMNS]
    head = [f"{COLUMNS[key]} ({noise})" for noise, key in pairs]
    rows = [
        [name, *(_count(record["measured"], *pair) for pair in pairs)],
        ["paper", *(_count(record["paper"], *pair) for pair in pairs)],
    ]
    notes = [_shares(noise, told) for noise, told in record["measured"].items()]
    return Sheet("statistics", ["", *head], rows, notes)


def _count(record: dict[str, Any], noise: str, key: str) -> str:
    return f"{record[noise][key]:,}" if noise in record else ""


def _shares(noise: str, told: dict[str, Any]) -> str:
    sizes = [f"{told[split]:,} {split}" for split in SPLITS if split in told]
    shares = [f"{share:.1%} of {s}" for s, share in told.get("noise", {}).items()]
    known = f"; known noise: {', '.join(shares)}" if shares else ""
    return f"{noise}: {', '.join(sizes)}{known}."
