"""A page is whole, and what it holds is text."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.experiments.report import (
    details,
    page,
    paragraph,
    picture,
    preformatted,
)


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


def test_pictures_are_in_the_page():
    text = page("t", [picture(b"a <picture>", 'with "quotes"')])
    encoded = base64.b64encode(b"a <picture>").decode()
    assert Texts(text).links == [f"data:image/png;base64,{encoded}"]
    assert "with &quot;quotes&quot;" in text
    assert "<script" not in text
