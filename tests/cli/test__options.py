"""Options that commands share."""

import inspect
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ddrm_pyg.cli._options import (
    _check_device,
    parse_ratios,
    split,
    takes_source,
)
from ddrm_pyg.experiments.sources import DEFAULT, Source


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


def app(default) -> typer.Typer:
    """A command that says which source it got."""
    app = typer.Typer()

    @app.command()
    @takes_source
    def command(
        source: Source = default,
        flag: Annotated[bool, typer.Option("--flag")] = False,
    ) -> None:
        print(source, flag)

    return app


def test_source_is_built_from_options():
    words = ["--data", "x.csv", "--liked-from", "4", "--ratios", ".8,.1,.1", "--flag"]
    words += ["--encoding", "latin-1", "--separator", "::", "--split", "global"]
    words += ["--no-rating"]
    answer = CliRunner().invoke(app(DEFAULT), [*words, "--time", "when"])
    text = {"encoding": "latin-1", "separator": "::", "split": "global"}
    columns = {"rating": False, "time": "when"}
    shares = (0.8, 0.1, 0.1)
    expected = Source("x.csv", **columns, liked_from=4.0, ratios=shares, **text)
    assert answer.output.strip() == f"{expected} True"


def test_defaults_are_the_default_source():
    answer = CliRunner().invoke(app(DEFAULT), [])
    assert answer.output.strip() == f"{Source()} False"


def test_data_must_be_given_where_a_command_has_no_default():
    answer = CliRunner().invoke(app(inspect.Parameter.empty), [])
    assert answer.exit_code == 2
    assert "Missing option '--data'" in answer.output


def test_an_option_that_a_command_has_of_its_own_is_the_sources_under_another_name():
    taken = {}

    @takes_source
    def command(source: Source, split: str = "test") -> None:
        taken.update(source=source.split, own=split)

    names = list(inspect.signature(command).parameters)
    assert "source_split" in names
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "data"
    }
    command(**{**defaults, "data": "synthetic", "source_split": "global"})
    assert taken == {"source": "global", "own": "test"}
