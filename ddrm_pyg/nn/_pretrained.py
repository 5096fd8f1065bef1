"""Models as folders: what they were built with, their weights and a card to read."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ddrm_pyg.extras import versions
from ddrm_pyg.files import atomic_path, read_json, undamaged, write_text

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "card.md"

_NOT_OURS = ("not what save_pretrained writes", "save it again")


class Pretrained:
    """Saves a module as a folder and loads it again; nothing is pickled.

    A base beside ``torch.nn.Module`` that remembers what the module was built with;
    its ``repr`` shows that, too, where it is no default.
    """

    _arguments: dict[str, Any]
    _of_training: tuple[str, ...] = ()
    """Arguments that are data to train on, which a saved model does not keep."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _remember(cls.__init__)  # type: ignore[method-assign]

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``card.md`` to a folder.

        Args:
            folder: Made where it is not there; the three files are replaced.
            card: What else the card should say, as JSON: the data, metrics, a verdict.

        Raises:
            ValueError: An argument of the constructor that is neither its default nor
                JSON, such as a loss of one's own.
        """
        config: dict[str, Any] = {
            "class": type(self).__name__,
            "arguments": self._json_arguments(),
            "card": dict(card or {}),
            "versions": versions(),
        }
        text = json.dumps(config, indent=1) + "\n"  # refused before a file is written
        state = self.state_dict()  # type: ignore[attr-defined]
        save_tensors(Path(folder) / WEIGHTS, state)
        write_text(Path(folder) / CONFIG, text)
        name, count = type(self).__name__, sum(t.numel() for t in state.values())
        lead = f"{count:,} numbers in `{WEIGHTS}`."
        sections = {"Built with": config["arguments"], "More": config["card"]}
        write_card(folder, name, lead, {**sections, "Versions": config["versions"]})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what :meth:`save_pretrained` wrote.

        torch's global generator is left as it was.

        Returns:
            The model on the CPU, in evaluation mode.

        Raises:
            FileNotFoundError: The folder lacks a file.
            ValueError: The folder is another class's, or a file is damaged.
        """
        config = read_config(folder, cls.__name__)
        with undamaged(Path(folder) / CONFIG, *_NOT_OURS), torch.random.fork_rng([]):
            model = cls(**config["arguments"])
        weights = Path(folder) / WEIGHTS
        state = load_tensors(weights)
        with undamaged(weights, f"not the weights of {model!r}"):
            model.load_state_dict(state)  # type: ignore[attr-defined]
        return model.eval()  # type: ignore[attr-defined]

    def _json_arguments(self) -> dict[str, Any]:
        kept = {}
        for name, value, default in _with_defaults(self):
            if name in self._of_training or (value is default and not _is_json(value)):
                continue
            if not _is_json(value):
                raise ValueError(
                    f"'{name}' must be its default or JSON for save_pretrained "
                    f"(got {type(value).__name__})"
                )
            kept[name] = value
        return kept

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={_shown(value)}"
            for name, value, default in _with_defaults(self)
            if not (value is default or (_is_json(value) and value == default))
        )
        return f"{type(self).__name__}({shown})"


def read_config(folder: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """Read the configuration of a saved class.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged or another class's.
    """
    path = Path(folder) / CONFIG
    with undamaged(path, *_NOT_OURS):
        config = read_json(path)
        saved = config["class"]
    if saved != name:
        raise ValueError(
            f"{path}: the folder must hold a {name} (got a {saved}: use "
            f"{saved}.from_pretrained)"
        )
    return config


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    plain = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    with atomic_path(path) as temporary:
        save_file(plain, temporary)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with undamaged(path, "not a readable .safetensors file"):
        return load_file(path)


def write_card(
    folder: str | os.PathLike[str],
    name: str,
    lead: str,
    sections: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write what people read of a saved object.

    Args:
        folder: Where the object is.
        name: Its class.
        lead: What it is, in a sentence.
        sections: Lists of values by title; empty ones are left out.
    """
    lines = [f"# {name}", "", f"{lead} Load with `{name}.from_pretrained(folder)`."]
    for title, values in sections.items():
        if values:
            lines += ["", f"## {title}", ""]
        lines += [f"- {key}: {json.dumps(value)}" for key, value in values.items()]
    write_text(Path(folder) / CARD, "\n".join(lines) + "\n")


def _remember(init: Callable[..., None]) -> Callable[..., None]:
    """Let a constructor keep the arguments that it is called with."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        if "_arguments" not in vars(self):  # a base's constructor runs inside
            try:
                bound = signature.bind(self, *args, **kwargs)
            except TypeError:
                init(self, *args, **kwargs)  # says it better
                raise
            bound.apply_defaults()
            _, *named = bound.arguments.items()
            vars(self)["_arguments"] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in named
            }
        init(self, *args, **kwargs)

    return remembering


def _with_defaults(model: Any) -> list[tuple[str, Any, Any]]:
    """List name, value and default of what a model was built with."""
    parameters = inspect.signature(type(model)).parameters
    return [
        (name, value, parameters[name].default)
        for name, value in model._arguments.items()
    ]


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"Tensor{list(value.shape)}"
    return getattr(value, "__name__", repr(value))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
