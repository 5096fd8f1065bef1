import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets._dialect import LITERAL, Dialect

CSV = Dialect(",", quoted=True)
TEXT = st.text('ab,"\r\n', max_size=12).map(str.encode)


def test_fields_lines_and_ends_by_hand():
    rows = b'1,"a\nb",5" x\n\n2,"say ""hi""", "c"\n'
    assert [*CSV.records(rows, first_line=7)] == [
        (7, 13, ["1", "a\nb", '5" x']),
        (10, 34, ["2", 'say "hi"', ' "c"']),
    ]
    assert CSV.count_rows(rows, 3) == 2
    assert CSV.count_rows(rows, 2) is None
    assert CSV.count_rows(b"\n\n1,2,3\n4,5\n", 3) is None
    assert [record.fields for record in LITERAL.records(b'"a\t"\n')] == [['"a', '"']]


@pytest.mark.parametrize(
    ("text", "end", "spoiled"),
    [
        (b"a,b\nc", 4, None),
        (b'a,"b\nc"\nd', 8, None),
        (b'a,"b\nc\nd', 0, None),
        (b'x\na,"b ""\nc', 2, None),
        (b'x\na,"say \\"hi\\"",b\n', 2, 4),
        (b'5" disk,b\n"c\n', 10, None),
        (b"a\rb\r", 2, None),
    ],
)
def test_where_rows_end_and_quotes_are_spoiled(text, end, spoiled):
    assert CSV.end_of_rows(text) == end
    assert CSV.spoiled_quotes(text) == spoiled


@given(TEXT)
def test_rows_that_end_are_those_of_the_csv_module(text):
    if CSV.spoiled_quotes(text) is not None:
        return
    rows = CSV.with_newlines(text[: CSV.end_of_rows(text)])
    lines = io.StringIO(rows.decode(), newline="\n")
    expected = [fields for fields in csv.reader(lines) if fields]
    records = [*CSV.records(rows)]
    assert [record.fields for record in records] == expected
    for size in (2, 3):
        fit = all(len(fields) == size for fields in expected)
        assert CSV.count_rows(rows, size) == (len(expected) if fit else None)
    assert [rows[: record.end].count(b"\n") for record in records[:-1]] <= [
        record.line - 1 for record in records[1:]
    ]


@given(st.lists(st.lists(st.text('ab,"\r\n', min_size=1), min_size=2), min_size=1))
def test_what_the_csv_module_writes_comes_back(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    content = text.getvalue().encode()
    assert CSV.end_of_rows(content) == len(content)
    records = CSV.records(CSV.with_newlines(content))
    assert [record.fields for record in records] == rows
