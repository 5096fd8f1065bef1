"""Every method: one record each, from which all that is said of it is read.

Classes and functions are named, not imported: who only lists methods (a help text)
waits for no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from ddrm_pyg.checks import nearest
from ddrm_pyg.experiments.arguments import Arguments, Reference, resolve

Role = Literal["yardstick", "backend", "rival", "denoiser", "watcher", "step"]
"""What a method is for: a closed form that all others must be compared with; a model
whose embeddings can be denoised; another model; what is added to a backend's name
(``lightgcn+ddrm``); what watches a backend's training and changes nothing in it; or a
step that starts from another cell."""

FIT = Arguments(
    "ddrm_pyg.training:fit",
    inputs=(
        *("model", "data", "seed", "checkpoint", "log", "device", "progress"),
        "callbacks",
    ),
    later={"ema_decay": None},
)
"""The settings of every training."""

TYPICAL = "lightgcn"
"""The backend that stands for all others where each denoiser is shown once."""

FIRST_LOOK = ("mf", "lightgcn", "svd", "lightgcn+ddrm", "multivae", "diffrec")
"""What a comparison holds where nothing is named: minutes on small data."""


class Held(NamedTuple):
    """What a method holds in memory at the peak, beside its parameters.

    Attributes:
        kind: ``"tables"`` of all users and items, for every layer; ``"vectors"`` of
            all users and items, once; dense ``"rows"`` of a batch; ``"places"`` of a
            batch's histories, for every layer; ``"widths"`` of all linear layers for a
            batch; ``"pairs"``, all pairs of items; or their ``"inverse"``, where a
            large catalogue has factors instead.
        factor: How many of them, as measured; bytes of a pair.
    """

    kind: Literal["tables", "vectors", "rows", "places", "widths", "pairs", "inverse"]
    factor: float = 1.0


@dataclass(frozen=True)
class Method:
    """All there is to know of a method.

    Attributes:
        name: What tables, files and options call it.
        role: What it is for.
        about: What it is, in a line.
        run: What turns a :class:`ddrm_pyg.experiments.work.Work` into an
            :class:`~ddrm_pyg.experiments.work.Outcome`. ``work:solve`` and
            ``work:train`` do for any model with a ``scorer``.
        model: The settings that it takes.
        trained: Whether it is trained by :func:`ddrm_pyg.fit`.
        pairwise: Whether it is trained on pairs, by a ``pair_loss`` that can be
            replaced.
        base: The method whose cell it starts from, where that is always the same. Of
            what cleans: the one that cleans the same backend, under another seed.
        held: What it holds in memory; its parameters alone if None.
        models: How many models are trained together.
        order_aware: Whether it reads the order of interactions: its fair opponents are
            the yardsticks that do, too.
        clean: Of what changes how a backend is trained: what builds both, see
            :func:`ddrm_pyg.experiments.work.t_ce`.
        cleaner: Of a backend that is cleaned or watched: what does it.
    """

    name: str
    role: Role
    about: str
    run: Reference | None = None
    model: Arguments = field(default_factory=Arguments)
    trained: bool = False
    pairwise: bool = False
    base: str | None = None
    held: Held | None = None
    models: int = 1
    order_aware: bool = False
    clean: Reference | None = None
    cleaner: Method | None = None

    @property
    def joins(self) -> bool:
        """Whether it makes one method with a backend, trained as a whole."""
        return self.clean is not None or self.role == "watcher"

    def complete(
        self,
        model: Mapping[str, Any],
        fit: Mapping[str, Any],
        clean: Mapping[str, Any],
    ) -> dict[str, dict[str, Any]]:
        """Write out the settings of a cell that are left to a default.

        A default may change from one version to the next; what was run with the old
        one is another cell then.
        """
        return {
            "model": self.model.settle(self.model.complete(model)),
            "fit": FIT.complete(fit) if self.trained else dict(fit),
            "clean": self.cleaner.model.complete(clean) if self.cleaner else {**clean},
        }

    def cleaned(
        self,
        build: Callable[..., Any],
        steps: int,
        settings: Mapping[str, Any],
        base: Any = None,
    ) -> tuple[Any, Any]:
        """Build what a denoiser cleans, see ``clean``.

        Args:
            build: Builds the backend, with keyword arguments replaced.
            steps: Steps of an epoch.
            settings: Of the denoiser.
            base: Embeddings of what it starts from, where it has a ``base``.

        Returns:
            What is trained, and the backend in it.
        """
        assert self.clean is not None
        bases = () if self.base is None else (base,)
        return resolve(self.clean)(build, steps, settings, *bases)


METHODS: dict[str, Method] = {}
"""Every method by name; backends whose training is cleaned (``mf+t-ce``), too."""


def register(*methods: Method) -> None:
    """Add methods, so that commands, ``compare`` and settings know them.

    Args:
        *methods: Records of other names than those of :data:`METHODS`.

    Raises:
        ValueError: A name is taken.
    """
    for method in methods:
        if method.name in METHODS:
            raise ValueError(f"'name' must be a new one (got '{method.name}')")
        METHODS[method.name] = method
    for backend in [METHODS[name] for name in names_of("backend")]:
        for added in [method for method in METHODS.values() if method.joins]:
            if backend.pairwise:
                both = _joined(backend, added)
                METHODS.setdefault(both.name, both)


def _joined(backend: Method, added: Method) -> Method:
    """A backend whose training is cleaned or watched, from the two records."""
    return replace(
        backend,
        name=f"{backend.name}+{added.name}",
        role="step",
        about=f"{backend.about}; {added.about}",
        run=added.run or "ddrm_pyg.experiments.work:train_cleaned",
        models=added.models,
        base=added.base and f"{backend.name}+{added.base}",
        cleaner=added,
    )


def find(name: str) -> Method:
    """Return a method.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in METHODS:
        raise ValueError(
            f"'method' must be one of {', '.join(sorted(METHODS))} "
            f"(got '{name}'{nearest(name, METHODS)})"
        )
    return METHODS[name]


