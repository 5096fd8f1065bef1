"""Whatever happens to the bytes of a table, it is read as others read it, or refused.

Each seed makes a small table, writes it in one of the formats, spoils some bytes and
reads it twice: by this package and by an independent reader (the csv module, json,
plain Python, pandas' parquet). Where the package reads it, both have the same pairs.
"""

import csv
import gzip
import io
import json
import os
import random

import pytest
import torch

from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.transforms.core import EDGE

ALPHABET = ["a", "7", "07", "+7", "-0", "0", " 7", "7 ", "é", '"', "''", "a,b", "a;b"]
ALPHABET += ["x\ny", "x\r\ny", "x\ry", "a|b", "1e3", "2.0", "NA", "nan", "True", "=1+1"]
PIECES = [
    b'"',
    b'""',
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b"\t",
    b";",
    b"|",
    b"::",
    b"-",
    b"+",
]
PIECES += [b"0", b"9", b" ", b"\\", b'\\"', b"\xff", b"\0", b"\xc3\xa9", b"{", b"e"]


def table(rng):
    """Make rows of user, item and rating."""
    return [
        (
            rng.choice(ALPHABET),
            rng.choice(ALPHABET) + str(rng.randrange(3)),
            row % 5 + 1,
        )
        for row in range(rng.randint(1, 8))
    ]


def to_csv(rng, rows):
    text = io.StringIO(newline="")
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(text, delimiter=rng.choice(",;|"), quoting=quoting)
    writer.writerows([("user", "item", "rating"), *rows])
    return text.getvalue().encode()


def _joined(rows, mark, header):
    clean = [[str(field) for field in row] for row in rows]
    lines = [mark.join(row) for row in clean if not {*"\t\r\n:"} & {*"".join(row)}]
    return "\n".join([*header, *lines, ""]).encode()


def to_tsv(rng, rows):
    return _joined(rows, "\t", ["user\titem\trating"])


def to_inter(rng, rows):
    return _joined(rows, "\t", ["user_id:token\titem_id:token\trating:float"])


def to_dat(rng, rows):
    return _joined(rows, "::", [])


def to_json(rng, rows):
    names = ("user", "item", "rating")
    records = [dict(zip(names, row, strict=True)) for row in rows]
    return "".join(
        json.dumps(r, ensure_ascii=rng.random() < 0.5) + "\n" for r in records
    ).encode()


FORMATS = {
    "r.csv": to_csv,
    "r.tsv": to_tsv,
    "r.inter": to_inter,
    "r.dat": to_dat,
    "r.jsonl": to_json,
}


def spoil(rng, content):
    for _ in range(rng.randrange(4)):
        at, piece = rng.randrange(len(content) + 1), rng.choice(PIECES)
        how = rng.choice(["replace", "insert", "delete", "cut", "repeat", "swap"])
        rest = content[at:]
        if how == "replace":
            rest = piece + rest[len(piece) :]
        elif how == "insert":
            rest = piece + rest
        elif how == "delete":
            rest = rest[len(piece) :]
        elif how == "cut":
            rest = b""
        elif how == "repeat":
            rest = rest[:20] + rest
        else:
            lines = rest.splitlines(keepends=True)
            rng.shuffle(lines)
            rest = b"".join(lines)
        content = content[:at] + rest
    return content


def lines_of(content):
    text = content.decode("utf-8").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def by_csv(content):
    """Read by the csv module, as many separators as make sense of the header."""
    text = content.decode("utf-8").removeprefix("\ufeff")
    readings = []
    for mark in ",;|":
        rows = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark)
            if any(map(str.strip, row))
        ]
        readings.append(named(rows))
    return readings


def by_tabs(content):
    return [named([line.split("\t") for line in lines_of(content) if line.strip()])]


def by_colons(content):
    rows = [line.split("::") for line in lines_of(content) if line.strip()]
    return [[(row[0], row[1]) for row in rows]]


def by_json(content):
    records = [json.loads(line) for line in lines_of(content) if line.strip()]
    return [[(str(record["user"]), str(record["item"])) for record in records]]


def named(rows):
    header = [name.strip().partition(":")[0] for name in rows[0]]
    places = [
        next((header.index(name) for name in names if name in header), None)
        for names in (("user", "user_id"), ("item", "item_id"))
    ]
    if None in places:
        return None
    return [tuple(row[place] for place in places) for row in rows[1:]]


INDEPENDENT = {
    "r.csv": [by_csv, by_tabs],
    "r.tsv": [by_tabs, by_csv],
    "r.inter": [by_tabs, by_csv],
    "r.dat": [by_colons, by_tabs, by_csv],
    "r.jsonl": [by_json],
}


def readings(name, content):
    for read in INDEPENDENT[name]:
        try:
            yield from (set(pairs) for pairs in read(content) if pairs is not None)
        except (ValueError, KeyError, IndexError, csv.Error, TypeError):
            continue


def pairs_of(data):
    ids = [data[kind].raw_id for kind in ("user", "item")]
    names = [raw.tolist() if isinstance(raw, torch.Tensor) else raw for raw in ids]
    index = data[EDGE].edge_index.T.tolist()
    return {(str(names[0][user]), str(names[1][item])) for user, item in index}


def check(folder, seed):
    """Spoil and read the table of a seed; tell whether it was read."""
    rng = random.Random(seed)
    name = rng.choice([*FORMATS])
    content = spoil(rng, FORMATS[name](rng, table(rng)))
    path = folder / (name + ".gz" * (rng.random() < 0.2))
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    refused = None
    try:
        data = load_interactions(path, split=False)
    except ValueError as error:
        refused = error
    finally:
        assert os.listdir(folder) == [path.name], seed
        path.unlink()
    if refused is not None:
        assert type(refused) is ValueError, seed
        assert path.name in str(refused), (seed, str(refused))
        assert "\n" not in str(refused), (seed, str(refused))
        return False
    assert pairs_of(data) in [*readings(name, content)], (seed, content)
    return True


@pytest.mark.filterwarnings("ignore")
def test_a_spoiled_table_keeps_its_meaning_or_is_refused(tmp_path, seeds):
    read = [check(tmp_path, seed) for seed in seeds]
    assert 0 < sum(read) < len(read)  # both happen, or nothing is tested
