import copy
import itertools
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ddrm_pyg import (
    DDRM,
    MF,
    DDRMRecommender,
    Embeddings,
    InteractionGraph,
    LightGCN,
    evaluate,
    fit,
    training,
)
from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.loader import triplet_batches
from ddrm_pyg.nn.models import EASE, ItemKNN, Popularity, SASRec, TDiffRec
from ddrm_pyg.testing import checkerboard
from ddrm_pyg.training import FitResult, check_fit_settings, own_randomness

EDGE = ("user", "interacts", "item")
USERS, ITEMS = 120, 100
METRIC = "recall@20"


@pytest.fixture(scope="module")
def planted():
    return SyntheticInteractions(USERS, ITEMS, 2900, num_topics=4, seed=3)[0]


@pytest.fixture
def data(planted):
    return planted.clone()


def make_mf():
    torch.manual_seed(0)
    return MF(USERS, ITEMS, 16)


def make_lightgcn():
    torch.manual_seed(0)
    return LightGCN(USERS, ITEMS, 16, num_layers=2)


def make_ddrm():
    torch.manual_seed(0)
    emb = Embeddings(torch.randn(USERS, 8), torch.randn(ITEMS, 8))
    return DDRMRecommender(DDRM(8, (16,), num_train_timesteps=4), emb)


