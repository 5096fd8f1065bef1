"""A file imports from floors below, or from an earlier file of its own floor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FACE = "ddrm_pyg"

# The house, floor by floor from the ground, and each floor from its first file to its
# last. An entry is a file, or a folder whose files may import one another (but not in
# a circle). A new file gets its line here.
HOUSE: tuple[tuple[str, ...], ...] = (
    (  # floor 1: tensors only
        "ddrm_pyg.checks",
        "ddrm_pyg.files",
        "ddrm_pyg.arrays",
        "ddrm_pyg.extras",
        "ddrm_pyg.messages",
        "ddrm_pyg.progress",
        "ddrm_pyg.mapped",
        "ddrm_pyg.ids",
        "ddrm_pyg.embeddings",
        "ddrm_pyg.graph.interaction_graph",
        "ddrm_pyg.graph.augment",
        "ddrm_pyg.graph.sampling",
        "ddrm_pyg.graph.sequences",
        "ddrm_pyg.graph.history_weight",
        "ddrm_pyg.typing",
        "ddrm_pyg.diffusion.schedule",
        "ddrm_pyg.diffusion.timestep",
        "ddrm_pyg.diffusion.process",
        "ddrm_pyg.diffusion.importance",
        "ddrm_pyg.diffusion.sampler",
    ),
    (  # floor 2: data and losses
        "ddrm_pyg.losses.pairwise",
        "ddrm_pyg.losses.pointwise",
        "ddrm_pyg.losses.contrastive",
        "ddrm_pyg.losses.multinomial",
        "ddrm_pyg.losses.softmax",
        "ddrm_pyg.losses.truncated",
        "ddrm_pyg.losses.reweighted",
        "ddrm_pyg.transforms.core",
        "ddrm_pyg.transforms.split",
        "ddrm_pyg.transforms.noise",
        "ddrm_pyg.datasets._graph",
        "ddrm_pyg.datasets._dialect",
        "ddrm_pyg.datasets._text",
        "ddrm_pyg.datasets._columns",
        "ddrm_pyg.datasets._header",
        "ddrm_pyg.datasets._table",
        "ddrm_pyg.datasets._delimited",
        "ddrm_pyg.datasets._json_lines",
        "ddrm_pyg.datasets._parquet",
        "ddrm_pyg.datasets._memory",
        "ddrm_pyg.datasets._folders",
        "ddrm_pyg.datasets.readers",
        "ddrm_pyg.datasets.hetero",
        "ddrm_pyg.datasets.writers",
        "ddrm_pyg.datasets.summary",
        "ddrm_pyg.datasets.base",
        "ddrm_pyg.datasets.paper",
        "ddrm_pyg.datasets.synthetic",
        "ddrm_pyg.datasets.movielens_1m",
        "ddrm_pyg.datasets.yelp",
        "ddrm_pyg.datasets.amazon_book",
        "ddrm_pyg.loader",
    ),
    (  # floor 3: modules
        "ddrm_pyg.nn.conv",
        "ddrm_pyg.nn._parts",
        "ddrm_pyg.nn._pretrained",
        "ddrm_pyg.nn._noise",
        "ddrm_pyg.nn.denoiser",
        "ddrm_pyg.nn.future",
        "ddrm_pyg.nn.ddrm",
        "ddrm_pyg.nn.models._pairwise",
        "ddrm_pyg.nn.models._similarity",
        "ddrm_pyg.nn.models._rows",
        "ddrm_pyg.nn.models.popularity",
        "ddrm_pyg.nn.models.item_knn",
        "ddrm_pyg.nn.models.ease",
        "ddrm_pyg.nn.models.svd",
        "ddrm_pyg.nn.models.mf",
        "ddrm_pyg.nn.models.lightgcn",
        "ddrm_pyg.nn.models.sgl",
        "ddrm_pyg.nn.models.adagcl",
        "ddrm_pyg.nn.models.cdae",
        "ddrm_pyg.nn.models.multivae",
        "ddrm_pyg.nn.models.diffrec",
        "ddrm_pyg.nn.models.sasrec",
        "ddrm_pyg.nn._saved_past",
        "ddrm_pyg.nn.deca",
    ),
    (  # floor 4: verbs
        "ddrm_pyg.ranking",
        "ddrm_pyg.pipeline",
        "ddrm_pyg.significance",
        "ddrm_pyg.ann",
        "ddrm_pyg.training",
        "ddrm_pyg.noise_audit.signals",
        "ddrm_pyg.noise_audit.measures",
        "ddrm_pyg.testing",
    ),
    (  # floor 5: what people run
        "ddrm_pyg.experiments",
        "ddrm_pyg.paper.published",
        "ddrm_pyg.paper.outline",
        "ddrm_pyg.paper.execute",
        "ddrm_pyg.paper.results",
        "ddrm_pyg.paper.page",
        "ddrm_pyg.paper.docs",
        "ddrm_pyg.serving",
        "ddrm_pyg.scale.world",
        "ddrm_pyg.scale.rows",
        "ddrm_pyg.scale.ingest",
        "ddrm_pyg.scale.ideal",
        "ddrm_pyg.scale.append",
        "ddrm_pyg.scale.worker",
        "ddrm_pyg.scale.local",
        "ddrm_pyg.scale.train",
        "ddrm_pyg.scale.train_mf",
        "ddrm_pyg.scale.ray",
        "ddrm_pyg.cli",
        "ddrm_pyg.runs",
        "ddrm_pyg.__main__",
    ),
)
PLACES = [(entry, floor) for floor, entries in enumerate(HOUSE, 1) for entry in entries]


def find_modules(root: Path) -> dict[str, Path]:
    """Every module under ``root/ddrm_pyg`` by its dotted name."""
    modules = {}
    for path in sorted((root / FACE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def span(module: str) -> tuple[int, int] | None:
    """First and last place of a module: a package spans the places of its files."""
    for place, (entry, _) in enumerate(PLACES):
        if module == entry or module.startswith(f"{entry}."):
            return place, place
    inside = [
        i for i, (entry, _) in enumerate(PLACES) if entry.startswith(f"{module}.")
    ]
    return (inside[0], inside[-1]) if inside else None


def targets_of_from(
    node: ast.ImportFrom, package: str, modules: dict[str, Path]
) -> Iterator[str]:
    base = resolve_name("." * node.level + (node.module or ""), package)
    for alias in node.names:
        # `from package import name` names a file where there is one of that name
        full = f"{base}.{alias.name}"
        yield full if base != FACE and full in modules else base


def dynamic_target(node: ast.Call) -> Iterator[str]:
    function = node.func
    name = getattr(function, "attr", None) or getattr(function, "id", None)
    if name in {"import_module", "__import__"} and node.args:
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def find_imports(module: str, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and target of every import inside the package, wherever it stands."""
    path = modules[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: Iterator[str] = iter(())
        if isinstance(node, ast.Import):
            targets = (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            targets = targets_of_from(node, package, modules)
        elif isinstance(node, ast.Call):
            targets = dynamic_target(node)
        for target in targets:
            if target != module and target.split(".")[0] == FACE:
                yield getattr(node, "lineno", 0), target


def judge(module: str, target: str, modules: dict[str, Path]) -> str | None:
    """What is wrong with an import, if anything."""
    if target == FACE:
        return "imports from the face: import the name from its own module"
    is_package = modules[module].name == "__init__.py"
    if is_package and target.startswith(f"{module}."):
        return None
    here, there = span(module), span(target)
    if here is None or (there is None and target in modules):
        return None  # the unlisted file is reported once, by itself
    if there is None:
        return f"imports {target}, which is neither a file nor in HOUSE"
    inside_one_folder = here == there and here[0] == here[1]
    if there[1] < here[0] or inside_one_folder:
        return None
    floor, above = PLACES[here[0]][1], PLACES[there[1]][1]
    if above > floor:
        return f"on floor {floor} imports {target} from floor {above}"
    return f"imports {target}, listed later on their floor {floor}"


def find_problems(root: Path) -> list[str]:
    modules = find_modules(root)
    problems = [
        f"{module}: not in the house: add it to HOUSE in tests/test_floors.py"
        for module in modules
        if module != FACE and span(module) is None
    ]
    edges: dict[str, set[str]] = {}
    for module in modules:
        if module == FACE:  # resolves its names lazily, on first use
            continue
        edges[module] = set()
        for line, target in find_imports(module, modules):
            edges[module].add(target)
            problem = judge(module, target, modules)
            if problem:
                problems.append(f"{module}:{line}: {problem}")
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        problems.append(f"a circle: {' <- '.join(error.args[1])}")
    return sorted(set(problems))


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / FACE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    return root


def test_package_keeps_to_the_floors():
    assert len(find_modules(REPOSITORY)) > 10
    assert find_problems(REPOSITORY) == []


def test_the_paper_is_a_guest():
    # nobody but its command knows it
    modules = find_modules(REPOSITORY)
    hosts = {
        module
        for module in modules
        for _, target in find_imports(module, modules)
        if target.startswith(f"{FACE}.paper") and not module.startswith(f"{FACE}.paper")
    }
    assert hosts == {f"{FACE}.cli.reproduce"}


def test_house_lists_each_place_once():
    entries = [entry for entry, _ in PLACES]
    assert len(set(entries)) == len(entries)


def test_house_follows_the_design():
    # design, section 1: who must not know whom
    place = {entry: i for i, (entry, _) in enumerate(PLACES)}
    models = [i for entry, i in place.items() if entry.startswith("ddrm_pyg.nn.models")]
    modules = [i for entry, i in place.items() if entry.startswith("ddrm_pyg.nn.")]
    below_nn = ("losses", "transforms", "datasets", "loader", "graph", "diffusion")
    assert place["ddrm_pyg.nn.ddrm"] < min(models)
    assert place["ddrm_pyg.nn.deca"] > max(models)
    assert place["ddrm_pyg.ranking"] > max(modules)
    for entry, i in place.items():
        if entry.split(".")[1] in below_nn:
            assert i < min(modules), entry


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            {
                "loader.py": "from ddrm_pyg.graph.sampling import draw\nimport torch",
                "graph/sampling.py": "from .interaction_graph import InteractionGraph",
                "graph/interaction_graph.py": "from ddrm_pyg.files import atomic_path",
                "files.py": "",
            },
            id="below and earlier",
        ),
        pytest.param(
            {
                "nn/__init__.py": "from ddrm_pyg.nn.conv import A\nfrom . import deca",
                "nn/conv.py": "A = 1",
                "nn/deca.py": "from ddrm_pyg.nn.models import MF",
                "nn/models/__init__.py": "from ddrm_pyg.nn.models.mf import MF",
                "nn/models/mf.py": "from ddrm_pyg.diffusion import Gaussian",
                "diffusion/__init__.py": "Gaussian = 1",
            },
            id="a package holds its own files",
        ),
        pytest.param(
            {
                "cli/__init__.py": "from ddrm_pyg.cli import run",
                "cli/run.py": "from ddrm_pyg.cli.common import a\n"
                "from ddrm_pyg.experiments import runner",
                "cli/common.py": "a = 1",
                "experiments/runner.py": "import ddrm_pyg.training",
                "training.py": "",
            },
            id="inside a listed folder",
        ),
        pytest.param(
            {"__init__.py": "from ddrm_pyg.nn.ddrm import DDRM", "nn/ddrm.py": ""},
            id="the face is exempt",
        ),
    ],
)
def test_checker_accepts(tmp_path, files):
    assert find_problems(write_tree(tmp_path, files)) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {"loader.py": "from ddrm_pyg.nn.conv import A", "nn/conv.py": "A = 1"},
            "ddrm_pyg.loader:1: on floor 2 imports ddrm_pyg.nn.conv from floor 3",
            id="floor above",
        ),
        pytest.param(
            {"losses/pairwise.py": "import ddrm_pyg.nn"},
            "ddrm_pyg.losses.pairwise:1: on floor 2 imports ddrm_pyg.nn from floor 3",
            id="losses never import nn, present or not",
        ),
        pytest.param(
            {"nn/ddrm.py": "\nfrom ddrm_pyg.nn import models", "nn/models/mf.py": ""},
            "ddrm_pyg.nn.ddrm:2: imports ddrm_pyg.nn.models, listed later on their",
            id="DDRM never knows a backend",
        ),
        pytest.param(
            {"graph/augment.py": "from .sampling import a", "graph/sampling.py": ""},
            "ddrm_pyg.graph.augment:1: imports ddrm_pyg.graph.sampling, listed later",
            id="later on its own floor, relative",
        ),
        pytest.param(
            {"graph/sampling.py": "from ddrm_pyg.graph import InteractionGraph"},
            "ddrm_pyg.graph.sampling:1: imports ddrm_pyg.graph, listed later",
            id="its own package's face",
        ),
        pytest.param(
            {"nn/models/mf.py": "def f():\n    from ..deca import A", "nn/deca.py": ""},
            "ddrm_pyg.nn.models.mf:2: imports ddrm_pyg.nn.deca, listed later",
            id="inside a function",
        ),
        pytest.param(
            {
                "embeddings.py": "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from ddrm_pyg.ranking import evaluate",
                "ranking.py": "",
            },
            "ddrm_pyg.embeddings:3: on floor 1 imports ddrm_pyg.ranking from floor 4",
            id="for type checking only",
        ),
        pytest.param(
            {
                "files.py": "from importlib import import_module\n"
                "import_module('ddrm_pyg.cli')",
                "cli/run.py": "",
            },
            "ddrm_pyg.files:2: on floor 1 imports ddrm_pyg.cli from floor 5",
            id="by name",
        ),
        pytest.param(
            {"training.py": "from ddrm_pyg import DDRM"},
            "ddrm_pyg.training:1: imports from the face",
            id="the face",
        ),
        pytest.param(
            {"cli/run.py": "from .. import ranking", "ranking.py": ""},
            "ddrm_pyg.cli.run:1: imports from the face",
            id="the face, relative",
        ),
        pytest.param(
            {"cli/a.py": "import ddrm_pyg.cli.b", "cli/b.py": "from . import a"},
            "a circle: ddrm_pyg.cli.",
            id="a circle inside a listed folder",
        ),
        pytest.param(
            {"cli/__init__.py": "from . import a", "cli/a.py": "from . import app"},
            "a circle: ddrm_pyg.cli",
            id="a circle through a package",
        ),
        pytest.param(
            {"nn/attention.py": ""},
            "ddrm_pyg.nn.attention: not in the house: add it to HOUSE in tests/test_fl",
            id="unknown file",
        ),
        pytest.param(
            {"training.py": "from ddrm_pyg.metrics import recall"},
            "ddrm_pyg.training:1: imports ddrm_pyg.metrics, which is neither a file",
            id="unknown target",
        ),
    ],
)
def test_checker_refuses(tmp_path, files, expected):
    problems = find_problems(write_tree(tmp_path, files))
    assert any(problem.startswith(expected) for problem in problems), problems
