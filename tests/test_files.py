import os
import re
import stat
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ddrm_pyg.files import (
    atomic_folder,
    atomic_path,
    fcntl,
    hash_file,
    held,
    read_json,
    remove_abandoned,
    undamaged,
    write_json,
    write_text,
)

posix = pytest.mark.skipif(fcntl is None, reason="locks end with processes on POSIX")


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
    with pytest.raises(KeyError), atomic_path(tmp_path / "result.txt"):
        raise KeyError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("PytorchStreamWriter failed\nat frame #0"),
            r"Writer failed\); is there room for it\?$",
        ),
        (
            SafetensorError("No space left on device"),
            r"r\.txt: could .* left on device\); is",
        ),
        (OSError("9 requested and 0 written"), r"r\.txt: could .* 0 written\); is"),
        (
            OSError(28, "No space left on device"),
            r"No space left on device: '.*r\.txt'",
        ),
        (PermissionError(13, "Permission denied", "x"), r"Permission denied: 'x'"),
        (OSError(30, "Read-only", "a/.r.partial-x/r.txt"), r"Read-only: '.*/r\.txt'$"),
    ],
)
def test_what_writers_raise_is_told_in_one_line_with_the_file(tmp_path, error, message):
    with pytest.raises(OSError, match=message), atomic_path(tmp_path / "r.txt"):
        raise error
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_once_it_is_whole(tmp_path):
    out = tmp_path / "a" / "world"
    with atomic_folder(out) as folder:
        (folder / "x").write_text("x")
        assert not out.exists()
    assert os.listdir(tmp_path / "a") == ["world"]
    assert os.listdir(out) == ["x"]
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "other") as folder:
        (folder / "x").rename(folder / "y")
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_written_is_named_as_it_will_be(tmp_path):
    refused = pytest.raises(OSError, match=r"full: '.*/world'$")
    with refused, atomic_folder(tmp_path / "world") as folder:
        raise OSError(28, "full", str(folder / "ids"))
    refused = pytest.raises(RuntimeError, match="no disk's fault")
    with refused, atomic_folder(tmp_path / "world"):
        raise RuntimeError("no disk's fault")
    assert os.listdir(tmp_path) == []


def test_a_folder_takes_the_place_of_an_empty_one_and_of_no_other(tmp_path):
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "x").write_text("x")
    (tmp_path / "file").touch()
    for name in ("empty", "file"):
        refused = pytest.raises(ValueError, match=rf"'out' must be .*{name}\)")
        with refused, atomic_folder(tmp_path / name):
            pass
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"]


WRITE = """
import os, signal, sys
from ddrm_pyg.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    sys.stdin.read() if sys.argv[2] == "wait" else os.kill(os.getpid(), signal.SIGKILL)
"""


def writer(path, then):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path), then],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    return process


@posix
def test_what_a_killed_writer_left_goes_with_the_next_write_and_nothing_else(tmp_path):
    (tmp_path / ".table.partial-mine").touch()  # of a name like ours, but no folder
    with writer(tmp_path / "live.txt", "wait") as alive:
        with writer(tmp_path / "dead.txt", "kill") as dead:
            dead.wait()
        (tmp_path / ".hidden.txt").touch()
        left = {path.name.partition(".partial-")[0] for path in tmp_path.iterdir()}
        assert left == {".table", ".live", ".dead", ".hidden.txt"}
        write_text(tmp_path / "other.txt", "x")
        left = {path.name.partition(".partial-")[0] for path in tmp_path.iterdir()}
        assert left == {".table", ".live", ".hidden.txt", "other.txt"}
        alive.communicate(b"")
    assert (tmp_path / "live.txt").read_text() == "half"


@posix
def test_what_is_left_of_a_folder_goes_with_the_next_one_beside(tmp_path):
    program = WRITE.replace("atomic_path", "atomic_folder")
    program = program.replace("temporary.w", "(temporary / 'x').w")
    command = [sys.executable, "-c", program, str(tmp_path / "dead"), "kill"]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    assert [p.name.partition(".partial-")[0] for p in tmp_path.iterdir()] == [".dead"]
    with atomic_folder(tmp_path / "next"):
        pass
    assert os.listdir(tmp_path) == ["next"]


@posix
def test_a_folder_is_held_by_one_at_a_time_and_let_go_by_death(tmp_path):
    hold = "import sys; from ddrm_pyg.files import held; from pathlib import Path\n"
    hold += "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        refused = pytest.raises(BlockingIOError, match="another process is at work")
        with refused, held(tmp_path):
            pass
        process.kill()
        process.wait()
        with held(tmp_path):
            pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.json: not a JSON file"),
        ("{", "r.json: not a JSON file"),
        ("\0", "r.json: not a JSON file"),
        ("[" * 100_000, "r.json: not a JSON file"),
        ("[]", r"r.json: must hold a JSON object \(got \[\]\)"),
        ("null", r"r.json: must hold a JSON object \(got None\)"),
        ("1", r"r.json: must hold a JSON object \(got 1\)"),
    ],
)
def test_json_that_is_no_object_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "r.json")
    write_json(tmp_path / "r.json", {"é": [1]})
    assert read_json(tmp_path / "r.json") == {"é": [1]}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("epoch"), "f.pt: not ours (no 'epoch'); delete it"),
        (TypeError("an int\nat frame #0"), "f.pt: not ours (an int); delete it"),
        (EOFError(), "f.pt: not ours (EOFError); delete it"),
        (PermissionError(13, "denied"), "f.pt: not ours ([Errno 13] denied); del"),
        (ValueError("f.pt: twice"), "f.pt: not ours (twice); delete it"),
    ],
)
def test_whatever_a_damaged_file_raises_names_it(error, message):
    refused = pytest.raises(ValueError, match=re.escape(message))
    with refused, undamaged("f.pt", "not ours", "delete it"):
        raise error


@pytest.mark.parametrize("error", [FileNotFoundError, ImportError, KeyboardInterrupt])
def test_what_is_no_damage_stays_what_it_is(error):
    with pytest.raises(error, match=r"^x$"), undamaged("f.pt", "not ours"):
        raise error("x")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1.46 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 768 bytes"),
        SafetensorError("Cannot allocate memory (os error 12)"),
    ],
)
def test_a_file_over_memory_is_not_called_damaged(error):
    message = re.escape(f"f.pt: does not fit into memory ({error})")
    with pytest.raises(MemoryError, match=message), undamaged("f.pt", "not ours"):
        raise error


def test_a_failing_replacement_leaves_no_temporary(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), atomic_path(tmp_path / "folder"):  # noqa: PT011
        pass
    assert os.listdir(tmp_path) == ["folder"]


def test_temporary_is_in_a_folder_beside_and_of_the_same_name(tmp_path):
    with atomic_path(str(tmp_path / "table.npz")) as temporary:
        assert temporary.parent.parent == tmp_path
        assert temporary.name == "table.npz"
        temporary.unlink()  # a writer may put another file in its place
        temporary.write_text("x")
        remove_abandoned(tmp_path)
    assert (tmp_path / "table.npz").read_text() == "x"
    assert os.listdir(tmp_path) == ["table.npz"]


def test_missing_parents_are_created(tmp_path):
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_result_has_the_mode_of_any_other_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic"):
        pass
    with atomic_path(tmp_path / "tables.safetensors") as temporary:
        save_file({"x": torch.zeros(1)}, temporary)
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
