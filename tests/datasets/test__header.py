import gzip
import sys

import pandas as pd
import pytest

from ddrm_pyg.datasets._header import check_columns, kind_of, read_header
from ddrm_pyg.datasets.readers import load_interactions

COLUMNS = {"user": "u", "item": "i", "rating": None, "time": None}


@pytest.fixture
def written(tmp_path):
    """Write a file by its name and text, the latter packed where it is called so."""

    def write(name, text):
        path = tmp_path / name
        content = text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def test_a_header_tells_how_the_rows_are_cut(written):
    header = read_header(written("r.csv", 'sep=;\n\n"a";"b;c"\n1;2\n\n"x\ny";4\n'))
    assert (header.where, header.line) == ("r.csv:3", 3)
    assert (header.separator, header.dialect.quoted) == (";", True)
    assert header.names == ["a", "b;c"]
    assert header.rows == [["1", "2"], ["x\ny", "4"]]
    assert header.samples == {"a": ["1", "x\ny"], "b;c": ["2", "4"]}


def test_a_few_rows_are_enough_to_look_at(written):
    rows = "".join(f"{n},{n}\n" for n in range(1000))
    header = read_header(written("r.csv.gz", f"a,b\n1\n{rows}"))
    assert len(header.rows) == 20
    assert header.samples["b"] == [*map(str, range(19))]  # of whole rows


def test_columns_of_grouplens_are_known_by_their_places(written):
    header = read_header(written("ratings.dat", "1::2::5::978300760\n"))
    assert not header.is_written
    assert header.samples["time"] == ["978300760"]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("r.csv", "a,b\n", "text"),
        ("r.dat", "1::2\n", "text"),
        ("r.csv", ' {"a": 1}\n', "json"),
        ("r.JSONL.gz", "", "json"),
        ("r.csv", "PAR1", "parquet"),
        ("r.parquet", "", "parquet"),
    ],
)
def test_a_kind_is_told_by_the_content(written, name, text, kind):
    assert kind_of(written(name, text), None) == kind


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.csv", "u,j\n1,2\n", "r.csv:1: no column 'i' (there are 'u', 'j'"),
        ("r.csv.gz", "\nu,j\n1,2\n", "r.csv.gz:2: no column 'i'"),
        ("r.jsonl", '\n{"u": 1, "j": 2}\n', "r.jsonl:2: no column 'i'"),
        ("r.jsonl", "\n", "r.jsonl: no rows"),
        ("r.jsonl", "{u}\n", "r.jsonl:1: does not parse"),
        ("r.csv", "1,2\n", "r.csv:1: no header"),
        ("r.csv", "", "r.csv: no rows"),
        ("r.xlsx", "u,i\n", "r.xlsx: no reader for '.xlsx'"),
        ("ratings.dat", "1::2\n", "ratings.dat:1: no column names to choose 'u' from"),
    ],
)
def test_what_is_refused_before_reading_is_what_reading_refuses(
    written, name, text, message
):
    path = written(name, text)
    with pytest.raises(ValueError, match=r".") as early:
        check_columns(path, COLUMNS)
    assert message in str(early.value)
    with pytest.raises(ValueError, match=r".") as late:
        load_interactions(path, user="u", item="i")
    assert str(late.value) == str(early.value)


def test_columns_of_parquet_are_checked_without_reading_them(tmp_path):
    pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    path = tmp_path / "r.parquet"
    pd.DataFrame({"u": [1], "j": [2]}).to_parquet(path)
    check_columns(path, COLUMNS | {"item": "j"})
    with pytest.raises(ValueError, match=r"^r\.parquet: no column 'i'"):
        check_columns(path, COLUMNS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"^r\.parquet: not a whole parquet file"):
        check_columns(path, COLUMNS)


def test_parquet_without_pyarrow_names_the_extra(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'ddrm_pyg\[parquet\]'"):
        check_columns(written("r.parquet", "PAR1"), COLUMNS)


def test_columns_that_are_there_pass(written):
    check_columns(written("r.csv", "u;i;when\n1;2;3\n"), COLUMNS)
    check_columns(written("r.jsonl", '{"u": 1, "i": 2}\n'), COLUMNS)
