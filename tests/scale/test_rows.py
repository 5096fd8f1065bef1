"""Tables are read as they stand, beside what ``test_ingest`` compares as a whole."""

from __future__ import annotations

import pytest

from ddrm_pyg.scale.rows import quoted, read_tables


def read(tmp_path, text, **columns):
    path = tmp_path / "a.csv"
    path.write_text(text)
    columns = {"user": "user", "item": "item", **columns}
    with read_tables([path], columns, tmp_path / "spill", "100MB") as database:
        return database.execute("SELECT * FROM raw ORDER BY place").fetchall()


def test_columns_that_are_not_asked_for_are_not_read(tmp_path):
    rows = read(tmp_path, "user,item,time,rating\na,b,noon,good\n")
    assert rows == [(1, "a", None, "b", None, None, None, None, None)]


def test_times_and_ratings(tmp_path):
    text = "user,item,time,rating\na,b,-1.5,4\na,c,7, 3.5\n"
    rows = read(tmp_path, text, time="time", rating="rating")
    assert [row[5:] for row in rows] == [(-2, 0.5, False, 4.0), (7, 0.0, False, 3.5)]


def test_dates_are_seconds_and_what_is_finer(tmp_path):
    text = "user,item,time\na,b,1970-01-02T01:02:03.25+01:00\na,c,1969-12-31 23:59\n"
    rows = read(tmp_path, text, time="time")
    assert [row[5:8] for row in rows] == [(86_523, 0.25, True), (-60, 0.0, True)]


def test_dates_beside_numbers_are_refused(tmp_path):
    text = "user,item,time\na,b,1970-01-02\na,c,7\n"
    with pytest.raises(ValueError, match="must be all dates or all numbers"):
        read(tmp_path, text, time="time")


@pytest.mark.parametrize("value", ["good", "", "nan", "inf", "1e39"])
def test_ratings_that_are_none_are_refused(tmp_path, value):
    text = f"user,item,rating\na,b,{value}\n"
    with pytest.raises(ValueError, match=r"'rating' must hold a number .*\(1 do not"):
        read(tmp_path, text, rating="rating")


def test_folders_are_no_tables(tmp_path):
    with (
        pytest.raises(ValueError, match=r"must be a table, not a folder .*run --data"),
        read_tables([tmp_path], {}, tmp_path / "spill", "100MB"),
    ):
        pass


def test_texts_in_sql():
    assert quoted("it's") == "'it''s'"
