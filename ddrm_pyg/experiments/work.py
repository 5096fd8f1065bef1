"""What methods do: each takes its work and returns an outcome."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import Cell, starts_from_past
from ddrm_pyg.experiments.methods import METHODS, Method, find
from ddrm_pyg.experiments.settings import check_history
from ddrm_pyg.files import hash_file
from ddrm_pyg.graph.history_weight import agreement_weight, recency_weight
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, has_validation
from ddrm_pyg.graph.sequences import edge_order, tells_order
from ddrm_pyg.ids import align, raw_ids, read_ids
from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bce_loss, bpr_loss
from ddrm_pyg.nn._pretrained import load_tensors
from ddrm_pyg.nn.conv import light_propagate, propagate_depths
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.deca import DeCA
from ddrm_pyg.nn.future import HistoryMeans, HistoryStates
from ddrm_pyg.nn.models import SVD, group_items
from ddrm_pyg.noise_audit import LossTrajectory
from ddrm_pyg.ranking import Metrics, evaluate
from ddrm_pyg.training import FitResult, own_randomness
from ddrm_pyg.typing import Recommender, Scorer

logger = logging.getLogger("ddrm_pyg")


EMBEDDINGS = "embeddings"
"""File stem of the tables that rank."""


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
        seconds: Wall time of training or solving; of a training that was interrupted,
            its epochs in all processes.
        peak_memory: Bytes that training or solving added to the process at its peak,
            see :class:`ddrm_pyg.experiments.memory.PeakMemory`.
        num_parameters: Trained numbers; None without training.
        hashes: SHA-256 of the files that it left, by name; empty of old results.
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
    hashes: Mapping[str, str] = field(default_factory=dict)

    def embeddings(self, name: str = EMBEDDINGS) -> Embeddings:
        """Read the tables that the cell left for later ones.

        Raises:
            ValueError: They are not there, damaged, or not those of this cell.
        """
        return self._read(name, Embeddings.load)

    def tensors(self, name: str = "weights") -> dict[str, Tensor]:
        """Read tensors that the cell left for later ones.

        Raises:
            ValueError: As of :meth:`embeddings`.
        """
        return self._read(name, load_tensors)

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        path = self.folder / f"{name}.safetensors"
        try:
            check_hash(path, self.hashes)
            return read(path)
        except (OSError, ValueError) as error:
            raise damaged(self.folder, error) from error


def check_hash(path: Path, hashes: Mapping[str, str]) -> None:
    """Refuse a file that is not the one which was written with its result.

    Args:
        path: The file.
        hashes: SHA-256 by name; a file that they do not name is believed.

    Raises:
        OSError: It cannot be read.
        ValueError: It is another one.
    """
    expected = hashes.get(path.name)
    if expected is not None and hash_file(path) != expected:
        raise ValueError(f"{path.name} is not the one that was written with it")


def damaged(folder: Path, error: Exception) -> ValueError:
    """Say of a result that it cannot be believed, and what to do."""
    return ValueError(
        f"{folder}: the result is damaged ({error}); delete this folder, and it is "
        "run again"
    )


@dataclass
class Outcome:
    """What running a method gives.

    Attributes:
        scorer: Ranks the items; None where a cell is not judged by its lists.
        tensors: What later cells start from, by file stem.
        notes: What was chosen on the way.
        fit: What training did, where there was any.
        num_parameters: Trained numbers; None without training.
    """

    scorer: Scorer | None
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    fit: FitResult | None = None
    num_parameters: int | None = None


@dataclass(frozen=True)
class Work:
    """What a method works on; torch's global generator has the cell's seed.

    Attributes:
        cell: What is asked for.
        data: The loaded data set.
        graph: Its train interactions.
        bases: Results of all that the cell starts from, the nearest first.
        fit: Trains a model with the cell's settings, from its checkpoint if there is
            one.
        device: Where models train; where they are if None.
    """

    cell: Cell
    data: HeteroData
    graph: InteractionGraph
    bases: tuple[Result, ...]
    fit: Callable[[Recommender], FitResult]
    device: str | None = None

    @property
    def method(self) -> Method:
        """The record of the cell's method."""
        return find(self.cell.method)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the model, those that came later included."""
        return self.method.model.fill(self.cell.model)

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self.cell.seed or 0

    @property
    def base(self) -> Result:
        """What the cell starts from.

        Raises:
            ValueError: It starts from nothing.
        """
        if not self.bases:
            method = self.cell.method
            raise ValueError(f"'base' must be a cell for method '{method}' (got None)")
        return self.bases[0]

    @property
    def vectors(self) -> Embeddings:
        """What is denoised: the embeddings beneath, which no DDRM has changed.

        Raises:
            ValueError: There are none.
        """
        base = self.base
        plain = (base for base in self.bases if base.cell.method != "ddrm")
        return next(plain, base).embeddings()

    def build(self, **changed: Any) -> Any:
        """Build the method's model.

        Args:
            **changed: Constructor arguments to replace.
        """
        arguments = self.method.model
        inputs = {name: _INPUTS[name](self) for name in arguments.inputs}
        return arguments.build({**self.settings, **changed}, inputs)


def _group_items(work: Work) -> Tensor:
    """Item groups from the embeddings of the base."""
    number = work.settings["num_groups"]
    return group_items(work.base.embeddings().item, number, seed=work.seed)


def _edge_time(work: Work) -> Tensor | None:
    """Times that tell the order; places where the data are in order and times do not.

    None without times: the models then take the order of the graph, as they say.
    """
    time = work.data[EDGE].get("edge_time")
    return time if time is None or not tells_order(work.data) else edge_order(work.data)


_INPUTS: dict[str, Callable[[Work], Any]] = {
    "num_users": lambda work: work.graph.num_users,
    "num_items": lambda work: work.graph.num_items,
    "edge_time": _edge_time,
    "item_group": _group_items,
    "seed": lambda work: work.seed,
}
"""Where constructors get what is no setting, by argument."""


Weighted = Callable[[Tensor | None], Scorer]
"""Maps weights of the train interactions, or None, to what ranks."""

WORTH = 0.01
"""What twice the width, and twice the time, must gain, relatively."""


def solve(work: Work) -> Outcome:
    """Solve a closed form, whose users may weigh their items."""
    weights = {}
    if "history" in work.settings:
        weights["history_weight"] = _history_weight(work, work.settings["history"])
    scorer = work.build().scorer(work.graph, **weights)
    return Outcome(scorer, _tables(scorer))


def solve_wide(work: Work) -> Outcome:
    """Solve vectors that are twice as wide for as long as validation gains by it.

    Their width begins at ``embedding_dim`` and ends at ``widest``, or at the smaller
    side of the matrix; it is ``embedding_dim`` where ``widest`` is 0. Validation weighs
    histories by the recency that is best at the first width, as DDRM does that starts
    from them.
    """
    widest = work.settings["widest"]
    if not widest:
        return solve(work)
    limit = min(widest, work.graph.num_users, work.graph.num_items)
    width = min(work.settings["embedding_dim"], limit)
    scorer = work.build(embedding_dim=width).scorer(work.graph)
    if not has_validation(work.data):
        return Outcome(scorer, _tables(scorer))
    taus = work.settings["taus"] if tells_order(work.data) else [None]
    by_tau = _by_recency(work, taus, _weighted_mean(work, scorer))
    tau = max(by_tau, key=by_tau.__getitem__)
    widths, values = [width], [by_tau[tau]]
    while width < limit:
        widths.append(min(2 * width, limit))
        wider = work.build(embedding_dim=widths[-1]).scorer(work.graph)
        values += _by_recency(work, [tau], _weighted_mean(work, wider)).values()
        if values[-1] < (1 + WORTH) * values[-2]:
            break
        width, scorer = widths[-1], wider
    by_width = {"widths": widths, f"val {work.settings['metric']} by width": values}
    notes = {"embedding_dim": width, "tau": tau, **by_width}
    return Outcome(scorer, _tables(scorer), notes=notes)


def _weighted_mean(work: Work, emb: Embeddings) -> Weighted:
    """History means of an item table, by weights of the interactions."""

    def weighted(weight: Tensor | None) -> Scorer:
        return Embeddings(work.graph.history_mean(emb.item, weight=weight), emb.item)

    return weighted


def solve_recent(work: Work) -> Outcome:
    """Solve a closed form once, and let validation pick how fast histories fade."""
    return _pick_recency(work, work.build().scorer(work.graph).weighted)


def _pick_recency(work: Work, weighted: Weighted) -> Outcome:
    """Let validation pick how fast histories fade, among the ``taus`` of the settings.

    Args:
        work: What is worked on.
        weighted: Maps weights of the interactions (None weighs all alike) to what
            ranks.
    """
    values = _by_recency(work, work.settings["taus"], weighted)
    tau = max(values, key=values.__getitem__)
    metric = work.settings["metric"]
    notes = {"tau": tau, f"val {metric} by tau": list(values.values())}
    return Outcome(weighted(_recency(work, tau)), notes=notes)


def _by_recency(
    work: Work, taus: Sequence[float | None], weighted: Weighted
) -> dict[float | None, float]:
    """Map how fast histories fade to the validation ``metric`` of the settings."""
    metric = work.settings["metric"]
    return {
        tau: evaluate(weighted(_recency(work, tau)), work.data, split="val")[metric]
        for tau in taus
    }


def _recency(work: Work, tau: float | None) -> Tensor | None:
    return None if tau is None else recency_weight(work.data, tau)


def train(work: Work) -> Outcome:
    """Train a model."""
    model = work.build()
    return _train(work, model, model)


def train_encoder(work: Work) -> Outcome:
    """Train a model of histories, and keep its weights: it encodes others, too."""
    model = work.build()
    outcome = _train(work, model, model)
    outcome.tensors["weights"] = model.state_dict()
    return outcome


def train_cleaned(work: Work) -> Outcome:
    """Train a backend with what cleans its training."""
    cleaner = work.method.cleaner
    assert cleaner is not None
    settings = cleaner.model.fill(work.cell.clean)
    base = work.base.embeddings() if cleaner.base else None
    steps = _steps_per_epoch(work)
    model, backend = cleaner.cleaned(work.build, steps, settings, base)
    return _train(work, model, backend)


def train_noted(work: Work) -> Outcome:
    """Train a backend, and keep what every interaction lost on the way."""
    halfway = work.cell.fit["epochs"] // 2
    model = LossTrajectory(work.build(), work.graph.num_edges, halfway=halfway)
    outcome = _train(work, model, model.backend)
    model.note(work.graph.to(model.total.device))
    outcome.tensors["noted"] = {"loss": model.signal(), "change": model.change()}
    return replace(outcome, scorer=None)


def _train(work: Work, model: Any, served: Any) -> Outcome:
    """Train a model, and keep what is served of it."""
    result = work.fit(model)
    scorer = served.scorer(work.graph.to(next(model.parameters()).device))
    return Outcome(
        scorer,
        _tables(scorer, served),
        fit=result,
        num_parameters=count_parameters(model),
    )


def _tables(scorer: Scorer, model: Any = None) -> dict[str, dict[str, Tensor]]:
    """What later cells start from: embeddings, and the tables that they come from."""
    if not isinstance(scorer, Embeddings):
        return {}
    tables = scorer._asdict()
    if hasattr(model, "user_table"):
        tables = {"user": model.user_table, "item": model.item_table}
    return {"embeddings": scorer._asdict(), "tables": tables}


def count_parameters(model: nn.Module) -> int:
    """Count trained numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _steps_per_epoch(work: Work) -> int:
    return math.ceil(work.graph.num_edges / work.cell.fit["batch_size"])


