"""Whatever happens to the bytes of a binary or a list, it is read as others read it.

As ``test_mutations.py`` does for tables of text: parquet is read again by pyarrow,
NumPy's formats by a parser of a few lines that wants every byte accounted for, and
LightGCN's lists by plain Python.
"""

import ast
import io
import random
import zipfile

import numpy as np
import pytest
import torch

from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.transforms.core import EDGE

INTEGERS = ["<i8", "<i4", ">i8", "<u8", "|u1", "<i2"]
PIECES = [b"\0", b"\xff", b"\x80", b"\1", b"0", b"9", b" ", b"\n", b"-", b"\0" * 8]
PIECES += [b"(", b",", b"'", b"True", b"|O", b"<f8", b"PK\3\4", b"\x93NUMPY", b"PAR1"]


def spoil(rng, content):
    for _ in range(rng.randrange(4)):
        at, piece = rng.randrange(len(content) + 1), rng.choice(PIECES)
        how = rng.choice(["replace", "replace", "flip", "insert", "delete", "cut"])
        rest = content[at:]
        if how == "replace":
            rest = piece + rest[len(piece) :]
        elif how == "flip":
            rest = bytes(byte ^ 1 << rng.randrange(8) for byte in rest[:1]) + rest[1:]
        elif how == "insert":
            rest = piece + rest
        elif how == "delete":
            rest = rest[len(piece) :]
        else:
            rest = b""
        content = content[:at] + rest
    return content


# NumPy's formats, by their specification


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def npz(rng, arrays):
    file = io.BytesIO()
    how = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", spoil_seldom(rng, npy(array)))
    return file.getvalue()


def spoil_seldom(rng, content):
    """Spoil what lies inside an archive, whose checksum is then right."""
    return spoil(rng, content) if rng.random() < 0.1 else content


def from_npy(content):
    assert content[:6] == b"\x93NUMPY"
    width = {1: 2, 2: 4}[content[6]]
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    header = ast.literal_eval(content[8 + width : start].decode("latin-1").strip())
    values = np.frombuffer(content[start:], np.dtype(header["descr"]))
    order = "F" if header["fortran_order"] else "C"
    assert values.size == np.prod(header["shape"], dtype=object)
    return values.reshape(header["shape"], order=order)


def from_npz(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            name.removesuffix(".npy"): from_npy(archive.read(name))
            for name in archive.namelist()
        }


# Each format: what to write, and what is in it


def write_parquet(rng):
    arrow, parquet = (
        pytest.importorskip("pyarrow"),
        pytest.importorskip("pyarrow.parquet"),
    )
    rows = rng.randint(1, 8)
    ids = rng.choice([[7, 70, -3, 2**62], ["7", "07", "+7", " 7", "é"]])
    columns = {
        name: arrow.array([rng.choice(ids) for _ in range(rows)])
        for name in ("user", "item")
    }
    if rng.random() < 0.3:
        columns["item"] = columns["item"].dictionary_encode()
    columns["rating"] = arrow.array([row % 5 + 1.0 for row in range(rows)])
    file = io.BytesIO()
    packing = rng.choice(["none", "snappy", "gzip"])
    parquet.write_table(arrow.table(columns), file, compression=packing)
    return {"r.parquet": file.getvalue()}


def by_pyarrow(files):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.ParquetFile(io.BytesIO(files["r.parquet"])).read(["user", "item"])
    pairs = zip(
        *(table.column(name).to_pylist() for name in ("user", "item")), strict=True
    )
    return {"train": {(str(user), str(item)) for user, item in pairs}}


def pairs_of_lists(rng, rows):
    return [(rng.randrange(4), rng.randrange(5)) for _ in range(rows)]


def write_lists(rng):
    files, labels = {}, {}
    for split in ("train", "valid", "test")[:: rng.choice([1, 1, 2])]:
        pairs = np.array(pairs_of_lists(rng, rng.randint(1, 6)), rng.choice(INTEGERS))
        order = rng.choice("CF")
        files[f"{split}_list.npy"] = npy(np.asarray(pairs, order=order))
        labels[f"{split}_tp"] = np.array([rng.randrange(2) for _ in pairs])
        labels[f"{split}_pos"] = np.arange(len(pairs), dtype=rng.choice(INTEGERS))
    labels["user_raw"] = np.array([31, 32, 33, 34], rng.choice(INTEGERS))
    labels["movie_raw"] = np.array([9, 8, 7, 6, 5], rng.choice(INTEGERS))
    if rng.random() < 0.1:  # one that int64 cannot hold
        key = rng.choice([*labels])
        labels[key] = labels[key].astype("<u8")
        labels[key][0] = 2**63 + rng.randrange(9)
    if rng.random() < 0.7:
        files["labels.npz"] = npz(rng, labels)
    return files


def by_numpy(files):
    labels = from_npz(files["labels.npz"]) if "labels.npz" in files else {}
    splits = {}
    for split in ("train", "valid", "test"):
        if f"{split}_list.npy" in files:
            pairs = from_npy(files[f"{split}_list.npy"]).tolist()
            columns = [labels.get(f"{split}_{key}") for key in ("tp", "pos")]
            values = [[None] * len(pairs) if v is None else v.tolist() for v in columns]
            assert all(len(v) == len(pairs) for v in values)
            splits[split] = [(*p, *v) for p, *v in zip(pairs, *values, strict=True)]
    return named(splits, labels.get("user_raw"), labels.get("movie_raw"))


