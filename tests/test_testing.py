import numpy as np
import pytest
import torch
from torch import nn

from ddrm_pyg import (
    DDRM,
    MF,
    DDRMRecommender,
    Embeddings,
    InteractionGraph,
    LightGCN,
    evaluate,
)
from ddrm_pyg.nn.models import EASE, ItemKNN, Popularity
from ddrm_pyg.testing import (
    check_backend,
    check_recommender,
    check_scorer,
    checkerboard,
)

EDGE = ("user", "interacts", "item")
USERS, ITEMS = 12, 10


@pytest.fixture
def data():
    return checkerboard(USERS, ITEMS)


@pytest.fixture
def graph(data):
    return InteractionGraph.from_data(data)


def make_ddrm(**arguments):
    torch.manual_seed(0)
    emb = (torch.randn(USERS, 8), torch.randn(ITEMS, 8))
    return DDRMRecommender(DDRM(8, (16,), num_train_timesteps=4), emb, **arguments)


# ------------------------------------------------------------------- the checkerboard


def test_the_checkerboard_is_that_of_a_small_world_written_out():
    store = checkerboard(4, 8)[EDGE]
    train = [(0, 4), (0, 6), (1, 5), (1, 7), (2, 0), (2, 6), (3, 1), (3, 7)]
    assert store.edge_index.T.tolist() == [list(pair) for pair in train]
    assert store.val_edge_label_index.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert store.test_edge_label_index.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize(("num_users", "num_items"), [(40, 40), (30, 12), (8, 50)])
def test_everyone_likes_their_own_colour_each_item_once(num_users, num_items):
    data = checkerboard(num_users, num_items)
    every = InteractionGraph.from_data(data, splits=("train", "val", "test"))
    user, item = every.edge_index
    assert ((user - item) % 2 == 0).all()
    assert len(torch.unique(every.edge_index, dim=1).T) == num_users * num_items // 2
    for split in ("val", "test"):
        held_out = InteractionGraph.from_data(data, splits=(split,))
        assert (held_out.degree("user") == 1).all()


@pytest.mark.parametrize("model", [ItemKNN(), ItemKNN(5), EASE(1.0)], ids=repr)
def test_sensible_models_know_the_answer(model):
    data = checkerboard()
    scorer = model.scorer(InteractionGraph.from_data(data))
    assert evaluate(scorer, data, k=(1,))["recall@1"] == 1
    assert evaluate(scorer, data, split="val", k=(2,))["recall@2"] == 1


def test_popularity_cannot_tell_the_answer():
    data = checkerboard()
    graph = InteractionGraph.from_data(data)
    assert graph.degree("item").unique().tolist() == [18]
    assert evaluate(Popularity().scorer(graph), data, k=(1,))["recall@1"] < 0.1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2, 8), r"'num_users' must be even and >= 4 \(got 2\)"),
        ((4, 9), r"'num_items' must be even and >= 8 \(got 9\)"),
    ],
)
def test_the_checkerboard_refuses(sizes, message):
    with pytest.raises(ValueError, match=message):
        checkerboard(*sizes)


# ------------------------------------------------------------------ what must pass


@pytest.mark.parametrize("make", [MF, LightGCN])
def test_backends_pass(data, graph, make):
    model = make(USERS, ITEMS, 8)
    check_backend(model, graph)
    check_recommender(model, data)


def test_ddrm_passes(data):
    check_recommender(make_ddrm(), data)


def test_a_weight_per_interaction_passes_where_a_user_has_none(data):
    edge_index = data[EDGE].edge_index
    data[EDGE].edge_index = edge_index[:, edge_index[0] != 3]
    weight = torch.rand(data[EDGE].edge_index.size(1))
    check_recommender(make_ddrm(history_weight=weight), data)


@pytest.mark.parametrize(
    "model", [Popularity(), ItemKNN(), ItemKNN(3), EASE(1.0)], ids=repr
)
def test_scorers_of_yardsticks_pass(graph, model):
    check_scorer(model.scorer(graph), USERS, ITEMS)


def test_embeddings_of_many_users_pass():
    check_scorer(Embeddings(torch.randn(1000, 64), torch.randn(500, 64)), 1000, 500)


def test_a_check_leaves_everything_as_it_was(data, graph):
    model = LightGCN(USERS, ITEMS, 8)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    pairs, random = data[EDGE].edge_index.clone(), torch.get_rng_state()
    check_backend(model, graph)
    check_recommender(model, data)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(data[EDGE].edge_index, pairs)
    assert torch.equal(torch.get_rng_state(), random)


# ---------------------------------------------- scorers that are broken in one way


