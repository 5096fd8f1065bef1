"""The base of the downloadable datasets: checked downloads, atomic files, no pickle."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import shutil
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from ddrm_pyg.files import atomic_path
from ddrm_pyg.transforms.core import EDGE

logger = logging.getLogger("ddrm_pyg")

_CHUNK = 1 << 20  # bytes
_STORES = {"user": "user", "item": "item", "edge": EDGE}


class InteractionDataset(InMemoryDataset):
    """One graph of interactions, kept in ``root/<name>/{raw,processed}``.

    A subclass sets ``name``, ``raw_file_names`` and ``processed_file_names`` (which
    must name every setting), and writes :meth:`download` and :meth:`process`.

    PyG's own ``_process`` unpickles what it finds beside the data, and its ``save``
    pickles and may leave half a file; here the data are a safetensors file that
    appears when it is complete. There is no ``pre_transform``: settings that change
    the stored data are arguments of the subclass and part of the file name.

    Args:
        root: Folder of all datasets.
        transform: Applied at each access.
        force_reload: Process again even where the processed file is there.

    Raises:
        FileNotFoundError: The raw files are not there and cannot be downloaded.
        ValueError: A file is not what it should be.
    """

    name: str

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        super().__init__(os.fspath(root), transform, force_reload=force_reload)
        self.load(self.processed_paths[0])

    @property
    def raw_dir(self) -> str:
        """Folder of the files as downloaded."""
        return os.path.join(self.root, self.name, "raw")

    @property
    def processed_dir(self) -> str:
        """Folder of the graphs made from them."""
        return os.path.join(self.root, self.name, "processed")

    def _download(self) -> None:
        # PyG makes the folder first, whether or not there is anything to put into it
        raw = Path(self.raw_dir)
        made = [folder for folder in (raw, *raw.parents) if not folder.exists()]
        try:
            super()._download()
        except BaseException:
            with contextlib.suppress(OSError):  # one that is not empty stays
                for folder in made:
                    folder.rmdir()
            raise

    def _process(self) -> None:
        if self.force_reload or not all(map(os.path.exists, self.processed_paths)):
            self.process()

    @classmethod
    def save(cls, data_list: Sequence[HeteroData], path: str) -> None:
        """Write one graph as safetensors, all or nothing.

        Args:
            data_list: Exactly one graph of users and items.
            path: The file.
        """
        (data,) = data_list
        tensors, others = {}, {}
        for store, key in _STORES.items():
            for name, value in data[key].items():
                if isinstance(value, Tensor):
                    tensors[f"{store}.{name}"] = value.contiguous()
                else:
                    others[f"{store}.{name}"] = value
        metadata = {"others": json.dumps(others)}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata)

    def load(self, path: str, data_cls: type[HeteroData] = HeteroData) -> None:
        """Read what :meth:`save` wrote.

        Args:
            path: The file.
            data_cls: The class of the graph.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                values |= json.loads(file.metadata()["others"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: damaged ({error}); delete it or pass force_reload=True"
            ) from error
        data = data_cls()
        for full, value in values.items():
            store, _, name = full.partition(".")
            data[_STORES[store]][name] = value
        self.data, self.slices = data, None


def fetch(url: str, path: Path, sha256: str) -> None:
    """Download a file, which appears only once its checksum holds.

    Args:
        url: Where it is.
        path: Where it goes.
        sha256: Its checksum, hexadecimal.

    Raises:
        FileNotFoundError: The download failed; the message says what to place where.
        ValueError: The checksum differs.
    """
    logger.info("downloading %s", url)
    try:
        with (
            urllib.request.urlopen(url, timeout=60) as response,
            atomic_path(path) as temporary,
        ):
            with temporary.open("wb") as file:
                shutil.copyfileobj(response, file, _CHUNK)
            check_sha256(temporary, sha256, name=url)
    except (OSError, http.client.HTTPException) as error:
        raise FileNotFoundError(
            f"{path.name} cannot be downloaded ({error}): get it from {url} and place "
            f"it in {path.parent}"
        ) from error


def check_sha256(path: Path, sha256: str, name: str | None = None) -> None:
    """Refuse a file with another checksum.

    Args:
        path: The file.
        sha256: What it should be, hexadecimal.
        name: What to call the file in the message.

    Raises:
        ValueError: The checksum differs.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise ValueError(
            f"{name or path}: sha256 must be {sha256} (got {digest}, "
            f"{path.stat().st_size} bytes)"
        )


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; each file appears only once it is complete.

    Args:
        archive: The zip file.
        folder: Where its members go.

    Raises:
        ValueError: It is not a zip file, or a member would land outside ``folder``.
            Nothing is written then.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            files = [info for info in members.infolist() if not info.is_dir()]
            targets = [(folder / info.filename).resolve() for info in files]
            for info, target in zip(files, targets, strict=True):
                if not target.is_relative_to(folder.resolve()):
                    raise ValueError(
                        f"{archive}: member {info.filename!r} would land outside "
                        f"{folder}"
                    )
            for info, target in zip(files, targets, strict=True):
                with (
                    members.open(info) as source,
                    atomic_path(target) as temporary,
                    temporary.open("wb") as file,
                ):
                    shutil.copyfileobj(source, file, _CHUNK)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: not a whole zip file ({error})") from error