def write_lightgcn(rng):
    files = {}
    for name in ("train.txt", "test.txt", "valid.txt")[: rng.choice([2, 3])]:
        lines = {}
        for user, item in pairs_of_lists(rng, rng.randint(1, 8)):
            lines.setdefault(user, [user]).append(item)
        text = "".join(" ".join(map(str, line)) + "\n" for line in lines.values())
        files[name] = text.encode()
    return files


def by_python(files):
    splits = {}
    for name, split in (("train", "train"), ("valid", "valid"), ("test", "test")):
        if f"{name}.txt" in files:
            text = files[f"{name}.txt"].decode().removeprefix("\ufeff")
            lines = [[int(token) for token in line.split()] for line in lines_of(text)]
            splits[split] = [
                (line[0], item, None, None) for line in lines for item in line[1:]
            ]
    return named(splits, None, None)


def lines_of(text):
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


def named(splits, users, items):
    """Give pairs their ids; of a pair that is there twice, the first or earliest."""
    events = [(split, *event) for split, rows in splits.items() for event in rows]
    if all(event[-1] is not None for event in events):
        events = [e for s in splits for e in sorted_by_time(events, s)]
    kept = {}
    for split, user, item, tp, time in events:
        kept.setdefault((user, item), (split, tp, time))
    result = {split: set() for split in splits}
    for (user, item), (split, tp, time) in kept.items():
        ids = (name(users, user), name(items, item))
        result[split].add((*ids, tp, time))
    return result


def sorted_by_time(events, split):
    return sorted((e for e in events if e[0] == split), key=lambda e: e[-1])


def name(raw, row):
    if raw is None:
        return str(row)
    return str(int(raw[row]) or -1 - row)


def write_tables(rng):
    kinds = ["<f4", "<f8", ">f4", "<f2"]
    tables = {
        key: np.arange(6.0).reshape(3, 2).astype(rng.choice(kinds)) + 1
        for key in ("user", "item")
    }
    return {"t.npz": npz(rng, tables)}


FORMATS = [
    (write_parquet, by_pyarrow),
    (write_lists, by_numpy),
    (write_lightgcn, by_python),
    (write_tables, lambda files: from_npz(files["t.npz"])),
]


def read_by_us(folder, files):
    if "t.npz" in files:
        tables = Embeddings.load(folder / "t.npz")
        return {key: getattr(tables, key).numpy() for key in ("user", "item")}
    if "r.parquet" in files:
        data = load_interactions(folder / "r.parquet", split=False)
        return {"train": {event[:2] for event in events_of(data, "")}}
    data = load_interactions(folder)
    prefixes = {"train": "", "valid": "val_", "test": "test_"}
    return {split: events_of(data, prefix) for split, prefix in prefixes.items()}


def events_of(data, prefix):
    block = data[EDGE]
    index = block[f"{prefix}edge_label_index" if prefix else "edge_index"].T.tolist()
    ids = [data[kind].raw_id for kind in ("user", "item")]
    names = [raw.tolist() if isinstance(raw, torch.Tensor) else raw for raw in ids]
    labels = []
    for key in ("edge_is_noise", "edge_time"):
        has = prefix + key in block
        labels.append(block[prefix + key].tolist() if has else [None] * len(index))
    return {
        (
            str(names[0][u]),
            str(names[1][i]),
            None if bad is None else int(not bad),
            time,
        )
        for (u, i), bad, time in zip(index, *labels, strict=True)
    }


def agree(ours, theirs):
    if "user" in theirs:
        return all(
            np.array_equal(ours[key], theirs[key].astype(ours[key].dtype))
            for key in ("user", "item")
        )
    if {*ours} - {*theirs}:  # no validation pairs: some of train are held out
        ours = {"train": ours["train"] | ours["valid"], "test": ours["test"]}
    return ours == theirs


def check(folder, seed):
    """Spoil and read the files of a seed; tell whether they were read."""
    rng = random.Random(seed)
    write, independent = rng.choice(FORMATS)
    files = write(rng)
    for name in files:
        if rng.random() < 1 / len(files):
            files[name] = spoil(rng, files[name])
        (folder / name).write_bytes(files[name])
    refused = ours = None
    try:
        ours = read_by_us(folder, files)
    except (ValueError, OSError, MemoryError) as error:
        refused = error
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    assert left == files, seed
    if refused is not None:
        names = [*files, folder.name]
        assert any(name in str(refused) for name in names), (seed, repr(refused))
        assert "\n" not in str(refused), (seed, str(refused))
        assert "pickle" not in str(refused), (seed, str(refused))
        assert type(refused) in (ValueError, OSError, MemoryError), (seed, refused)
        return False
    theirs = independent(files)
    assert agree(ours, theirs), (seed, write.__name__, ours, theirs, files)
    return True


@pytest.mark.filterwarnings("ignore")
def test_a_spoiled_file_keeps_its_meaning_or_is_refused(tmp_path, seeds):
    read = [check(tmp_path, seed) for seed in seeds]
    assert 0 < sum(read) < len(read)  # both happen, or nothing is tested
