"""Settings stored with the package, or in a file of the same form, and their cells."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import (
    AROUND,
    BACKENDS,
    CLEANERS,
    check_history,
)
from ddrm_pyg.experiments.sources import NAMED, Source, nearest
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.models import (
    CDAE,
    MF,
    AdaGCL,
    DiffRec,
    LDiffRec,
    MultiDAE,
    MultiVAE,
    TDiffRec,
)
from ddrm_pyg.training import check_fit_settings, fit

FOLDER = Path(__file__).parent / "settings"

DATA_SETS = ("yelp", "amazon-book", "ml-1m")
"""Those of the paper, as they are called in the names of stored settings."""

KEYS = (
    *("method", "about", "differs", "checked", "paper", "ours", "seeds"),
    *("model", "fit", "propagated"),
)
"""What settings may hold: the method; where its arguments come from, where paper and
code differ, what was checked; the paper's row, ours and its seeds; the arguments."""

YARDSTICKS = ("popularity", "item_knn", "ease")
"""Methods without settings, which everything must be compared with."""

GENERATIVE = (
    "adagcl",
    "cdae",
    "multidae",
    "multivae",
    "diffrec",
    "ldiffrec",
    "tdiffrec",
)
"""Rivals that are no backends of DDRM here."""

DENOISERS = ("ddrm", *CLEANERS)
"""What a name may add to a backend's, as in ``lightgcn+ddrm``."""

NAMES = (
    *YARDSTICKS,
    *BACKENDS,
    *(f"{backend}+{added}" for backend in BACKENDS for added in DENOISERS),
    *GENERATIVE,
)
"""Every method that a table may ask for."""

EACH_ONCE = tuple(n for n in NAMES if "+" not in n or n.startswith("lightgcn+"))
"""Every method once: what is added to a backend is added to LightGCN."""


def cell_for(
    name: str,
    *,
    seed: int = 0,
    settings: str | None = None,
    variant: str | None = None,
    epochs: int | None = None,
) -> Cell:
    """Build the cell of a method with its stored settings.

    Args:
        name: One of :data:`NAMES`.
        seed: Seed of everything that is trained on the way.
        settings: Name or file of the settings of what is trained first.
        variant: Without ``settings``: those stored for a data set (``"ml-1m"``) are
            taken where there are any, those of the method's own name elsewhere.
        epochs: Epochs at most of every training on the way; as stored if None.

    Raises:
        ValueError: An unknown name.
    """
    if name not in NAMES:
        raise ValueError(
            f"a method must be one of {', '.join(NAMES)} "
            f"(got '{name}'{nearest(name, NAMES)})"
        )
    if name in YARDSTICKS:
        return Cell(name)
    backend, _, added = name.partition("+")
    stored = load_settings(settings or stored_name(backend, variant), backend)
    base = None
    if backend == "ldiffrec":
        base = cell_for("lightgcn", seed=seed, variant=variant, epochs=epochs)
    cell = Cell(backend, seed, stored["model"], _fit_settings(stored, epochs), base)
    if not added:
        return cell
    return denoised(cell, added, seed=seed, variant=variant, epochs=epochs)


def denoised(
    backend: Cell,
    added: str,
    *,
    seed: int | None = None,
    settings: str | None = None,
    variant: str | None = None,
    epochs: int | None = None,
) -> Cell:
    """Build the cell of what denoises a backend.

    What cleans a backend's training may have settings of ``fit`` that replace the
    backend's own.

    Args:
        backend: The cell of a backend, or of given embeddings.
        added: One of :data:`DENOISERS`.
        seed: Seed of DDRM; the backend's if None.
        settings: Name or file of its settings; by method and variant if None.
        variant: As in :func:`cell_for`; with ``settings``, too, what they leave out is
            as stored for that data set.
        epochs: Epochs of DDRM at most.

    Raises:
        ValueError: Settings that are not there, or refused by the method.
    """
    name = stored_name(added, variant, backend.method)
    stored = load_settings(settings or name, added)
    if settings and variant:
        under = load_settings(name, added)
        parts = {part: under[part] | stored[part] for part in ("model", "fit")}
        stored = {**stored, **parts}
        try:
            _check_settings(stored, added)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{settings} over {name}: {error}") from error
    if added == "ddrm":
        seed = backend.seed if seed is None else seed
        fit_settings = _fit_settings(stored, epochs)
        return Cell("ddrm", seed, stored["model"], fit_settings, backend)
    return Cell(
        f"{backend.method}+{added}",
        backend.seed,
        backend.model,
        {**backend.fit, **stored["fit"]},
        clean=stored["model"],
    )


