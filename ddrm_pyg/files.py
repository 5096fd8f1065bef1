"""Write files and folders so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # only POSIX has locks that end with their process
    fcntl = None  # type: ignore[assignment]

_MARK = ".partial-"
"""In the name of every temporary folder."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path near ``path`` that replaces it on success.

    The temporary file has the name of ``path``, because several writers choose the
    format by the suffix. On an exception the temporary file is removed and ``path``
    stays as it was. Missing parent folders are created. Temporary files that a killed
    process has left in the folder are removed.

    Args:
        path: The file to write.

    Yields:
        The path to write to instead.

    Raises:
        OSError: It cannot be written; the message names ``path``.
    """
    target = Path(path)
    with _named(target), _explained(target), _temporary(target) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode & 0o777)  # safetensors' own file is for its owner alone
        os.replace(temporary, target)


@contextmanager
def atomic_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder near ``out`` that takes its place on success.

    What a killed process has left of such a folder is removed by the next one beside.

    Args:
        out: The folder to write, new or empty.

    Yields:
        The folder to write to instead.

    Raises:
        ValueError: ``out`` holds something, or is no folder.
        OSError: It cannot be written; the message names ``out``.
    """
    target = Path(out)
    remove_abandoned(target.parent)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"'out' must be a new folder or an empty one (got {out})")
    with _named(target), _temporary(target) as temporary:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, target)


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a path in a folder of its own, which is locked while its writer lives.

    Not the path: a writer may put another file in its place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    while True:
        made = tempfile.mkdtemp(prefix=f".{target.stem}{_MARK}", dir=target.parent)
        folder = Path(made)
        with held(folder, wait=True):
            if not folder.exists():
                continue  # taken for abandoned before it was locked
            try:
                yield folder / target.name
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Say what could not be written, not how it is called until it is whole."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and _MARK not in str(error.filename)
        if elsewhere or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Make what writers raise where the system fails them the error that it is."""
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"{target}: could not be written ({reason}); is there room for it?"
        ) from error


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of a folder whose writers are gone, and only those.

    A writer's lock ends with its process, however that ends. Where nothing can be
    locked nothing is removed.
    """
    for path in folder.glob(f".*{_MARK}*/"):
        with _opened(path) as handle:
            if handle is not None and _lock(handle, wait=False):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder, so that no other process works in it at the same time.

    Args:
        folder: The folder. Where folders cannot be locked it is not held.
        wait: Until another process lets it go.

    Raises:
        BlockingIOError: Another process holds it.
    """
    with _opened(folder) as handle:
        if handle is not None and _lock(handle, wait=wait) is False:
            raise BlockingIOError(
                f"{folder}: another process is at work there; wait for it or stop it"
            )
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """Open a folder to lock it; None where that is impossible or it is gone."""
    try:
        handle = None if fcntl is None else os.open(folder, os.O_RDONLY)
    except OSError:
        handle = None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool | None:
    """Lock an open file until it is closed: False if another has, None if none can."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], record: Any) -> None:
    """Write JSON for people to read, whole or not at all."""
    write_text(path, json.dumps(record, indent=1) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It holds something else; the message names the file.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}: must hold a JSON object (got {str(record)[:40]})")
    return record


@contextmanager
def undamaged(
    path: str | os.PathLike[str], what: str, advice: str = ""
) -> Iterator[None]:
    """Name a file that does not hold what it should, whatever is raised for that.

    Formats have exceptions of their own, and a file of the right form may hold
    anything: read inside of this what it holds, and build inside what is built of it.

    Args:
        path: The file.
        what: What is wrong with it.
        advice: What to do.

    Raises:
        FileNotFoundError: As it was raised, as is an ImportError.
        MemoryError: It does not fit; the message begins with ``path``.
        ValueError: For anything else, likewise.
    """
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        # torch's and safetensors' errors are of other kinds
        if isinstance(error, MemoryError) or "allocate memory" in reason:
            raise MemoryError(f"{path}: does not fit into memory ({reason})") from error
        if isinstance(error, KeyError):
            reason = f"no {reason}"
        message = f"{path}: {what} ({reason.removeprefix(f'{path}: ')})"
        raise ValueError(f"{message}; {advice}" if advice else message) from error


def hash_file(path: str | os.PathLike[str]) -> str:
    """Hash a file of any size by SHA-256, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
