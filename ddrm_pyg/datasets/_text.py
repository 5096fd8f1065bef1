"""Read text files in blocks of whole rows: no file needs its size in memory."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ddrm_pyg.datasets._dialect import LITERAL, Dialect
from ddrm_pyg.progress import progress_bar

BLOCK_SIZE = 1 << 21  # bytes of text that are looked at together, in the caches
LONGEST_ROW = 1 << 24  # bytes: a small archive may hold a line of gigabytes
_SHOW_AFTER = 2.0  # seconds: a file that is read at once needs no bar
_PACKED = b"\x1f\x8b"  # how gzip begins
_MARKS = {  # what Windows programs put before a text
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def read_start(path: Path, encoding: str | None = None, size: int = 1 << 16) -> bytes:
    """Read where a text begins, to tell what it is; odd bytes are left for later.

    Args:
        path: The file, packed by gzip or not.
        encoding: What its bytes are; see :func:`read_blocks`.
        size: Bytes to look at.

    Returns:
        Whole lines in UTF-8, or the start of the only one, each ended by one newline.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be unpacked, or the encoding is refused.
    """
    with _as_refusals(path, lambda: 0), _opened(path) as (file, _):
        raw = file.read(size)
    mark, encoding = _encoding_of(path.name, raw, encoding)
    text = raw[len(mark) :].decode(encoding, errors="replace").encode()
    lines = LITERAL.with_newlines(text)
    whole = lines.rfind(b"\n") + 1
    if whole and len(raw) == size:
        return lines[:whole]
    return lines if lines.endswith(b"\n") else lines + b"\n"


def read_blocks(
    path: Path,
    *,
    encoding: str | None = None,
    dialect: Dialect = LITERAL,
    size: int = BLOCK_SIZE,
) -> Iterator[tuple[int, bytes]]:
    """Yield a text file in blocks of whole rows, with a progress bar by bytes.

    Args:
        path: The file; what gzip packed is unpacked on the way.
        encoding: What its bytes are. ``None`` believes a byte order mark, and takes
            UTF-8 without one. The blocks are UTF-8.
        dialect: Which line ends belong to a field and do not end a row.
        size: Bytes of a block, more or less.

    Yields:
        The number of the first line, counted from 1, and the rows, each ended by one
        newline, none empty at the end. Blanks are characters as others are: what they
        mean in a line of their own is for its reader to say.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be unpacked, is no text, has a row beyond
            :data:`LONGEST_ROW` or a quoted field without an end, or, at its end, had
            nothing but blank lines.
    """
    line = 1
    is_blank = True
    with _as_refusals(path, lambda: line - 1):
        for raw, has_ended in _rows(path, encoding, dialect, size):
            _check_text(path.name, line, raw)
            if not has_ended:
                raise _endless(path.name, line, raw, dialect)
            block = dialect.with_newlines(raw)
            next_line = line + _count_lines(block)
            if block.endswith(b"\n\n") or block == b"\n":
                block = block.rstrip(b"\n") + b"\n"
            if block != b"\n":
                is_blank = is_blank and block.isspace()
                yield line, block
            line = next_line
    if is_blank:
        raise ValueError(f"{path.name}: no rows")


@contextmanager
def _as_refusals(path: Path, lines: Callable[[], int]) -> Iterator[None]:
    """Turn what goes wrong with a file or its packing into one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ValueError(
            f"{path.name}: not {error.encoding} text after line {lines()}"
        ) from error
    # OSError covers a wrong gzip header, EOFError a truncated one; zlib has its own.
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path.name}: cannot be read after line {lines()} ({error})"
        ) from error


def _rows(
    path: Path, encoding: str | None, dialect: Dialect, size: int
) -> Iterator[tuple[bytes, bool]]:
    """Yield rows in UTF-8, and whether they end; what does not comes last."""
    rest = b""
    with _opened(path) as (file, show):
        for piece in _pieces(path.name, file, encoding, size):
            show()
            rest = rest + piece if rest else piece
            cut = dialect.end_of_rows(rest)
            if cut:
                yield rest[:cut], True
                rest = rest[cut:]
            elif len(rest) > LONGEST_ROW or dialect.spoiled_quotes(rest) is not None:
                yield rest, False
                return
    if rest:
        rest = rest if rest.endswith(b"\n") else rest + b"\n"
        yield rest, dialect.end_of_rows(rest) == len(rest)


