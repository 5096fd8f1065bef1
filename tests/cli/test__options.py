"""Options that commands share."""

import re
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ddrm_pyg.cli._command import PLAIN, add
from ddrm_pyg.cli._options import (
    NamedSourceCommand,
    PathCommand,
    SourceCommand,
    _check_device,
    parse_ratios,
    source_of,
    split,
    takes_source,
    vector_files,
)
from ddrm_pyg.experiments.sources import Source


def test_ratios_are_read():
    assert parse_ratios("0.7,0.1,0.2") == (0.7, 0.1, 0.2)
    assert parse_ratios(" .8, 0 ,.2") == (0.8, 0.0, 0.2)


@pytest.mark.parametrize("text", ["", "0.7", "0.7,0.3", "1,2,3,4", "a,b,c", "0.7;0.1"])
def test_ratios_must_be_three_numbers(text):
    with pytest.raises(ValueError, match="'--ratios' must be three numbers like"):
        parse_ratios(text)


@pytest.mark.parametrize(
    ("words", "parts"),
    [("", []), ("mf", ["mf"]), (" mf*, sgl ", ["mf*", "sgl"]), ("a,", ["a", ""])],
)
def test_words_are_split_at_commas(words, parts):
    assert split(words) == parts


@pytest.mark.parametrize("name", [None, "cpu", "cpu:0"])
def test_device_is_accepted(name):
    assert _check_device(name) == name


def test_device_must_be_there():
    with pytest.raises(typer.BadParameter, match="'gpu' cannot be used"):
        _check_device("gpu")


@pytest.mark.parametrize(
    ("words", "option", "meant"),
    [
        (["run", "--settings", "ddrm_quik"], "--settings", "ddrm_quick"),
        (["clean", "--backend-settings", "lightgnc"], "--backend-settings", "lightgcn"),
        (["reproduce", "table2", "--ddrm-settings", "t-ce_"], "--ddrm-settings", ""),
        (["reproduce", "table2", "--ddrm-settings", "ddrn"], "--ddrm-settings", "ddrm"),
    ],
)
def test_a_misspelled_name_of_settings_is_answered_with_the_near_one(
    call, words, option, meant
):
    hint = f"; did you mean '{meant}'?" if meant else ""
    data = ["--data", "synthetic", "--out", "out"]
    assert call(*words, *data).error == (
        f"'{option}' must be a JSON file or a name that 'ddrm-pyg settings list' gives "
        f"(got '{words[-1]}'{hint})"
    )
    assert f"\n{meant}" in call("settings", "list").out


def app(cls) -> typer.Typer:
    """A command that says which source it got."""
    app = typer.Typer(**PLAIN, add_completion=False)

    @takes_source(cls)
    def command(
        context: typer.Context,
        flag: Annotated[bool, typer.Option("--flag")] = False,
        split: Annotated[str, typer.Option()] = "own",
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        print(source_of(context), flag, split)

    add(app, "command", command, [])
    return app


def test_source_is_built_from_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # what is not there, file or column, is refused at once
    Path("x.csv").write_text("user::item::when\n1::2::3\n", encoding="latin-1")
    words = ["--data", "x.csv", "--liked-from", "4", "--ratios", ".8,.1,.1", "--flag"]
    words += ["--encoding", "latin-1", "--separator", "::", "--source-split", "global"]
    words += ["--no-rating", "--time", "when", "--split", "test"]
    answer = CliRunner().invoke(app(SourceCommand), words)
    text = {"encoding": "latin-1", "separator": "::", "split": "global"}
    columns = {"rating": False, "time": "when"}
    shares = (0.8, 0.1, 0.1)
    expected = Source("x.csv", **columns, liked_from=4.0, ratios=shares, **text)
    assert answer.output.strip() == f"{expected} True test"


def test_defaults_are_the_default_source():
    answer = CliRunner().invoke(app(SourceCommand), [])
    assert answer.output.strip() == f"{Source()} False own"


def test_data_may_have_to_be_named():
    answer = CliRunner().invoke(app(NamedSourceCommand), [])
    assert answer.exit_code == 2
    assert "Missing option '--data'" in answer.output


def test_data_may_be_an_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("uid,item\n1,2\n")
    answer = CliRunner().invoke(app(PathCommand), ["a.csv", "--user", "uid"])
    assert answer.output.strip() == f"{Source('a.csv', 'uid')} False own"
    assert "Missing argument" in CliRunner().invoke(app(PathCommand), []).output


def test_shared_options_stand_around_the_own_and_json_before_the_last():
    answer = CliRunner().invoke(app(SourceCommand), ["--help"])
    names = re.findall(r"^ *(?:-\w, )?(--[a-z-]+)", answer.output, re.MULTILINE)
    assert names[:3] == ["--data", "--flag", "--split"]
    assert names[-4:] == ["--json", "--quiet", "--verbose", "--help"]


def test_rows_without_ids_are_said_to_be_in_the_order_of_the_data(tmp_path, caplog):
    file = tmp_path / "ids.csv"
    file.write_text("a\n")

    def ids_of(user, item):
        ids = {"user": user, "item": item}
        return vector_files(file, {"user": None, "item": None}, ids).get("ids", {})

    assert set(ids_of(file, file)) == {"user", "item"}
    assert not caplog.text
    assert set(ids_of(file, None)) == {"user"}
    assert "no --item-ids: rows are taken in the order of the data" in caplog.text
    assert ids_of(None, None) == {}
    assert "no --user-ids and no --item-ids: rows" in caplog.text