def names_of(*roles: Role) -> tuple[str, ...]:
    """Names of the methods of some roles, in the order of their records."""
    return tuple(name for name, method in METHODS.items() if method.role in roles)


def pairwise_backends() -> tuple[str, ...]:
    """List the backends that are trained on pairs, whose losses tell noise."""
    return tuple(name for name in names_of("backend") if METHODS[name].pairwise)


def yardsticks(*, order_aware: bool = False) -> tuple[str, ...]:
    """Closed forms that every table holds.

    Args:
        order_aware: Those that read the order of interactions, in place of those that
            do not.
    """
    names = names_of("yardstick")
    return tuple(n for n in names if METHODS[n].order_aware is order_aware)


def cleaners() -> tuple[str, ...]:
    """Names of the denoisers that change how a backend is trained."""
    return tuple(
        name for name in names_of("denoiser") if METHODS[name].clean is not None
    )


def denoisers_of(backend: str) -> tuple[str, ...]:
    """Names of what can be added to a backend."""
    pairwise = METHODS[backend].pairwise
    return tuple(
        n for n in names_of("denoiser") if pairwise or METHODS[n].clean is None
    )


def table_names() -> tuple[str, ...]:
    """Every name that a table may ask for."""
    backends = names_of("backend")
    added = (f"{b}+{name}" for b in backends for name in denoisers_of(b))
    return (*names_of("yardstick"), *backends, *added, *names_of("rival"))


def each_once() -> tuple[str, ...]:
    """Every method once: what is added to a backend is added to a typical one."""
    added = {f"{b}+{n}" for b in names_of("backend") for n in denoisers_of(b)}
    added -= {f"{TYPICAL}+{name}" for name in names_of("denoiser")}
    return tuple(name for name in table_names() if name not in added)


_WORK = "ddrm_pyg.experiments.work:"
_MODELS = "ddrm_pyg.nn.models:"
_SIZES = ("num_users", "num_items")
_EXACT = {"num_factors": None}
_RECENCY = {"taus": (None, 1, 2, 5, 10, 20, 50), "metric": "recall@20"}

