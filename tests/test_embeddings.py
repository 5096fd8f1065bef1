import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings, as_embeddings
from ddrm_pyg.ranking import recommend
from ddrm_pyg.typing import Scorer

SUFFIXES = (".safetensors", ".npz", ".pt")


@pytest.fixture
def emb():
    return Embeddings(
        torch.tensor([[1.0, 2.0], [0.5, -1.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]),
    )


def same(a, b):
    return torch.equal(a.user, b.user) and torch.equal(a.item, b.item)


class Harmful:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_scores_are_inner_products(emb):
    assert isinstance(emb, Scorer)
    assert (emb.num_users, emb.num_items) == (2, 3)
    assert emb.scores(torch.tensor([1, 0, 1])).tolist() == [
        [0.5, -1.0, -2.0],
        [1.0, 2.0, 8.0],
        [0.5, -1.0, -2.0],
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_are_float32_whatever_the_tables(dtype):
    # item 5 is best; in float16 the last four inner products are all infinite
    item = (torch.arange(48.0).reshape(6, 8) + 90).to(dtype)
    emb = Embeddings(torch.full((1, 8), 100.0, dtype=dtype), item)
    scores = emb.scores(torch.tensor([0]))
    assert scores.dtype == torch.float32
    assert scores.tolist() == [(100 * item.double().sum(1)).tolist()]
    _, best = recommend(emb, torch.arange(1), k=6)
    assert best.tolist() == [[5, 4, 3, 2, 1, 0]]


def test_unpacks_as_user_then_item(emb):
    user, item = emb
    assert user is emb.user
    assert item is emb.item


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_round_trip_keeps_every_bit(emb, tmp_path, suffix, dtype):
    emb = Embeddings(emb.user.to(dtype) / 3, emb.item.to(dtype) / 3)
    emb.save(tmp_path / f"emb{suffix}")
    loaded = Embeddings.load(str(tmp_path / f"emb{suffix}"))
    assert loaded.user.dtype == dtype
    assert same(loaded, emb)
    assert os.listdir(tmp_path) == [f"emb{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_trained_and_transposed_tables_are_saved(tmp_path, suffix):
    table = nn.Parameter(torch.arange(10.0).view(2, 5))
    path = tmp_path / f"emb{suffix}"
    Embeddings(table.T[:2], table.T[2:]).save(path)
    loaded = Embeddings.load(path)
    assert loaded.user.tolist() == [[0, 5], [1, 6]]
    assert loaded.item.tolist() == [[2, 7], [3, 8], [4, 9]]
    assert not loaded.user.requires_grad


def test_files_of_other_programs_are_read(emb, tmp_path):
    np.savez(tmp_path / "a.npz", item=emb.item.numpy(), user=emb.user.numpy())
    torch.save({"user": emb.user, "item": emb.item}, tmp_path / "b.pt")
    assert same(Embeddings.load(tmp_path / "a.npz"), emb)
    assert same(Embeddings.load(tmp_path / "b.pt"), emb)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_file_holds_beside_is_named_and_not_read(emb, tmp_path, suffix, caplog):
    path = tmp_path / f"emb{suffix}"
    tables = {"user": emb.user, "item": emb.item}
    if suffix == ".npz":
        arrays = {name: table.numpy() for name, table in tables.items()}
        names = np.array([Harmful(tmp_path / "harm")], dtype=object)
        np.savez(path, **arrays, names=names, epoch=3)
    elif suffix == ".pt":
        torch.save({**tables, "names": ["a"], "epoch": 3}, path)
    else:
        save_file({**tables, "names": torch.ones(2), "epoch": torch.ones(1)}, path)
    with caplog.at_level("INFO", logger="ddrm_pyg"):
        assert same(Embeddings.load(path), emb)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.endswith("['epoch', 'names'] beside 'user' and 'item' not read")
    assert not (tmp_path / "harm").exists()


def test_arrays_of_any_layout_and_byte_order_are_read(emb, tmp_path):
    for name, kind in (("big", ">f4"), ("double", ">f8"), ("half", ">f2")):
        arrays = {"user": emb.user.numpy(), "item": emb.item.numpy()}
        np.savez(
            tmp_path / f"{name}.npz", **{k: v.astype(kind) for k, v in arrays.items()}
        )
        loaded = Embeddings.load(tmp_path / f"{name}.npz")
        assert loaded.user.tolist() == emb.user.tolist()
        assert loaded.item.tolist() == emb.item.tolist()
    np.save(tmp_path / "user.npy", emb.user.numpy())
    mapped = np.load(tmp_path / "user.npy", mmap_mode="r")
    frame = pd.DataFrame(emb.item.numpy(), index=["x", "y", "z"])
    assert same(as_embeddings((mapped, frame)), emb)
    reversed_ = as_embeddings((emb.user.numpy()[::-1], emb.item.numpy()[:, ::-1]))
    assert reversed_.user.tolist() == emb.user.flip(0).tolist()
    assert reversed_.item.tolist() == emb.item.flip(1).tolist()


def test_frames_of_no_numbers_are_refused(emb):
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"must hold numbers \(got an array of object"):
        as_embeddings((frame, emb.item))


def test_bfloat16_goes_where_it_can(emb, tmp_path):
    emb = emb.to(torch.bfloat16)
    with pytest.raises(
        ValueError, match=r"emb\.npz: an \.npz .* cannot hold torch\.bf"
    ):
        emb.save(tmp_path / "emb.npz")
    assert os.listdir(tmp_path) == []
    for suffix in (".safetensors", ".pt"):
        emb.save(tmp_path / f"emb{suffix}")
        assert same(Embeddings.load(tmp_path / f"emb{suffix}"), emb)


def test_unknown_suffix_is_refused_both_ways(emb, tmp_path):
    for act in (emb.save, Embeddings.load):
        with pytest.raises(
            ValueError, match=r"emb\.csv: the suffix must be one of \.s"
        ):
            act(tmp_path / "emb.csv")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match=rf"none\{suffix}: no such file"):
        Embeddings.load(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 100])
