"""Run an experiment as cells: each trains, evaluates and writes, once.

A cell is a method with its settings and seed on one data set. Its folder is named by a
hash of all of these, so that a changed setting, seed or data file never meets an old
result, and its ``result.json`` is written last, so that a killed run goes on with the
cell that was not finished.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.memory import PeakMemory
from ddrm_pyg.experiments.sources import nearest
from ddrm_pyg.files import atomic_path
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bpr_loss
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.deca import DeCA
from ddrm_pyg.nn.models import EASE, MF, SGL, ItemKNN, LightGCN, Popularity
from ddrm_pyg.ranking import Metrics, evaluate
from ddrm_pyg.training import FitResult, fit
from ddrm_pyg.typing import Recommender, Scorer

logger = logging.getLogger("ddrm_pyg")

DEEPEST = 6
"""Largest propagation depth that validation may pick."""


@dataclass(frozen=True)
class Cell:
    """One row of a table, before it is run.

    Attributes:
        method: A key of :data:`METHODS`.
        seed: Seed of initial weights and training; None for closed forms.
        model: Constructor arguments of the method; of the backend, where a method
            cleans a backend's training.
        fit: Arguments of :func:`ddrm_pyg.fit`.
        base: The cell whose embeddings or weights this one starts from.
        clean: Settings of what cleans a backend's training (``+t-ce``, ...).
    """

    method: str
    seed: int | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    base: Cell | None = None
    clean: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"'method' must be one of {sorted(METHODS)} (got '{self.method}')"
            )


def cell_from_record(record: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from ``dataclasses.asdict``, as JSON keeps it."""
    base = record["base"]
    return Cell(**{**record, "base": base and cell_from_record(base)})


@dataclass
class Outcome:
    """What running a method gives.

    Attributes:
        scorer: Ranks the items.
        tensors: What later cells start from, by file stem.
        notes: What was chosen on the way.
        fit: What training did, where there was any.
        num_parameters: Trained numbers; None without training.
    """

    scorer: Scorer
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    fit: FitResult | None = None
    num_parameters: int | None = None


@dataclass(frozen=True)
class Result:
    """A cell that has been run.

    Attributes:
        cell: The cell.
        folder: Where its files are.
        val: Validation metrics (means); empty without a validation split.
        test: Test metrics, with per-user values.
        notes: What was chosen on the way.
        history: Training records, one per epoch.
        best_epoch: Selected epoch; None without training.
        seconds: Wall time of training or solving.
        peak_memory: Bytes that training or solving added to the process at its peak,
            see :class:`ddrm_pyg.experiments.memory.PeakMemory`.
        num_parameters: Trained numbers; None without training.
    """

    cell: Cell
    folder: Path
    val: dict[str, float]
    test: Metrics
    notes: dict[str, Any]
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float
    peak_memory: int
    num_parameters: int | None

    def embeddings(self, name: str = "embeddings") -> Embeddings:
        """Read the tables that the cell left for later ones."""
        return Embeddings.load(self.folder / f"{name}.safetensors")

    def weights(self) -> dict[str, Tensor]:
        """Read the weights that the cell left for later ones."""
        return load_file(self.folder / "weights.safetensors")