def _fit_settings(stored: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    return stored["fit"] | ({"epochs": epochs} if epochs else {})


def stored_name(method: str, variant: str | None, backend: str = "") -> str:
    """The most special settings that are stored for a method.

    Raises:
        ValueError: A variant that is no data set of the paper.
    """
    if variant is not None and variant not in DATA_SETS:
        raise ValueError(
            f"settings are stored for {', '.join(DATA_SETS)} "
            f"(got '{variant}'{nearest(variant, DATA_SETS)})"
        )
    names = (f"{method}_{backend}_{variant}", f"{method}_{variant}")
    return next((name for name in names if (FOLDER / f"{name}.json").exists()), method)


def paper_name(source: Source, *kinds: str) -> str | None:
    """Name the data set of the paper that a source is by its name, if any.

    Args:
        source: The data; a single table is nobody's but the user's.
        *kinds: Which of its noises it may have; any of the paper's if none.
    """
    if source.data not in NAMED and Path(source.data).suffix:
        return None
    for name in DATA_SETS:
        ends = (f"{name}-{kind}" for kind in kinds or ("natural", "clean", "random"))
        if source.name in (name, *ends):
            return name
    return None


def load_settings(name: str, method: str) -> dict[str, Any]:
    """Read the settings of a method from the package, or from a file.

    Args:
        name: A name in ``ddrm_pyg/experiments/settings``, or a path to a JSON file
            with objects ``model`` and ``fit``.
        method: The trained method they are for.

    Raises:
        ValueError: No such settings, not readable as such, or refused by the method.
    """
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    if not path.is_file():
        stored = sorted(FOLDER.glob("*.json"))
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
    for key in settings:
        if key not in KEYS:
            raise ValueError(
                f"'{key}' must be one of {', '.join(KEYS)}{nearest(key, KEYS)}"
            )
    if settings.get("method", method) != method:
        raise ValueError(f"'method' must be '{method}' (got '{settings['method']}')")
    _check_model_settings(settings["model"], method)
    _defaults("fit", settings["fit"], fit, 2)
    check_fit_settings(**settings["fit"])


def _check_model_settings(model: Mapping[str, Any], method: str) -> None:
    """Build what the settings are for, at the smallest size."""
    if method in CLEANERS:
        with torch.random.fork_rng(devices=[]):
            CLEANERS[method](functools.partial(MF, 1, 1), 1, model)
        return
    check_history(model.get("history"))
    kind, sizes = TRAINED[method]
    own = _own(method, model)
    for name, default in _defaults("model", own, kind, len(sizes)).items():
        _check_kind(name, own[name], default)
    built = build(method, model)
    if isinstance(built, DDRM):
        told = {k: v for k, v in model.items() if k == "train_start"}
        DDRMRecommender(built, (torch.zeros(1, 1), torch.zeros(1, 1)), **told)


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default, where that tells one."""
    kind = _KINDS.get(type(default), (object, bool))
    like = isinstance(value, kind) and (bool in kind or not isinstance(value, bool))
    if like and isinstance(default, tuple):
        like = all(type(part) is int for part in value)
    if not like:
        raise ValueError(f"'{name}' must be like {default!r} (got {value!r})")


def build(method: str, settings: Mapping[str, Any], *sizes: int) -> nn.Module:
    """Build a trained method on its own, as for no data.

    Args:
        method: A method with settings of its own; nothing that is added to a backend.
        settings: Of its model.
        *sizes: What the data give the constructor; the smallest if none. A number of
            items stands for their groups, too.
    """
    kind, smallest = TRAINED[method]
    given: tuple[Any, ...] = sizes[-len(smallest) :] if sizes else smallest
    if method == "ldiffrec":
        given = (torch.zeros(given[0], dtype=torch.int64),)
    with torch.random.fork_rng(devices=[]):  # whoever is asked leaves no trace
        return kind(*given, **_own(method, settings))


def _own(method: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are the constructor's."""
    return {k: v for k, v in model.items() if k not in AROUND.get(method, ())}


_KINDS: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    tuple: (list, tuple),
}
"""What JSON may hold where a default is of a type; None tells nothing."""

TRAINED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{name: (kind, (1, 1)) for name, kind in BACKENDS.items()},
    "ddrm": (DDRM, (1,)),  # the embeddings' width
    "adagcl": (AdaGCL, (1, 1)),
    "cdae": (CDAE, (1, 1)),
    "multidae": (MultiDAE, (1,)),
    "multivae": (MultiVAE, (1,)),
    "diffrec": (DiffRec, (1,)),
    "ldiffrec": (LDiffRec, (1,)),
    "tdiffrec": (TDiffRec, (1,)),
}
"""Class of every trained method, with what the data give its constructor."""


def arguments(method: str) -> dict[str, Any]:
    """Default of every argument of a trained method's model."""
    kind, sizes = TRAINED[method]
    return {p.name: p.default for p in list(_parameters(kind))[len(sizes) :]}


def _defaults(
    part: str, given: Mapping[str, Any], function: Callable[..., Any], first: int
) -> dict[str, Any]:
    """Default of every argument that is given; unknown ones are refused."""
    parameters = list(_parameters(function))[first:]
    known = {p.name: p.default for p in parameters if p.name not in RUNNER_GIVES}
    for name in given:
        if name not in known:
            close = nearest(name, known) or f" (known: {', '.join(known)})"
            raise ValueError(f"'{part}' has no setting '{name}'{close}")
    return {name: known[name] for name in given}


def _parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Parameters of a function or class, with those that its ** hands to the base."""
    parameters = inspect.signature(function).parameters.values()
    yield from (p for p in parameters if p.kind is not p.VAR_KEYWORD)
    if isinstance(function, type) and any(p.kind is p.VAR_KEYWORD for p in parameters):
        yield from list(_parameters(function.__mro__[1]))[1:]


RUNNER_GIVES = (
    *("seed", "checkpoint", "log", "device", "progress", "callbacks"),
    "edge_time",
)
