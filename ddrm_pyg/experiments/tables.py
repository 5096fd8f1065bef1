"""Tables for people: numbers in a DataFrame, and how each column is written.

Means over seeds, deviations, corrected tests and stars come from here as well, so that
every table of the package counts in one way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from ddrm_pyg.experiments.cells import is_order_aware, seed_of
from ddrm_pyg.experiments.methods import find
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.ranking import Metrics
from ddrm_pyg.significance import PairedTest, holm, mean_metrics, paired_test

logger = logging.getLogger("ddrm_pyg")

_SHORT = {"recall": "R", "ndcg": "N"}

BLOCKS = {
    False: "order-free: knows who took what",
    True: "order-aware: knows in which order, too",
}
"""Titles of the tables, by whether their rows read the order of interactions."""


class Column(NamedTuple):
    """How a column is read.

    Attributes:
        head: What stands above it.
        form: Format of its numbers, or what writes one. Absent values are left empty,
            and texts stay as they are. :class:`str` is for words, which begin under
            one another where numbers end so.
    """

    head: str
    form: str | Callable[[Any], str] = ".4f"

    @property
    def has_words(self) -> bool:
        """Whether its cells are read from the left."""
        return self.form is str


@dataclass(frozen=True)
class Table:
    """Rows of numbers as people read them.

    Beside a column ``x``, the frame may have ``x star`` (bool), which puts a star at
    its numbers, and ``x deviation``, which is written after them.

    Attributes:
        frame: The numbers; its index names the rows.
        columns: What is shown, in order, and how; nothing where there is nothing yet.
        title: Heading.
        corner: What stands above the names of the rows.
        notes: Sentences below.
        marked: Names of rows that stand out in HTML.
    """

    frame: pd.DataFrame
    columns: Mapping[str, Column]
    title: str = ""
    corner: str = ""
    notes: Sequence[str] = ()
    marked: Collection[str] = ()

    @cached_property
    def head(self) -> list[str]:
        """Heads of the columns, that of the names first; none without columns."""
        if not self.columns:
            return []
        return [self.corner, *(column.head for column in self.columns.values())]

    @cached_property
    def rows(self) -> list[list[str]]:
        """A text per column, the row's name first."""
        if not self.columns:
            return []
        texts = [self._texts(name, column) for name, column in self.columns.items()]
        names = map(str, self.frame.index)
        return [list(row) for row in zip(names, *texts, strict=True)]

    @property
    def _have_words(self) -> list[bool]:
        return [column.has_words for column in self.columns.values()]

    def _texts(self, name: str, column: Column) -> list[str]:
        count = len(self.frame)
        stars = self.frame.get(f"{name} star", [False] * count)
        deviations = self.frame.get(f"{name} deviation", [None] * count)
        return [
            _text(value, column.form) + "*" * bool(star) + _spread(deviation, column)
            for value, star, deviation in zip(
                self.frame[name], stars, deviations, strict=True
            )
        ]

    def text(self, *, notes: bool = True) -> str:
        """Align the columns for a terminal, numbers under one another.

        Args:
            notes: Whether the sentences below are written, too.
        """
        lines = [self.title] if self.title else []
        if self.columns:
            first, *numbers = zip(self.head, *self.rows, strict=True)
            others = map(_make_room, numbers)
            columns = [_pad(first, left=True), *map(_pad, others, self._have_words)]
            lines += ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
        return "\n".join([*lines, *(self.notes if notes else ())])

    def markdown(self) -> str:
        """Write a section of third order: heading, table, notes."""
        parts = [f"### {plain(self.title)}" if self.title else ""]
        if self.columns:
            rules = ["---", *("---" if words else "---:" for words in self._have_words)]
            head, *rows = [list(map(plain, row)) for row in (self.head, *self.rows)]
            parts.append(
                "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))
            )
        parts.append("\n".join(f"- {plain(note)}" for note in self.notes))
        return "\n\n".join(filter(None, parts))

    def html(self) -> str:
        """Write the same for a page: see :mod:`ddrm_pyg.experiments.report`."""
        parts = [f"<h2>{escape(self.title)}</h2>" if self.title else ""]
        if self.columns:
            head = "".join(map(_html_head, self.head, [False, *self._have_words]))
            rows = "\n".join(map(self._html_row, self.rows))
            parts.append(
                f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
                f"<tbody>\n{rows}\n</tbody>\n</table></div>"
            )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        parts.append(f'<ul class="notes">{notes}</ul>' if notes else "")
        return "\n".join(filter(None, parts))

    def _repr_html_(self) -> str:  # notebooks show it
        return self.html()

    def _html_row(self, row: Sequence[str]) -> str:
        name, *cells = row
        kind = ' class="marked"' if name in self.marked else ""
        texts = "".join(map(_html_cell, cells, self._have_words))
        return f'<tr{kind}><th scope="row">{escape(name)}</th>{texts}</tr>'

    def latex(self) -> str:
        """Write a ``tabular`` with the rules of booktabs; empty without columns."""
        if not self.columns:
            return ""
        texts = pd.DataFrame(self.rows, columns=self.head)
        form = "l" + "".join("l" if words else "r" for words in self._have_words)
        tabular = texts.to_latex(index=False, escape=True, column_format=form)
        return f"% {self.title}\n{tabular}"


