"""Every module has a test file of the same path."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXEMPT = {"typing.py"}  # protocols: nothing runs


def mirror_of(path: Path) -> Path:
    """Where a module's tests live."""
    return path.parent / f"test_{path.name}"


def find_missing(root: Path) -> list[str]:
    missing = []
    for source in sorted((root / "ddrm_pyg").rglob("*.py")):
        path = source.relative_to(root / "ddrm_pyg")
        if path.name == "__init__.py" or path.as_posix() in EXEMPT:
            continue
        mirror = root / "tests" / mirror_of(path)
        if not mirror.is_file() or "def test_" not in mirror.read_text("utf-8"):
            missing.append(f"{source.relative_to(root)} -> {mirror.relative_to(root)}")
    return missing


def test_every_module_has_its_tests():
    assert find_missing(REPOSITORY) == []


def test_checker_knows_the_mirror(tmp_path):
    for name in (
        "ddrm_pyg/__init__.py",
        "ddrm_pyg/typing.py",
        "ddrm_pyg/tested.py",
        "ddrm_pyg/empty.py",
        "ddrm_pyg/nn/_private.py",
        "ddrm_pyg/nn/typing.py",
        "tests/test_tested.py",
        "tests/test_empty.py",
        "tests/nn/test__private.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("tests/test_tested.py", "tests/nn/test__private.py"):
        (tmp_path / name).write_text("def test_it():\n    pass\n", encoding="utf-8")
    assert find_missing(tmp_path) == [
        "ddrm_pyg/empty.py -> tests/test_empty.py",
        "ddrm_pyg/nn/typing.py -> tests/nn/test_typing.py",
    ]
