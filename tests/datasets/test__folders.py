import re

import numpy as np
import pytest
import torch

from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.transforms.core import EDGE


def write_npy_folder(folder, *, valid=True, **labels):
    np.save(folder / "train_list.npy", np.array([[0, 0], [0, 1], [1, 0], [1, 2]]))
    if valid:
        np.save(folder / "valid_list.npy", np.array([[0, 2]]))
    np.save(folder / "test_list.npy", np.array([[0, 3], [1, 3]]))
    if labels:
        np.savez(folder / "labels.npz", **{k: np.array(v) for k, v in labels.items()})
    return folder


def write_lightgcn_folder(folder):
    folder.joinpath("train.txt").write_text("0 0 1 2 3 4\n1 4\n")
    folder.joinpath("test.txt").write_text("0 5\n1 \n")
    return folder


def test_npy_folder_with_labels(tmp_path, caplog):
    folder = write_npy_folder(
        tmp_path,
        train_tp=[1, 0, 1, 1],
        train_rating=[5, 0, 4, 4],
        train_pos=[0, -1, 0, 1],
        valid_tp=[0],
        test_tp=[1, 1],
        user_raw=[31, 32],
        movie_raw=[9, 8, 0, 7],
    )
    data = load_interactions(folder)

    assert data[EDGE].edge_index.T.tolist() == [[0, 0], [0, 1], [1, 0], [1, 2]]
    assert data[EDGE].edge_is_noise.tolist() == [False, True, False, False]
    assert data[EDGE].edge_rating.tolist() == [5.0, 0.0, 4.0, 4.0]
    assert data[EDGE].edge_time.tolist() == [0, -1, 0, 1]
    assert data[EDGE].val_edge_label_index.tolist() == [[0], [2]]
    assert data[EDGE].val_edge_is_noise.tolist() == [True]
    assert "val_edge_time" not in data[EDGE]
    assert data["user"].raw_id.tolist() == [31, 32]
    assert data["item"].raw_id.tolist() == [9, 8, -3, 7]
    assert [m.split(": ")[1] for m in caplog.messages] == [
        "1 rows have no id in labels.npz; row r is called -1 - r",
        "1 items are not in train",
    ]


def test_npy_folder_without_labels_or_validation(tmp_path, caplog):
    data = load_interactions(write_npy_folder(tmp_path, valid=False))
    assert data["item"].raw_id.tolist() == [0, 1, 2, 3]
    assert data[EDGE].edge_index.size(1) == 4  # round(.1 * 2) = 0 held out
    assert data[EDGE].val_edge_label_index.shape == (2, 0)
    name = tmp_path.name
    assert caplog.messages[0] == (
        f"{name}: assumed each user's pairs in the order of time"
    )
    assert "no validation pairs" in caplog.messages[1]
    assert data[EDGE].in_order is True


def test_labels_beyond_int64_are_refused(tmp_path):
    labels = {"user_raw": np.array([31, 2**63 + 5], dtype=np.uint64)}
    with pytest.raises(ValueError, match=r"labels\.npz: 'user_raw' must fit int64"):
        load_interactions(write_npy_folder(tmp_path, **labels))


def test_lists_may_say_that_they_are_in_no_order(tmp_path, caplog):
    data = load_interactions(write_npy_folder(tmp_path, in_order=[0]))
    assert "in_order" not in data[EDGE]
    assert "order" not in caplog.text


def test_adjacency_lists_promise_no_order(tmp_path):
    data = load_interactions(write_lightgcn_folder(tmp_path))
    assert "in_order" not in data[EDGE]


def test_a_pair_in_two_splits_stays_in_the_earlier(tmp_path, caplog):
    write_npy_folder(tmp_path, test_tp=[1, 1, 0])
    np.save(tmp_path / "test_list.npy", np.array([[0, 0], [0, 3], [1, 3]]))
    data = load_interactions(tmp_path)
    assert data[EDGE].test_edge_label_index.T.tolist() == [[0, 3], [1, 3]]
    assert data[EDGE].test_edge_is_noise.tolist() == [False, True]
    assert "1 duplicate pairs" in caplog.messages[0]


def test_lightgcn_folder_holds_out_a_seeded_tenth(tmp_path, caplog):
    folder = write_lightgcn_folder(tmp_path)
    data = load_interactions(folder, seed=0)
    again = load_interactions(folder, seed=0)

    # By hand: user 0 gives round(.5) = 1 of 5, user 1 gives none of 1.
    assert data[EDGE].edge_index[0].tolist() == [0, 0, 0, 0, 1]
    assert data[EDGE].val_edge_label_index[0].tolist() == [0]
    assert data[EDGE].test_edge_label_index.tolist() == [[0], [5]]
    assert torch.equal(data[EDGE].edge_index, again[EDGE].edge_index)
    assert data["user"].raw_id.tolist() == [0, 1]
    assert "no validation pairs; a tenth" in caplog.messages[0]


def save(name, array):
    return lambda folder: np.save(folder / name, array)


