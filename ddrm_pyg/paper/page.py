"""Write what was reproduced as one HTML page, as Markdown, or as LaTeX tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ddrm_pyg.experiments.methods import METHODS
from ddrm_pyg.experiments.plots import Group, Mark, colour_of, plot_groups, to_png
from ddrm_pyg.experiments.plug_in import METRIC
from ddrm_pyg.experiments.report import (
    command_line,
    details,
    page,
    picture,
    preformatted,
)
from ddrm_pyg.experiments.tables import Column, Table, plain, short_title
from ddrm_pyg.files import atomic_path, write_json, write_text
from ddrm_pyg.paper.outline import AS_IS, PAPER_BACKENDS, TARGETS, contrasts
from ddrm_pyg.paper.results import (
    MISS,
    BlockResult,
    LineResult,
    Reproduction,
    Statistics,
)
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.transforms.core import SPLITS

DRAWN = ("recall@20", "ndcg@20")
"""What is drawn of each block."""

LEGEND = (
    "A star marks a line above its backend: paired t-test over users of the means of "
    "the seeds that both have, p < .01 after Holm's correction over what its table has "
    "so far. An empty place has not been run; in plots it is left out."
)

OVER_SEEDS = "Means over seeds ± their standard deviation, which are whiskers in plots."
"""What is added where a line has several seeds."""

BESIDE = "The gap is relative to the paper, whose numbers are diamonds in plots."
"""What is added where a line has a number of the paper."""

CONTRASTS = (
    "Relative changes of NDCG@20 over the seeds that both have. p is of the paired "
    "test against the backend; nothing else was tested here."
)
"""What is said below DDRM's changes."""

ROWS = {
    "table2": (
        "Best depth: the backend's tables, propagated as often as validation NDCG@20 "
        "likes best. History mean: a user is the mean of the train items, which is "
        "where DDRM starts. One pass: the trained DDRM applied once, without noise. N "
        "layers: the backend's raw tables propagated N times, which is what the "
        "authors' code denoises."
    ),
    "table3": (
        "Transformer: attention as the paper words it, with the guide as query, the "
        "time as key and the noisy vector as value. Gate: the authors' code, where "
        "time and noisy vector are key and value and a product with the query opens a "
        "gate; the paper prints one number for both. Learned gate: ours, with a "
        "learned map of the time and dropout. Noise start: generation from pure "
        "noise, not from the history. Dynamic s: a noise scale drawn for each triplet, "
        "which is our reading, as no code is published."
    ),
    "figure3": (
        "In train and validation a share of the pairs without noise is replaced by "
        "pairs that nobody observed; where a folder of data has one named 'clean' "
        "beside it, that is where they are replaced. Test is the same everywhere."
    ),
    "figure4": (
        "Reweighting only: DDRM without its reconstruction loss, so that nothing ties "
        "what it generates to the items that are ranked by it. R-CE: such weights on "
        "the backend's own loss, the other reading of the paper's words. "
        "Reconstruction only: without the weights (gamma 0), the recommendation loss "
        "stays."
    ),
    "figure6": (
        "One argument at a time, the others as in the settings. num_train_timesteps is "
        "T, with T' in proportion where it walks all steps; noise_scale is s, where "
        "1e-2 and 1e-1 are beyond the paper's grid; reconstruction_weight is what the "
        "code weighs the reconstruction with, 1 - lambda of Eq. 20; gamma is the "
        "exponent of the weights, Eq. 21. The plots' axes do not begin at 0."
    ),
}
"""What the rows are that need a word, by table or figure."""


def title(reproduction: Reproduction) -> str:
    """Write a heading for people."""
    return f"{TARGETS[reproduction.what].title}, {reproduction.data}"


def write(
    out: Path, reproduction: Reproduction, plot: bytes | None, *, latex: bool = False
) -> None:
    """Write a table or figure in all its forms.

    Args:
        out: Folder for them.
        reproduction: What was measured.
        plot: A PNG.
        latex: Write LaTeX, too.
    """
    name = reproduction.what
    if plot is not None:
        with atomic_path(out / f"{name}.png") as temporary:
            temporary.write_bytes(plot)
    write_text(out / f"{name}.html", to_html(reproduction, plot))
    linked = to_markdown(reproduction, f"{name}.png" if plot else None)
    write_text(out / f"{name}.md", linked)
    if latex:
        write_text(out / f"{name}.tex", to_latex(reproduction))
    write_json(out / f"{name}.json", reproduction.to_json())


