"""Read text files in blocks of whole lines: no file needs its size in memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ddrm_pyg.progress import progress_bar

BLOCK_SIZE = 1 << 24  # bytes of text that are looked at together
_SHOW_AFTER = 2.0  # seconds: a file that is read at once needs no bar
_MARK = b"\xef\xbb\xbf"  # what Windows programs put before UTF-8


def read_blocks(
    path: Path,
    *,
    encoding: str = "utf-8",
    quoted: bool = False,
    size: int = BLOCK_SIZE,
) -> Iterator[tuple[int, bytes]]:
    """Yield a text file in blocks of whole lines, with a progress bar by bytes.

    Args:
        path: The file; ``.gz`` is unpacked on the way.
        encoding: What its bytes are. The blocks are UTF-8.
        quoted: Whether a line end between double quotes belongs to a field and must
            not end a block.
        size: Bytes of a block, more or less.

    Yields:
        The number of the first line, counted from 1, and the lines, each ended by one
        newline, none blank at the end.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be unpacked, is no text, or has nothing but blank lines.
    """
    line = 1
    is_blank = True
    try:
        for raw in _whole_lines(path, quoted, size):
            block = _to_utf8(path.name, line, raw, encoding)
            next_line = line + _count_lines(block)
            block = block.rstrip(b"\n")
            if block and not block.isspace():
                is_blank = False
                yield line, block + b"\n"
            line = next_line
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    # OSError covers a wrong gzip header, EOFError a truncated one; zlib has its own.
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path.name}: cannot be read after line {line - 1} ({error})"
        ) from error
    if is_blank:
        raise ValueError(f"{path.name}: no rows")


def _whole_lines(path: Path, quoted: bool, size: int) -> Iterator[bytes]:
    rest = b""
    with _open_with_bar(path) as (file, bar):
        # What has no end is read in growing pieces, not again and again.
        while piece := file.read(max(size, len(rest))):
            bar()
            rest = rest + piece if rest else piece
            cut = rest.rfind(b"\n") + 1
            if quoted and b'"' in rest and rest.count(b'"', 0, cut) % 2:
                continue
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
    if rest:
        yield rest


def _count_lines(block: bytes) -> int:
    """Count line ends, several times as fast as bytes.count does where they abound."""
    return int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")))


@contextmanager
def _open_with_bar(
    path: Path,
) -> Iterator[tuple[io.BufferedIOBase, Callable[[], object]]]:
    with (
        path.open("rb") as packed,
        gzip.open(packed) if path.suffix == ".gz" else packed as file,
        progress_bar(
            desc=path.name,
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            delay=_SHOW_AFTER,
        ) as bar,
    ):
        yield file, lambda: bar.update(packed.tell() - bar.n)


def _to_utf8(file: str, line: int, raw: bytes, encoding: str) -> bytes:
    if line == 1:
        raw = raw.removeprefix(_MARK)
    if b"\0" in raw:
        line += raw.count(b"\n", 0, raw.index(b"\0"))
        raise ValueError(f"{file}:{line}: not a text file (it has zero bytes)")
    if not raw.isascii():
        try:
            raw = raw.decode(encoding).encode()
        except UnicodeDecodeError as error:
            line += raw.count(b"\n", 0, error.start)
            raise ValueError(f"{file}:{line}: not {encoding} text") from error
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw if raw.endswith(b"\n") else raw + b"\n"