class Mine(nn.Module):
    """A user's own model: torch's dropout draws from the global generator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(USERS, 8)
        self.item = nn.Embedding(ITEMS, 8)
        self.dropout = nn.Dropout(0.3)

    def batches(self, graph, *, batch_size, generator):
        return triplet_batches(graph, batch_size=batch_size, generator=generator)

    def losses(self, batch, graph, *, generator):
        user = self.dropout(self.user(batch.user))
        difference = self.item(batch.neg_item) - self.item(batch.pos_item)
        yield nn.functional.softplus((user * difference).sum(-1))

    def scorer(self, graph):
        user = self.dropout(self.user.weight)  # nothing in evaluation mode
        return Embeddings(user.detach(), self.item.weight.detach())


MAKERS = [make_mf, make_lightgcn, make_ddrm, Mine]
every_model = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def without_seconds(result):
    history = [
        {name: value for name, value in record.items() if name != "seconds"}
        for record in result.history
    ]
    return vars(result) | {"history": history, "resumed_from": None}


def assert_same_run(model, result, other_model, other_result):
    assert without_seconds(result) == without_seconds(other_result)
    state, other = model.state_dict(), other_model.state_dict()
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert torch.equal(value, other[name]), name


# ------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize("model", [Popularity(), ItemKNN(), EASE()], ids=repr)
def test_closed_form_models_are_refused_by_name(data, model):
    name = type(model).__name__
    with pytest.raises(TypeError, match=rf"{name} is solved in closed form"):
        fit(model, data)


def test_what_is_no_recommender_is_refused_by_name(data):
    with pytest.raises(TypeError, match=r"'batches', 'losses' and 'scorer' \(got DDRM"):
        fit(DDRM(8, (16,)), data)
    plain = type("Plain", (), {"batches": 0, "losses": 0, "scorer": 0})()
    with pytest.raises(TypeError, match=r"torch\.nn\.Module with .* \(got Plain\)"):
        fit(plain, data)


def test_ddrm_alone_is_told_what_to_put_around_it(data):
    with pytest.raises(TypeError, match=r"got DDRM; DDRMRecommender\(ddrm, emb"):
        fit(DDRM(4), data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("eval_every", 0),
        ("patience", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
    ],
)
def test_numbers_that_are_not_positive_are_refused(data, name, value):
    with pytest.raises(ValueError, match=rf"'{name}' must be positive \(got {value}\)"):
        fit(make_mf(), data, **{name: value})


@pytest.mark.parametrize(
    "name", ["epochs", "batch_size", "eval_every", "patience", "seed"]
)
def test_counts_that_are_not_whole_are_refused(data, name):
    with pytest.raises(ValueError, match=rf"'{name}' must be an integer \(got 1\.5\)"):
        fit(make_mf(), data, **{name: 1.5})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_of_runs_lie_below_those_of_processes(data, seed):
    with pytest.raises(ValueError, match=rf"'seed' must lie in .* \(got {seed}\)"):
        fit(make_mf(), data, seed=seed)


def test_randomness_inside_is_its_own():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with own_randomness(7):
        drawn = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(2), drawn)


def test_a_checkpoint_that_is_further_is_returned_as_it_is(data, tmp_path):
    run = {"eval_every": 1, "checkpoint": tmp_path / "c.pt", "progress": False}
    straight = fit(make_mf(), data, epochs=3, **run)
    assert fit(make_mf(), data, epochs=1, **run) == straight


def test_weight_decay_may_be_zero_but_not_less(data):
    message = r"'weight_decay' must be >= 0 \(got -1\)"
    with pytest.raises(ValueError, match=message):
        fit(make_mf(), data, weight_decay=-1)
    check_fit_settings(weight_decay=0, lr=1, epochs=1, metric="ndcg@5")


@pytest.mark.parametrize("metric", ["recall", "recall@0", "coverage@20", "ndcg@ten"])
def test_unknown_metrics_are_refused(data, metric):
    message = rf"'metric' must be recall@K or ndcg@K \(got '{metric}'\)"
    with pytest.raises(ValueError, match=message):
        fit(make_mf(), data, metric=metric)


def test_data_without_train_interactions_are_refused(data):
    data[EDGE].edge_index = data[EDGE].edge_index[:, :0]
    with pytest.raises(ValueError, match=r"must have train interactions \(got 0\)"):
        fit(make_mf(), data)


def test_a_refused_call_leaves_nothing_behind(data, tmp_path):
    files = {"checkpoint": tmp_path / "run.pt", "log": tmp_path / "log.jsonl"}
    with pytest.raises(ValueError, match="metric"):
        fit(make_mf(), data, metric="auc", **files)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------- what it learns


@pytest.mark.parametrize("backend", [MF, LightGCN])
def test_models_learn_the_known_answer_that_popularity_cannot(backend):
    data = checkerboard(40, 40)
    graph = InteractionGraph.from_data(data)
    run = {"batch_size": 128, "metric": "recall@2", "progress": False}
    torch.manual_seed(0)
    model = backend(40, 40, 8)
    result = fit(model, data, epochs=20, lr=0.05, **run)
    plugged = DDRMRecommender(
        DDRM(8, (16,), num_train_timesteps=4), model.scorer(graph)
    )
    fit(plugged, data, epochs=20, lr=0.01, **run)
    popularity, learnt, denoised = (
        evaluate(m.scorer(graph), data, k=(1,))["recall@1"]
        for m in (Popularity(), model, plugged)
    )
    assert popularity < 0.2
    assert learnt == denoised == 1
    assert result.history[0]["loss"] > 2 * result.history[-1]["loss"]


def test_lightgcn_beats_popularity_and_ddrm_learns_on_planted_clicks():
    data = SyntheticInteractions(300, 250, 9000, num_topics=4, seed=3)[0]
    graph = InteractionGraph.from_data(data)
    floor = evaluate(Popularity().scorer(graph), data)["ndcg@20"]
    run = {"batch_size": 512, "metric": "ndcg@20", "progress": False}
    torch.manual_seed(0)
    backend = LightGCN(300, 250, 16)
    fit(backend, data, epochs=25, lr=0.02, **run)
    emb = backend.scorer(graph)
    assert evaluate(emb, data)["ndcg@20"] > 1.1 * floor
    model = DDRMRecommender(DDRM(16, (64,), num_train_timesteps=5), emb)
    untrained = evaluate(model.scorer(graph), data)["ndcg@20"]
    fit(model, data, epochs=30, **run)
    assert evaluate(model.scorer(graph), data)["ndcg@20"] > 1.5 * untrained
    for table, frozen in zip(model.embeddings, emb, strict=True):
        assert torch.equal(table, frozen)


def test_the_best_value_is_what_the_returned_weights_measure(data):
    model = make_lightgcn()
    result = fit(model, data, epochs=20, batch_size=256, lr=0.05, eval_every=3)
    metrics = evaluate(
        model.scorer(InteractionGraph.from_data(data)), data, split="val"
    )
    assert not model.training
    assert metrics[METRIC] == result.best_value
    assert result.best_value == result.history[result.best_epoch - 1][METRIC]
    assert result.best_value == max(r.get(METRIC, 0) for r in result.history)
    measured = [r["epoch"] for r in result.history if METRIC in r]
    assert measured == [3, 6, 9, 12, 15, 18, 20]


def test_the_train_pairs_are_sorted_once(data, monkeypatch):
    graphs = []

    def seen(scorer, data, **arguments):
        graphs.append(arguments["exclude"])
        return evaluate(scorer, data, **arguments)

    monkeypatch.setattr(training, "evaluate", seen)
    result = fit(make_mf(), data, epochs=4, batch_size=256, eval_every=1)
    assert len(graphs) == 4
    assert all(graph is graphs[0] for graph in graphs)
    assert torch.equal(graphs[0].edge_index, data[EDGE].edge_index)
    monkeypatch.undo()
    assert without_seconds(result) == without_seconds(
        fit(make_mf(), data, epochs=4, batch_size=256, eval_every=1)
    )


# ----------------------------------------------------------- randomness has an owner


@every_model
def test_same_seed_same_bits_other_seed_other_bits(data, make):
    runs = []
    for seed in (1, 1, 2):
        model = make()
        torch.manual_seed(len(runs))  # the caller's generator plays no part
        runs.append((model, fit(model, data, epochs=3, batch_size=256, seed=seed)))
    assert_same_run(*runs[0], *runs[1])
    losses = [[r["loss"] for r in result.history] for _, result in runs]
    assert losses[0] != losses[2]


@every_model
def test_test_pairs_are_never_read(data, make):
    blind = data.clone()
    del blind[EDGE].test_edge_label_index
    runs = []
    for one in (data, blind):
        model = make()
        runs.append((model, fit(model, one, epochs=4, batch_size=256, eval_every=2)))
    assert_same_run(*runs[0], *runs[1])


@every_model
def test_the_global_generator_is_left_as_it_was(data, make):
    model = make()
    before = torch.get_rng_state()
    fit(model, data, epochs=2, batch_size=256)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_data_is_left_as_it_was(data, planted):
    fit(make_lightgcn(), data, epochs=2, batch_size=256)
    assert data.to_dict().keys() == planted.to_dict().keys()
    for name, value in planted[EDGE].items():
        assert torch.equal(data[EDGE][name], value), name


# ------------------------------------------------------------- interrupt and resume

RUN = {"epochs": 7, "batch_size": 256, "eval_every": 2, "seed": 5, "progress": False}


def interrupt(model, batch):
    """Make a model raise KeyboardInterrupt in the middle of a batch."""
    losses, count = model.losses, iter(range(10_000))

    def interrupted(*args, **kwargs):
        for loss in losses(*args, **kwargs):
            if next(count) == batch:
                raise KeyboardInterrupt
            yield loss

    model.losses = interrupted
    return model


@every_model
def test_an_interrupted_run_resumes_to_the_same_bits(data, make, tmp_path):
    straight = make()
    expected = fit(straight, data, **RUN)
    per_epoch = -(-data[EDGE].edge_index.size(1) // 256)
    checkpoint = tmp_path / "run.pt"
    for batch in (5 * per_epoch + 2, 2 * per_epoch):  # epochs 1-5, then 5-6
        with pytest.raises(KeyboardInterrupt):
            fit(interrupt(make(), batch), data, checkpoint=checkpoint, **RUN)
    resumed = make()
    with torch.no_grad():  # only the checkpoint counts, not the initial weights
        next(resumed.parameters()).zero_()
    torch.manual_seed(99)
    result = fit(resumed, data, checkpoint=checkpoint, **RUN)
    assert_same_run(straight, expected, resumed, result)
    graph = InteractionGraph.from_data(data)
    metrics = [dict(evaluate(m.scorer(graph), data)) for m in (straight, resumed)]
    assert metrics[0] == metrics[1]


# One child imports torch once; the runs are processes that it forks, one after another.
CHILD = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("of_tests", sys.argv[1])
    of_tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_tests)
    getattr(of_tests, sys.argv[2])(*sys.argv[3:])
"""


