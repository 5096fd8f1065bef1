"""The paper's tables and figures as lists of cells, arranged as they are printed.

"Denoising Diffusion Recommender Model" (SIGIR 2024,
https://doi.org/10.1145/3626772.3657825), with the yardsticks that it leaves out.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.checks import nearest
from ddrm_pyg.experiments.cells import Cell, chain, rows_for
from ddrm_pyg.experiments.methods import names_of, yardsticks
from ddrm_pyg.experiments.settings import (
    cell_for,
    denoised,
    load_settings,
    paper_name,
    shipped_name,
)
from ddrm_pyg.experiments.sources import NAMED, Source
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.transforms.core import get_block, select, set_block
from ddrm_pyg.transforms.noise import RandomNoise

PAPER_BACKENDS = ("mf", "lightgcn", "sgl")
"""Those of Table 2, in its order."""

CLEANED = ("t-ce", "r-ce", "deca")
"""What cleans a backend's training in Table 2."""

RIVALS = ("cdae", "adagcl", "multivae", "diffrec")
"""The other models of Table 2, in its order."""

NOISE_RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""The x axis of Figure 3."""

NOISE_SEED = 0
"""Of the random noise: the same pairs for every method and seed."""

SWEEPS: dict[str, tuple[float, ...]] = {
    "num_train_timesteps": (10, 20, 30, 40, 50, 60),
    "noise_scale": (1e-4, 1e-3, 1e-2, 1e-1),
    "reconstruction_weight": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "gamma": (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""The panels of Figure 6 with the grids of the paper's section 4.1.3; two decades are
added to the noise scale, which has two values there and 1e-2 in published settings."""


# What is done to the data.


@dataclass(frozen=True)
class Condition:
    """What is done to a data set before anything is run on it.

    Attributes:
        liked_validation: Only the liked part of validation selects; test rankings
            still hide all of it.
        noise_ratio: Share of train and validation that random noise replaces, in the
            liked data where these are known; None leaves the data as they are.
    """

    liked_validation: bool = False
    noise_ratio: float | None = None

    @property
    def selected_on(self) -> str:
        """What the validation set is."""
        return "liked validation" if self.liked_validation else "noisy validation"

    @property
    def name(self) -> str:
        """A name among all conditions."""
        if self.noise_ratio is None:
            return self.selected_on
        return f"random noise {self.noise_ratio:g}, {self.selected_on}"

    def base(self, source: Source) -> Source:
        """Find what random noise goes into; the source itself where none does."""
        clean = clean_source(source) if self.noise_ratio is not None else None
        return clean or source

    def data_name(self, source: Source) -> str:
        """Name what a source is turned into, but for its validation."""
        name = self.base(source).name
        if self.noise_ratio is None:
            return name
        return f"{name}, random noise {self.noise_ratio:g}"

    def load(self, source: Source) -> tuple[HeteroData, InteractionGraph | None]:
        """Load a data set and arrange it.

        Returns:
            The data, and the pairs to hide from test rankings where validation no
            longer has them all.

        Raises:
            FileNotFoundError: The data are not there.
            ValueError: The data are refused, are not split, or cannot take the noise.
        """
        data = self.base(source).load()
        if self.noise_ratio is not None:
            data = RandomNoise(self.noise_ratio, seed=NOISE_SEED)(data)
        if not self.liked_validation:
            return data, None
        hidden = InteractionGraph.from_data(data, splits=("train", "val"))
        return keep_liked_validation(data), hidden


AS_IS = Condition()
"""The data as they are."""

LIKED = Condition(liked_validation=True)


def keep_liked_validation(data: HeteroData) -> HeteroData:
    """Drop the false positives of validation.

    Raises:
        ValueError: Nothing is known about them.
    """
    block = get_block(data, "val")
    if "is_noise" not in block:
        raise ValueError("validation has no noise labels: its liked part is unknown")
    data = data.clone()
    set_block(data, "val", select(block, ~block["is_noise"]))
    return data


def has_labels(data: HeteroData) -> bool:
    """Whether validation has a liked part that is not all or nothing of it."""
    noise = data[EDGE].get("val_edge_is_noise", torch.empty(0, dtype=torch.bool))
    return bool(noise.any()) and not bool(noise.all())