class Runner:
    """Runs cells on one data set and keeps their results in a folder.

    Args:
        data: The loaded data set.
        folder: Where cells are kept.
        device: Where models train.
        progress: Show bars on a terminal.
    """

    def __init__(
        self,
        data: HeteroData,
        folder: str | os.PathLike[str],
        *,
        device: str | None = None,
        progress: bool = True,
    ) -> None:
        self.data = data
        self.folder = Path(folder)
        self.device = device
        self.progress = progress

    @cached_property
    def graph(self) -> InteractionGraph:
        """Train interactions."""
        return InteractionGraph.from_data(self.data)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all pairs of all splits."""
        return fingerprint(self.data)

    @cached_property
    def has_validation(self) -> bool:
        """Whether anything can be selected."""
        return InteractionGraph.from_data(self.data, splits=("val",)).num_edges > 0

    def cell_folder(self, cell: Cell) -> Path:
        """Folder of a cell, named by its method and a hash of what defines it."""
        identity = json.dumps(dataclasses.asdict(cell), sort_keys=True)
        digest = hashlib.sha256((identity + self.fingerprint).encode()).hexdigest()
        return self.folder / f"{cell.method}-{digest[:12]}"

    def has_run(self, cell: Cell) -> bool:
        """Whether a cell's result is there."""
        return (self.cell_folder(cell) / "result.json").exists()

    def run(self, cell: Cell) -> Result:
        """Return a cell's result, from its folder if it has been run before."""
        folder = self.cell_folder(cell)
        if not self.has_run(cell):
            if cell.base is not None:  # its time is its own
                self.run(cell.base)
            logger.info("%s ...", cell.method)
            folder.mkdir(parents=True, exist_ok=True)
            begin = time.perf_counter()
            with PeakMemory(self.device) as peak:
                outcome = METHODS[cell.method](self, cell)
            cost = {
                "seconds": round(time.perf_counter() - begin, 3),
                "peak_memory": peak.bytes,
                "num_parameters": outcome.num_parameters,
            }
            self._write(cell, folder, outcome, cost)
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        return _read(cell, folder)

    def train(self, cell: Cell, model: Recommender) -> FitResult:
        """Fit a cell's model, from its checkpoint if there is one."""
        folder = self.cell_folder(cell)
        return fit(
            model,
            self.data,
            **cell.fit,
            seed=cell.seed or 0,
            checkpoint=folder / "checkpoint.pt",
            log=folder / "log.jsonl",
            device=self.device,
            progress=self.progress,
        )

    def _write(
        self, cell: Cell, folder: Path, outcome: Outcome, cost: dict[str, Any]
    ) -> None:
        test = evaluate(outcome.scorer, self.data, split="test")
        val = {}
        if self.has_validation:
            val = dict(evaluate(outcome.scorer, self.data, split="val"))
        for name, tensors in outcome.tensors.items():
            contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            with atomic_path(folder / f"{name}.safetensors") as temporary:
                save_file(contiguous, temporary)
        with atomic_path(folder / "per_user.safetensors") as temporary:
            save_file({"user": test.user, **test.per_user}, temporary)
        record = {
            "cell": dataclasses.asdict(cell),
            "data": self.fingerprint,
            **cost,
            "notes": outcome.notes,
            "best_epoch": outcome.fit and outcome.fit.best_epoch,
            "history": outcome.fit.history if outcome.fit else [],
            "val": val,
            "test": dict(test),
        }
        write_json(folder / "result.json", record)


def _read(cell: Cell, folder: Path) -> Result:
    record = json.loads((folder / "result.json").read_text())
    per_user = load_file(folder / "per_user.safetensors")
    user = per_user.pop("user")
    overall = {k: v for k, v in record["test"].items() if k not in per_user}
    return Result(
        cell=cell,
        folder=folder,
        val=record["val"],
        test=Metrics(user, per_user, overall),
        notes=record["notes"],
        history=record["history"],
        best_epoch=record["best_epoch"],
        seconds=record["seconds"],
        peak_memory=record["peak_memory"],
        num_parameters=record["num_parameters"],
    )


def load_settings(name: str, method: str) -> dict[str, Any]:
    """Read the settings of a method from the package, or from a file.

    Args:
        name: A name in ``ddrm_pyg/experiments/settings``, or a path to a JSON file
            with objects ``model`` and ``fit``.
        method: The trained method they are for.

    Raises:
        ValueError: No such settings, not readable as such, or refused by the method.
    """
    folder = Path(__file__).parent / "settings"
    path = Path(name) if name.endswith(".json") else folder / f"{name}.json"
    if not path.is_file():
        stored = sorted(folder.glob("*.json"))
        known = [p.stem for p in stored if _read_json(p).get("method") == method]
        raise ValueError(
            f"'settings' must be a JSON file or one of {', '.join(known)} "
            f"(got '{name}'{nearest(name, known)})"
        )
    settings = _read_json(path)
    try:
        _check_settings(settings, method)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return settings


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error


def _check_settings(settings: Any, method: str) -> None:
    """Refuse what would only fail once the models before this one are trained."""
    if not isinstance(settings, dict) or not all(
        isinstance(settings.get(part), dict) for part in ("model", "fit")
    ):
        raise ValueError("must hold the objects 'model' and 'fit'")
    if settings.get("method", method) != method:
        raise ValueError(f"'method' must be '{method}' (got '{settings['method']}')")
    _check_model_settings(settings["model"], method)
    for name, default in _defaults("fit", settings["fit"], fit, 2).items():
        value = settings["fit"][name]
        kind = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, kind):
            raise ValueError(f"'{name}' must be like {default!r} (got {value!r})")


