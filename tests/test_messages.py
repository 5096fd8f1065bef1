"""What is hushed is silent, and speaks again."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import pytest

from ddrm_pyg.messages import ASSUMED, hushed

PACKAGE = Path(__file__).parents[1] / "ddrm_pyg"
LOGGER = logging.getLogger("ddrm_pyg")


@pytest.fixture
def messages(caplog):
    """What is heard of a warning by every logger and of one error."""
    for logger in (LOGGER, ASSUMED):
        caplog.set_level(logging.NOTSET, logger.name)

    def heard() -> list[str]:
        caplog.clear()
        for logger in (LOGGER, ASSUMED):
            logger.warning("%s warns", logger.name)
        LOGGER.error("an error")
        return caplog.messages

    return heard


@pytest.mark.parametrize(
    ("logger", "others"), [(LOGGER, []), (ASSUMED, ["ddrm_pyg warns"])]
)
def test_a_hushed_logger_and_all_below_it_say_errors_alone(messages, logger, others):
    with hushed(logger):
        assert messages() == [*others, "an error"]
    assert len(messages()) == 3


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.CRITICAL])
def test_the_level_comes_back_also_after_an_error(caplog, level):
    caplog.set_level(level, ASSUMED.name)
    with suppress(ValueError), hushed(ASSUMED):
        assert ASSUMED.level == max(level, logging.ERROR)
        raise ValueError
    assert ASSUMED.level == level


def test_a_logger_below_the_packages_is_asked_for_in_one_place():
    texts = {path.name: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    asking = {name for name, text in texts.items() if 'getLogger("ddrm_pyg.' in text}
    assert asking == {"messages.py"}
