"""Formulas as MathML: browsers draw them, and nothing is loaded from elsewhere."""

from __future__ import annotations

from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def draw(text: str, node: nodes.Node, *, as_block: bool = False) -> str:
    """Translate a formula; what cannot be is shown as it is, with a warning."""
    try:
        return tex2mathml(text, as_block=as_block)
    except MathError as error:
        logger.warning("%s: %s", text, error, location=node)
        return f"<code>{escape(text)}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(draw(node.astext(), node))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    self.body.append(
        f'<div class="math">{draw(node.astext(), node, as_block=True)}</div>'
    )
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True}
