import pytest

from ddrm_pyg.datasets._columns import find_columns, hint_unused

COLUMNS = {"user": "user", "item": "item", "rating": None, "time": None}
USED = {"user": "user", "item": "item"}


def test_defaults_know_the_names_of_grouplens_and_recbole():
    columns = {"user": "user", "item": "item", "rating": None, "time": None}
    names = ["movieId", "user_id", "timestamp"]
    chosen, inferred = find_columns("x", names, columns)
    assert chosen == {"user": "user_id", "item": "movieId", "time": "timestamp"}
    assert inferred == ["user_id", "movieId", "timestamp"]
    named = {"user": "user_id", "item": "movieId", "rating": None, "time": None}
    assert find_columns("x", names, named)[1] == ["timestamp"]


def test_a_column_may_be_left_aside():
    names = ["user", "item", "rating", "time"]
    columns = {"user": "user", "item": "item", "rating": False, "time": None}
    chosen, inferred = find_columns("x", names, columns)
    assert chosen == {"user": "user", "item": "item", "time": "time"}
    assert inferred == ["time"]


def test_a_column_that_is_not_there_names_the_option_that_would_name_it():
    with pytest.raises(ValueError, match="'usr'") as error:
        find_columns("x:1", ["usr", "item"], {"user": "user"})
    assert str(error.value) == (
        "x:1: no column 'user' (there are 'usr', 'item'; did you mean 'usr'?); "
        "--user, in Python user=, names the column to use"
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bought_at", ["1532110298", "1532110299"]),
        ("boughtAt", [1532110298, 962334000]),
        ("ts", [1532110298123]),
        ("eventTimestamp", [1.5321102e9]),
        ("session_date", ["2018-07-07T22:09:11Z"]),
        ("Datum", ["2018-07-07", "2018-12-01"]),
        ("unix_ms", [1532110298123]),
    ],
)
def test_a_column_like_times_is_pointed_out(name, values):
    samples = {"user": [1], "item": [2], name: values}
    assert hint_unused(samples, USED, COLUMNS) == [
        f"{name!r} looks like times: with --time {name}, in Python time=, DDRM learns "
        "what comes next"
    ]
    for columns in (COLUMNS | {"time": False}, COLUMNS):
        used = USED | ({"time": "when"} if columns is COLUMNS else {})
        assert hint_unused(samples, used, columns) == []


@pytest.mark.parametrize("name", ["rating", "Stars", "review_score", "userRating"])
def test_a_column_like_ratings_is_pointed_out(name):
    samples = {"user": [1], "item": [2], name: ["4", "2.5"]}
    assert hint_unused(samples, USED, COLUMNS) == [
        f"{name!r} looks like ratings: with --rating {name} and --liked-from, in "
        "Python rating= and liked_from=, low ones count as noise"
    ]
    assert hint_unused(samples, USED, COLUMNS | {"rating": False}) == []
    assert hint_unused(samples, USED | {"rating": name}, COLUMNS) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("customer", [1532110298]),  # numbers alone may be ids
        ("watch_time", [125, 3600]),  # how long, not when
        ("price", ["07/07/2018"]),
        ("release_date", ["07/07/2018"]),
        (7, ["a"]),
        ("birthDate", ["1990-01-01"]),
        ("release_date", ["1990-01-01"]),
        ("time", []),
        ("stars", [5, 5]),
        ("score", [12345, 3]),
        ("score", [0.6931, 0.25]),  # a model's
        ("rating", ["good", "bad"]),
        ("karate", [1, 2]),
    ],
)
def test_other_columns_are_not(name, values):
    assert hint_unused({"user": [1], "item": [2], name: values}, USED, COLUMNS) == []


@pytest.mark.parametrize("value", ["12/1/2010 8:26", "1.12.2010", "2010/12/1"])
def test_dates_that_would_be_refused_are_pointed_out_with_what_to_write(value):
    samples = {"user": [1], "item": [2], "InvoiceDate": [value]}
    assert hint_unused(samples, USED, COLUMNS) == [
        "'InvoiceDate' looks like times that are not read: written as 2018-07-31 22:09 "
        "and named by --time, in Python time=, DDRM learns what comes next"
    ]


def test_of_several_columns_the_first_is_named():
    samples = {"seen_at": ["2018-07-07"], "sold_at": ["2018-07-07"], "stars": [1, 2]}
    hints = hint_unused(samples, USED, COLUMNS)
    assert [hint.split()[0] for hint in hints] == ["'seen_at'", "'stars'"]


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (["N55189 N42782", "", "N42782 N45794 N1"], "'N55189 N42782'"),
        (["1,2", "3"], None),  # not most of them
        (["1|2|3", "2;3"], "'1|2|3'"),
        (["1," * 5000 + "1 x"], None),
        (["Toy Story 2", "Die Hard 2"], None),
        (["B00 ", "x1"], None),
        ([" ".join(["N1"] * 20), "N1 N2"], f"'{'N1 ' * 12}N...'"),
    ],
)
def test_lists_in_a_cell_are_pointed_out(cells, shown):
    hints = hint_unused({"user": cells, "item": cells}, USED, COLUMNS)
    assert hints == (
        [
            f"'item' holds several ids in a cell ({shown}), each cell is read as one "
            "id: write a row for each"
        ]
        if shown
        else []
    )
