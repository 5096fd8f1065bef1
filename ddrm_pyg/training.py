"""Train a recommender: early stopping on validation, checkpoints, exact resume."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch_geometric.data import HeteroData
from tqdm import tqdm

from ddrm_pyg.checks import check_at_least, check_positive
from ddrm_pyg.extras import check_device
from ddrm_pyg.files import atomic_path, undamaged, write_text
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, has_validation
from ddrm_pyg.graph.sequences import edge_order
from ddrm_pyg.loader import processes
from ddrm_pyg.messages import UNSELECTED
from ddrm_pyg.progress import on_terminal, progress_bar
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.typing import EpochEnd, Recommender

if TYPE_CHECKING:
    from pandas import DataFrame

Precision = Literal["float32", "bf16"]
"""What losses are computed in, see :func:`fit`."""

_RATES = ("lr", "weight_decay", "ema_decay")
"""What need not be an integer, of the numbers that :func:`fit` takes."""

_LONG = 10.0  # seconds: what is trained sooner needs no forecast
_RANK_BITS = 32
"""Seeds of processes differ above these bits, those of runs below."""

BROKEN_CHECKPOINT = (
    "not a readable checkpoint",
    "delete it, and training begins anew",
)
"""What is wrong with a file that training cannot go on from, and what to do."""

logger = logging.getLogger("ddrm_pyg")


@dataclass(repr=False)
class FitResult:
    """What training did.

    Attributes:
        metric: Name of the validation metric that selected the weights.
        history: One record per epoch: ``epoch`` (from 1), ``loss`` (mean over the
            epoch), ``seconds``, and the validation metrics where they were measured;
            with ``ema_decay`` those of the better weights, and ``averaged``, 1 where
            they are the average.
        best_epoch: Epoch whose weights the model now has.
        best_value: Its validation metric; None without a validation split.
        stopped_early: Patience ran out before the epochs did.
        resumed_from: Epoch of the checkpoint that this process went on from, or 0; no
            part of what two results are compared by.
    """

    metric: str
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    stopped_early: bool = False
    resumed_from: int = field(default=0, compare=False)

    def to_frame(self) -> DataFrame:
        """Give the history as a DataFrame, a row per epoch, NaN where not measured."""
        from pandas import DataFrame

        return DataFrame(self.history)

    def __repr__(self) -> str:
        trained = len(self.history)
        value = (
            "" if self.best_value is None else f", {self.metric} {self.best_value:.4f}"
        )
        stopped = ", stopped early" if self.stopped_early else ""
        return f"FitResult(best epoch {self.best_epoch} of {trained}{value}{stopped})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{self.to_frame().to_html(index=False)}"


def fit(
    model: Recommender,
    data: HeteroData,
    *,
    epochs: int = 200,
    batch_size: int = 2048,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
    metric: str = "recall@20",
    eval_every: int = 5,
    patience: int = 10,
    checkpoint: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    ema_decay: float | None = None,
    callbacks: Sequence[EpochEnd] = (),
    progress: bool = True,
) -> FitResult:
    """Train a recommender with Adam and keep its best weights by validation.

    Only train interactions are trained on and only validation pairs select; test pairs
    are never read. The same seed gives the same bits on CPU with the same number of
    threads (AdaGCL's differ between one and two), and a run that is killed and started
    again with the same ``checkpoint`` ends with the bits of a straight one.

    Where ``torch.distributed`` is initialised, all processes call this alike: they
    start from the weights of rank 0, each takes its share of every batch, and gradients
    are averaged over the whole batch. Each needs a ``checkpoint`` of its own.

    Args:
        model: A Recommender, for instance :class:`ddrm_pyg.LightGCN` or
            :class:`ddrm_pyg.DDRMRecommender`; changed in place.
        data: The loaded data set.
        epochs: Epochs at most. A checkpoint that is further is returned as it is.
        batch_size: Rows per batch.
        lr: Adam's learning rate.
        weight_decay: Adam's weight decay.
        seed: Seed of batches, negatives and noise, in [0, 2**32). (Initial weights
            belong to the constructor and torch's global generator.)
        metric: Validation metric to select by: ``recall@K`` or ``ndcg@K``.
        eval_every: Epochs between validations; the last epoch is always validated.
        patience: Validations without a new best before training stops.
        checkpoint: File to continue from if it exists, written at every validation.
        log: JSON-lines file with one record per epoch.
        device: Where to train; where the model is if None.
        precision: ``"float32"``, or ``"bf16"``: the losses are computed under
            ``torch.autocast``, which takes matrix products in bfloat16. Weights,
            gradients, the optimiser and validation stay in float32.
        ema_decay: Decay d of an exponential moving average of the weights over the
            steps, in [0, 1): min(d, (1 + n) / (10 + n)) at step n, so that the first
            weights are forgotten. Every validation then measures both, the weights and
            their average, and the better are kept (Ho et al., 2020, appendix B, rank
            by the average alone). Without validation the last weights are kept. None:
            nothing is averaged.
        callbacks: Called with the model and the record of each epoch at its end, in
            the first process only; see :class:`ddrm_pyg.typing.EpochEnd`. What they
            draw from torch's global generator changes nothing; what they raise ends
            the training, whose last checkpoint stays.
        progress: Show a bar on a terminal.

    Returns:
        The history and what was selected; the model holds the selected weights, in
        evaluation mode.

    Raises:
        TypeError: The model is solved in closed form, or is no Recommender.
        ValueError: A number out of its range, an unknown metric, no train
            interactions, a model that reads their order where ``data`` do not tell
            it, or a checkpoint of another run.
        FloatingPointError: The loss is no longer finite.
    """
    _check_model(model)
    check_fit_settings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        seed=seed,
        metric=metric,
        eval_every=eval_every,
        patience=patience,
        precision=precision,
        **({} if ema_decay is None else {"ema_decay": ema_decay}),
    )
    if device is not None:
        check_device(device)
        model.to(device)  # type: ignore[attr-defined]
    graph = InteractionGraph.from_data(data).to(_device(model))
    if graph.num_edges == 0:
        raise ValueError("'data' must have train interactions (got 0)")
    can_select = has_validation(data)
    if not can_select:
        UNSELECTED.warning(
            "without validation pairs: all %d epochs are trained, the last one is kept",
            epochs,
        )
    _check_order(model, data)
    rank, world_size = processes()
    settings: dict[str, str | float | None] = {}
    if checkpoint is not None:  # reads all that is trained on
        settings = _settings(
            model,
            data,
            graph,
            batch_size=batch_size,
            lr=lr,
            weight_decay=weight_decay,
            seed=seed,
            metric=metric,
            eval_every=eval_every,
            patience=patience,
            precision=precision,
            processes=f"{rank} of {world_size}",
            ema_decay=ema_decay,
        )
    with (
        own_randomness(seed + (rank << _RANK_BITS), _device(model)),
        _bar(type(model).__name__, epochs, progress and rank == 0) as bar,
    ):
        run = _Run(model, lr, weight_decay, seed, metric, precision, ema_decay)
        if checkpoint is not None and Path(checkpoint).exists():
            run.load(checkpoint, settings)
        run.agree()
        bar.update(run.epoch)
        while run.epoch < epochs and not run.result.stopped_early:
            run.train_epoch(graph, batch_size)
            due = run.epoch % eval_every == 0 or run.epoch == epochs
            if due and can_select:
                run.validate(data, graph, patience)
            if log is not None:
                _write_log(log, run.result.history)
            if due and checkpoint is not None:
                run.save(checkpoint, settings)
            run.report(callbacks)
            bar.set_postfix(run.shown())
            bar.update()
            run.forecast(epochs, bar)
        return run.finish()


def _check_order(model: Any, data: HeteroData) -> None:
    """Refuse a model that reads an order which nothing tells."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    if all(getattr(part, "edge_time", part) is not None for part in parts):
        return
    if "edge_time" in data[EDGE]:
        raise ValueError(
            f"'edge_time' of {type(model).__name__} must be given: the data have times "
            f"(got None; pass data[{EDGE}].edge_time)"
        )
    edge_order(data)
    logger.warning("no 'edge_time': the data are 'in_order', and their order is used")


class _Run:
    """All state of a training run, so that it can be saved and resumed."""

    def __init__(
        self,
        model: Any,
        lr: float,
        weight_decay: float,
        seed: int,
        metric: str,
        precision: Precision,
        ema_decay: float | None,
    ) -> None:
        self.model = model
        self.precision = precision
        self.average = None if ema_decay is None else _Average(model, ema_decay)
        self.rank, self.world_size = processes()
        groups = getattr(model, "parameter_groups", None)
        self.optimizer = torch.optim.Adam(
            groups() if groups else model.parameters(),
            lr=lr,
            weight_decay=weight_decay,
            fused=True,
        )
        # two streams, so that what a model draws never changes which batches it sees;
        # all processes draw the same batches and each its own noise
        own = seed + 1 + (self.rank << _RANK_BITS)
        self.generators = {
            "batches": torch.Generator().manual_seed(seed),
            "losses": torch.Generator().manual_seed(own),
        }
        self.result = FitResult(metric)
        self.best: dict[str, Tensor] | None = None
        self.epoch = 0
        self.failures = 0

    def train_epoch(self, graph: InteractionGraph, batch_size: int) -> None:
        self.model.train()
        begin = time.perf_counter()
        total, count = torch.zeros((), dtype=torch.float64), 0
        for batch in self.model.batches(
            graph, batch_size=batch_size, generator=self.generators["batches"]
        ):
            for loss in self._losses(batch, graph):
                self.optimizer.zero_grad(set_to_none=True)
                self._backward(loss)
                self.optimizer.step()
                if self.average is not None:
                    self.average.update()
                total += loss.detach().sum().cpu()
                count += loss.numel()
        self.epoch += 1
        summed = self._sum_over_processes(total, torch.tensor(float(count)))
        mean = summed[0].item() / max(summed[1].item(), 1)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {self.epoch}: lower 'lr' "
                f"(got {self.optimizer.param_groups[0]['lr']})"
            )
        self.result.history.append(
            {
                "epoch": self.epoch,
                "loss": mean,
                "seconds": round(time.perf_counter() - begin, 3),
            }
        )

    def forecast(self, epochs: int, bar: tqdm) -> None:
        """Say after the first epoch what others take, if it is long and no bar does."""
        left = epochs - self.epoch
        seconds = left * self.result.history[-1]["seconds"]
        is_first = self.epoch == self.result.resumed_from + 1
        if bar.disable and is_first and seconds >= _LONG and self.rank == 0:
            at_most = f"{left} more epoch{'s' * (left > 1)} at most"
            shown = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
            name = type(self.model).__name__
            logger.info("%s: %s, about %s of training", name, at_most, shown)

    def _losses(self, batch: Any, graph: InteractionGraph) -> Iterator[Tensor]:
        """Yield a batch's losses; only they are computed under autocast."""
        losses = self.model.losses(batch, graph, generator=self.generators["losses"])
        if self.precision == "float32":
            yield from losses
            return
        device = _device(self.model).type
        while True:
            with torch.autocast(device, torch.bfloat16):
                loss = next(losses, None)
            if loss is None:
                return
            yield loss.float()

    def _backward(self, loss: Tensor) -> None:
        """Take the gradient of the mean over the whole batch, of all processes."""
        if self.world_size == 1:
            loss.mean().backward()
            return
        (count,) = self._sum_over_processes(torch.tensor(float(loss.numel())))
        (loss.sum() / count.to(loss)).backward()
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)

    def _sum_over_processes(self, *values: Tensor) -> Tensor:
        stacked = torch.stack([value.double() for value in values])
        if self.world_size > 1:
            stacked = stacked.to(_device(self.model))
            distributed.all_reduce(stacked)
        return stacked.cpu()

    def agree(self) -> None:
        """Let all processes start from the weights of rank 0, in the same epoch."""
        if self.world_size == 1:
            return
        last = torch.tensor([self.epoch, -self.epoch], device=_device(self.model))
        distributed.all_reduce(last, distributed.ReduceOp.MAX)
        high, low = int(last[0]), -int(last[1])
        if low < high:
            raise ValueError(
                "'checkpoint' must be of the same epoch in all processes "
                f"(got {low} and {high})"
            )
        for value in self.model.state_dict().values():
            distributed.broadcast(value, 0)

    def validate(
        self, data: HeteroData, graph: InteractionGraph, patience: int
    ) -> None:
        self.model.eval()
        metrics, improved = self._try(data, graph)
        if self.average is not None:
            with self.average.in_model():
                averaged, is_new_best = self._try(data, graph)
            metric = self.result.metric
            is_above = averaged[metric] > metrics[metric]
            metrics = averaged if is_above else metrics
            metrics["averaged"] = float(is_above)
            improved |= is_new_best
        self.result.history[-1] |= metrics
        self.failures = 0 if improved else self.failures + 1
        self.result.stopped_early = self.failures >= patience

    def _try(
        self, data: HeteroData, graph: InteractionGraph
    ) -> tuple[dict[str, float], bool]:
        """Measure the weights that the model has, and keep them if they are the best.

        Returns:
            The metrics, and whether they are.
        """
        result = self.result
        metrics = self._measure(data, graph)
        value = metrics[result.metric]
        is_new_best = result.best_value is None or value > result.best_value
        if is_new_best:
            result.best_value, result.best_epoch = value, self.epoch
            self.best = copy.deepcopy(self.model.state_dict())
        return metrics, is_new_best

    def _measure(self, data: HeteroData, graph: InteractionGraph) -> dict[str, float]:
        metrics = evaluate(
            self.model.scorer(graph),
            data,
            split="val",
            k=sorted({10, 20, _list_length(self.result.metric)}),
            exclude=graph,  # sorted already
        )
        return {
            name: value
            for name, value in metrics.items()
            if name.startswith(("recall", "ndcg"))
        }

    def report(self, callbacks: Sequence[EpochEnd]) -> None:
        if not callbacks or self.rank != 0:
            return
        with torch.random.fork_rng([]):
            for callback in callbacks:
                callback(self.model, dict(self.result.history[-1]))

    def shown(self) -> dict[str, str]:
        shown = {"loss": f"{self.result.history[-1]['loss']:.4f}"}
        if self.result.best_value is not None:
            shown[f"best {self.result.metric}"] = f"{self.result.best_value:.4f}"
        return shown

    def finish(self) -> FitResult:
        if self.best is None:
            self.result.best_epoch = self.epoch
        else:
            self.model.load_state_dict(self.best)
        self.model.eval()
        return self.result

    def save(
        self, path: str | os.PathLike[str], settings: dict[str, str | float | None]
    ) -> None:
        state = {
            "settings": settings,
            "epoch": self.epoch,
            "failures": self.failures,
            "result": vars(self.result),
            "model": self.model.state_dict(),
            "best": self.best,
            "average": None if self.average is None else self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "generators": {k: g.get_state() for k, g in self.generators.items()},
            "global_generator": torch.get_rng_state(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(
        self, path: str | os.PathLike[str], settings: dict[str, str | float | None]
    ) -> None:
        with undamaged(path, *BROKEN_CHECKPOINT):
            state = torch.load(path, map_location="cpu", weights_only=True)
            saved = dict(state["settings"])
        for name, value in settings.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{path}: the checkpoint is of another run: '{name}' was "
                    f"{saved.get(name)} and is {value}; give another file"
                )
        with undamaged(path, *BROKEN_CHECKPOINT):
            self._restore(state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint ends; the caller's model is changed last."""
        self.epoch, self.failures = int(state["epoch"]), int(state["failures"])
        self.result = FitResult(**state["result"])
        self.result.resumed_from = self.epoch
        if [record["epoch"] for record in self.result.history] != [
            *range(1, self.epoch + 1)
        ]:
            raise ValueError("its history is not that of its epochs")
        self.best = state["best"]
        check_weights(self.model, state["model"])
        if self.best is not None:
            check_weights(self.model, self.best)
        if self.average is not None:
            self.average.restore(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["global_generator"])
        self.model.load_state_dict(state["model"])


class _Average:
    """An exponential moving average of a model's weights over its steps.

    Args:
        model: Its weights are read, and lent to by :meth:`in_model`.
        decay: Share of the old average that stays, once the first steps are over.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights = [*model.parameters()]
        self._decay = decay
        self._steps = 0
        self._mean: list[Tensor] = []  # begins with the weights after the first step

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights by a step."""
        self._steps += 1
        if not self._mean:
            self._mean = [weight.detach().clone() for weight in self._weights]
            return
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        get_ema_multi_avg_fn(decay)(self._mean, self._weights, self._steps)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Give the model the average, and its own weights back."""
        own = [weight.detach().clone() for weight in self._weights]
        self._fill(self._mean)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"steps": self._steps, "mean": self._mean}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state.

        Raises:
            ValueError: It is another model's.
        """
        saved = state["mean"]
        if [v.shape for v in saved] != [w.shape for w in self._weights]:
            raise ValueError("its average is not that of such a model")
        pairs = zip(saved, self._weights, strict=True)
        self._mean = [value.to(weight) for value, weight in pairs]
        self._steps = int(state["steps"])


def check_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Refuse weights of other names or shapes than a model's.

    Raises:
        ValueError: They are another model's.
    """
    if _shapes(weights) != _shapes(model.state_dict()):
        raise ValueError("its weights are not those of such a model")


def _shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in weights.items()}


def _check_model(model: Any) -> None:
    if isinstance(model, nn.Module) and isinstance(model, Recommender):
        return
    name = type(model).__name__
    if hasattr(model, "scorer") and not hasattr(model, "losses"):
        raise TypeError(
            f"'model' must be trainable: {name} is solved in closed form, "
            "use model.scorer(graph)"
        )
    hint = "; DDRMRecommender(ddrm, embeddings) is one" if name == "DDRM" else ""
    raise TypeError(
        "'model' must be a torch.nn.Module with 'batches', 'losses' and 'scorer' "
        f"(got {name}{hint})"
    )


def check_fit_settings(**settings: Any) -> None:
    """Refuse values that :func:`fit` cannot take.

    Args:
        **settings: Any of its numbers, its metric and its precision.

    Raises:
        ValueError: A value out of its range, with its name and the rule.
    """
    for name, value in settings.items():
        if name == "metric":
            _list_length(value)
            continue
        if name == "precision":
            if value not in get_args(Precision):
                raise ValueError(
                    f"'precision' must be 'float32' or 'bf16' (got {value!r})"
                )
            continue
        kind: Any
        kind, expected = (
            (Real, "a number") if name in _RATES else (Integral, "an integer")
        )
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"'{name}' must be {expected} (got {value!r})")
        if name == "seed" and not 0 <= float(value) < 2**_RANK_BITS:
            raise ValueError(f"'seed' must lie in [0, 2**{_RANK_BITS}) (got {value})")
        if name == "weight_decay":
            check_at_least(0, weight_decay=value)
        elif name == "ema_decay" and not 0 <= value < 1:
            raise ValueError(f"'ema_decay' must lie in [0, 1) (got {value})")
        elif name not in ("seed", "ema_decay"):
            check_positive(**{name: value})


def _bar(name: str, epochs: int, progress: bool) -> tqdm:
    return progress_bar(
        total=epochs,
        desc=name,
        unit="epoch",
        progress=on_terminal(progress),
        leave=False,
    )


def _list_length(metric: str) -> int:
    name, _, k = str(metric).partition("@")
    if name not in ("recall", "ndcg") or not k.isdigit() or int(k) < 1:
        raise ValueError(f"'metric' must be recall@K or ndcg@K (got '{metric}')")
    return int(k)


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def own_randomness(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Seed torch's global generators for models that use them, and give them back.

    Args:
        seed: Of the generators inside.
        device: Whose generator is given back beside the CPU's; others are left alone.
    """
    device = torch.device(device)
    others = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(others, device_type=device.type):
        torch.manual_seed(seed)
        yield


def _settings(
    model: Any,
    data: HeteroData,
    graph: InteractionGraph,
    **settings: str | float | None,
) -> dict[str, str | float | None]:
    """What must be equal for a checkpoint to belong to this run."""
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    saved = model.state_dict()
    frozen = [
        buffer
        for name, buffer in model.named_buffers()
        if name not in saved and buffer.layout == torch.strided
    ]
    val = InteractionGraph.from_data(data, splits=("val",))
    return {
        "model": type(model).__name__,
        **_constants(model),
        "parameters": json.dumps(shapes),
        "frozen tensors": _digest(*frozen),
        "train interactions": _digest(graph.edge_index),
        "validation pairs": _digest(val.edge_index),
        **settings,
    }


def _constants(model: nn.Module) -> dict[str, str | float]:
    """Numbers and names among the attributes of a model and its parts: its settings."""
    return {
        f"model.{prefix}.{name}".replace("..", "."): value
        for prefix, module in model.named_modules()
        for name, value in [("class", type(module).__name__), *vars(module).items()]
        if isinstance(value, (str, int, float))
        and not name.startswith("_")
        and name != "training"
    }


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().flatten()
        values: Any = flat.contiguous().view(torch.uint8).numpy()
        digest.update(values)  # not a copy
    return digest.hexdigest()


def _write_log(path: str | os.PathLike[str], history: list[dict[str, float]]) -> None:
    write_text(path, "".join(json.dumps(record) + "\n" for record in history))
