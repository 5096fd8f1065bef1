"""The directive ``methods``: every method, read off its record."""

from __future__ import annotations

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ddrm_pyg.experiments.methods import METHODS, Role, names_of

TITLES: dict[Role, str] = {
    "yardstick": "Yardsticks",
    "backend": "Backends",
    "denoiser": "What is added to a backend",
    "rival": "Rivals",
}


class Methods(SphinxDirective):
    """Writes a table of methods for each role."""

    def run(self) -> list[nodes.Node]:
        """Parse the tables as if they stood on the page."""
        text = "\n".join(_lines())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _lines() -> Iterator[str]:
    for role, title in TITLES.items():
        yield f"\n## {title}\n\n| name | what it is | class |\n|---|---|---|"
        for name in names_of(role):
            method = METHODS[name]
            model = method.model.of
            path = model.replace(":", ".") if isinstance(model, str) else ""
            yield f"| `{name}` | {method.about} | {path and f'`{path}`'} |"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("methods", Methods)
    return {"parallel_read_safe": True}
