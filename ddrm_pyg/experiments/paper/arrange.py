"""The paper's tables and figures as lists of cells, arranged as they are printed.

"Denoising Diffusion Recommender Model" (SIGIR 2024,
https://doi.org/10.1145/3626772.3657825), with the yardsticks that it leaves out.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.identity import complete
from ddrm_pyg.experiments.methods import BACKENDS
from ddrm_pyg.experiments.paper.conditions import LIKED, Condition
from ddrm_pyg.experiments.paper.plans import Block, Line, Plan
from ddrm_pyg.experiments.plug_in import rows_for
from ddrm_pyg.experiments.sources import nearest
from ddrm_pyg.experiments.stored import YARDSTICKS, load_settings, stored_name

CLEANED = ("t-ce", "r-ce", "deca")
"""What cleans a backend's training in Table 2."""

RIVALS = ("cdae", "adagcl", "multivae", "diffrec")
"""The other models of Table 2, in its order."""

NOISE_RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""The x axis of Figure 3."""

SWEEPS: dict[str, tuple[float, ...]] = {
    "num_train_timesteps": (10, 20, 30, 40, 50, 60),
    "noise_scale": (1e-4, 1e-3, 1e-2, 1e-1),
    "reconstruction_weight": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "gamma": (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""The panels of Figure 6 with the grids of the paper's section 4.1.3; two decades are
added to the noise scale, which has two values there and 1e-2 in published settings."""


def arrange(what: str, plan: Plan) -> list[Block]:
    """List the lines of a table or a figure.

    Args:
        what: A key of :data:`TARGETS`.
        plan: Settings, seeds and backends.

    Raises:
        ValueError: An unknown table, figure or backend.
    """
    if what not in TARGETS:
        raise ValueError(
            f"what to reproduce must be one of {', '.join(TARGETS)} "
            f"(got '{what}'{nearest(what, TARGETS)})"
        )
    make, backends = TARGETS[what]
    for name in plan.backends:
        if name not in BACKENDS:
            raise ValueError(
                f"'--backends' must be of {', '.join(BACKENDS)} "
                f"(got '{name}'{nearest(name, BACKENDS)})"
            )
    return list(make(replace(plan, backends=plan.backends or backends)))


def pick(blocks: Iterable[Block], patterns: Sequence[str]) -> list[Block]:
    """Keep the lines whose names match.

    Args:
        blocks: From :func:`arrange`.
        patterns: Names, or shell patterns like ``mf*``; all if empty.

    Raises:
        ValueError: A pattern matches nothing.
    """
    blocks = list(blocks)
    names = list(dict.fromkeys(line.name for b in blocks for line in b.lines))
    if patterns and not names:
        raise ValueError(
            f"'--rows' must be left out, as there are none (got {patterns[0]!r})"
        )
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(
                f"'--rows' must name rows such as {', '.join(names)} (got '{pattern}')"
            )
    if not patterns:
        return blocks
    kept = [replace(block, lines=_matching(block, patterns)) for block in blocks]
    return [block for block in kept if block.lines]


def _matching(block: Block, patterns: Sequence[str]) -> tuple[Line, ...]:
    def asked(line: Line) -> bool:
        return any(fnmatch.fnmatchcase(line.name, pattern) for pattern in patterns)

    return tuple(line for line in block.lines if asked(line))


def _table2(plan: Plan) -> Iterator[Block]:
    yardsticks = [plan.line(name) for name in YARDSTICKS]
    rows = [plan.line(name, turn=3) for name in RIVALS]
    for backend in plan.backends:
        rows += _rows_of_backend(plan, backend)
    yield Block(
        "selected on the noisy validation set, as published", (*yardsticks, *rows)
    )
    if plan.labelled:
        liked = [replace(row, condition=LIKED, turn=row.turn + 5) for row in rows]
        yield Block("selected on the liked part of validation", tuple(liked))


