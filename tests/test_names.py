"""Values, arguments and functions have the field's names, not words like ``found``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("ddrm_pyg", "tests", "benchmarks", "examples", "docs")
VAGUE = frozenset(("told", "found", "given", "known", "stored", "needs", "sheets"))
"""What was done to a value, which says nothing of what it is."""


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all that a file names; names of tests are sentences."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if not node.name.startswith("test_"):
                yield node.lineno, node.name
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.lineno, node.name


def vague_names(text: str) -> list[str]:
    """Names of a program that hold a vague word, with their lines."""
    return [
        f"{line}: {name}"
        for line, name in bound_names(ast.parse(text))
        if VAGUE & set(re.findall(r"[a-z]+", re.sub("([A-Z])", r"_\1", name).lower()))
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_say_what_a_value_is(folder):
    problems = [
        f"{path.relative_to(REPOSITORY)}:{problem}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for problem in vague_names(path.read_text("utf-8"))
    ]
    assert problems == []


@pytest.mark.parametrize(
    "text",
    [
        "found = 1",
        "def f(known): ...",
        "def f(**given): ...",
        "def tell_needs(): ...",
        "class StoredRow: ...",
        "self.known_pairs = 1",
        "for told in (): ...",
        "async def f(*, found=1): ...",
        "try: ...\nexcept OSError as told: ...",
        "(found := 1)",
        "lambda given: 1",
    ],
)
def test_checker_refuses(text):
    (problem,) = vague_names(text)
    assert re.match(r"\d: ", problem)


def test_checker_accepts():
    text = "def test_told(unknown): ...\nx.known\nf(given=1)\nfrom h import given"
    assert vague_names(text) == []
