"""Data sets by name or path, as commands take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddrm_pyg.checks import nearest, nearest_path

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

DOWNLOADS = Path("datasets")
"""Where data sets that are known by name keep their files."""


def _synthetic(moving: bool) -> Callable[[], HeteroData]:
    def load() -> HeteroData:
        from ddrm_pyg.datasets.synthetic import SyntheticInteractions

        return SyntheticInteractions(moving=moving)[0]

    return load


def _of_paper(module: str, name: str, noise: str) -> Callable[[], HeteroData]:
    def load() -> HeteroData:
        dataset = getattr(import_module(f"ddrm_pyg.datasets.{module}"), name)
        return dataset(DOWNLOADS, noise=noise)[0]

    return load


NAMED: dict[str, Callable[[], HeteroData]] = {
    "synthetic": _synthetic(moving=True),
    "synthetic-still": _synthetic(moving=False),
    "ml-1m": _of_paper("movielens_1m", "MovieLens1M", "natural"),
    "ml-1m-clean": _of_paper("movielens_1m", "MovieLens1M", "clean"),
    "yelp": _of_paper("yelp", "Yelp", "natural"),
    "yelp-clean": _of_paper("yelp", "Yelp", "clean"),
    "amazon-book": _of_paper("amazon_book", "AmazonBook", "natural"),
    "amazon-book-clean": _of_paper("amazon_book", "AmazonBook", "clean"),
}
"""Data sets that need no path."""

_LATER = {"encoding": None, "separator": None, "split": "user"}
"""Fields of a source that earlier runs do not have, and what they did without."""

_NOISE = ("natural", "random", "clean")


@dataclass(frozen=True)
class Source:
    """Where interactions come from; the defaults of a path are the loader's.

    Attributes:
        data: A key of :data:`NAMED`, or a path for
            :func:`ddrm_pyg.load_interactions`.
        user: Column of users.
        item: Column of items.
        rating: Column of ratings; False reads none.
        time: Column of times; False reads none.
        liked_from: Ratings below this are false positives.
        ratios: Shares of train, validation and test.
        encoding: What the bytes of a text are.
        separator: What stands between two fields of a text.
        split: ``"user"`` or ``"global"``: whose timeline is cut.
    """

    data: str = "synthetic"
    user: str = "user"
    item: str = "item"
    rating: str | Literal[False] | None = None
    time: str | Literal[False] | None = None
    liked_from: float | None = None
    ratios: tuple[float, float, float] = (0.7, 0.1, 0.2)
    encoding: str | None = None
    separator: str | None = None
    split: Literal["user", "global"] = "user"

    @property
    def name(self) -> str:
        """A short name for folders and titles."""
        if self.data in NAMED:
            return self.data
        path = Path(self.data).resolve()
        name = path.name.split(".")[0]
        # a folder per noise setting, as ml-1m/natural: its name alone says little
        return f"{path.parent.name}-{name}" if name in _NOISE else name

    @property
    def noise(self) -> str | None:
        """The paper's noise setting that the name ends in, if it ends in one."""
        return next((kind for kind in _NOISE if self.name.endswith(f"-{kind}")), None)

    def located(self) -> Source:
        """The same source, wherever the process is started."""
        if self.data in NAMED:
            return self
        return replace(self, data=str(Path(self.data).resolve()))

    def record(self) -> dict[str, Any]:
        """Its fields, as they name a run; later ones only where they are used.

        A folder that was written before there were such fields is known by this.
        """
        fields = asdict(self)
        unused = [name for name, before in _LATER.items() if fields[name] == before]
        return {name: fields[name] for name in fields if name not in unused}

    def words(self) -> list[str]:
        """The options that name it on a command line, those at their default left out.

        An option that is False is named ``--no-...``.
        """
        words = ["--data", self.data]
        for field in fields(self)[1:]:
            name, value = field.name.replace("_", "-"), getattr(self, field.name)
            if value is False:
                words.append(f"--no-{name}")
            elif value != field.default:
                is_list = isinstance(value, tuple)
                values = value if is_list else [value]
                words += [f"--{name}", ",".join(map(_shown, values))]
        return words

    def check(self, *, there: bool = True) -> None:
        """Refuse what the name and the beginning of the data tell.

        Args:
            there: Whether the data must be there already.

        Raises:
            ValueError: Options do not go with a name, or a table has no such column.
            FileNotFoundError: Neither a known name nor a path that exists.
            ImportError: It is parquet, and the extra ``[parquet]`` is not there.
        """
        if self.data in NAMED:
            if self != Source(self.data):
                raise ValueError(
                    f"column options go with a file (got --data {self.data})"
                )
        elif there and not Path(self.data).exists():
            meant = nearest_path(self.data) or nearest(self.data, NAMED)
            raise FileNotFoundError(
                f"{self.data}: neither a file, a folder nor a known data set "
                f"({', '.join(NAMED)}){meant}"
            )
        elif Path(self.data).is_file():
            self._check_columns()

    def _check_columns(self) -> None:
        from ddrm_pyg.datasets._header import check_columns  # numpy is not needed yet

        roles = ("user", "item", "rating", "time")
        check_columns(
            Path(self.data),
            {role: getattr(self, role) for role in roles},
            encoding=self.encoding,
            separator=self.separator,
        )

    def load(self, *, split: bool = True) -> HeteroData:
        """Load the data set.

        Args:
            split: Whether to split a table; whatever is split already stays so.

        Raises:
            FileNotFoundError: Neither a known name nor a path that exists.
            ValueError: The files are refused, or options do not go with a name.
        """
        from ddrm_pyg.datasets.readers import brings_split, load_interactions

        self.check()
        if self.data in NAMED:
            return NAMED[self.data]()
        how = True if self.split == "user" else self.split
        return load_interactions(
            self.data,
            user=self.user,
            item=self.item,
            rating=self.rating,
            time=self.time,
            liked_from=self.liked_from,
            ratios=self.ratios,
            encoding=self.encoding,
            separator=self.separator,
            split=how if split or brings_split(self.data) else False,
        )


def _shown(value: float | str) -> str:
    is_whole = isinstance(value, float) and value.is_integer()
    return f"{value:.0f}" if is_whole else str(value)  # 4, not 4.0


DEFAULT = Source()
"""What runs where no data are given: offline, with known noise."""