IN_A_CHILD = [sys.executable, "-c", textwrap.dedent(CHILD), __file__]


def fork_runs(threads, folder, *makers):
    """Train each model in a process that is killed, and in another that resumes."""
    torch.set_num_threads(int(threads))
    for maker in makers:
        for kill_at in (KILL_AT, None):
            process = os.fork()
            if process == 0:
                train_and_die(globals()[maker](), Path(folder, maker), kill_at)
            _, status = os.waitpid(process, 0)
            done = sorted(path.name for path in Path(folder, maker).iterdir())
            print(json.dumps([maker, os.waitstatus_to_exitcode(status), done]))


KILL_AT = 35  # batches: 8 an epoch, so in the middle of the fifth


def train_and_die(model, folder, kill_at):
    try:
        data = SyntheticInteractions(USERS, ITEMS, 2900, num_topics=4, seed=3)[0]
        files = {"checkpoint": folder / "run.pt", "log": folder / "log.jsonl"}
        losses, count = model.losses, iter(range(10_000))

        def killed(*args, **kwargs):
            for loss in losses(*args, **kwargs):
                if next(count) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield loss

        model.losses = killed
        result = fit(model, data, **RUN, **files)
        emb = model.scorer(InteractionGraph.from_data(data))
        torch.save(
            {
                "state": model.state_dict(),
                "result": without_seconds(result),
                "metrics": dict(evaluate(emb, data)),
                "batches": next(count),
            },
            folder / "out.pt",
        )
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and kills, processes")
def test_a_killed_process_resumes_in_another_to_the_same_bits(data, tmp_path):
    makers = {make.__name__: make for make in (make_mf, make_ddrm)}
    threads = str(torch.get_num_threads())
    arguments = [str(tmp_path), *makers]
    child = subprocess.run(
        [*IN_A_CHILD, "fork_runs", threads, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": threads},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    left = [json.loads(line) for line in child.stdout.splitlines()]
    files = ["log.jsonl", "run.pt"]
    assert left == [
        line
        for name in makers
        for line in (
            [name, -signal.SIGKILL, files],
            [name, 0, [files[0], "out.pt", files[1]]],
        )
    ]
    for name, make in makers.items():
        straight = make()
        expected = fit(straight, data, **RUN)
        out = torch.load(tmp_path / name / "out.pt", weights_only=True)
        assert out["batches"] == 3 * 8  # epochs 5 to 7 only: the kill came in epoch 5
        assert out["result"] == without_seconds(expected)
        for key, value in straight.state_dict().items():
            assert torch.equal(out["state"][key], value), key
        graph = InteractionGraph.from_data(data)
        assert out["metrics"] == dict(evaluate(straight.scorer(graph), data))


def test_an_interrupted_average_resumes_to_the_same_bits(data, tmp_path):
    run = RUN | {"ema_decay": 0.95, "checkpoint": tmp_path / "run.pt"}
    straight = make_mf()
    expected = fit(straight, data, **RUN, ema_decay=0.95)
    assert any(record.get("averaged") for record in expected.history)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupt(make_mf(), 45), data, **run)
    resumed = make_mf()
    assert_same_run(straight, expected, resumed, fit(resumed, data, **run))
    torch.save(
        torch.load(run["checkpoint"], weights_only=True) | {"average": {"mean": []}},
        run["checkpoint"],
    )
    with pytest.raises(
        ValueError, match=r"run\.pt: not a readable .*delete it, and tr"
    ):
        fit(make_mf(), data, **run | {"epochs": 9})


def test_the_average_changes_nothing_that_is_trained(data, tmp_path):
    states = []
    for more in ({}, {"ema_decay": 0.9}):
        path = tmp_path / f"{len(more)}.pt"
        fit(make_mf(), data, **RUN, checkpoint=path, **more)
        states.append(torch.load(path, weights_only=True))
    one, other = (state["model"] for state in states)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_more_epochs_continue_a_finished_run(data, tmp_path):
    run = RUN | {"epochs": 8}
    straight = make_mf()
    expected = fit(straight, data, **run)
    checkpoint = tmp_path / "run.pt"
    fit(make_mf(), data, checkpoint=checkpoint, **run | {"epochs": 4})
    resumed = make_mf()
    result = fit(resumed, data, checkpoint=checkpoint, **run)
    assert_same_run(straight, expected, resumed, result)


def test_a_finished_run_is_read_not_trained_again(data, tmp_path):
    checkpoint = tmp_path / "run.pt"
    model = make_mf()
    expected = fit(model, data, checkpoint=checkpoint, **RUN)
    again = make_mf()
    result = fit(interrupt(again, 0), data, checkpoint=checkpoint, **RUN)
    assert_same_run(model, expected, again, result)


# -------------------------------------------------------------------------- precision


@every_model
def test_bf16_reaches_the_losses_and_nothing_else(data, make):
    model, seen = make(), []
    losses, scorer = model.losses, model.scorer

    def recorded_losses(*args, **kwargs):
        for loss in losses(*args, **kwargs):
            seen.append(("losses", torch.is_autocast_enabled("cpu")))
            yield loss
            seen.append(("losses", torch.is_autocast_enabled("cpu")))

    def recorded_scorer(graph):
        seen.append(("scorer", torch.is_autocast_enabled("cpu")))
        return scorer(graph)

    model.losses, model.scorer = recorded_losses, recorded_scorer
    run = {"epochs": 1, "batch_size": 512, "precision": "bf16", "progress": False}
    handle = register_optimizer_step_pre_hook(
        lambda *_: seen.append(("step", torch.is_autocast_enabled("cpu")))
    )
    fit(model, data, **run)
    handle.remove()
    assert set(seen) == {("losses", True), ("step", False), ("scorer", False)}
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_bf16_moves_the_losses_a_little_and_resumes_to_the_same_bits(data, tmp_path):
    full = fit(make_ddrm(), data, **RUN)
    straight = make_ddrm()
    half = fit(straight, data, precision="bf16", **RUN)
    losses = [[r["loss"] for r in result.history] for result in (full, half)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    checkpoint = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(
            interrupt(make_ddrm(), 5 * 8 + 2),
            data,
            checkpoint=checkpoint,
            precision="bf16",
            **RUN,
        )
    with pytest.raises(ValueError, match="'precision' was bf16 and is float32"):
        fit(make_ddrm(), data, checkpoint=checkpoint, **RUN)
    resumed = make_ddrm()
    result = fit(resumed, data, checkpoint=checkpoint, precision="bf16", **RUN)
    assert_same_run(straight, half, resumed, result)


@pytest.mark.parametrize("precision", ["fp16", "bfloat16", None])
def test_other_precisions_are_refused(data, precision):
    message = rf"'precision' must be 'float32' or 'bf16' \(got {precision!r}\)"
    with pytest.raises(ValueError, match=message):
        fit(make_mf(), data, precision=precision)


# ------------------------------------------------------------------ several processes

TOGETHER = {"epochs": 3, "batch_size": 201, "eval_every": 1, "progress": False}


def fork_together(folder):
    torch.set_num_threads(1)
    children = []
    for rank in (0, 1):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                train_together(rank, Path(folder))
                os._exit(0)
            finally:
                os._exit(1)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.exit(any(codes))


def train_together(rank, folder):
    """Train as one of two processes: two models, and one of them in two runs."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    data = SyntheticInteractions(USERS, ITEMS, 2900, num_topics=4, seed=3)[0]
    out = {}
    for make in (make_mf, make_ddrm):
        model, noise = make(), []
        if rank == 1:
            with torch.no_grad():  # the weights of rank 0 count
                next(model.parameters()).zero_()
        losses = model.losses

        def recorded(*args, generator, losses=losses, noise=noise):
            noise.append(generator.initial_seed())
            return losses(*args, generator=generator)

        model.losses = recorded
        result = fit(model, data, **TOGETHER)
        out[make.__name__] = {
            "state": model.state_dict(),
            "result": without_seconds(result),
            "noise": noise[0],
        }
    own = {"checkpoint": folder / f"{rank}.pt"}
    fit(make_ddrm(), data, **TOGETHER | {"epochs": 2}, **own)
    model = make_ddrm()
    result = fit(model, data, **TOGETHER, **own)
    out["resumed"] = {"state": model.state_dict(), "result": without_seconds(result)}
    if rank == 1:
        own = {"checkpoint": folder / "none.pt"}
    try:
        fit(make_ddrm(), data, **TOGETHER, **own)
    except ValueError as error:
        out["refused"] = str(error)
    torch.save(out, folder / f"out{rank}.pt")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_two_processes_train_as_one(data, tmp_path):
    subprocess.run(
        [*IN_A_CHILD, "fork_together", str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
        check=True,
    )
    left, right = (
        torch.load(tmp_path / f"out{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    for name in ("make_mf", "make_ddrm", "resumed"):
        assert left[name]["result"] == right[name]["result"]
        for key, value in left[name]["state"].items():
            assert torch.equal(value, right[name]["state"][key]), key
    assert left["make_ddrm"]["noise"] != right["make_ddrm"]["noise"]
    for key, value in left["make_ddrm"]["state"].items():
        assert torch.equal(value, left["resumed"]["state"][key]), key
    assert left["refused"] == right["refused"]
    assert left["refused"].endswith("all processes (got 0 and 3)")
    # a model without noise of its own: one process finds the same weights
    alone = make_mf()
    result = fit(alone, data, **TOGETHER)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(
            left["make_mf"]["state"][key], value, rtol=1e-3, atol=1e-4
        )
    losses = [r["loss"] for r in result.history]
    together = [r["loss"] for r in left["make_mf"]["result"]["history"]]
    assert together == pytest.approx(losses, rel=1e-4)


# ----------------------------------------------------------------- checkpoint and log


@pytest.fixture
def checkpoint(data, tmp_path):
    path = tmp_path / "run.pt"
    fit(make_mf(), data, epochs=2, batch_size=256, checkpoint=path, progress=False)
    return path


def test_a_checkpoint_needs_no_pickle_and_no_temporary_file_stays(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 2
    assert [path.name for path in checkpoint.parent.iterdir()] == ["run.pt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, r"another run: 'lr' was 0\.001 and is 0\.5"),
        ({"seed": 7}, "another run: 'seed' was 0 and is 7"),
        ({"batch_size": 64}, "another run: 'batch_size' was 256 and is 64"),
        ({"metric": "ndcg@10"}, "'metric' was recall@20 and is ndcg@10"),
        ({"weight_decay": 0.1}, r"'weight_decay' was 0\.0 and is 0\.1"),
        ({"eval_every": 1}, "'eval_every' was 5 and is 1"),
        ({"patience": 1}, "'patience' was 10 and is 1"),
        ({"ema_decay": 0.9}, r"'ema_decay' was None and is 0\.9"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(data, checkpoint, change, message):
    before = checkpoint.read_bytes()
    arguments = {"epochs": 3, "batch_size": 256, "checkpoint": checkpoint} | change
    with pytest.raises(ValueError, match=message):
        fit(make_mf(), data, **arguments)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(data, checkpoint):
    run = {"batch_size": 256, "checkpoint": checkpoint}
    with pytest.raises(ValueError, match="'model' was MF and is LightGCN"):
        fit(make_lightgcn(), data, **run)
    with pytest.raises(ValueError, match=r"'parameters' was .*16.* and is .*32"):
        fit(MF(USERS, ITEMS, 32), data, **run)
    with pytest.raises(ValueError, match=r"'model\.l2' was 0\.0001 and is 0\.5"):
        fit(MF(USERS, ITEMS, 16, l2=0.5), data, **run)


def test_a_checkpoint_of_other_parts_is_refused(data, tmp_path):
    run = {"epochs": 1, "batch_size": 256, "checkpoint": tmp_path / "run.pt"}
    model = make_ddrm()
    fit(model, data, **run)
    for change, message in (
        ({"gamma": 0.5}, r"'model\.ddrm\.gamma' was 0\.0 and is 0\.5"),
        ({"activation": "tanh"}, "was ReLU and is Tanh"),
    ):
        ddrm = DDRM(8, (16,), num_train_timesteps=4, **change)
        with pytest.raises(ValueError, match=message):
            fit(DDRMRecommender(ddrm, model.embeddings), data, **run)


@pytest.mark.parametrize(
    ("split", "what"),
    [
        ("edge_index", "train interactions"),
        ("val_edge_label_index", "validation pairs"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(data, checkpoint, split, what):
    data[EDGE][split] = data[EDGE][split][:, 1:]
    with pytest.raises(ValueError, match=f"another run: '{what}' was"):
        fit(make_mf(), data, batch_size=256, checkpoint=checkpoint)


def test_a_checkpoint_of_other_frozen_embeddings_is_refused(data, tmp_path):
    run = {"epochs": 2, "batch_size": 256, "checkpoint": tmp_path / "run.pt"}
    model = make_ddrm()
    fit(model, data, **run)
    other = DDRMRecommender(model.ddrm, (model.user_emb + 1, model.item_emb))
    with pytest.raises(ValueError, match="another run: 'frozen tensors' was"):
        fit(other, data, **run)


def test_frozen_tensors_of_any_type_can_be_told_apart(data, tmp_path):
    run = {"epochs": 1, "batch_size": 256, "checkpoint": tmp_path / "run.pt"}

    def make(last):
        model = make_mf()
        for name, value in (
            ("brief", torch.ones(3, dtype=torch.bfloat16)),
            ("scalar", torch.tensor(last)),
            ("sparse", torch.eye(3).to_sparse()),
        ):
            model.register_buffer(name, value, persistent=False)
        return model

    fit(make(True), data, **run)
    fit(make(True), data, **run)
    with pytest.raises(ValueError, match="'frozen tensors' was"):
        fit(make(False), data, **run)


def test_a_checkpoint_is_accepted_without_its_test_pairs(data, checkpoint):
    del data[EDGE].test_edge_label_index
    result = fit(make_mf(), data, epochs=3, batch_size=256, checkpoint=checkpoint)
    assert [record["epoch"] for record in result.history] == [1, 2, 3]


def test_an_unreadable_checkpoint_is_refused_and_kept(data, checkpoint):
    whole = checkpoint.read_bytes()
    pickled = pickle.dumps({"settings": {}, "model": nn.Linear(1, 1)}, protocol=2)
    for content in (whole[: len(whole) // 2], b"", pickled, b"no checkpoint"):
        checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.pt: not a readable checkpoint"):
            fit(make_mf(), data, batch_size=256, checkpoint=checkpoint)
        assert checkpoint.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.clear(),
        lambda state: state.pop("epoch"),
        lambda state: state.update(epoch=None),
        lambda state: state.update(epoch=7),
        lambda state: state.update(model={}),
        lambda state: state.update(best={"user_table": torch.ones(1)}),
        lambda state: state.update(optimizer={}),
        lambda state: state["result"].update(history=None),
        lambda state: state.update(result={"a": 1}),
        lambda state: state.update(generators={}),
        lambda state: state.update(settings=None),
        lambda state: state.update(global_generator=torch.ones(2)),
    ],
)
def test_a_damaged_checkpoint_is_named_and_changes_no_model(data, checkpoint, damage):
    state = torch.load(checkpoint, weights_only=True)
    damage(state)
    torch.save(state, checkpoint)
    model = make_mf()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=r"run\.pt: not a readable .*delete it, and tr"
    ):
        fit(model, data, batch_size=256, checkpoint=checkpoint)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_pickle_in_a_checkpoint_is_not_run(data, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"settings": Trap()}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        fit(make_mf(), data, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "trapped").exists()


def test_the_log_has_one_record_per_epoch_and_survives_a_resume(data, tmp_path):
    files = {"checkpoint": tmp_path / "run.pt", "log": tmp_path / "log.jsonl"}
    per_epoch = -(-data[EDGE].edge_index.size(1) // 256)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupt(make_mf(), 3 * per_epoch), data, **RUN, **files)
    # three epochs done, two of them in the checkpoint
    assert len(files["log"].read_text().splitlines()) == 3
    result = fit(make_mf(), data, **RUN, **files)
    records = [json.loads(line) for line in files["log"].read_text().splitlines()]
    assert records == result.history
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6, 7]
    assert all({"loss", "seconds"} <= record.keys() for record in records)
    measured = [r["epoch"] for r in records if {METRIC, "ndcg@10"} <= r.keys()]
    assert measured == [2, 4, 6, 7]


# ---------------------------------------------------------------------- selection


class Staged(nn.Module):
    """Its one weight grows by lr each epoch and says which list is shown.

    Recall@1 of epoch e is ``quality[e - 1]`` of the users, so the best is known.
    """

    def __init__(self, quality):
        super().__init__()
        self.quality = quality
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def batches(self, graph, *, batch_size, generator):
        yield torch.arange(4)

    def losses(self, batch, graph, *, generator):
        self.epoch += 1
        yield -self.weight.expand(len(batch))

    def scorer(self, graph):
        good = self.quality[int(self.epoch) - 1] if self.epoch > 0 else 0
        user = torch.arange(graph.num_users)
        held_out = (user + 1) % graph.num_items
        shown = torch.where(user < good, held_out, (user + 2) % graph.num_items)
        eye = torch.eye(graph.num_items)
        return Embeddings(eye[shown], eye)


@pytest.fixture
def ring():
    """User u has item u, and holds out item u + 1."""
    data = SyntheticInteractions(10, 80, 200)[0]
    data["user"].num_nodes = data["item"].num_nodes = 10
    user = torch.arange(10)
    data[EDGE].edge_index = torch.stack([user, user])
    data[EDGE].val_edge_label_index = torch.stack([user, (user + 1) % 10])
    return data


def test_early_stopping_restores_the_best_epoch(ring):
    model = Staged([2, 5, 4, 7, 6, 7, 3, 9, 9, 9])
    result = fit(
        model, ring, epochs=10, eval_every=1, patience=3, metric="recall@1", lr=0.1
    )
    # 7 at epoch 4, no *new* best at 5, 6 and 7; 9 would have come at 8
    assert (result.best_epoch, result.best_value) == (4, pytest.approx(0.7))
    assert result.stopped_early
    assert len(result.history) == 7
    assert int(model.epoch) == 4
    assert model.weight.item() == pytest.approx(0.4)


def test_a_new_best_renews_the_patience_and_the_last_epoch_is_validated(ring):
    model = Staged([5, 4, 3, 6, 1, 1, 8])
    result = fit(
        model, ring, epochs=7, eval_every=2, patience=2, metric="recall@1", lr=0.1
    )
    # validated: 2 (4), 4 (6), 6 (1), 7 (8)
    assert [r["recall@1"] for r in result.history if "recall@1" in r] == [
        pytest.approx(n / 10) for n in (4, 6, 1, 8)
    ]
    assert (result.best_epoch, result.stopped_early) == (7, False)
    assert int(model.epoch) == 7


class Walked(Staged):
    """Adam moves the weight by ``lr`` a step, which is ``quality[epoch - 1]`` good.

    Recall@1 is that of the users nearest to what the weight should be, ``aim``.
    """

    def __init__(self, aim):
        super().__init__([])
        self.aim = aim

    def scorer(self, graph):
        off = abs(self.weight.item() - self.aim)
        self.quality = [max(round(10 - 40 * off), 0)] * max(int(self.epoch), 1)
        return super().scorer(graph)


@pytest.mark.parametrize(
    ("decay", "average"),
    [
        (0.0, 0.4),  # the weights themselves
        (0.2, 0.3752),  # .1, .2 * .1 + .8 * .2 = .18, .276, .3752
        # at most 3/12, 4/13 and 5/14: .1, .175, .2615..., .3505...
        (0.99, 0.4 - (0.4 - (0.3 - (0.3 - 0.175) * 4 / 13)) * 5 / 14),
    ],
)
def test_the_average_is_the_known_one_and_kept_where_it_is_better(ring, decay, average):
    run = {"epochs": 4, "eval_every": 4, "metric": "recall@1", "lr": 0.1}
    near, far = Walked(0.3), Walked(0.6)  # from below, and ahead of the last weight
    result = fit(near, ring, ema_decay=decay, **run)
    assert near.weight.item() == pytest.approx(average, abs=1e-6)
    assert result.history[-1]["averaged"] == (decay > 0)
    fit(far, ring, ema_decay=decay, **run)
    assert far.weight.item() == pytest.approx(0.4, abs=1e-6)


def test_without_validation_nothing_picks_the_average(ring):
    del ring[EDGE].val_edge_label_index
    model = Walked(0.3)
    fit(model, ring, epochs=4, lr=0.1, ema_decay=0.9)
    assert model.weight.item() == pytest.approx(0.4)


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, float("nan"), True, "0.9"])
def test_decays_outside_their_range_are_refused(ring, decay):
    with pytest.raises(ValueError, match=r"'ema_decay' must .*\(got"):
        fit(Walked(0.1), ring, ema_decay=decay)


def test_a_resumed_run_keeps_count_of_its_patience(ring, tmp_path):
    quality = [2, 9, 4, 7, 6, 7, 3]
    run = {"eval_every": 1, "patience": 3, "metric": "recall@1", "lr": 0.1}
    run["checkpoint"] = tmp_path / "run.pt"
    fit(Staged(quality), ring, epochs=4, **run)
    model = Staged(quality)
    result = fit(model, ring, epochs=7, **run)
    assert result.stopped_early
    assert len(result.history) == 5
    assert (result.best_epoch, int(model.epoch)) == (2, 2)


def test_without_validation_all_epochs_are_trained_and_that_is_said(ring, caplog):
    del ring[EDGE].val_edge_label_index
    model = Staged([])
    with caplog.at_level(logging.WARNING, logger="ddrm_pyg"):
        result = fit(model, ring, epochs=6, eval_every=1, patience=1, lr=0.1)
    assert caplog.messages == [
        "without validation pairs: all 6 epochs are trained, the last one is kept"
    ]
    assert (result.best_epoch, result.best_value) == (6, None)
    assert not result.stopped_early
    assert model.weight.item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.9, []),
        (2.0, ["Staged: 5 more epochs at most, about 10 s of training"]),
        (90.0, ["Staged: 5 more epochs at most, about 8 min of training"]),
    ],
)
def test_a_long_training_says_after_an_epoch_what_is_left(
    ring, caplog, monkeypatch, seconds, said
):
    clock = itertools.count()
    monkeypatch.setattr(
        "ddrm_pyg.training.time.perf_counter", lambda: seconds * next(clock)
    )
    with caplog.at_level(logging.INFO, logger="ddrm_pyg"):
        fit(Staged([1] * 6), ring, epochs=6, eval_every=1)
    assert caplog.messages == said


def test_a_resumed_training_says_it_anew(ring, caplog, monkeypatch, tmp_path):
    clock = itertools.count()
    monkeypatch.setattr("ddrm_pyg.training.time.perf_counter", lambda: 9 * next(clock))
    run = {"eval_every": 1, "checkpoint": tmp_path / "c.pt"}
    fit(Staged([1] * 9), ring, epochs=3, **run)
    caplog.clear()  # a command line that ran before lets through what this says
    with caplog.at_level(logging.INFO, logger="ddrm_pyg"):
        fit(Staged([1] * 9), ring, epochs=6, **run)
    assert caplog.messages == ["Staged: 2 more epochs at most, about 18 s of training"]


# ---------------------------------------------------------------- losses and steps


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_names_the_rate(ring, tmp_path, bad):
    model = Staged([1, 1, 1])
    losses = model.losses

    def spoiled(*args, **kwargs):
        for loss in losses(*args, **kwargs):
            yield loss * (bad if model.epoch == 2 else 1)

    model.losses = spoiled
    with pytest.raises(FloatingPointError, match=r"epoch 2: lower 'lr' \(got 0\.25\)"):
        fit(
            model,
            ring,
            epochs=3,
            eval_every=1,
            lr=0.25,
            checkpoint=tmp_path / "run.pt",
        )
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert state["epoch"] == 1
    assert state["model"]["weight"].isfinite().all()


class Steps(Staged):
    """Two losses per batch, the second seeing what the first one's step did."""

    def __init__(self, rate=None):
        super().__init__([0] * 10)
        self.other = nn.Parameter(torch.zeros(1))
        self.rate = rate
        self.seen = []

    def losses(self, batch, graph, *, generator):
        self.seen.append((self.weight.item(), self.other.item()))
        yield -self.weight.expand(len(batch))
        self.seen.append((self.weight.item(), self.other.item()))
        yield -self.other.expand(len(batch))
        self.seen.append((self.weight.item(), self.other.item()))

    def __getattr__(self, name):
        if name == "parameter_groups" and self.rate is not None:
            return lambda: [
                {"params": [self.weight]},
                {"params": [self.other], "lr": self.rate},
            ]
        return super().__getattr__(name)


def test_every_loss_takes_one_optimiser_step_on_its_own_gradient(ring):
    model = Steps()
    fit(model, ring, epochs=1, lr=0.1)
    assert model.seen == [
        (0, 0),
        (pytest.approx(0.1), 0),
        (pytest.approx(0.1), pytest.approx(0.1)),
    ]


def test_parameter_groups_have_their_own_rates(ring):
    model = Steps(rate=0.02)
    fit(model, ring, epochs=1, lr=0.1)
    assert model.seen[-1] == (pytest.approx(0.1), pytest.approx(0.02))


def test_the_loss_of_an_epoch_is_the_mean_over_rows(ring):
    model = Staged([0])

    def batches(graph, *, batch_size, generator):
        yield from (torch.full((1,), 8.0), torch.full((3,), 4.0))

    def losses(batch, graph, *, generator):
        yield batch + 0 * model.weight

    model.batches, model.losses = batches, losses
    result = fit(model, ring, epochs=1)
    assert result.history[0]["loss"] == (8 + 3 * 4) / 4


def test_weight_decay_pulls_towards_zero(ring):
    model = Staged([0])
    with torch.no_grad():
        model.weight.fill_(5)
    model.losses = lambda batch, graph, *, generator: iter([0 * model.weight])
    fit(model, ring, epochs=1, lr=0.1, weight_decay=0.5)
    assert model.weight.item() == pytest.approx(4.9)


def test_nothing_is_hashed_without_a_checkpoint(data, monkeypatch, tmp_path):
    monkeypatch.setattr("ddrm_pyg.training._digest", None)
    fit(make_mf(), data, epochs=1, progress=False)
    with pytest.raises(TypeError, match="not callable"):
        fit(make_mf(), data, epochs=1, progress=False, checkpoint=tmp_path / "state.pt")


def test_callbacks_see_every_epoch_and_change_no_bit(data):
    torch.manual_seed(0)
    model, twin = (MF(data["user"].num_nodes, data["item"].num_nodes, 4) for _ in "ab")
    twin.load_state_dict(model.state_dict())
    seen = []

    def meddle(trained, record):
        assert trained is model
        seen.append(dict(record))
        record.clear()
        torch.rand(3)

    options = {"epochs": 3, "eval_every": 2, "progress": False}
    result = fit(model, data, callbacks=[meddle], **options)
    assert seen == result.history
    assert [record["epoch"] for record in seen] == [1, 2, 3]
    assert ["recall@20" in record for record in seen] == [False, True, True]
    fit(twin, data, **options)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_a_callback_that_raises_ends_the_training(data, tmp_path):
    def stop(model, record):
        raise KeyboardInterrupt

    model = MF(data["user"].num_nodes, data["item"].num_nodes, 4)
    checkpoint = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(
            model, data, epochs=5, eval_every=1, checkpoint=checkpoint, callbacks=[stop]
        )
    assert checkpoint.exists()


def test_a_result_is_shown_shortly_and_as_a_frame():
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    result = FitResult("recall@20", history, 1, 0.125, stopped_early=True)
    shown = "FitResult(best epoch 1 of 2, recall@20 0.1250, stopped early)"
    assert repr(result) == shown
    assert repr(FitResult("ndcg@10")) == "FitResult(best epoch 0 of 0)"
    assert result.to_frame()["loss"].tolist() == [0.5, 0.25]
    assert shown in result._repr_html_()


@pytest.mark.parametrize("device", ["tpuu", "meta"])
def test_a_device_that_is_not_there_is_named(data, device):
    model = MF(data["user"].num_nodes, data["item"].num_nodes, 4)
    with pytest.raises(ValueError, match=f"'device' must be usable .*got '{device}'"):
        fit(model, data, epochs=1, device=device)


@pytest.mark.parametrize("cls", [SASRec, TDiffRec])
def test_a_model_of_order_needs_one(planted, cls, caplog):
    bare = planted.clone()
    time = bare[EDGE].pop("edge_time")
    del bare[EDGE].val_edge_time, bare[EDGE].test_edge_time

    def trained(data, edge_time=None):
        torch.manual_seed(0)
        model = cls(ITEMS, edge_time=edge_time)
        fit(model, data, epochs=1, progress=False)
        return model.scorer(InteractionGraph.from_data(data)).scores(torch.arange(5))

    with pytest.raises(ValueError, match="'data' must tell the order of interactions"):
        trained(bare)
    with pytest.raises(ValueError, match=f"'edge_time' of {cls.__name__} must"):
        trained(planted)
    bare[EDGE].in_order = True
    scores = trained(bare)
    said = "no 'edge_time': the data are 'in_order', and their order is used"
    assert caplog.messages.count(said) == 1
    assert torch.equal(scores, trained(bare, torch.arange(len(time))))
