"""Shell words as spans, which a style keeps whole where a long command is wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pygments.lexers.shell import BashLexer
from pygments.token import Name, Text
from sphinx.application import Sphinx


class ShellWords(BashLexer):
    """Bash, whose plain words are names: text alone would get no span."""

    def get_tokens_unprocessed(
        self, text: str, *args: Any
    ) -> Iterator[tuple[int, Any, str]]:
        """Yield where each token begins, its kind and its text."""
        for start, kind, value in super().get_tokens_unprocessed(text, *args):
            yield start, Name if kind is Text else kind, value


def setup(app: Sphinx) -> dict[str, bool]:
    """Read all blocks of bash so."""
    app.add_lexer("bash", ShellWords)
    return {"parallel_read_safe": True}
