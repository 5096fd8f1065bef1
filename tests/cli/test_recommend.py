"""Lists for known users, and for new ones by their history."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from ddrm_pyg.cli import main

OWN = [f'book "{2 * i}"' for i in range(3)]
"""What a new user of the even colour has."""


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def write_history(path, rows, header=("Customer", "Book")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def history(tmp_path):
    rows = [("zoe", book) for book in OWN]
    rows += [("zoe", "unheard of"), ("yan", "unheard of")]
    return write_history(tmp_path / "new.csv", rows)


@pytest.mark.usefixtures("no_training")
def test_all_users_get_what_the_run_wrote(call, finished):
    answer = call("recommend", finished, "-k", "20")
    assert answer.code == 0
    assert answer.out == (finished / "recommendations.csv").read_text()
    assert answer.err == ""  # what the run assumed is not said again


def test_what_the_run_said_of_its_data_is_not_said_again(call, copy, clicks, tmp_path):
    twice = tmp_path / "clicks.csv"
    rows = clicks.read_text()
    twice.write_text(rows + rows.splitlines()[1] + "\n")
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace(str(clicks), str(twice)))
    described = call("data", "describe", twice, "--user", "Customer", "--item", "Book")
    assert "clicks.csv: 1 duplicate pairs" in described.err
    answer = call("recommend", copy)
    assert answer.out == call("recommend", copy).out != ""
    assert answer.err == ""


def test_some_users_in_the_order_asked_for(call, finished):
    asked = ["--user", "ann, 7", "--user", "ann, 11", "-k", "3"]
    rows = parse(call("recommend", finished, "--row", "ddrm", *asked).out)
    assert [row["user"] for row in rows] == ["ann, 7"] * 3 + ["ann, 11"] * 3
    everyone = parse(call("recommend", finished, "--row", "ddrm").out)
    assert rows[:3] == [row for row in everyone if row["user"] == "ann, 7"][:3]


def test_ten_items_are_the_default(call, finished):
    assert len(parse(call("recommend", finished, "--user", "ann, 0").out)) == 10


def test_lists_end_with_the_catalogue(call, finished):
    rows = parse(call("recommend", finished, "--user", "ann, 0", "-k", "99").out)
    assert len(rows) == 14


def test_json_and_a_file_say_the_same(call, finished, tmp_path):
    words = ["recommend", finished, "--user", "ann, 0", "-k", "2"]
    plain = call(*words).out
    file = tmp_path / "lists.csv"
    answer = call(*words, "--out", file, "--json")
    assert file.read_text() == plain
    assert answer.out.count("\n") == 1
    (record,) = json.loads(answer.out)["recommendations"]
    assert record["user"] == "ann, 0"
    assert record["item"] == [row["item"] for row in parse(plain)]
    assert record["score"] == sorted(record["score"], reverse=True)
    assert call(*words, "--out", file).out == ""


@pytest.mark.usefixtures("no_training")
def test_new_users_get_lists_without_training(call, finished, history):
    answer = call("recommend", finished, "--history", history, "-k", "24")
    assert answer.code == 0
    assert (
        "new.csv: 2 of 5 interactions are with items that the run does not know; left "
        "out: 'unheard of'\n"
    ) in answer.err
    assert (
        "new.csv: 1 of 2 people have no item in their history that train has: their "
        "lists tell no more than those for no history at all\n"
    ) in answer.err
    rows = parse(answer.out)
    lists = {
        user: [row["item"] for row in rows if row["user"] == user]
        for user in ("zoe", "yan")
    }
    assert len(lists["zoe"]) == 24 - len(OWN)
    assert not set(OWN) & set(lists["zoe"])
    assert len(lists["yan"]) == 24  # nothing known: still a list
    assert "unheard of" not in lists["zoe"] + lists["yan"]


@pytest.mark.usefixtures("no_training")
def test_a_few_unknown_items_are_named_and_the_others_counted(call, finished, tmp_path):
    rows = [("zoe", OWN[0]), *(("zoe", f"new {i}") for i in range(7))]
    file = write_history(tmp_path / "new.csv", rows)
    answer = call("recommend", finished, "--history", file)
    assert "7 of 8 interactions are with items" in answer.err
    assert "; left out: 'new 0', 'new 1', 'new 2' and 4 more\n" in answer.err


def test_history_may_call_its_columns_user_and_item(call, finished, history, tmp_path):
    rows = list(csv.reader(history.open()))[1:]
    plain = write_history(tmp_path / "plain.csv", rows, ("user", "item"))
    expected = call("recommend", finished, "--history", history).out
    assert call("recommend", finished, "--history", plain).out == expected


def test_history_with_other_columns_is_told_which(call, finished, history, tmp_path):
    rows = list(csv.reader(history.open()))[1:]
    other = write_history(tmp_path / "other.csv", rows, ("uid", "sku"))
    error = call("recommend", finished, "--history", other).error
    assert error == (
        "other.csv:1: no column 'Customer' (there are 'uid', 'sku'); '--history' must "
        "have the columns 'Customer' and 'Book', as the run's data, or 'user' and "
        "'item'"
    )


def test_history_with_a_bad_time_is_told_where(call, finished, tmp_path):
    rows = [("zoe", OWN[0], "noon")]
    file = write_history(tmp_path / "new.csv", rows, ("Customer", "Book", "time"))
    error = call("recommend", finished, "--history", file).error
    assert "new.csv:2: column 'time' is 'noon', expected a number" in error
    assert "--" not in error.partition("expected")[2]  # no option would help


def test_history_of_a_known_user_counts_as_given(call, finished, tmp_path):
    file = write_history(tmp_path / "new.csv", [("ann, 0", OWN[0])])
    rows = parse(call("recommend", finished, "--history", file, "-k", "24").out)
    assert len(rows) == 23


def test_a_list_depends_on_its_user_alone(call, finished, tmp_path):
    zoe = [("zoe", book) for book in OWN]
    others = [(f"user {n}", f'book "{n}"') for n in range(20)]
    words = ["recommend", finished, "-k", "24", "--history"]
    alone = parse(call(*words, write_history(tmp_path / "a.csv", zoe)).out)
    among = parse(call(*words, write_history(tmp_path / "b.csv", others + zoe)).out)
    among = [row for row in among if row["user"] == "zoe"]
    assert [row["item"] for row in alone] == [row["item"] for row in among]
    scores = [[float(row["score"]) for row in rows] for rows in (alone, among)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_integer_ids_find_their_items(call, settings, tmp_path):
    pairs = [(10 * u, 7 * ((u + i) % 12)) for u in range(12) for i in range(8)]
    data = write_history(tmp_path / "data.csv", pairs, ("user", "item"))
    words = ["--epochs", "5", "--ddrm-epochs", "2", "--settings", settings]
    out = tmp_path / "run"
    assert call("run", "--data", data, "--out", out, *words).code == 0
    new = write_history(
        tmp_path / "new.csv", [("kim", 7), ("kim", 8)], ("user", "item")
    )
    answer = call("recommend", out, "--history", new, "-k", "12")
    assert "1 of 2 interactions" in answer.err
    items = [int(row["item"]) for row in parse(answer.out)]
    assert sorted(items) == [7 * i for i in range(12) if i != 1]
    others = parse(call("recommend", out, "--user", "110", "-k", "12").out)
    assert len(others) == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--user", "ann"], "'--user' must be in the data (got ann); new users need"),
        (["--user", "ann, 1", "--user", "bob"], "(got bob)"),
        (["--user", "ann, 1", "--history", "x.csv"], "exclude each other"),
        (["--history", "none.csv"], "none.csv: no such file or directory"),
        (["--history", "odd.csv"], "odd.csv:1: no column 'Customer'"),
        (["-k", "0"], "Invalid value for '-k'"),
    ],
)
def test_wrong_words_are_refused(call, finished, tmp_path, monkeypatch, asked, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    assert message in call("recommend", finished, *asked, "--out", "lists.csv").error
    assert not (tmp_path / "lists.csv").exists()


@pytest.mark.parametrize("text", [None, "{}", "nonsense"])
def test_other_folder_is_refused(call, tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert "not the folder of a run" in call("recommend", tmp_path).error


def test_missing_folder_is_refused(call, tmp_path):
    assert "not the folder of a run" in call("recommend", tmp_path / "none").error


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_unfinished_run_is_refused(call, copy):
    (copy / "metrics.json").unlink()
    assert "the run must be finished" in call("recommend", copy).error


def test_nothing_is_trained_again(call, copy, history):
    shutil.rmtree(copy / "cells")
    row = metrics(copy)["with_vectors"]
    assert call("recommend", copy, "--row", row).code == 0
    other = "ddrm" if row != "ddrm" else "lightgcn"
    error = call("recommend", copy, "--row", other, "--history", history).error
    assert "not there" in error
    assert not (copy / "cells").exists()


@pytest.mark.usefixtures("no_training")
def test_other_rows_list_too(call, finished):
    rows = [row["name"] for row in metrics(finished)["rows"]]
    lists = {row: call("recommend", finished, "--row", row).out for row in rows}
    assert lists[metrics(finished)["winner"]] == call("recommend", finished).out
    assert len(set(lists.values())) > 3
    error = call("recommend", finished, "--row", "eas").error
    assert error.endswith("(got 'eas'; did you mean 'ease'?)")


@pytest.mark.usefixtures("no_training")
def test_a_winner_without_vectors_leaves_new_users_to_the_next(call, copy, history):
    record = metrics(copy) | {"winner": "ease"}
    (copy / "metrics.json").write_text(json.dumps(record))
    answer = call("recommend", copy, "--history", history)
    best = record["with_vectors"]
    message = f"'ease' won, but has no vectors for new users: '{best}' ranks"
    assert message in answer.err
    same = call("recommend", copy, "--history", history, "--row", best)
    assert answer.out == same.out


def test_a_row_that_cannot_rank_for_new_users_is_refused_before_the_data(
    call, copy, clicks, history, monkeypatch
):
    monkeypatch.setattr("ddrm_pyg.experiments.sources.Source.load", None)  # not read
    words = ["recommend", copy, "--history", history, "--row"]
    assert call(*words, "ease").error == (
        "'--history' works with the rows 'lightgcn', 'lightgcn, best depth', 'history "
        "mean', 'ddrm, one pass, no noise', 'ddrm' of this run (got 'ease': it has no "
        "vectors)"
    )
    assert call(*words, "eas").error.endswith("(got 'eas'; did you mean 'ease'?)")
    error = call("recommend", copy, "--row", "eas").error
    assert error.endswith("(got 'eas'; did you mean 'ease'?)")


def test_help_says_which_rows_new_users_can_have(call):
    text = " ".join(call("recommend", "--help").out.split())
    assert "need one with vectors, which no yardstick has" in text


def test_changed_data_are_refused(call, copy, clicks, tmp_path):
    changed = tmp_path / "clicks.csv"
    changed.write_text(clicks.read_text() + "new,newer\n")
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace(str(clicks), str(changed)))
    assert "has changed" in call("recommend", copy).error


@pytest.fixture(scope="module")
def moments(walks, tmp_path_factory):
    """A run on a column of times that is called ``moment``."""
    folder = tmp_path_factory.mktemp("moments")
    clicks = folder / "clicks.csv"
    clicks.write_text(walks.read_text().replace("time", "moment", 1))
    words = ["--time", "moment", "--backend", "mf", "--epochs", "1"]
    words += ["--ddrm-epochs", "1", "--out", str(folder / "run")]
    assert main(["run", "--data", str(clicks), *words]) == 0
    return folder / "run"


def test_history_is_in_order_by_the_column_of_the_run(call, moments, tmp_path):
    """Rows from last to first, by whatever column, are those from first to last."""
    taken = [("new", f"i{item}", item) for item in range(3, 9)]
    words = ["recommend", moments, "--row", "ddrm", "--history"]
    lists = []
    for name in ("moment", "timestamp", "none"):
        rows = taken[::-1] if name != "none" else [row[:2] for row in taken]
        header = ("user", "item", name) if name != "none" else ("user", "item")
        answer = call(*words, write_history(tmp_path / f"{name}.csv", rows, header))
        assert ("no times" in answer.err) is (name == "none")
        lists.append(answer.out)
    assert lists[0] == lists[1] == lists[2] != ""


def test_a_session_of_one_moment_comes_in_the_order_of_its_rows(
    call, moments, tmp_path
):
    rows = [("new", f"i{item}", 7) for item in range(3, 9)]
    others = [("old", "i1", 8), ("older", "no such item", 9)]
    header = ("user", "item", "moment")
    words = ["recommend", moments, "--row", "ddrm", "--history"]
    tied = call(*words, write_history(tmp_path / "tied.csv", rows, header))
    assert tied.code == 0
    among = call(*words, write_history(tmp_path / "more.csv", rows + others, header))
    lists = [
        {row["item"]: float(row["score"]) for row in parse(answer.out)[:10]}
        for answer in (tied, among)
    ]
    assert [*lists[0]] == [*lists[1]]
    assert lists[0] == pytest.approx(lists[1], rel=1e-4)
    back = call(*words, write_history(tmp_path / "back.csv", rows[::-1], header))
    assert parse(back.out) != parse(tied.out)


def test_new_histories_are_read_in_their_order(call, walks, tmp_path):
    run = tmp_path / "run"
    words = ["--data", walks, "--epochs", "2", "--ddrm-epochs", "2", "--out", run]
    assert call("run", "--backend", "mf", *words).code == 0
    listed = ["recommend", run, "--row", "ddrm"]
    # u1 is trained on items 3 to 10, of twelve; in the order of time, whatever the rows
    taken = [("new", f"i{item}", item) for item in range(3, 11)]
    lists = []
    for name, rows in (("a", taken), ("b", taken[::-1]), ("c", taken)):
        if name == "c":
            rows = [(user, item, -time + 50) for user, item, time in rows]
        file = write_history(tmp_path / f"{name}.csv", rows, ("user", "item", "time"))
        answer = parse(call(*listed, "--history", file, "-k", "12").out)
        lists.append([(row["item"], float(row["score"])) for row in answer])
    items = [[item for item, _ in rows] for rows in lists]
    assert len(items[0]) == 12
    assert not {item for _, item, _ in taken} & {*items[0]}
    assert lists[0] == lists[1]
    assert lists[0] != lists[2]  # the other way round
    wanted = parse(call(*listed, "--user", "u1", "-k", "20").out)
    scores = {row["item"]: float(row["score"]) for row in wanted}
    same = {item: score for item, score in lists[0] if item in scores}
    assert same == pytest.approx({item: scores[item] for item in same}, rel=1e-3)
    engine = pytest.importorskip("ddrm_pyg.serving.engine")
    pytest.importorskip("onnxscript")
    export = [
        "export",
        run,
        "--row",
        "ddrm",
        "--out",
        tmp_path / "program",
        "--format",
        "onnx",
    ]
    assert call(*export, "-k", "12").code == 0
    served = engine.Engine(tmp_path / "program")
    for taken_in_order, expected in ((taken, lists[0]), (taken[::-1], lists[2])):
        history = [item for _, item, _ in taken_in_order]
        (listed,) = served.recommend([history], k=12, exclude=[[]])
        assert listed.item == [item for item, _ in expected]
        assert listed.score == pytest.approx([v for _, v in expected], rel=1e-4)


def test_ids_are_safe_for_a_spreadsheet_where_asked(call, finished, tmp_path):
    rows = [("=zoe", book) for book in OWN]
    history = write_history(tmp_path / "new.csv", rows)
    words = ["recommend", finished, "--history", history, "-k", "2"]
    assert {row["user"] for row in parse(call(*words).out)} == {"=zoe"}
    safe = tmp_path / "safe.csv"
    answer = call(*words, "--safe-csv", "--out", safe, "--json")
    assert {row["user"] for row in parse(safe.read_text())} == {"'=zoe"}
    assert json.loads(answer.out)["recommendations"][0]["user"] == "=zoe"
    for more in (["--out", tmp_path / "lists.parquet"], ["--json"]):
        error = call(*words, "--safe-csv", *more).error
        assert error == f"'--safe-csv' must go with CSV (got {more[-1]})"
    assert not (tmp_path / "lists.parquet").exists()
