"""Options that commands share."""

from __future__ import annotations

import pytest
import typer

from ddrm_pyg.cli._options import _check_device, parse_ratios


def test_ratios_are_read():
    assert parse_ratios("0.7,0.1,0.2") == (0.7, 0.1, 0.2)
    assert parse_ratios(" .8, 0 ,.2") == (0.8, 0.0, 0.2)


@pytest.mark.parametrize("text", ["", "0.7", "0.7,0.3", "1,2,3,4", "a,b,c", "0.7;0.1"])
def test_ratios_must_be_three_numbers(text):
    with pytest.raises(ValueError, match="'--ratios' must be three numbers like"):
        parse_ratios(text)


@pytest.mark.parametrize("name", [None, "cpu", "cpu:0"])
def test_device_is_accepted(name):
    assert _check_device(name) == name


def test_device_must_be_there():
    with pytest.raises(typer.BadParameter, match="'gpu' cannot be used"):
        _check_device("gpu")
