"""Small files for the repository, and the page made from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ddrm_pyg.experiments.methods import table_names, yardsticks
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import load_settings, shipped_name
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.paper.docs import keep, write_page
from ddrm_pyg.paper.outline import AS_IS, LIKED, Condition
from ddrm_pyg.paper.results import BlockResult, KeptCell, Reproduction
from ddrm_pyg.ranking import METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs"
NATURAL = DOCS.parents[1] / "shared" / "data" / "ml-1m" / "natural"
CELLS = [
    KeptCell(
        *("mf best depth", "a world", 1, "noisy validation"),
        dict.fromkeys(METRICS, 0.5),
    ),
    KeptCell("ease", "a world", None, None, dict.fromkeys(METRICS, 0.25)),
]


def noise(ratio):
    return Condition(noise_ratio=ratio)


@pytest.fixture
def table(make_line, make_table):
    line = make_line("ease", 0.25, asked=1, seeds=[], cell={"l2": 500})
    return make_table(BlockResult("a block", None, [line]))


def with_lines(table, *lines):
    return replace(table, blocks=[replace(table.blocks[0], lines=lines)])


def test_every_cell_is_a_file_of_its_own(tmp_path, table):
    keep(tmp_path, table, CELLS)
    folder = tmp_path / "results" / "a-world"
    assert sorted(path.name for path in folder.iterdir()) == [
        "ease.json",
        "mf-best-depth-seed1-noisy-validation.json",
    ]
    for cell, path in zip(reversed(CELLS), sorted(folder.iterdir()), strict=True):
        assert json.loads(path.read_text()) == cell._asdict()


def test_the_page_holds_all_tables_in_the_papers_order(tmp_path, table):
    keep(tmp_path, replace(table, what="table3"), [])
    keep(tmp_path, table, CELLS)
    text = (tmp_path / "results.md").read_text()
    assert text.index("## Table 2") < text.index("## Table 3")
    assert "| ease | 0.2500 |" in text
    assert table.command in text
    kept = json.loads((tmp_path / "tables" / "a-world-table2.json").read_text())
    assert "cell" not in kept["blocks"][0]["lines"][0]
    assert table.lines[0].cell is not None


def test_plots_are_linked(tmp_path, table):
    keep(tmp_path, table, [])
    assert not (tmp_path / "plots").exists()
    keep(tmp_path, table, [], b"a picture")
    assert (tmp_path / "plots" / "a-world-table2.png").read_bytes() == b"a picture"
    assert "](plots/a-world-table2.png)" in (tmp_path / "results.md").read_text()


def test_the_page_can_be_written_again_from_what_is_kept(tmp_path, table):
    keep(tmp_path, table, CELLS)
    page = tmp_path / "results.md"
    before = page.read_text()
    page.unlink()
    write_page(tmp_path)
    assert page.read_text() == before


def test_the_repositorys_page_is_what_its_tables_say(tmp_path):
    shutil.copytree(DOCS, tmp_path, dirs_exist_ok=True)
    write_page(tmp_path)
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == page


def test_the_repositorys_cells_are_small_and_bear_out_the_tables():
    kept = {}
    for path in DOCS.glob("results/*/*.json"):
        cell = json.loads(path.read_text())
        assert list(cell) == ["method", "data", "seed", "selected_on", "metrics"]
        assert (cell["seed"] is None) == (cell["selected_on"] is None)
        assert tuple(cell["metrics"]) == METRICS
        key = (cell["data"], cell["method"], cell["selected_on"])
        kept.setdefault(key, {})[cell["seed"]] = cell["metrics"]
    used = set()
    for record in tables():
        for block in record["blocks"]:
            for line in block["lines"]:
                key = cell_key(record, block, line)
                cells = kept.get(key, {})
                # a table may hold fewer seeds than another that has the same line
                seeds = line["seeds"] or ([None] if line["run"] else [])
                assert len(seeds) == line["run"]
                assert set(seeds) <= cells.keys(), key
                used |= {(key, seed) for seed in seeds}
                for metric in METRICS if seeds else ():
                    mean = sum(cells[seed][metric] for seed in seeds) / len(seeds)
                    assert line["mean"][metric] == pytest.approx(mean), (key, metric)
    assert used == {(key, seed) for key, cells in kept.items() for seed in cells}


def tables():
    return [json.loads(path.read_text()) for path in (DOCS / "tables").iterdir()]


def cell_key(record, block, line):
    """Data, method and selection of a line's cells, as their files tell them."""
    method, data, condition = line["name"], record["data"], line["condition"]
    noise, _, selected = condition.rpartition(", ")
    if noise:
        data = f"{data}, {noise}"
    elif line["at"] is not None:
        method += f", {block['axis']} {line['at']:g}"
    if record["ddrm_settings"] and "+ddrm" in line["name"]:
        method += ", " + record["ddrm_settings"].partition(":")[0]
    return data, method, selected if line["seeds"] else None