class BrokenScorer:
    """Good scores, spoiled by a function of (table, users)."""

    def __init__(self, spoil):
        self.table = torch.randn(USERS, ITEMS)
        self.spoil = spoil
        self.calls = 0

    def scores(self, user):
        self.calls += 1
        return self.spoil(self, user)


def plus_nan(scorer, user):
    scores = scorer.table[user]
    scores[user == USERS - 1, 2] = float("nan")
    return scores


def place(user):
    return torch.arange(len(user)).view(-1, 1)


SCORERS = {
    "one item too few": (
        lambda s, user: s.table[user, :-1],
        r"shape \[12, 10\] \(got \[12, 9\]\)",
    ),
    "no batch dimension": (
        lambda s, user: s.table[user].flatten(),
        r"shape \[12, 10\] \(got \[120\]\)",
    ),
    "an array": (lambda s, user: s.table[user].numpy(), "must be a Tensor"),
    "whole numbers": (lambda s, user: s.table[user].long(), r"float \(got torch.int64"),
    "NaN": (plus_nan, r"finite \(got nan at row 11, column 2\)"),
    "noise": (
        lambda s, user: s.table[user] + torch.randn(len(user), 1),
        "equal at every call",
    ),
    "change with every call": (
        lambda s, user: s.table[user] + s.calls,
        "equal at every call",
    ),
    "its own memory": (
        lambda s, user: s.table[: len(user)],
        "must return a new tensor",
    ),
    "by place": (lambda s, user: s.table[user] + place(user), "order of the users"),
    "by batch": (
        lambda s, user: s.table[user] / len(user),
        "must not depend on the other users",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), SCORERS.values(), ids=SCORERS)
def test_a_broken_scorer_is_named(spoil, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"BrokenScorer.scores.*{message}"):
        check_scorer(BrokenScorer(spoil), USERS, ITEMS)


def test_what_is_no_scorer_is_named():
    with pytest.raises(AssertionError, match="MF must have a method 'scores'"):
        check_scorer(MF(USERS, ITEMS, 8), USERS, ITEMS)


# ------------------------------------------------ backends that are broken in one way


