"""Estimates and peaks against what is known, and exact counts where they must be."""

from __future__ import annotations

import platform
import time

import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.datasets.writers import save_interactions
from ddrm_pyg.experiments import memory
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.memory import (
    COPIES,
    PeakMemory,
    Sizes,
    gibibytes,
    guard_memory,
    num_parameters,
    to_load,
    to_run,
)
from ddrm_pyg.experiments.methods import METHODS, each_once, names_of
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import EDGE


def test_peak_counts_what_is_freed_before_the_end():
    size = 200 << 20
    with PeakMemory() as peak:
        held = torch.ones(size, dtype=torch.uint8)
        time.sleep(0.2)
        del held
    assert 0.9 * size < peak.bytes < 1.5 * size


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs malloc_trim")
def test_the_same_work_counts_again():
    kept, peaks = [], []  # what stays lies between what goes, and pins the heap
    for _ in range(3):
        with PeakMemory() as peak:
            gone = []
            for _ in range(1000):
                gone.append(torch.ones(100_000, dtype=torch.uint8))
                kept.append(torch.ones(100, dtype=torch.uint8))
            time.sleep(0.1)
            gone.clear()
        peaks.append(peak.bytes)
    assert min(peaks) > 80 << 20


def test_nothing_takes_next_to_nothing():
    with PeakMemory() as peak:
        pass
    assert 0 <= peak.bytes < 20 << 20


def test_watching_ends_when_the_block_fails():
    peak = PeakMemory()
    with pytest.raises(KeyError), peak:
        raise KeyError
    assert not peak._thread.is_alive()


SIZES = Sizes(10, 10, 10)


def random_data(num_users, num_items, num_edges):
    draw = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    for name, size in (
        ("edge_index", num_edges),
        ("val_edge_label_index", 200),
        ("test_edge_label_index", 200),
    ):
        user = torch.randint(num_users, (size,), generator=draw)
        item = torch.randint(num_items, (size,), generator=draw)
        data[EDGE][name] = torch.stack([user, item])
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sizes", "batch_size"),
    [
        ("mf", (60_000, 40_000, 4_000), 2048),
        ("lightgcn", (60_000, 40_000, 4_000), 2048),
        ("mf", (20_000, 10_000, 1_000_000), 1 << 18),
        ("cdae", (10_000, 20_000, 4_000), 400),
        ("multidae", (5_000, 20_000, 4_000), 400),
        ("multivae", (5_000, 20_000, 4_000), 400),
        ("diffrec", (2_000, 15_000, 4_000), 400),
        ("tdiffrec", (2_000, 15_000, 4_000), 400),
        ("item_knn", (1_000, 8_000, 50_000), 1),
        ("ease", (1_000, 6_000, 50_000), 1),
    ],
)
def test_estimates_are_good_to_a_factor_of_two(tmp_path, method, sizes, batch_size):
    data = random_data(*sizes)
    data[EDGE].in_order = True
    cell = cell_for(method)
    if cell.fit:
        fit = {**cell.fit, "epochs": 1, "batch_size": batch_size}
        cell = Cell(method, 0, cell.model, fit)
    runner = Runner(data, tmp_path, progress=False)
    assert runner.graph.num_edges == sizes[2]
    with PeakMemory() as peak:
        measured = runner.run(cell).peak_memory
    estimate = to_run(cell, runner.graph)
    assert measured > 100 << 20  # large enough to be about the tensors
    assert 0.5 < estimate.train / measured < 2
    assert peak.bytes < 2 * max(estimate)


@pytest.mark.parametrize(
    "method",
    [name for name in names_of("backend", "rival") if METHODS[name].trained],
)
def test_parameters_are_counted_exactly(method):
    cell = cell_for(method)
    model = METHODS[method].model.example(cell.model, 7, 12)
    expected = sum(p.numel() for p in model.parameters())
    assert num_parameters(cell, Sizes(7, 12, 0)) == expected


@pytest.mark.parametrize("name", each_once())
def test_more_data_never_take_less(name):
    cell = cell_for(name)
    sizes = (1000, 2000, 30_000)
    before = to_run(cell, Sizes(*sizes))
    for i in range(3):
        more = [10 * size if i == k else size for k, size in enumerate(sizes)]
        after = to_run(cell, Sizes(*more))
        assert after.train >= before.train
        assert after.rank >= before.rank


