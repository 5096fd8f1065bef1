"""Pages are complete, safe and readable without anything else."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ddrm_pyg.experiments.plots import COLOURS
from ddrm_pyg.paper import page
from ddrm_pyg.paper.outline import AS_IS, LIKED
from ddrm_pyg.paper.page import (
    block_table,
    contrast_table,
    statistics_table,
    to_html,
    to_latex,
    to_markdown,
    to_plot,
    write,
)
from ddrm_pyg.paper.results import BlockResult, Change, Reproduction, Statistics
from ddrm_pyg.ranking import METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def changes(difference, p_holm):
    return {metric: Change(difference, p_holm) for metric in METRICS}


BETTER, WORSE, UNCLEAR = (
    changes(0.1, 0.009),
    changes(-0.1, 0.009),
    changes(0.1, 0.011),
)


def block(*lines, axis=None, title="a block"):
    return BlockResult(title, axis, lines)


@pytest.fixture
def table(make_line, make_table):
    """One block with results, a failure and nothing, and one that was never run."""
    cell = {"method": "mf", "model": {"l2": 0.5}}
    failed = make_line("item_knn", failed=["ValueError: a < b & c"], asked=1)
    lines = [make_line("mf", 0.05, asked=1, cell=cell), make_line("sgl"), failed]
    return make_table(
        block(*lines, title="selected"),
        block(make_line("mf"), title="never"),
        data="my <clicks>",
        ddrm_settings="quick: narrow & fast",
        command="ddrm-pyg reproduce table2 --data 'my <clicks>.csv'",
    )


class Page(HTMLParser):
    """Text by cell of the tables, and every tag."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.links, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_shows_what_is_missing_and_what_failed(table):
    page = Page(to_html(table, b"a picture"))
    assert page.open == []
    head, *rows = page.rows
    assert head == ["", "R@10", "R@20", "N@10", "N@20", "seeds"]
    assert rows == [
        ["mf", *["0.0500"] * 4, "1 of 1"],
        ["sgl", *[""] * 5],
        ["item_knn", *["failed"] * 4, ""],
    ]
    assert "item_knn failed: ValueError: a < b & c." in page.text
    assert "None of its 1 lines has been run yet." in page.text


def test_html_needs_nothing_else(table):
    page = Page(to_html(table, b"a picture"))
    picture = base64.b64encode(b"a picture").decode()
    assert page.links == [f"data:image/png;base64,{picture}"]
    assert "my <clicks>" in page.text
    for text in ("--data 'my <clicks>.csv'", "abc" * 10, "torch: 2.9", '"l2": 0.5'):
        assert text in page.text
    assert "http" not in to_html(table)


def test_markdown_is_as_people_see_it(table, golden):
    assert to_markdown(table, "table2.png") == golden("table2.md")
    assert "![" not in to_markdown(table)


def test_the_terminals_table_is_as_people_see_it(make_line, golden):
    lines = [
        make_line("mf", 0.051, 0.053, paper=0.05, about="picked by hand"),
        make_line("mf+ddrm", 0.06, paper=0.05, tests=BETTER, about="as published"),
        make_line("sgl", paper=0.05),
        make_line("ease", failed=["MemoryError: too much"]),
    ]
    text = block_table(block(*lines)).text()
    assert text + "\n" == golden("table2.txt")


def test_latex_has_one_tabular_per_table_that_is_there(table):
    text = to_latex(table)
    assert text.count(r"\begin{tabular}{lrrrrr}") == 1
    assert r"mf & 0.0500 & 0.0500 & 0.0500 & 0.0500 & 1 of 1 \\" in text
    assert r"item\_knn & failed" in text


def test_all_forms_are_written(table, tmp_path):
    write(tmp_path, table, b"a picture", latex=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"table2.{x}" for x in ("html", "json", "md", "png", "tex")]
    record = json.loads((tmp_path / "table2.json").read_text())
    assert record == json.loads(json.dumps(table.to_json()))
    write(tmp_path / "plain", table, None)
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert names == ["table2.html", "table2.json", "table2.md"]


def test_contrasts_stand_below_both_halves_of_table2(table, make_line):
    yardstick = make_line("ease", 0.08, seeds=[])
    halves = [
        block(yardstick, make_line("mf", 0.05), make_line("mf+ddrm", 0.06), title="a"),
        block(make_line("mf", 0.06), make_line("mf+ddrm", 0.03), title="b"),
    ]
    table = replace(table, blocks=halves)
    rows = Page(to_html(table)).rows
    changes = [row[:4] for row in rows if row[0] == "mf+ddrm"][1::2]
    assert changes == [
        ["mf+ddrm", "0.0600", "+20.0%", "-25.0%"],
        ["mf+ddrm", "0.0300", "-50.0%", "-62.5%"],
    ]
    other = replace(table, what="table3")
    assert "against" not in to_html(other).replace("set against", "")