def _html_head(text: str, has_words: bool) -> str:
    kind = ' class="words"' if has_words else ""
    return f"<th{kind}>{escape(text)}</th>"


def _html_cell(text: str, has_words: bool) -> str:
    best = ' class="best"' if "*" in text else ""
    kind = ' class="words"' if has_words else best
    return f"<td{kind}>{escape(text)}</td>"


def _text(value: Any, form: str | Callable[[Any], str]) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    return form(value) if callable(form) else format(value, form)


def _spread(deviation: Any, column: Column) -> str:
    return "" if pd.isna(deviation) else f" ± {_text(deviation, column.form)}"


def _make_room(texts: Sequence[str]) -> list[str]:
    """A place for the star that some end in, so that digits stay under digits."""
    if not any(text.endswith("*") for text in texts):
        return list(texts)
    return [text if text.endswith("*") else f"{text} " for text in texts]


def _pad(texts: Sequence[str], left: bool = False) -> list[str]:
    width = max(map(len, texts))
    return [text.ljust(width) if left else text.rjust(width) for text in texts]


def plain(text: str) -> str:
    """Keep stars, bars and names with underscores from being read as Markdown."""
    for sign in ("\\", "|", "*", "_", "<"):
        text = text.replace(sign, f"\\{sign}")
    return text


def short_title(measure: str) -> str:
    """Write a measure's name for the head of a column: ``N@20``, ``coverage``."""
    name, _, k = measure.partition("@")
    return f"{_SHORT[name]}@{k}" if name in _SHORT else name


def counted(count: int, noun: str) -> str:
    """Write a number of things: ``1 layer``, ``2 layers``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def metric_title(metric: str) -> str:
    """Write a metric's name for people: ``NDCG@20``, ``Recall@20``."""
    return metric.upper() if metric.startswith("ndcg") else metric.capitalize()


def legend(columns: Mapping[str, Column]) -> list[str]:
    """Explain measures, as far as they are among the columns."""
    words = {
        "recall@20": "R@20 is Recall@20, N@20 is NDCG@20: higher is better.",
        "coverage@20": "coverage: the share of all items that anyone's list shows.",
        "popularity@20": "popularity: the mean number of clicks of what lists show.",
    }
    return [text for name, text in words.items() if name in columns]


def measure_columns(measures: Sequence[str]) -> dict[str, Column]:
    """Columns of metrics and of what else is measured of rankings."""
    return {name: Column(short_title(name), _measure) for name in measures}


def _measure(value: float) -> str:
    """Write a share with four decimals, and a mean number of clicks as it is large."""
    if value <= 1:
        return f"{value:.4f}"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def metric_frame(metrics: Mapping[str, Metrics]) -> pd.DataFrame:
    """Lay out means over users: a row per name, a column per measure."""
    rows = [dict(values) for values in metrics.values()]
    return pd.DataFrame(rows, index=pd.Index(metrics, name="name"))