def test_the_repositorys_settings_hold_its_rows():
    record = json.loads((DOCS / "tables" / "ml-1m-natural-table2.json").read_text())
    run = [line for line in record["blocks"][0]["lines"] if line["run"]]
    for line in (line for line in run if line["name"] in table_names()):
        backend, _, added = line["name"].partition("+")
        if backend in yardsticks():
            continue
        name = shipped_name(added or backend, "ml-1m", backend if added else "")
        settings = load_settings(name, added or backend)
        ours = {metric: round(value, 4) for metric, value in line["mean"].items()}
        assert {"ours": settings["ours"], "seeds": settings["seeds"]} == {
            **{"ours": ours, "seeds": line["seeds"]},
        }, f"{name}.json must hold the row of Table 2"


def test_every_miss_of_the_repository_says_what_was_checked():
    for table in map(Reproduction.from_json, tables()):
        for line in (line for line in table.lines if line.misses):
            assert "Checked: " in line.about, line.name
            assert "Checked: nothing yet" not in line.about, line.name


@pytest.mark.dataset
@pytest.mark.skipif(not NATURAL.exists(), reason=f"needs {NATURAL}")
@pytest.mark.parametrize("condition", [AS_IS, LIKED, *map(noise, (0.0, 0.6))])
def test_kept_tables_are_of_the_data_as_they_are_read_now(condition):
    digests = [table["fingerprints"].get(condition.name) for table in tables()]
    data, hidden = condition.load(Source(str(NATURAL)))
    now = Runner(data, "", exclude=hidden).fingerprint
    assert {digest for digest in digests if digest} == {now}


def files(folder):
    return {p: p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[" * 100_000])
def test_a_damaged_table_is_named_and_stays(tmp_path, table, text):
    keep(tmp_path, table, CELLS)
    path = tmp_path / "tables" / "a-world-table2.json"
    path.write_text(text)
    for write in (lambda: keep(tmp_path, table, CELLS), lambda: write_page(tmp_path)):
        with pytest.raises(ValueError, match=rf"{path.name}: not what 'reprod.*; del"):
            write()
    assert path.read_text() == text


def test_no_line_that_is_kept_gets_lost(tmp_path, table, make_line):
    keep(tmp_path, table, CELLS)
    before = files(tmp_path)
    with pytest.raises(
        ValueError, match=r"must not lose lines .*\(got none of 1 of 'e"
    ):
        keep(tmp_path, with_lines(table, make_line("mf", 0.1)), CELLS)
    emptier = with_lines(table, make_line("ease"))
    with pytest.raises(ValueError, match="got 0 of 1 of 'ease' in 'a block'"):
        keep(tmp_path, emptier, [])
    assert files(tmp_path) == before
    keep(tmp_path, table, CELLS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ddrm_settings": "small: one"}, "the same ddrm_settings (None there, got sm"),
        ({"fingerprints": {"noisy validation": "d"}}, "must have the same fingerpr"),
    ],
)
def test_a_table_of_another_kind_is_not_mixed_in(tmp_path, table, change, message):
    keep(tmp_path, table, CELLS)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="must have the same") as caught:
        keep(tmp_path, replace(table, **change), CELLS)
    assert message in str(caught.value)
    assert files(tmp_path) == before
    more = {**table.fingerprints, "liked validation": "d"}
    keep(tmp_path, replace(table, fingerprints=more), CELLS)


def test_points_of_a_curve_are_told_apart(tmp_path, table):
    (line,) = table.lines
    points = [replace(line, at=0.1), replace(line, at=0.2)]
    keep(tmp_path, with_lines(table, *points), [])
    with pytest.raises(ValueError, match=r"got none of 1 of 'ease, 0\.2'"):
        keep(tmp_path, with_lines(table, points[0]), [])


def test_what_a_killed_process_left_does_not_break_the_page(tmp_path, table):
    keep(tmp_path, table, CELLS)
    before = (tmp_path / "results.md").read_text()
    (tmp_path / "tables" / ".a-world-table3-xyz.json").touch()
    write_page(tmp_path)
    assert (tmp_path / "results.md").read_text() == before