def test_figures_have_the_settings_of_every_point(table, make_line):
    points = [
        make_line("mf+ddrm", 0.1, at=x, cell={"method": "ddrm", "gamma": x})
        for x in (0.1, 0.2)
    ]
    figure = replace(table, what="figure6", blocks=[block(*points, axis="gamma")])
    page = Page(to_html(figure))
    assert "settings of mf+ddrm, gamma 0.1" in page.text
    assert "settings of mf+ddrm, gamma 0.2" in page.text


def test_noise_changes_no_settings(table, make_line):
    points = [make_line("mf", 0.1, at=x, cell={"method": "mf"}) for x in (0.1, 0.2)]
    figure = replace(table, what="figure3", blocks=[block(*points, axis="noise")])
    assert Page(to_html(figure)).text.count("settings of mf{") == 1


def test_table1_is_a_page_too(make_table):
    counts = {"users": 1234, "items": 5, "interactions": 6, "train": 6}
    statistics = Statistics({"N": {**counts, "noise": {"train": 0.5}}}, {})
    table = make_table(what="table1", statistics=statistics)
    page = Page(to_html(table))
    assert page.rows[1] == ["a world", "1,234", "5", "6", "", "", ""]
    assert "N: 6 train; known noise: 50.0% of train." in page.text
    assert "A star marks" not in page.text


def test_table1_has_the_columns_of_the_paper():
    counts = {"users": 5949, "items": 3494, "interactions": 618297}
    measured = {"N": counts | {"train": 4, "val": 1}, "R": counts | {"train": 3}}
    table = statistics_table(Statistics(measured, {"R": counts}), "tiny")
    assert table.head == [
        *("", "#User (N)", "#Item (N)", "#Int. (N)"),
        *("#User (R)", "#Item (R)", "#Int. (R)"),
    ]
    sizes = ["5,949", "3,494", "618,297"]
    assert table.rows == [["tiny", *sizes, *sizes], ["paper", *[""] * 3, *sizes]]
    assert table.notes == ["N: 4 train, 1 val.", "R: 3 train."]


@pytest.mark.parametrize(
    ("what", "word"),
    [("table2", "History mean: "), ("table3", None), ("figure4", "R-CE: such weights")],
)
def test_rows_that_need_a_word_have_one(table, what, word):
    table = replace(table, what=what)
    for text in (to_markdown(table), Page(to_html(table)).text):
        assert [start for start in ("History mean: ", "R-CE: ") if start in text] == (
            [word[: word.index(":") + 2]] if word else []
        )


def test_other_settings_of_ddrm_are_told(table):
    words = "DDRM is not as published here but as in quick: narrow & fast."
    assert words in to_markdown(table)
    assert words.replace("&", "&amp;") in to_html(table)
    published = replace(table, ddrm_settings=None)
    assert "as published" not in to_markdown(published) + to_html(published)


def test_ours_paper_and_gap_stand_side_by_side(make_line):
    table = block_table(
        block(
            make_line("mf", 0.051, 0.053, paper=0.05, about="picked by hand"),
            make_line("mf+ddrm", 0.06, paper=0.05, tests=BETTER, about="as published"),
            make_line("mf+t-ce", 0.06, tests=UNCLEAR),
            make_line("sgl", paper=0.05),
            make_line("lightgcn", 0.0499, paper=0.05),
            make_line("ease", failed=["MemoryError: too much"]),
        )
    )
    assert table.head[:4] == ["", "R@10", "paper", "gap"]
    assert table.head[-1] == "seeds"
    assert {len(row) for row in table.rows} == {len(table.head)} == {14}
    assert [[*row[:4], row[-1]] for row in table.rows] == [
        ["mf", "0.0520 ± 0.0014", "0.0500", "+4%", "2 of 3"],
        ["mf+ddrm", "0.0600*", "0.0500", "+20%", "1 of 3"],
        ["mf+t-ce", "0.0600", "", "", "1 of 3"],
        ["sgl", "", "0.0500", "", ""],
        ["lightgcn", "0.0499", "0.0500", "0%", "1 of 3"],
        ["ease", "failed", "", "", ""],
    ]
    assert list(table.notes) == [
        "mf+ddrm is more than 5 % from the paper; its settings: as published.",
        "ease failed: MemoryError: too much.",
    ]


def test_where_settings_were_picked_is_told_where_it_is_elsewhere(make_line):
    fields = {"paper": 0.05, "about": "as published"}
    for condition, where in (
        (AS_IS, ""),
        (LIKED, ", picked and checked on noisy validation"),
    ):
        line = make_line("mf", 0.06, condition=condition.name, **fields)
        (note,) = block_table(block(line)).notes
        assert note == (
            f"mf is more than 5 % from the paper; its settings{where}: as published."
        )


@pytest.mark.parametrize(
    ("depths", "more"), [([2, 6], "; more might do better"), ([2, 0], "")]
)
def test_the_edge_of_the_depths_is_told(make_line, depths, more):
    line = make_line("mf best depth", 0.06, depths=depths)
    (note,) = block_table(block(line)).notes
    picked = ", ".join(map(str, depths))
    assert note.endswith(f"picks {picked} layers, of 0 to 6 tried{more}.")


