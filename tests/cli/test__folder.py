"""Folders of results: whose they are."""

from __future__ import annotations

import pytest

from ddrm_pyg.cli._folder import _difference, claim, read_config

CONFIG = {
    "source": {"data": "a", "ratios": (0.7, 0.1, 0.2)},
    "fingerprint": "f",
    "backend": {"fit": {"epochs": 1}},
    "denoise": {},
}


def test_new_folder_is_claimed(tmp_path):
    claim(tmp_path / "new", CONFIG, finished="metrics.json", overwrite=False)
    assert read_config(tmp_path / "new", CONFIG) == CONFIG | {
        "source": {"data": "a", "ratios": [0.7, 0.1, 0.2]}
    }
    claim(
        tmp_path / "new", CONFIG, finished="metrics.json", overwrite=False
    )  # and continued


def test_overwriting_forgets_cells_and_results(tmp_path):
    claim(tmp_path, CONFIG, finished="metrics.json", overwrite=False)
    (tmp_path / "cells").mkdir()
    (tmp_path / "metrics.json").touch()
    (tmp_path / "notes.txt").touch()
    claim(
        tmp_path, CONFIG | {"fingerprint": "g"}, finished="metrics.json", overwrite=True
    )
    assert read_config(tmp_path, CONFIG)["fingerprint"] == "g"
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "notes.txt"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"source": 1}', "\0"])
def test_config_of_anything_else_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert read_config(tmp_path, CONFIG) is None


def test_no_config_is_none(tmp_path):
    assert read_config(tmp_path, CONFIG) is None
    assert read_config(tmp_path / "missing", CONFIG) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fingerprint": "g"}, "the interactions were others"),
        ({"backend": {"fit": {"epochs": 2}}}, "backend.fit.epochs was 1 and is 2"),
        ({"backend": {"fit": {}}}, "backend.fit.epochs was 1 and is None"),
        ({"denoise": {"seed": 3}}, "denoise.seed was None and is 3"),
    ],
)
def test_difference_is_named(change, told):
    assert _difference(CONFIG, CONFIG | change) == told