def clean_source(source: Source) -> Source | None:
    """Find the same data without noise: of a known name, or a folder beside it."""
    if source.data in NAMED:
        clean = f"{source.data.removesuffix('-clean')}-clean"
        return replace(source, data=clean) if clean in NAMED else None
    folder = Path(source.data).resolve()
    beside = folder.with_name("clean")
    if folder.name in ("natural", "random", "clean") and beside.is_dir():
        return replace(source, data=str(beside))
    return None


# What tables and figures are made of.


@dataclass(frozen=True)
class Line:
    """A row of a table, or a point of a curve.

    Attributes:
        name: What a reader sees; unique in its block but for ``at``.
        cells: One per seed; of closed forms, one.
        rival: Name of the line that it is tested against.
        at: Its place on the x axis, if there is one.
        condition: What is done to the data.
        turn: In which round it is run.
        about: Where its settings come from and what was checked, for lines that miss
            the paper.
    """

    name: str
    cells: tuple[Cell, ...]
    rival: str | None = None
    at: float | None = None
    condition: Condition = AS_IS
    turn: int = 0
    about: str = ""

    @property
    def has_ddrm(self) -> bool:
        """Whether DDRM is part of it."""
        return any(link.method == "ddrm" for link in chain(self.cells[0]))


@dataclass(frozen=True)
class Block:
    """A part of a table, or a panel of a figure.

    Attributes:
        title: Its heading.
        lines: Its lines, as they are printed.
        axis: The name of the x axis of a panel of curves.
    """

    title: str
    lines: tuple[Line, ...]
    axis: str | None = None


def full_name(name: str, at: float | None) -> str:
    """Name a line so that its block has no other of that name."""
    return name if at is None else f"{name}, {at:g}"


@dataclass(frozen=True)
class Plan:
    """What makes lines: which settings, seeds and backends.

    Attributes:
        variant: Data set whose stored settings are preferred.
        seeds: Seeds of whatever is trained.
        epochs: Epochs of every training at most; as stored if None.
        labelled: Whether the liked part of validation is known.
        backends: Of DDRM; those of the paper if empty.
        ddrm_settings: Name or file of settings of DDRM that replace those of the
            variant, one by one.
    """

    variant: str | None = None
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int | None = None
    labelled: bool = True
    backends: Sequence[str] = ()
    ddrm_settings: str | None = None

    def cells(
        self, method: str, added: str = "", changes: dict[str, Any] | None = None
    ) -> tuple[Cell, ...]:
        """One cell per seed of a method with its settings; one of a yardstick.

        Args:
            method: A yardstick, a rival, or a backend.
            added: What cleans or denoises the backend.
            changes: Settings of what is added that replace the stored ones.
        """
        if method in yardsticks():
            return (Cell(method),)
        return tuple(self._cell(method, added, seed, changes) for seed in self.seeds)

    def _cell(
        self, method: str, added: str, seed: int, changes: dict[str, Any] | None
    ) -> Cell:
        limits: dict[str, Any] = {"variant": self.variant, "epochs": self.epochs}
        base = cell_for(method, seed=seed, **limits)
        if not added:
            return base
        settings = self.ddrm_settings if added == "ddrm" else None
        return denoised(
            base, added, seed=seed, settings=settings, changes=changes, **limits
        )

    def line(self, method: str, added: str = "", **fields: Any) -> Line:
        """A line of a method; what is added to a backend is tested against it."""
        name, rival = (f"{method}+{added}", method) if added else (method, None)
        cells, about = self.cells(method, added), self._about(method, added)
        return Line(name, cells, rival, about=about, **fields)

    def changed(self, backend: str, what: str, **arguments: Any) -> Line:
        """A line of DDRM with other arguments."""
        line = self.line(backend, "ddrm")
        cells = self.cells(backend, "ddrm", arguments)
        return replace(line, name=f"{line.name} {what}", cells=cells)

    def settings_name(self, method: str, added: str) -> str:
        """Name or file of the settings of what a line trains last."""
        if added == "ddrm" and self.ddrm_settings is not None:
            return self.ddrm_settings
        return shipped_name(added or method, self.variant, method if added else "")

    def _about(self, method: str, added: str) -> str:
        if method in yardsticks():
            return ""
        settings = load_settings(self.settings_name(method, added), added or method)
        checked = f"Checked: {settings.get('checked', 'nothing yet')}"
        return ". ".join(filter(None, (settings.get("about"), checked)))


