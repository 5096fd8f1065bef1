import os
import stat

import pytest

from ddrm_pyg.files import atomic_path, hash_file, write_json, write_text


def interrupted_write(target):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_success_replaces_the_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"  # untouched until the block ends
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["result.txt"]


@pytest.mark.skipif(os.name != "posix", reason="files have inodes on POSIX")
def test_the_file_is_renamed_not_copied(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        written = temporary.stat().st_ino
    assert target.stat().st_ino == written  # a copy could stop half-way


def test_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_exception_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "result.txt"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_failing_replacement_leaves_no_temporary(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), atomic_path(tmp_path / "folder"):  # noqa: PT011
        pass
    assert os.listdir(tmp_path) == ["folder"]


def test_temporary_is_a_sibling_with_the_same_suffix(tmp_path):
    with atomic_path(str(tmp_path / "table.npz")) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        assert temporary.name != "table.npz"


def test_missing_parents_are_created(tmp_path):
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_result_has_the_mode_of_any_other_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic"):
        pass
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_texts_and_json_are_utf_8_and_end_with_a_line(tmp_path):
    write_text(tmp_path / "a" / "é.txt", "é\n")
    assert (tmp_path / "a" / "é.txt").read_bytes() == "é\n".encode()
    write_json(tmp_path / "r.json", {"a": [1, "é"]})
    assert (tmp_path / "r.json").read_text() == (
        '{\n "a": [\n  1,\n  "\\u00e9"\n ]\n}\n'
    )
    with pytest.raises(TypeError):
        write_json(tmp_path / "r.json", {"a": object()})
    assert '"a"' in (tmp_path / "r.json").read_text()


def test_a_file_is_hashed_by_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # the example of FIPS 180-2
    assert hash_file(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