# What cleans a backend's training: given how to build the backend, the steps of an
# epoch, the settings and, where it has a base, the embeddings of that, each returns
# what is trained and the backend in it.


def t_ce(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Drop the largest losses; gradually, over ``num_gradual_epochs``."""
    # an unknown setting reaches the loss, which refuses it
    own = dict(settings)
    if "num_gradual_epochs" in own:
        if own.get("num_gradual"):
            raise ValueError(
                "'num_gradual' and 'num_gradual_epochs' exclude each other (got both)"
            )
        own["num_gradual"] = round(own.pop("num_gradual_epochs") * steps)
    backend = build(pair_loss=TruncatedLoss(bpr_loss, **own))
    return backend, backend


def r_ce(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Weigh unlikely positives less."""
    backend = build(pair_loss=ReweightedLoss(bpr_loss, **settings))
    return backend, backend


def deca(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Train the backend to agree with another model."""
    backend = build()
    return DeCA(backend, **settings), backend


def bce(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Train the backend by binary cross-entropy, whose scores are log odds."""
    backend = build(pair_loss=bce_loss, **settings)
    return backend, backend


def deca_p(
    build: Callable[..., Any],
    steps: int,
    settings: Mapping[str, Any],
    auxiliary: Embeddings,
) -> tuple[Any, Any]:
    """Train the backend to agree with another one that is trained before."""
    backend = build()
    return DeCA(backend, auxiliary, pretrained=True, **settings), backend


def wbpr(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Draw negatives by popularity."""
    backend = build(negatives="popularity", **settings)
    return backend, backend


def read(work: Work) -> Outcome:
    """Read embeddings from files, and propagate them as asked."""
    settings = work.settings
    tables = load_vectors(settings, work.data)
    emb = light_propagate(
        tables, work.graph, settings["num_layers"], settings["combine"]
    )
    return Outcome(emb, {"embeddings": emb._asdict(), "tables": tables._asdict()})


def load_vectors(files: Mapping[str, Any], data: HeteroData) -> Embeddings:
    """Read vectors as float32, in which propagation and DDRM compute.

    Takes what :func:`align_vectors` takes, and raises what it raises.
    """
    tables = align_vectors(files, data)
    if all(table.dtype == torch.float32 for table in tables):
        return tables
    logger.warning("%s: read as float32", files["path"])
    tables = Embeddings(tables.user.float(), tables.item.float())
    tables.check(files["path"])
    return tables


def align_vectors(files: Mapping[str, Any], data: HeteroData) -> Embeddings:
    """Read vectors in the order of a data set.

    Args:
        files: Either ``path``, the file of both tables, and for users, items or both
            ``ids`` with the ``path`` of the ids of the table's rows, see
            :func:`ddrm_pyg.ids.read_ids`; where there is none, rows are in the order
            of the data. Or ``vectors`` of users and items, with a ``path`` each, see
            :meth:`ddrm_pyg.Embeddings.from_ids`.
        data: The loaded data set.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The tables cannot be scored or do not match the data.
    """
    if "vectors" in files:
        user, item = (files["vectors"][kind]["path"] for kind in ("user", "item"))
        return Embeddings.from_ids(user, item, data)
    path = files["path"]
    return _in_order_of(data, Embeddings.load(path), files.get("ids", {}), path)


def _in_order_of(
    data: HeteroData,
    tables: Embeddings,
    ids: Mapping[str, Mapping[str, Any]],
    where: str,
) -> Embeddings:
    """Put tables into the order of a data set, see :func:`align_vectors`."""
    for kind, file in ids.items():
        vectors = read_ids(file["path"]), getattr(tables, kind)
        table = align(vectors, raw_ids(data, kind), f"{where}: '{kind}'")
        tables = tables._replace(**{kind: table})
    num_users, num_items = (data[kind].num_nodes for kind in ("user", "item"))
    tables.check_matches(num_users, num_items, where)
    return tables


def propagate(work: Work) -> Outcome:
    """Propagate the backend's tables to a given depth."""
    tables = work.base.embeddings("tables")
    emb = light_propagate(tables, work.graph, **work.settings)
    return Outcome(emb, {"embeddings": emb._asdict()})


def propagate_best(work: Work) -> Outcome:
    """Propagate the backend's tables to the depth that validation likes best."""
    tables = work.base.embeddings("tables")
    settings = work.settings
    metric, combine = settings["metric"], settings["combine"]
    values: list[float] = []
    best = tables
    depths = propagate_depths(tables, work.graph, settings["deepest"], combine)
    for emb in depths:
        value = evaluate(emb, work.data, split="val")[metric]
        if not values or value > max(values):
            best = emb
        values.append(value)
    depth = values.index(max(values))
    notes = {"num_layers": depth, f"val {metric} by depth": values}
    return Outcome(best, notes=notes)


def average_history(work: Work) -> Outcome:
    """Take where DDRM starts as the answer."""
    emb = work.base.embeddings()
    weight = _history_weight(work, work.settings["history"])
    return Outcome(_weighted_mean(work, emb)(weight))


def average_recent_history(work: Work) -> Outcome:
    """Weigh histories by recency, as validation likes it best, and average them."""
    return _pick_recency(work, _weighted_mean(work, work.base.embeddings()))


def _history_weight(work: Work, history: Mapping[str, Any] | None) -> Tensor | None:
    """Weights of the train interactions, as the setting ``history`` asks for them."""
    check_history(history)
    if history is None:
        return None
    settings = {name: value for name, value in history.items() if name != "kind"}
    if history["kind"] == "recency":
        return recency_weight(work.data, **settings)
    return agreement_weight(work.graph, work.vectors.item, **settings)


def denoise(work: Work) -> Outcome:
    """Train DDRM on the embeddings of the base."""
    model = untrained_ddrm(work)
    # a past has weights of its own beside those of the plug-in
    trained = model.ddrm if model.future is None else model
    result = work.fit(model)
    denoised = model.scorer(work.graph.to(model.user_emb.device))
    return Outcome(
        denoised,
        {"embeddings": denoised._asdict(), "weights": trained.state_dict()},
        fit=result,
        num_parameters=count_parameters(trained),
    )


def untrained_ddrm(work: Work) -> DDRMRecommender:
    """Build what a cell of method ``ddrm`` trains, with the weights of its seed."""
    emb = work.base.embeddings()
    settings = work.settings
    if settings["train_start"] == "past":
        return _from_past(
            settings, work.base, work.graph, edge_order(work.data), work.seed
        )
    model, training = work.method.model.split(settings)
    weight = _history_weight(work, settings["history"])
    with own_randomness(work.seed):
        ddrm = DDRM(emb.user.size(1), **model)
    return DDRMRecommender(ddrm, emb, history_weight=weight, **training)


def _from_past(
    settings: Mapping[str, Any],
    base: Result,
    graph: InteractionGraph,
    edge_time: Tensor,
    seed: int,
) -> DDRMRecommender:
    """Build a DDRM that reads histories in order, with all that it starts from.

    Beside the means of the base's item vectors these are the states of a base that
    encodes histories, and means of singular vectors where ``svd_dim`` asks for them.
    """
    emb = base.embeddings()
    beside: list[Any] = []
    encoder = load_encoder(base, len(emb.item))
    if encoder is not None:
        beside.append(HistoryStates(encoder, emb.item))
    model, training = METHODS["ddrm"].model.split(settings)
    if settings["svd_dim"]:
        wide = SVD(settings["svd_dim"]).scorer(graph)
        beside.append(HistoryMeans(wide.item, training["scales"]))
    tables = [emb.item, *(source.item_emb for source in beside)]
    with own_randomness(seed):
        ddrm = DDRM(sum(table.size(1) for table in tables), **model)
        return DDRMRecommender(
            ddrm, emb, edge_time=edge_time, beside=beside, **training
        )


def load_encoder(base: Result, num_items: int) -> Any:
    """Rebuild the model of a backend that encodes histories; None of any other."""
    record = find(base.cell.method)
    if not (base.folder / "weights.safetensors").exists() or record.role != "backend":
        return None
    sizes = {"num_items": num_items, "edge_time": None}
    model = record.model.build(record.model.fill(base.cell.model), sizes)
    model.load_state_dict(base.tensors())
    return model.eval()


def resample(work: Work) -> Outcome:
    """Sample a trained DDRM in another way or from another start."""
    return _resample(work, work.settings)


ONCE = {"num_inference_steps": 1, "num_start_steps": 0}
"""DDRM as a plain denoiser: one reverse step from a start without noise."""


def denoise_once(work: Work) -> Outcome:
    """Take a trained DDRM as a plain denoiser: no noise added, one reverse step."""
    return _resample(work, {**ONCE, **work.settings})


def _resample(work: Work, settings: Mapping[str, Any]) -> Outcome:
    trained = work.base
    arguments = METHODS["ddrm"].model
    changed, training = arguments.split(settings)
    if training:
        raise ValueError(f"'{work.cell.method}' does not train (got {training})")
    history = settings.get("history", trained.cell.model.get("history"))
    weight = _history_weight(work, history)
    device = work.device or "cpu"
    user, item = (table.to(device) for table in work.vectors)
    denoised = load_ddrm(trained, **changed).to(device)(
        user,
        item,
        work.graph.to(device),
        history_weight=None if weight is None else weight.to(device),
        generator=torch.Generator().manual_seed(work.seed),
    )
    return Outcome(denoised)


def load_recommender(
    trained: Result, base: Result, graph: InteractionGraph
) -> DDRMRecommender:
    """Rebuild a DDRM that was trained from the past, ready for new histories.

    Args:
        trained: A result of method ``ddrm`` with ``train_start="past"``.
        base: The result that it denoises.
        graph: Train interactions.
    """
    settings = METHODS["ddrm"].model.fill(trained.cell.model)
    time = torch.arange(graph.num_edges)  # of training alone
    recommender = _from_past(settings, base, graph, time, 0)
    recommender.load_state_dict(trained.tensors())
    return recommender.eval()


def load_ddrm(trained: Result, **changed: Any) -> DDRM:
    """Rebuild a trained DDRM from its cell.

    Args:
        trained: A result of method ``ddrm``.
        **changed: Constructor arguments to replace.

    Raises:
        ValueError: It was trained from the past, which has weights of its own.
    """
    if starts_from_past(trained.cell):
        raise ValueError(
            "'train_start' must not be 'past' here (got a DDRM that reads histories "
            "in order)"
        )
    arguments = METHODS["ddrm"].model
    model, _ = arguments.split(arguments.fill(trained.cell.model))
    ddrm = DDRM(trained.embeddings().item.size(1), **{**model, **changed})
    ddrm.load_state_dict(trained.tensors())
    return ddrm