def test_own_data_have_no_columns_of_the_paper(make_line):
    table = block_table(block(make_line("mf", 0.05)))
    assert table.head == ["", "R@10", "R@20", "N@10", "N@20", "seeds"]


def test_a_training_that_was_cut_is_told(make_line):
    cut = [make_line("sgl+ddrm", 0.05, best_at_end=[0, 2]), make_line("mf", 0.05)]
    point = make_line("mf+ddrm", 0.05, at=0.1, best_at_end=[1])
    (note,) = block_table(block(*cut, point)).notes
    assert note.startswith("Best by validation in the last epoch that the settings")
    names = "sgl+ddrm (seed 0); sgl+ddrm (seed 2); mf+ddrm, 0.1 (seed 1)."
    assert note.endswith(names)


def test_curves_have_their_axis(make_line):
    points = [make_line("mf", 0.05), make_line("mf+ddrm", 0.1, at=0.25, depths=[3])]
    table = block_table(block(*points, axis="gamma"))
    assert table.head[:2] == ["", "gamma"]
    assert [row[:2] for row in table.rows] == [["mf", ""], ["mf+ddrm", "0.25"]]
    assert table.notes == ["mf+ddrm, 0.25: validation picks 3 layers, of 0 to 6 tried."]


def test_what_was_never_tried_is_a_sentence(make_line):
    table = block_table(block(make_line("mf"), make_line("sgl", paper=0.05)))
    assert table.text() == "a block\nNone of its 2 lines has been run yet."
    assert block_table(block(make_line("mf", failed=["no"]))).rows


def test_ddrm_is_set_against_what_needs_no_diffusion(make_line, golden):
    lines = [
        *(make_line("ease", 0.08, seeds=[]), make_line("mf", 0.05)),
        *(make_line("mf history mean", 0.056), make_line("sgl", 0.1)),
        make_line("mf+ddrm", 0.06, tests=UNCLEAR),
        make_line("sgl+ddrm", 0.09, tests=WORSE),
    ]
    assert contrast_table(block(*lines)).text() + "\n" == golden("contrasts.txt")


def test_changes_are_over_the_seeds_that_both_have(make_line):
    lines = [
        *(make_line("ease", 0.03, seeds=[]), make_line("mf", 0.07, 0.05)),
        make_line("mf+ddrm", 0.06, seeds=[1], tests=UNCLEAR),
    ]
    (row,) = contrast_table(block(*lines)).rows
    assert row == ["mf+ddrm", "0.0600", "+20.0%", "+100.0%", "0.0110"]


def test_a_rival_that_never_hits_has_no_percentage(make_line):
    lines = [make_line("ease", 0.05, seeds=[]), make_line("mf", 0.0)]
    table = contrast_table(block(*lines, make_line("mf+ddrm", 0.06)))
    assert table.rows == [["mf+ddrm", "0.0600", "+20.0%", ""]]
    assert table.head == ["", "N@20", "against ease", "p Holm"]


@pytest.mark.parametrize("names", [[], ["ease"], ["mf"]])
def test_nothing_is_set_against_without_ddrm(make_line, names):
    lines = [*(make_line(name, 0.1) for name in names), make_line("mf+ddrm")]
    assert contrast_table(block(*lines)) is None


def test_yardsticks_may_stand_in_another_block(make_line):
    lines = [make_line("mf", 0.05), make_line("mf+ddrm", 0.06)]
    ease = make_line("ease", 0.08, seeds=[])
    assert "against ease" not in contrast_table(block(*lines)).head
    assert "against ease" in contrast_table(block(*lines), [ease]).head


def test_plots_have_what_was_run_in_the_colour_of_its_method(
    make_line, make_table, monkeypatch
):
    drawn = []
    monkeypatch.setattr(
        page, "plot_groups", lambda blocks: drawn.extend(blocks) or real(blocks)
    )
    lines = [
        make_line("ease", 0.4, seeds=[], cell={"method": "ease"}),
        make_line("sgl", cell={"method": "sgl"}),
        make_line("mf+ddrm gate", 0.1, 0.3, paper=0.15, cell={"method": "ddrm"}),
    ]
    png = to_plot(make_table(block(*lines), block(make_line("mf"), title="empty")))
    assert np.ptp(matplotlib.image.imread(io.BytesIO(png))[..., :3]) > 0.5
    (only,) = drawn
    assert list(only.marks) == ["recall@20", "ndcg@20"]
    ease, ddrm = only.marks["ndcg@20"]
    assert (ease.value, ease.error) == (0.4, None)
    assert (ddrm.value, ddrm.error, ddrm.paper) == pytest.approx((0.2, 0.02**0.5, 0.15))
    assert to_rgb(ddrm.colour) == to_rgb(COLOURS["ddrm"])
    assert to_plot(make_table(block(make_line("mf")))) is None


real = page.plot_groups


def test_the_repositorys_tables_keep_their_shape():
    text = (DOCS / "tables" / "ml-1m-natural-table2.json").read_text()
    table = Reproduction.from_json(json.loads(text))
    noisy, liked = map(block_table, table.blocks)
    assert noisy.head == liked.head
    assert len(noisy.rows) == len(table.blocks[0].lines)