def star_best(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Add the stars of the largest value of each column, of all that tie."""
    return frame.assign(**{f"{n} star": frame[n] == frame[n].max() for n in names})


R = TypeVar("R", bound="Row")


def in_blocks(
    rows: Sequence[R], lay_out: Callable[[Sequence[R]], Table]
) -> list[Table]:
    """Lay out order-free and order-aware rows apart; what is below them stands once.

    Args:
        rows: Of either block.
        lay_out: Makes a table of the rows of one.

    Returns:
        A table for each block that has rows; one alone has no title. A note says what
        a star is.
    """
    blocks = {
        title: block
        for order_aware, title in BLOCKS.items()
        if (block := [row for row in rows if row.order_aware is order_aware])
    }
    if len(blocks) < 2:
        return [_with_star(lay_out(rows), "A star is the best of its column.")]
    *first, last = (
        replace(lay_out(block), title=title) for title, block in blocks.items()
    )
    star = "A star is the best of its column in its half of the table."
    return [*(replace(table, notes=()) for table in first), _with_star(last, star)]


def _with_star(table: Table, star: str) -> Table:
    return replace(table, notes=[star, *table.notes])


@dataclass(frozen=True)
class Row:
    """A method over its seeds, under one name wherever it is shown.

    Attributes:
        name: What a reader sees.
        results: A result per seed; of closed forms, one.
    """

    name: str
    results: Sequence[Result]

    @property
    def result(self) -> Result:
        """The result of the first seed, which is the only one of a run."""
        return self.results[0]

    @property
    def order_aware(self) -> bool:
        """Whether it reads the order of interactions: its block."""
        return is_order_aware(self.result.cell)

    @property
    def is_yardstick(self) -> bool:
        """Whether it is a closed form that every table holds."""
        return find(self.result.cell.method).role == "yardstick"

    @property
    def seeds(self) -> list[int]:
        """Seeds that it was trained with; none of closed forms."""
        seeds = (seed_of(result.cell) for result in self.results)
        return [seed for seed in seeds if seed is not None]

    @cached_property
    def metrics(self) -> Metrics:
        """Test metrics, averaged over seeds for every user."""
        return mean_metrics([result.test for result in self.results])

    def values(self, metric: str) -> list[float]:
        """A metric, seed by seed."""
        return [float(result.test[metric]) for result in self.results]

    def deviation(self, metric: str) -> float | None:
        """Standard deviation of a metric over seeds; None with fewer than two."""
        return deviation(self.values(metric))

    def over(self, seeds: Collection[int]) -> Row:
        """The same with some of its seeds; a closed form stays as it is."""
        kept = [r for r in self.results if seed_of(r.cell) in {None, *seeds}]
        return replace(self, results=kept)


def announce(row: R, metric: str) -> R:
    """Say a row's mean of a metric on test as soon as it is there; return the row."""
    title, value = metric_title(metric), row.metrics[metric]
    logger.info("%s: test %s %.4f", row.name, title, value)
    return row


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None with fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


class CorrectedTest(NamedTuple):
    """A paired test among several.

    Attributes:
        test: The test by itself.
        p_holm: Its p-value after Holm's correction over all of them.
    """

    test: PairedTest
    p_holm: float


def paired_tests(
    rows: Sequence[Row], rivals: Sequence[Row | None], metrics: Sequence[str]
) -> list[dict[str, CorrectedTest]]:
    """Test rows against their rivals, and correct for the number of tests.

    Paired t-tests over users of the means over the seeds that both have; a row without
    seeds, as a closed form has none, stands against all of the other's.

    Args:
        rows: What is tested.
        rivals: What each is tested against; None leaves a row untested.
        metrics: Which are tested, all corrected together (Holm).

    Returns:
        Metric to test for each row; nothing where one of the two has no result of a
        seed that both have.
    """
    tests = [
        _tests(row, rival, metrics) if rival else {}
        for row, rival in zip(rows, rivals, strict=True)
    ]
    adjusted = iter(
        holm([t.p_value for by_metric in tests for t in by_metric.values()])
    )
    return [
        {
            metric: CorrectedTest(test, next(adjusted))
            for metric, test in by_metric.items()
        }
        for by_metric in tests
    ]


def _tests(row: Row, rival: Row, metrics: Sequence[str]) -> dict[str, PairedTest]:
    if row.seeds and rival.seeds:
        both = set(row.seeds) & set(rival.seeds)
        row, rival = row.over(both), rival.over(both)
    if not row.results or not rival.results:
        return {}
    return {m: paired_test(row.metrics, rival.metrics, m) for m in metrics}