def put(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def labels(**arrays):
    return lambda folder: np.savez(folder / "labels.npz", **arrays)


PAIR = np.array([[0, 0]])
BAD_NPY = [
    (save("train_list.npy", -PAIR - 1), "train_list.npy: row 0: user id -1 is out of"),
    (save("test_list.npy", PAIR + 10**9), "test_list.npy: row 0: user id 1000000000"),
    (save("train_list.npy", PAIR * 1.5), "expected integers [n, 2] (got float64 [1,"),
    (save("train_list.npy", PAIR[0]), "expected integers [n, 2] (got int64 [2])"),
    (save("train_list.npy", PAIR[:0]), "no rows for train"),
    (save("test_list.npy", np.array([[0, 0]])), "no rows for test"),  # is in train
    (save("train_list.npy", np.array([[{}, 1]])), "not a plain .npy file (Array can't"),
    (put("train_list.npy", b"\x93NUMPY"), "train_list.npy: not a plain .npy file"),
    (put("train_list.npy", b"text"), "train_list.npy: not a plain .npy file"),
    (put("labels.npz", b"text"), "labels.npz: not a plain .npz file"),
    (labels(train_tp=np.ones(3, int)), "'train_tp' must have 4 values (got 3)"),
    (labels(train_tp=np.full(4, 2)), "'train_tp' must be 0 or 1"),
    (labels(train_tp=np.ones(4)), "'train_tp' must be one row of numbers"),
    (labels(train_rating=np.full(4, np.nan)), "'train_rating' must be finite"),
    (labels(train_rating=np.full(4, 1e39)), "'train_rating' must be finite"),
    (labels(user_raw=np.array([7, 7])), "must be there once (got 7 for rows 0 and 1)"),
    (labels(user_raw=np.array([-2, 0])), "once (got -2 for rows 0 and 1)"),
    (labels(user_raw=np.ones(1, int)), "1 raw ids, but ids up to 1 in the lists"),
    (labels(user_raw=np.array([{}])), "labels.npz: not a plain .npz file"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_NPY)
def test_bad_npy_folders_are_refused(tmp_path, spoil, message):
    spoil(write_npy_folder(tmp_path))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_interactions(tmp_path)
    assert "\n" not in str(error.value)


def test_a_truncated_npy_is_refused(tmp_path):
    file = write_npy_folder(tmp_path) / "train_list.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"train_list\.npy: not a plain \.npy file"):
        load_interactions(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1\n1 -2\n", "train.txt:2: '-2' is no id"),
        ("0 1\n\n1 x\n", "train.txt:3: 'x' is no id"),
        ("0 1.5\n", "train.txt:1: '1.5' is no id"),
        ("0 1_0\n", "train.txt:1: '1_0' is no id"),
        ("0 1\n0 2 99999999\n", "train.txt:2: item id 99999999 is out of range"),
        ("0 " + "9" * 30, "train.txt:1: '99999"),
        ("0\n1\n", "no rows for train"),
        ("", "train.txt: no rows"),
    ],
)
def test_bad_lightgcn_files_are_refused(tmp_path, content, message):
    write_lightgcn_folder(tmp_path).joinpath("train.txt").write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_interactions(tmp_path)


def test_missing_parts_of_a_folder_are_named(tmp_path):
    write_npy_folder(tmp_path).joinpath("test_list.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_list\.npy: no such file"):
        load_interactions(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    write_lightgcn_folder(other).joinpath("test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt: no such file"):
        load_interactions(other)


@pytest.mark.parametrize(
    "arguments",
    [{"split": False}, {"liked_from": 4}, {"time": "t"}, {"ratios": (0.8, 0.0, 0.2)}],
)
def test_a_folder_with_its_own_split_refuses_arguments_of_tables(tmp_path, arguments):
    folder = write_lightgcn_folder(tmp_path)
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"'{name}' does not apply to"):
        load_interactions(folder, **arguments)


@pytest.mark.parametrize("name", ["valid.txt", "val.txt"])
def test_validation_beside_the_lists_of_lightgcn_is_read(tmp_path, name, caplog):
    (tmp_path / "train.txt").write_text("0 0 1 2\n1 1 2 3\n")
    (tmp_path / "test.txt").write_text("0 4\n1 4\n")
    (tmp_path / name).write_text("0 3\n1 0\n")
    store = load_interactions(tmp_path)["user", "interacts", "item"]
    assert store.val_edge_label_index.T.tolist() == [[0, 3], [1, 0]]
    assert store.edge_index.size(1) == 6  # none of it is held out
    assert "no validation pairs" not in caplog.text


def test_two_validation_files_are_one_too_many(tmp_path):
    for name in ("train.txt", "test.txt", "valid.txt", "val.txt"):
        (tmp_path / name).write_text("0 1\n")
    with pytest.raises(ValueError, match=r"\(got valid.txt and val.txt\)"):
        load_interactions(tmp_path)


def test_weights_are_not_taken_for_items(tmp_path):
    (tmp_path / "test.txt").write_text("0 7 1\n1 8 1\n")
    (tmp_path / "train.txt").write_text("0 0 1\n0 5 1\n1 3 1\n1 4 1\n")
    with pytest.raises(ValueError, match=r"train.txt: every line has three numbers"):
        load_interactions(tmp_path)
    # two items of each user are no weights
    (tmp_path / "train.txt").write_text("0 0 1\n1 3 1\n2 5 6\n")
    (tmp_path / "test.txt").write_text("0 7\n1 8\n")
    assert load_interactions(tmp_path)["item"].num_nodes > 6
