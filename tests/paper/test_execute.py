"""Cells run once and in order, whatever stops or fails."""

from __future__ import annotations

import shutil

import pytest

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import memory, sources
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.paper import execute
from ddrm_pyg.paper.execute import (
    Benches,
    Job,
    carry_out,
    collect,
    fingerprints,
    is_done,
    jobs,
)
from ddrm_pyg.paper.outline import AS_IS, LIKED, Block, Condition, Line

FIT = {"epochs": 2, "batch_size": 512}


def mf(seed: int = 0) -> Cell:
    return Cell("mf", seed, {"embedding_dim": 4}, FIT)


def ddrm(seed: int = 0) -> Cell:
    model = {"hidden_dims": [4], "num_train_timesteps": 2, "num_inference_steps": 2}
    return Cell("ddrm", seed, model, FIT, mf(seed))


LINES = (
    Line("ddrm", (ddrm(0), ddrm(1)), "mf", turn=1),
    Line("mf", (mf(0), mf(1)), turn=1),
    Line("ease", (Cell("ease"),)),
    Line("mf", (mf(0),), condition=LIKED, turn=2),
)
PLAN = [Block("a table", LINES)]


@pytest.fixture
def benches(tmp_path, monkeypatch):
    data = SyntheticInteractions(50, 80, 1000)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", data.clone)
    return lambda name="a": Benches(
        Source("synthetic"), tmp_path / name, progress=False
    )


def test_order_is_rounds_then_seeds_and_bases_first():
    assert jobs(PLAN) == [
        Job(AS_IS, Cell("ease"), "ease"),
        *(Job(AS_IS, mf(0), "ddrm"), Job(AS_IS, ddrm(0), "ddrm")),
        *(Job(AS_IS, mf(1), "ddrm"), Job(AS_IS, ddrm(1), "ddrm")),
        Job(LIKED, mf(0), "mf"),
    ]


def values(cells):
    return [dict(cell.test) for cell in cells]


def test_interrupted_and_resumed_is_the_same_as_straight(benches, monkeypatch):
    straight = benches("straight")
    assert carry_out(jobs(PLAN), straight) == {}
    ran = []
    train = Runner.train

    def stop_once(self, cell, model):
        ran.append((cell.method, cell.seed))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return train(self, cell, model)

    monkeypatch.setattr(Runner, "train", stop_once)
    with pytest.raises(KeyboardInterrupt):
        carry_out(jobs(PLAN), benches("stopped"))
    assert collect(LINES[0], benches("stopped"), {})[1] is None
    resumed = benches("stopped")
    assert carry_out(jobs(PLAN), resumed) == {}
    # the third is tried twice; what was finished before is not run again
    first = [("mf", 0), ("ddrm", 0), ("mf", 1)]
    assert ran == [*first, ("mf", 1), ("ddrm", 1), ("mf", 0)]
    for line in LINES:
        ours, theirs = (collect(line, b, {}) for b in (resumed, straight))
        assert values(ours) == values(theirs)


def test_a_failure_is_told_and_the_others_go_on(benches, monkeypatch):
    def fail(self, cell, model):
        raise FloatingPointError("loss is\n nan") if cell.seed else KeyError(cell.seed)

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "train", fail)
        bench = benches()
        failed = carry_out(jobs(PLAN), bench)
    assert collect(LINES[1], bench, failed) == [
        "KeyError: 0",
        "FloatingPointError: loss is nan",
    ]
    assert set(collect(LINES[0], bench, failed)) == {"mf, from which it starts, failed"}
    (ease,) = collect(LINES[2], bench, failed)
    assert isinstance(ease, Result)
    # the next time it is tried again
    assert carry_out(jobs(PLAN), bench) == {}
    assert all(isinstance(cell, Result) for cell in collect(LINES[0], bench, {}))


def test_a_condition_that_cannot_be_made_fails_alone(benches):
    noisy = Condition(noise_ratio=2.0)
    impossible = Line("ease", (Cell("ease"),), condition=noisy)
    bench = benches()
    failed = carry_out(jobs([Block("a figure", (LINES[2], impossible))]), bench)
    (ease,) = collect(LINES[2], bench, failed)
    assert isinstance(ease, Result)
    (reason,) = collect(impossible, bench, failed)
    assert "(got 2.0)" in reason
    with pytest.raises(ValueError, match=r"\(got 2\.0\)"):
        bench[noisy]


def test_what_does_not_fit_is_not_started(benches, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda _: 1000)
    bench = benches()
    failed = carry_out([Job(AS_IS, Cell("ease"))], bench)
    (reason,) = collect(LINES[2], bench, failed)
    assert reason.startswith("MemoryError: ease on ")


@pytest.mark.parametrize("name", ["result.json", "per_user.safetensors"])
def test_a_damaged_result_is_told_and_the_others_are_there(benches, caplog, name):
    bench = benches()
    carry_out(jobs(PLAN), bench)
    folder = bench[AS_IS].cell_folder(mf(0))
    (folder / name).write_bytes(b"")
    line = LINES[1]
    damaged, whole = collect(line, bench, carry_out(jobs(PLAN), bench))
    assert isinstance(whole, Result)
    assert f"{folder}: the result is damaged" in damaged
    assert "delete this folder, and it is run again" in caplog.text
    shutil.rmtree(folder)
    carry_out(jobs(PLAN), bench)
    assert all(isinstance(cell, Result) for cell in collect(line, bench, {}))


def test_no_cell_is_started_after_the_budget(benches, monkeypatch):
    clock = iter([0.0, 30.0, 59.0, 60.0])
    monkeypatch.setattr(execute.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(Runner, "run", None)  # whatever is started fails
    assert len(carry_out(jobs(PLAN), benches(), minutes=1)) == 2


def test_a_finished_cell_costs_no_budget(benches):
    todo = jobs(PLAN)
    bench = benches()
    carry_out(todo[:3], bench)
    assert carry_out(todo, bench, minutes=0) == {}
    done = [bench[job.condition].has_run(job.cell) for job in todo]
    assert done == [True] * 3 + [False] * 3


def test_looking_loads_no_data(benches, monkeypatch):
    bench = benches()
    out = bench.out
    assert fingerprints(out) == {}
    todo = jobs(PLAN)
    assert not any(is_done(job, out, {}) for job in todo)
    carry_out(todo[:2], bench)
    monkeypatch.setitem(sources.NAMED, "synthetic", None)
    digests = fingerprints(out)
    assert [is_done(job, out, digests) for job in todo] == [True] * 2 + [False] * 4


@pytest.mark.parametrize("text", ["", "[]", "null", '{"a": 1}', "[" * 100_000])
def test_damaged_fingerprints_are_named(tmp_path, text):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(ValueError, match=r"data\.json: not what 'reprod.*; delete it"):
        fingerprints(tmp_path)


def test_other_data_seeds_and_settings_meet_no_old_result(benches, monkeypatch):
    bench = benches()
    carry_out([Job(AS_IS, mf())], bench)
    assert not bench[AS_IS].has_run(mf(1))
    assert not bench[AS_IS].has_run(Cell("mf", 0, {"embedding_dim": 5}, FIT))
    assert not bench[LIKED].has_run(mf())
    other = SyntheticInteractions(50, 80, 1000, seed=1)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", other.clone)
    assert not benches()[AS_IS].has_run(mf())