def _check_model_settings(model: Mapping[str, Any], method: str) -> None:
    """Build what the settings are for, at the smallest size."""
    if method in CLEANERS:
        CLEANERS[method](functools.partial(MF, 1, 1), 1, model)
        return
    kind = DDRM if method == "ddrm" else BACKENDS[method]
    sizes = (1,) if method == "ddrm" else (1, 1)  # the embeddings', or the data's
    _defaults("model", model, kind, len(sizes))
    kind(*sizes, **model)


def _defaults(
    part: str, given: Mapping[str, Any], function: Callable[..., Any], first: int
) -> dict[str, Any]:
    """Default of every argument that is given; unknown ones are refused."""
    parameters = list(inspect.signature(function).parameters.values())[first:]
    known = {p.name: p.default for p in parameters if p.name not in _RUNNER_GIVES}
    for name in given:
        if name not in known:
            raise ValueError(f"'{part}' has no setting '{name}'{nearest(name, known)}")
    return {name: known[name] for name in given}


def load_embeddings(
    path: str | os.PathLike[str], graph: InteractionGraph
) -> Embeddings:
    """Read tables for a graph as float32, in which propagation and DDRM compute.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The tables cannot be scored or do not match the graph.
    """
    tables = Embeddings.load(path)
    tables.check_matches(graph.num_users, graph.num_items, str(path))
    if all(table.dtype == torch.float32 for table in tables):
        return tables
    logger.warning("%s: read as float32", path)
    tables = Embeddings(tables.user.float(), tables.item.float())
    tables.check(str(path))
    return tables


def write_json(path: str | os.PathLike[str], record: Any) -> None:
    """Write readable JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def fingerprint(data: HeteroData) -> str:
    """Hash a data set: its sizes and the pairs of every split.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        pairs = InteractionGraph.from_data(data, splits=(split,)).edge_index
        digest.update(f"{split} {list(pairs.shape)} ".encode())
        digest.update(pairs.cpu().contiguous().numpy().tobytes())
    digest.update(f"{data['user'].num_nodes} {data['item'].num_nodes}".encode())
    return digest.hexdigest()


def _closed_form(model: Callable[..., Any]) -> Callable[[Runner, Cell], Outcome]:
    def solve(runner: Runner, cell: Cell) -> Outcome:
        return Outcome(model(**cell.model).scorer(runner.graph))

    return solve


def _backend(
    model: Callable[..., Any], clean: Callable[..., Any] | None = None
) -> Callable[[Runner, Cell], Outcome]:
    def train(runner: Runner, cell: Cell) -> Outcome:
        torch.manual_seed(cell.seed or 0)
        graph = runner.graph

        def build(**changed: Any) -> Any:
            return model(graph.num_users, graph.num_items, **{**cell.model, **changed})

        if clean is None:
            trained = backend = build()
        else:
            trained, backend = clean(build, _steps_per_epoch(runner, cell), cell.clean)
        result = runner.train(cell, trained)
        emb = backend.scorer(graph.to(backend.user_table.device))
        tables = {"user": backend.user_table, "item": backend.item_table}
        return Outcome(
            emb,
            {"embeddings": emb._asdict(), "tables": tables},
            fit=result,
            num_parameters=_num_parameters(trained),
        )

    return train


def _num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _steps_per_epoch(runner: Runner, cell: Cell) -> int:
    batch_size = cell.fit.get(
        "batch_size", inspect.signature(fit).parameters["batch_size"].default
    )
    return math.ceil(runner.graph.num_edges / batch_size)


# What cleans a backend's training: given how to build the backend, the steps of an
# epoch and the settings, each returns what is trained and the backend in it.


def _t_ce(
    build: Callable[..., Any],
    steps: int,
    settings: Mapping[str, Any],
) -> tuple[Any, Any]:
    # an unknown setting reaches the loss, which refuses it
    given = dict(settings)
    num_gradual = round(given.pop("num_gradual_epochs", 0) * steps)
    backend = build(pair_loss=TruncatedLoss(bpr_loss, num_gradual=num_gradual, **given))
    return backend, backend


