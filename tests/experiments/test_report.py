"""A page is whole, and what it holds is text."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from importlib.metadata import version

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.experiments.report import (
    NextSteps,
    Report,
    command_line,
    details,
    page,
    paragraph,
    picture,
    preformatted,
)
from ddrm_pyg.experiments.tables import Column, Table

CHROMIUM = shutil.which("chromium")


class Texts(HTMLParser):
    """Every text by its tag; tags are closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.links = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1], data))


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"])).map(
    lambda text: f"({text})"
)


@given(texts)
def test_whatever_is_told_stays_text(text):
    parts = [paragraph(text, "notes"), preformatted(text), details(text, text)]
    seen = Texts(page(text, parts)).texts
    tags = [tag for tag, data in seen if data == text]
    assert tags == ["title", "h1", "p", "pre", "summary", "pre"]


@given(texts)
def test_a_command_is_the_same_text_in_words(text):
    line = f"ddrm-pyg run --data {text}  --json"
    shown = re.sub("<[^<]*>", "", command_line(line))
    assert unescape(shown) == line  # what is selected and copied


def test_pictures_are_in_the_page():
    text = page("t", [picture(b"a <picture>", 'with "quotes"')])
    encoded = base64.b64encode(b"a <picture>").decode()
    assert Texts(text).links == [f"data:image/png;base64,{encoded}"]
    assert "with &quot;quotes&quot;" in text
    assert "<script" not in text


def test_a_report_says_what_it_means_first_and_how_it_was_made_last():
    table = Table(pd.DataFrame({"x": [0.5]}, index=["mf"]), {"x": Column("X")})
    report = Report(
        title="a <title>",
        verdict=["it helps", "Use it."],
        meaning=["It is better."],
        after=NextSteps(
            {"lists": "ddrm-pyg recommend 'a b'"},
            {"a.csv": "20 <items>"},
            ["Try a seed."],
        ),
        tables=[table],
        pictures={"bars": b"png"},
        settings={"seed": 0},
        command="ddrm-pyg run --out 'a b'",
        notes=["Recall picks epochs."],
    )
    page = Texts(report.html())
    assert [data for _, data in page.texts[2:]] == [
        *("a <title>", "it helps", "Use it.", "It is better."),
        *("What next", "Try a seed.", "lists:"),
        *("ddrm-pyg", "recommend", "'a", "b'"),
        *("Written:", "a.csv", ": 20 <items>"),
        *("X", "mf", "0.5000", "How this was made"),
        *("ddrm-pyg", "run", "--out", "'a", "b'"),
        *(
            "Recall picks epochs.",
            f"ddrm_pyg {version('ddrm_pyg')}",
            "settings",
            '{\n "seed": 0\n}',
        ),
    ]
    assert len(page.links) == 1
    boxed = report.html().partition('<div class="verdict">')[2].partition("</div>")[0]
    assert boxed.split() == ["<p>it", "helps</p>", "<p>Use", "it.</p>"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_report_fits_a_phone(tmp_path):
    wide = pd.DataFrame({f"column {i}": [i / 7] for i in range(30)}, index=["a row"])
    columns = {name: Column(name) for name in wide}
    report = Report(
        title="title" * 30,
        verdict=["helps" * 40],
        meaning=["'lightgcn, best depth' ranks better"],
        after=NextSteps({"w" * 99: "c" * 300}, {"f" * 99: "p" * 99}),
        tables=[Table(wide, columns, notes=["a note"])],
        pictures={},
        settings={"path": "x" * 500},
        command=f"ddrm-pyg run {'--user userId ' * 20} --out {'a' * 300}",
    )
    script = (
        "onload = () => { const page = frame.contentDocument.documentElement;"
        "const wide = page.querySelector('.wide');"
        "document.title = [page.scrollWidth <= page.clientWidth,"
        "wide.scrollWidth > wide.clientWidth,"
        "frame.contentWindow.getComputedStyle(wide).backgroundAttachment,"
        "[...page.querySelectorAll('.command span')].every("
        "word => word.textContent.length > 20 || word.offsetHeight < 30)] }"
    )
    (tmp_path / "phone.html").write_text(
        f'<iframe id="frame" width="400" srcdoc="{escape(report.html())}"></iframe>'
        f"<script>{script}</script>",
        encoding="utf-8",
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    flags += ["--disable-background-networking", "--virtual-time-budget=2000"]
    url = (tmp_path / "phone.html").as_uri()
    dumped = subprocess.run(
        [CHROMIUM, *flags, url], capture_output=True, text=True, timeout=100, check=True
    )
    # what moves with the columns hides a shadow that stays, until there are more
    shown = "<title>true,true,local, local, scroll, scroll,true</title>"
    assert shown in dumped.stdout  # and no option is broken in two
