"""Seeds of spoiled files: some for every day, all of them in the slow tests."""

from __future__ import annotations

import pytest

NUM_SEEDS = 10_000


@pytest.fixture(
    params=[
        *(
            pytest.param(range(first, NUM_SEEDS, 250), id=f"{first} and so on")
            for first in range(0, 50, 10)
        ),
        *(
            pytest.param(
                range(first, first + 1000), id=f"from {first}", marks=pytest.mark.slow
            )
            for first in range(0, NUM_SEEDS, 1000)
        ),
    ]
)
def seeds(request: pytest.FixtureRequest) -> range:
    """What to spoil files by."""
    return request.param