def to_html(reproduction: Reproduction, plot: bytes | None = None) -> str:
    """Write one page that needs no other file and no network.

    Args:
        reproduction: What was measured.
        plot: A PNG to show.
    """
    heading = title(reproduction)
    parts = [
        f"<p>Data: {escape(reproduction.data)}. Made by:</p>",
        command_line(reproduction.command),
        *(f"<p>{escape(text)}</p>" for text in _other_ddrm(reproduction)),
    ]
    parts += [table.html() for table in tables(reproduction)]
    parts += [f'<p class="notes">{escape(text)}</p>' for text in _legend(reproduction)]
    if plot is not None:
        parts.append(picture(plot, heading))
    parts += [
        "<h2>What this was made from</h2>",
        "<p>Hash of the interactions, by condition:</p>",
        preformatted(_as_lines(reproduction.fingerprints)),
        "<p>Versions:</p>",
        preformatted(_as_lines(reproduction.versions)),
        *(
            details(f"settings of {name}", json.dumps(cell, indent=1))
            for name, cell in _settings(reproduction).items()
        ),
    ]
    return page(heading, parts)


def to_markdown(reproduction: Reproduction, plot: str | None = None) -> str:
    """Write a section of a Markdown file.

    Args:
        reproduction: What was measured.
        plot: Where a picture is, to be linked.
    """
    heading = title(reproduction)
    parts = [f"## {heading}", f"```bash\n{reproduction.command}\n```"]
    parts += [plain(text) for text in _other_ddrm(reproduction)]
    parts += [table.markdown() for table in tables(reproduction)]
    parts += [plain(text) for text in _legend(reproduction)]
    if plot is not None:
        parts.append(f"![{heading}]({plot})")
    digests = reproduction.fingerprints.items()
    parts.append("; ".join(f"{name}: `{digest[:12]}`" for name, digest in digests))
    return "\n\n".join(parts) + "\n"


def to_latex(reproduction: Reproduction) -> str:
    """Write the tables alone, one ``tabular`` each."""
    return "\n".join(table.latex() for table in tables(reproduction) if table.columns)


def to_plot(reproduction: Reproduction) -> bytes | None:
    """Draw the blocks of which something has been run, as PNG; None without any."""
    blocks = [block for block in reproduction.blocks if any(x.run for x in block.lines)]
    if not blocks:
        return None
    return to_png(plot_groups([_drawn(block) for block in blocks]))


def _drawn(block: BlockResult) -> Group:
    run = [line for line in block.lines if line.run]
    marks = {metric: [_mark(line, metric) for line in run] for metric in DRAWN}
    return Group(block.title, block.axis, marks)


def _mark(line: LineResult, metric: str) -> Mark:
    return Mark(
        line.name,
        colour_of(line.cell["method"] if line.cell else "", bool(line.seeds)),
        line.mean[metric],
        line.deviation.get(metric),
        line.paper.get(metric),
        line.at,
    )


def _other_ddrm(reproduction: Reproduction) -> list[str]:
    settings = reproduction.ddrm_settings
    return [f"DDRM is not as published here but as in {settings}."] if settings else []


def _legend(reproduction: Reproduction) -> list[str]:
    lines = reproduction.lines
    if not lines:
        return []
    several = any(line.deviation for line in lines)
    beside = any(line.paper for line in lines)
    parts = [*([OVER_SEEDS] if several else ()), LEGEND, *([BESIDE] if beside else ())]
    return [" ".join(parts), *filter(None, [ROWS.get(reproduction.what)])]


def _settings(reproduction: Reproduction) -> dict[str, Mapping[str, Any]]:
    """Settings by line; points of a curve are told apart where they differ."""
    settings: dict[str, Mapping[str, Any]] = {}
    for block in reproduction.blocks:
        cells: dict[str, list[Any]] = {}
        for line in block.lines:
            cells.setdefault(line.name, []).append(line.cell)
        for line in block.lines:
            if line.cell is None:
                continue
            swept = any(cell != line.cell for cell in cells[line.name])
            at = f", {block.axis} {line.at:g}" if swept and line.at is not None else ""
            settings[line.name + at] = line.cell
    return settings


def _as_lines(record: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in record.items())


def tables(reproduction: Reproduction) -> list[Table]:
    """Every table of a reproduction."""
    if reproduction.statistics is not None:
        return [statistics_table(reproduction.statistics, reproduction.data)]
    fixed = [line for line in reproduction.lines if line.run and not line.seeds]
    shown = []
    for block in reproduction.blocks:
        shown.append(block_table(block))
        if reproduction.what == "table2":
            shown += filter(None, [contrast_table(block, fixed)])
    return shown


def block_table(block: BlockResult) -> Table:
    """Lay out a block.

    The columns of the paper are left out where it has no number for any line. A block
    of which nothing has been tried is a sentence.
    """
    if block.is_empty:
        note = f"None of its {len(block.lines)} lines has been run yet."
        return Table(pd.DataFrame(), {}, block.title, notes=[note])
    columns = {"at": Column(block.axis, "g")} if block.axis else {}
    for metric in METRICS:
        columns[metric] = Column(short_title(metric))
        if any(line.paper for line in block.lines):
            columns[f"{metric} paper"] = Column("paper")
            columns[f"{metric} gap"] = Column("gap", _gap)
    columns["run"] = Column("seeds")
    frame = pd.DataFrame([_record(line) for line in block.lines]).set_index("name")
    notes = [note for line in block.lines for note in _notes(line)]
    return Table(frame, columns, block.title, notes=notes + _not_converged(block.lines))


