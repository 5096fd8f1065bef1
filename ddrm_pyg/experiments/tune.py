"""Search the paper's grid for DDRM's settings on a backend, by validation alone.

Optuna (the extra ``[tune]``) proposes settings and stops the hopeless early. A trial
keeps a checkpoint until it is finished, so that a killed search goes on inside the
trial it was in and ends where a straight one does. No trial sees a test pair.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddrm_pyg.experiments.cells import Cell, folder_name
from ddrm_pyg.experiments.methods import FIT
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.work import untrained_ddrm
from ddrm_pyg.extras import import_extra
from ddrm_pyg.files import undamaged
from ddrm_pyg.training import fit

logger = logging.getLogger("ddrm_pyg")

# Section 4.1.3 of the paper. The bounds of the noise are one choice, because they must
# rise: its grid allows 1e-3 for both.
GRID: dict[str, tuple[Any, ...]] = {
    "num_train_timesteps": (10, 20, 30, 40, 50, 60),
    "inference_ratio": (1.0, 1.25, 1.5),
    "noise_bounds": ("1e-4 1e-3", "1e-4 1e-2", "1e-3 1e-2"),
    "noise_scale": (1e-4, 1e-3),
    "reconstruction_weight": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "gamma": (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}

_STARTUP = 5
"""Trials that are drawn at random, and that are never stopped."""


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Attributes:
        model: Constructor arguments of DDRM.
        value: Best validation metric; up to where it was stopped, if it was.
        epoch: Epoch of that value.
        stopped: Whether others were so far ahead that it was given up.
    """

    model: dict[str, Any]
    value: float
    epoch: int
    stopped: bool


def arguments_of(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a point of :data:`GRID` into arguments of DDRM."""
    model = dict(choice)
    low, high = map(float, model.pop("noise_bounds").split())
    steps = model["num_train_timesteps"]
    passes = int(model.pop("inference_ratio") * steps)  # 37 for 30, as published
    return {
        **model,
        "num_inference_steps": passes,
        "sampler": "posterior",
        "noise_min": low,
        "noise_max": high,
    }


def tune(
    runner: Runner,
    make: Callable[[dict[str, Any]], Cell],
    folder: Path,
    *,
    trials: int,
    minutes: float | None = None,
) -> list[Trial]:
    """Try settings of DDRM until enough have been tried.

    Args:
        runner: The data; trains the backend where it has not been trained.
        make: Makes the cell of DDRM, with its backend as base, from what the grid
            replaces; see ``changes`` of :func:`ddrm_pyg.experiments.settings.cell_for`.
            Its seed is that of the search, too.
        folder: Where trials are kept.
        trials: How many are tried in all, those of earlier calls included.
        minutes: No trial is started after so many; None never stops.

    Returns:
        What was tried, best first.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: There is no validation split, or the cell has no base.
    """
    optuna = _optuna()
    if not runner.has_validation:
        raise ValueError("'data' must have a validation split (nothing can select)")
    cell = make({})
    if cell.base is None:
        raise ValueError(f"'make' must start from a backend (got {cell.method} alone)")
    runner.run(cell.base)
    home = folder / f"{cell.base.method}-{folder_name(cell, runner.fingerprint)}"
    home.mkdir(parents=True, exist_ok=True)
    journal = home / "trials.log"
    with undamaged(journal, "not a search's", "delete it, and the search begins anew"):
        study = _study(optuna, home.name, journal)
        for trial in _finished(optuna, study):
            Trial(**trial.user_attrs)
    seed = cell.seed or 0
    begin = time.monotonic()
    while len(finished := _finished(optuna, study)) < trials:
        if minutes is not None and time.monotonic() - begin >= 60 * minutes:
            logger.info("%g minutes are over; run again to go on", minutes)
            break
        # of the trials so far, so that an interrupted search draws what a straight one
        # draws
        done = len(finished)
        study.sampler = optuna.samplers.TPESampler(
            seed=seed + done, n_startup_trials=_STARTUP
        )
        trial = study.ask()
        choice = {k: trial.suggest_categorical(k, v) for k, v in GRID.items()}
        logger.info("trial %d of %d: %s", done + 1, trials, choice)
        asked = make(arguments_of(choice))
        checkpoint = home / f"{_digest(asked)}.pt"
        try:
            earlier = [t.user_attrs for t in finished if t.params == choice]
            outcome = (
                Trial(**earlier[0])
                if earlier
                else _train(runner, asked, checkpoint, trial)
            )
        except FloatingPointError as error:  # or it would be proposed for ever
            logger.warning("given up: %s", error)
            outcome = Trial(dict(asked.model), value=0.0, epoch=0, stopped=True)
        for name, value in asdict(outcome).items():
            trial.set_user_attr(name, value)
        if outcome.stopped:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, outcome.value)
        checkpoint.unlink(missing_ok=True)
    tried = [Trial(**trial.user_attrs) for trial in _finished(optuna, study)]
    # a stopped trial is no candidate: it was not measured to its end
    return sorted(tried, key=lambda trial: (trial.stopped, -trial.value))


def _optuna() -> Any:
    optuna = import_extra("optuna", "tune needs Optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _study(optuna: Any, name: str, journal: Path) -> Any:
    """Open the search of a folder; a trial that was killed is proposed again."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
        load_if_exists=True,
    )
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _finished(optuna: Any, study: Any) -> list[Any]:
    states = optuna.trial.TrialState
    return study.get_trials(states=[states.COMPLETE, states.PRUNED])


def _digest(cell: Cell) -> str:
    text = json.dumps(dict(cell.model), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _train(runner: Runner, cell: Cell, checkpoint: Path, trial: Any) -> Trial:
    """Train validation by validation, from the checkpoint if there is one."""
    epochs, every = (cell.fit[name] for name in ("epochs", "eval_every"))
    recommender = untrained_ddrm(runner.work(cell))
    reported = 0
    for epoch in [*range(every, epochs, every), epochs]:
        result = fit(
            recommender,
            runner.data,
            **{**FIT.fill(cell.fit), "epochs": epoch},
            seed=cell.seed or 0,
            checkpoint=checkpoint,
            device=runner.device,
            callbacks=runner.callbacks,
            progress=runner.progress,
        )
        for record in result.history[reported:]:
            if result.metric in record:
                trial.report(record[result.metric], int(record["epoch"]))
        reported = len(result.history)
        stopped = bool(trial.should_prune())  # numpy's own is no JSON
        if stopped or result.stopped_early:
            break
    return Trial(dict(cell.model), result.best_value or 0.0, result.best_epoch, stopped)
