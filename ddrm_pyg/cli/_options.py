"""Options that several commands share."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from ddrm_pyg.cli._command import Command, parameters_of
from ddrm_pyg.experiments.methods import names_of, pairwise_backends
from ddrm_pyg.experiments.settings import find_settings
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.files import hash_file

logger = logging.getLogger("ddrm_pyg")


def check_there(*paths: Path | None) -> None:
    """Refuse files to read that are not there, before anything else is done."""
    for path in paths:
        if path is not None:
            path.stat()  # its own error names it


def _check_device(name: str | None) -> str | None:
    if name not in (None, "cpu"):
        import torch

        try:
            torch.zeros(1, device=name).item()  # "meta" holds no numbers
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise typer.BadParameter(f"'{name}' cannot be used ({reason})") from None
    return name


SETTINGS = {
    "settings": names_of("denoiser"),
    "backend_settings": names_of("backend"),
    "ddrm_settings": ("ddrm",),
}
"""Options that name settings, and the methods that those are for."""


def _check_settings(values: Mapping[str, Any]) -> None:
    """Refuse settings that are not there."""
    for name, methods in SETTINGS.items():
        if (settings := values.get(name)) is not None:
            find_settings(settings, methods, f"--{name.replace('_', '-')}")


SplitScope = Annotated[
    Literal["user", "global"],
    typer.Option(
        help="Cut each user's own timeline, or everyone's at the same two moments."
    ),
]


def _source(
    data: Annotated[
        str,
        typer.Option(
            help="synthetic, ml-1m, yelp, amazon-book, the last three also with "
            "-clean, or a path."
        ),
    ] = "synthetic",
    user: Annotated[str, typer.Option(help="Column of users, in a table.")] = "user",
    item: Annotated[str, typer.Option(help="Column of items, in a table.")] = "item",
    rating: Annotated[
        str | None, typer.Option(help="Column of ratings; 'rating' if there is one.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Column of times; 'time' or 'timestamp' if there is one."),
    ] = None,
    no_rating: Annotated[
        bool, typer.Option("--no-rating", help="Read no ratings, if there are any.")
    ] = False,
    no_time: Annotated[
        bool, typer.Option("--no-time", help="Read no times, if there are any.")
    ] = False,
    liked_from: Annotated[
        float | None,
        typer.Option(
            help="Ratings below this are noise: kept in train and validation, never "
            "in test."
        ),
    ] = None,
    ratios: Annotated[
        str, typer.Option(help="Shares of train, validation and test, in a table.")
    ] = "0.7,0.1,0.2",
    split: SplitScope = "user",
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of a text, such as latin-1; UTF-8 if none is."),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            help="What is between two fields: a character, \\t or ::; seen by itself."
        ),
    ] = None,
) -> Source:
    rating = _unless("rating", rating, no_rating)
    time = _unless("time", time, no_time)
    shares = parse_ratios(ratios)
    columns = (user, item, rating, time)
    return Source(data, *columns, liked_from, shares, encoding, separator, split)


def _unless(role: str, name: str | None, refused: bool) -> Any:
    """Return the name of a column, False where none is to be read."""
    if refused and name is not None:
        raise ValueError(f"'--no-{role}' does not go with '--{role} {name}'")
    return False if refused else name


class SourceCommand(Command):
    """A command with the options of :func:`_source`, of which it gets a source.

    An option that the command has for something else has ``source`` before it: the
    ``--source-split`` of ``evaluate``.
    """

    required = False
    """Whether the data must be named."""

    def __init__(self, *args: Any, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        data, *columns = self.data_parameters()
        taken = {parameter.name for parameter in self.params}
        for option in columns:
            if option.name in taken:
                option.opts = [f"--source-{option.name}"]
                option.name = f"source_{option.name}"
        *own, as_json, quiet, verbose = self.params
        self.params = [data, *own, *columns, as_json, quiet, verbose]
        self.columns = [data.name, *(option.name for option in columns)]

    def data_parameters(self) -> list[Any]:
        """The parameters of a source, that of the data first."""
        data, *columns = parameters_of(_source)
        if self.required:
            data.required, data.default = True, None
        return [data, *columns]

    def invoke(self, ctx: Any) -> Any:
        """Make the source, see :func:`source_of`."""
        values = (ctx.params.pop(name) for name in self.columns)
        ctx.obj = _source(*values)
        _check_settings(ctx.params)
        ctx.obj.check(there=not ctx.params.get("dry_run"))
        return super().invoke(ctx)


class NamedSourceCommand(SourceCommand):
    """The same where the data must be named."""

    required = True


class PathCommand(SourceCommand):
    """The same with the data as its argument, without ``--data``."""

    def data_parameters(self) -> list[Any]:
        """The parameters of a source, an argument first."""
        return [*parameters_of(_path), *parameters_of(_source)[1:]]


def _path(
    data: Annotated[
        str,
        typer.Argument(
            metavar="PATH|NAME",
            help="A file, a folder or a known data set (synthetic, ml-1m, ...).",
        ),
    ],
) -> None: ...


def takes_source(
    cls: type[SourceCommand],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that say where interactions come from.

    Args:
        cls: How the data are named.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command.cls = cls  # type: ignore[attr-defined]
        return command

    return decorate


def source_of(context: typer.Context) -> Source:
    """The source that the options of a command name."""
    return context.obj


Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, batches and noise.")
]
Device = Annotated[
    str | None,
    typer.Option(
        callback=_check_device, help="Where to train: cpu (the default), cuda, ..."
    ),
]
Out = Annotated[
    Path | None, typer.Option(file_okay=False, help="Folder for the results.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of another run in --out.")
]
SafeCsv = Annotated[
    bool,
    typer.Option(
        "--safe-csv",
        help="In CSV, put a ' before ids that a spreadsheet would run (=, +, -, @).",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(help="What DuckDB may take before it spills to disk; 4GB if none."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Embeddings = Annotated[
    Path | None,
    typer.Option(help="Tables 'user' and 'item': .safetensors, .npz or .pt."),
]
UserEmb = Annotated[
    Path | None,
    typer.Option(
        help="Or vectors of users by 'id', .csv, .tsv or .parquet, in any order."
    ),
]
ItemEmb = Annotated[
    Path | None, typer.Option(help="Vectors of items by 'id', likewise.")
]
UserIds = Annotated[
    Path | None,
    typer.Option(help="Ids of the rows of 'user': a line each, or a column 'id'."),
]
ItemIds = Annotated[
    Path | None, typer.Option(help="Ids of the rows of 'item', likewise.")
]
Settings = Annotated[
    str | None,
    typer.Option(help="Settings of what denoises: a stored name or a JSON file."),
]
SettingsOf = Annotated[
    str | None,
    typer.Option(help="Prefer the settings stored for this data set, such as ml-1m."),
]
if TYPE_CHECKING:
    BackendName: TypeAlias = str
    PairwiseName: TypeAlias = str
    DenoiserName: TypeAlias = str
else:  # the choices are those of the records
    BackendName = Literal[names_of("backend")]
    PairwiseName = Literal[pairwise_backends()]
    DenoiserName = Literal[(*names_of("denoiser"), "none")]
BackendSettings = Annotated[
    str | None,
    typer.Option(help="Settings of the backend: a stored name or a JSON file."),
]
BackendEpochs = Annotated[
    int | None, typer.Option(min=1, help="Epochs of the backend at most.")
]
Row = Annotated[
    str | None,
    typer.Option(
        help="Row of the run's table; what won on validation if not given. New users "
        "and exports need one with vectors, which no yardstick has."
    ),
]
NumLayers = Annotated[
    int, typer.Option(min=0, help="Propagate the tables through so many layers first.")
]
Combine = Annotated[
    Literal["mean", "normalized-sum"], typer.Option(help="How layers are combined.")
]


def vector_files(
    embeddings: Path | None,
    vectors: dict[str, Path | None],
    ids: dict[str, Path | None],
) -> dict[str, Any]:
    """Name and hash the files that vectors come from, see :func:`check_there`.

    Args:
        embeddings: Both tables.
        vectors: Vectors with ids of users and of items, instead.
        ids: Ids of the rows of ``embeddings``.

    Returns:
        Settings of a cell, for :func:`ddrm_pyg.experiments.work.load_vectors`.

    Raises:
        ValueError: Neither the one nor both others, or ids beside vectors with ids.
    """
    check_there(embeddings, *vectors.values(), *ids.values())
    if embeddings and not any(vectors.values()):
        named = _id_files(ids["user"], ids["item"])
        return {**_hashed(embeddings), **({"ids": named} if named else {})}
    if embeddings or not all(vectors.values()):
        raise ValueError("give '--embeddings', or '--user-emb' and '--item-emb'")
    if any(ids.values()):
        raise ValueError("'--user-ids' and '--item-ids' must come with '--embeddings'")
    return {"vectors": {kind: _hashed(path) for kind, path in vectors.items() if path}}


def _hashed(path: Path) -> dict[str, str]:
    return {"path": str(path.resolve()), "sha256": hash_file(path)}


def _id_files(user: Path | None, item: Path | None) -> dict[str, dict[str, str]]:
    """Name and hash the files of ids that there are, by what they are ids of.

    Where there are none, rows in another order would give plausible wrong numbers, so
    the order that is assumed is said.
    """
    options = {"--user-ids": user, "--item-ids": item}
    absent = [name for name, path in options.items() if path is None]
    if absent:
        logger.warning(
            "no %s: rows are taken in the order of the data (ids.csv of a run)",
            " and no ".join(absent),
        )
    return {
        kind: _hashed(path)
        for kind, path in (("user", user), ("item", item))
        if path is not None
    }


def parse_ratios(text: str) -> tuple[float, float, float]:
    """Read ``0.7,0.1,0.2``.

    Raises:
        ValueError: Not three numbers.
    """
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"'--ratios' must be three numbers like 0.7,0.1,0.2 (got '{text}')"
        ) from None
    return train, val, test


def split(words: str) -> list[str]:
    """Split what has commas between its parts."""
    return [word.strip() for word in words.split(",")] if words else []


def matches(words: Iterable[str]) -> list[Path]:
    """List the files of patterns by name; a word that matches none as it is."""
    return [Path(name) for word in words for name in sorted(glob.glob(word)) or [word]]
