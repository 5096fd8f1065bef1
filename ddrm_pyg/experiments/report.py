"""Pages for people: each one HTML file, without network and without a script."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddrm_pyg.experiments.tables import Table

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; overflow-wrap: anywhere; }
.wide { overflow-x: auto;  /* an edge that hides columns has a shadow */
        background: linear-gradient(to right, #fff 45%, #fff0) left / 3rem,
                    linear-gradient(to left, #fff 45%, #fff0) right / 3rem,
                    linear-gradient(to right, #0006, #0000) left / .8rem,
                    linear-gradient(to left, #0006, #0000) right / .8rem;
        background-repeat: no-repeat;
        background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        font-size: 87%; }
th, td { padding: .15rem .4rem; border-bottom: 1px solid #ddd; text-align: right;
         white-space: nowrap; font-weight: normal; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th.words, td.words { text-align: left; white-space: normal; padding-left: 1rem;
                     overflow-wrap: break-word; }
thead th { border-bottom: 2px solid #555; font-weight: bold; }
.marked th { background: #fff3e6; }
.marked td { background: #ff7f0e1a; }
.best { font-weight: bold; }
img { max-width: 100%; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1rem; }
.pictures p { margin: 0; flex: 0 1 36rem; }
.verdict { font-size: 120%; border-left: .3rem solid #ff7f0e; padding: .3rem .8rem;
           background: #fff3e6; }
.verdict p { margin: .2rem 0; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .8rem; }
.command span { display: inline-block; }  /* so that no line ends within an option */
.notes { color: #555; font-size: 90%; }
ul { padding-left: 1.2rem; }
@media (max-width: 480px) {
  table { font-size: 68%; }
  th, td { padding: .1rem .2rem; }
  th.words, td.words { padding-left: .6rem; }
  thead th, th:first-child { white-space: normal; overflow-wrap: break-word; }
}
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class NextSteps:
    """What comes after a result.

    Attributes:
        commands: What each is for, to whole command lines.
        files: What was written, to what it holds.
        hints: What else helps, a sentence each.
    """

    commands: Mapping[str, str]
    files: Mapping[str, str]
    hints: Sequence[str] = ()

    def text(self) -> str:
        """Write the commands for a terminal, a line each."""
        return "\n".join(f"{what}: {line}" for what, line in self.commands.items())

    def html(self) -> str:
        """Write a section of a page; its links are words, as it may be anywhere."""
        files = "".join(
            f"<li><code>{escape(name)}</code>: {escape(what)}</li>"
            for name, what in self.files.items()
        )
        return "\n".join(
            [
                "<h2>What next</h2>",
                *map(paragraph, self.hints),
                *(
                    paragraph(f"{what}:") + command_line(line)
                    for what, line in self.commands.items()
                ),
                paragraph("Written:"),
                f"<ul>{files}</ul>",
            ]
        )


@dataclass(frozen=True)
class Report:
    """What a command has found, on one page: first what it means, last how it was made.

    Attributes:
        title: Heading.
        verdict: What was found, in a sentence, and what to do, in another.
        meaning: What it rests on, a sentence each.
        after: What comes next.
        tables: The numbers.
        pictures: Description to PNG.
        settings: What was run, for JSON.
        command: What makes it again.
        notes: How it was made, a sentence each.
    """

    title: str
    verdict: Sequence[str]
    meaning: Sequence[str]
    after: NextSteps
    tables: Sequence[Table]
    pictures: Mapping[str, bytes]
    settings: Any
    command: str
    notes: Sequence[str] = ()

    def html(self) -> str:
        """Write the page."""
        pictures = (picture(png, text) for text, png in self.pictures.items())
        parts = [
            '<div class="verdict">',
            *map(paragraph, self.verdict),
            "</div>",
            *map(paragraph, self.meaning),
            self.after.html(),
            *(table.html() for table in self.tables),
            f'<div class="pictures">{"".join(pictures)}</div>',
            "<h2>How this was made</h2>",
            command_line(self.command),
            *map(paragraph, self.notes),
            paragraph(f"ddrm_pyg {version('ddrm_pyg')}", "notes"),
            details("settings", json.dumps(self.settings, indent=1)),
        ]
        return page(self.title, parts)


def page(title: str, parts: Iterable[str]) -> str:
    """Write a page.

    Args:
        title: Its heading, as text.
        parts: What stands below, as HTML.
    """
    return _PAGE.substitute(title=escape(title), body="\n".join(parts))


def paragraph(text: str, kind: str = "") -> str:
    """Write a paragraph, of a class if need be."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Write a text as it is."""
    return f"<pre>{escape(text)}</pre>"


def command_line(text: str) -> str:
    """Write a command, which is broken between its words alone."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))
    return f'<pre class="command">{words}</pre>'


def details(summary: str, text: str) -> str:
    """Write a text that is shown when it is asked for."""
    return (
        f"<details><summary>{escape(summary)}</summary>{preformatted(text)}</details>"
    )


def picture(png: bytes, description: str) -> str:
    """Put a PNG into the page itself."""
    data = base64.b64encode(png).decode()
    source = f"data:image/png;base64,{data}"
    return f'<p><img alt="{escape(description)}" src="{source}"></p>'