def test_neighbours_count_and_not_all_pairs_where_k_is_given():
    sizes = Sizes(108_822, 178_181, 3_145_223)
    some, all_pairs = (
        to_run(Cell("item_knn", model={"k": k}), sizes).train for k in (100, None)
    )
    assert some < 4 << 30 < all_pairs


def test_estimates_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    for name in each_once():
        to_run(cell_for(name), Sizes(10, 10, 10))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_only_arranges_takes_nothing():
    sizes = Sizes(10, 10_000, 100)
    assert to_run(Cell("history_mean", base=Cell("ease")), sizes).train == 0
    assert to_run(Cell("popularity"), sizes).train == 0


def test_tables_count_with_all_their_copies():
    small, large = (
        to_run(Cell("mf", model={"embedding_dim": dim}), Sizes(10**6, 10**6, 0)).train
        for dim in (32, 64)
    )
    assert large - small > COPIES * 4 * 32 * 2 * 10**6


def test_an_average_of_the_weights_is_two_more_copies():
    plain, averaged = (
        to_run(Cell("mf", fit=fit), Sizes(10**6, 10**6, 0)).train
        for fit in ({}, {"ema_decay": 0.9})
    )
    assert averaged - plain == 2 * 4 * num_parameters(
        Cell("mf"), Sizes(10**6, 10**6, 0)
    )


def test_reading_takes_more_than_the_files_and_is_unknown_without_them(
    tmp_path, monkeypatch
):
    save_interactions(SyntheticInteractions(100, 120, 2500)[0], tmp_path / "folder")
    size = sum(path.stat().st_size for path in (tmp_path / "folder").iterdir())
    assert to_load(Source(str(tmp_path / "folder"))) > size
    assert to_load(Source()) > 0
    monkeypatch.chdir(tmp_path)
    assert to_load(Source("yelp")) is None


def test_what_is_too_large_is_refused_with_what_to_lower(monkeypatch, caplog):
    monkeypatch.setattr(memory, "free_memory", lambda _: 1 << 30)
    sizes = Sizes(10**6, 10**6, 10**7)
    with pytest.raises(MemoryError) as error, guard_memory(cell_for("lightgcn"), sizes):
        raise AssertionError("begun")
    assert "lightgcn on 1000000 users and 1000000 items needs about " in str(
        error.value
    )
    assert "1.0 GiB are free: lower 'batch_size' or 'embedding_dim'" in str(error.value)
    with guard_memory(cell_for("lightgcn"), Sizes(100, 100, 1000)):
        pass
    assert caplog.text == ""


def test_what_may_not_fit_is_tried_with_a_warning(monkeypatch, caplog):
    sizes = Sizes(1000, 1000, 10_000)
    needed = to_run(cell_for("mf"), sizes).train
    monkeypatch.setattr(memory, "free_memory", lambda _: needed - 1)
    with guard_memory(cell_for("mf"), sizes):
        pass
    assert "lower 'batch_size' or 'embedding_dim'" in caplog.text
    assert "num_layers" not in caplog.text  # MF has none


def test_what_runs_on_the_cpu_is_measured_against_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda d: 1 << 30 if d is None else 1)
    with guard_memory(Cell("ease"), Sizes(1000, 1000, 1000), "cuda"):
        pass
    with (
        pytest.raises(MemoryError),
        guard_memory(cell_for("mf"), Sizes(1000, 1000, 1000), "cuda"),
    ):
        raise AssertionError("begun")


def test_what_is_refused_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "free_memory", lambda _: 1)
    runner = Runner(random_data(50, 40, 500), tmp_path, progress=False)
    with pytest.raises(MemoryError, match="it holds all pairs of items"):
        runner.run(Cell("ease"))
    assert list(tmp_path.iterdir()) == []


def test_torchs_words_become_an_argument_to_lower():
    cell = cell_for("multivae")
    with (
        pytest.raises(MemoryError, match="multivae ran out of memory: lower 'batch_"),
        guard_memory(cell, SIZES),
    ):
        torch.empty(1 << 60)
    with (
        pytest.raises(RuntimeError, match="memory location"),
        guard_memory(cell, SIZES),
    ):
        torch.zeros(1).expand(3).add_(1)  # other words with "memory" in them


@pytest.mark.parametrize(
    ("count", "text"), [(0, "1 MiB"), (3 << 20, "3 MiB"), (3 << 29, "1.5 GiB")]
)
def test_bytes_are_written_for_people(count, text):
    assert gibibytes(count) == text