def test_truncated_file_is_refused(emb, tmp_path, suffix, keep):
    path = tmp_path / f"emb{suffix}"
    emb.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"emb\{suffix}: not a readable \{suffix}"):
        Embeddings.load(path)


def test_pickled_npz_is_refused_and_not_run(emb, tmp_path):
    harmful = np.array([Harmful(tmp_path / "harm")], dtype=object)
    np.savez(tmp_path / "emb.npz", user=harmful, item=emb.item.numpy())
    with pytest.raises(ValueError, match=r"emb\.npz: not a readable \.npz"):
        Embeddings.load(tmp_path / "emb.npz")
    assert not (tmp_path / "harm").exists()


def test_pickled_pt_is_refused_and_not_run(emb, tmp_path):
    harmful = {"user": Harmful(tmp_path / "harm"), "item": emb.item}
    torch.save(harmful, tmp_path / "emb.pt")
    with pytest.raises(ValueError, match=r"emb\.pt: .*save tensors only\)$"):
        Embeddings.load(tmp_path / "emb.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        (torch.ones(2, 2), torch.ones(3, 2)),
        torch.ones(2, 2),
        None,
        {"user": [[1.0]], "item": [[1.0]]},
        {0: torch.ones(2, 2), "item": torch.ones(2, 2)},
    ],
    ids=["pair", "tensor", "None", "lists", "integer key"],
)
def test_pt_of_anything_but_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "emb.pt")
    with pytest.raises(ValueError, match=r"emb\.pt: "):
        Embeddings.load(tmp_path / "emb.pt")


def test_missing_array_is_told_with_those_found(tmp_path):
    np.savez(tmp_path / "emb.npz", user=np.ones((2, 2)), movie=np.ones((2, 2)))
    message = r"emb\.npz: needs arrays 'user' and 'item' \(found \['movie', 'user'\]\)"
    with pytest.raises(ValueError, match=message):
        Embeddings.load(tmp_path / "emb.npz")


