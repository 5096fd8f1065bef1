"""The rows of the main job and the verdict, by hand."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.plug_in import (
    HINTS,
    METRIC,
    Verdict,
    as_record,
    as_tables,
    check_order,
    default_ddrm,
    fair_yardsticks,
    judge,
    pick,
    plug_in,
)
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import denoised
from ddrm_pyg.experiments.tables import Row
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.significance import PairedTest

BACKEND = Cell("mf", 0, {"embedding_dim": 4}, {"epochs": 2, "eval_every": 1})
DDRM = Cell(
    "ddrm",
    0,
    {"hidden_dims": [4], "num_train_timesteps": 2},
    {"epochs": 2, "eval_every": 1},
    BACKEND,
)
BEFORE = [0.5, 0.4, 0.6, 0.3, 0.7, 0.5, 0.4, 0.6]


def verdict_of(make_result, change: list[float], before: list[float] = BEFORE):
    after = [b + c for b, c in zip(before, change, strict=True)]
    return judge(
        Row("ddrm", [make_result(after, "ddrm")]), [Row("mf", [make_result(before)])]
    )


def test_order_decides_what_is_plugged_in(data, caplog):
    assert default_ddrm(BACKEND, data, epochs=3) == denoised(BACKEND, "ddrm", epochs=3)
    assert "no times: DDRM is trained without order" in caplog.text
    for times in ([3, 3, 3], [3, -1, 2]):
        caplog.clear()
        data[EDGE].edge_time = torch.tensor(times)
        assert default_ddrm(BACKEND, data, epochs=None).model["train_start"] == "item"
        assert "the times do not tell the order" in caplog.text
    data[EDGE].in_order = True  # as lists promise it
    assert default_ddrm(BACKEND, data, epochs=None).model["train_start"] == "past"
    data[EDGE].edge_time = torch.tensor([3, 1, 2])
    past = default_ddrm(BACKEND, data, epochs=3)
    assert past == denoised(BACKEND, "ddrm", settings="ddrm_future", epochs=3)
    assert past.model["train_start"] == "past"
    on_sasrec = default_ddrm(Cell("sasrec", 0), data, epochs=None)
    assert on_sasrec.model["svd_dim"] == 256


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (None, "load them with a column of times, or set .*in_order = True"),
        ([3, 3, 3], "'edge_time' must tell a user's interactions apart"),
        ([3, -1, 2], r"must be known .* for 99 % .*\(got 1 of 3 unknown\)"),
    ],
)
def test_an_order_that_nothing_tells_is_refused(data, times, message):
    if times is not None:
        data[EDGE].edge_time = torch.tensor(times)
    past = replace(DDRM, model={"train_start": "past"})
    check_order(data, [BACKEND, DDRM])
    with pytest.raises(ValueError, match=message):
        check_order(data, [past])
    data[EDGE].in_order = True
    check_order(data, [past])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        # +.05 on .5 by each: 10 % and as sure as can be
        ([0.05, 0.06, 0.04, 0.05, 0.05, 0.06, 0.04, 0.05], "helps"),
        ([-0.05, -0.06, -0.04, -0.05, -0.05, -0.06, -0.04, -0.05], "hurts"),
        # sure but below 1 %: .004 / .5
        ([0.004, 0.005, 0.003, 0.004] * 2, "no significant change"),
        ([-0.004, -0.005, -0.003, -0.004] * 2, "no significant change"),
        # 10 % but by luck of one user: t = 1, p = .35
        ([0.4, 0, 0, 0, 0, 0, 0, 0], "no significant change"),
        ([0.2, -0.3, 0.1, -0.2, 0.3, -0.1, 0.2, -0.2], "no significant change"),
        ([0.0] * 8, "no significant change"),
    ],
)
def test_a_change_must_be_sure_and_large(make_result, change, word):
    verdict = verdict_of(make_result, change)
    assert verdict.word == word
    assert verdict.test.num_users == 8
    assert verdict.test.relative == pytest.approx(sum(change) / 4.0, abs=1e-6)


def test_p_of_five_percent_is_not_enough(make_result):
    # differences with mean .05 and t = 2.96 at 7 degrees of freedom: p = .021
    change = [0.05 + 0.0447 * s for s in (1, -1, 1, -1, 1, -1, 1, -1)]
    verdict = verdict_of(make_result, change)
    assert 0.01 < verdict.test.p_value < 0.05
    assert verdict.test.relative > 0.01
    assert verdict.word == "no significant change"


def test_rival_is_the_strongest(make_result):
    rivals = [
        Row("mf", [make_result([0.1, 0.2])]),
        Row("mf, best depth", [make_result([0.3, 0.4])]),
        Row("history mean", [make_result([0.2, 0.3])]),
    ]
    assert (
        judge(Row("ddrm", [make_result([0.9, 0.8])]), rivals).rival == "mf, best depth"
    )


def test_the_strongest_yardstick_has_a_test_of_its_own(make_result):
    row = Row("ddrm", [make_result([0.3, 0.4, 0.5, 0.6])])
    rivals = [Row("mf", [make_result([0.2, 0.3, 0.4, 0.5])])]
    beside = [
        Row("item_knn", [make_result([0.1, 0.1, 0.1, 0.1])]),
        Row("ease", [make_result([0.2, 0.2, 0.6, 0.4])]),
    ]
    verdict = judge(row, rivals, beside)
    assert verdict.rival == "mf"
    name, test = verdict.yardstick
    assert name == "ease"
    assert test.difference == pytest.approx(0.1)
    _, first, second, _ = str(verdict).splitlines()
    assert "against 'mf', the best use of the backend without it" in first
    assert second.startswith(
        "NDCG@20 +28.6% against 'ease', the best yardstick that knows no more (p = "
    )
    assert verdict.record()["yardstick"] == {"name": "ease", **test.record()}
    assert judge(row, rivals).yardstick is None


def test_yardsticks_that_know_less_are_fair_and_those_that_know_more_are_not(
    make_result,
):
    def row(method, **model):
        result = replace(make_result([0.1]), cell=Cell(method, model=model))
        return Row(method, [result])

    rows = [row("popularity"), row("ease+recency"), row("mf")]
    assert fair_yardsticks(row("ddrm", train_start="past"), rows) == rows[:2]
    assert fair_yardsticks(row("ddrm"), rows) == rows[:1]


def test_a_yardstick_that_is_surely_better_is_what_to_use():
    helps, worse = PairedTest(0.1, 0.1, 0.001, 99), PairedTest(-0.1, -0.1, 0.001, 99)
    verdict = Verdict("ddrm", "helps", "mf", helps, ("ease", worse))
    assert verdict.advice == "Use 'ease': it ranks better, and nothing is trained."
    perhaps = worse._replace(p_value=0.2)
    unsure = replace(verdict, yardstick=("ease", perhaps)).advice
    assert unsure == "Use 'ddrm' or 'ease': they cannot be told apart."
    close = replace(verdict, yardstick=("ease", worse._replace(relative=-0.009)))
    assert close.advice == "Use 'ddrm' or 'ease': they are less than 1 % apart."
    better = replace(verdict, yardstick=("ease", helps)).advice
    assert better == "Use 'ddrm'."


@pytest.mark.parametrize(
    ("word", "against", "first"),
    [
        ("helps", (-0.1, -0.1, 0.001), "helps, but 'ease' is better"),
        ("hurts", (-0.1, -0.1, 0.001), "hurts, and 'ease' is better"),
        (
            "no significant change",
            (-0.1, -0.1, 0.001),
            "no significant change, and 'ease' is better",
        ),
        ("helps", (-0.1, -0.1, 0.2), "helps"),
        ("helps", (-0.001, -0.009, 0.001), "helps"),
        ("helps", (0.1, 0.1, 0.001), "helps"),
    ],
)
def test_the_headline_hides_no_better_yardstick(word, against, first):
    change, yardstick = PairedTest(0.1, 0.1, 0.001, 9), PairedTest(*against, 9)
    verdict = Verdict("ddrm", word, "mf", change, ("ease", yardstick))
    assert verdict.headline == f"verdict on ddrm: {first}"
    assert str(verdict).startswith(f"{verdict.headline}\n")
    record = verdict.record()
    assert record["verdict"] == word
    assert record["better_yardstick"] == ("ease" if "better" in first else None)


SURE, UNSURE = (PairedTest(-0.1, -0.1, p, 9) for p in (0.001, 0.5))


@pytest.mark.parametrize(
    ("word", "beside", "winner", "advice"),
    [
        # validation agrees with test, or there is none
        ("hurts", SURE, "ease", "Use 'ease': it ranks better, and nothing is trained."),
        ("hurts", SURE, None, "Use 'ease': it ranks better, and nothing is trained."),
        ("hurts", UNSURE, "mf", "Do without it: 'mf' ranks better."),
        ("helps", UNSURE, "ddrm", "Use 'ddrm' or 'ease': they cannot be told apart."),
        ("helps", UNSURE, "ease", "Use 'ddrm' or 'ease': they cannot be told apart."),
        (
            "no significant change",
            UNSURE,
            "svd",
            "Not significant: more users or more seeds can tell.",
        ),
        # validation picks what test does not
        (
            "hurts",
            SURE,
            "mf",
            "Use 'mf', which validation picks: nothing is picked on test, where 'ease' "
            "beats 'ddrm'.",
        ),
        (
            "hurts",
            UNSURE,
            "ddrm",
            "Do without it, though validation picks it: on test 'mf' beats 'ddrm'.",
        ),
        (
            "helps",
            UNSURE,
            "svd",
            "Use 'svd', which validation picks: nothing is picked on test, where "
            "'ddrm' beats 'mf'.",
        ),
    ],
)
def test_the_advice_is_what_the_files_hold_or_says_why_not(
    word, beside, winner, advice
):
    change = PairedTest(0.1, 0.1, 0.001, 9)
    if word == "no significant change":
        change = PairedTest(0.1, 0.1, 0.5, 9)
    verdict = Verdict("ddrm", word, "mf", change, ("ease", beside), winner)
    assert verdict.advice == advice


def test_the_documentation_gives_the_reports_hints():
    page = (Path(__file__).parents[2] / "docs" / "helps.md").read_text("utf-8")
    words = " ".join(page.replace("`", "'").split())
    heads = {
        "helps": "## It helps",
        "no significant change": "## No significant change",
        "hurts": "## It hurts",
    }
    for verdict, hints in HINTS.items():
        part = words.partition(heads[verdict])[2].partition("## ")[0]
        part = part.replace("'", "")  # what is code there is quoted here, or bare
        assert [h for h in hints if h.replace("'", "") not in part] == []


def test_gain_over_nothing_helps_and_is_valid_json(make_result):
    verdict = verdict_of(make_result, BEFORE, [0.0] * 8)
    assert verdict.word == "helps"
    assert verdict.record()["relative"] is None
    json.dumps(verdict.record(), allow_nan=False)
    assert "up from 0 against" in str(verdict)


def test_no_gain_over_nothing_is_no_change(make_result):
    assert verdict_of(make_result, [0.0] * 8, [0.0] * 8).word == "no significant change"


@pytest.mark.parametrize(("p", "shown"), [(0.03, "p = 0.0300"), (1e-9, "p < 0.0001")])
def test_verdict_in_words(p, shown):
    verdict = Verdict("DDRM", "helps", "history mean", PairedTest(0.01, 0.123, p, 77))
    first, second, third = str(verdict).splitlines()
    assert first == "verdict on DDRM: helps"
    assert second.startswith("NDCG@20 +12.3% against 'history mean'")
    assert second.endswith(f"({shown}, paired t-test over 77 users)")
    assert third == "Use 'DDRM'."
    assert verdict.record() == {
        "verdict": "helps",
        "rival": "history mean",
        "difference": 0.01,
        "relative": 0.123,
        "p_value": p,
        "num_users": 77,
        "yardstick": None,
        "better_yardstick": None,
    }


def test_nothing_is_judged_where_nothing_denoises(data, tmp_path):
    rows, verdict = plug_in(Runner(data, tmp_path, progress=False), BACKEND, None)
    assert verdict is None
    assert [row.name for row in rows][-1] == "mf, best depth"


def validated(result, ndcg):
    return replace(result, val={METRIC: ndcg})


def test_the_best_on_validation_is_picked_whatever_it_is(make_result):
    rows = [
        Row("ease", [validated(make_result([0.1, 0.1]), 0.3)]),
        Row("mf", [validated(make_result([0.9, 0.9]), 0.2)]),  # test is not looked at
        Row("ddrm", [validated(make_result([0.5, 0.5]), 0.3)]),
    ]
    assert pick(rows).name == "ease"  # of equals the simplest
    assert pick(rows[1:]).name == "ddrm"
    assert (
        pick([Row("mf", [make_result([0.9])]), Row("ddrm", [make_result([0.1])])]).name
        == "ddrm"
    )


def test_record_of_a_row(make_result):
    row = Row("ours", [make_result([0.25, 0.75])])
    record = as_record(row)
    assert record["name"] == "ours"
    assert record[METRIC] == 0.5
    assert record["coverage@20"] == 0.5


def test_runs_all_rows_and_compares_with_its_own_embeddings(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ddrm_pyg"):
        rows, verdict = plug_in(Runner(data, tmp_path, progress=False), BACKEND, DDRM)
    lines = [line for line in caplog.messages if "test NDCG@20" in line]
    assert lines == [f"{r.name}: test NDCG@20 {r.metrics[METRIC]:.4f}" for r in rows]
    first, training = (caplog.messages.index(line) for line in (lines[0], "ddrm ..."))
    assert first < training  # not all at the end
    rivals = {row.name: row.result.test[METRIC] for row in rows[3:6]}
    assert rivals[verdict.rival] == max(rivals.values())


def test_without_validation_nothing_picks_a_depth(data, tmp_path, caplog):
    data["user", "interacts", "item"].val_edge_label_index = torch.empty(2, 0).long()
    with caplog.at_level(logging.WARNING, "ddrm_pyg"):
        rows, _ = plug_in(Runner(data, tmp_path, progress=False), BACKEND, DDRM)
    assert "mf, best depth" not in [row.name for row in rows]
    assert len(rows) == 7
    assert "no validation split: 'mf, best depth' left out" in caplog.text


@pytest.mark.parametrize(
    ("word", "test", "advice"),
    [
        ("hurts", (-0.1, -0.2, 0.001), "Do without it: 'mf' ranks better."),
        (
            "no significant change",
            (0.1, 0.088, 0.0114),
            "Not significant: more users or more seeds can tell.",
        ),
        (
            "no significant change",
            (0.1, 0.008, 0.0001),
            "No difference worth having: 'mf' is simpler.",
        ),
    ],
)
def test_advice_says_no_more_than_the_test(word, test, advice):
    assert Verdict("ddrm", word, "mf", PairedTest(*test, 9)).advice == advice


def test_table_is_as_people_see_it(make_result, golden):
    rows = [
        Row("popularity", [make_result([0.0, 0.2], coverage=0.25)]),
        Row("mf", [make_result([0.4, 0.2])]),
        Row("a row with quite a long name", [make_result([0.1, 0.1], coverage=1.0)]),
        Row("ddrm", [make_result([0.2, 0.4])]),
    ]
    # the best of a column has a star, all of those that tie
    (table,) = as_tables(rows)
    assert table.text() + "\n" == golden("run.txt")


def test_each_block_has_its_own_table_and_stars(make_result):
    result = make_result([0.1, 0.2])
    rows = [
        Row("mf", [make_result([0.4, 0.4])]),
        Row(
            "ddrm", [replace(result, cell=Cell("ddrm", model={"train_start": "past"}))]
        ),
    ]
    free, aware = as_tables(rows)
    assert (free.rows[0][0], aware.rows[0][0]) == ("mf", "ddrm")
    assert free.rows[0][4] == "0.4000*"
    assert aware.rows[0][4] == "0.1500*"
    assert (free.notes, len(aware.notes)) == ((), 3)


def test_rows_of_the_same_numbers_are_explained(make_result):
    base = Cell("svd")
    depth = replace(make_result([0.1, 0.2]), cell=Cell("best_depth", base=base))
    rows = [
        Row("svd", [replace(depth, cell=base)]),
        Row("svd, best depth", [replace(depth, notes={"num_layers": 0})]),
        Row("history mean", [replace(depth, cell=Cell("history_mean", base=base))]),
        Row("ddrm", [make_result([0.1, 0.2], "ddrm")]),
    ]
    (table,) = as_tables(rows[:3])
    assert table.notes[-3:] == [
        "best depth: vectors smoothed on the graph as validation likes.",
        "history mean: a user is the mean of the items taken, no DDRM.",
        "'svd', 'svd, best depth', 'history mean': the same numbers; the best depth is "
        "none; SVD's vector of a user is the history mean.",
    ]
    (unexplained,) = as_tables([rows[0], rows[3]])  # a chance that nobody foresaw
    assert len(unexplained.notes) == 3
