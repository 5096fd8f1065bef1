"""What a wheel would hold, read from the metadata instead of built."""

from __future__ import annotations

import re
import subprocess
import tomllib
from configparser import ConfigParser
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import ddrm_pyg

REPOSITORY = Path(__file__).parents[1]
UNSAFE = re.compile(
    r"allow_pickle\s*=\s*True|weights_only\s*=\s*False|\bpickle\.(?:load|Unpickler)"
    r"|^\s*(?:import|from)\s+(?:pickle|cloudpickle|dill|joblib)\b",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def setup_cfg():
    parser = ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def lines(value: str) -> list[str]:
    return [line.strip() for line in value.splitlines() if line.strip()]


def test_data_files_reach_the_wheel(setup_cfg):
    data = dict(setup_cfg["options.package_data"])
    assert "py.typed" in data["ddrm_pyg"].split()
    assert "settings/*.json" in data["ddrm_pyg.experiments"].split()
    assert (REPOSITORY / "ddrm_pyg" / "py.typed").is_file()


def test_only_the_package_reaches_the_wheel(setup_cfg):
    # datasets/ at the root holds data: it must never be installed as a package
    assert setup_cfg["options"]["packages"] == "find:"
    assert setup_cfg["options.packages.find"]["include"] == "ddrm_pyg*"


def test_every_folder_of_code_is_a_package():
    # `packages = find:` leaves out a folder without __init__.py
    folders = {path.parent for path in (REPOSITORY / "ddrm_pyg").rglob("*.py")}
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def test_setup_cfg_is_not_overridden():
    with open(REPOSITORY / "pyproject.toml", "rb") as file:
        pyproject = tomllib.load(file)
    assert "project" not in pyproject
    assert pyproject["build-system"]["build-backend"] == "setuptools.build_meta"


def test_version_is_the_same_everywhere(setup_cfg):
    assert setup_cfg["metadata"]["version"] == ddrm_pyg.__version__
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {ddrm_pyg.__version__}\n" in citation


def test_the_image_has_the_pinned_torch():
    image = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").split()
    assert re.search(r"torch==\S+", image).group() in pinned


def test_console_script(setup_cfg):
    scripts = lines(setup_cfg["options.entry_points"]["console_scripts"])
    assert scripts == ["ddrm-pyg = ddrm_pyg.cli:main"]
    (script,) = entry_points(group="console_scripts", name="ddrm-pyg")
    assert script.value == "ddrm_pyg.cli:main"


def test_linters_are_pinned_alike(setup_cfg):
    extra = lines(setup_cfg["options.extras_require"]["dev"])
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").split()
    exact = [requirement for requirement in extra if "==" in requirement]
    assert len(exact) == 2
    assert set(exact) <= set(pinned)


def test_every_requirement_is_pinned(setup_cfg):
    required = lines(setup_cfg["options"]["install_requires"])
    required += lines(setup_cfg["options.extras_require"]["test"])
    names = {re.split(r"[<>=!~\[; ]", line)[0].lower() for line in required}
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower() for line in text.splitlines() if "==" in line}
    assert len(names) > 5
    assert names <= pinned


def test_no_large_file_is_tracked():
    try:
        answer = subprocess.run(
            ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    names = [name for name in answer.stdout.decode().split("\0") if name]
    sizes = {
        name: (REPOSITORY / name).stat().st_size
        for name in names
        if (REPOSITORY / name).is_file()
    }
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


def test_nothing_is_unpickled():
    calls = [
        f"{path.relative_to(REPOSITORY)}: {match.group().strip()}"
        for path in sorted((REPOSITORY / "ddrm_pyg").rglob("*.py"))
        for match in UNSAFE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert calls == []


@pytest.mark.parametrize(
    "text",
    [
        "np.load(path, allow_pickle=True)",
        "torch.load(path, weights_only = False)",
        "pickle.load(file)",
        "pickle.loads(data)",
        "a = 1\nimport pickle",
        "from joblib import load",
    ],
)
def test_unpickling_is_recognised(text):
    assert UNSAFE.search(text)


def test_safe_loading_is_accepted():
    assert not UNSAFE.search("np.load(path, allow_pickle=False)  # no pickle here")
