"""Rows of text to fields, exactly: delimiters, quotes, line ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_BLANK = re.compile(rb"\n\n++")


class Record(NamedTuple):
    """One row of a text.

    Attributes:
        line: The number of its first line.
        end: Bytes of the text up to the end of its last line.
        fields: Its fields, without the quotes that only mark their ends.
    """

    line: int
    end: int
    fields: list[str]


class Dialect:
    """How rows are cut into fields.

    With quotes as in RFC 4180, a field that begins with a double quote ends at the
    next single one, and may hold delimiters, line ends and doubled quotes. Everywhere
    else a quote is a character like others.

    Args:
        delimiter: The byte between two fields.
        quoted: Whether a quote at the beginning of a field opens a quoted one.
    """

    def __init__(self, delimiter: str, *, quoted: bool) -> None:
        self.delimiter = delimiter
        self.quoted = quoted
        mark = re.escape(delimiter.encode())
        edge = mark + rb"\r\n"
        # the quote comes first: for a byte the engine looks as fast as memory is read
        opening, inside = rb'"(?<![^%b]")' % edge, rb'(?:[^"]++|"")*+"'
        self._opening = re.compile(opening)
        self._quoted = re.compile(opening + inside + rb"(?=[%b])" % edge)
        self._spoiled = re.compile(opening + inside + rb'(?=[^"%b])' % edge)
        self._quoted_or_return = re.compile(self._quoted.pattern + rb"|\r\n?")
        field = rb'"%b(?=[%b])|' % (inside, edge) if quoted else b""
        self._field = re.compile(rb"(%b[^%b\n]*+)(\n|%b)" % (field, mark, mark))
        self._no_marks = bytes(set(range(256)) - {delimiter.encode()[0], 10})

    def end_of_rows(self, text: bytes) -> int:
        """Return how many bytes are rows that have ended.

        Args:
            text: Bytes that begin with a row.
        """
        end = _after_line_end(text, len(text))
        # looked for in all of the text, which is not copied for it
        if b'"' not in text or not self._opens(text[:end]):
            return end
        masked = self._masked(text)
        opening = self._opening.search(masked)
        return _after_line_end(masked, opening.start() if opening else len(text))

    def spoiled_quotes(self, text: bytes) -> int | None:
        """Return where a quoted field begins that goes on after its closing quote.

        Args:
            text: Bytes that begin with a row.
        """
        if not self._opens(text):
            return None
        opening = self._opening.search(self._masked(text))
        assert opening is not None
        start = opening.start()
        return start if self._spoiled.match(text, start) else None

    def with_newlines(self, text: bytes) -> bytes:
        """Return whole rows, each ended by one newline; quoted line ends stay.

        Args:
            text: Rows that have ended.
        """
        if b"\r" not in text:
            return text
        if self._outside(text).count(b"\r") < text.count(b"\r"):
            return self._quoted_or_return.sub(
                lambda match: b"\n" if match[0].startswith(b"\r") else match[0], text
            )
        return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def count_rows(self, rows: bytes, num_fields: int) -> int | None:
        """Return how many rows are not blank, None if one has fewer or more fields.

        Deleting all bytes but delimiters and line ends leaves a pattern that one
        comparison checks.

        Args:
            rows: As :meth:`with_newlines` returns them.
            num_fields: Fields of a row, at least two.
        """
        rows = self._outside(rows)
        pattern = self.delimiter.encode() * (num_fields - 1) + b"\n"
        num_rows = self._count(rows, pattern)
        if num_rows is None:  # blank lines are slow to look for, and few files have one
            num_rows = self._count(_BLANK.sub(b"\n", rows).lstrip(b"\n"), pattern)
        return num_rows

    def records(self, rows: bytes, first_line: int = 1) -> Iterator[Record]:
        """Yield the rows that are not blank, slowly.

        Args:
            rows: As :meth:`with_newlines` returns them.
            first_line: The number of the first line.
        """
        fields: list[str] = []
        line, next_line = first_line, first_line
        for match in self._field.finditer(rows):
            field, mark = match.groups()
            next_line += field.count(b"\n") + (mark == b"\n")
            is_blank = not fields and not field  # which "" is not
            if self.quoted and field.startswith(b'"') and field.endswith(b'"', 1):
                field = field[1:-1].replace(b'""', b'"')
            fields.append(field.decode())
            if mark == b"\n":
                if not is_blank:
                    yield Record(line, match.end(), fields)
                fields, line = [], next_line

    def _count(self, rows: bytes, pattern: bytes) -> int | None:
        marks = rows.translate(None, self._no_marks)
        num_rows = len(marks) // len(pattern)
        return num_rows if marks == pattern * num_rows else None

    def _outside(self, text: bytes) -> bytes:
        """Return a text with a byte for each quoted field."""
        if self.quoted and b'"' in text:
            return self._quoted.sub(b"-", text)
        return text

    def _masked(self, text: bytes) -> bytes:
        """Return a text with as many bytes as it has, none of them in quotes."""
        return self._quoted.sub(lambda field: b"-" * len(field[0]), text)

    def _opens(self, text: bytes) -> bool:
        """Tell whether a quote opens a field that does not end properly."""
        if not self.quoted or b'"' not in text:
            return False
        return self._opening.search(self._outside(text)) is not None


def _after_line_end(text: bytes, stop: int) -> int:
    """Return where the line after the last line end begins.

    A return at the very end may be half of a line end.
    """
    last_return = text.rfind(b"\r", 0, min(stop, len(text) - 1))
    return max(text.rfind(b"\n", 0, stop), last_return) + 1


LITERAL = Dialect("\t", quoted=False)
"""Quotes mean nothing, and a line is a row."""
