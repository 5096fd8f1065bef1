"""Numbers as text: what is missing is empty, what failed says so."""

from __future__ import annotations

import pytest

from ddrm_pyg.experiments.paper.conditions import GIVEN, LIKED
from ddrm_pyg.experiments.paper.sheets import as_text, in_words, sheet
from ddrm_pyg.ranking import METRICS


def line(name, value=None, **told):
    several = {"deviation": dict.fromkeys(METRICS, 0.001)} if value else {}
    return {
        "name": name,
        "at": None,
        "condition": GIVEN.name,
        "asked": 3,
        "run": 2 if value else 0,
        "seeds": [0, 1] if value else [],
        "failed": [],
        "depths": [],
        "best_at_end": [],
        "about": "",
        "values": {m: [value] * 2 for m in METRICS} if value else {},
        "mean": dict.fromkeys(METRICS, value) if value else {},
        "deviation": {},
        "paper": {},
        "tests": {},
        **several,
        **told,
    }


def block(*lines, axis=None):
    return {"title": "a block", "axis": axis, "lines": list(lines)}


PAPER = dict.fromkeys(METRICS, 0.05)
BETTER = {metric: {"difference": 0.1, "p_holm": 0.009} for metric in METRICS}
WORSE = {metric: {"difference": -0.1, "p_holm": 0.009} for metric in METRICS}
UNCLEAR = {metric: {"difference": 0.1, "p_holm": 0.011} for metric in METRICS}


def test_ours_paper_and_gap_stand_side_by_side():
    table = sheet(
        block(
            line("mf", 0.052, paper=PAPER, about="picked by hand"),
            line("mf+ddrm", 0.06, paper=PAPER, tests=BETTER, about="as published"),
            line("mf+t-ce", 0.06, tests=UNCLEAR),
            line("sgl", paper=PAPER),
            line("lightgcn", 0.0499, paper=PAPER),
            line("ease", failed=["MemoryError: too much"]),
        )
    )
    assert table.head[:4] == ["", "R@10", "paper", "gap"]
    assert table.head[-1] == "seeds"
    assert {len(row) for row in table.rows} == {len(table.head)} == {14}
    ours = [row[:4] for row in table.rows]
    assert ours == [
        ["mf", "0.0520 ± 0.0010", "0.0500", "+4%"],
        ["mf+ddrm", "0.0600* ± 0.0010", "0.0500", "+20%"],
        ["mf+t-ce", "0.0600 ± 0.0010", "", ""],
        ["sgl", "", "0.0500", ""],
        ["lightgcn", "0.0499 ± 0.0010", "0.0500", "0%"],
        ["ease", "failed", "", ""],
    ]
    run = [row[-1] for row in table.rows]
    assert run == ["2 of 3", "2 of 3", "2 of 3", "", "2 of 3", ""]
    assert list(table.notes) == [
        "mf+ddrm is more than 5 % from the paper; its settings: as published.",
        "ease failed: MemoryError: too much.",
    ]


def test_where_settings_were_picked_is_told_where_it_is_elsewhere():
    far = {"paper": dict.fromkeys(METRICS, 0.05), "about": "as published"}
    told = sheet(block(line("mf", 0.06, condition=LIKED.name, **far))).notes
    assert list(told) == [
        "mf is more than 5 % from the paper; its settings, picked and checked on noisy "
        "validation: as published."
    ]


@pytest.mark.parametrize(
    ("depths", "more"), [([2, 6], "; more might do better"), ([2, 0], "")]
)
def test_the_edge_of_the_depths_is_told(depths, more):
    (told,) = sheet(block(line("mf best depth", 0.06, depths=depths))).notes
    picked = ", ".join(map(str, depths))
    assert told.endswith(f"picks {picked} layers, of 0 to 6 tried{more}.")


def test_own_data_have_no_columns_of_the_paper():
    table = sheet(block(line("mf", 0.05)))
    assert table.head == ["", "R@10", "R@20", "N@10", "N@20", "seeds"]


def test_a_training_that_was_cut_is_told():
    cut = [line("sgl+ddrm", 0.05, best_at_end=[0, 2]), line("mf", 0.05)]
    table = sheet(block(*cut, line("mf+ddrm", 0.05, at=0.1, best_at_end=[1])))
    (note,) = table.notes
    assert note.startswith("Best by validation in the last epoch that the settings")
    told = "sgl+ddrm (seed 0); sgl+ddrm (seed 2); mf+ddrm, 0.1 (seed 1)."
    assert note.endswith(told)


