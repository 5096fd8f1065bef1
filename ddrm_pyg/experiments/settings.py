"""Settings stored with the package, or in a file of the same form, and their cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddrm_pyg.checks import nearest
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import FIT, METHODS, Method, table_names
from ddrm_pyg.experiments.sources import NAMED, Source
from ddrm_pyg.files import read_json

FOLDER = Path(__file__).parent / "settings"

DATA_SETS = ("yelp", "amazon-book", "ml-1m")
"""Those of the paper, as they are called in the names of stored settings."""

KEYS = (
    *("method", "about", "differs", "checked", "paper", "ours", "seeds"),
    *("model", "fit", "propagated"),
)
"""What settings may hold: the method; where its arguments come from, where paper and
code differ, what was checked; the paper's row, ours and its seeds; the arguments."""

HISTORY_WEIGHTS = {"recency": {"tau"}, "agreement": {"slope", "offset"}}
"""Kinds of the setting ``history``, and what each takes."""


def cell_for(
    name: str,
    *,
    seed: int = 0,
    settings: str | None = None,
    variant: str | None = None,
    epochs: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Cell:
    """Build the cell of a method with its stored settings.

    Args:
        name: One of :func:`ddrm_pyg.experiments.methods.table_names`.
        seed: Seed of everything that is trained on the way.
        settings: Name or file of the settings of what is trained first.
        variant: Without ``settings``: those stored for a data set (``"ml-1m"``) are
            taken where there are any, those of the method's own name elsewhere.
        epochs: Epochs at most of every training on the way; as stored if None.
        changes: Settings of the model that replace the stored ones, of what is named
            last.

    Raises:
        ValueError: An unknown name.
    """
    names = table_names()
    if name not in names:
        raise ValueError(
            f"a method must be one of {', '.join(names)} "
            f"(got '{name}'{nearest(name, names)})"
        )
    first, added = _parts(name)
    method = METHODS[first]
    record = load_settings(settings, first) if settings else _shipped(first, variant)
    model = record["model"] | ({} if added else dict(changes or {}))
    base = None
    if method.base is not None:
        base = cell_for(method.base, seed=seed, variant=variant, epochs=epochs)
    cell = Cell(
        first,
        seed if method.trained else None,
        model,
        _fit_settings(record, epochs) if method.trained else {},
        base,
    )
    if not added:
        return cell
    return denoised(
        cell, added, seed=seed, variant=variant, epochs=epochs, changes=changes
    )


def _parts(name: str) -> tuple[str, str]:
    """A name in tables is a method's, or a backend's and what denoises it."""
    if name in METHODS and METHODS[name].cleaner is None:
        return name, ""
    backend, _, added = name.rpartition("+")
    return backend, added


def denoised(
    backend: Cell,
    added: str,
    *,
    seed: int | None = None,
    settings: str | None = None,
    variant: str | None = None,
    epochs: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Cell:
    """Build the cell of what denoises, cleans or watches a backend.

    What cleans or watches a backend's training may have settings of ``fit`` that
    replace the backend's own.

    Args:
        backend: The cell of a backend, or of given embeddings.
        added: The name of a denoiser, of a watcher, or of a step with settings.
        seed: Seed of DDRM; the backend's if None.
        settings: Name or file of its settings; by method and variant if None.
        variant: As in :func:`cell_for`; with ``settings``, too, what they leave out is
            as stored for that data set.
        epochs: Epochs at most of the training that this adds or changes.
        changes: Settings of the denoiser that replace those.

    Raises:
        ValueError: Settings that are not there, or refused by the method.
    """
    record = _shipped(added, variant, backend.method)
    if settings:
        own = load_settings(settings, added)
        record = _over(own, record, settings, added) if variant else own
    model = {**record["model"], **(changes or {})}
    fit = _fit_settings(record, epochs)
    method = METHODS[added]
    if not method.joins:
        return Cell(added, backend.seed if seed is None else seed, model, fit, backend)
    base = None
    if method.base is not None:  # two of one seed would agree from the start
        other = replace(backend, seed=(backend.seed or 0) + 1)
        base = denoised(other, method.base, variant=variant, epochs=epochs)
    return Cell(
        f"{backend.method}+{added}",
        backend.seed,
        backend.model,
        {**backend.fit, **fit},
        base,
        clean=model,
    )


def _over(
    settings: dict[str, Any], under: dict[str, Any], name: str, method: str
) -> dict[str, Any]:
    """Settings, and under them those that are stored for a data set."""
    parts = {part: under[part] | settings[part] for part in ("model", "fit")}
    both = {**settings, **parts}
    try:
        _check_settings(both, method)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} over {under['name']}: {error}") from error
    return both


def _shipped(method: str, variant: str | None, backend: str = "") -> dict[str, Any]:
    """The most special settings that are stored; the defaults where there are none."""
    name = shipped_name(method, variant, backend)
    if not _path(name).is_file():
        return {"name": name, "model": {}, "fit": {}}
    return {"name": name, **read_json(_path(name))}  # checked by the tests


def _fit_settings(record: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
    return record["fit"] | ({"epochs": epochs} if epochs else {})


def shipped_name(method: str, variant: str | None, backend: str = "") -> str:
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
    path = find_settings(name, [method])
    settings = read_json(path)
    try:
        _check_settings(settings, method)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return settings


def find_settings(
    name: str, methods: Collection[str], option: str = "settings"
) -> Path:
    """Find the file of settings, without reading it.

    Args:
        name: As for :func:`load_settings`.
        methods: The methods that they may be for.
        option: What they were named by, for messages.

    Raises:
        ValueError: No such settings.
    """
    path = _path(name)
    if not path.is_file():
        paths = sorted(FOLDER.glob("*.json"))
        names = [p.stem for p in paths if read_json(p).get("method") in methods]
        raise ValueError(
            f"'{option}' must be a JSON file or a name that 'ddrm-pyg settings list' "
            f"gives (got '{name}'{nearest(name, names)})"
        )
    return path


def _path(name: str) -> Path:
    return Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"


def _check_settings(settings: dict[str, Any], method: str) -> None:
    """Refuse what would only fail once the models before this one are trained."""
    from ddrm_pyg.training import check_fit_settings

    if not all(isinstance(settings.get(part), dict) for part in ("model", "fit")):
        raise ValueError("must hold the objects 'model' and 'fit'")
    for key in settings:
        if key not in KEYS:
            raise ValueError(
                f"'{key}' must be one of {', '.join(KEYS)}{nearest(key, KEYS)}"
            )
    if settings.get("method", method) != method:
        raise ValueError(f"'method' must be '{method}' (got '{settings['method']}')")
    _check_model_settings(METHODS[method], settings["model"])
    FIT.check_names("fit", settings["fit"])
    check_fit_settings(**settings["fit"])


def _check_model_settings(method: Method, model: Mapping[str, Any]) -> None:
    """Build what the settings are for, at the smallest size."""
    import torch

    if method.clean is not None:
        with torch.random.fork_rng(devices=[]):
            backend = METHODS["mf"].model
            base = backend.example({}).scorer(None)
            method.cleaned(lambda **own: backend.example(own), 1, model, base)
        return
    check_history(model.get("history"))
    method.model.check_names("model", model)
    method.model.check_kinds(model)
    if method.model.of is not None:
        method.model.example(model)


def check_history(history: Any) -> None:
    """Refuse a setting ``history`` that is not understood.

    Args:
        history: ``{"kind": "recency", "tau": ...}`` or ``{"kind": "agreement"}`` with
            ``slope`` and ``offset``, see :mod:`ddrm_pyg.graph.history_weight`; None
            weighs all alike.

    Raises:
        ValueError: It is none of these.
    """
    if history is None:
        return
    kind = history.get("kind") if isinstance(history, Mapping) else None
    if kind not in HISTORY_WEIGHTS:
        raise ValueError(
            f"'history' must be an object with a 'kind' of {sorted(HISTORY_WEIGHTS)} "
            f"(got {history!r})"
        )
    extra = sorted(history.keys() - {"kind"} - HISTORY_WEIGHTS[kind])
    if extra or (kind == "recency" and "tau" not in history):
        takes = ", ".join(sorted(HISTORY_WEIGHTS[kind]))
        raise ValueError(
            f"'history' of kind '{kind}' takes {takes} (got {dict(history)})"
        )
    for name, value in history.items():
        if name != "kind" and not isinstance(value, (int, float)):
            raise ValueError(f"'{name}' of 'history' must be a number (got {value!r})")
    if not history.get("tau", 1) > 0:
        raise ValueError(f"'tau' of 'history' must be > 0 (got {history['tau']})")
