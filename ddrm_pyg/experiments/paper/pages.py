"""Write what was reproduced as one HTML page, as Markdown, or as LaTeX tables."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any

from ddrm_pyg.experiments.paper.sheets import (
    BESIDE,
    LEGEND,
    OVER_SEEDS,
    ROWS,
    Sheet,
    in_words,
    sheet,
)
from ddrm_pyg.experiments.paper.table1 import table1_sheet
from ddrm_pyg.experiments.stored import YARDSTICKS

TITLES = {
    "table1": "Table 1: statistics of the data",
    "table2": "Table 2: overall performance under natural noise",
    "table3": "Table 3: backbone designs",
    "figure3": "Figure 3: training on random noise",
    "figure4": "Figure 4: reconstruction and reweighted loss",
    "figure5": "Figure 5: denoising items only",
    "figure6": "Figure 6: hyper-parameters",
}

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
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
         background: #fff; }
thead th { border-bottom: 2px solid #555; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; }
.notes { color: #555; font-size: 90%; }
</style>
</head>
<body>
<h1>$title</h1>
<p>Data: $data. Made by:</p>
<pre>$command</pre>
$body
<h2>What this was made from</h2>
<p>Hash of the interactions, by condition:</p>
<pre>$fingerprints</pre>
<p>Versions:</p>
<pre>$versions</pre>
$settings
</body>
</html>
""")


def to_html(record: dict[str, Any], plot: bytes | None = None) -> str:
    """Write one page that needs no other file and no network.

    Args:
        record: From :func:`ddrm_pyg.experiments.paper.record.as_record`.
        plot: A PNG to show.
    """
    parts = [f"<p>{escape(text)}</p>" for text in _other_ddrm(record)]
    for table, words in tables(record):
        parts += [_html_table(table), *(f"<p>{escape(text)}</p>" for text in words)]
    parts += [f'<p class="notes">{escape(text)}</p>' for text in _legend(record)]
    if plot is not None:
        data = base64.b64encode(plot).decode()
        alt = escape(_title(record))
        parts.append(f'<p><img alt="{alt}" src="data:image/png;base64,{data}"></p>')
    return _PAGE.substitute(
        title=escape(_title(record)),
        data=escape(record["data"]),
        command=escape(record["command"]),
        body="\n".join(parts),
        fingerprints=_as_lines(record["fingerprints"]),
        versions=_as_lines(record["versions"]),
        settings=_settings(record),
    )


def to_markdown(record: dict[str, Any], plot: str | None = None) -> str:
    """Write a section of a Markdown file.

    Args:
        record: From :func:`ddrm_pyg.experiments.paper.record.as_record`.
        plot: Where a picture is, to be linked.
    """
    parts = [f"## {_title(record)}", f"```bash\n{record['command']}\n```"]
    parts += [_plain(text) for text in _other_ddrm(record)]
    for table, words in tables(record):
        parts.append(f"### {_plain(table.title)}")
        if table.head:
            parts.append(_markdown_table(table))
        if table.notes:
            parts.append("\n".join(f"- {_plain(note)}" for note in table.notes))
        parts += [_plain(text) for text in words]
    parts += [_plain(text) for text in _legend(record)]
    if plot is not None:
        parts.append(f"![{_title(record)}]({plot})")
    told = record["fingerprints"].items()
    parts.append("; ".join(f"{name}: `{digest[:12]}`" for name, digest in told))
    return "\n\n".join(part for part in parts if part) + "\n"


def to_latex(record: dict[str, Any]) -> str:
    """Write the tables alone, one ``tabular`` each."""
    return "\n".join(_latex_table(table) for table, _ in tables(record) if table.head)


def _other_ddrm(record: dict[str, Any]) -> list[str]:
    told = record["ddrm_settings"]
    return [f"DDRM is not as published here but as in {told}."] if told else []


def _title(record: dict[str, Any]) -> str:
    return f"{TITLES[record['what']]}, {record['data']}"


def tables(record: dict[str, Any]) -> list[tuple[Sheet, list[str]]]:
    """Every table of a record, and what is said in words below it."""
    if record["what"] == "table1":
        return [(table1_sheet(record["statistics"], record["data"]), [])]
    blocks = record["blocks"]
    if record["what"] != "table2":
        return [(sheet(block), []) for block in blocks]
    fixed = [x for block in blocks for x in block["lines"] if x["name"] in YARDSTICKS]
    return [(sheet(block), in_words(block, fixed)) for block in blocks]


def _legend(record: dict[str, Any]) -> list[str]:
    lines = [line for block in record["blocks"] for line in block["lines"]]
    if not lines:
        return []
    several = any(line["deviation"] for line in lines)
    beside = any(line["paper"] for line in lines)
    parts = [*([OVER_SEEDS] if several else ()), LEGEND, *([BESIDE] if beside else ())]
    return [" ".join(parts), *filter(None, [ROWS.get(record["what"])])]


def _html_table(table: Sheet) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    below = f'<ul class="notes">{notes}</ul>' if notes else ""
    if not table.head:
        return f"<h2>{escape(table.title)}</h2>\n{below}"
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
        for row in table.rows
    )
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n"
        f"</table></div>\n{below}"
    )


def _settings(record: dict[str, Any]) -> str:
    cells = {}
    for block in record["blocks"]:
        for line in block["lines"]:
            # noise is a condition of the data and changes no settings
            swept = line["at"] is not None and "random noise" not in line["condition"]
            at = f", {block['axis']} {line['at']:g}" if swept else ""
            cells[line["name"] + at] = line["cell"]
    return "\n".join(
        f"<details><summary>settings of {escape(name)}</summary>"
        f"<pre>{escape(json.dumps(cell, indent=1))}</pre></details>"
        for name, cell in cells.items()
    )


def _as_lines(record: dict[str, str]) -> str:
    return escape("\n".join(f"{name}: {value}" for name, value in record.items()))


def _markdown_table(table: Sheet) -> str:
    head, *rows = [[_plain(text) for text in row] for row in (table.head, *table.rows)]
    rules = ["---", *(["---:"] * (len(head) - 1))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))


def _plain(text: str) -> str:
    """Keep stars, bars and names with underscores from being read as Markdown."""
    for sign in ("\\", "|", "*", "_", "<"):
        text = text.replace(sign, f"\\{sign}")
    return text


def _latex_table(table: Sheet) -> str:
    def row(texts: Sequence[str]) -> str:
        return " & ".join(map(_latex, texts)) + r" \\"

    return "\n".join(
        [
            f"% {table.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            *(r"\hline", row(table.head), r"\hline"),
            *map(row, table.rows),
            *(r"\hline", r"\end{tabular}", ""),
        ]
    )


_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"},
        **{"^": r"\textasciicircum{}", "*": "$^*$", "±": r"$\pm$"},
    }
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