# The tables and figures.


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
    target = TARGETS[what]
    backends = names_of("backend")
    for name in plan.backends:
        if name not in backends:
            raise ValueError(
                f"'--backends' must be of {', '.join(backends)} "
                f"(got '{name}'{nearest(name, backends)})"
            )
    plan = replace(plan, backends=plan.backends or target.backends)
    return list(target.blocks(plan))


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
    def matches(line: Line) -> bool:
        return any(fnmatch.fnmatchcase(line.name, pattern) for pattern in patterns)

    return tuple(line for line in block.lines if matches(line))


def select_validation(blocks: list[Block], validation: str) -> list[Block]:
    """Keep the blocks that are selected on a validation set.

    Args:
        blocks: From :func:`arrange`.
        validation: ``noisy``, ``liked`` or ``both``.

    Raises:
        ValueError: There is no such block.
    """
    if validation == "both":
        return blocks
    liked = validation == "liked"
    kept = [b for b in blocks if b.lines[0].condition.liked_validation == liked]
    if blocks and not kept:
        raise ValueError(
            f"'--validation' must be one that the data and the table have "
            f"(got '{validation}')"
        )
    return kept


def contrasts(backend: str) -> dict[str, str]:
    """What DDRM on a backend is set against in Table 2: short name to line."""
    return {
        "the backend": backend,
        "its best depth": f"{backend} best depth",
        "its history mean": f"{backend} history mean",
        "one pass": f"{backend}+ddrm one pass",
        "item_knn": "item_knn",
        "ease": "ease",
    }


def _table2(plan: Plan) -> Iterator[Block]:
    fixed = [plan.line(name) for name in yardsticks()]
    rows = [plan.line(name, turn=3) for name in RIVALS]
    for backend in plan.backends:
        rows += _rows_of_backend(plan, backend)
    yield Block("selected on the noisy validation set, as published", (*fixed, *rows))
    if plan.labelled:
        liked = [replace(row, condition=LIKED, turn=row.turn + 5) for row in rows]
        yield Block("selected on the liked part of validation", tuple(liked))


def _rows_of_backend(plan: Plan, name: str) -> Iterator[Line]:
    yield plan.line(name, turn=1)
    for added in CLEANED:
        yield plan.line(name, added, turn=2)
    ddrm = plan.line(name, "ddrm", turn=1)
    yield ddrm
    # what needs no diffusion, as the main job has it
    main_job = [rows_for(last.base, last) for last in ddrm.cells if last.base]
    for label, row in (
        ("its best depth", f"{name}, best depth"),
        ("its history mean", "history mean"),
        ("one pass", "ddrm, one pass, no noise"),
    ):
        cells = tuple(rows[row] for rows in main_job)
        yield Line(contrasts(name)[label], cells, name, turn=1)
    yield from _as_coded(plan, name, ddrm)


def _as_coded(plan: Plan, name: str, ddrm: Line) -> Iterator[Line]:
    """The authors' code propagates the backend's tables before it denoises them."""
    settings = load_settings(shipped_name("ddrm", plan.variant, name), "ddrm")
    if "propagated" not in settings:
        return
    model = settings["propagated"]
    plain = plan.cells(name)
    tables = tuple(Cell("propagated", model=model, base=cell) for cell in plain)
    label = f"{name} {model['num_layers']} layers"
    yield Line(label, tables, name, turn=4)
    on_top = (replace(c, base=t) for c, t in zip(ddrm.cells, tables, strict=True))
    yield Line(f"{label}+ddrm", tuple(on_top), name, turn=4)


