"""Pages are complete, safe and readable without anything else."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest

from ddrm_pyg.experiments.paper.pages import to_html, to_latex, to_markdown
from ddrm_pyg.ranking import METRICS


def line(name, value=None, **told):
    return {
        "name": name,
        "at": None,
        "condition": "noisy validation",
        "asked": 1,
        "run": int(value is not None),
        "seeds": [] if value is None else [0],
        "failed": [],
        "depths": [],
        "best_at_end": [],
        "about": "",
        "mean": {} if value is None else dict.fromkeys(METRICS, value),
        "deviation": {},
        "paper": {},
        "tests": {},
        "cell": {"method": name, "model": {"l2": 0.5}},
        **told,
    }


@pytest.fixture
def record():
    failed = line("item_knn", failed=["ValueError: a < b & c"])
    return {
        "what": "table2",
        "data": "my <clicks>",
        "ddrm_settings": "quick: narrow & fast",
        "command": "ddrm-pyg reproduce table2 --data 'my <clicks>.csv'",
        "fingerprints": {"noisy validation": "abc" * 10},
        "versions": {"torch": "2.9"},
        "statistics": None,
        "blocks": [
            {
                "title": "selected",
                "axis": None,
                "lines": [line("mf", 0.05), line("sgl"), failed],
            },
            {"title": "never", "axis": None, "lines": [line("mf")]},
        ],
    }


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


def test_html_shows_what_is_missing_and_what_failed(record):
    page = Page(to_html(record, b"a picture"))
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


def test_html_needs_nothing_else(record):
    page = Page(to_html(record, b"a picture"))
    picture = base64.b64encode(b"a picture").decode()
    assert page.links == [f"data:image/png;base64,{picture}"]
    assert "my <clicks>" in page.text
    for told in ("--data 'my <clicks>.csv'", "abc" * 10, "torch: 2.9", '"l2": 0.5'):
        assert told in page.text
    assert "http" not in to_html(record)


def test_markdown_has_the_same_rows(record):
    text = to_markdown(record, "table2.png")
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    assert "| mf | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 1 of 1 |" in text
    assert "|  | R@10 | R@20 | N@10 | N@20 | seeds |" in text
    assert "| item\\_knn | failed | failed | failed | failed |  |" in text
    assert "- item\\_knn failed: ValueError: a \\< b & c." in text
    assert "![Table 2: overall" in text
    assert f"```bash\n{record['command']}\n```" in text
    assert "![" not in to_markdown(record)


def test_latex_has_one_tabular_per_table_that_is_there(record):
    text = to_latex(record)
    assert text.count(r"\begin{tabular}{lrrrrr}") == 1
    assert r"mf & 0.0500 & 0.0500 & 0.0500 & 0.0500 & 1 of 1 \\" in text
    assert r"item\_knn & failed" in text
    record["blocks"][0]["lines"][0]["deviation"] = dict.fromkeys(METRICS, 0.01)
    assert r"0.0500 $\pm$ 0.0100" in to_latex(record)


def test_words_stand_below_both_halves_of_table2(record):
    lines = [line("ease", 0.08), line("mf", 0.05)]
    second = {"title": "liked", "axis": None, "lines": [line("mf", 0.06)]}
    record["blocks"] = [{**record["blocks"][0], "lines": lines}, second]
    page = Page(to_html(record))
    for value in ("0.0500", "0.0600"):
        assert f"NDCG@20 of the backend {value}, EASE 0.0800." in page.text
    record["what"] = "table3"
    assert "NDCG@20 of the backend" not in Page(to_html(record)).text


def test_figures_tell_the_settings_of_every_point(record):
    points = [line("mf+ddrm", 0.1, at=x) for x in (0.1, 0.2)]
    record |= {
        "what": "figure6",
        "blocks": [{"title": "a", "axis": "gamma", "lines": points}],
    }
    page = Page(to_html(record))
    assert "settings of mf+ddrm, gamma 0.1" in page.text
    assert "settings of mf+ddrm, gamma 0.2" in page.text


def test_noise_changes_no_settings(record):
    told = {"condition": "random noise 0.1, noisy validation"}
    lines = [line("mf", 0.1, at=0.1, **told)]
    record |= {
        "what": "figure3",
        "blocks": [{"title": "a", "axis": "noise", "lines": lines}],
    }
    assert "settings of mf{" in Page(to_html(record)).text.replace("\n", "")


def test_table1_is_a_page_too(record):
    counts = {"users": 1234, "items": 5, "interactions": 6}
    record |= {
        "what": "table1",
        "blocks": [],
        "statistics": {"measured": {"N": counts | {"train": 6}}, "paper": {}},
    }
    page = Page(to_html(record))
    assert page.rows[1] == ["my <clicks>", "1,234", "5", "6", "", "", ""]
    assert "N: 6 train." in page.text
    assert "A star marks" not in page.text


@pytest.mark.parametrize(
    ("what", "word"),
    [("table2", "History mean: "), ("table3", None), ("figure4", "R-CE: such weights")],
)
def test_rows_that_need_a_word_have_one(record, what, word):
    record |= {"what": what}
    for text in (to_markdown(record), Page(to_html(record)).text):
        assert [told for told in ("History mean: ", "R-CE: ") if told in text] == (
            [word[: word.index(":") + 2]] if word else []
        )


def test_other_settings_of_ddrm_are_told(record):
    told = "DDRM is not as published here but as in quick: narrow & fast."
    assert told in to_markdown(record)
    assert told.replace("&", "&amp;") in to_html(record)
    as_published = {**record, "ddrm_settings": None}
    assert "as published" not in to_markdown(as_published) + to_html(as_published)
