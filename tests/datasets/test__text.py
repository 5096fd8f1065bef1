import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets import _text
from ddrm_pyg.datasets._dialect import Dialect
from ddrm_pyg.datasets._text import read_blocks, read_start

CSV = Dialect(",", quoted=True)


def blocks(path, content, **options):
    path.write_bytes(content)
    return [*read_blocks(path, **options)]


def test_a_small_file_is_one_block_and_a_large_one_is_cut_at_line_ends(tmp_path):
    path = tmp_path / "a.txt"
    assert blocks(path, b"ab\ncd\nef\n") == [(1, b"ab\ncd\nef\n")]
    assert blocks(path, b"ab\ncd\nef", size=4) == [
        (1, b"ab\n"),
        (2, b"cd\n"),
        (3, b"ef\n"),
    ]


def test_a_line_end_between_quotes_is_no_place_to_cut(tmp_path):
    content = b'1,"a\nb"\n2,c\n'
    path = tmp_path / "a.txt"
    assert blocks(path, content, size=5)[0] == (1, b'1,"a\n')
    assert blocks(path, content, size=5, dialect=CSV)[0] == (1, b'1,"a\nb"\n')


@given(
    lines=st.lists(st.text("aé\u2028 ", max_size=4), max_size=20),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.integers(1, 30),
    packed=st.booleans(),
)
def test_any_cut_gives_the_same_lines_at_the_same_places(
    tmp_path_factory, lines, ending, size, packed
):
    path = tmp_path_factory.mktemp("text") / ("a.gz" if packed else "a")
    content = ending.join(lines).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    numbered = {n: text for n, text in enumerate(lines, 1) if text}
    if not any(text.strip(" ") for text in lines):
        with pytest.raises(ValueError, match="no rows"):
            list(read_blocks(path, size=size))
        return
    got = {}
    for first, block in read_blocks(path, size=size):
        assert block.endswith(b"\n")
        rows = enumerate(block.decode()[:-1].split("\n"), first)
        got |= {n: text for n, text in rows if text}
    assert got == numbered


def test_other_encodings_become_utf8_and_the_mark_goes(tmp_path):
    path = tmp_path / "a"
    assert blocks(path, "é\n".encode("latin-1"), encoding="latin-1") == [
        (1, "é\n".encode())
    ]
    for encoding in ("utf-8-sig", "utf-16"):
        for asked in (None, encoding):
            content = "é\r\nb".encode(encoding)
            got = blocks(path, content, encoding=asked, size=1)
            assert b"".join(block for _, block in got) == "é\nb\n".encode()
            assert read_start(path, asked) == "é\nb\n".encode()
    with pytest.raises(ValueError, match=r"'encoding' must be utf-16-le, as its first"):
        blocks(path, content, encoding="latin-1")
    for unknown in ("klingon", "rot13", ""):
        with pytest.raises(
            ValueError, match="'encoding' must be one that Python knows"
        ):
            blocks(path, b"a", encoding=unknown)


def test_gzip_is_known_by_its_first_bytes(tmp_path):
    path = tmp_path / "a.txt"
    assert blocks(path, gzip.compress(b"a\n")) == [(1, b"a\n")]
    assert read_start(path) == b"a\n"


def test_a_start_is_whole_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab\rcd\nef")
    assert read_start(path) == b"ab\ncd\nef\n"
    assert read_start(path, size=5) == b"ab\n"
    assert read_start(path, size=1) == b"a\n"


def test_a_row_has_a_limit_however_small_its_archive_is(tmp_path, monkeypatch):
    monkeypatch.setattr(_text, "LONGEST_ROW", 1 << 20)
    path = tmp_path / "a.gz"
    for content in (b"x" * (1 << 23), b'"' + b"\n" * (1 << 23)):
        packed = gzip.compress(b"a\n" + content)
        with pytest.raises(ValueError, match=r"a\.gz:2: a row of more than 1 MiB"):
            blocks(path, packed, dialect=CSV, size=1 << 16)
    lines = b"\n" * (1 << 23) + b"b"
    assert blocks(path, gzip.compress(lines), size=1 << 16)[-1][1] == b"b\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n\xff\n", "a.txt:3: not utf-8 text"),
        ("user,item".encode("utf-16-le"), "a.txt:1: not a text .*UTF-16 without"),
        ("user,item".encode("utf-16")[:-1], "a.txt: not utf-16-le text after line 0"),
        (b"a\nb\n\0", "a.txt:3: not a text file"),
        (b"", "a.txt: no rows"),
        (b"\r\n \n", "a.txt: no rows"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_text_is_refused_with_its_line(tmp_path, content, message, size):
    with pytest.raises(ValueError, match=message):
        blocks(tmp_path / "a.txt", content, size=size)


def test_a_truncated_archive_says_how_far_it_could_be_read(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"line\n" * 100_000)[:-9])
    with pytest.raises(ValueError, match=r"a\.gz: cannot be read after line \d+ \(C"):
        list(read_blocks(path, size=1000))
    with pytest.raises(FileNotFoundError, match="gone"):
        list(read_blocks(tmp_path / "gone"))
