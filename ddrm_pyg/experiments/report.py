"""One HTML page that needs no other file, no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from string import Template

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        font-size: 87%; }
th, td { padding: .15rem .4rem; border-bottom: 1px solid #ddd; text-align: right;
         white-space: nowrap; font-weight: normal; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 2px solid #555; font-weight: bold; }
.marked th, .marked td { background: #fff3e6; font-weight: bold; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; }
.notes { color: #555; font-size: 90%; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


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