register(
    Method(
        name="popularity",
        role="yardstick",
        about="items by their number of interactions",
        run=_WORK + "solve",
        model=Arguments(_MODELS + "Popularity"),
    ),
    Method(
        name="item_knn",
        role="yardstick",
        about="nearest neighbours of the user's items by cosine",
        run=_WORK + "solve",
        model=Arguments(_MODELS + "ItemKNN", around={"history": None}),
        held=Held("pairs", 9.0),
    ),
    Method(
        name="ease",
        role="yardstick",
        about="linear item-item weights in closed form",
        run=_WORK + "solve",
        model=Arguments(_MODELS + "EASE", around={"history": None}, later=_EXACT),
        held=Held("inverse", 14.0),
    ),
    Method(
        name="item_knn+recency",
        role="yardstick",
        about="item_knn of weighted histories: validation picks how fast they fade",
        run=_WORK + "solve_recent",
        model=Arguments(_MODELS + "ItemKNN", around=_RECENCY),
        held=Held("pairs", 9.0),
        order_aware=True,
    ),
    Method(
        name="ease+recency",
        role="yardstick",
        about="ease of weighted histories: validation picks how fast they fade",
        run=_WORK + "solve_recent",
        model=Arguments(_MODELS + "EASE", around=_RECENCY, later=_EXACT),
        held=Held("inverse", 14.0),
        order_aware=True,
    ),
    Method(
        name="mf",
        role="backend",
        about="matrix factorisation",
        run=_WORK + "train",
        model=Arguments(_MODELS + "MF", inputs=_SIZES),
        trained=True,
        pairwise=True,
        held=Held("tables", 2.0),
    ),
    Method(
        name="lightgcn",
        role="backend",
        about="tables smoothed by light graph convolution",
        run=_WORK + "train",
        model=Arguments(_MODELS + "LightGCN", inputs=_SIZES),
        trained=True,
        pairwise=True,
        held=Held("tables", 3.0),
    ),
    Method(
        name="sgl",
        role="backend",
        about="LightGCN with a contrast between two views of the graph",
        run=_WORK + "train",
        model=Arguments(_MODELS + "SGL", inputs=_SIZES),
        trained=True,
        pairwise=True,
        held=Held("tables", 6.5),
    ),
    Method(
        name="svd",
        role="backend",
        about="singular vectors in closed form; the history mean is item cosine",
        run=_WORK + "solve_wide",
        model=Arguments(
            _MODELS + "SVD",
            inputs=("seed",),
            around={"widest": 0, **_RECENCY},
            later={"widest": 0, **_RECENCY},
        ),
        held=Held("vectors", 5.0),
    ),
    Method(
        name="sasrec",
        role="backend",
        about="self-attention over the sequence of a user's items",
        run=_WORK + "train_encoder",
        model=Arguments(_MODELS + "SASRec", inputs=("num_items", "edge_time")),
        trained=True,
        held=Held("places", 40.0),
        order_aware=True,
    ),
    Method(
        name="ddrm",
        role="denoiser",
        about="denoising diffusion on the embeddings of a backend",
        run=_WORK + "denoise",
        model=Arguments(
            "ddrm_pyg.nn.ddrm:DDRM",
            then="ddrm_pyg.nn.ddrm:DDRMRecommender",
            inputs=(
                *("embedding_dim", "ddrm", "embeddings", "history_weight"),
                "edge_time",
            ),
            fixed=("seed", "beside"),
            around={"history": None, "svd_dim": 0},
            later={
                "users": "uniform",
                "sampling_noise": False,
                "residual": False,
                "hidden_dropout": 0.0,
                "scales": (1.0, 2.0, 5.0, 20.0, math.inf),
                "window": 10,
                "cuts": 4,
                "loss": "softmax",
                "num_sampled": None,
                "svd_dim": 0,
            },
            settled=("num_inference_steps", "num_start_steps", "dropout"),
        ),
        trained=True,
        held=Held("widths"),
    ),
    Method(
        name="t-ce",
        role="denoiser",
        about="a backend whose largest losses are dropped",
        model=Arguments("ddrm_pyg.losses:TruncatedLoss", inputs=("loss",)),
        clean=_WORK + "t_ce",
    ),
    Method(
        name="r-ce",
        role="denoiser",
        about="a backend whose unlikely positives weigh less",
        model=Arguments("ddrm_pyg.losses:ReweightedLoss", inputs=("loss",)),
        clean=_WORK + "r_ce",
    ),
    Method(
        name="deca",
        role="denoiser",
        about="a backend trained to agree with another model",
        model=Arguments(
            "ddrm_pyg.nn.deca:DeCA", inputs=("backend",), later={"num_negatives": 1}
        ),
        clean=_WORK + "deca",
        models=2,
    ),
    Method(
        name="bce",
        role="step",
        about="a backend trained by binary cross-entropy, from which deca-p starts",
        clean=_WORK + "bce",
    ),
    Method(
        name="deca-p",
        role="denoiser",
        about="a backend trained to agree with another one that is trained before",
        model=Arguments(
            "ddrm_pyg.nn.deca:DeCA", inputs=("backend", "auxiliary", "pretrained")
        ),
        base="bce",
        clean=_WORK + "deca_p",
    ),
    Method(
        name="wbpr",
        role="denoiser",
        about="a backend whose negatives are drawn by popularity",
        clean=_WORK + "wbpr",
    ),
    Method(
        name="noted",
        role="watcher",
        about="the loss of every interaction is noted on the way",
        run=_WORK + "train_noted",
    ),
    Method(
        name="adagcl",
        role="rival",
        about="contrastive learning between two learned views of the graph",
        run=_WORK + "train",
        model=Arguments(_MODELS + "AdaGCL", inputs=_SIZES),
        trained=True,
        held=Held("tables", 15.0),
    ),
    Method(
        name="cdae",
        role="rival",
        about="a denoising autoencoder with a vector for every user",
        run=_WORK + "train",
        model=Arguments(_MODELS + "CDAE", inputs=_SIZES),
        trained=True,
        held=Held("rows", 15.0),
    ),
    Method(
        name="multidae",
        role="rival",
        about="a denoising autoencoder with a multinomial likelihood",
        run=_WORK + "train",
        model=Arguments(_MODELS + "MultiDAE", inputs=("num_items",)),
        trained=True,
        held=Held("rows", 7.0),
    ),
    Method(
        name="multivae",
        role="rival",
        about="a variational autoencoder with a multinomial likelihood",
        run=_WORK + "train",
        model=Arguments(_MODELS + "MultiVAE", inputs=("num_items",)),
        trained=True,
        held=Held("rows", 6.0),
    ),
    Method(
        name="diffrec",
        role="rival",
        about="diffusion on users' rows",
        run=_WORK + "train",
        model=Arguments(
            _MODELS + "DiffRec",
            inputs=("num_items",),
            fixed=("seed",),
            later={"sampling_noise": False},
        ),
        trained=True,
        held=Held("rows", 15.0),
    ),
    Method(
        name="ldiffrec",
        role="rival",
        about="DiffRec in a latent space of item groups",
        run=_WORK + "train",
        model=Arguments(
            _MODELS + "LDiffRec",
            inputs=("item_group",),
            fixed=("seed",),
            around={"num_groups": 2},
            later={"sampling_noise": False, "encoder_dims": (), "decoder_dims": None},
        ),
        trained=True,
        base="lightgcn",
        held=Held("rows", 7.5),
    ),
    Method(
        name="tdiffrec",
        role="rival",
        about="DiffRec on rows whose later items weigh more",
        run=_WORK + "train",
        model=Arguments(
            _MODELS + "TDiffRec",
            inputs=("num_items", "edge_time"),
            fixed=("seed",),
            around={"row_weight": None},  # its own; in the names of kept results
            later={"sampling_noise": False},
        ),
        trained=True,
        held=Held("rows", 15.0),
        order_aware=True,
    ),
    Method(
        name="ltdiffrec",
        role="rival",
        about="L-DiffRec on rows whose later items weigh more",
        run=_WORK + "train",
        model=Arguments(
            _MODELS + "LTDiffRec",
            inputs=("item_group", "edge_time"),
            fixed=("seed", "row_weight"),
            around={"num_groups": 2},
        ),
        trained=True,
        base="lightgcn",
        held=Held("rows", 7.5),
        order_aware=True,
    ),
    Method(
        name="embeddings",
        role="step",
        about="embeddings from a file",
        run=_WORK + "read",
    ),
    Method(
        name="propagated",
        role="step",
        about="a backend's tables at a given depth",
        run=_WORK + "propagate",
        model=Arguments(around={"combine": "mean"}),
    ),
    Method(
        name="best_depth",
        role="step",
        about="a backend's tables at the depth that validation likes best",
        run=_WORK + "propagate_best",
        model=Arguments(around={"metric": "ndcg@20", "combine": "mean", "deepest": 6}),
    ),
    Method(
        name="history_mean",
        role="step",
        about="where DDRM starts, taken as the answer",
        run=_WORK + "average_history",
        model=Arguments(around={"history": None}),
    ),
    Method(
        name="recent_mean",
        role="step",
        about="the history mean with the recency weight that validation likes best",
        run=_WORK + "average_recent_history",
        model=Arguments(
            around={"metric": "ndcg@20", "taus": (None, 1, 2, 5, 10, 20, 50)}
        ),
        order_aware=True,
    ),
    Method(
        name="one_pass",
        role="step",
        about="a trained DDRM as a plain denoiser: no noise added, one reverse step",
        run=_WORK + "denoise_once",
    ),
    Method(
        name="resampled",
        role="step",
        about="a trained DDRM, sampled in another way or from another start",
        run=_WORK + "resample",
    ),
    Method(
        name="signals",
        role="step",
        about="what an audit tells noise by, a short training of DDRM among it",
        run="ddrm_pyg.experiments.audit:find_signals",
        model=Arguments(
            "ddrm_pyg.nn.ddrm:DDRM",
            inputs=("embedding_dim",),
            around={"most_items": 20_000},
            settled=("num_inference_steps", "num_start_steps", "dropout"),
        ),
        trained=True,
        held=Held("widths"),
    ),
)