def test_a_file_that_does_not_fit_is_not_called_unreadable(tmp_path, monkeypatch):
    def allocate(*arguments, **options):
        raise MemoryError("Unable to allocate 32.0 TiB")

    np.savez(tmp_path / "emb.npz", user=np.ones((2, 3)), item=np.ones((4, 3)))
    monkeypatch.setattr(np.lib.format, "read_array", allocate)
    with pytest.raises(MemoryError, match=r"emb\.npz: does not fit .* 32\.0 TiB"):
        Embeddings.load(tmp_path / "emb.npz")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_a_value_that_is_not_finite_is_located(tmp_path, value, word):
    item = np.ones((4, 3))
    item[2, 1] = item[3, 0] = value
    np.savez(tmp_path / "emb.npz", user=np.ones((2, 3)), item=item)
    message = rf"emb\.npz: 'item' must be finite \(got {word} at row 2, column 1\)"
    with pytest.raises(ValueError, match=message):
        Embeddings.load(tmp_path / "emb.npz")


@pytest.mark.parametrize(
    ("user", "item", "message"),
    [
        ((2, 3), (2, 4), r"'user' and 'item' must be equally wide \(got 3 and 4\)"),
        ((2,), (2, 4), r"'user' must be a 2-dimensional float .* of shape \[2\]"),
        ((2, 4), (1, 2, 4), r"'item' must be a 2-dimensional .* of shape \[1, 2, 4\]"),
    ],
)
def test_misshapen_tables_are_refused(tmp_path, user, item, message):
    np.savez(tmp_path / "emb.npz", user=np.ones(user), item=np.ones(item))
    with pytest.raises(ValueError, match=message):
        Embeddings.load(tmp_path / "emb.npz")


def test_integer_tables_are_refused():
    table = torch.ones(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"mine: 'user' must be .* \(got torch\.int64"):
        Embeddings(table, table).check("mine")


def test_rows_must_be_those_of_the_graph(emb):
    emb.check_matches(2, 3)
    with pytest.raises(
        ValueError, match=r"'item' must have one row per item.* 4 \(got 3"
    ):
        emb.check_matches(2, 4)
    with pytest.raises(
        ValueError, match=r"'user' must have one row per user.* 1 \(got 2"
    ):
        emb.check_matches(1, 3)


@pytest.mark.parametrize("pair", [tuple, list])
def test_pairs_of_every_kind_are_accepted(emb, pair):
    layers = [nn.Embedding.from_pretrained(table, freeze=False) for table in emb]
    for source in (emb, [t.numpy() for t in emb], [t.requires_grad_() for t in emb]):
        assert same(as_embeddings(pair(source)), emb)
    assert same(as_embeddings(pair(layers)), emb)
    assert not as_embeddings(layers).user.requires_grad


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", [str, Path])
def test_files_are_accepted(emb, tmp_path, suffix, form):
    emb.save(tmp_path / f"emb{suffix}")
    assert same(as_embeddings(form(tmp_path / f"emb{suffix}")), emb)


@pytest.mark.parametrize("source", [None, 3, torch.ones(2, 2, 2), (torch.ones(1, 1),)])
def test_other_forms_are_refused(source):
    with pytest.raises(
        TypeError, match=r"'embeddings' must be Embeddings, a file or a"
    ):
        as_embeddings(source)


def test_a_pair_is_checked():
    with pytest.raises(ValueError, match="equally wide"):
        as_embeddings((torch.ones(2, 3), np.ones((2, 4))))


def test_notebooks_see_sizes_and_lengths():
    emb = Embeddings(torch.tensor([[3.0, 4.0]]), torch.zeros(2, 2))
    html = emb._repr_html_()
    cells = [cell.split("</td>")[0] for cell in html.split("<td>")[1:]]
    assert cells[5:] == [
        *("user", "1", "2", "float32", "5"),
        *("item", "2", "2", "float32", "0"),
    ]


def test_the_representation_is_the_shapes(emb):
    assert repr(emb).startswith("Embeddings(user=[")
    double = Embeddings(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(4, 3))
    assert repr(double) == "Embeddings(user=[2, 3] float64, item=[4, 3])"


