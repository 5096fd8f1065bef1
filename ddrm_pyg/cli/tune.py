"""``ddrm-pyg tune``: the paper's grid for DDRM on a backend, by validation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.experiments.cells import CELLS, Cell
from ddrm_pyg.experiments.settings import cell_for, paper_name
from ddrm_pyg.files import held, write_json

if TYPE_CHECKING:
    from ddrm_pyg.experiments.tune import Trial

SHOWN = 5
"""Trials that are printed."""


EXAMPLES = ("ddrm-pyg tune --data ml-1m --trials 30 --out runs/tuned",)
"""Shown below the help."""


@options.takes_source(options.SourceCommand)
def command(
    context: typer.Context,
    backend: Annotated[
        options.BackendName,
        typer.Option(help="Model whose embeddings DDRM denoises."),
    ] = "mf",
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, earlier ones included.")
    ] = 30,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Minutes after which no new trial is started."),
    ] = None,
    settings_of: options.SettingsOf = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of every training at most.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    out: options.Out = None,
    as_json: options.Json = False,
) -> None:
    """Search the paper's grid for DDRM on a backend, by validation (needs [tune]).

    Stop it anywhere, and the same command goes on. The best settings are written to a
    file that run and denoise take with --settings.
    """
    source = options.source_of(context)
    variant = settings_of or paper_name(source)
    name = f"{backend}+ddrm"
    search: dict[str, Any] = {"seed": seed, "variant": variant, "epochs": epochs}

    def make(changes: dict[str, Any]) -> Cell:
        return cell_for(name, changes=changes, **search)

    cell = make({})
    out = out or Path("runs") / f"tune-{source.name}"
    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.cli._start import begin
    from ddrm_pyg.experiments.runner import Runner
    from ddrm_pyg.experiments.tune import tune

    data = begin(source, device, [cell])
    runner = Runner(data, out / CELLS, device=device, progress=not as_json)
    (out / "trials").mkdir(parents=True, exist_ok=True)
    with held(out / "trials"):  # two searches would take each other's trials for killed
        tried = tune(runner, make, out / "trials", trials=trials, minutes=budget)
    metric = cell.fit["metric"]
    path = out / f"ddrm_{backend}_{source.name}.json"
    best = next((trial for trial in tried if not trial.stopped), None)
    if best is not None:
        about = (
            f"picked by {metric} on validation of {source.name} among {len(tried)} "
            f"trials of the paper's grid on {backend}, seed {seed}"
        )
        head = {"method": "ddrm", "about": about}
        write_json(path, {**head, "model": best.model, "fit": dict(cell.fit)})
    if as_json:
        print_json(
            {
                "metric": metric,
                "settings": str(path) if best else None,
                "trials": [asdict(trial) for trial in tried],
            }
        )
        return
    print(f"validation {metric}, best first:")
    for trial in tried[:SHOWN]:
        print(_as_line(trial))
    print(f"written to {path}" if best else "no trial has been finished")


def _as_line(trial: Trial) -> str:
    model = trial.model
    return (
        f"{trial.value:.5f}  T {model['num_train_timesteps']}, "
        f"T' {model['num_inference_steps']}, s {model['noise_scale']:g}, "
        f"noise {model['noise_min']:g} to {model['noise_max']:g}, "
        f"reconstruction {model['reconstruction_weight']:g}, gamma {model['gamma']:g}"
        + (" (stopped)" if trial.stopped else "")
    )
