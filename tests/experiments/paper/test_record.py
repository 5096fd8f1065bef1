"""What a record holds, whoever asked for it."""

from __future__ import annotations

import json

import pytest

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import sources
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.paper.conditions import GIVEN, LIKED
from ddrm_pyg.experiments.paper.execute import Benches, carry_out, collect, jobs
from ddrm_pyg.experiments.paper.plans import Block, Line, Plan
from ddrm_pyg.experiments.paper.record import as_record
from ddrm_pyg.experiments.sources import Source


@pytest.fixture
def benches(tmp_path, monkeypatch):
    data = SyntheticInteractions(50, 80, 1000)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", data.clone)
    return Benches(Source("synthetic"), tmp_path, progress=False)


def recorded(benches, blocks, plan=None, what="table2"):
    failed = carry_out(jobs(blocks), benches)
    found = [[collect(line, benches, failed) for line in b.lines] for b in blocks]
    return as_record(what, plan or Plan(), blocks, found, benches, "again")


def test_a_record_holds_what_pages_need(benches):
    ease = Cell("ease")
    blocks = [
        Block("one", (Line("ease", (ease,)),)),
        Block("two", (Line("ease", (ease,), condition=LIKED),)),
    ]
    record = recorded(benches, blocks, Plan("ml-1m"))
    assert (record["what"], record["data"]) == ("table2", "synthetic")
    assert (record["settings"], record["ddrm_settings"]) == ("ml-1m", None)
    assert (record["command"], record["statistics"]) == ("again", None)
    assert [block["title"] for block in record["blocks"]] == ["one", "two"]
    assert record["fingerprints"] == {
        condition.name: benches[condition].fingerprint for condition in (GIVEN, LIKED)
    }
    assert {"python", "torch", "ddrm_pyg"} <= record["versions"].keys()
    # no default is left to be guessed
    assert record["blocks"][0]["lines"][0]["cell"]["model"]["l2"] == 1000
    json.dumps(record, allow_nan=False)


def test_other_settings_of_ddrm_say_what_they_are(benches, tmp_path):
    record = recorded(benches, [], Plan(ddrm_settings="ddrm_quick"))
    assert record["ddrm_settings"].startswith("ddrm_quick: networks of a fifth")
    path = tmp_path / "mine.json"
    path.write_text('{"model": {}, "fit": {}}')
    record = recorded(benches, [], Plan(ddrm_settings=str(path)))
    assert record["ddrm_settings"] == "mine: settings of a file"


def test_table_1_has_statistics_and_the_data_as_they_are(benches):
    record = recorded(benches, [], what="table1")
    assert record["statistics"]
    assert record["fingerprints"] == {GIVEN.name: benches[GIVEN].fingerprint}
