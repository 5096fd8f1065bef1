from __future__ import annotations

import pytest

from ddrm_pyg.experiments.methods import METHODS


@pytest.fixture
def registry():
    """Leave the methods as they were."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)
