"""The settings that a class takes, read from its signature: names, defaults, kinds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ddrm_pyg.checks import nearest

Reference = Callable[..., Any] | str
"""A class or function, or ``"module:name"``, which is imported on first use."""

WIDTH = 64
"""Width of the vectors that a model is tried with where no data are at hand."""

_KINDS: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    tuple: (list, tuple),
}
"""What JSON may hold where a default is of a type; None tells nothing."""


def resolve(reference: Reference) -> Callable[..., Any]:
    """Return what a reference stands for."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Arguments:
    """Which settings there are, and what they are where nobody sets them.

    Completed settings make the names of kept results. An argument that is added to a
    class would rename them all, so it goes into ``later`` with the value that does what
    was done before it came: settings that hold this value leave it out.

    Attributes:
        of: The class (or function) that takes the settings; None where nothing does.
        then: A class built around an object of the first, its first argument.
        inputs: Arguments that are no settings: the data or the runner give them.
        fixed: Arguments that are no settings either and stay at their default.
        around: Settings that neither constructor takes, with their defaults.
        later: Settings that came later, with the value that leaves things as they were.
        settled: Settings which the first class replaces where they are None, in an
            attribute of their name.
    """

    of: Reference | None = None
    then: Reference | None = None
    inputs: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    around: Mapping[str, Any] = field(default_factory=dict)
    later: Mapping[str, Any] = field(default_factory=dict)
    settled: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Return the default of every setting, ``inspect.Parameter.empty`` if none."""
        return {
            **self.around,
            **(self._defaults(self.then) if self.then else {}),
            **(self._defaults(self.of) if self.of else {}),
        }

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Write out what settings leave to a default, as JSON would give it back.

        Later settings at their neutral value are left out. Unknown ones are kept.
        """
        defaults = _listed({k: v for k, v in self.defaults().items() if _is_plain(v)})
        asked = {
            # 0 and 0.0 are one number
            name: float(value)
            if isinstance(defaults.get(name), float) and isinstance(value, int)
            else value
            for name, value in _listed(settings).items()
        }
        return {
            name: value
            for name, value in {**defaults, **asked}.items()
            if name not in self.later or value != _listed(self.later)[name]
        }

    def settle(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Replace None by what the model makes of it."""
        unsettled = [n for n in self.settled if settings.get(n, 0) is None]
        if not unsettled:
            return dict(settings)
        model, *_ = self._examples(settings, 1, 1)
        return {**settings, **{name: getattr(model, name) for name in unsettled}}

    def fill(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Write out the later settings that completed ones leave out."""
        return {**_listed(self.later), **settings}

    def check_names(self, part: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that there are not.

        Args:
            part: What holds the settings, for the message.
            settings: Any.

        Raises:
            ValueError: There is no setting of a name.
        """
        defaults = self.defaults()
        for name in settings:
            if name not in defaults:
                close = nearest(name, defaults) or f" (known: {', '.join(defaults)})"
                raise ValueError(f"'{part}' has no setting '{name}'{close}")

    def check_kinds(self, settings: Mapping[str, Any]) -> None:
        """Refuse values of another kind than the default, where that tells one.

        Raises:
            ValueError: A value is of another kind.
        """
        defaults = self.defaults()
        for name, value in settings.items():
            _check_kind(name, value, defaults[name])

    def split(
        self, settings: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tell the settings of the first class from those of the one around it.

        Names that neither takes are left to the first, which refuses them.
        """
        outer = {*self._defaults(self.then)} if self.then else set()
        if self.of:
            outer -= {*self._defaults(self.of)}
        own = {k: v for k, v in settings.items() if k not in self.around}
        return (
            {k: v for k, v in own.items() if k not in outer},
            {k: v for k, v in own.items() if k in outer},
        )

    def build(self, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        """Build the model.

        Args:
            settings: Completed or not.
            inputs: A value for each of ``inputs``.
        """
        return self._build(settings, inputs)[-1]

    def example(
        self, settings: Mapping[str, Any], users: int = 1, items: int = 1
    ) -> Any:
        """Build the model for no data in particular; torch's generator stays as it is.

        Args:
            settings: Completed or not.
            users: Number of users.
            items: Number of items.
        """
        return self._examples(settings, users, items)[-1]

    def _examples(
        self, settings: Mapping[str, Any], users: int, items: int
    ) -> list[Any]:
        import torch

        inputs = {
            "num_users": users,
            "num_items": items,
            "embedding_dim": WIDTH,
            "embeddings": (torch.zeros(1, WIDTH), torch.zeros(1, WIDTH)),
            "item_group": torch.zeros(items, dtype=torch.int64),
            "edge_time": torch.zeros(1),
            "seed": 0,
        }
        with torch.random.fork_rng(devices=[]):
            return self._build(settings, inputs)

    def _build(
        self, settings: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> list[Any]:
        inner, outer = self.split(settings)
        parts: list[Any] = []
        for reference, own in ((self.of, inner), (self.then, outer)):
            if reference is not None:
                function = resolve(reference)
                takes = {p.name for p in _parameters(function)} & set(self.inputs)
                own_inputs = {name: inputs[name] for name in takes if name in inputs}
                parts.append(function(*parts, **own_inputs, **own))
        return parts

    def _defaults(self, reference: Reference) -> dict[str, Any]:
        parameters = _parameters(resolve(reference))
        unset = {*self.inputs, *self.fixed}
        return {p.name: p.default for p in parameters if p.name not in unset}


def _parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Parameters of a function or class, with those that its ** hands to the base."""
    parameters = inspect.signature(function).parameters.values()
    yield from (p for p in parameters if p.kind is not p.VAR_KEYWORD)
    if isinstance(function, type) and any(p.kind is p.VAR_KEYWORD for p in parameters):
        yield from list(_parameters(function.__mro__[1]))[1:]


def _is_plain(default: Any) -> bool:
    """Whether a default is a setting: neither absent nor code."""
    return isinstance(default, (str, int, float, list, tuple, type(None)))


def _listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}


def _check_kind(name: str, value: Any, default: Any) -> None:
    kind = _KINDS.get(type(default), (object, bool))
    like = isinstance(value, kind) and (bool in kind or not isinstance(value, bool))
    if like and isinstance(default, tuple):
        kinds = {kind for part in default for kind in _KINDS[type(part)]} or {int}
        like = all(type(part) in kinds for part in value)
    if not like:
        raise ValueError(f"'{name}' must be like {default!r} (got {value!r})")