def _pieces(
    file: str, opened: io.BufferedIOBase, encoding: str | None, size: int
) -> Iterator[bytes]:
    """Yield a file as UTF-8, without its mark."""
    raw = opened.read(max(size, 4))
    mark, encoding = _encoding_of(file, raw, encoding)
    raw = raw[len(mark) :]
    decoder = None
    if encoding != "utf-8":  # which is checked block by block, with its line
        decoder = codecs.getincrementaldecoder(encoding)()
    while raw:
        yield decoder.decode(raw).encode() if decoder else raw
        raw = opened.read(size)
    if decoder and (last := decoder.decode(b"", final=True)):
        yield last.encode()


def _encoding_of(file: str, raw: bytes, asked: str | None) -> tuple[bytes, str]:
    """Return the byte order mark of a text, and what its bytes are."""
    mark, marked = next(
        ((mark, name) for mark, name in _MARKS.items() if raw.startswith(mark)),
        (b"", "utf-8"),
    )
    if asked is None:
        return mark, marked
    try:
        "a".encode(asked)  # refuses codecs between texts or bytes, too
        asked = codecs.lookup(asked).name
    except (LookupError, ValueError):
        raise ValueError(
            f"'encoding' must be one that Python knows, such as latin-1 (got {asked!r})"
        ) from None
    if not mark:
        return mark, asked
    if asked.startswith(marked[:6]):
        return mark, marked
    raise ValueError(
        f"{file}: 'encoding' must be {marked}, as its first bytes say (got {asked})"
    )


def _count_lines(block: bytes) -> int:
    """Count line ends, several times as fast as bytes.count does where they abound."""
    return int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")))


def is_packed(path: Path) -> bool:
    """Tell whether a file is, or claims to be, packed by gzip."""
    with path.open("rb") as file:
        return path.suffix == ".gz" or file.read(len(_PACKED)) == _PACKED


@contextmanager
def _opened(
    path: Path,
) -> Iterator[tuple[io.BufferedIOBase, Callable[[], object]]]:
    with (
        path.open("rb") as packed,
        gzip.open(packed) if is_packed(path) else packed as file,
        progress_bar(
            desc=path.name,
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            delay=_SHOW_AFTER,
        ) as bar,
    ):
        yield file, lambda: bar.update(packed.tell() - bar.n)


def _check_text(file: str, line: int, raw: bytes) -> None:
    if b"\0" in raw:
        line += _lines_before(raw, raw.index(b"\0"))
        raise ValueError(
            f"{file}:{line}: not a text file (it has zero bytes; UTF-16 without a byte "
            "order mark needs --encoding, in Python encoding=)"
        )
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            line += _lines_before(raw, error.start)
            raise ValueError(
                f"{file}:{line}: not utf-8 text; --encoding, in Python encoding=, "
                "names another"
            ) from error


def _endless(file: str, line: int, raw: bytes, dialect: Dialect) -> ValueError:
    """Tell why a row does not end: it is too long, or its quotes are odd."""
    spoiled = dialect.spoiled_quotes(raw)
    if spoiled is not None:
        line += _lines_before(raw, spoiled)
        return ValueError(
            f"{file}:{line}: text after the closing quote of {_shown(raw[spoiled:])}; "
            'quotes within a field must be doubled (""), not escaped by a backslash'
        )
    end = dialect.end_of_rows(raw)
    line += _lines_before(raw, end)
    if len(raw) - end > LONGEST_ROW:
        return ValueError(
            f"{file}:{line}: a row of more than {LONGEST_ROW >> 20} MiB, or a quote "
            "that is not closed"
        )
    return ValueError(f"{file}:{line}: a quote from here on is not closed")


def _lines_before(raw: bytes, end: int) -> int:
    return LITERAL.with_newlines(raw[:end]).count(b"\n")


def _shown(raw: bytes) -> str:
    return repr(raw[:40].decode(errors="replace"))
