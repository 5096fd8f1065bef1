"""What a world holds is what was put into it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.scale.world import World, cut_embeddings


@pytest.fixture
def copy(made, tmp_path):
    return World.open(shutil.copytree(made.world.folder, tmp_path / "copy"))


def test_shards_are_the_whole(made):
    world = made.world
    assert (world.num_shards, world.num_users) == (2, 8193)
    assert [world.bounds(n) for n in range(2)] == [(0, 8192), (8192, 8193)]
    users = torch.cat([world.user_emb(n) for n in range(2)])
    assert torch.equal(users, made.emb.user)
    assert torch.equal(world.item_emb(), made.emb.item)
    train = InteractionGraph.from_data(made.data)
    assert torch.equal(world.item_degree(), train.degree("item"))
    last = world.edge_index(1)
    assert bool((last[0] == 0).all())
    assert (
        last[1].sort().values.tolist() == train.rows(torch.tensor([8192]))[1].tolist()
    )
    pairs = world.edge_index(1, ("train", "val", "test"))
    assert pairs.size(1) > last.size(1)


def test_ids_are_read_by_rows(made):
    assert made.world.ids("user", 8190, 8193).tolist() == [8190, 8191, 8192]


@pytest.mark.parametrize("shard", [-1, 2])
def test_shards_that_are_not_there_are_refused(made, shard):
    with pytest.raises(ValueError, match=r"must lie in 0 ... 1 \(got"):
        made.world.bounds(shard)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not what 'shard' writes"),
        ("{}", r"not what 'shard' writes \(no 'format'\); shard again"),
        ("[]", "not what 'shard' writes"),
        ("[" * 100_000, "not what 'shard' writes"),
        ('{"format": 1}', r"\(no 'num_edges'\)"),
        ('{"format": 2}', r"the format must be 1 \(got 2\)"),
    ],
)
def test_another_version_is_refused(tmp_path, text, message):
    (tmp_path / "world.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        World.open(tmp_path)


def test_a_half_written_world_is_refused(copy):
    (copy.folder / "world.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"not a world \(no world.json\)"):
        World.open(copy.folder)


@pytest.mark.parametrize("name", ["num_users", "rows_per_shard", "num_edges"])
@pytest.mark.parametrize("value", [None, [], {}, "3", -1, 1.0])
def test_a_record_with_other_numbers_is_refused(copy, name, value):
    path = copy.folder / "world.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match=r"world\.json: not what .*; shard again"):
        World.open(copy.folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"PAR1PAR1"])
def test_damaged_shards_are_named(copy, content):
    files = {
        "ids/users.parquet": lambda: copy.ids("user", 0, 1),
        "train/user-00000.parquet": lambda: copy.edge_index(0),
        "item_degree.safetensors": copy.item_degree,
        "embeddings/item.safetensors": copy.item_emb,
        "embeddings/user-00001.safetensors": lambda: copy.user_emb(1),
    }
    for name, read in files.items():
        read()
        (copy.folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{copy.folder}.*{name}.* again$"):
            read()


def test_half_precision_is_cut_and_read(copy, tmp_path, made):
    half = Embeddings(made.emb.user.half(), made.emb.item.half())
    half.save(tmp_path / "half.safetensors")
    cut_embeddings(copy, tmp_path / "half.safetensors")
    assert torch.equal(copy.user_emb(1), half.user[8192:].float())
    assert torch.equal(copy.item_emb(), half.item.float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda emb: Embeddings(emb.user[1:], emb.item),
            "'user' must have the world's",
        ),
        (
            lambda emb: Embeddings(emb.user, emb.item[1:]),
            "'item' must have the world's",
        ),
        (lambda emb: Embeddings(emb.user / 0, emb.item), "'user' must be finite"),
    ],
)
def test_embeddings_of_another_world_are_refused(copy, made, tmp_path, change, message):
    shutil.rmtree(copy.folder / "embeddings")
    change(made.emb).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=message):
        cut_embeddings(copy, tmp_path / "other.safetensors")
    assert not (copy.folder / "embeddings").exists()


def test_a_world_without_vectors_says_how_they_come(copy):
    shutil.rmtree(copy.folder / "embeddings")
    with pytest.raises(FileNotFoundError, match="'shard --embeddings' puts them"):
        copy.item_emb()


def test_a_shard_that_does_not_fit_the_table_is_refused(copy):
    folder = copy.folder / "embeddings"
    shutil.copy(folder / "user-00000.safetensors", folder / "user-00001.safetensors")
    with pytest.raises(ValueError, match=r"must have 1 rows \(got 8192\)"):
        copy.user_emb(1)


def test_the_record_is_plain(made):
    record = json.loads((made.world.folder / "world.json").read_text())
    assert record["format"] == 1
    assert record["num_edges"] == made.world.num_edges
