"""One page says what was compared with the papers, and to how many digits.

Tests marked ``fidelity`` compare with the fixture ``agrees``, to as many digits as
their mark says; the page is written from the marks. ``python tests/test_fidelity.py``
writes it again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "fidelity.md"

HEAD = """# Fidelity

Methods are compared with their papers' formulas or with values by hand, not with other
code. Numbers agree to at least the digits below, absolutely and relatively. Each row
is a test, and the test fails where the digits do not hold.

Where the authors' code departs from its paper, the class says so in its docstring.

| method | what | compared with | digits | test |
|---|---|---|---:|---|
"""


class Row(NamedTuple):
    method: str
    what: str
    against: str
    digits: int
    test: str


def marks_of(path: Path) -> Iterator[Row]:
    """Read the marks of a test file without running it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for call in getattr(node, "decorator_list", ()):
            if not isinstance(call, ast.Call) or not isinstance(
                call.func, ast.Attribute
            ):
                continue
            if call.func.attr == "fidelity":
                words = [ast.literal_eval(word) for word in call.args]
                (digits,) = (ast.literal_eval(k.value) for k in call.keywords)
                where = f"{path.relative_to(TESTS.parent).as_posix()}::{node.name}"
                assert "agrees" in {argument.arg for argument in node.args.args}, where
                yield Row(*words, digits, where)


def rows() -> list[Row]:
    return sorted(row for path in TESTS.rglob("test_*.py") for row in marks_of(path))


def page() -> str:
    lines = (
        f"| {row.method} | {row.what} | {row.against} | {row.digits} | `{row.test}` |\n"
        for row in rows()
    )
    return HEAD + "".join(lines)


def test_the_page_is_what_the_marks_say():
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_method_is_on_it():
    diffusion = {"DDRM", "DiffRec", "T-DiffRec", "L-DiffRec"}
    cleaning = {"DeCA", "T-CE", "R-CE"}
    backends = {"LightGCN", "SGL", "SVD", "SASRec"}
    rivals = {"AdaGCL", "CDAE", "MultiDAE", "MultiVAE", "EASE"}
    methods = {*diffusion, *cleaning, *backends, *rivals}
    assert methods == {row.method for row in rows()}
    assert all(row.digits >= 4 for row in rows())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
