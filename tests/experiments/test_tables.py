"""Tables as people read them, and the numbers in them by hand and by scipy."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.tables import (
    Column,
    Row,
    Table,
    measure_columns,
    metric_frame,
    paired_tests,
    plain,
    short_title,
    star_best,
)

USERS = np.random.default_rng(0).random(30)


@pytest.fixture
def table() -> Table:
    frame = pd.DataFrame(
        {
            "ndcg@20": [0.05, 0.25, "failed", None],
            "ndcg@20 star": [False, True, False, False],
            "ndcg@20 deviation": [None, 0.001, None, None],
            "size": pd.array([1234, None, 5, 6], dtype="Int64"),
        },
        index=["mf", "a|b_c", "<sgl>", "5% & more"],
    )
    columns = {"ndcg@20": Column("N@20"), "size": Column("size", ",d")}
    return Table(frame, columns, title="a *title*", notes=["a <note>"])


def test_text_is_aligned(table):
    assert table.text().splitlines() == [
        "a *title*",
        "                       N@20   size",
        "mf                   0.0500  1,234",
        "a|b_c      0.2500* ± 0.0010",
        "<sgl>                failed      5",
        "5% & more                        6",
        "a <note>",
    ]


def test_digits_stand_under_digits_where_some_have_stars():
    frame = star_best(pd.DataFrame({"x": [0.1, 0.3, 0.3]}, index=[*"abc"]), ["x"])
    text = Table(frame, {"x": Column("X")}, corner="row").text()
    assert text == "row       X\na    0.1000\nb    0.3000*\nc    0.3000*"


def test_markdown_escapes_what_markdown_reads(table):
    assert table.markdown() == "\n".join(
        [
            "### a \\*title\\*",
            "",
            "|  | N@20 | size |",
            "| --- | ---: | ---: |",
            "| mf | 0.0500 | 1,234 |",
            "| a\\|b\\_c | 0.2500\\* ± 0.0010 |  |",
            "| \\<sgl> | failed | 5 |",
            "| 5% & more |  | 6 |",
            "",
            "- a \\<note>",
        ]
    )


class Cells(HTMLParser):
    """Texts of a page's tables, row by row; tags are closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


names = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])))


@given(names)
def test_every_form_holds_the_same_rows(names):
    frame = pd.DataFrame({"x": np.arange(len(names)) / 7}, index=pd.Index(names))
    table = Table(frame, {"x": Column("X", ".3f")})
    expected = [["", "X"], *([n, f"{i / 7:.3f}"] for i, n in enumerate(names))]
    assert [table.head, *table.rows] == expected
    assert Cells(table.html()).rows == expected
    lines = table.markdown().split("\n")
    assert len(lines) == len(expected) + 1
    assert lines[2:] == [f"| {plain(n)} | {x} |" for n, x in expected[1:]]


def test_html_marks_a_row(table):
    marked = dataclasses.replace(table, marked=["mf"]).html()
    assert marked.count('<tr class="marked"><th scope="row">mf</th>') == 1
    assert "<li>a &lt;note&gt;</li>" in marked
    assert table._repr_html_() == table.html()  # what a notebook shows


def test_latex_is_one_tabular(table):
    text = table.latex()
    assert text.startswith("% a *title*\n\\begin{tabular}{lrr}\n\\toprule\n")
    assert "mf & 0.0500 & 1,234 \\\\" in text
    assert "a|b\\_c & 0.2500* ± 0.0010 &  \\\\" in text
    assert "5\\% \\& more &  & 6 \\\\" in text


def test_words_begin_under_one_another():
    frame = pd.DataFrame({"n": [1, 20], "why": ["rare", "one of many"]}, ["a", "b"])
    table = Table(frame, {"n": Column("n", "d"), "why": Column("why", str)})
    assert table.text() == "    n  why\na   1  rare\nb  20  one of many"
    assert "| --- | ---: | --- |" in table.markdown()
    assert '<th>n</th><th class="words">why</th>' in table.html()
    assert '<td>20</td><td class="words">one of many</td>' in table.html()
    assert "{lrl}" in table.latex()


def test_without_columns_there_are_only_words():
    table = Table(pd.DataFrame(), {}, title="a block", notes=["Not yet."])
    assert (table.head, table.rows, table.latex()) == ([], [], "")
    assert table.text() == "a block\nNot yet."
    assert table.markdown() == "### a block\n\n- Not yet."
    assert "<table>" not in table.html()


@pytest.mark.parametrize(
    ("measure", "title"),
    [("recall@10", "R@10"), ("ndcg@20", "N@20"), ("coverage@20", "coverage")],
)
def test_titles_are_short(measure, title):
    assert short_title(measure) == title


def test_large_measures_have_no_decimals(make_result):
    frame = metric_frame({"mf": make_result([0.3, 0.5]).test})
    table = Table(frame, measure_columns(["ndcg@20", "popularity@20"]))
    assert table.rows == [["mf", "0.4000", "400"]]


def result(make_result, ndcg, seed=None):
    return dataclasses.replace(make_result(list(ndcg)), cell=Cell("mf", seed))


def test_means_and_deviations_are_over_seeds(make_result):
    results = [result(make_result, [0.1, 0.3], 0), result(make_result, [0.3, 0.5], 1)]
    row = Row("mf", results)
    assert row.metrics["ndcg@20"] == pytest.approx(0.3)
    assert row.deviation("ndcg@20") == pytest.approx(0.2 / np.sqrt(2))
    assert row.over([1]).seeds == [1]
    assert row.over([1]).deviation("ndcg@20") is None
    closed = Row("ease", [result(make_result, [0.1])])
    assert closed.seeds == []
    assert closed.over([1]) == closed


def test_tests_are_scipys_and_holms(make_result):
    noise = np.random.default_rng(1).normal(size=(2, 30))
    rows = [Row("mf", [result(make_result, USERS, 0)])]
    for shift, name, draw in zip((0.1, 0.0), ("up", "even"), noise, strict=True):
        rows.append(Row(name, [result(make_result, USERS + shift + 0.05 * draw, 0)]))
    tests = paired_tests(rows, [None, rows[0], rows[0]], ["ndcg@20"])
    assert tests[0] == {}
    values = [row.metrics.per_user["ndcg@20"].double().numpy() for row in rows]
    raw = [stats.ttest_rel(value, values[0]).pvalue for value in values[1:]]
    low, high = sorted(raw)
    expected = {low: 2 * low, high: max(2 * low, high)}
    for test, p in zip(tests[1:], raw, strict=True):
        assert test["ndcg@20"].test.p_value == pytest.approx(p)
        assert test["ndcg@20"].p_holm == pytest.approx(min(expected[p], 1))


def test_only_seeds_that_both_have_are_tested(make_result):
    mf = Row("mf", [result(make_result, USERS, 0), result(make_result, USERS + 9, 1)])
    ddrm = Row("ddrm", [result(make_result, USERS + 1, 0)])
    other = Row("other", [result(make_result, USERS + 1, 2)])
    closed = Row("ease", [result(make_result, USERS - 1)])
    rivals = [mf, mf, closed]
    tests = paired_tests([ddrm, other, mf], rivals, ["ndcg@20"])
    assert tests[0]["ndcg@20"].test.difference == pytest.approx(1)
    assert tests[1] == {}
    assert tests[2]["ndcg@20"].test.difference == pytest.approx(5.5)