def _record(line: LineResult) -> dict[str, Any]:
    """A row of the frame behind a table."""
    record: dict[str, Any] = {"name": line.name, "at": line.at}
    for metric in METRICS:
        absent = "failed" if line.failed else None
        record[metric] = line.mean.get(metric, absent)
        record[f"{metric} deviation"] = line.deviation.get(metric)
        record[f"{metric} star"] = line.is_starred(metric)
        record[f"{metric} paper"] = line.paper.get(metric)
        record[f"{metric} gap"] = line.gap.get(metric)
    record["run"] = f"{line.run} of {line.asked}" if line.seeds else None
    return record


def _gap(far: float) -> str:
    return f"{far:+.0%}" if round(far, 2) else "0%"


def _notes(line: LineResult) -> list[str]:
    name = line.full_name
    notes = [f"{name} failed: {reason}." for reason in dict.fromkeys(line.failed)]
    if line.depths:
        deepest = METHODS["best_depth"].model.around["deepest"]
        picked = ", ".join(map(str, line.depths))
        more = "; more might do better" if deepest in line.depths else ""
        notes.append(
            f"{name}: validation picks {picked} layers, of 0 to {deepest} tried{more}."
        )
    if line.misses and line.about:
        there = line.condition == AS_IS.name
        where = "" if there else f", picked and checked on {AS_IS.name}"
        notes.append(
            f"{name} is more than {100 * MISS:g} % from the paper; "
            f"its settings{where}: {line.about}."
        )
    return notes


def _not_converged(lines: Sequence[LineResult]) -> list[str]:
    cut = [f"{x.full_name} (seed {seed})" for x in lines for seed in x.best_at_end]
    if not cut:
        return []
    return [
        "Best by validation in the last epoch that the settings allow, so that more "
        f"epochs might change them: {'; '.join(cut)}."
    ]


def contrast_table(
    block: BlockResult, beside: Sequence[LineResult] = ()
) -> Table | None:
    """Set DDRM's NDCG@20 against what needs no diffusion, backend by backend.

    Args:
        block: A block of Table 2.
        beside: Lines of another block that its selection does not touch.

    Returns:
        A row per backend on which DDRM has been run; None if there is none.
    """
    lines = {line.name: line for line in [*beside, *block.lines] if line.run}
    rows = {
        name: _contrasts(lines[name], contrasts(backend), lines)
        for backend in PAPER_BACKENDS
        if (name := f"{backend}+ddrm") in lines
    }
    if not rows:
        return None
    frame = pd.DataFrame.from_dict(rows, orient="index")
    shown = [name for name in contrasts("") if frame[name].notna().any()]
    columns = {
        METRIC: Column(short_title(METRIC)),
        **{name: Column(f"against {name}", "+.1%") for name in shown},
        "p_holm": Column("p Holm"),
    }
    title = f"DDRM and what needs no diffusion, {block.title}"
    return Table(frame, columns, title, notes=[CONTRASTS])


def _contrasts(
    line: LineResult, rivals: Mapping[str, str], lines: Mapping[str, LineResult]
) -> dict[str, float | None]:
    """Relative changes of NDCG@20, each over the seeds that both have."""
    test = line.tests.get(METRIC)
    record: dict[str, float | None] = {METRIC: line.mean[METRIC]}
    for name, row in rivals.items():
        record[name] = _change(line, lines[row]) if row in lines else None
    return {**record, "p_holm": test.p_holm if test else None}


def _change(line: LineResult, rival: LineResult) -> float | None:
    both = [seed for seed in line.seeds if seed in rival.seeds]
    ours, theirs = line.mean_over(METRIC, both), rival.mean_over(METRIC, both)
    return ours / theirs - 1 if theirs else None


def statistics_table(statistics: Statistics, name: str) -> Table:
    """Lay out Table 1 with the columns of the paper.

    Args:
        statistics: What was counted.
        name: Name of the data.
    """
    counts = {"users": "#User", "items": "#Item", "interactions": "#Int."}
    columns = {
        f"{letter} {key}": Column(f"{head} ({letter})", ",d")
        for letter in "NR"
        for key, head in counts.items()
    }
    rows = [
        {
            f"{letter} {key}": record[letter][key] if letter in record else None
            for letter in "NR"
            for key in counts
        }
        for record in statistics
    ]
    frame = pd.DataFrame(rows, index=[name, "paper"]).astype("Int64")
    notes = [_shares(letter, x) for letter, x in statistics.measured.items()]
    return Table(frame, columns, "statistics", notes=notes)


def _shares(letter: str, summary: Mapping[str, Any]) -> str:
    sizes = [f"{summary[split]:,} {split}" for split in SPLITS if split in summary]
    noise = summary.get("noise", {})
    shares = [f"{share:.1%} of {split}" for split, share in noise.items()]
    noisy = f"; known noise: {', '.join(shares)}" if shares else ""
    return f"{letter}: {', '.join(sizes)}{noisy}."
