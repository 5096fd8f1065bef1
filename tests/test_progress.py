import io

import pytest

from ddrm_pyg.progress import HIDDEN, on_terminal, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("progress", "on_terminal", "elsewhere"),
    [(True, True, True), (None, True, False), (False, False, False)],
)
def test_bars_are_shown_where_they_are_wanted(progress, on_terminal, elsewhere):
    for file, shown in ((Terminal(), on_terminal), (io.StringIO(), elsewhere)):
        assert list(progress_bar(range(3), progress=progress, file=file)) == [0, 1, 2]
        assert ("3/3" in file.getvalue()) is shown


def test_a_callers_switch_shows_no_bar_in_a_file():
    for progress, terminal in ((True, True), (False, False)):
        for file, shown in ((Terminal(), terminal), (io.StringIO(), False)):
            list(progress_bar(range(3), progress=on_terminal(progress), file=file))
            assert ("3/3" in file.getvalue()) is shown


def test_one_switch_hides_all():
    file = Terminal()
    token = HIDDEN.set(True)
    try:
        list(progress_bar(range(3), progress=True, file=file))
    finally:
        HIDDEN.reset(token)
    assert file.getvalue() == ""
    list(progress_bar(range(3), progress=True, file=file))
    assert file.getvalue()
