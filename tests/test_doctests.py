"""Every example in a docstring does what it says."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import ddrm_pyg

MODULES = [
    module.name for module in pkgutil.walk_packages(ddrm_pyg.__path__, "ddrm_pyg.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples():
    attempted = sum(doctest.testmod(import_module(name)).attempted for name in MODULES)
    assert attempted >= 5