def test_an_opened_file_holds_what_a_loaded_one_does(emb, tmp_path):
    emb.save(tmp_path / "emb.safetensors")
    opened = Embeddings.open(tmp_path / "emb.safetensors")
    assert torch.equal(opened.user.rows(0, 2), emb.user)
    assert torch.equal(opened.item.take(torch.tensor([2, 0])), emb.item[[2, 0]])


@pytest.mark.parametrize(
    "tables",
    [
        {"user": torch.ones(2, 3)},
        {"user": torch.ones(2, 3), "item": torch.ones(2, 4)},
        {"user": torch.ones(2, 3), "item": torch.ones(2)},
        {"user": torch.ones(2), "item": torch.ones(2)},
        {"user": torch.ones(2, 3).long(), "item": torch.ones(2, 3).long()},
    ],
)
def test_an_opened_file_must_have_both_tables(tables, tmp_path):
    save_file(tables, tmp_path / "emb.safetensors")
    with pytest.raises(ValueError, match=r"needs float tables 'user' and 'item'"):
        Embeddings.open(tmp_path / "emb.safetensors")


@pytest.mark.parametrize("row", [0, 65_535, 65_536, 70_000])
def test_values_are_checked_in_every_block(row):
    table = torch.zeros(70_001, 2)
    table[row, 1] = torch.nan
    with pytest.raises(ValueError, match=rf"\(got nan at row {row}, column 1\)"):
        Embeddings(table, table).check()


class Factors:
    """Shaped as implicit fits it; its matrices on a GPU have ``to_numpy``."""

    def __init__(self, emb, wrap):
        self.user_factors, self.item_factors = map(wrap, emb)


class OnGpu:
    def __init__(self, table):
        self.table = table

    def to_numpy(self):
        return self.table.numpy()


@pytest.mark.parametrize("wrap", [torch.Tensor.numpy, OnGpu])
def test_objects_with_factors_are_accepted(emb, wrap):
    taken = as_embeddings(Factors(emb, wrap))
    assert torch.equal(taken.user, emb.user)
    assert torch.equal(taken.item, emb.item)


@pytest.mark.parametrize("form", ["frame", "csv"])
def test_columns_of_one_name_stand_in_one_order(form, tmp_path):
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 1
    user = pd.DataFrame({"x0": [1.0], "id": ["0"], "x1": [2.0], "x2": [3.0]})

    def written(name, frame):
        if form == "frame":
            return frame
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        return tmp_path / f"{name}.csv"

    one = written("user", user)
    with pytest.raises(ValueError, match=r"'x1' as column 2 of users and 3 of items"):
        Embeddings.from_ids(one, written("item", user[["id", "x0", "x2", "x1"]]), data)
    own = user.set_axis(["y0", "id", "y1", "y2"], axis=1)  # names of its own
    for item in (user[["id", "x0", "x1", "x2"]], own):
        taken = Embeddings.from_ids(one, written("item", item), data)
        assert taken.user.tolist() == taken.item.tolist() == [[1, 2, 3]]


def test_vectors_with_ids_take_the_order_of_the_data():
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    data["user"].raw_id, data["item"].raw_id = ["u1", "u2"], torch.tensor([9, 4])
    user = (["u2", "u1"], [[2.0, 2.0], [1.0, 1.0]])
    item = {4: [4.0, 0.0], 9: [9.0, 0.0]}
    taken = Embeddings.from_ids(user, item, data)
    assert taken.user.tolist() == [[1, 1], [2, 2]]
    assert taken.item.tolist() == [[9, 0], [4, 0]]
    assert {table.dtype for table in taken} == {torch.float32}
    with pytest.raises(ValueError, match="'item': 1 of 2 ids are unknown"):
        Embeddings.from_ids(user, {4: [4.0, 0.0]}, data)
    with pytest.raises(ValueError, match="'item' must be finite"):
        Embeddings.from_ids(user, item | {9: [float("nan"), 0]}, data)