def _table3(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        gate = {"denoiser": "transformer", "activation": "tanh"}
        yield Block(
            name,
            (
                plan.line(name),
                plan.line(name, "ddrm"),
                plan.changed(name, "transformer", denoiser="transformer"),
                plan.changed(name, "gate", **gate, attention="gate"),
                plan.changed(name, "learned gate", **gate, attention="learned-gate"),
                plan.changed(name, "noise start", start="noise"),
                plan.changed(name, "dynamic s", dynamic_scale=True),
            ),
        )


def _figure3(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        lines = [
            replace(line, at=ratio, condition=Condition(noise_ratio=ratio))
            for line in (plan.line(name, added) for added in ("", "r-ce", "ddrm"))
            for ratio in NOISE_RATIOS
        ]
        yield Block(name, tuple(lines), "share of random noise")


def _figure4(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        yield Block(
            name,
            (
                plan.line(name),
                plan.line(name, "r-ce"),
                plan.changed(name, "reweighting only", reconstruction_weight=0.0),
                plan.changed(name, "reconstruction only", gamma=0.0),
                plan.line(name, "ddrm"),
            ),
        )


def _figure5(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        only = plan.changed(name, "items only", denoise_user=False)
        yield Block(name, (plan.line(name), only, plan.line(name, "ddrm")))


def _figure6(plan: Plan) -> Iterator[Block]:
    for name in plan.backends:
        for argument, values in SWEEPS.items():
            lines = [plan.line(name)]
            lines += [_swept(plan, name, argument, value) for value in values]
            yield Block(f"{name}: {argument}", tuple(lines), argument)


def _swept(plan: Plan, name: str, argument: str, value: float) -> Line:
    published = plan.line(name, "ddrm")
    changed: dict[str, Any] = {argument: value}
    if argument == "num_train_timesteps":
        model = published.cells[0].model
        if model["sampler"] == "posterior":  # T' = n T, with the n of the settings
            passes = value * model["num_inference_steps"] / model[argument]
            changed["num_inference_steps"] = round(passes)
    line = plan.changed(name, "", **changed)
    return replace(line, name=published.name, at=float(value))


@dataclass(frozen=True)
class Target:
    """A table or figure of the paper.

    Attributes:
        title: Its heading.
        blocks: Lists its lines.
        backends: Of DDRM, in the paper.
    """

    title: str
    blocks: Callable[[Plan], Iterable[Block]]
    backends: tuple[str, ...] = ()


TARGETS = {
    "table1": Target("Table 1: statistics of the data", lambda _: ()),
    "table2": Target(
        "Table 2: overall performance under natural noise", _table2, PAPER_BACKENDS
    ),
    "table3": Target("Table 3: backbone designs", _table3, ("sgl",)),
    "figure3": Target("Figure 3: training on random noise", _figure3, PAPER_BACKENDS),
    "figure4": Target(
        "Figure 4: reconstruction and reweighted loss", _figure4, ("mf", "sgl")
    ),
    "figure5": Target("Figure 5: denoising items only", _figure5, ("mf", "sgl")),
    "figure6": Target("Figure 6: hyper-parameters", _figure6, ("mf",)),
}
"""What there is to reproduce."""


@dataclass(frozen=True)
class Request:
    """What is to be reproduced.

    Attributes:
        what: A key of :data:`TARGETS`.
        source: The data.
        plan: Settings, seeds and backends.
        rows: Names or patterns of lines; all if empty.
        validation: Which validation sets select: ``both``, ``noisy`` or ``liked``.
    """

    what: str
    source: Source
    plan: Plan
    rows: Sequence[str] = ()
    validation: str = "both"

    def blocks(self, labelled: bool) -> list[Block]:
        """List the lines that are asked for.

        Args:
            labelled: Whether the liked part of validation is known.

        Raises:
            ValueError: Something unknown is asked for, or a validation set that the
                data or the table do not have.
        """
        plan = replace(self.plan, labelled=labelled)
        blocks = pick(arrange(self.what, plan), self.rows)
        return select_validation(blocks, self.validation)

    @property
    def command(self) -> str:
        """The command that makes the same again, wherever its results are kept."""
        plan = self.plan
        own_settings = plan.variant != paper_name(self.source)
        options = {
            "--rows": ",".join(self.rows),
            "--backends": ",".join(plan.backends),
            "--settings-of": plan.variant if own_settings else None,
            "--ddrm-settings": plan.ddrm_settings,
            "--epochs": plan.epochs,
            "--seeds": len(plan.seeds) if self.what != "table1" else None,
            "--validation": self.validation if self.validation != "both" else None,
        }
        words = ["ddrm-pyg", "reproduce", self.what, *self.source.words()]
        for name, value in options.items():
            words += [] if value in (None, "") else [name, str(value)]
        return shlex.join(words)

    def check(self) -> None:
        """Refuse what is unknown whatever the data are."""
        replace(self, validation="both").blocks(labelled=True)