def test_curves_have_their_axis():
    points = [line("mf", 0.05), line("mf+ddrm", 0.1, at=0.25, depths=[3])]
    table = sheet(block(*points, axis="gamma"))
    assert table.head[:2] == ["", "gamma"]
    assert [row[:2] for row in table.rows] == [["mf", ""], ["mf+ddrm", "0.25"]]
    assert table.notes == ["mf+ddrm, 0.25: validation picks 3 layers, of 0 to 6 tried."]


def test_what_was_never_tried_is_a_sentence():
    table = sheet(block(line("mf"), line("sgl", paper=PAPER)))
    assert (table.head, table.rows) == ([], [])
    assert table.notes == ["None of its 2 lines has been run yet."]
    assert as_text(table) == "a block\nNone of its 2 lines has been run yet."
    assert sheet(block(line("mf", failed=["no"]))).rows


def test_text_is_aligned():
    table = sheet(block(line("mf", 0.05, deviation={}), line("ease")))
    assert as_text(table).splitlines() == [
        "a block",
        "          R@10    R@20    N@10    N@20   seeds",
        "mf      0.0500  0.0500  0.0500  0.0500  2 of 3",
        "ease",
    ]


def test_words_are_frank():
    lines = [
        *(line("ease", 0.08), line("mf", 0.05), line("mf history mean", 0.056)),
        line("mf+ddrm", 0.06, tests=UNCLEAR),
    ]
    (words,) = in_words(block(*lines))
    assert words == (
        "mf+ddrm has NDCG@20 0.0600: +20.0% against the backend (0.0500), +7.1% "
        "against the history mean alone (0.0560), -25.0% against EASE (0.0800). The "
        "change from the backend is not significant, and the best of these is EASE, "
        "not DDRM."
    )
    lines[-1] = line("mf+ddrm", 0.09, tests=BETTER)
    (words,) = in_words(block(*lines))
    assert words.endswith(
        "The gain over the backend is significant, and DDRM's mean is above all of "
        "these (only the backend was tested against)."
    )
    lines[-1] = line("mf+ddrm", 0.04, tests=WORSE)
    (words,) = in_words(block(*lines))
    assert ". The loss against the backend is significant, and the best" in words


def test_gains_are_over_the_seeds_that_both_have():
    one = {"seeds": [1], "values": {m: [0.06] for m in METRICS}}
    both = {"seeds": [0, 1], "values": {m: [0.07, 0.05] for m in METRICS}}
    closed = {"seeds": [], "values": {m: [0.03] for m in METRICS}}
    lines = [
        *(line("ease", 0.03, **closed), line("mf", 0.06, **both)),
        line("mf+ddrm", 0.06, **one, tests=UNCLEAR),
    ]
    (words,) = in_words(block(*lines))
    assert words.startswith(
        "mf+ddrm has NDCG@20 0.0600: +20.0% against the backend (0.0500), +100.0% "
        "against EASE (0.0300); over the seeds that both have. "
    )
    assert "DDRM's mean is above all" in words


def test_a_rival_that_never_hits_has_no_percentage():
    zero = dict.fromkeys(METRICS, 0.0)
    zero = {"mean": zero, "values": {m: [0.0] for m in METRICS}}
    lines = [line("ease", 0.0, **zero), line("mf", 0.0, **zero)]
    (words,) = in_words(block(*lines, line("mf+ddrm", 0.06, tests=BETTER)))
    assert "NDCG@20 0.0600: all against the backend (0.0000), all against" in words
    assert "DDRM's mean is above all" in words
    (words,) = in_words(block(*lines, line("mf+ddrm", 0.0, **zero)))
    assert "+0.0% against the backend (0.0000)" in words
    assert "the best of these is the backend, not DDRM" in words


@pytest.mark.parametrize("names", [[], ["ease"], ["mf+ddrm"]])
def test_no_words_without_a_backend(names):
    assert in_words(block(*(line(name, 0.1) for name in names))) == []


def test_yardsticks_may_stand_in_another_block():
    lines = [line("mf", 0.05), line("mf+ddrm", 0.06)]
    assert "EASE" not in in_words(block(*lines))[0]
    assert "-25.0% against EASE" in in_words(block(*lines), [line("ease", 0.08)])[0]


def test_words_wait_for_ddrm():
    lines = [line("ease", 0.08), line("mf", 0.05), line("mf+ddrm"), line("sgl")]
    assert in_words(block(*lines)) == [
        "mf+ddrm has not been run; NDCG@20 of the backend 0.0500, EASE 0.0800."
    ]