class Good(LightGCN):
    """Sound, so that each subclass is broken in one way only."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(USERS, ITEMS, 8, num_layers=1)


class ReturnsTuple(Good):
    def forward(self, graph):
        return tuple(super().forward(graph))


class SwapsTables(Good):
    def forward(self, graph):
        user, item = super().forward(graph)
        return Embeddings(item, user)


class Detaches(Good):
    def forward(self, graph):
        emb = super().forward(graph)
        return Embeddings(emb.user, emb.item.detach())


class Noisy(Good):
    def forward(self, graph):
        emb = super().forward(graph)
        return Embeddings(emb.user + torch.rand_like(emb.user), emb.item)


class MeanPenalty(Good):
    def penalty(self, batch, emb, *, generator):
        return super().penalty(batch, emb, generator=generator).mean()


class PenaltyOfAllRows(Good):
    def penalty(self, batch, emb, *, generator):
        return emb.user.square().sum(-1)


class HiddenScale(Good):
    """Its scale is neither parameter nor buffer."""

    def __init__(self):
        super().__init__()
        self.__dict__["hidden"] = nn.Parameter(torch.ones(()))

    def parameters(self, recurse=True):
        yield from super().parameters(recurse)
        yield self.hidden

    def forward(self, graph):
        emb = super().forward(graph)
        return Embeddings(emb.user * self.hidden, emb.item)


class DividesByDegree(Good):
    def forward(self, graph):
        emb = super().forward(graph)
        return Embeddings(emb.user / graph.degree("user").view(-1, 1), emb.item)


class TurnsTheGraph(Good):
    def forward(self, graph):
        graph.adj().values().mul_(2)
        return Embeddings(self.user_table, self.item_table)


BACKENDS = {
    ReturnsTuple: r"must return Embeddings \(got tuple\)",
    SwapsTables: r"forward\(graph\).user must have shape \[12, 8\] \(got \[10, 8\]\)",
    Detaches: r"forward\(graph\).item must have a gradient",
    Noisy: "same embeddings at every call",
    MeanPenalty: r"penalty must have one value per row, shape \[B\] \(got \[\]\)",
    PenaltyOfAllRows: r"penalty must have one value per row, 16 \(got 12\)",
    HiddenScale: "load_state_dict must bring back the embeddings",
    DividesByDegree: r"without interactions.forward\(graph\).user must be finite",
    TurnsTheGraph: "must leave the graph as it is",
}


@pytest.mark.parametrize(
    ("broken", "message"),
    BACKENDS.items(),
    ids=[broken.__name__ for broken in BACKENDS],
)
def test_a_broken_backend_is_named(graph, broken, message):
    check_backend(Good(), graph)
    with pytest.raises(AssertionError, match=f"{broken.__name__}.*{message}"):
        check_backend(broken(), graph)


def test_what_is_no_backend_is_named(graph):
    with pytest.raises(AssertionError, match="must have 'forward' and 'penalty'"):
        check_backend(make_ddrm(), graph)
    with pytest.raises(AssertionError, match=r"EASE must be a torch\.nn\.Module"):
        check_backend(EASE(), graph)


# -------------------------------------------- recommenders that are broken in one way


class ReducesLoss(Good):
    def losses(self, *args, **kwargs):
        for loss in super().losses(*args, **kwargs):
            yield loss.mean()


class DetachesLoss(Good):
    def losses(self, *args, **kwargs):
        for loss in super().losses(*args, **kwargs):
            yield loss.detach()


class InfiniteLoss(Good):
    def losses(self, *args, **kwargs):
        for loss in super().losses(*args, **kwargs):
            yield loss / 0


class NoLoss(Good):
    def losses(self, *args, **kwargs):
        yield from ()


class NoBatch(Good):
    def batches(self, *args, **kwargs):
        yield from ()


class TrainsSomethingElse(Good):
    def parameter_groups(self):
        return [{"params": [torch.zeros(1, requires_grad=True)]}]


class ScoresByWhim(Good):
    def scorer(self, graph):
        user, item = super().scorer(graph)
        return Embeddings(user + torch.rand_like(user), item)


class ScorerOfScores(Good):
    def scorer(self, graph):
        user, item = super().scorer(graph)
        return user @ item.T


class DropsOutWhenScoring(Good):
    def scorer(self, graph):
        user, item = super().scorer(graph)
        return Embeddings(nn.functional.dropout(user), item)


class NumpyDraws(Good):
    def losses(self, *args, **kwargs):
        for loss in super().losses(*args, **kwargs):
            yield loss * np.random.default_rng().random()


class CountsInTheDark(Good):
    """A warm-up whose step the state dict does not hold."""

    step = 0

    def losses(self, *args, **kwargs):
        self.step += 1
        for loss in super().losses(*args, **kwargs):
            yield loss + self.step * self.user_table.square().mean()


class RemembersInTheDark(Good):
    """Scores from a table kept outside of the state dict."""

    trained = 0

    def losses(self, *args, **kwargs):
        self.trained += 1
        yield from super().losses(*args, **kwargs)

    def scorer(self, graph):
        user, item = super().scorer(graph)
        user = user.clone()
        user[0] += self.trained
        return Embeddings(user, item)


class ShufflesTheGraph(Good):
    def batches(self, graph, *, batch_size, generator):
        graph.edge_index.copy_(graph.edge_index.flip(1))
        return super().batches(graph, batch_size=batch_size, generator=generator)


class HistoryByDivision(Good):
    def scorer(self, graph):
        emb = super().scorer(graph)
        count = torch.bincount(graph.edge_index[0], minlength=USERS)
        return Embeddings(emb.user / count.view(-1, 1), emb.item)


RECOMMENDERS = {
    ReducesLoss: r"losses must have one value per row, shape \[B\] \(got \[\]\)",
    DetachesLoss: r"losses must have a gradient \(got none\)",
    InfiniteLoss: "losses must be finite",
    NoLoss: "must yield a batch and a loss",
    NoBatch: "must yield a batch and a loss",
    TrainsSomethingElse: "step that changes parameters",
    ScoresByWhim: "same scores at every call",
    ScorerOfScores: r"must return an object with 'scores' \(got Tensor\)",
    DropsOutWhenScoring: "same scores at every call",
    NumpyDraws: "same bits from the same state and seed",
    CountsInTheDark: "same bits from the same state and seed",
    RemembersInTheDark: "load_state_dict must bring back the scores",
    ShufflesTheGraph: "must leave the graph as it is",
    HistoryByDivision: "without interactions: scores must be finite",
}


@pytest.mark.parametrize(
    ("broken", "message"),
    RECOMMENDERS.items(),
    ids=[broken.__name__ for broken in RECOMMENDERS],
)
def test_a_broken_recommender_is_named(data, broken, message):
    check_recommender(Good(), data)
    with pytest.raises(AssertionError, match=f"{broken.__name__}.*{message}"):
        check_recommender(broken(), data)


def test_what_is_no_recommender_is_named(data):
    with pytest.raises(AssertionError, match="'batches', 'losses' and 'scorer'"):
        check_recommender(DDRM(8, (16,)), data)
    with pytest.raises(AssertionError, match=r"Popularity must be a torch\.nn\.Module"):
        check_recommender(Popularity(), data)


def test_a_failed_check_restores_the_model_too(data):
    model = ReducesLoss()
    before = model.user_table.detach().clone()
    with pytest.raises(AssertionError):
        check_recommender(model, data)
    assert torch.equal(model.user_table, before)
    assert model.training