def _r_ce(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    backend = build(pair_loss=ReweightedLoss(bpr_loss, **settings))
    return backend, backend


def _wbpr(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    backend = build(negatives="popularity", **settings)
    return backend, backend


def _deca(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    backend = build()
    return DeCA(backend, **settings), backend


def _given(runner: Runner, cell: Cell) -> Outcome:
    """Embeddings from a file, propagated as told."""
    tables = load_embeddings(cell.model["path"], runner.graph)
    emb = light_propagate(
        tables, runner.graph, cell.model["num_layers"], cell.model["combine"]
    )
    return Outcome(emb, {"embeddings": emb._asdict(), "tables": tables._asdict()})


def _best_depth(runner: Runner, cell: Cell) -> Outcome:
    """The backend's tables at the depth that validation likes best."""
    tables = _base(runner, cell).embeddings("tables")
    metric = cell.model.get("metric", "ndcg@20")
    combine = cell.model.get("combine", "mean")
    found = {}
    for depth in range(DEEPEST + 1):
        emb = light_propagate(tables, runner.graph, depth, combine)
        found[depth] = evaluate(emb, runner.data, split="val")[metric]
    depth = max(found, key=found.__getitem__)
    return Outcome(
        light_propagate(tables, runner.graph, depth, combine),
        notes={"num_layers": depth, f"val {metric} by depth": list(found.values())},
    )


def _history_mean(runner: Runner, cell: Cell) -> Outcome:
    """Where DDRM starts, taken as the answer."""
    emb = _base(runner, cell).embeddings()
    return Outcome(Embeddings(runner.graph.history_mean(emb.item), emb.item))


def _ddrm(runner: Runner, cell: Cell) -> Outcome:
    torch.manual_seed(cell.seed or 0)
    emb = _base(runner, cell).embeddings()
    ddrm = DDRM(emb.user.size(1), **cell.model)
    model = DDRMRecommender(ddrm, emb)
    result = runner.train(cell, model)
    denoised = model.scorer(runner.graph.to(model.user_emb.device))
    return Outcome(
        denoised,
        {"embeddings": denoised._asdict(), "weights": ddrm.state_dict()},
        fit=result,
        num_parameters=_num_parameters(ddrm),
    )


def _one_pass(runner: Runner, cell: Cell) -> Outcome:
    """The trained DDRM as a plain denoiser: no noise added, one reverse step."""
    trained = _base(runner, cell)
    backend = _base(runner, trained.cell)
    emb = backend.embeddings()
    ddrm = load_ddrm(trained, num_inference_steps=1, num_start_steps=0)
    return Outcome(ddrm(emb.user, emb.item, runner.graph))


def load_ddrm(trained: Result, **changed: Any) -> DDRM:
    """Rebuild a trained DDRM from its cell.

    Args:
        trained: A result of method ``ddrm``.
        **changed: Constructor arguments to replace.
    """
    weights = trained.weights()
    width = weights["item_denoiser.layers.0.weight"].size(1)
    time_dim = weights["item_denoiser.time.weight"].size(0)
    settings = {**trained.cell.model, **changed}
    ddrm = DDRM((width - time_dim) // 2, **settings)
    ddrm.load_state_dict(weights)
    return ddrm


def _base(runner: Runner, cell: Cell) -> Result:
    if cell.base is None:
        raise ValueError(f"'base' must be a cell for method '{cell.method}' (got None)")
    return runner.run(cell.base)


_RUNNER_GIVES = ("seed", "checkpoint", "log", "device", "progress")

BACKENDS: dict[str, Callable[..., Any]] = {"mf": MF, "lightgcn": LightGCN, "sgl": SGL}
"""Method name to the backend."""

CLEANERS: dict[str, Callable[..., Any]] = {
    "t-ce": _t_ce,
    "r-ce": _r_ce,
    "deca": _deca,
    "wbpr": _wbpr,
}
"""What can clean a backend's training."""

METHODS: dict[str, Callable[[Runner, Cell], Outcome]] = {
    "popularity": _closed_form(Popularity),
    "item_knn": _closed_form(ItemKNN),
    "ease": _closed_form(EASE),
    **{name: _backend(model) for name, model in BACKENDS.items()},
    **{
        f"{name}+{cleaner}": _backend(model, clean)
        for name, model in BACKENDS.items()
        for cleaner, clean in CLEANERS.items()
    },
    "embeddings": _given,
    "best_depth": _best_depth,
    "history_mean": _history_mean,
    "one_pass": _one_pass,
    "ddrm": _ddrm,
}
"""Method name to what runs it."""
