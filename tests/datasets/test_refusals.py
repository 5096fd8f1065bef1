"""Whatever is wrong with a file, the answer is one line that names it.

2,400 inputs made by hypothesis: bytes spoiled anywhere, and faults planted where the
message is known.
"""

import gzip
import hashlib
import json
import logging
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddrm_pyg.cli import main
from ddrm_pyg.datasets import (
    AmazonBook,
    MovieLens1M,
    Yelp,
    load_interactions,
    save_interactions,
)
from ddrm_pyg.transforms.core import EDGE

pytestmark = pytest.mark.filterwarnings("ignore")


def examples(number):
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Valid files, one of each format; what a test spoils it puts back."""
    folder = tmp_path_factory.mktemp("fuzz")
    table = folder / "r.csv"
    table.write_text(
        "user,item,rating,time\n"
        + "".join(
            f'{u},"i{i}",{1 + i % 5},{10 * i + u}\n' for u in range(3) for i in range(5)
        )
    )
    unsplit = load_interactions(table, split=False)
    for name in ("r.tsv.gz", "r.inter", "r.jsonl", "r.jsonl.gz"):
        save_interactions(unsplit, folder / name)
    split = load_interactions(table, liked_from=2)
    split["user"].raw_id += 5
    for layout in ("npy", "lightgcn"):
        save_interactions(split, folder / layout, layout=layout)
    folder.joinpath("ratings.dat").write_text(
        "".join(f"{u}::{i}::{1 + i % 5}::{i}\n" for u in range(3) for i in range(5))
    )
    try:
        save_interactions(unsplit, folder / "r.parquet")
    except ImportError:  # the other formats are checked without it
        folder.joinpath("r.parquet").write_bytes(b"PAR1")
    return folder


FILES = [
    "r.csv",
    "r.tsv.gz",
    "r.inter",
    "r.jsonl",
    "r.jsonl.gz",
    "r.parquet",
    "ratings.dat",
    "npy/train_list.npy",
    "npy/labels.npz",
    "lightgcn/train.txt",
]
PIECE = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from([b'"', b"\n", b"\r", b",", b"\t", b"::", b"-", b"0", b"9", b"e"]),
)
MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["replace", "insert", "delete", "cut", "repeat"]),
        PIECE,
    ),
    min_size=1,
    max_size=4,
)


def mutate(content, mutations):
    for where, how, piece in mutations:
        at = int(where * len(content))
        if how == "replace":
            content = content[:at] + piece + content[at + len(piece) :]
        elif how == "insert":
            content = content[:at] + piece + content[at:]
        elif how == "delete":
            content = content[:at] + content[at + len(piece) :]
        elif how == "cut":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + 30] + content[at:]
    return content


def attempt(function, *arguments, **options):
    """Return what comes out, or the message of a refusal; no other error passes."""
    try:
        return function(*arguments, **options), ""
    except (ValueError, FileNotFoundError) as error:
        if type(error) not in (ValueError, FileNotFoundError):
            raise
        return None, str(error)


def skip_without_pyarrow(name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")


@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file_gives_a_graph_or_a_refusal(folder, name):
    skip_without_pyarrow(name)
    path = folder / name
    valid = path.read_bytes()
    source = path if path.parent == folder else path.parent

    @examples(100)
    @given(MUTATIONS)
    def check(mutations):
        path.write_bytes(mutate(valid, mutations))
        before = sorted(os.listdir(folder))
        data, refused = attempt(load_interactions, source)
        if data is None:
            assert "\n" not in refused
            assert path.name in refused or source.name in refused
        else:
            index = data[EDGE].edge_index
            assert index.size(1) > 0
            assert int(index.min()) >= 0
            assert int(index[0].max()) < data["user"].num_nodes
            assert int(index[1].max()) < data["item"].num_nodes
        assert sorted(os.listdir(folder)) == before

    try:
        check()
    finally:
        path.write_bytes(valid)


# Faults with a known place and rule

WORD = st.text("abcdfghxyz", min_size=1, max_size=6)
DELIMITERS = {"r.csv": ",", "r.tsv": "\t", "r.inter": "\t", "ratings.dat": "::"}
HEADERS = {
    "r.csv": "user,item,rating,time",
    "r.tsv": "user\titem\trating\ttime",
    "r.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float",
}
NO_TIME = st.sampled_from(["12:30", "2018-13-01", "01/02/2018", "now", "1e400", "NaT"])


def rows_of(num_rows):
    return [[str(row % 3), f"i{row}", "4", str(row)] for row in range(num_rows)]


def refusal(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=path.name) as error:
        load_interactions(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", DELIMITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_row_of_a_table_is_named(tmp_path, name, packed):
    path = tmp_path / (name + ".gz" * packed)

    @examples(60)
    @given(
        num_rows=st.integers(1, 30),
        at=st.floats(0, 0.999),
        blank=st.integers(0, 2),
        fault=st.one_of(
            st.tuples(st.just("rating"), WORD),
            st.tuples(st.just("time"), st.one_of(WORD, NO_TIME)),
            st.tuples(st.just("mixed"), st.sampled_from([",", "\t", "|", ";", " "])),
            st.tuples(st.just("user"), st.sampled_from(["", " "])),
            st.tuples(st.just("encoding"), st.just("")),
            st.tuples(st.just("zero"), st.just("")),
        ),
    )
    def check(num_rows, at, blank, fault):
        rows, row = rows_of(num_rows), int(at * num_rows)
        kind, value = fault
        delimiter = DELIMITERS[name]
        if kind in ("user", "rating", "time"):
            rows[row][("user", "item", "rating", "time").index(kind)] = value
            rule = f" is {value!r}, expected"
        lines = [delimiter.join(fields) for fields in rows]
        if kind == "mixed":
            if value == delimiter:
                return
            if name == "ratings.dat" and num_rows < 3:
                return  # which rows are odd only others tell
            lines[row] = value.join(rows[row])
            rule = f"{lines[row].count(delimiter) + 1} fields, expected 4"
            if name == "ratings.dat" and value == "\t":
                rule = "a tab, expected '::'"
        lines[row:row] = [""] * blank
        line = row + blank + 1
        if name in HEADERS:
            lines.insert(0, HEADERS[name])
            line += 1
        content = [text.encode() for text in lines]
        if kind == "encoding":
            content[line - 1] = b"\xff" + content[line - 1]
            rule = "not utf-8 text"
        if kind == "zero":
            content[line - 1] = b"\0" + content[line - 1]
            rule = "not a text file (it has zero bytes;"
        whole = b"\n".join(content)
        message = refusal(path, gzip.compress(whole) if packed else whole)
        assert message.startswith(f"{path.name}:{line}: ")
        assert rule in message

    check()


@examples(240)
@given(
    num_rows=st.integers(1, 20),
    at=st.floats(0, 0.999),
    fault=st.one_of(
        st.tuples(st.just("cut"), st.integers(1, 40)),
        st.tuples(st.just("absent"), st.sampled_from(["rating", "user", "time"])),
        st.tuples(st.just("rating"), st.one_of(WORD, st.none(), st.booleans())),
        st.tuples(st.just("time"), st.one_of(WORD, NO_TIME, st.none(), st.just([]))),
        st.tuples(st.just("item"), st.one_of(st.floats(), st.none(), st.just({}))),
        st.tuples(st.just("record"), st.sampled_from(["[]", "1", '"a"', "null"])),
    ),
)
def test_a_bad_json_line_is_named(tmp_path_factory, num_rows, at, fault):
    path = tmp_path_factory.mktemp("json") / "r.json"
    keys = ("user", "item", "rating", "time")
    records = [
        {"user": u, "item": i, "rating": float(r), "time": int(t)}
        for u, i, r, t in rows_of(num_rows + 1)
    ]
    row = 1 + int(at * num_rows)  # the first record tells the columns
    kind, value = fault
    if kind in keys:
        records[row][kind] = value
    if kind == "absent":
        del records[row][value]
    lines = [json.dumps(record) for record in records]
    if kind == "cut":
        lines[row] = lines[row][:-value]
    if kind == "record":
        lines[row] = value
    rule = {
        "cut": "does not parse, expected one JSON object per line",
        "absent": f"no column {value!r}",
        "record": "expected a JSON object",
    }
    if (kind == "item" and value in (float("inf"), -float("inf"))) or value != value:
        rule["item"] = "does not parse"  # JSON has no such numbers
    message = refusal(path, "\n".join(lines).encode())
    assert message.startswith(f"r.json:{row + 1}: ")
    assert rule.get(kind, f"column {kind!r} is {str(value)!r}, expected") in message


@examples(100)
@given(at=st.floats(0, 1, exclude_max=True), name=st.sampled_from(["r.csv", "r.jsonl"]))
def test_a_truncated_archive_is_named(tmp_path_factory, folder, at, name):
    path = tmp_path_factory.mktemp("gz") / f"{name}.gz"
    whole = gzip.compress((folder / name).read_bytes())
    message = refusal(path, whole[: int(at * len(whole))])
    assert message.startswith(
        (f"{path.name}: cannot be read after", f"{path.name}: no")
    )


OUTSIDE = st.one_of(
    st.floats(max_value=0, exclude_max=True),
    st.floats(min_value=1),
    st.just(float("nan")),
)


@examples(100)
@given(ratio=OUTSIDE, at=st.integers(0, 2))
def test_shares_outside_their_range_are_refused(tmp_path_factory, folder, ratio, at):
    ratios = [0.7, 0.1, 0.2]
    ratios[at] = ratio
    with pytest.raises(ValueError, match="'ratios' must"):
        load_interactions(folder / "r.csv", ratios=ratios)
    root = tmp_path_factory.mktemp("root")
    with pytest.raises(ValueError, match=r"'ratio' must lie in \[0, 1\) \(got "):
        Yelp(root, noise="random", noise_ratio=ratio)
    assert list(root.iterdir()) == []


# Data sets: nothing half-written remains


def place(root, dataset, name, content):
    path = root / dataset.name / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def review(user, item):
    return {
        "user_id": f"u{user}",
        "business_id": f"b{item}",
        "stars": 5.0,
        "date": f"2018-07-07 22:09:{item:02}",
    }


REVIEWS = "".join(
    json.dumps(review(u, i)) + "\n" for u in range(10) for i in range(10)
).encode()
RATINGS = "".join(
    f"A{u}READER,{i:010},5.0,{i}\n" for u in range(10) for i in range(10)
).encode()


@pytest.mark.parametrize(
    ("dataset", "name", "content"),
    [
        (Yelp, "yelp_academic_dataset_review.json", REVIEWS),
        (Yelp, "yelp_academic_dataset_review.json.gz", gzip.compress(REVIEWS, mtime=0)),
        (AmazonBook, "ratings_Books.csv", RATINGS),
        (AmazonBook, "Books.csv.gz", gzip.compress(RATINGS, mtime=0)),
    ],
)
def test_a_spoiled_data_set_is_whole_or_absent(
    tmp_path_factory, dataset, name, content
):
    @examples(60)
    @given(MUTATIONS)
    def check(mutations):
        root = tmp_path_factory.mktemp("root")
        place(root, dataset, name, mutate(content, mutations))
        processed = root / dataset.name / "processed"
        data, refused = attempt(dataset, root, noise="clean")
        if data is None:
            assert name in refused
            assert "\n" not in refused
            assert not processed.exists()
        else:
            assert len(os.listdir(processed)) == 1

    check()


@examples(60)
@given(users=st.integers(1, 9), items=st.integers(1, 30))
def test_a_core_that_leaves_nothing_is_refused(tmp_path_factory, users, items):
    root = tmp_path_factory.mktemp("root")
    rows = [review(u, i) for u in range(users) for i in range(items)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = place(root, Yelp, "yelp_academic_dataset_review.json", content)
    with pytest.raises(
        ValueError, match=r"KCore\(k=10\) leaves no interactions"
    ) as error:
        Yelp(root)
    assert str(path) in str(error.value)
    assert not (root / "yelp" / "processed").exists()


UP = st.lists(st.sampled_from(["..", "ml-1m", "a"]), min_size=1, max_size=6)


@examples(60)
@given(parts=UP, root_of_disk=st.booleans(), first=st.booleans())
def test_an_archive_member_outside_its_target_is_refused(
    tmp_path_factory, monkeypatch, parts, root_of_disk, first
):
    name = "/" * root_of_disk + "/".join([*parts, "evil"])
    raw = Path("/r")
    if Path(os.path.normpath(raw / name)).is_relative_to(raw):
        return
    root = tmp_path_factory.mktemp("root")
    archive = root / "ml-1m" / "raw" / "ml-1m.zip"
    archive.parent.mkdir(parents=True)
    members = [("ml-1m/ratings.dat", "1::2::5::3\n"), (name, "x")]
    with zipfile.ZipFile(archive, "w") as file:
        for member, content in members[:: -1 if first else 1]:
            file.writestr(member, content)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(MovieLens1M, "sha256", digest)
    with pytest.raises(ValueError, match=r"ml-1m\.zip: member .*would land outside"):
        MovieLens1M(root)
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["ml-1m.zip"]


@examples(60)
@given(st.binary(max_size=200))
def test_another_checksum_is_refused(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("root")
    place(root, MovieLens1M, "ml-1m.zip", content)
    digest = hashlib.sha256(content).hexdigest()
    message = (
        rf"ml-1m\.zip: sha256 must be a6898.* \(got {digest}, {len(content)} bytes\)"
    )
    with pytest.raises(ValueError, match=message):
        MovieLens1M(root)
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["ml-1m.zip"]


# The command line


@pytest.mark.parametrize("name", FILES)
def test_commands_end_in_one_line_without_a_traceback(folder, capsys, name):
    skip_without_pyarrow(name)
    path = folder / name
    valid = path.read_bytes()
    source = path if path.parent == folder else path.parent
    handlers = logging.getLogger().handlers[:]

    @examples(12)
    @given(MUTATIONS)
    def check(mutations):
        path.write_bytes(mutate(valid, mutations))
        code = main(["data", "convert", str(source), "--out", str(folder / "out.csv")])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        if code:
            assert code == 2
            assert err.count("\n") == 1
            assert err.startswith("ddrm-pyg: error: ")
            assert out == ""
            assert not (folder / "out.csv").exists()
        else:
            (folder / "out.csv").unlink()

    try:
        check()
    finally:
        path.write_bytes(valid)
        logging.getLogger().handlers[:] = handlers
