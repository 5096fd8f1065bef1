from __future__ import annotations

import json
import math

import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import HistoryMeans
from ddrm_pyg.nn.models import MF
from ddrm_pyg.pipeline import Pipeline
from ddrm_pyg.ranking import recommend

NOTHING = torch.empty(2, 0, dtype=torch.int64)
USERS = ["ann", "bob", "eve"]
ITEMS = [30, 10, 20, 40]


@pytest.fixture
def world():
    """Ann took 30 and 10, bob 20, and eve everything."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data["user"].raw_id, data["item"].raw_id = USERS, torch.tensor(ITEMS)
    data[EDGE].edge_index = torch.tensor([[0, 0, 1, 2, 2], [0, 1, 2, 0, 1]])
    data[EDGE].val_edge_label_index = torch.tensor([[2], [2]])
    data[EDGE].test_edge_label_index = torch.tensor([[2], [3]])
    return data


@pytest.fixture
def emb():
    user = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    item = torch.tensor([[2.0, 0.0], [4.0, 3.0], [0.0, 0.5], [3.0, 4.0]])
    return Embeddings(user, item)


@pytest.fixture
def pipeline(emb, world):
    return Pipeline.from_data(emb, world)


def records(frame):
    return [tuple(row) for row in frame.itertuples(index=False)]


def test_lists_are_in_own_ids_without_padding(pipeline):
    frame = pipeline.recommend()
    assert frame.columns.tolist() == ["user", "item", "rank", "score"]
    assert records(frame) == [
        ("ann", 40, 1, 3.0),
        ("ann", 20, 2, 0.0),
        ("bob", 40, 1, 4.0),
        ("bob", 10, 2, 3.0),
        ("bob", 30, 3, 0.0),
    ]  # eve knows everything


def test_some_users_in_the_order_asked_for(pipeline):
    frame = pipeline.recommend(["bob", "ann"], k=1)
    assert records(frame) == [("bob", 40, 1, 4.0), ("ann", 40, 1, 3.0)]
    assert records(pipeline.recommend([])) == []


def test_lists_are_those_of_rows(pipeline, emb, world):
    seen = InteractionGraph.from_data(world, splits=("train", "val", "test"))
    score, item = recommend(emb, torch.tensor([1]), k=2, exclude=seen)
    frame = pipeline.recommend(["bob"], k=2)
    assert frame["score"].tolist() == score[0].tolist()
    assert frame["item"].tolist() == [ITEMS[row] for row in item[0].tolist()]


def test_what_all_users_score_alike_has_no_direction(pipeline, emb, world):
    user = torch.cat([emb.user, torch.ones(3, 1)], 1)
    item = torch.cat([emb.item, torch.tensor([[9.0], [0], [0], [9]])], 1)
    biased = Pipeline.from_data((user, item), world)
    assert biased.similar(ITEMS).equals(pipeline.similar(ITEMS))
    assert biased.because("eve", 40).equals(pipeline.because("eve", 40))
    lone = Pipeline((user[:1], item), ["ann"], ITEMS, InteractionGraph(NOTHING, 1, 4))
    assert lone.similar([30], k=1)["similar"].tolist() == [40]  # all count


def test_similar_items_by_cosine(pipeline):
    frame = pipeline.similar([30], k=2)
    assert frame["similar"].tolist() == [10, 40]
    assert frame["score"].tolist() == pytest.approx([4 / 5, 3 / 5])
    assert frame["rank"].tolist() == [1, 2]
    assert len(pipeline.similar([30, 10])) == 6  # never an item itself


def test_reasons_are_what_was_taken_nearest_first(pipeline):
    frame = pipeline.because("ann", 40)
    assert frame["taken"].tolist() == [10, 30]
    assert frame["score"].tolist() == pytest.approx([24 / 25, 3 / 5])
    assert pipeline.because("ann", 10, k=9)["taken"].tolist() == [30]


def test_new_users_are_ranked_by_their_history_alone(pipeline):
    frame = pipeline.recommend_new({"zoe": [30], "kim": [20, 10]}, k=2)
    assert records(frame) == [
        ("zoe", 10, 1, 8.0),
        ("zoe", 40, 2, 6.0),
        ("kim", 40, 1, 2 * 3 + 1.75 * 4),
        ("kim", 30, 2, 4.0),
    ]
    alone = pipeline.recommend_new({"kim": [20, 10]}, k=2)
    assert records(alone) == records(frame)[2:]
    assert records(pipeline.recommend_new({})) == []


def test_an_item_that_repeats_counts_once(pipeline):
    once = pipeline.recommend_new({"kim": [20, 10]}, k=2)
    often = pipeline.recommend_new({"kim": [20, 10, 20, 20]}, k=2)
    assert records(often) == records(once)


def test_new_users_pass_ddrm_where_there_is_one(emb, world):
    torch.manual_seed(0)
    ddrm = DDRM(2, (4,), num_train_timesteps=5)
    pipeline = Pipeline.from_data(emb, world, ddrm=ddrm)
    frame = pipeline.recommend_new({"zoe": [30], "kim": [20]}, k=4)
    ideal = ddrm.generate(emb.item[[0, 2]], noise=torch.zeros(2, 2))
    expected = (ideal @ emb.item.T)[0, [1, 2, 3]].sort(descending=True).values
    scores = frame[frame["user"] == "zoe"]["score"].tolist()
    assert scores == pytest.approx(expected.tolist())


@pytest.fixture
def past(emb):
    """A DDRM that reads histories in order, with random networks."""
    torch.manual_seed(0)
    ddrm = DDRM(2, (4,), num_start_steps=0)
    start = {"train_start": "past", "edge_time": torch.arange(5), "scales": (1.0, 5.0)}
    return DDRMRecommender(ddrm, emb, **start).eval()


def test_new_users_are_read_in_order_where_ddrm_does(past, world):
    vectors = past.generate([torch.tensor([0, 1]), torch.tensor([0])])
    own = Embeddings(torch.randn(3, 3), vectors.item)
    pipeline = Pipeline.from_data(own, world, ddrm=past)
    frame = pipeline.recommend_new({"zoe": [30, 10], "kim": [30]}, k=2)
    for row, (name, taken) in enumerate({"zoe": [0, 1], "kim": [0]}.items()):
        scores = vectors.user[row] @ vectors.item.T
        scores[taken] = -torch.inf
        best = scores.topk(2)
        lines = frame[frame["user"] == name]
        assert lines["item"].tolist() == [ITEMS[i] for i in best.indices]
        assert lines["score"].tolist() == pytest.approx(best.values.tolist(), rel=1e-5)
    turned = pipeline.recommend_new({"zoe": [10, 30]}, k=2)
    assert turned["score"].tolist() != frame["score"].tolist()[:2]
    assert records(pipeline.recommend_new({})) == []


def test_an_order_free_recommender_is_its_ddrm(emb, world):
    ddrm = DDRM(2, (4,), num_train_timesteps=5)
    pipeline = Pipeline.from_data(emb, world, ddrm=DDRMRecommender(ddrm, emb))
    assert pipeline.ddrm is ddrm


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.recommend(["max"]), ValueError, "'user': 1 of 1 ids are unknown"),
        (lambda p: p.recommend("ann"), TypeError, r"several ids, such as \['ann'\]"),
        (lambda p: p.similar(30), TypeError, r"several ids, such as \[30\]"),
        (lambda p: p.similar([31]), ValueError, "'item': 1 of 1 ids are unknown"),
        (lambda p: p.because("max", 30), ValueError, "'user': 1 of 1"),
        (lambda p: p.recommend_new({"a": []}), ValueError, "must not be empty"),
        (lambda p: p.recommend_new({"a": [1]}), ValueError, "'histories' of 'a': 1"),
        (lambda p: p.recommend(k=0), ValueError, "'k' must be >= 1"),
    ],
)
def test_unknown_ids_are_refused(pipeline, call, error, message):
    with pytest.raises(error, match=message):
        call(pipeline)


def test_tables_ids_and_pairs_must_be_of_the_same_nodes(emb):
    seen = InteractionGraph(torch.tensor([[0], [0]]), 3, 4)
    with pytest.raises(ValueError, match=r"'user_ids' must be 3 ids \(got 2\)"):
        Pipeline(emb, USERS[:2], ITEMS, seen)
    with pytest.raises(ValueError, match="one row per item of the graph, 4"):
        Pipeline((emb.user, emb.item[:3]), USERS, ITEMS, seen)


def test_a_source_reads_new_users_in_order(emb, world):
    source = HistoryMeans(emb.item, [1.0])
    pipeline = Pipeline.from_data(emb, world, source=source)
    frame = pipeline.recommend_new({"zoe": [30, 10]}, k=2)  # 10 is the later one
    old = math.exp(-1)
    vector = torch.tensor([2 * old + 4, 3.0])
    vector /= vector.norm()
    scores = emb.item[[3, 2]] @ vector
    assert frame["item"].tolist() == [40, 20]
    assert frame["score"].tolist() == pytest.approx(scores.tolist())
    with pytest.raises(ValueError, match="'recommend_new' takes grown histories"):
        pipeline.append({"zoe": [30]})


def test_a_source_must_go_with_the_rest(emb, world):
    for source, ddrm, message in (
        (HistoryMeans(emb.item), None, r"one start per history .*got 5 and 4"),
        (HistoryMeans(emb.item[:3], [1.0]), None, r"and 4 items \(got 1 and 3\)"),
        (HistoryMeans(emb.item, [1.0]), DDRM(2, (4,)), "exclude each other"),
    ):
        with pytest.raises(ValueError, match=message):
            Pipeline.from_data(emb, world, ddrm=ddrm, source=source)


@pytest.mark.parametrize("kind", [None, "ddrm", "past", "source"])
def test_a_folder_gives_the_same_answers_back(emb, world, past, tmp_path, kind):
    plain = DDRM(2, (4,), num_train_timesteps=5)
    ddrm = {"ddrm": plain, "past": past}.get(kind)
    source = HistoryMeans(emb.item, [2.0]) if kind == "source" else None
    pipeline = Pipeline.from_data(emb, world, ddrm=ddrm, source=source)
    pipeline.save_pretrained(tmp_path / "p", card={"verdict": "helps"})
    loaded = Pipeline.from_pretrained(tmp_path / "p")
    assert repr(loaded) == repr(pipeline)
    for ask in (
        lambda p: p.recommend(),
        lambda p: p.similar(ITEMS),
        lambda p: p.recommend_new({"zoe": [30, 10]}),
    ):
        assert records(ask(loaded)) == records(ask(pipeline))
    card = (tmp_path / "p" / "card.md").read_text("utf-8")
    assert "- known pairs: 7" in card
    assert '- verdict: "helps"' in card


def test_mixed_and_missing_files_are_refused(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    ids = json.loads((tmp_path / "ids.json").read_text())
    ids["item"].reverse()
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    with pytest.raises(ValueError, match=r"must be those of config\.json"):
        Pipeline.from_pretrained(tmp_path)
    for text in ("{}", "[]", "[" * 100_000):
        (tmp_path / "ids.json").write_text(text)
        with pytest.raises(ValueError, match=r"not what save_.*; save it again"):
            Pipeline.from_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "known.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"known\.safetensors"):
        Pipeline.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        pipeline.save_pretrained(tmp_path / "new", card={"object": object()})
    assert not (tmp_path / "new").exists()


def test_appended_interactions_by_hand(pipeline):
    grown = pipeline.append({"bob": [40, 50], "zoe": [30, 50], "kim": [60]})
    assert grown.user_ids == [*USERS, "zoe", "kim"]
    assert grown.item_ids == [*ITEMS, 50, 60]
    # before: bob is (0, 1), zoe the mean of item 30, (2, 0); of kim nothing is known
    mean = pipeline.seen.mean_item(pipeline.embeddings.item)
    length = pipeline.embeddings.item.norm(dim=1).mean()  # 2, 5, 0.5 and 5
    assert float(length) == 3.125
    new = torch.stack([torch.tensor([1.0, 0.5]), mean])
    new = length * torch.nn.functional.normalize(new)
    assert torch.equal(grown.embeddings.item[:4], pipeline.embeddings.item)
    torch.testing.assert_close(grown.embeddings.item[4:], new)
    item = grown.embeddings.item
    expected = [item[[2, 3, 4]].mean(0), item[[0, 4]].mean(0), item[5]]
    torch.testing.assert_close(grown.embeddings.user[[1, 3, 4]], torch.stack(expected))
    others = [0, 2]
    assert torch.equal(grown.embeddings.user[others], pipeline.embeddings.user[others])
    assert 50 not in grown.recommend(["bob"])["item"].tolist()
    assert 50 in grown.recommend(["ann"])["item"].tolist()
    assert pipeline.item_ids == ITEMS  # what was there is as it was


def test_appending_again_and_nothing_changes_nothing(pipeline):
    once = pipeline.append({"ann": [20]})
    twice = once.append({"ann": [20, 20]})
    assert records(twice.recommend()) == records(once.recommend())
    assert torch.equal(twice.seen.edge_index, once.seen.edge_index)
    assert records(pipeline.append({}).recommend()) == records(pipeline.recommend())


def test_given_vectors_of_new_items(pipeline):
    grown = pipeline.append({"ann": [50]}, item_emb={50: [7.0, 1.0]})
    assert grown.embeddings.item[4].tolist() == [7, 1]
    for vectors, message in (
        ({30: [1.0, 2.0]}, r"of new items \(got \[2\] for 30\)"),
        ({50: [1.0]}, r"vectors \[2\] of new items \(got \[1\] for 50\)"),
        ({60: [1.0, 2.0]}, "'item_emb': 1 of 1 ids are unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            pipeline.append({"ann": [50]}, item_emb=vectors)
    with pytest.raises(ValueError, match="'histories' must not be empty"):
        pipeline.append({"ann": []})


def test_appended_users_are_those_of_recommend_new(emb, world):
    torch.manual_seed(0)
    ddrm = DDRM(2, (4,), num_train_timesteps=5)
    pipeline = Pipeline.from_data(emb, world, ddrm=ddrm)
    histories = {"zoe": [30, 20], "kim": [10]}
    grown = pipeline.append(histories).recommend(list(histories))
    new = pipeline.recommend_new(histories)
    assert records(grown[["user", "item"]]) == records(new[["user", "item"]])
    assert grown["score"].tolist() == pytest.approx(new["score"].tolist())


def test_a_model_starts_from_saved_vectors_id_by_id(pipeline, tmp_path, caplog):
    pipeline.save_pretrained(tmp_path)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    data["user"].raw_id, data["item"].raw_id = ["new", "eve"], [20, 99, 30]
    model = MF(2, 3, 2)
    drawn = model.user_table[0].tolist(), model.item_table[1].tolist()
    with caplog.at_level("INFO", "ddrm_pyg"):
        Pipeline.from_pretrained(tmp_path).warm_start(model, data)
    assert caplog.messages == ["warm start: 1 of 2 users", "warm start: 2 of 3 items"]
    assert model.user_table[1].tolist() == [1, 1]
    assert model.item_table[[0, 2]].tolist() == [[0, 0.5], [2, 0]]
    assert (model.user_table[0].tolist(), model.item_table[1].tolist()) == drawn
    with pytest.raises(ValueError, match=r"'user_table' of \[2, 2\] \(got \[2, 5\]\)"):
        pipeline.warm_start(MF(2, 3, 5), data)


def test_what_reads_in_order_is_not_appended_to(past, world):
    own = Embeddings(torch.randn(3, 3), past.generate([]).item)
    pipeline = Pipeline.from_data(own, world, ddrm=past)
    with pytest.raises(ValueError, match="'recommend_new' takes grown histories"):
        pipeline.append({"zoe": [30]})