def _rows_of_backend(plan: Plan, name: str) -> Iterator[Line]:
    plain, ddrm = plan.cells(name), plan.cells(f"{name}+ddrm")
    yield plan.line(name, turn=1)
    for added in CLEANED:
        yield plan.line(f"{name}+{added}", name, turn=2)
    yield plan.line(f"{name}+ddrm", name, turn=1)
    main_job = [rows_for(*pair) for pair in zip(plain, ddrm, strict=True)]
    for label, row in (
        (f"{name} best depth", f"{name}, best depth"),
        (f"{name} history mean", "history mean"),
        (f"{name}+ddrm one pass", "ddrm, one pass, no noise"),
    ):
        yield Line(label, tuple(rows[row] for rows in main_job), name, turn=1)
    # the authors' code propagates the backend's tables before it denoises them
    stored = load_settings(stored_name("ddrm", plan.variant, name), "ddrm")
    if "propagated" in stored:
        told = stored["propagated"]
        as_coded = [Cell("propagated", model=told, base=cell) for cell in plain]
        label = f"{name} {told['num_layers']} layers"
        yield Line(label, tuple(as_coded), name, turn=4)
        on_top = [
            replace(last, base=base) for last, base in zip(ddrm, as_coded, strict=True)
        ]
        yield Line(f"{label}+ddrm", tuple(on_top), name, turn=4)


def _table3(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        yield Block(
            name,
            (
                plan.line(name),
                plan.line(f"{name}+ddrm", name),
                plan.changed(name, "transformer", denoiser="transformer"),
                *(
                    plan.changed(
                        name,
                        attention.replace("-", " "),
                        **{"denoiser": "transformer", "attention": attention},
                        activation="tanh",
                    )
                    for attention in ("gate", "learned-gate")
                ),
                plan.changed(name, "noise start", start="noise"),
                plan.changed(name, "dynamic s", dynamic_scale=True),
            ),
        )


def _figure3(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        lines = [
            plan.line(
                row,
                None if row == name else name,
                at=ratio,
                condition=Condition(noise_ratio=ratio),
            )
            for row in (name, f"{name}+r-ce", f"{name}+ddrm")
            for ratio in NOISE_RATIOS
        ]
        yield Block(name, tuple(lines), "share of random noise")


def _figure4(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        yield Block(
            name,
            (
                plan.line(name),
                plan.line(f"{name}+r-ce", name),
                plan.changed(name, "reweighting only", reconstruction_weight=0.0),
                plan.changed(name, "reconstruction only", gamma=0.0),
                plan.line(f"{name}+ddrm", name),
            ),
        )


def _figure5(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        only = plan.changed(name, "items only", denoise_user=False)
        yield Block(name, (plan.line(name), only, plan.line(f"{name}+ddrm", name)))


def _figure6(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        for argument, values in SWEEPS.items():
            lines = [plan.line(name)]
            lines += [_swept(plan, name, argument, value) for value in values]
            yield Block(f"{name}: {argument}", tuple(lines), argument)


def _swept(plan: Plan, name: str, argument: str, value: float) -> Line:
    changed: dict[str, Any] = {argument: value}
    if argument == "num_train_timesteps":
        model = complete(plan.cells(f"{name}+ddrm")[0]).model
        if model["sampler"] == "posterior":  # T' = n T, with the n of the settings
            passes = value * model["num_inference_steps"] / model[argument]
            changed["num_inference_steps"] = round(passes)
    line = plan.changed(name, "", **changed)
    return replace(line, name=f"{name}+ddrm", at=float(value))


TARGETS: dict[str, tuple[Callable[[Plan], Iterator[Block]], tuple[str, ...]]] = {
    "table1": (lambda _: iter(()), ()),
    "table2": (_table2, tuple(BACKENDS)),
    "table3": (_table3, ("sgl",)),
    "figure3": (_figure3, tuple(BACKENDS)),
    "figure4": (_figure4, ("mf", "sgl")),
    "figure5": (_figure5, ("mf", "sgl")),
    "figure6": (_figure6, ("mf",)),
}
"""What there is to reproduce: what lists its lines, and the backends of the paper."""
